package dh

import (
	"sync"

	"filippo.io/bigmod"
)

// modp768 is the prime of the 768-bit MODP group (RFC 2409 §6.1):
// 2^768 - 2^704 - 1 + 2^64 * ([2^638 pi] + 149686).
var modp768 = sync.OnceValue(func() *bigmod.Modulus { return parsePrime(prime768) })

const prime768 = "" +
	"ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" +
	"020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437" +
	"4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a3620ffffffffffffffff"
