package prf

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"culvert/crypto/suite"
)

// PRF_HMAC_MD5 and PRF_HMAC_SHA1 (RFC 2104) and PRF_HMAC_SHA2_256, _384, _512 (RFC 4868 §2.4):
// the whole, untruncated HMAC under a key of any length.

func hmacMD5(key []byte) hash.Hash    { return hmac.New(md5.New, key) }
func hmacSHA1(key []byte) hash.Hash   { return hmac.New(sha1.New, key) }
func hmacSHA256(key []byte) hash.Hash { return hmac.New(sha256.New, key) }
func hmacSHA384(key []byte) hash.Hash { return hmac.New(sha512.New384, key) }
func hmacSHA512(key []byte) hash.Hash { return hmac.New(sha512.New, key) }

// hashes has the hash of each row of suite.PRFs, by IANA transform ID.
var hashes = map[uint16]func() hash.Hash{1: md5.New, 2: sha1.New, 5: sha256.New, 6: sha512.New384, 7: sha512.New}

// Hash is the hash that a PRF is the HMAC with: in IKEv1 it is negotiated, and also used alone (RFC 2409
// §5). It is nil if p is no row of suite.PRFs.
func Hash(p *suite.PRF) func() hash.Hash { return hashes[p.ID] }
