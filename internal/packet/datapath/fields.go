package datapath

import (
	"encoding/binary"

	"culvert/internal/packet/wire"
)

// What the fields of the outer header that no ICV protects have to do with the
// inner one's, in tunnel mode (RFC 4301 §5.1.2, RFC 6040):
//
//	            on the way out                              on the way in
//	DSCP        copied, or what the configuration says      the inner one stays: who is on the path must not set it
//	ECN         copied (RFC 6040 normal mode, §4.1)         the table below
//	TTL         64, the system's own default                the inner one stays
//	flow label  of the SA and the inner flow where the      the inner one stays
//	            header is written here, else the system's
//
// The inner TTL is not decremented here. A packet that the gateway forwards is
// decremented by the host's IP layer on its way into the device, and on its way
// from the device on: once at either gateway. What the gateway sends and gets
// itself is not forwarded, and not decremented.
//
// In transport mode there is one header, which keeps all of them: where it is
// left to the system, or made anew, it gets the type of service of the other side,
// and without UDP the TTL with which it came.

// What to do with the ECN field of a tunnel's packet.
const (
	ecnMask = wire.ECNMask // the field that the inner header gets
	ecnOdd  = 4            // no sender makes it: to be counted (RFC 6040 §4.2)
	ecnDrop = 8            // congestion that the inner packet's transport would not hear of
)

// ecnIn is RFC 6040 §4.2, figure 4: rows by the inner, columns by the outer field.
var ecnIn = [4][4]uint8{
	wire.NotECT: {wire.NotECT: wire.NotECT, wire.ECT0: wire.NotECT | ecnOdd, wire.ECT1: wire.NotECT | ecnOdd, wire.CE: ecnDrop},
	wire.ECT0:   {wire.NotECT: wire.ECT0, wire.ECT0: wire.ECT0, wire.ECT1: wire.ECT1, wire.CE: wire.CE},
	wire.ECT1:   {wire.NotECT: wire.ECT1, wire.ECT0: wire.ECT1 | ecnOdd, wire.ECT1: wire.ECT1, wire.CE: wire.CE},
	wire.CE:     {wire.NotECT: wire.CE, wire.ECT0: wire.CE, wire.ECT1: wire.CE | ecnOdd, wire.CE: wire.CE},
}

// congestion brings what the outer header tells of congestion into the inner
// packet. What is odd but delivered is counted.
func (w *inWorker) congestion(pkt []byte, outer uint8) Reason {
	inner := wire.TOS(pkt)
	verdict := ecnIn[inner&wire.ECNMask][outer&wire.ECNMask]
	switch {
	case verdict&ecnDrop != 0:
		return InHeaderErrors
	case verdict&ecnOdd != 0:
		w.count.add(rxECNUnexpected, 1)
	}
	if ecn := verdict & ecnMask; ecn != inner&wire.ECNMask {
		wire.SetTOS(pkt, inner&^wire.ECNMask|ecn)
	}
	return Passed
}

// label is the flow label of a packet of f.
func (y *egress) label(info wire.Info, f *wire.Flow) uint32 {
	if y.over != nil {
		return flowLabel(y.over.Child().Inbound().SPI(), nil) // ESP within hides the flow
	}
	if info.Fragment() {
		whole := *f
		whole.SrcPort, whole.DstPort = 0, 0 // all fragments of a packet go one way
		f = &whole
	}
	return flowLabel(y.child.Inbound().SPI(), f)
}

// flowLabel spreads the flows of an SA over the labels (RFC 6437 §3, RFC 6438
// §3): the same for all packets of a flow, and never 0. The SPI that we
// receive with is hashed too, so that who sends the flow cannot foresee it. A nil
// flow: one for the whole SA.
func flowLabel(spi uint32, f *wire.Flow) uint32 {
	h := uint64(spi)
	mix := func(v uint64) {
		h = (h ^ v) * 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, made odd
		h ^= h >> 32
	}
	mix(0)
	if f != nil {
		for _, a := range [2][16]byte{f.Src.As16(), f.Dst.As16()} {
			mix(binary.BigEndian.Uint64(a[:8]))
			mix(binary.BigEndian.Uint64(a[8:]))
		}
		mix(uint64(f.SrcPort)<<32 | uint64(f.DstPort)<<16 | uint64(f.Proto))
	}
	return max(uint32(h)&0xfffff, 1)
}
