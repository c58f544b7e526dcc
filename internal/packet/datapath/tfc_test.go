package datapath

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd/selector"
)

// padTo gives the left's SA traffic flow confidentiality.
func padTo(n int) func(left, right *sad.Params) {
	return func(left, right *sad.Params) { left.TFC = n }
}

// All packets up to the length look the same on the wire, longer ones as they are;
// what arrives is what was sent, and the padding is nobody else's bytes. The SAs'
// own counters have the padding (it was encrypted), the gateway's do not.
func TestTFCPadding(t *testing.T) {
	const tfc = 1000
	for _, c := range ciphers {
		u := newTunnel(t, c)
		u.connect(1, 1, padTo(tfc))
		u.connect(2, 2, padTo(tfc))
		open, err := esp.New(u.cipher.params(u.right.sads.Child(1).Inbound().SPI(), 2, true))
		if err != nil {
			t.Fatal(err)
		}
		look, sent, total := map[int]bool{}, uint64(0), uint64(0)
		inSA := map[string]uint64{}
		for i, size := range []int{972, 0, 1, 500, 971, 973, 1372, 3} {
			for _, ends := range [][2]string{{"10.1.0.1", "10.2.0.1"}, {"fd01::1", "fd02::1"}} {
				pkt := udp(ends[0], ends[1], size)
				if r := u.left.path.SendPlain(start, pkt); r != Passed {
					t.Fatal(r)
				}
				onWire := u.left.conn.take()[0]
				if len(pkt) <= tfc {
					look[len(onWire)] = true
				} else if len(pkt) >= tfc+16 && look[len(onWire)] { // but for the cipher's own padding
					t.Errorf("%d bytes look like %d", len(pkt), tfc)
				}
				if r := u.right.path.Receive(start, datagram(onWire)); r != Passed {
					t.Fatal(r)
				}
				if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
					t.Fatalf("%d packets arrived, or another one", len(got))
				}
				sent, total = sent+1, total+uint64(len(pkt))
				inSA[ends[0]] += uint64(max(len(pkt), tfc))
				if ends[0] == "10.1.0.1" { // what is behind the packet
					off, n, _, err := open.Open(onWire, uint64(i+1))
					if err != nil || n != max(len(pkt), tfc) || bytes.Count(onWire[off+len(pkt):off+n], []byte{0}) != n-len(pkt) {
						t.Errorf("%v: %d bytes, behind %d: %x", err, n, len(pkt), onWire[off:off+n])
					}
				}
			}
		}
		if len(look) != 1 {
			t.Errorf("%s: packets up to %d bytes have the lengths %v", c.name, tfc, look)
		}
		u.left.moved(t, nil, map[string]uint64{"tx-packets": sent, "tx-bytes": total})
		u.right.moved(t, nil, map[string]uint64{"rx-packets": sent, "rx-bytes": total})
		for id, from := range map[uint64]string{1: "10.1.0.1", 2: "fd01::1"} {
			out, in := u.left.sads.Child(id).Rows(start, false)[1], u.right.sads.Child(id).Rows(start, false)[0]
			if out.Bytes != inSA[from] || in.Bytes != inSA[from] {
				t.Errorf("SA %d counted %d out, %d in, want %d", id, out.Bytes, in.Bytes, inSA[from])
			}
		}
		// The other direction is the other side's to pad.
		if r := u.right.path.SendPlain(start, udp("10.2.0.1", "10.1.0.1", 10)); r != Passed || len(u.right.conn.take()[0]) > 120 {
			t.Errorf("%v, or padded", r)
		}
	}
}

// A path may take longer packets than the device has, and the padding makes use of it.
func TestTFCIsLongerThanTheDevice(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, padTo(1200))
	w := newOutWorker(u.left.path, u.left.path.edges(), 8, 200)
	defer w.sads.Close()
	var sent [][]byte
	for i, size := range []int{0, 172, 171, 50} {
		pkt := udp("10.1.0.1", "10.2.0.1", size)
		w.sizes[i] = copy(w.room[i][underlay.Headroom:], pkt)
		sent = append(sent, pkt)
	}
	if r := w.batch(start.UnixNano(), len(sent)); r != Passed {
		t.Fatal(r)
	}
	for i, onWire := range u.left.conn.take() {
		if len(onWire) < 1200 || len(onWire) > 1300 {
			t.Errorf("the %d-th has %d bytes", i, len(onWire))
		}
		if r := u.right.path.Receive(start, datagram(onWire)); r != Passed {
			t.Fatal(r)
		}
	}
	if got := u.right.host.take(); !slices.EqualFunc(got, sent, bytes.Equal) {
		t.Errorf("%d packets arrived, or other ones", len(got))
	}
}

// Only what is sealed by ESP in tunnel mode is padded.
func TestTFCElsewhere(t *testing.T) {
	for _, s := range shapes() {
		left, right := s.connect(t)
		for _, c := range left.sads.Children() {
			c.TFC = 600
		}
		pkt := s.withTOS(0, 64)
		if v := left.path.SendPlain(start, pkt); v != Passed {
			t.Fatalf("%v: %v", s, v)
		}
		if n, long := left.conn.last.Len, s.protocol == sad.ProtocolESP && s.tunnel; (n > 600) != long || n > 760 {
			t.Errorf("%v: %d bytes", s, n)
		}
		if v := right.path.Receive(start, s.carried(t, left)); v != Passed {
			t.Errorf("%v: %v", s, v)
		}
		if got := right.host.take(); len(got) != 1 || len(got[0]) != len(pkt) {
			t.Errorf("%v: %x", s, got)
		}
	}
}

func TestTFCDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	b := newBench(t, ciphers[0], 100)
	b.left.sads.Child(1).TFC = 1400
	both := func() { b.send(); b.receive() }
	both()
	if allocs := testing.AllocsPerRun(100, both); allocs != 0 {
		t.Errorf("%v allocations for %d padded packets out and in", allocs, benchBatch)
	}
	if n := len(b.left.conn.sent[0]); n < 1400 {
		t.Errorf("%d bytes", n)
	}
}

// Padding never makes a packet longer than the path takes: it fills what there is,
// and comes back when the path has forgotten that it was narrow.
func TestTFCFitsThePath(t *testing.T) {
	for _, s := range tunnels() {
		if s.protocol != sad.ProtocolESP {
			continue
		}
		left, _ := s.connect(t)
		c := left.sads.Child(1)
		c.TFC = 1400
		outer := func(now time.Time, inner int) int {
			t.Helper()
			if v := left.path.SendPlain(now, wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 2, make([]byte, inner-48))); v != Passed {
				t.Fatal(v)
			}
			p := left.conn.last
			size := len(left.conn.take()[0])
			if !p.Header {
				size += wire.AppendedIPLen(s.left.Addr())
			}
			if p.NATT {
				size += wire.UDPHeaderLen
			}
			return size
		}
		wide := outer(start, 100)
		c.Path().Learn(1300, start.UnixNano())
		if n := outer(start, 100); n > 1300 || n <= 1300-16 || n != outer(start, 1100) {
			t.Errorf("%v: a padded packet of %d bytes on a path of 1300", s, n)
		}
		if v := left.path.SendPlain(start, wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 2, make([]byte, 1300-48))); v != OutTooBig {
			t.Errorf("%v: a packet that does not fit: %v", s, v)
		}
		if n := outer(start.Add(sad.PMTUAge), 100); n != wide || n < 1400 {
			t.Errorf("%v: %d bytes, once %d", s, n, wide)
		}
	}
}

// Dummies look like padded packets, end at the other side's data path, and are
// counted at both. A limit stops them as it stops others.
func TestDummies(t *testing.T) {
	for _, s := range tunnels() {
		if s.ah() {
			continue
		}
		left, right := s.connect(t)
		l, r := left.sads.AllocSPIs(1)[0], right.sads.AllocSPIs(1)[0]
		p := sad.Params{ID: 3, Policy: 1, Protocol: sad.ProtocolESP, Tunnel: true, In: s.half(l, 1), Out: s.half(r, 2), Pairs: []selector.Pair{hostPair(s.leftIn, s.rightIn)},
			Local: s.left, Remote: s.right, UDP: s.udp, Added: start, TFC: 700, Dummies: 10}
		q := p
		q.In, q.Out, q.Local, q.Remote, q.Pairs, q.TFC, q.Dummies = s.half(r, 2), s.half(l, 1), s.right, s.left, []selector.Pair{hostPair(s.rightIn, s.leftIn)}, 0, 0
		for g, x := range map[*gateway]sad.Params{left: p, right: q} {
			if _, err := g.sads.Install(x); err != nil {
				t.Fatal(err)
			}
		}
		value := uint8(10)
		left.path.cfg.DSCP = &value
		pkt := s.withTOS(0, 64)
		if v := left.path.SendPlain(start, pkt); v != Passed {
			t.Fatal(v)
		}
		look, tos := len(left.conn.sent[0]), left.conn.last.TOS
		if v := right.path.Receive(start, s.carried(t, left)); v != Passed {
			t.Fatal(v)
		}
		half := func(n int64) int64 { return n / 2 }
		sent := uint64(0)
		for now := start; now.Before(start.Add(3 * time.Second)); {
			next := left.path.SendDummies(now, half)
			if left.conn.n > 0 {
				if n := len(left.conn.sent[0]); n != look || left.conn.last.TOS != tos {
					t.Fatalf("%v: a dummy of %d bytes with TOS %#x, packets have %d and %#x", s, n, left.conn.last.TOS, look, tos)
				}
				if v := right.path.Receive(now, s.carried(t, left)); v != Passed {
					t.Fatal(v)
				}
				sent++
			}
			now = next
		}
		if sent < 25 || sent > 31 {
			t.Errorf("%v: %d dummies in three seconds", s, sent)
		}
		left.moved(t, nil, map[string]uint64{"tx-packets": 1, "tx-bytes": uint64(len(pkt)), "tx-dummies": sent})
		right.moved(t, nil, map[string]uint64{"rx-packets": 1, "rx-bytes": uint64(len(pkt)), "rx-dummies": sent})
		if row := left.sads.Child(3).Rows(start, false)[1]; row.Packets != sent+1 || row.Bytes != 700*(sent+1) || !row.LastUse.Equal(start) {
			t.Errorf("%v: the SA counted %d packets, %d bytes, last %v", s, row.Packets, row.Bytes, row.LastUse)
		}
		// What the network refuses counts as other packets do.
		left.conn.refuse = 1
		before := left.values()
		left.path.SendDummies(start.Add(4*time.Second), half)
		left.moved(t, before, map[string]uint64{"out-errors": 1})
		before = left.values()
		left.sads.Remove(3)
		if next := left.path.SendDummies(start.Add(5*time.Second), half); !next.IsZero() {
			t.Errorf("%v: nobody has dummies, and again at %v", s, next)
		}
		left.moved(t, before, nil)
	}
}

// An SA whose time is up has no dummies.
func TestNoDummiesWhenExpired(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, func(l, r *sad.Params) { l.TFC, l.Dummies, l.Hard = 700, 10, time.Hour })
	out, w := u.left.sads.Child(1).Outbound(), u.left.path.outward()
	for _, c := range []struct { // in the order of time: an SA that has expired stays so
		after time.Duration
		want  int
	}{{time.Hour - 1, 1}, {time.Hour, 0}, {2 * time.Hour, 0}} {
		u.left.conn.n = 0
		if w.dummy(out, start.Add(c.after).UnixNano()); u.left.conn.n != c.want {
			t.Errorf("after %v: %d dummies, want %d", c.after, u.left.conn.n, c.want)
		}
	}
}
