package datapath

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/packet/reassembly"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

func allSteps() []step { return slices.Concat(outSteps(), inSteps(), rareSteps()) }

// Each counter of dropped packets, the manual's and our own, is moved by a step.
func TestEveryCounterCanBeReached(t *testing.T) {
	reached := map[Reason]bool{}
	for _, s := range allSteps() {
		reached[s.want] = true
	}
	for r := range Passed {
		if !reached[r] {
			t.Errorf("%v is never reached", r)
		}
	}
}

// Each of them has a row in the documentation that says what it counts.
func TestEveryCounterIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := ""
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			rows += cells[1]
		}
	}
	for _, name := range counterNames[:drops] {
		if !strings.Contains(rows, "`"+name+"`") {
			t.Errorf("%s is missing in the table of docs/troubleshooting.md", name)
		}
	}
}

// betweenHosts gives both ends a transport mode SA between 10.1.0.1 and 10.2.0.1.
func betweenHosts(change func(l, r *sad.Params)) func(u *tunnel) {
	return reconnect(func(l, r *sad.Params) {
		l.Tunnel, r.Tunnel, l.UDP, r.UDP = false, false, false, false
		l.Local, l.Remote = netip.MustParseAddrPort("10.1.0.1:0"), netip.MustParseAddrPort("10.2.0.1:0")
		r.Local, r.Remote = l.Remote, l.Local
		l.Pairs = []selector.Pair{pair("10.1.0.1/32", "10.2.0.1/32")}
		r.Pairs = []selector.Pair{l.Pairs[0].Reverse()}
		if change != nil {
			change(l, r)
		}
	})
}

// asAH makes an AH SA of parameters.
func asAH(p *sad.Params) {
	sha := suite.IntegByName("sha256")
	p.Protocol = sad.ProtocolAH
	p.In = esp.Params{SPI: p.In.SPI, Integ: sha, IntegKey: make([]byte, sha.KeyLen)}
	p.Out = esp.Params{SPI: p.Out.SPI, Integ: sha, IntegKey: make([]byte, sha.KeyLen)}
}

// byHand makes an SA of it whose SPI and keys people gave.
func byHand(udp bool) func(l, r *sad.Params) {
	return func(l, r *sad.Params) {
		l.Manual, r.Manual, l.UDP, r.UDP = true, true, udp, udp
		l.In.SPI, l.Out.SPI, r.In.SPI, r.Out.SPI = 1001, 1002, 1002, 1001
	}
}

// rareSteps provoke what neither a peer nor a host does every day.
func rareSteps() []step {
	good := udp("10.1.0.1", "10.2.0.1", 100)
	arrives := func(inUDP bool) func(u *tunnel) Reason {
		return func(u *tunnel) Reason {
			p := datagram(sealed(u, good, 4))
			p.NATT = inUDP
			return u.right.path.Receive(start, p)
		}
	}
	delivered := map[string]uint64{"rx-packets": times, "rx-bytes": times * uint64(len(good))}
	ofNewest := func(u *tunnel) Reason { // by the left's newest SA
		u.left.path.SendPlain(start, append(wire.AppendIP(nil, netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1"), 47, 4), 0, 0, 0, 0))
		return u.right.path.Receive(start, datagram(u.left.conn.take()[0]))
	}
	var larval uint32
	id := uint16(0)
	piece := func() []byte { // of another packet each time
		id++
		h := wire.IPv4{TTL: 1, Proto: wire.ProtoUDP, ID: id, More: true, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
		return append(h.Append(nil, 8), make([]byte, 8)...)
	}
	again := piece()
	// A source route without an address: AH cannot tell what the destination will see.
	odd := wire.IPv4{TTL: 1, Proto: wire.ProtoUDP, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}.Append(nil, 12)
	odd = append(odd, 131, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	odd[0] = 0x46
	return []step{
		{name: "headers that AH cannot read", want: OutStateProtocolErrors, setup: betweenHosts(func(l, r *sad.Params) { asAH(l); asAH(r) }),
			do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, odd) }},
		{name: "too long with ESP", want: OutBundleErrors, setup: betweenHosts(nil),
			do: func(u *tunnel) Reason {
				pkt := udp("10.1.0.1", "10.2.0.1", 65535-28)
				pkt[6] = 0 // may be cut, which does not help
				return u.left.path.SendPlain(start, pkt)
			}},
		{name: "too long for the path", want: OutTooBig, told: "unmeasured 1 1500", extra: map[string]uint64{"tx-icmp-too-big": times},
			setup: func(u *tunnel) { u.left.setLink(1500) },
			do:    func(u *tunnel) Reason { return u.left.path.SendPlain(start, udp("10.1.0.1", "10.2.0.1", 1500)) }},
		{name: "too long for the path, and its sender is not told", want: OutTooBig, told: "unmeasured 1 1500", extra: map[string]uint64{"in-errors": times},
			setup: func(u *tunnel) {
				u.left.setLink(1500)
				u.left.host.refuse = times
			},
			do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, udp("10.1.0.1", "10.2.0.1", 1500)) }},
		{name: "for one of several clients", want: OutFlowErrors, do: plainStep, setup: func(u *tunnel) {
			pols := leftPolicies()
			pols[0].Level = spd.Unique
			u.left.pols.Replace(pols)
			u.connect(2, 1, func(l, _ *sad.Params) { l.Client = 7 })
		}},
		{name: "in, of another client too, and without ports", want: InFlowErrors, do: ofNewest, told: "used 3,heard 3", setup: func(u *tunnel) {
			u.connect(2, 1, func(_, r *sad.Params) { r.Client = 7 })
			ofNewest(u)
			u.connect(3, 1, func(_, r *sad.Params) { r.Client = 8 })
		}},
		{name: "ESP without the AH around it", want: OutBundleCheckErrors, do: plainStep,
			setup: betweenHosts(func(l, r *sad.Params) { l.Bundled = true })},
		{name: "no room for fragments out", want: OutBufferErrors, do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, piece()) },
			setup: func(u *tunnel) {
				u.left.sads.Remove(1)
				u.right.sads.Remove(1)
				withPorts(u)
				for range reassembly.BuffersPerSender {
					u.left.path.SendPlain(start, piece())
				}
			}},
		{name: "no room for fragments in", want: InBufferErrors, do: func(u *tunnel) Reason { return receive(piece(), 4)(u) },
			setup: func(u *tunnel) {
				u.right.sads.Remove(1)
				u.left.sads.Remove(1)
				withPorts(u)
				for range reassembly.BuffersPerSender {
					receive(piece(), 4)(u)
				}
			}},
		{name: "the same fragment again, out", want: OutFragmentErrors, do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, again) },
			setup: func(u *tunnel) {
				u.left.sads.Remove(1)
				u.right.sads.Remove(1)
				withPorts(u)
				u.left.path.SendPlain(start, again)
			}},
		{name: "the same fragment again, in", want: InFragmentErrors, do: func(u *tunnel) Reason { return receive(again, 4)(u) },
			setup: func(u *tunnel) {
				u.left.sads.Remove(1)
				u.right.sads.Remove(1)
				withPorts(u)
				receive(again, 4)(u)
			}},
		{name: "before its SA is there", want: InStateInvalid, setup: func(u *tunnel) { larval = u.right.sads.AllocSPIs(1)[0] },
			do: func(u *tunnel) Reason {
				return raw(append(binary.BigEndian.AppendUint32(nil, larval), bytes.Repeat([]byte{1}, 60)...))(u)
			}},
		{name: "without UDP, by hand in UDP", want: InStateMismatches, setup: reconnect(byHand(true)), do: arrives(false)},
		{name: "in UDP, by hand without", want: InStateMismatches, setup: reconnect(byHand(false)), do: arrives(true)},
		{name: "in UDP, by hand in UDP", want: Passed, setup: reconnect(byHand(true)), do: arrives(true), told: "used 1,heard 1", extra: delivered},
		{name: "in negotiated, without UDP", want: Passed, do: arrives(false), told: "used 1,heard 1", extra: delivered},
	}
}

// A packet that overtakes its SA is told from one that nobody knows, and only until the SA is there.
func TestLarval(t *testing.T) {
	g := newGateway()
	spi := g.sads.AllocSPIs(1)[0]
	arrive := func() Reason {
		return g.path.Receive(start, datagram(append(binary.BigEndian.AppendUint32(nil, spi), make([]byte, 60)...)))
	}
	f := wire.Flow{Src: netip.MustParseAddr("10.2.0.1"), Dst: netip.MustParseAddr("10.1.0.1")}
	if r, x := arrive(), g.path.ExplainIn(start, &f, spi); r != InStateInvalid || x.Reason != r {
		t.Error(r, x.Reason)
	}
	g.sads.FreeSPI(spi)
	if r := arrive(); r != InNoStates {
		t.Error(r)
	}
}

// forget has a gateway be as one to which nothing was sent, but for its counters: to
// make another for each input would cost a hundred times as much.
func (g *gateway) forget() {
	g.conn.n, g.host.n, g.log.quiet = 0, 0, true
	g.path.mu.Lock()
	defer g.path.mu.Unlock()
	if w := g.path.syncOut; w != nil {
		w.frags.begin(math.MaxInt64) // their time is up
	}
	if w := g.path.syncIn; w != nil {
		w.frags.begin(math.MaxInt64)
	}
}

// drops is how many packets were dropped.
func (g *gateway) drops() (n uint64) {
	for _, c := range g.path.Counters().Snapshot()[:Passed] {
		n += c.Value
	}
	return n
}

// FuzzReceive hands in any datagram of any kind: it is counted once, and nothing is
// delivered that no SA opened.
func FuzzReceive(f *testing.F) {
	f.Add(byte(1), true, udp("10.1.0.1", "10.2.0.1", 100))
	f.Add(byte(3), false, wire.IPv4{Proto: wire.ProtoAH, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}.Append(nil, 100))
	f.Fuzz(func(t *testing.T, kind byte, natt bool, data []byte) {
		u := newTunnel(t, ciphers[0])
		u.connect(1, 1, nil)
		if len(data) >= 8 && data[0]&1 == 0 {
			binary.BigEndian.PutUint32(data, u.right.sads.Child(1).Inbound().SPI())
		}
		p := datagram(data)
		p.Kind, p.NATT = underlay.Kind(kind%5), natt
		before := u.right.values()
		r := u.right.path.Receive(start, p)
		want := map[string]uint64{r.String(): 1}
		switch {
		case p.Kind == underlay.IKE:
			want = map[string]uint64{"rx-ike": 1}
		case p.Kind == underlay.Keepalive:
			want = map[string]uint64{"rx-keepalives": 1}
		case r == Passed:
			t.Fatalf("%x passed", data)
		}
		u.right.moved(t, before, want)
	})
}

// FuzzInner hands in any packet that a peer with an SA sealed, and any that the
// host sends, with policies that ask for ports: each is counted, held or passed.
func FuzzInner(f *testing.F) {
	for _, p := range cut(f, large("10.1.0.1", "10.2.0.1", 1, 1000), 400) {
		f.Add(p, byte(4))
	}
	for _, p := range cut(f, large("fd01::1", "fd02::1", 1, 1000), 400) {
		f.Add(p, byte(41))
	}
	u := newTunnel(f, ciphers[0])
	withPorts(u)
	f.Fuzz(func(t *testing.T, pkt []byte, next byte) {
		if len(pkt) > 60000 {
			return
		}
		for _, g := range []*gateway{u.left, u.right} {
			g.forget()
			before, drops := g.values(), g.drops()
			var r Reason
			if g == u.left {
				r = g.path.SendPlain(start, pkt)
			} else {
				r = receive(pkt, next)(u)
			}
			if r != Passed {
				g.moved(t, before, map[string]uint64{r.String(): 1})
				continue
			}
			if g.drops() != drops {
				t.Fatalf("%x passed, and was dropped: %v, before %v", pkt, g.values(), before)
			}
		}
	})
}

// FuzzTrouble hands in anything as what the path says of a packet: it moves one
// counter, of those that are no drops, and does not make the path narrower than allowed.
func FuzzTrouble(f *testing.F) {
	f.Add(byte(underlay.TooBig), byte(underlay.ESP), 1300, true, false, []byte{0, 0, 0, 1, 0, 0, 0, 1})
	f.Add(byte(underlay.Prohibited), byte(underlay.AH), 0, false, true, []byte{17, 4, 0, 0, 0, 0, 0, 1})
	u := newTunnel(f, ciphers[0])
	u.connect(1, 1, nil)
	head := sealed(u, udp("10.1.0.1", "10.2.0.1", 1), 4)[:8]
	f.Fuzz(func(t *testing.T, cause, kind byte, mtu int, ours, local bool, data []byte) {
		g := u.left
		if ours && len(data) >= 8 {
			copy(data, head)
		}
		p := datagram(data)
		p.Local, p.Remote = leftAddr, rightAddr
		p.Kind, p.NATT = underlay.Trouble, ours
		p.Fault = underlay.Fault{Cause: underlay.Cause(cause % 6), Kind: underlay.Kind(kind % 4), Local: local, MTU: mtu}
		before := g.values()
		if r := g.path.Receive(start, p); r != Passed {
			t.Fatal(r)
		}
		moved, drops := uint64(0), uint64(0)
		for i, c := range g.path.Counters().Snapshot() {
			moved += c.Value - before[c.Name]
			if i < int(Passed) {
				drops += c.Value - before[c.Name]
			}
		}
		if moved > 1 || moved == 0 && !local || drops != 0 {
			t.Fatalf("%d counted, %d dropped", moved, drops)
		}
		if got := g.sads.Child(1).Path().MTU(start.UnixNano()); got < sad.MinPMTU4 {
			t.Fatal(got)
		}
	})
}

// FuzzNarrow sends any packet by a path that is too narrow for most: it is told, cut,
// split or sent, and what leaves fits.
func FuzzNarrow(f *testing.F) {
	f.Add(large("10.1.0.1", "10.2.0.1", 1, 1000), uint16(600), byte(0))
	f.Add(v4(append([]byte{7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 0, 0, 0, 0}, 0, 0)...), uint16(600), byte(2))
	f.Add(udp("10.1.0.1", "10.2.0.1", 1400), uint16(1300), byte(1))
	f.Add(large("fd01::1", "fd02::1", 1, 3000), uint16(1300), byte(0))
	u := newTunnel(f, ciphers[1])
	u.connect(1, 1, nil)
	u.connect(2, 2, nil)
	g := u.left
	f.Fuzz(func(t *testing.T, pkt []byte, link uint16, df byte) {
		if len(pkt) > maxPacket {
			return
		}
		g.forget()
		g.setLink(max(int(link), sad.MinPMTU4))
		g.path.cfg.DF, g.path.cfg.ClampMSS = DF(df%3), df&8 != 0
		before := g.drops()
		r := g.path.SendPlain(start, pkt)
		counted := g.drops() - before
		if (r == Passed) != (counted == 0) || counted > 1 {
			t.Fatalf("%v, %d dropped", r, counted)
		}
		if r == Passed && g.conn.n == 0 || r != Passed && g.conn.n != 0 {
			t.Fatalf("%v, and %d left", r, g.conn.n)
		}
	})
}
