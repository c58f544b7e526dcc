package prf

import (
	"errors"
	"fmt"
	"hash"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// ErrLength says that prf+ was asked for more than 255 blocks, which its
// one-byte counter cannot number, or for a negative length.
var ErrLength = errors.New("prf+: at most 255 blocks of the PRF's output can be derived; ask for less keying material")

// keyed is what an algorithm's file provides: a MAC over the given key. The
// key may have any length; an algorithm with a fixed key length adapts it.
type keyed func(key []byte) hash.Hash

// functions has one row for each row of suite.PRFs, by IANA transform ID.
var functions = map[uint16]keyed{
	1: hmacMD5,
	2: hmacSHA1,
	5: hmacSHA256,
	6: hmacSHA384,
	7: hmacSHA512,
}

// Sum is prf(key, parts[0] | parts[1] | …), p.Len bytes owned by the caller.
// The parts are only read. It panics if p is no row of suite.PRFs: rows come
// from a finished negotiation, so another value is a programming error.
func Sum(p *suite.PRF, key []byte, parts ...[]byte) secret.Bytes {
	mac := start(p, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(make(secret.Bytes, 0, p.Len))
}

// Plus is the first n bytes of prf+(key, seed), the seed being all parts in
// order (RFC 7296 §2.13):
//
//	T1 = prf(K, S | 0x01), Ti = prf(K, Ti-1 | S | i)
//
// The result belongs to the caller. The only error is ErrLength.
func Plus(p *suite.PRF, key []byte, n int, parts ...[]byte) (secret.Bytes, error) {
	blocks := (n + p.Len - 1) / p.Len
	if n < 0 || blocks > 255 {
		return nil, ErrLength
	}
	mac := start(p, key)
	out := make(secret.Bytes, 0, blocks*p.Len)
	for i := 1; i <= blocks; i++ {
		mac.Reset()
		if i > 1 {
			mac.Write(out[len(out)-p.Len:])
		}
		for _, part := range parts {
			mac.Write(part)
		}
		mac.Write([]byte{byte(i)})
		out = mac.Sum(out)
	}
	clear(out[n:])
	return out[:n:n], nil
}

func start(p *suite.PRF, key []byte) hash.Hash {
	f, ok := functions[p.ID]
	if !ok {
		panic(fmt.Sprintf("prf: transform %d (%s) has no implementation", p.ID, p.Name))
	}
	return f(key)
}
