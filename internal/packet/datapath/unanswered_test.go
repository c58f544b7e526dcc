package datapath

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/packet/wire"
	"culvert/sad"
)

// Four packets that ask for an answer within six seconds, and nothing that comes by the SA: that is said, once in half a
// minute. What asks for nothing, what is answered, and an SA with manual keys are not the cause.
func TestUnanswered(t *testing.T) {
	all := shapes()
	s := all[slices.IndexFunc(all, func(s shape) bool { return s.tunnel && s.protocol == sad.ProtocolESP && !s.inner6 && !s.bundle })]
	from, to := netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 2000)
	echo := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, make([]byte, 20))
	reply := slices.Clone(echo)
	reply[20] = 0
	data := wire.AppendUDPPacket(nil, from, to, make([]byte, 40))
	tcp := func(flags byte) []byte {
		pkt := slices.Clone(data)
		pkt[9] = wire.ProtoTCP
		pkt[20+12], pkt[20+13] = 0x50, flags
		wire.FillIPv4Checksum(pkt)
		return pkt
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		gap  time.Duration
		back bool // something comes between
		want []int
	}{
		{"echo requests", echo, 2 * time.Second, false, []int{3, 18}},
		{"quick ones", echo, 100 * time.Millisecond, false, []int{60}},
		{"four at least, however long they take", echo, 4 * time.Second, false, []int{3, 11, 19}},
		{"SYN", tcp(tcpSYN), 2 * time.Second, false, []int{3, 18}},
		{"SYN+ACK", tcp(tcpSYN | 16), 2 * time.Second, false, nil},
		{"ACK", tcp(16), 2 * time.Second, false, nil},
		{"echo replies", reply, 2 * time.Second, false, nil},
		{"UDP", data, 2 * time.Second, false, nil},
		{"echo requests with answers", echo, 2 * time.Second, true, nil},
	} {
		left, _ := s.connect(t)
		if left.sads.Child(1).Manual() {
			t.Fatal("the SA has manual keys")
		}
		var got []int
		for i := range 70 {
			if c.gap > time.Second && i >= 20 {
				break
			}
			now := start.Add(time.Duration(i) * c.gap)
			left.log.lines = nil
			if r := left.path.SendPlain(now, c.pkt); r != Passed {
				t.Fatalf("%s: %v", c.name, r)
			}
			for _, l := range left.log.lines {
				if strings.HasPrefix(l, "unanswered 1") {
					got = append(got, i)
				}
			}
			if c.back && i%3 == 1 {
				left.sads.Child(1).Inbound().Spend(1, 20, now.UnixNano())
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: said with packets %v, not %v", c.name, got, c.want)
		}
	}
}

// An SA whose keys people gave has no peer that could be asked.
func TestUnansweredWithManualKeys(t *testing.T) {
	for _, manual := range []bool{false, true} {
		all := shapes()
		s := all[slices.IndexFunc(all, func(s shape) bool { return s.tunnel && s.protocol == sad.ProtocolESP && !s.inner6 && !s.bundle })]
		left, _ := s.connectTo(t, func(p *sad.Params) {
			if p.Manual = manual; manual {
				p.In.SPI = 1001
			}
		})
		for i := range 20 {
			left.path.SendPlain(start.Add(time.Duration(i)*2*time.Second), wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, make([]byte, 20)))
		}
		if said := slices.Contains(left.log.lines, "unanswered 1"); said == manual {
			t.Errorf("manual keys: %v, said: %v", manual, said)
		}
	}
}
