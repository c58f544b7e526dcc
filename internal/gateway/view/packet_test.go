package view

import (
	"fmt"
	"strings"
	"testing"

	"culvert/internal/operate/control"
)

func query(s string) (q control.PacketQuery) {
	f := strings.Fields(s)
	q = control.PacketQuery{Src: f[0], Dst: f[1], Protocol: f[2]}
	if len(f) > 3 {
		fmt.Sscan(f[3], &q.DstPort)
	}
	return q
}

func TestPacketsThatAreNone(t *testing.T) {
	for _, s := range []string{"x 10.0.0.1 tcp", "10.0.0.1 x tcp", "10.0.0.1 2001:db8::1 tcp", "10.0.0.1 10.0.0.2 all", "10.0.0.1 10.0.0.2 nonsense", "10.0.0.1 10.0.0.2 gre 5", "10.0.0.1 10.0.0.2 tcp 70000", "10.0.0.1 10.0.0.2 icmp 256"} {
		if f, err := flowOf(query(s)); err == nil {
			t.Errorf("%s is the packet %v", s, f)
		}
	}
}

// FuzzFlow: a packet as people write it is a flow that a packet can have, or refused.
func FuzzFlow(f *testing.F) {
	f.Add("10.1.0.1", "10.2.0.1", "udp", 1, 2, false)
	f.Add("fd00::1%eth0", "::ffff:10.2.0.1", "47", 0, 0, true)
	f.Fuzz(func(t *testing.T, src, dst, protocol string, from, to int, fragment bool) {
		q := control.PacketQuery{Src: src, Dst: dst, Protocol: protocol, SrcPort: from, DstPort: to, Fragment: fragment}
		if flow, err := flowOf(q); err == nil && (flow.Src.BitLen() != flow.Dst.BitLen() || flow.Src.Zone()+flow.Dst.Zone() != "" || flow.Proto == 0) {
			t.Fatalf("%+v of %+v", flow, q)
		}
	})
}
