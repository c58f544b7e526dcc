package datapath

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/internal/packet/reassembly"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// large is a UDP packet from port 1000 to 2000 that may be cut.
func large(src, dst string, id uint16, size int) []byte {
	s, d := netip.AddrPortFrom(netip.MustParseAddr(src), 1000), netip.AddrPortFrom(netip.MustParseAddr(dst), 2000)
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i >> 3)
	}
	if !s.Addr().Is4() {
		return wire.AppendUDPPacket(nil, s, d, body)
	}
	h := wire.IPv4{TTL: 64, ID: id, Proto: wire.ProtoUDP, Src: s.Addr(), Dst: d.Addr()}
	return wire.AppendUDP(h.Append(nil, wire.UDPHeaderLen+size), s, d, body)
}

func cut(t testing.TB, pkt []byte, limit int) (list [][]byte) {
	t.Helper()
	c, ok := wire.NewCutter(pkt, limit, 77)
	if !ok {
		t.Fatal("cannot be cut")
	}
	for more := true; more; {
		var p []byte
		p, more = c.Next(nil)
		list = append(list, p)
	}
	return list
}

// toPort narrows pairs to UDP to a remote port.
func toPort(p selector.Pair, port uint16) selector.Pair {
	p.Local.Proto, p.Remote.Proto = wire.ProtoUDP, wire.ProtoUDP
	p.Remote.PortLo, p.Remote.PortHi = port, port
	return p
}

// withPorts has both ends protect UDP to port 2000 alone, by an SA for just that.
func withPorts(u *tunnel) {
	pols := leftPolicies()
	for i := range pols {
		pols[i].Pair = toPort(pols[i].Pair, 2000)
	}
	u.left.pols.Replace(pols)
	u.right.pols.Replace(reversed(pols))
	for id := uint64(1); id <= 2; id++ {
		u.connect(id, uint32(id), func(l, r *sad.Params) {
			l.Pairs = []selector.Pair{toPort(l.Pairs[0], 2000)}
			r.Pairs = []selector.Pair{l.Pairs[0].Reverse()}
		})
	}
}

// Where ports decide, what leaves is the whole packet, in whatever order its pieces came.
func TestFragmentsAreJoinedOnTheWayOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	pieces, sent, size := 0, 0, 0
	for round := range 100 {
		pkt := large("10.1.0.1", "10.2.0.1", uint16(round+1), 1500+rng.IntN(60000))
		if round%2 == 1 {
			pkt = large("fd01::1", "fd02::1", 0, 1500+rng.IntN(60000))
		}
		list := cut(t, pkt, 1400)
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, p := range list {
			if r := u.left.path.SendPlain(start, p); r != Passed {
				t.Fatal(r)
			}
		}
		onWire := u.left.conn.take()
		if len(onWire) != 1 {
			t.Fatalf("%d packets", len(onWire))
		}
		if r := u.right.path.Receive(start, datagram(onWire[0])); r != Passed {
			t.Fatal(r)
		}
		if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
			t.Fatal("another packet arrived")
		}
		pieces, sent, size = pieces+len(list), sent+1, size+len(pkt)
	}
	u.left.moved(t, nil, map[string]uint64{"tx-packets": uint64(sent), "tx-bytes": uint64(size), "tx-fragments": uint64(pieces)})
}

// What a peer sent in pieces is judged and delivered whole where the SA has ports.
func TestFragmentsAreJoinedOnTheWayIn(t *testing.T) {
	for _, port := range []uint16{2000, 2001} {
		u := newTunnel(t, ciphers[0])
		withPorts(u)
		// The right has SAs for another port than the packets'.
		u.right.sads.Remove(1)
		u.left.sads.Remove(1)
		u.connect(1, 1, func(l, r *sad.Params) { r.Pairs = []selector.Pair{toPort(l.Pairs[0], port).Reverse()} })
		pkt := large("10.1.0.1", "10.2.0.1", 1, 5000)
		list := cut(t, pkt, 1400)
		before := u.right.values()
		for i, p := range list {
			want := Passed
			if i == len(list)-1 && port != 2000 {
				want = InTemplateMismatches
			}
			if r := receive(p, 4)(u); r != want {
				t.Fatalf("piece %d: %v, want %v", i, r, want)
			}
		}
		want := map[string]uint64{"rx-fragments": uint64(len(list)), "in-template-mismatches": 1}
		if port == 2000 {
			want = map[string]uint64{"rx-fragments": uint64(len(list)), "rx-packets": 1, "rx-bytes": uint64(len(pkt))}
			if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
				t.Fatal("another packet arrived")
			}
		}
		u.right.moved(t, before, want)
	}
}

// Without ports anywhere each fragment goes its way.
func TestFragmentsPassWhereNoPortsAreAsked(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	u.connect(2, 2, nil)
	for _, pkt := range [][]byte{large("10.1.0.1", "10.2.0.1", 1, 5000), large("fd01::1", "fd02::1", 1, 5000)} {
		for _, p := range cut(t, pkt, 1400) {
			if r := u.left.path.SendPlain(start, p); r != Passed {
				t.Fatal(r)
			}
			if r := u.right.path.Receive(start, datagram(u.left.conn.take()[0])); r != Passed {
				t.Fatal(r)
			}
			if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], p) {
				t.Fatal("another packet arrived")
			}
		}
	}
	if u.left.path.syncOut.frags.table != nil || u.right.path.syncIn.frags.table != nil {
		t.Error("there is memory for fragments")
	}
}

// A policy with ports in front decides about the whole packet, and so about each
// piece; what it does not concern passes in pieces.
func TestPolicyWithPortsInFront(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	blocked := spd.Policy{Ref: 9, Pair: toPort(leftPolicies()[0].Pair, 2000), Action: spd.Discard}
	u.left.pols.Replace(append([]spd.Policy{blocked}, leftPolicies()...))
	list := cut(t, large("10.1.0.1", "10.2.0.1", 1, 5000), 1400)
	for i, p := range list {
		if r := u.left.path.SendPlain(start, p); (r == OutPolicyBlocked) != (i == len(list)-1) {
			t.Fatalf("piece %d: %v", i, r)
		}
	}
	icmp := wire.IPv4{TTL: 64, ID: 2, Proto: wire.ProtoICMP, More: true, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
	if r := u.left.path.SendPlain(start, append(icmp.Append(nil, 8), 8, 0, 0, 0, 0, 0, 0, 0)); r != Passed || u.left.conn.n != 1 {
		t.Fatal(r)
	}
	u.left.moved(t, nil, map[string]uint64{"tx-fragments": uint64(len(list)), "out-policy-blocked": 1, "tx-packets": 1, "tx-bytes": 28})
}

// What goes on in clear leaves in pieces as long as those that came, however they came.
func TestJoinedInClearLeavesInPieces(t *testing.T) {
	for _, ends := range [][2]string{{"10.1.0.1", "10.2.0.1"}, {"fd01::1", "fd02::1"}} {
		u := newTunnel(t, ciphers[0])
		way := &inClear{}
		u.left.path.cfg.Clear = way
		pols := leftPolicies()
		for i := range pols {
			pols[i].Pair, pols[i].Action = toPort(pols[i].Pair, 2000), spd.None
		}
		u.left.pols.Replace(pols)
		list := cut(t, large(ends[0], ends[1], 1, 5000), 1400)
		for i := len(list) - 1; i >= 0; i-- {
			if r := u.left.path.SendPlain(start, list[i]); r != Passed {
				t.Fatal(r)
			}
		}
		if len(way.sent) != len(list) {
			t.Fatalf("%d packets in clear, want %d", len(way.sent), len(list))
		}
		for i := range list {
			if !bytes.Equal(way.sent[i], list[i]) {
				t.Errorf("piece %d is another one", i)
			}
		}
		u.left.moved(t, nil, map[string]uint64{"tx-fragments": uint64(len(list)), "tx-unprotected": 1})
		// One that came whole leaves whole.
		way.sent = nil
		if r := u.left.path.SendPlain(start, large(ends[0], ends[1], 1, 5000)); r != Passed || len(way.sent) != 1 {
			t.Fatalf("%v, %d packets", r, len(way.sent))
		}
		way.refuse = 1
		for i, p := range list {
			if r := u.left.path.SendPlain(start, p); (r == OutErrors) != (i == len(list)-1) {
				t.Fatal(r)
			}
		}
	}
}

// Transport mode takes whole packets (RFC 4301 §4.1), so pieces are put together for it.
func TestTransportJoinsFragments(t *testing.T) {
	for _, s := range shapes() {
		if s.tunnel {
			continue
		}
		left, right := s.connect(t)
		pkt := large(s.leftIn.String(), s.rightIn.String(), 1, 5000)
		for _, p := range cut(t, pkt, 1400) {
			if v := left.path.SendPlain(start, p); v != Passed {
				t.Fatalf("%v: %v", s, v)
			}
		}
		if v := right.path.Receive(start, s.carried(t, left)); v != Passed {
			t.Fatalf("%v: %v", s, v)
		}
		if got := right.host.take(); len(got) != 1 || len(got[0]) != len(pkt) || !bytes.Equal(got[0][40:], pkt[40:]) {
			t.Fatalf("%v: another packet arrived", s)
		}
	}
}

// Without an SA the daemon is asked with the first piece, and none is kept.
func TestFragmentsAskForAnSA(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	for _, p := range cut(t, large("10.1.0.1", "10.2.0.1", 1, 5000), 1400) {
		if r := u.left.path.SendPlain(start, p); r != OutNoStates {
			t.Fatal(r)
		}
	}
	u.left.log.want(t, "acquire 1")
}

// The pieces of a packet come by one SA: another that covers it too does not help.
func TestPiecesOfTwoSAsDoNotMeet(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	u.connect(3, 1, func(l, r *sad.Params) { *l, *r = narrowed(*l), narrowed(*r) })
	list := cut(t, large("10.1.0.1", "10.2.0.1", 1, 2000), 1400)
	for i, p := range list {
		out := u.left.sads.Child([]uint64{1, 3}[i%2]).Outbound()
		seq, _ := out.Reserve(1)
		buf := append(make([]byte, 64), append(bytes.Clone(p), make([]byte, 128)...)...)
		from, to := out.Transform().Seal(buf, 64, len(p), seq, 4)
		if r := u.right.path.Receive(start, datagram(buf[from:to])); r != Passed {
			t.Fatal(r)
		}
	}
	if u.right.host.n != 0 || u.right.path.syncIn.frags.table.Held() != 2 {
		t.Error("pieces of two SAs met")
	}
}

func narrowed(p sad.Params) sad.Params {
	q := p.Pairs[0]
	q.Local.Proto, q.Remote.Proto = wire.ProtoUDP, wire.ProtoUDP
	if p.Peer == "right" {
		q.Remote.PortLo, q.Remote.PortHi = 2000, 2000
	} else {
		q.Local.PortLo, q.Local.PortHi = 2000, 2000
	}
	p.Pairs = []selector.Pair{q}
	return p
}

// Every piece is in one counter: of those that were joined, or of why not.
func TestFragmentCounters(t *testing.T) {
	type given struct {
		at  time.Duration
		pkt []byte
	}
	piece := func(id uint16, offset, n int, more bool) []byte {
		h := wire.IPv4{TTL: 1, Proto: wire.ProtoUDP, ID: id, More: more, FragOffset: offset, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
		return append(h.Append(nil, n), make([]byte, n)...)
	}
	var flood []given
	for id := range uint16(reassembly.BuffersPerSender + 5) {
		flood = append(flood, given{0, piece(id, 8, 8, true)})
	}
	for _, c := range []struct {
		name    string
		list    []given
		out, in map[string]uint64
	}{
		{"twice", []given{{0, piece(1, 0, 8, true)}, {0, piece(1, 0, 8, true)}, {0, piece(1, 0, 8, true)}},
			map[string]uint64{"out-fragment-errors": 2}, map[string]uint64{"in-fragment-errors": 2}},
		{"late", []given{{0, piece(1, 0, 8, true)}, {time.Second, piece(1, 16, 8, true)}, {31 * time.Second, piece(2, 0, 8, true)}},
			map[string]uint64{"out-fragment-errors": 2}, map[string]uint64{"in-fragment-errors": 2}},
		{"overlap, and more after it", []given{{0, piece(1, 0, 16, true)}, {0, piece(1, 24, 16, true)}, {0, piece(1, 8, 16, true)}, {0, piece(1, 80, 16, true)}},
			map[string]uint64{"out-errors": 4}, map[string]uint64{"in-header-errors": 4}},
		{"too long", []given{{0, piece(1, 65528, 800, false)}},
			map[string]uint64{"out-errors": 1}, map[string]uint64{"in-header-errors": 1}},
		{"flood", flood, map[string]uint64{"out-buffer-errors": 5}, map[string]uint64{"in-buffer-errors": 5}},
	} {
		u := newTunnel(t, ciphers[0])
		withPorts(u)
		left, right := u.left.values(), u.right.values()
		for _, g := range c.list {
			u.left.path.SendPlain(start.Add(g.at), g.pkt)
		}
		u.left.moved(t, left, c.out)
		for _, g := range c.list {
			u.right.path.Receive(start.Add(g.at), datagram(sealed(u, g.pkt, 4)))
		}
		u.right.moved(t, right, c.in)
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// Fragments whose time is up are counted though nothing comes any more: whoever was
// told that some wait gives them up. It is told once, and again when none did.
func TestFragmentsOnAnIdleLine(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	list := cut(t, large("10.1.0.1", "10.2.0.1", 1, 4000), 1400)
	for _, g := range []*gateway{u.left, u.right} {
		give := func(at time.Duration, pieces ...[]byte) {
			for _, p := range pieces {
				if g == u.left {
					g.path.SendPlain(start.Add(at), p)
				} else {
					g.path.Receive(start.Add(at), datagram(sealed(u, p, 4)))
				}
			}
		}
		late := "out-fragment-errors"
		if g == u.right {
			late = "in-fragment-errors"
		}
		waits := func(want time.Duration) {
			t.Helper()
			if at, ok := g.path.GiveUpAt(); ok != (want > 0) || ok && !at.Equal(start.Add(want)) {
				t.Errorf("%s: due %v, %v, want %v", late, at, ok, want)
			}
		}
		g.log.lines = slices.DeleteFunc(g.log.lines, func(l string) bool { return l != "waits" })
		waits(0)
		give(0, list[0])
		give(time.Second, list[1])
		waits(30 * time.Second)
		before := g.values()
		if g.path.GiveUp(start.Add(30*time.Second - 1)) {
			t.Error("given up too early")
		}
		g.moved(t, before, nil)
		if !g.path.GiveUp(start.Add(30 * time.Second)) {
			t.Error("nothing was due")
		}
		g.moved(t, before, map[string]uint64{late: 2})
		waits(0)
		// What became whole leaves nothing to give up.
		give(40*time.Second, list...)
		waits(0)
		give(50*time.Second, list[0])
		give(51*time.Second, list[1:]...)
		waits(0)
		n := 0
		for _, l := range g.log.lines {
			if l == "waits" {
				n++
			}
		}
		if n != 3 {
			t.Errorf("%s: told %d times that fragments wait", late, n)
		}
	}
}

// A batch with pieces of several packets, in a worker as Run has it.
func TestFragmentsInABatch(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	w := newOutWorker(u.left.path, u.left.path.edges(), 16, maxPacket)
	defer w.sads.Close()
	var want [][]byte
	n := 0
	for id := range uint16(5) {
		pkt := large("10.1.0.1", "10.2.0.1", id+1, 2000+int(id))
		want = append(want, pkt)
		for _, p := range cut(t, pkt, 1400) {
			w.sizes[n] = copy(w.bufs[n][underlay.Headroom:], p)
			n++
		}
	}
	for range 3 { // the buffers are free again after each
		if r := w.batch(start.UnixNano(), n); r != Passed {
			t.Fatal(r)
		}
		in := newInWorker(u.right.path, u.right.path.edges(), 16)
		var arrived []underlay.Packet
		for _, data := range u.left.conn.take() {
			arrived = append(arrived, *datagram(data))
		}
		if r := in.batch(start.UnixNano(), arrived); r != Passed {
			t.Fatal(r)
		}
		in.sads.Close()
		got := u.right.host.take()
		if len(got) != len(want) {
			t.Fatalf("%d packets, want %d", len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("packet %d is another one", i)
			}
		}
	}
}

// What is said about a fragment is what the lines do.
func TestExplainFragments(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	f := wire.Flow{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: wire.ProtoUDP, Opaque: true}
	spi := u.right.sads.Child(1).Inbound().SPI()
	if x := u.left.path.ExplainOut(start, &f); !x.Waits || x.Reason != Passed {
		t.Errorf("out: %+v", x)
	}
	if x := u.right.path.ExplainIn(start, &f, spi); !x.Waits || x.Reason != Passed {
		t.Errorf("in: %+v", x)
	}
	f.Proto = wire.ProtoTCP
	if x := u.left.path.ExplainOut(start, &f); x.Waits || x.Reason != OutPolicyErrors {
		t.Errorf("out: %+v", x)
	}
	if x := u.right.path.ExplainIn(start, &f, spi); x.Waits || x.Reason != InTemplateMismatches {
		t.Errorf("in: %+v", x)
	}
}

// The buffers of packets that became whole serve the next ones, however many there are.
func TestWholePacketsGiveBackTheirBuffers(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	for id := range uint32(2*reassembly.Buffers + 10) {
		for i, piece := range cutInTwo(t, udp("10.1.0.1", "10.2.0.1", 1400), id+1) {
			if r := u.left.path.SendPlain(start, piece); r != Passed {
				t.Fatalf("packet %d, piece %d: %v", id, i, r)
			}
		}
		if u.left.conn.n == 0 {
			t.Fatalf("packet %d did not leave", id)
		}
		u.left.conn.take()
	}
}
