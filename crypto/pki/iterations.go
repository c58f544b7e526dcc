package pki

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxIterations is how often a file may want its passphrase hashed: ten times what
// anybody recommends, a few seconds. A file is read when the gateway starts, and
// one that wants a billion would keep it from starting.
const maxIterations = 10_000_000

// errIterations: whoever wrote the file means no good, or mistyped.
var errIterations = errors.New("its passphrase is to be hashed more than 10000000 times: have it written with fewer iterations")

// boundedPBE looks for the parameters of key derivation, a salt and behind it how
// often to hash, in all that a PKCS#12 file has outside of its encrypted parts:
// those of its MAC (RFC 7292 §4), of PBES1 and PKCS#12's own (appendix C), and of
// PBKDF2 (RFC 8018 §A.2). What is inside an encrypted part was written by somebody
// with the passphrase. False: there are more than limit.
func boundedPBE(der []byte, limit int) bool {
	return boundedIn(der, limit, maxNested)
}

// maxNested bounds values in values.
const maxNested = 32

func boundedIn(der []byte, limit, depth int) bool {
	in := cryptobyte.String(der)
	salt := false // the value before was an OCTET STRING
	for !in.Empty() && depth > 0 {
		var body cryptobyte.String
		var tag asn1.Tag
		whole := in
		if !in.ReadAnyASN1(&body, &tag) {
			return true // not DER: the parser will say so
		}
		switch {
		case tag == asn1.INTEGER && salt:
			var n int64
			if whole.ReadASN1Integer(&n) && n > int64(limit) || len(body) > 8 {
				return false
			}
		case tag == asn1.OCTET_STRING || uint8(tag)&0x20 != 0: // constructed, or what an OCTET STRING wraps
			if !boundedIn(body, limit, depth-1) {
				return false
			}
		}
		salt = tag == asn1.OCTET_STRING
	}
	return true
}
