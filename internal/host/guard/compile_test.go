package guard

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// verdict is what the compiled family says to a packet, seen from this side.
func (f family) verdict(own bool, local, remote netip.Addr, proto uint8, localPort, remotePort uint16) string {
	i := slices.IndexFunc(f.spans, func(s span) bool { return s.from.Compare(remote) <= 0 && remote.Compare(s.to) <= 0 })
	if i < 0 {
		return "none"
	}
	return walk(f.chains[f.spans[i].chain], own, local, remote, proto, localPort, remotePort)
}

// walk is the naive answer. own: this host sends the packet.
func walk(flows []Flow, own bool, local, remote netip.Addr, proto uint8, localPort, remotePort uint16) string {
	for _, w := range flows {
		if w.Own && !own || !w.Local.Contains(local) || w.Remote.IsValid() && !w.Remote.Contains(remote) || w.Proto != 0 && w.Proto != proto ||
			w.LocalPort != 0 && w.LocalPort != localPort || w.RemotePort != 0 && w.RemotePort != remotePort {
			continue
		}
		if w.Pass {
			return "pass"
		}
		return "drop"
	}
	return "none"
}

func TestCompiledIsTheList(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		v6 := seed%2 == 1
		addr := func() netip.Addr {
			// A small world, with its first and its last address.
			b := make([]byte, 4)
			if v6 {
				b = make([]byte, 16)
			}
			fill := byte(0)
			if r.IntN(4) == 0 {
				fill = 0xff
			}
			for i := range b {
				b[i] = fill
			}
			b[len(b)-1] = byte(r.IntN(256))
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		var flows []Flow
		for range r.IntN(20) {
			a, b := addr(), addr()
			bits := func() int { return []int{0, a.BitLen() - 8, a.BitLen() - 4, a.BitLen() - 2, a.BitLen()}[r.IntN(5)] }
			w := Flow{Local: netip.PrefixFrom(a, bits()), Remote: netip.PrefixFrom(b, bits()), Pass: r.IntN(3) == 0, Own: r.IntN(4) == 0}
			if r.IntN(2) == 0 {
				w.Proto, w.LocalPort, w.RemotePort = 17, uint16(r.IntN(3)), uint16(r.IntN(3))
			}
			flows = append(flows, w)
		}
		f, list := compile(flows, v6), widened(flows, v6)
		for i := range f.spans[:max(len(f.spans)-1, 0)] {
			if f.spans[i].to.Compare(f.spans[i+1].from) >= 0 {
				t.Fatalf("seed %d: spans overlap: %v", seed, f.spans)
			}
		}
		for range 500 {
			local, remote, proto, lp, rp := addr(), addr(), []uint8{6, 17}[r.IntN(2)], uint16(r.IntN(3)), uint16(r.IntN(3))
			own := r.IntN(2) == 0
			if got, want := f.verdict(own, local, remote, proto, lp, rp), walk(list, own, local, remote, proto, lp, rp); got != want {
				t.Fatalf("seed %d: %v:%d %v:%d proto %d: %s, want %s\n%v", seed, local, lp, remote, rp, proto, got, want, flows)
			}
		}
	}
}

// The network behind the gateway talks to itself, whatever the policy for all
// others says.
func TestLocalNetworkStays(t *testing.T) {
	lan, all := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("0.0.0.0/0")
	f := compile([]Flow{{Local: lan, Remote: all}}, false)
	for to, want := range map[string]string{"10.1.0.7": "pass", "10.1.1.7": "drop", "255.255.255.255": "drop", "0.0.0.0": "drop"} {
		if got := f.verdict(false, lan.Addr().Next(), netip.MustParseAddr(to), 6, 1, 2); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
}

// Ten thousand tunnels to networks of their own cost each packet one rule, not
// ten thousand.
func TestManyTunnels(t *testing.T) {
	var flows []Flow
	for i := range 10_000 {
		flows = append(flows, Flow{Local: netip.MustParsePrefix("10.0.0.0/8"),
			Remote: netip.MustParsePrefix(fmt.Sprintf("100.%d.%d.0/24", i/256, i%256))})
	}
	f := compile(flows, false)
	if len(f.chains) != 1 || len(f.chains[0]) != 1 {
		t.Fatalf("%d chains", len(f.chains))
	}
	if len(f.spans) != len(flows) || len(compile(flows, true).spans) != 0 {
		t.Fatal(len(f.spans))
	}
}
