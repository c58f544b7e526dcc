package datapath

import (
	"bytes"
	"net/netip"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// unreachable is an error of somebody to somebody about the beginning of a packet.
func unreachable(by, to string, about []byte) []byte {
	a, b := netip.MustParseAddr(by), netip.MustParseAddr(to)
	h := wire.ICMP{Type: wire.ICMPUnreachable, Code: 1}
	if a.Is6() {
		h = wire.ICMP{Type: 1}
	}
	return wire.AppendICMPPacket(nil, h, a, b, about)
}

// A router behind the left answers packets that came out of the tunnel. Its address is
// outside the selectors: the error goes back by the tunnel, to who sent the packet.
func TestErrorsAboutProtectedPackets(t *testing.T) {
	for _, c := range []struct {
		name, router, sender, host string
		quote                      int // bytes of the quoted packet; 0: all
	}{
		{"IPv4", "192.168.9.1", "10.2.0.5", "10.1.0.7", 28},
		{"IPv4, all of it", "192.168.9.1", "10.2.0.5", "10.1.0.7", 0},
		{"IPv4, no ports", "192.168.9.1", "10.2.0.5", "10.1.0.7", 20},
		{"IPv6", "fd09::1", "fd02::5", "fd01::7", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newTunnel(t, ciphers[0])
			u.connect(1, 1, nil)
			u.connect(2, 2, nil)
			clear := &inClear{}
			u.left.path.cfg.Clear = clear
			about := udp(c.sender, c.host, 100)
			if c.quote != 0 {
				about = about[:c.quote]
			}
			pkt := unreachable(c.router, c.sender, about)
			if r := u.left.path.SendPlain(start, pkt); r != Passed {
				t.Fatalf("out: %v", r)
			}
			sealed := u.left.conn.take()
			if len(sealed) != 1 || len(clear.sent) != 0 {
				t.Fatalf("%d sealed, %d in clear", len(sealed), len(clear.sent))
			}
			if r := u.right.path.Receive(start, datagram(sealed[0])); r != Passed {
				t.Fatalf("in: %v", r)
			}
			if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
				t.Fatalf("%d packets arrived, or another one", len(got))
			}
			u.left.moved(t, nil, map[string]uint64{"tx-packets": 1, "tx-bytes": uint64(len(pkt)), "tx-icmp-related": 1})
			u.right.moved(t, nil, map[string]uint64{"rx-packets": 1, "rx-bytes": uint64(len(pkt)), "rx-icmp-related": 1})
		})
	}
}

// In one batch, an error about another flow does not go the way of the one before it.
func TestErrorsOfOneRouterAboutSeveralFlows(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	clear := &inClear{}
	u.left.path.cfg.Clear = clear
	pols := leftPolicies()
	u.left.pols.Replace(append(pols, spd.Policy{Ref: 9, Pair: pair("0.0.0.0/0", "0.0.0.0/0"), Action: spd.None}))
	w := newOutWorker(u.left.path, u.left.path.edges(), 3, maxPacket)
	for i, pkt := range [][]byte{
		unreachable("192.168.9.1", "10.2.0.5", udp("10.2.0.5", "10.1.0.7", 10)),
		unreachable("192.168.9.1", "10.2.0.5", udp("10.2.0.5", "192.168.9.9", 10)), // about what goes in clear
		unreachable("192.168.9.1", "10.2.0.5", udp("10.2.0.5", "10.1.0.8", 10)),
	} {
		w.sizes[i] = copy(w.bufs[i][128:], pkt)
	}
	if r := w.batch(start.UnixNano(), 3); r != Passed || u.left.conn.n != 2 || len(clear.sent) != 1 {
		t.Errorf("%v, %d sealed, %d in clear", r, u.left.conn.n, len(clear.sent))
	}
}

// What the left does with errors otherwise.
func TestErrorsThatHaveNoSA(t *testing.T) {
	about := udp("10.2.0.5", "10.1.0.7", 100)
	for _, c := range []struct {
		name string
		pkt  []byte
		pols func([]spd.Policy) []spd.Policy
		no   bool // there is no SA
		want Reason
		told []string
	}{
		{name: "no SA, and none is made", pkt: unreachable("192.168.9.1", "10.2.0.5", about), no: true, want: OutNoStates},
		{name: "of an address of the policy an SA is asked for", pkt: unreachable("10.1.0.1", "10.2.0.5", about), no: true, want: OutNoStates, told: []string{"acquire 1"}},
		{name: "about a flow of no policy", pkt: unreachable("192.168.9.1", "10.2.0.5", udp("10.2.0.5", "10.9.0.7", 9)), want: OutPolicyErrors},
		{name: "quotes nothing", pkt: unreachable("192.168.9.1", "10.2.0.5", nil), want: OutPolicyErrors},
		{name: "about what is discarded, in clear otherwise", pkt: unreachable("192.168.9.1", "10.2.0.5", about), want: OutPolicyBlocked,
			pols: func(p []spd.Policy) []spd.Policy {
				p[0].Action = spd.Discard
				return append(p, spd.Policy{Ref: 9, Pair: pair("0.0.0.0/0", "0.0.0.0/0"), Action: spd.None})
			}},
		{name: "an echo", pkt: wire.AppendEcho(nil, netip.MustParseAddr("192.168.9.1"), netip.MustParseAddr("10.2.0.5"), false, 1, 1, about), want: OutPolicyErrors},
	} {
		u := newTunnel(t, ciphers[0])
		if !c.no {
			u.connect(1, 1, nil)
		}
		if c.pols != nil {
			u.left.pols.Replace(c.pols(leftPolicies()))
		}
		u.left.log.lines = nil
		if r := u.left.path.SendPlain(start, c.pkt); r != c.want || u.left.conn.n != 0 {
			t.Errorf("%s: %v, want %v; %d sealed", c.name, r, c.want, u.left.conn.n)
		}
		u.left.log.want(t, c.told...)
	}
}

// A peer may report what became of packets to it, and nothing more: the left has an SA
// for everything here, the right's is as narrow as its policy.
func TestErrorsThatThePeerMakesUp(t *testing.T) {
	about := udp("10.2.0.5", "10.1.0.7", 100)
	for _, c := range []struct {
		name string
		pkt  []byte
		want Reason
	}{
		{"right", unreachable("192.168.9.1", "10.2.0.5", about), Passed},
		{"to another than who sent the packet", unreachable("192.168.9.1", "10.2.0.6", about), InTemplateMismatches},
		{"about a packet that was not for the peer", unreachable("192.168.9.1", "10.2.0.5", udp("10.2.0.5", "10.4.0.7", 9)), InTemplateMismatches},
		{"about a packet of the peer's own", unreachable("192.168.9.1", "10.2.0.5", udp("10.1.0.7", "10.2.0.5", 9)), InTemplateMismatches},
		{"in the name of our side", unreachable("10.2.0.1", "10.2.0.5", about), InTemplateMismatches},
		{"in the name of another peer's network", unreachable("10.3.0.1", "10.2.0.5", about), InTemplateMismatches},
		{"in the name of what is discarded", unreachable("10.5.0.1", "10.2.0.5", about), InPolicyBlocked},
		{"in the name of nobody", unreachable("0.0.0.0", "10.2.0.5", about), InTemplateMismatches},
		{"from a multicast address", unreachable("224.0.0.1", "10.2.0.5", about), InTemplateMismatches},
		{"an echo", wire.AppendEcho(nil, netip.MustParseAddr("192.168.9.1"), netip.MustParseAddr("10.2.0.5"), false, 1, 1, about), InTemplateMismatches},
		{"no ICMP", udp("192.168.9.1", "10.2.0.5", 100), InTemplateMismatches},
		{"quotes nothing", unreachable("192.168.9.1", "10.2.0.5", about[:12]), InTemplateMismatches},
	} {
		u := newTunnel(t, ciphers[0])
		u.left.pols.Replace([]spd.Policy{{Ref: 1, Pair: pair("0.0.0.0/0", "0.0.0.0/0"), Action: spd.Encrypt, Tunnel: true}})
		right := reversed(leftPolicies())
		right = append(right, spd.Policy{Ref: 3, Pair: pair("10.2.0.0/16", "10.3.0.0/16"), Action: spd.Encrypt, Tunnel: true},
			spd.Policy{Ref: 5, Pair: pair("10.2.0.0/16", "10.5.0.0/16"), Action: spd.Discard})
		u.right.pols.Replace(right)
		u.connect(1, 1, func(left, _ *sad.Params) { left.Pairs = []selector.Pair{pair("0.0.0.0/0", "0.0.0.0/0")} })
		if r := u.left.path.SendPlain(start, c.pkt); r != Passed {
			t.Fatalf("%s: out: %v", c.name, r)
		}
		r := u.right.path.Receive(start, datagram(u.left.conn.take()[0]))
		if n := len(u.right.host.take()); r != c.want || n != map[bool]int{true: 1}[c.want == Passed] {
			t.Errorf("%s: %v, want %v; %d delivered", c.name, r, c.want, n)
		}
	}
}
