package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// A crowd is a server and clients that have the same address, and policies of level
// unique between them:
//
//	transport   each client is 192.168.1.10 behind one NAT, 203.0.113.9 to the server
//	tunnel      each client is 192.168.1.10 within its tunnel to 10.1.0.0/16
type crowd struct {
	t       testing.TB
	tunnel  bool
	now     time.Time
	server  *gateway
	clients []*gateway
	newest  []uint64 // CHILD SA of each client
	serial  uint64
	policy  uint32 // of the server's SAs
}

var (
	crowdInside = netip.MustParseAddr("192.168.1.10")
	crowdNAT    = netip.MustParseAddr("203.0.113.9")
	crowdHost   = netip.MustParseAddr("192.0.2.2")
	crowdLAN    = netip.MustParseAddr("10.1.0.5")
)

func newCrowd(t testing.TB, tunnel bool, n int) *crowd {
	c := &crowd{t: t, tunnel: tunnel, now: start, server: newGateway(), policy: 1}
	c.server.pols.Replace([]spd.Policy{{Ref: 1, Pair: c.pair(true), Action: spd.Encrypt, Level: spd.Unique, Tunnel: tunnel}})
	for range n {
		g := newGateway()
		g.pols.Replace([]spd.Policy{{Ref: 1, Pair: c.pair(false), Action: spd.Encrypt, Tunnel: tunnel}})
		c.clients = append(c.clients, g)
		c.newest = append(c.newest, 0)
	}
	for i := range n {
		c.connect(i)
	}
	return c
}

// there and seen are a client's address as it knows it and as the server does, host the server's.
func (c *crowd) seen() netip.Addr {
	if c.tunnel {
		return crowdInside
	}
	return crowdNAT
}

func (c *crowd) host() netip.Addr {
	if c.tunnel {
		return crowdLAN
	}
	return crowdHost
}

func (c *crowd) pair(server bool) selector.Pair {
	single := func(a netip.Addr) selector.TS { return selector.FromPrefix(netip.PrefixFrom(a, 32)) }
	local := single(crowdHost)
	if c.tunnel {
		local = selector.FromPrefix(netip.MustParsePrefix("10.1.0.0/16"))
	}
	if server {
		return selector.Pair{Local: local, Remote: single(c.seen())}
	}
	return selector.Pair{Local: single(crowdInside), Remote: local}
}

// connect gives a client another CHILD SA.
func (c *crowd) connect(i int) {
	c.t.Helper()
	c.serial++
	g, cipher := c.clients[i], ciphers[0]
	l, r := g.sads.AllocSPIs(1)[0], c.server.sads.AllocSPIs(1)[0]
	p := sad.Params{ID: c.serial, Policy: 1, Protocol: sad.ProtocolESP, Tunnel: c.tunnel, UDP: true, ReplayWindow: 128, Added: c.now,
		In: cipher.params(l, byte(c.serial), true), Out: cipher.params(r, byte(c.serial)+100, true), Pairs: []selector.Pair{c.pair(false)},
		Local: netip.AddrPortFrom(crowdInside, 4500), Remote: netip.AddrPortFrom(crowdHost, 4500)}
	q := p
	q.In, q.Out = cipher.params(r, byte(c.serial)+100, true), cipher.params(l, byte(c.serial), true)
	q.Pairs, q.Client, q.Policy = []selector.Pair{c.pair(true)}, uint64(i+1), c.policy
	q.Local, q.Remote = p.Remote, netip.AddrPortFrom(crowdNAT, uint16(40000+i))
	if _, err := g.sads.Install(p); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.server.sads.Install(q); err != nil {
		c.t.Fatal(err)
	}
	c.newest[i] = c.serial
}

// carry takes what g has sent to another gateway, from where the path has it come.
func (c *crowd) carry(from, to *gateway) Reason {
	c.t.Helper()
	list := from.conn.take()
	if len(list) != 1 {
		c.t.Fatalf("%d packets were sent", len(list))
	}
	d := datagram(list[0])
	d.Local, d.Remote = from.conn.last.Remote, from.conn.last.Local
	if to == c.server {
		d.Local, d.Remote = netip.AddrPortFrom(crowdHost, 4500), netip.AddrPortFrom(crowdNAT, 40000)
		for i, g := range c.clients {
			if g == from {
				d.Remote = netip.AddrPortFrom(crowdNAT, uint16(40000+i))
			}
		}
	}
	return to.path.Receive(c.now, d)
}

// in sends a packet of a client and returns what the host gets; nil: it did not get through.
func (c *crowd) in(i int, pkt []byte) ([]byte, Reason) {
	c.t.Helper()
	if r := c.clients[i].path.SendPlain(c.now, pkt); r != Passed {
		c.t.Fatalf("client %d: %v", i, r)
	}
	if r := c.carry(c.clients[i], c.server); r != Passed {
		return nil, r
	}
	return c.sole(c.server), Passed
}

// enters is in for what gets through.
func (c *crowd) enters(i int, pkt []byte) []byte {
	c.t.Helper()
	got, r := c.in(i, pkt)
	if r != Passed {
		c.t.Fatalf("client %d: %v", i, r)
	}
	return got
}

func (c *crowd) sole(g *gateway) []byte {
	c.t.Helper()
	got := g.host.take()
	if len(got) != 1 {
		c.t.Fatalf("%d packets arrived", len(got))
	}
	info, ok := wire.ParseFlow(got[0], new(wire.Flow))
	if !ok || !wire.VerifyChecksum(got[0], info) || !wire.VerifyIPv4Checksum(got[0]) {
		c.t.Fatalf("arrived is %x", got[0])
	}
	return got[0]
}

// out sends a packet of the host; it has to come to the client.
func (c *crowd) out(i int, pkt []byte) []byte {
	c.t.Helper()
	if r := c.server.path.SendPlain(c.now, pkt); r != Passed {
		c.t.Fatalf("for client %d: %v", i, r)
	}
	if r := c.carry(c.server, c.clients[i]); r != Passed {
		c.t.Fatalf("it did not leave by the SA of client %d: %v", i, r)
	}
	return c.sole(c.clients[i])
}

func flowOf(t testing.TB, pkt []byte) (f wire.Flow) {
	t.Helper()
	if _, ok := wire.ParseFlow(pkt, &f); !ok {
		t.Fatalf("%x", pkt)
	}
	return f
}

func (c *crowd) udp(sport, dport uint16) []byte {
	return wire.AppendUDPPacket(nil, netip.AddrPortFrom(crowdInside, sport), netip.AddrPortFrom(c.host(), dport), []byte("SCCRQ"))
}

// reply is the host's answer to a packet that it got.
func reply(t testing.TB, got []byte) []byte {
	f := flowOf(t, got)
	info, _ := wire.ParseFlow(got, &f)
	src, dst := netip.AddrPortFrom(f.Dst, f.DstPort), netip.AddrPortFrom(f.Src, f.SrcPort)
	switch f.Proto {
	case wire.ProtoUDP:
		return wire.AppendUDPPacket(nil, src, dst, []byte("an answer"))
	case wire.ProtoTCP:
		return wire.AppendTCPPacket(nil, wire.TCP{Seq: 7, Flags: 0x12}, src, dst, []byte("an answer"))
	case wire.ProtoICMP:
		return wire.AppendEcho(nil, f.Dst, f.Src, true, binary.BigEndian.Uint16(got[info.Payload+4:]), 1, []byte("an answer"))
	}
	return append(wire.AppendIP(nil, f.Dst, f.Src, f.Proto, 8), make([]byte, 8)...)
}

func modes(t *testing.T, f func(t *testing.T, tunnel bool)) {
	for _, tunnel := range []bool{false, true} {
		t.Run(map[bool]string{false: "transport", true: "tunnel"}[tunnel], func(t *testing.T) { f(t, tunnel) })
	}
}

// Three clients with the same address, each from the same port to the same port of the
// same host: the host can tell them apart, and each gets what is for it, as if it were alone.
func TestClientsWithTheSameAddressAndPorts(t *testing.T) {
	for name, make := range map[string]func(c *crowd) []byte{
		"L2TP": func(c *crowd) []byte { return c.udp(1701, 1701) },
		"UDP without checksum": func(c *crowd) []byte {
			pkt := c.udp(1701, 1701)
			pkt[26], pkt[27] = 0, 0
			return pkt
		},
		"TCP": func(c *crowd) []byte {
			return wire.AppendTCPPacket(nil, wire.TCP{Seq: 1, Flags: 2}, netip.AddrPortFrom(crowdInside, 50000), netip.AddrPortFrom(c.host(), 80), nil)
		},
		"ping": func(c *crowd) []byte { return wire.AppendEcho(nil, crowdInside, c.host(), false, 1, 1, []byte("ping")) },
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, tunnel bool) {
				c := newCrowd(t, tunnel, 3)
				pkt, ports := make(c), map[uint16]bool{}
				f := flowOf(t, pkt)
				info, _ := wire.ParseFlow(pkt, new(wire.Flow))
				number := wire.PortsOf(pkt, info)
				var at [3][]byte
				for round := range 2 {
					for i := range c.clients {
						got := c.enters(i, pkt)
						p := wire.PortsOf(got, info)
						if g := flowOf(t, got); g.Src != c.seen() || g.Dst != f.Dst || p.Dst != number.Dst || round == 1 && !bytes.Equal(got, at[i]) {
							t.Fatalf("client %d, round %d: the host gets %x", i, round, got)
						}
						if i == 0 && p.Src != number.Src || i > 0 && p.Src < firstPort || ports[p.Src] != (round == 1) {
							t.Fatalf("client %d comes from port %d", i, p.Src)
						}
						at[i], ports[p.Src] = got, true
					}
				}
				for _, i := range []int{1, 0, 2, 1} {
					got := c.out(i, reply(t, at[i]))
					if p := wire.PortsOf(got, info); p.Dst != number.Src || p.Src != number.Dst || flowOf(t, got).Dst != crowdInside {
						t.Fatalf("client %d gets %x", i, got)
					}
				}
				in, out := uint64(len(pkt)*6), uint64(len(reply(t, at[0]))*4)
				c.server.moved(t, nil, map[string]uint64{"rx-packets": 6, "rx-bytes": in, "tx-packets": 4, "tx-bytes": out, "rx-flows-translated": 2})
			})
		})
	}
}

// Other ports of one client do not concern the other, in either order.
func TestClientsWithOtherPorts(t *testing.T) {
	modes(t, func(t *testing.T, tunnel bool) {
		c := newCrowd(t, tunnel, 2)
		for i, port := range []uint16{5000, 5001} {
			if got := flowOf(t, c.enters(i, c.udp(port, 1701))); got.SrcPort != port {
				t.Errorf("client %d comes from %d", i, got.SrcPort)
			}
		}
		for i, port := range []uint16{5000, 5001, 5000} {
			c.out(i%2, wire.AppendUDPPacket(nil, netip.AddrPortFrom(c.host(), 1701), netip.AddrPortFrom(c.seen(), port), nil))
		}
	})
}

// What has no ports belongs to who came first; the other's is not let in, and answers
// do not get to it.
func TestClientsWithoutPorts(t *testing.T) {
	modes(t, func(t *testing.T, tunnel bool) {
		c := newCrowd(t, tunnel, 2)
		gre := append(wire.AppendIP(nil, crowdInside, c.host(), 47, 8), make([]byte, 8)...)
		got := c.enters(0, gre)
		if _, r := c.in(1, gre); r != InFlowErrors {
			t.Fatalf("the other's: %v", r)
		}
		c.out(0, reply(t, got))
		n := uint64(len(gre))
		c.server.moved(t, nil, map[string]uint64{"rx-packets": 1, "rx-bytes": n, "in-flow-errors": 1, "tx-packets": 1, "tx-bytes": n})
	})
}

// What the host begins goes to the only client, and to none of several.
func TestHostBegins(t *testing.T) {
	modes(t, func(t *testing.T, tunnel bool) {
		c := newCrowd(t, tunnel, 1)
		pkt := wire.AppendUDPPacket(nil, netip.AddrPortFrom(c.host(), 9), netip.AddrPortFrom(c.seen(), 10), nil)
		c.out(0, pkt)
		c.connect(0) // a rekey makes no other client of it
		c.out(0, pkt)
		c.clients = append(c.clients, c.clients[0])
		c.newest = append(c.newest, 0)
		c.connect(1)
		before := c.server.values()
		f := flowOf(t, pkt)
		if x := c.server.path.ExplainOut(c.now, &f); x.Reason != OutFlowErrors || x.SA != nil {
			t.Errorf("explained as %+v", x)
		}
		if r := c.server.path.SendPlain(c.now, pkt); r != OutFlowErrors {
			t.Errorf("%v", r)
		}
		c.server.moved(t, before, map[string]uint64{"out-flow-errors": 1})
		c.server.log.want(t)
	})
}

// Rekeys in any order leave flows where they are. Who has gone gets nothing, and
// nobody else gets what was for it, until another client uses the same ports.
func TestConversationsOutliveTheirSAs(t *testing.T) {
	modes(t, func(t *testing.T, tunnel bool) {
		c := newCrowd(t, tunnel, 2)
		pkt := c.udp(1701, 1701)
		at := [2][]byte{c.enters(0, pkt), c.enters(1, pkt)}
		for _, i := range []int{0, 1, 1, 0} {
			old := c.newest[i]
			c.connect(i)
			c.server.sads.Retire(old)
			for j := range 2 {
				c.out(j, reply(t, at[j]))
				if got := c.enters(j, pkt); !bytes.Equal(got, at[j]) {
					t.Fatalf("after a rekey client %d comes as %x", j, got)
				}
			}
			c.server.sads.Remove(old)
		}
		c.server.log.lines = nil
		for id := range c.serial {
			if child := c.server.sads.Child(id + 1); child != nil && child.Client == 1 {
				c.server.sads.Remove(id + 1)
			}
		}
		before := c.server.values()
		if r := c.server.path.SendPlain(c.now, reply(t, at[0])); r != OutNoStates {
			t.Errorf("for the client that has gone: %v", r)
		}
		c.server.log.want(t, "acquire 1")
		c.server.moved(t, before, map[string]uint64{"out-no-states": 1})
		c.out(1, reply(t, at[1]))
		// It keeps the port that it has, and a new flow with the other's has its own.
		if got := c.enters(1, pkt); !bytes.Equal(got, at[1]) {
			t.Errorf("now it comes as %x", got)
		}
		c.clients, c.newest = append(c.clients, newGateway()), append(c.newest, 0)
		c.clients[2].pols.Replace([]spd.Policy{{Ref: 1, Pair: c.pair(false), Action: spd.Encrypt, Tunnel: tunnel}})
		c.connect(2)
		if got := c.enters(2, pkt); !bytes.Equal(got, at[0]) {
			t.Errorf("the next client comes as %x", got)
		}
		c.out(2, reply(t, at[0]))
	})
}

// Silence makes a flow unknown, after a time of its protocol's; as long as
// nobody else came the client has the same port again.
func TestConversationsAge(t *testing.T) {
	for _, x := range []struct {
		life time.Duration
		pkt  func(c *crowd) []byte
	}{
		{flowUDP, func(c *crowd) []byte { return c.udp(1701, 1701) }},
		{flowEcho, func(c *crowd) []byte { return wire.AppendEcho(nil, crowdInside, c.host(), false, 1, 1, nil) }},
		{flowTCP, func(c *crowd) []byte {
			return wire.AppendTCPPacket(nil, wire.TCP{}, netip.AddrPortFrom(crowdInside, 50000), netip.AddrPortFrom(c.host(), 80), nil)
		}},
	} {
		c := newCrowd(t, true, 3)
		pkt := x.pkt(c)
		at := [2][]byte{c.enters(0, pkt), c.enters(1, pkt)}
		c.now = c.now.Add(x.life)
		c.out(1, reply(t, at[1])) // answers count too
		c.now = c.now.Add(time.Second)
		if r := c.server.path.SendPlain(c.now, reply(t, at[0])); r != OutFlowErrors {
			t.Errorf("%v of silence: %v", c.now.Sub(start), r)
		}
		c.out(1, reply(t, at[1]))
		if got := c.enters(0, pkt); !bytes.Equal(got, at[0]) {
			t.Errorf("it comes again as %x", got)
		}
		c.out(0, reply(t, at[0]))
		c.now = c.now.Add(x.life + 1)
		if got := c.enters(2, pkt); !bytes.Equal(got, at[0]) {
			t.Errorf("another comes as %x", got)
		}
		got := c.enters(0, pkt)
		c.out(2, reply(t, at[0]))
		c.out(0, reply(t, got))
	}
}

// A client that begins flows without end loses its own; those of others stay.
func TestConversationsAreBounded(t *testing.T) {
	c := newCrowd(t, true, 2)
	pkt := c.udp(1701, 1701)
	var at [40][]byte
	x := &c.server.path.flows
	for i := range at {
		at[i] = c.enters(0, c.udp(uint16(1000+i), 1701))
	}
	c.now = c.now.Add(time.Second)
	flood := fiveTuple{client: 2, remote: crowdInside, local: crowdLAN, proto: wire.ProtoUDP}
	r := rand.New(rand.NewPCG(1, 1))
	for range 300_000 {
		flood.rport, flood.lport = uint16(r.Uint32()), uint16(r.Uint32())
		if x.of(flood) == nil && x.learn(flood, true, c.now.UnixNano()) == nil {
			t.Fatal("not taken in")
		}
	}
	for i := range at {
		c.out(0, reply(t, at[i]))
	}
	got := c.enters(1, pkt)
	c.out(1, reply(t, got))
	sent, seen := map[*entry]bool{}, map[*entry]bool{}
	for i := range flowSets {
		for j := range flowWays {
			sent[x.ends.Load().sent[i].at[j].Load()] = true
			seen[x.ends.Load().seen[i].at[j].Load()] = true
		}
	}
	for k := range sent {
		if !seen[k] {
			t.Fatalf("%+v is known at one end only", k)
		}
	}
	if len(sent) != len(seen) || len(sent) < flowSets*flowWays/2 {
		t.Errorf("%d and %d", len(sent), len(seen))
	}
}

// All ports that could be given are taken by others: that is said, and theirs stay theirs.
func TestNoPortIsLeft(t *testing.T) {
	c := newCrowd(t, true, 3)
	pkt := c.udp(1701, 1701)
	c.enters(0, pkt)
	x := &c.server.path.flows
	mine := fiveTuple{2, crowdInside, crowdLAN, 1701, 1701, wire.ProtoUDP}
	for i := range uint64(portTries) {
		taken := mine
		taken.client, taken.rport = 3, firstPort+uint16((mine.hash(x.seed)>>20+i)%manyPorts)
		if k := x.learn(taken, true, c.now.UnixNano()); k == nil || k.port != taken.rport {
			t.Fatalf("%+v", k)
		}
	}
	before := c.server.values()
	if _, r := c.in(1, pkt); r != InFlowErrors {
		t.Errorf("%v", r)
	}
	c.server.moved(t, before, map[string]uint64{"in-flow-errors": 1})
}

// What ICMP says of a flow goes to whom it concerns, and speaks of the ports
// that they know.
func TestICMPAboutConversations(t *testing.T) {
	c := newCrowd(t, true, 2)
	router := netip.MustParseAddr("10.1.0.1")
	pkt := c.udp(1701, 1701)
	at := [2][]byte{c.enters(0, pkt), c.enters(1, pkt)}
	for _, i := range []int{0, 1, 0} {
		tooBig := wire.AppendICMPPacket(nil, wire.ICMP{Type: wire.ICMPUnreachable, Code: 4, Rest: 1300}, router, crowdInside, at[i])
		if got := c.out(i, tooBig); !bytes.Equal(got[28:], pkt) {
			t.Errorf("client %d is told of %x, not of %x", i, got[28:], pkt)
		}
		answer := reply(t, at[i])
		gets := c.out(i, answer)
		unreachable := wire.AppendICMPPacket(nil, wire.ICMP{Type: wire.ICMPUnreachable, Code: 3}, crowdInside, crowdLAN, gets[:28])
		got := c.enters(i, unreachable)
		if q, ok := wire.QuoteOf(got, mustParse(t, got)); !ok || q.Ports.Dst != flowOf(t, answer).DstPort {
			t.Errorf("the host is told of %+v by client %d", q, i)
		}
	}
	other := wire.AppendICMPPacket(nil, wire.ICMP{Type: wire.ICMPUnreachable, Code: 3}, router, crowdInside, c.udp(9, 9))
	if r := c.server.path.SendPlain(c.now, other); r != OutFlowErrors {
		t.Errorf("about a flow that nobody knows: %v", r)
	}
}

func mustParse(t testing.TB, pkt []byte) wire.Info {
	t.Helper()
	info, ok := wire.ParseFlow(pkt, new(wire.Flow))
	if !ok {
		t.Fatalf("%x", pkt)
	}
	return info
}

// Fragments wait for their packet, whose ports say whose it is.
func TestFragmentsOfConversations(t *testing.T) {
	c := newCrowd(t, true, 2)
	large := func(src, dst netip.AddrPort) []byte { return wire.AppendUDPPacket(nil, src, dst, make([]byte, 2000)) }
	pkt := large(netip.AddrPortFrom(crowdInside, 1701), netip.AddrPortFrom(crowdLAN, 1701))
	at := [2][]byte{}
	for i := range at {
		pieces := cutInTwo(t, pkt, uint32(7+i))
		if r := c.clients[i].path.SendPlain(c.now, pieces[0]); r != Passed || c.carry(c.clients[i], c.server) != Passed {
			t.Fatalf("%v", r)
		}
		if got := c.server.host.take(); len(got) != 0 {
			t.Fatal("a fragment is let in")
		}
		at[i] = c.enters(i, pieces[1])
	}
	if a, b := flowOf(t, at[0]), flowOf(t, at[1]); a.SrcPort != 1701 || b.SrcPort < firstPort {
		t.Fatalf("%v, %v", a, b)
	}
	for i := range at {
		f := flowOf(t, at[i])
		back := cutInTwo(t, large(netip.AddrPortFrom(f.Dst, f.DstPort), netip.AddrPortFrom(f.Src, f.SrcPort)), uint32(17+i))
		if r := c.server.path.SendPlain(c.now, back[0]); r != Passed || len(c.server.conn.take()) != 0 {
			t.Fatalf("a fragment leaves, %v", r)
		}
		if r := c.server.path.SendPlain(c.now, back[1]); r != Passed {
			t.Fatal(r)
		}
		sent := c.server.conn.take()
		for _, data := range sent {
			if r := c.clients[i].path.Receive(c.now, datagram(data)); r != Passed {
				t.Fatalf("not for client %d: %v", i, r)
			}
		}
		if got := c.clients[i].host.take(); len(got) == 0 || flowOf(t, got[0]).DstPort != 1701 {
			t.Errorf("client %d gets %d packets", i, len(got))
		}
	}
}

func cutInTwo(t testing.TB, pkt []byte, id uint32) (list [][]byte) {
	t.Helper()
	pkt = bytes.Clone(pkt)
	pkt[6] = 0 // it may be cut
	wire.FillIPv4Checksum(pkt)
	binary.BigEndian.PutUint16(pkt[4:], uint16(id))
	cut, ok := wire.NewCutter(pkt, 1300, id)
	if !ok {
		t.Fatal("cannot be cut")
	}
	for more := true; more; {
		var piece []byte
		piece, more = cut.Next(nil)
		list = append(list, piece)
	}
	if len(list) != 2 {
		t.Fatalf("%d pieces", len(list))
	}
	return list
}

// Who is told that a packet is too long is told of the packet that it sent.
func TestTooBigOfAConversation(t *testing.T) {
	c := newCrowd(t, true, 2)
	c.server.sads.Path(crowdHost, crowdNAT).Learn(1000, c.now.UnixNano())
	pkt := c.udp(1701, 1701)
	c.enters(0, pkt)
	f := flowOf(t, c.enters(1, pkt))
	long := wire.AppendUDPPacket(nil, netip.AddrPortFrom(f.Dst, f.DstPort), netip.AddrPortFrom(f.Src, f.SrcPort), make([]byte, 1200))
	if r := c.server.path.SendPlain(c.now, long); r != OutTooBig {
		t.Fatalf("%v", r)
	}
	got := c.sole(c.server)
	if q, ok := wire.QuoteOf(got, mustParse(t, got)); !ok || q.Ports.Dst != f.SrcPort {
		t.Errorf("told of %+v, sent to %d", q, f.SrcPort)
	}
}

// Explained is what is done.
func TestExplainedConversations(t *testing.T) {
	modes(t, func(t *testing.T, tunnel bool) {
		c := newCrowd(t, tunnel, 2)
		pkt := c.udp(1701, 1701)
		for i := range 2 {
			f := flowOf(t, c.enters(i, pkt)).Reverse()
			if x := c.server.path.ExplainOut(c.now, &f); x.Reason != Passed || x.SA.ID != c.newest[i] {
				t.Errorf("client %d: %+v", i, x)
			}
		}
	})
}

// A policy that names the client's port covers what comes with another one too.
func TestPortStrictPolicyOfClients(t *testing.T) {
	c := newCrowd(t, false, 2)
	strict := c.pair(true)
	strict.Local.Proto, strict.Remote.Proto = wire.ProtoUDP, wire.ProtoUDP
	strict.Local.PortLo, strict.Local.PortHi, strict.Remote.PortLo, strict.Remote.PortHi = 1701, 1701, 1701, 1701
	below := c.pair(true)
	c.server.pols.Replace([]spd.Policy{{Ref: 1, Pair: strict, Action: spd.Encrypt, Level: spd.Unique}, {Ref: 2, Pair: below, Action: spd.Discard}})
	pkt := c.udp(1701, 1701)
	at := [2][]byte{c.enters(0, pkt), c.enters(1, pkt)}
	c.out(1, reply(t, at[1]))
	c.out(0, reply(t, at[0]))
	stranger := wire.AppendUDPPacket(nil, netip.AddrPortFrom(crowdHost, 1701), netip.AddrPortFrom(crowdNAT, 7), nil)
	if r := c.server.path.SendPlain(c.now, stranger); r != OutPolicyBlocked {
		t.Errorf("%v", r)
	}
}

// One client's policy is for one port and another's for all: whichever stands first, each
// client has its own flows.
func TestOverlappingPoliciesOfClients(t *testing.T) {
	c := newCrowd(t, false, 2)
	narrow := c.pair(true)
	narrow.Local.Proto, narrow.Remote.Proto = wire.ProtoUDP, wire.ProtoUDP
	narrow.Remote.PortLo, narrow.Remote.PortHi = 1701, 1701
	pols := []spd.Policy{{Ref: 2, Pair: narrow, Action: spd.Encrypt, Level: spd.Unique}, {Ref: 1, Pair: c.pair(true), Action: spd.Encrypt, Level: spd.Unique}}
	c.policy = 2
	c.connect(1)
	for range 2 {
		c.server.pols.Replace(pols)
		at := [2][]byte{c.enters(0, c.udp(1701, 1701)), c.enters(1, c.udp(1701, 1701))}
		c.out(1, reply(t, at[1]))
		c.out(0, reply(t, at[0]))
		pols[0], pols[1] = pols[1], pols[0]
	}
}

// Packets of all flows in one batch, in any order: each goes where it would alone.
func TestConversationsInOneBatch(t *testing.T) {
	modes(t, func(t *testing.T, tunnel bool) {
		c := newCrowd(t, tunnel, 3)
		ping := wire.AppendEcho(nil, crowdInside, c.host(), false, 1, 1, []byte("ping"))
		type packet struct {
			client int
			pkt    []byte
		}
		var all []packet
		for i := range c.clients {
			for _, pkt := range [][]byte{c.udp(1701, 1701), c.udp(uint16(2000+i), 1701), ping} {
				all = append(all, packet{i, reply(t, c.enters(i, pkt))})
			}
		}
		w := newOutWorker(c.server.path, c.server.path.edges(), 128, maxPacket)
		defer w.sads.Close()
		r := rand.New(rand.NewPCG(3, 3))
		var want [3]int
		for i := range w.bufs {
			p := all[r.IntN(len(all))]
			if i%4 == 3 { // runs too
				p = all[want[0]%len(all)]
			}
			want[p.client]++
			w.sizes[i] = copy(w.bufs[i][underlay.Headroom:], p.pkt)
		}
		if r := w.batch(c.now.UnixNano(), len(w.bufs)); r != Passed {
			t.Fatal(r)
		}
		var got [3]int
		for _, data := range c.server.conn.take() {
			for i, g := range c.clients {
				if r := g.path.Receive(c.now, datagram(data)); r == Passed {
					got[i]++
					f, pkt := flowOf(t, c.sole(g)), uint16(1701)
					if f.Proto == wire.ProtoUDP && f.DstPort != pkt && f.DstPort != uint16(2000+i) {
						t.Errorf("client %d gets %v", i, f)
					}
				}
			}
		}
		if got != want {
			t.Errorf("the clients get %v, not %v", got, want)
		}
	})
}

// Neither line allocates while flows go on.
func TestConversationsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := newCrowd(t, true, 2)
	pkt := c.udp(1701, 1701)
	c.enters(0, pkt)
	back := reply(t, c.enters(1, pkt))
	var sealed [200]*underlay.Packet
	for i := range sealed {
		if r := c.clients[1].path.SendPlain(c.now, pkt); r != Passed {
			t.Fatal(r)
		}
		sealed[i] = datagram(c.clients[1].conn.take()[0])
	}
	c.server.log.quiet = true
	i := 0
	if n := testing.AllocsPerRun(len(sealed)-1, func() {
		if r := c.server.path.Receive(c.now, sealed[i]); r != Passed {
			t.Fatal(r)
		}
		i++
		c.server.host.n = 0
		if r := c.server.path.SendPlain(c.now, back); r != Passed {
			t.Fatal(r)
		}
		c.server.conn.n = 0
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whoever begins flows at the same time, no two of them look alike to the host,
// and each is found from both ends.
func TestConversationsOfManyWorkers(t *testing.T) {
	x := &flows{alive: func(uint64) bool { return true }}
	var all sync.WaitGroup
	mine := func(client uint64, i int) fiveTuple {
		return fiveTuple{client, crowdInside, crowdLAN, uint16(i), 1701, wire.ProtoUDP}
	}
	for worker := range 8 {
		all.Go(func() {
			for i := range 1000 {
				m := mine(uint64(worker/2), (i+worker*100)%1000) // two workers for each client
				k := x.of(m)
				if k == nil {
					k = x.learn(m, true, int64(i))
				}
				if x.answered(k.seen(), int64(i)) != k {
					t.Errorf("%+v is not found", k.seen())
				}
			}
		})
	}
	all.Wait()
	seen := map[fiveTuple]bool{}
	for client := range uint64(4) {
		for i := range 1000 {
			k := x.of(mine(client, i))
			if k == nil || seen[k.seen()] {
				t.Fatalf("client %d, %d: %+v", client, i, k)
			}
			seen[k.seen()] = true
		}
	}
}

func BenchmarkConversation(b *testing.B) {
	for _, n := range []int{2, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, true, 2)
			x := &c.server.path.flows
			list := make([]fiveTuple, n)
			for i := range list {
				list[i] = fiveTuple{uint64(i%2 + 1), crowdInside, crowdLAN, uint16(i / 2), 1701, wire.ProtoUDP}
				x.learn(list[i], true, c.now.UnixNano())
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if k := x.of(list[i%n]); k != nil { // a full set has forgotten a few
					k.touch(c.now.UnixNano())
					x.answered(k.seen(), c.now.UnixNano())
				}
				i++
			}
		})
	}
}
