package esp

import (
	"crypto/subtle"
	"encoding/binary"

	"culvert/crypto/aead"
)

// GMAC authenticates header, IV and payload with its trailer, and encrypts
// nothing (RFC 4543 §3.3). With ESN the header has four bytes more than are
// sent, so for a moment everything behind it moves into the room of the ICV.

// sealGMAC: the IV is the sequence number, as with every counter mode.
func (t *Transform) sealGMAC(pkt []byte, body int, seq uint64, nonce *aead.Nonce) {
	var iv [8]byte
	binary.BigEndian.PutUint64(iv[:], t.first+seq)
	copy(pkt[HeaderLen:], iv[:])
	if t.esn {
		icv := t.sumGMAC(pkt, body, seq, iv)
		copy(pkt[body:], icv[:])
	} else {
		t.putHeader(pkt, seq)
		t.gmac.SumIn(nonce, iv, pkt[body:body], pkt[:body])
	}
}

func (t *Transform) openGMAC(pkt []byte, body int, seq uint64) error {
	sent := [aead.GMACLen]byte(pkt[body:])
	const nonceLen = len(aead.Nonce{})
	if room := pkt[len(pkt):cap(pkt)]; !t.esn && len(room) >= nonceLen+aead.GMACLen {
		icv := t.gmac.SumIn((*aead.Nonce)(room), [8]byte(pkt[HeaderLen:]), room[nonceLen:nonceLen], pkt[:body])
		if subtle.ConstantTimeCompare(sent[:], icv) != 1 {
			return ErrICV
		}
		return nil
	}
	icv := t.sumGMAC(pkt, body, seq, [8]byte(pkt[HeaderLen:]))
	if subtle.ConstantTimeCompare(sent[:], icv[:]) != 1 {
		return ErrICV
	}
	return nil
}

// sumGMAC leaves the packet as it was, up to the ICV, whose place is not. With ESN it
// writes the header; without, it is there.
func (t *Transform) sumGMAC(pkt []byte, body int, seq uint64, iv [8]byte) [aead.GMACLen]byte {
	if !t.esn {
		return t.gmac.Sum(iv, pkt[:body])
	}
	copy(pkt[HeaderLen+4:body+4], pkt[HeaderLen:body])
	aad := pkt[:body+4]
	t.putAAD(aad, seq)
	icv := t.gmac.Sum(iv, aad)
	copy(pkt[HeaderLen:body], pkt[HeaderLen+4:body+4])
	t.putHeader(pkt, seq)
	return icv
}
