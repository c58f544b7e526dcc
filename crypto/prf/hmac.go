package prf

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// PRF_HMAC_MD5 and PRF_HMAC_SHA1 (RFC 2104) and PRF_HMAC_SHA2_256, _384, _512 (RFC 4868 §2.4):
// the whole, untruncated HMAC under a key of any length.

func hmacMD5(key []byte) hash.Hash    { return hmac.New(md5.New, key) }
func hmacSHA1(key []byte) hash.Hash   { return hmac.New(sha1.New, key) }
func hmacSHA256(key []byte) hash.Hash { return hmac.New(sha256.New, key) }
func hmacSHA384(key []byte) hash.Hash { return hmac.New(sha512.New384, key) }
func hmacSHA512(key []byte) hash.Hash { return hmac.New(sha512.New, key) }
