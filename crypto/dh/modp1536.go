package dh

import (
	"sync"

	"filippo.io/bigmod"
)

// modp1536 is the prime of the 1536-bit MODP group (RFC 3526 §2):
// 2^1536 - 2^1472 - 1 + 2^64 * ([2^1406 pi] + 741804).
var modp1536 = sync.OnceValue(func() *bigmod.Modulus { return parsePrime(prime1536) })

const prime1536 = "" +
	"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" +
	"020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437" +
	"4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
	"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05" +
	"98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb" +
	"9ed529077096966d670c354e4abc9804f1746c08ca237327ffffffffffffffff"
