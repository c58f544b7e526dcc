package esp

import (
	"encoding/binary"

	"culvert/crypto/aead"
)

// Stations of a packet on its way out:
//
//	trailer   padding, pad length and next header behind the payload
//	IV        in front of the payload
//	header    SPI and sequence number in front of the IV
//	encrypt   payload and trailer
//	ICV       behind them
//
// An AEAD does the last two at once and needs the header's sequence number in
// full for a moment; a MAC needs its high half behind the packet. GMAC is in
// gmac.go.

// Seal makes an ESP packet of the payload buf[off:off+n] with its next header
// and returns where it is: buf[start:end]. The payload needs Front() bytes before and
// Back() bytes behind it in buf. All of them may be written to, the rest of buf is left
// alone; where what is written does not fit, Seal panics.
//
// seq is the full sequence number. It must never come twice under one key, and
// not exceed 32 bits without ESN; both are up to whoever reserves them.
func (t *Transform) Seal(buf []byte, off, n int, seq uint64, next uint8) (start, end int) {
	pad := t.padding(n)
	body := off + n + pad + trailerLen
	for i := range pad { // the default padding (RFC 4303 §2.4)
		buf[off+n+i] = uint8(i + 1)
	}
	buf[body-2] = uint8(pad)
	buf[body-1] = next
	start, end = off-t.ivLen-HeaderLen, body+t.icv
	switch pkt := buf[start:end]; {
	case t.aead != nil:
		t.sealAEAD(pkt, body-start, seq, (*aead.Nonce)(buf[end:]))
	case t.gmac != nil:
		t.sealGMAC(pkt, body-start, seq, (*aead.Nonce)(buf[end:]))
	default:
		t.sealMAC(pkt, body-start, seq)
	}
	return start, end
}

// sealAEAD: the IV is the sequence number, from IVStart on, which is unique under
// one key, as counter mode needs it (RFC 4106 §3.1), and takes no randomness.
func (t *Transform) sealAEAD(pkt []byte, body int, seq uint64, nonce *aead.Nonce) {
	var iv [8]byte
	binary.BigEndian.PutUint64(iv[:], t.first+seq)
	aad := t.putAAD(pkt, seq)
	t.aead.SealIn(nonce, iv, pkt[t.Front():body:len(pkt)], aad)
	t.putHeader(pkt, seq)
	copy(pkt[HeaderLen:], iv[:])
}

// sealMAC encrypts, then authenticates (RFC 4303 §3.3.2.1). With ESN the MAC
// covers the high half of the sequence number too, where the ICV comes next.
func (t *Transform) sealMAC(pkt []byte, body int, seq uint64) {
	switch {
	case t.iv != nil:
		t.putIV(pkt, seq)
	case t.ivLen > 0:
		binary.BigEndian.PutUint64(pkt[HeaderLen:], t.first+seq)
	}
	t.putHeader(pkt, seq)
	t.mode.Encrypt(pkt[HeaderLen:t.Front()], pkt[t.Front():body])
	covered := pkt[:body]
	if t.esn {
		binary.BigEndian.PutUint32(pkt[body:], uint32(seq>>32))
		covered = pkt[:body+4]
	}
	t.mac.Sum(pkt[body:body], covered, nil)
}

// putIV encrypts the sequence number under a key of its own, which nobody who
// sees the IVs can predict (RFC 3602 §3, SP 800-38A appendix C). An IV shorter
// than 16 bytes is the end of that block, whose start the header overwrites.
func (t *Transform) putIV(pkt []byte, seq uint64) {
	b := pkt[t.Front()-16 : t.Front()]
	binary.BigEndian.PutUint64(b, 0)
	binary.BigEndian.PutUint64(b[8:], seq)
	t.iv.Encrypt(b, b)
}

// putHeader writes both fields at once: two stores of half the width would make
// the cipher wait when it loads them together.
func (t *Transform) putHeader(pkt []byte, seq uint64) {
	binary.BigEndian.PutUint64(pkt, uint64(t.spi)<<32|seq&0xffffffff)
}

// putAAD writes the additional authenticated data over header and IV: SPI and
// sequence number, which with ESN has 64 bits (RFC 4106 §5). Both have to be
// written again afterwards. In the packet it needs no memory of its own.
func (t *Transform) putAAD(pkt []byte, seq uint64) []byte {
	if t.esn {
		binary.BigEndian.PutUint64(pkt, uint64(t.spi)<<32|seq>>32)
		binary.BigEndian.PutUint32(pkt[8:], uint32(seq))
		return pkt[:12]
	}
	t.putHeader(pkt, seq)
	return pkt[:8]
}
