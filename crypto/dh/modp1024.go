package dh

import (
	"sync"

	"filippo.io/bigmod"
)

// modp1024 is the prime of the 1024-bit MODP group (RFC 2409 §6.2):
// 2^1024 - 2^960 - 1 + 2^64 * ([2^894 pi] + 129093).
var modp1024 = sync.OnceValue(func() *bigmod.Modulus { return parsePrime(prime1024) })

const prime1024 = "" +
	"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" +
	"020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437" +
	"4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
	"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff"
