package integ

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// AUTH_HMAC_MD5_96 (RFC 2403), AUTH_HMAC_SHA1_96 (RFC 2404) and
// AUTH_HMAC_SHA2_256_128, _384_192 and _512_256 (RFC 4868 §2.6). What is cut off
// stands in the row of suite.Integs.

func hmacMD5(key []byte) hash.Cloner    { return hmac.New(md5.New, key).(hash.Cloner) }
func hmacSHA1(key []byte) hash.Cloner   { return hmac.New(sha1.New, key).(hash.Cloner) }
func hmacSHA256(key []byte) hash.Cloner { return hmac.New(sha256.New, key).(hash.Cloner) }
func hmacSHA384(key []byte) hash.Cloner { return hmac.New(sha512.New384, key).(hash.Cloner) }
func hmacSHA512(key []byte) hash.Cloner { return hmac.New(sha512.New, key).(hash.Cloner) }
