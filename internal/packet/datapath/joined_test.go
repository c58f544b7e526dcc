package datapath

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
)

// Datagrams that the system hands up joined come to the same as one by one: of all shapes that
// go in UDP, with a message of IKE and a keepalive among them, and the last one shorter.
func TestJoinedDatagrams(t *testing.T) {
	var list []shape
	for _, s := range shapes() {
		if !s.udp {
			continue
		}
		list = append(list, s)
		for _, name := range []string{"aes-256-gcm", "chacha20-poly1305", "aes-128-ccm", "aes-128-ctr", "null"} {
			s.encr = suite.EncrByName(name)
			list = append(list, s)
		}
	}
	for i, s := range slices.Concat(list, list) {
		receive, where := func(p *Path, pkt *underlay.Packet) Reason { return p.Receive(start, pkt) }, "on the line"
		if i >= len(list) {
			receive, where = receiveApart, "apart"
		}
		t.Run(s.String()+", "+where, func(t *testing.T) {
			left, right := s.connect(t)
			l, r := netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 2000)
			var want [][]byte
			var joined []byte
			var first *underlay.Packet
			size := 0
			for i := range 8 {
				n := 1001
				if i == 7 {
					n = 5
				}
				pkt := wire.AppendUDPPacket(nil, l, r, bytes.Repeat([]byte{byte(i + 1)}, n))
				if v := left.path.SendPlain(start, pkt); v != Passed {
					t.Fatal(v)
				}
				p := s.carried(t, left)
				if first == nil {
					first, size = p, p.Len
				}
				joined = append(joined, p.Data()...)
				want = append(want, pkt)
				if i == 3 {
					ike := bytes.Repeat([]byte{9}, size)
					clear(ike[:4])
					joined = append(joined, ike...)
				}
			}
			p := datagram(joined)
			p.Kind, p.NATT, p.Local, p.Remote, p.Segment = underlay.ESP, true, first.Local, first.Remote, size
			if v := receive(right.path, p); v != Passed {
				t.Fatal(v)
			}
			if got := right.host.take(); fmt.Sprintf("%x", got) != fmt.Sprintf("%x", want) {
				t.Errorf("got\n%x\nwant\n%x", got, want)
			}
			ike := fmt.Sprintf("ike %s", bytes.Repeat([]byte{9}, size-4))
			right.log.want(t, ike, "used 1", "heard 1")
			if v := right.path.Counters(); value(t, v, "rx-packets") != 8 || value(t, v, "rx-ike") != 1 {
				t.Errorf("counters: %v", v.Snapshot())
			}
		})
	}
}

// receiveApart is Receive by a line that hands over what is slow.
func receiveApart(path *Path, pkt *underlay.Packet) Reason {
	path.crew = &crew{work: make(chan task, 100)}
	path.arriver = newInWorker(path, path.edges(), taskPackets)
	w := newInWorker(path, path.edges(), 1)
	w.apart = newInApart(path)
	r := w.batch(start.UnixNano(), []underlay.Packet{*pkt})
	for _, t := range tasks(path) {
		t.compute()
		t.place().sequence.computed(t)
	}
	return r
}

// One datagram of several that is not what its peer sent counts for itself.
func TestJoinedDatagramsFailOneByOne(t *testing.T) {
	s := shapes()[3]
	left, right := s.connect(t)
	l, r := netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 2000)
	var joined []byte
	size := 0
	for i := range 5 {
		if v := left.path.SendPlain(start, wire.AppendUDPPacket(nil, l, r, []byte{byte(i)})); v != Passed {
			t.Fatal(v)
		}
		data := s.carried(t, left).Data()
		size = len(data)
		if i == 2 {
			data[size-1] ^= 1
		}
		joined = append(joined, data...)
	}
	joined = append(joined, 1, 2, 3) // too short for any kind
	p := datagram(joined)
	p.Kind, p.NATT, p.Local, p.Remote, p.Segment = underlay.ESP, true, s.right, s.left, size
	right.path.Receive(start, p)
	if got := right.host.take(); len(got) != 4 {
		t.Errorf("%d packets came through, want 4", len(got))
	}
	c := right.path.Counters()
	for name, want := range map[string]uint64{"in-state-protocol-errors": 1, "in-errors": 1, "rx-packets": 4} {
		if got := value(t, c, name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

func value(t *testing.T, c *Counters, name string) uint64 {
	t.Helper()
	for _, x := range c.Snapshot() {
		if x.Name == name {
			return x.Value
		}
	}
	t.Fatalf("no counter is named %s", name)
	return 0
}
