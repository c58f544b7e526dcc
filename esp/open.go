package esp

import (
	"encoding/binary"

	"culvert/crypto/aead"
)

// Stations of a packet on its way in:
//
//	length    header, IV, at least one block, ICV
//	ICV       in constant time, before anything is decrypted
//	decrypt   payload and trailer
//	padding   must be 1, 2, 3, …
//	next      the payload's protocol is the caller's to judge

// Open verifies and decrypts an ESP packet in place. The payload is
// pkt[off:off+n] and next its next header; 59 marks a dummy packet, which the
// caller drops (RFC 4303 §2.6). pkt begins with the header, and the whole of it
// is the packet. What its capacity has behind it is room to write to.
//
// seq is the full sequence number: with ESN its high half, which is not on the
// wire, is what the replay window infers. The packet's SPI is covered by the
// ICV as the one that this Transform was made for.
//
// An error is one of ErrShort, ErrICV and ErrPadding. After one, header and IV
// are as they came and the rest of pkt is not defined.
func (t *Transform) Open(pkt []byte, seq uint64) (off, n int, next uint8, err error) {
	off = t.Front()
	body := len(pkt) - t.icv
	if body-off < t.align || (body-off)&(t.align-1) != 0 {
		return 0, 0, 0, ErrShort
	}
	if SPI(pkt) != t.spi || Seq(pkt) != uint32(seq) {
		return 0, 0, 0, ErrICV
	}
	switch {
	case t.aead != nil:
		err = t.openAEAD(pkt, seq)
	case t.gmac != nil:
		err = t.openGMAC(pkt, body, seq)
	default:
		err = t.openMAC(pkt, body, seq)
	}
	if err != nil {
		return 0, 0, 0, err
	}
	pad := int(pkt[body-2])
	n = body - off - trailerLen - pad
	if n < 0 || !validPadding(pkt[off+n:body-trailerLen]) {
		return 0, 0, 0, ErrPadding
	}
	return off, n, pkt[body-1], nil
}

func (t *Transform) openAEAD(pkt []byte, seq uint64) error {
	iv := [8]byte(pkt[HeaderLen:])
	aad := t.putAAD(pkt, seq)
	var err error
	if room := pkt[len(pkt):cap(pkt)]; len(room) >= len(aead.Nonce{}) {
		_, err = t.aead.OpenIn((*aead.Nonce)(room), iv, pkt[t.Front():], aad)
	} else {
		_, err = t.aead.Open(iv, pkt[t.Front():], aad)
	}
	t.putHeader(pkt, seq)
	copy(pkt[HeaderLen:], iv[:])
	if err != nil {
		return ErrICV
	}
	return nil
}

// openMAC moves the ICV out of the way, because with ESN the high half of the
// sequence number is authenticated in its place.
func (t *Transform) openMAC(pkt []byte, body int, seq uint64) error {
	var icv [64]byte
	copy(icv[:], pkt[body:])
	covered := pkt[:body]
	if t.esn {
		binary.BigEndian.PutUint32(pkt[body:], uint32(seq>>32))
		covered = pkt[:body+4]
	}
	if !t.mac.Verify(icv[:t.icv], covered, nil) {
		return ErrICV
	}
	t.mode.Decrypt(pkt[HeaderLen:t.Front()], pkt[t.Front():body])
	return nil
}

func validPadding(p []byte) bool {
	for i, b := range p {
		if b != byte(i+1) {
			return false
		}
	}
	return true
}
