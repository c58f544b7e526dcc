package sad

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// Compiled pairs against the pairs themselves.
func TestAreasAgainstSelectors(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	addr := func() netip.Addr {
		if rng.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.IntN(8))})
		}
		b := [16]byte{0: 0xfd, 7: byte(rng.IntN(2)), 15: byte(rng.IntN(8))}
		if rng.IntN(8) == 0 {
			b[0] = 0 // numbers as small as those of IPv4
		}
		return netip.AddrFrom16(b)
	}
	protos := []uint8{0, 1, 6, 17, 58}
	ts := func() selector.TS {
		t := selector.TS{Lo: addr(), Hi: addr(), PortHi: 65535}
		for t.Lo.Is4() != t.Hi.Is4() { // a selector is of one family
			t.Hi = addr()
		}
		if rng.IntN(2) == 0 && t.Hi.Less(t.Lo) {
			t.Lo, t.Hi = t.Hi, t.Lo
		}
		if rng.IntN(2) == 0 {
			t.Proto = protos[rng.IntN(len(protos))]
		}
		switch rng.IntN(4) {
		case 0:
			t.PortLo, t.PortHi = uint16(rng.IntN(4)), uint16(rng.IntN(8))
		case 1:
			t.PortLo, t.PortHi = 65535, 0
		}
		return t
	}
	hits := 0
	for range 20000 {
		var pairs []selector.Pair
		for range rng.IntN(4) {
			pairs = append(pairs, selector.Pair{Local: ts(), Remote: ts()})
		}
		list := compileAreas(pairs)
		sealer := newSealer(&Outbound{child: &Child{areas: list}})
		for range 10 {
			f := wire.Flow{Src: addr(), Dst: addr(), Proto: protos[1+rng.IntN(4)], SrcPort: uint16(rng.IntN(8)), DstPort: uint16(rng.IntN(8))}
			if f.Src.Is4() != f.Dst.Is4() {
				continue
			}
			if f.Opaque = rng.IntN(5) == 0; f.Opaque {
				f.SrcPort, f.DstPort = 0, 0
			}
			out, in := false, false
			for _, p := range pairs {
				if !p.Local.Valid() || !p.Remote.Valid() {
					continue // contains nothing
				}
				if f.Opaque {
					out = out || p.MatchesOpaque(f.Src, f.Dst, f.Proto)
					in = in || p.MatchesOpaque(f.Dst, f.Src, f.Proto)
				} else {
					out = out || p.MatchesOut(f.Src, f.Dst, f.Proto, f.SrcPort, f.DstPort)
					in = in || p.MatchesIn(f.Dst, f.Src, f.Proto, f.DstPort, f.SrcPort)
				}
			}
			if list.cover(&f, false) != out || list.cover(&f, true) != in || sealer.covers(&f) != out {
				t.Fatalf("%+v in %+v: want %v out, %v in", f, pairs, out, in)
			}
			if out || in {
				hits++
			}
		}
	}
	if hits < 1000 {
		t.Fatalf("only %d flows matched: the test tests nothing", hits)
	}
}
