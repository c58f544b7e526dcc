package v1

import (
	"culvert/crypto/prf"
	"culvert/crypto/suite"
)

// IVs (RFC 2409 Appendix B). Each message goes on where the last ciphertext block of the one before it
// ended, whoever sent that:
//
//	phase 1         hash(g^xi | g^xr)
//	a message ID    hash(last block of phase 1 | message ID)
//
// each cut to the block of the cipher. So each end has one chain of blocks for phase 1 and one for
// each exchange of phase 2 that is under way.

// firstIV is the IV of phase 1's first encrypted message.
func firstIV(f *suite.PRF, e *suite.Encr, gxi, gxr []byte) []byte { return hashIV(f, e, gxi, gxr) }

// exchangeIV is the IV of the first message of an exchange of phase 2; last is the last ciphertext block
// of phase 1.
func exchangeIV(f *suite.PRF, e *suite.Encr, last []byte, id uint32) []byte {
	return hashIV(f, e, last, messageID(id))
}

func hashIV(f *suite.PRF, e *suite.Encr, parts ...[]byte) []byte {
	h := prf.Hash(f)()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:e.Block]
}

// lastBlock is what the next message's IV is: the last block of a ciphertext.
func lastBlock(e *suite.Encr, ciphertext []byte) []byte {
	return append([]byte(nil), ciphertext[len(ciphertext)-e.Block:]...)
}
