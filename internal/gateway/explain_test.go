package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/ike/core"
	"culvert/internal/operate/control"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// chance makes policies and packets that often meet.
type chance struct{ *rand.Rand }

func (r chance) pick(s ...string) netip.Addr { return netip.MustParseAddr(s[r.IntN(len(s))]) }

func (r chance) end(v6 bool) netip.Addr {
	if v6 {
		return r.pick("2001:db8:101::1", "2001:db8:101::ffff", "2001:db8:102::1", "2001:db8:103::9")
	}
	return r.pick("10.1.101.0", "10.1.101.77", "10.1.101.255", "10.1.102.3", "10.1.102.200", "10.1.103.1", "192.0.2.1", "192.0.2.2")
}

var chancePorts = []uint16{0, 22, 23, 443, 4500, 65535}

// packet is a random packet and its flow, as the data path itself reads it.
func (r chance) packet() (pkt []byte, f wire.Flow) {
	v6 := r.IntN(3) == 0
	src, dst := r.end(v6), r.end(v6)
	from, to := netip.AddrPortFrom(src, chancePorts[r.IntN(6)]), netip.AddrPortFrom(dst, chancePorts[r.IntN(6)])
	switch n := r.IntN(10); {
	case n < 3:
		pkt = wire.AppendTCPPacket(nil, wire.TCP{}, from, to, []byte("x"))
	case n < 6:
		pkt = wire.AppendUDPPacket(nil, from, to, []byte("x"))
	case n < 8:
		pkt = wire.AppendEcho(nil, src, dst, r.IntN(2) == 0, 1, 1, nil)
	case n == 8 && !v6: // a fragment that is not the first
		pkt = wire.IPv4{TTL: 64, Proto: uint8(6 + 11*r.IntN(2)), FragOffset: 1400, Src: src, Dst: dst}.Append(nil, 8)
		pkt = append(pkt, make([]byte, 8)...)
	default:
		pkt = append(wire.AppendIP(nil, src, dst, 47, 8), make([]byte, 8)...)
	}
	if _, ok := wire.ParseFlow(pkt, &f); !ok {
		panic("an impossible packet")
	}
	return pkt, f
}

// policies are those that have SAs, and others around them, in any order.
func (r chance) policies(real []spd.Policy) []spd.Policy {
	list := slices.Clone(real)
	for i := range 1 + r.IntN(6) {
		v6 := r.IntN(3) == 0
		p := spd.Policy{Ref: uint32(1000 + i), Action: spd.Action(r.IntN(3)), Level: spd.Level(r.IntN(3)), Tunnel: true, Dead: r.IntN(4) == 0}
		end := func() selector.TS {
			a := r.end(v6)
			prefix, _ := a.Prefix([]int{0, 8, 24, a.BitLen()}[r.IntN(4)])
			return selector.FromPrefix(prefix)
		}
		p.Pair = selector.Pair{Local: end(), Remote: end()}
		if r.IntN(2) == 0 {
			proto := []uint8{6, 17, 1, 47}[r.IntN(4)]
			p.Pair.Local.Proto, p.Pair.Remote.Proto = proto, proto
			if port := chancePorts[r.IntN(6)]; (proto == 6 || proto == 17) && r.IntN(2) == 0 {
				p.Pair.Remote.PortLo, p.Pair.Remote.PortHi = port, port
			}
		}
		list = slices.Insert(list, r.IntN(len(list)+1), p)
	}
	return list
}

// waiting is what else becomes of fragments that wait: they come twice, or so many
// that there is no room.
var waiting = map[datapath.Reason]bool{
	datapath.OutFragmentErrors: true, datapath.OutBufferErrors: true, datapath.InFragmentErrors: true, datapath.InBufferErrors: true,
}

// What explain says of a packet is what becomes of it, both ways, on 10^5
// packets of each.
func TestExplainIsWhatHappens(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	w.esp = simnet.New(1, simnet.Link{Loss: 1})
	real := slices.Clone(w.west.plane.Policies.Policies())
	r := chance{rand.New(rand.NewPCG(11, 12))}
	path := w.west.plane.Path
	seen := map[datapath.Reason]int{}
	var remote []*sad.Child
	remote = append(remote, w.east.plane.SAs.Children()...)
	buf := make([]byte, 4096)
	now := w.clock.Now()
	const packets = 100_000
	for i := range packets {
		if i%500 == 0 {
			w.west.plane.Policies.Replace(r.policies(real))
		}
		if i == packets-2000 {
			now = now.Add(time.Hour) // past the hard limits
		}
		pkt, f := r.packet()
		e := path.ExplainOut(now, &f)
		if got := path.SendPlain(now, pkt); got != e.Reason && !(e.Waits && waiting[got]) {
			t.Fatalf("out %v: %v, explained as %+v", f, got, e)
		}
		seen[e.Reason]++

		pkt, f = r.packet()
		c := remote[r.IntN(len(remote))]
		seq, _ := c.Outbound().Reserve(1)
		next := uint8(4)
		if f.Src.Is6() {
			next = 41
		}
		n := copy(buf[underlay.Headroom:], pkt)
		start, end := c.Outbound().Transform().Seal(buf, underlay.Headroom, n, seq, next)
		spi := esp.SPI(buf[start:end])
		if r.IntN(20) == 0 {
			spi ^= 0x5000
			buf[start+2] ^= 0x50
		}
		e = path.ExplainIn(now, &f, spi)
		ends := c.Endpoint()
		got := path.Receive(now, &underlay.Packet{Buf: buf, Off: start, Len: end - start, Local: ends.Remote, Remote: ends.Local, Kind: underlay.ESP, NATT: true})
		if got != e.Reason && !(e.Waits && waiting[got]) {
			t.Fatalf("in %v by %08x: %v, explained as %+v", f, spi, got, e)
		}
		seen[e.Reason]++
		for len(w.west.device.Outgoing()) > 0 {
			<-w.west.device.Outgoing()
		}
	}
	for _, want := range []datapath.Reason{datapath.Passed, datapath.OutPolicyErrors, datapath.OutPolicyBlocked, datapath.OutUnprotected, datapath.OutNoStates,
		datapath.OutStateExpired, datapath.OutPolicyDead, datapath.InNoStates, datapath.InPolicyErrors, datapath.InTemplateMismatches, datapath.InPolicyBlocked, datapath.InStateExpired} {
		if seen[want] == 0 {
			t.Errorf("%v was never met: %v", want, seen)
		}
	}
}

func query(s string) (q control.PacketQuery) {
	f := strings.Fields(s)
	q = control.PacketQuery{Src: f[0], Dst: f[1], Protocol: f[2]}
	if len(f) > 3 {
		fmt.Sscan(f[3], &q.DstPort)
	}
	return q
}

// What a person reads of it.
func TestExplainPacket(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.east.mustConfigure(passive(site(westAddr, "102", "101")))
	w.west.mustConfigure("[[policy]]\nsrc-address = \"10.1.101.0/24\"\ndst-address = \"10.1.102.0/24\"\nprotocol = \"tcp\"\ndst-port = 23\naction = \"discard\"\n" + site(eastAddr, "101", "102"))
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	for _, c := range []struct {
		query   string
		in      bool
		verdict string
		counter string
		why     []string
	}{
		{"10.1.101.5 10.1.102.6 tcp 443", false, "protect", "", []string{"policy 2 (test.toml:", "is the first that matches: 10.1.101.0/24 => 10.1.102.0/24", "it leaves through the SA 0x"}},
		{"10.1.101.5 10.1.102.6 tcp 23", false, "drop", "out-policy-blocked", []string{"policy 1 (test.toml:1)", "discards"}},
		{"10.1.101.5 10.1.103.6 udp 53", false, "pass-unprotected", "out-policy-errors", []string{"no policy matches", "policy 2 (test.toml:", "dst-address 10.1.102.0/24 does not contain 10.1.103.6", "if it reached culvert0, it would be dropped and counted in out-policy-errors"}},
		{"10.1.102.6 10.1.101.5 icmp", true, "deliver", "", []string{"policy 2", "it arrives through the SA 0x", "of peer other, mature"}},
		{"10.1.109.6 10.1.101.5 udp 53", true, "drop", "in-template-mismatches", []string{"no policy matches", "dst-address 10.1.102.0/24 does not contain 10.1.109.6", "compare src-address"}},
		{"2001:db8:101::1 2001:db8:102::1 gre", false, "protect", "", []string{"policy 3"}},
	} {
		q := query(c.query)
		q.Inbound = c.in
		x, err := w.west.view().ExplainPacket(q)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(x.Why, "\n")
		if x.Verdict != c.verdict || x.Counter != c.counter {
			t.Errorf("%s: %s %s\n%s", c.query, x.Verdict, x.Counter, text)
		}
		for _, want := range c.why {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", c.query, want, text)
			}
		}
	}
	if n := nonzero(w.west); n["out-policy-errors"]+n["out-policy-blocked"]+n["in-template-mismatches"] != 0 {
		t.Errorf("explaining counted: %v", n)
	}
	w.west.input(core.Command{Do: core.FlushSAs})
	w.run(10 * time.Millisecond)
	q := query("10.1.101.5 10.1.102.6 udp 1")
	if x, err := w.west.view().ExplainPacket(q); err != nil || x.Verdict != "drop" || !x.Acquire || x.Counter != "out-no-states" {
		t.Errorf("without SA: %+v, %v", x, err)
	}
}

// explained is what a node says of a packet.
func (n *node) explained(t *testing.T, query_ string, inbound bool) (control.PacketExplanation, string) {
	t.Helper()
	q := query(query_)
	q.Inbound = inbound
	x, err := n.view().ExplainPacket(q)
	if err != nil {
		t.Fatal(err)
	}
	return x, strings.Join(x.Why, "\n")
}

// Policies have the numbers of `policy print`, where those made from a template
// stand among the others.
func TestExplainMadePolicies(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.east.mustConfigure(warriorServer)
	w.west.mustConfigure(warriorClient)
	w.until("a tunnel", func() bool { return w.west.count(core.EvChildUp) >= 1 && w.east.count(core.EvChildUp) >= 1 })
	w.run(10 * time.Second)
	for _, c := range []struct {
		query  string
		policy int
		peer   string
		want   string
	}{
		{"10.5.8.9 192.168.77.2 icmp", 2, "ike2", "policy 2 (made from the template test.toml:23) is the first that matches: 0.0.0.0/0 => 192.168.77.2/32, action encrypt, level unique, peer ike2"},
		{"10.5.8.9 192.168.77.3 icmp", 3, "", "policy 3 (test.toml:30) is the first that matches: 0.0.0.0/0 => 0.0.0.0/0, action discard"},
	} {
		if x, text := w.east.explained(t, c.query, false); x.Policy != c.policy || x.Peer != c.peer || !strings.Contains(text, c.want) {
			t.Errorf("%s: %+v, want policy %d of %q: %s", c.query, x, c.policy, c.peer, c.want)
		}
	}
}

// Nobody asks the daemon for SAs by hand, and there is no peer to explain.
func TestExplainSAsByHand(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.west.mustConfigure(byHand + `[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.5.0.0/16"
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.2"
tunnel = true
level = "use"
`)
	x, text := w.west.explained(t, "10.1.0.1 10.2.0.1 icmp", false)
	if x.Acquire || x.Counter != "out-no-states" || !strings.Contains(text, "level require, with SAs that are added by hand") || !strings.Contains(text, "culvert sa add") || strings.Contains(text, "peer") {
		t.Errorf("%+v", x)
	}
	if x, text = w.west.explained(t, "10.1.0.1 10.5.0.1 icmp", false); x.Verdict != "pass-unprotected" || !strings.Contains(text, "culvert sa add") || strings.Contains(text, "peer") {
		t.Errorf("%+v", x)
	}
	sealed := sad.Params{ID: manualIDs, Policy: w.west.plane.Policies.Policies()[0].Ref, Peer: "manual", Manual: true, Protocol: sad.ProtocolESP, Tunnel: true,
		Pairs: []selector.Pair{w.west.plane.Policies.Policies()[0].Pair}, Local: netip.AddrPortFrom(westAddr, 0), Remote: netip.AddrPortFrom(eastAddr, 0),
		In:  esp.Params{SPI: 0x1001, Encr: suite.EncrByName("aes-128-gcm"), EncKey: make([]byte, 20)},
		Out: esp.Params{SPI: 0x1002, Encr: suite.EncrByName("aes-128-gcm"), EncKey: make([]byte, 20)}}
	if _, err := w.west.plane.SAs.Install(sealed); err != nil {
		t.Fatal(err)
	}
	if x, text = w.west.explained(t, "10.1.0.1 10.2.0.1 icmp", false); x.Verdict != "protect" || !strings.Contains(text, "the SA 0x00001002 added by hand, mature") {
		t.Errorf("%+v", x)
	}
}

// The last attempts with a peer, as they are told at the door of a gateway.
func TestExplainPeer(t *testing.T) {
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	other := strings.Replace(site(westAddr, "102", "101"), `enc-algorithm = "aes-128"`, `enc-algorithm = "aes-256"`, 1)
	east := launch(t, c, "east", eastAddr, passive(other))
	west := launch(t, c, "west", westAddr, site(eastAddr, "101", "102"))
	ctx := context.Background()
	var x control.PeerExplanation
	eventually(t, "refused", func() bool {
		var err error
		x, err = east.client().ExplainPeer(ctx, "other")
		return err == nil && len(x.Attempts) > 0
	})
	a := x.Attempts[0]
	if x.State != "down" || !strings.Contains(x.Note, "passive") || len(x.Policies) != 2 || !strings.Contains(x.Where, "east.toml:") ||
		a.Side != "responder" || a.Exchange != "IKE_SA_INIT" || a.Result != "no-proposal-chosen" || a.Part != "encryption" ||
		!slices.Contains(a.Ours, "encryption: aes-256") || !slices.Contains(a.Theirs, "encryption: aes-128") ||
		!strings.Contains(a.Hint, `add aes-128 to enc-algorithm of profile "ike2" (`+east.path+":5)") || a.RemoteAddress != westAddr.String()+":500" {
		t.Errorf("east: %+v", x)
	}
	eventually(t, "refused", func() bool {
		var err error
		x, err = west.client().ExplainPeer(ctx, "other")
		return err == nil && len(x.Attempts) > 0 && x.Attempts[0].Times > 1
	})
	a = x.Attempts[0]
	if len(x.Attempts) != 1 || a.Side != "initiator" || len(a.Theirs) != 0 || !slices.Contains(a.Ours, "encryption: aes-128") || !strings.Contains(a.Hint, "does not say") {
		t.Errorf("west: %+v", x)
	}
	if _, err := west.client().ExplainPeer(ctx, "nobody"); err == nil || !strings.Contains(err.Error(), "the peers are other") {
		t.Errorf("nobody: %v", err)
	}
	// What the hint says is done.
	writeFile(t, east.path, passive(strings.Replace(other, `enc-algorithm = "aes-256"`, `enc-algorithm = ["aes-256", "aes-128"]`, 1)))
	if _, err := east.client().Reload(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "established", func() bool {
		x, err := west.client().ExplainPeer(ctx, "other")
		return err == nil && x.State == "established" && x.Attempts[0].Result == "child-up"
	})
}

// What is held off after attempts that failed says so, and how long.
func TestExplainPeerHeldOff(t *testing.T) {
	w := newWorld(t, simnet.Link{})
	four, _, _ := strings.Cut(passive(site(westAddr, "102", "101")), "\n[[policy]]\npeer = \"other\"\nsrc-address = \"2001")
	w.east.mustConfigure(four)
	w.west.mustConfigure(site(eastAddr, "101", "102"))
	w.run(10 * time.Second)
	explain := func() []string {
		x, err := w.west.view().ExplainPeer("other")
		if err != nil || len(x.Policies) != 2 {
			t.Fatalf("%v, %v", x.Policies, err)
		}
		return x.Policies
	}
	const held = "the last 4 attempts failed, and the next one is made in "
	if got := explain(); strings.Contains(got[0], "attempts") || !strings.Contains(got[1], held) {
		t.Errorf("%q", got)
	}
	w.east.mustConfigure(passive(site(westAddr, "102", "101")))
	w.run(time.Minute)
	if got := explain(); strings.Contains(got[1], "attempts") || w.west.sealing() != 2 {
		t.Errorf("%q", got)
	}
}

// The commands name what is really accepted: every group of a pfs-group that is not written, and the key exchanges after the first.
func TestWhatIsAcceptedIsNamed(t *testing.T) {
	w := newWorld(t, simnet.Link{})
	w.west.mustConfigure(replaceOnce(t, replaceOnce(t, site(eastAddr, "101", "102"), `dh-group = "x25519"`, `dh-group = ["x25519+ml-kem-768", "ecp256"]`), `pfs-group = "x25519"`, ""))
	rows := w.west.view().Proposals()
	if want := "x25519,ecp256,ecp384,ecp521,modp3072,modp4096,modp2048,modp6144,modp8192,modp1024,none"; rows[0].PFSGroup != want {
		t.Errorf("pfs-group %q, want %q", rows[0].PFSGroup, want)
	}
	x, err := w.west.view().ExplainPeer("other")
	if err != nil || len(x.Offers) != 2 {
		t.Fatalf("%+v, %v", x.Offers, err)
	}
	for i, want := range []string{"additional key exchanges: ml-kem-768, none", "group: " + strings.ReplaceAll(rows[0].PFSGroup, ",", ", ")} {
		if !slices.Contains(x.Offers[i].Lines, want) {
			t.Errorf("%s: %q lacks %q", x.Offers[i].What, x.Offers[i].Lines, want)
		}
	}
}
