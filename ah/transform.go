package ah

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"culvert/crypto/integ"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/internal/packet/wire"
)

// Params are the algorithm and the key of one direction of an SA.
type Params struct {
	SPI      uint32
	Integ    *suite.Integ
	IntegKey secret.Bytes // Integ.KeyLen bytes
	ESN      bool         // extended sequence numbers (RFC 4302 §2.5.1)
	// Like is the other direction of the SA, if there is one: in IPv4 Seal rounds
	// the AH as the last packet that Like opened was rounded.
	Like *Transform
}

// Transform seals or opens the packets of one direction of an SA. Its methods
// may be called by several goroutines at once, on different packets, and do
// not allocate in steady state.
type Transform struct {
	spi uint32
	esn bool
	mac *integ.MAC
	icv int

	like   *Transform
	rounds atomic.Bool // the last IPv4 packet that opened had its AH rounded to 8 bytes
}

// New makes a Transform. The key is copied and stays the caller's to wipe.
func New(p Params) (*Transform, error) {
	if p.Integ == nil {
		return nil, errors.New("ah: no integrity algorithm; negotiate one")
	}
	mac, err := integ.New(p.Integ, p.IntegKey)
	if err != nil {
		return nil, fmt.Errorf("ah: %w", err)
	}
	return &Transform{spi: p.SPI, esn: p.ESN, mac: mac, icv: mac.Len(), like: p.Like}, nil
}

// Wipe drops the key: see esp.Transform.Wipe.
func (t *Transform) Wipe() { t.mac = nil }

// length is that of the whole AH: a multiple of 4 in IPv4, of 8 in IPv6 (RFC
// 4302 §2.6).
func (t *Transform) length(version uint8) int {
	if version == 4 {
		return (HeaderLen + t.icv + 3) &^ 3
	}
	return (HeaderLen + t.icv + 7) &^ 7
}

// Len is how long the AH is that Seal puts into a packet of an IP version.
func (t *Transform) Len(version uint8) int {
	if t.like != nil && t.like.rounds.Load() {
		return t.length(6) // Linux without align4 (see Open) drops what is not
	}
	return t.length(version)
}

// Front is how many bytes Seal may at most write in front of the packet.
func (t *Transform) Front() int { return t.length(6) }

// Back is how many bytes Seal writes behind the packet.
func (t *Transform) Back() int { return 0 }

// Slow is that of esp.Transform: every MAC reads the whole packet, and none does it as fast as GCM.
func (t *Transform) Slow() bool { return true }

// Overhead is by how much a packet grows at most, of any length.
func (t *Transform) Overhead(int) int { return t.length(6) }

// MaxPayload is the longest packet that has at most size bytes with its AH;
// negative if there is none.
func (t *Transform) MaxPayload(size int) int { return max(size-t.length(6), -1) }

// high is where the high half of an extended sequence number lies while it is
// hashed: what a hash is given escapes, so it cannot be on the stack.
var high = sync.Pool{New: func() any { return new([4]byte) }}

// Seal puts an AH into the IP packet buf[off:off+n] and returns where the
// packet is now: buf[start:end]. The headers of the path move to the front, into
// the Front() bytes before the packet in buf. next is what stands behind them,
// as wire.PathHeaders finds it.
//
// The packet is as it shall be on the wire, but for protocol, length and
// IPv4 checksum, which Seal writes. start == end where it cannot be sealed: it is
// no whole packet, a header is malformed, or it gets too long.
//
// seq is the full sequence number; see esp.Transform.Seal.
func (t *Transform) Seal(buf []byte, off, n int, seq uint64, next uint8) (start, end int) {
	front, at, _, ok := wire.PathHeaders(buf[off : off+n])
	if !ok || front > maxFront {
		return 0, 0
	}
	size := t.Len(buf[off] >> 4)
	start, end = off-size, off+n
	pkt := buf[start:end]
	copy(pkt, pkt[size:size+front])
	pkt[at] = wire.ProtoAH
	if !wire.SetTotal(pkt, len(pkt)) {
		return 0, 0
	}
	h := pkt[front : front+size]
	clear(h)
	h[0], h[1] = next, uint8(size/4-2)
	binary.BigEndian.PutUint32(h[4:], t.spi)
	binary.BigEndian.PutUint32(h[8:], uint32(seq))

	var headers [maxFront]byte
	saved := headers[:copy(headers[:], pkt[:front])]
	ok = mask(pkt[:front], true)
	if ok {
		hi := t.high(seq)
		t.mac.Sum(h[HeaderLen:HeaderLen], pkt, t.behind(hi))
		high.Put(hi)
	}
	copy(pkt, saved)
	if !ok {
		return 0, 0
	}
	return start, end
}

// Open checks the AH of the IP packet pkt. What it protects is
// pkt[off:off+n], next its protocol; the headers in front are as they came.
// Behind the packet's own length pkt may have more, which is not looked at.
//
// seq is the full sequence number: with ESN its high half, which is not on the
// wire, is what the replay window infers. An error is one of ErrShort, ErrHeader
// and ErrICV; after ErrICV the ICV in pkt is not defined.
func (t *Transform) Open(pkt []byte, seq uint64) (off, n int, next uint8, err error) {
	front, ok := Find(pkt)
	total := wire.TotalLen(pkt)
	if !ok || total > len(pkt) || total < front+HeaderLen {
		return 0, 0, 0, ErrShort
	}
	pkt = pkt[:total]
	size := (int(pkt[front+1]) + 2) * 4
	// A sender may round up to 8 bytes in IPv4 too, as Linux does by default (its
	// flag align4 says not to). With RFC 4302 §2.6 it is a multiple of 4.
	if size != t.length(pkt[0]>>4) && size != t.length(6) || front+size > total {
		return 0, 0, 0, ErrShort
	}
	h := pkt[front : front+size]
	if SPI(h) != t.spi || Seq(h) != uint32(seq) {
		return 0, 0, 0, ErrICV
	}
	var (
		headers [maxFront]byte
		icv     [64]byte
	)
	saved := headers[:copy(headers[:], pkt[:front])]
	copy(icv[:], h[HeaderLen:HeaderLen+t.icv])
	clear(h[HeaderLen : HeaderLen+t.icv]) // what pads it is covered as it is
	ok = mask(pkt[:front], false)
	genuine := false
	if ok {
		hi := t.high(seq)
		genuine = t.mac.Verify(icv[:t.icv], pkt, t.behind(hi))
		high.Put(hi)
	}
	copy(pkt, saved)
	switch {
	case !ok:
		return 0, 0, 0, ErrHeader
	case !genuine:
		return 0, 0, 0, ErrICV
	}
	if rounds := size != t.length(4); pkt[0]>>4 == 4 && rounds != t.rounds.Load() {
		t.rounds.Store(rounds)
	}
	return front + size, total - front - size, h[0], nil
}

func (t *Transform) high(seq uint64) *[4]byte {
	hi := high.Get().(*[4]byte)
	binary.BigEndian.PutUint32(hi[:], uint32(seq>>32))
	return hi
}

// behind is what the ICV covers behind the packet.
func (t *Transform) behind(hi *[4]byte) []byte {
	if t.esn {
		return hi[:]
	}
	return nil
}

// Near reads the memory that a packet needs, as far as it can be reached without
// doing anything, so that it is in the CPU's caches. What it returns means nothing.
func (t *Transform) Near() int {
	return t.icv
}
