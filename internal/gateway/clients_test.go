package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/host/guard"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

// uniqueServer is the L2TP server with a template of level unique.
var uniqueServer = strings.Replace(l2tpServer, "[[policy]]", "[[policy-group]]\nname = \"g\"\n[[policy]]\ntemplate = true\ngroup = \"g\"\nlevel = \"unique\"\n[[policy]]", 1) +
	"policy-template-group = \"g\"\n"

// behindOne is a world with a server and two clients behind one NAT, each of which is up.
func behindOne(t *testing.T, server string, client func(addr netip.Addr) string, profile string) (w *world, clients []*node, nat *simnet.NAT) {
	w = newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
	nat = simnet.NewNAT(outerAddr)
	third := netip.MustParseAddr("192.0.2.3")
	w.others = append(w.others, w.node(third, 7, 3))
	clients = []*node{w.west, w.others[0]}
	with := func(text string) string { return strings.Replace(text, "[[profile]]", "[[profile]]\n"+profile, 1) }
	w.east.mustConfigure(with(server))
	for _, c := range clients {
		w.net.Behind(netip.PrefixFrom(c.addr, 32), nat)
		c.mustConfigure(with(client(c.addr)))
		w.until("established", func() bool { return c.sealing() == 1 })
		w.run(10 * time.Second)
	}
	return w, clients, nat
}

// l2tp has each client send from port 1701 to port 1701 of the server, and the server
// answer each. It returns the ports that the server sees.
func (w *world) l2tp(clients []*node) (ports []uint16) {
	w.t.Helper()
	w.east.drain()
	for _, c := range clients {
		c.drain()
		pkt := wire.AppendUDPPacket(nil, netip.AddrPortFrom(c.addr, 1701), netip.AddrPortFrom(eastAddr, 1701), []byte(c.addr.String()))
		if r := c.plane.Send(w.clock.Now(), pkt); r != datapath.Passed {
			w.t.Fatalf("%v sends: %v", c.addr, r)
		}
		w.run(500 * time.Millisecond)
		_, f := w.arrives(w.east, c.addr.String())
		if f.Src != outerAddr || f.DstPort != 1701 {
			w.t.Fatalf("from %v arrives %v", c.addr, f)
		}
		ports = append(ports, f.SrcPort)
	}
	for i, c := range slices.Backward(clients) {
		pkt := wire.AppendUDPPacket(nil, netip.AddrPortFrom(eastAddr, 1701), netip.AddrPortFrom(outerAddr, ports[i]), []byte("for "+c.addr.String()))
		if r := w.east.plane.Send(w.clock.Now(), pkt); r != datapath.Passed {
			w.t.Fatalf("the server sends to %v, port %d: %v", c.addr, ports[i], r)
		}
		w.run(500 * time.Millisecond)
		if _, f := w.arrives(c, "for "+c.addr.String()); f.DstPort != 1701 || f.Dst != c.addr || f.Src != eastAddr {
			w.t.Fatalf("at %v arrives %v", c.addr, f)
		}
	}
	return ports
}

// arrives is the packet that a node's host gets, whose checksums are right and whose end is text.
func (w *world) arrives(n *node, text string) (pkt []byte, f wire.Flow) {
	w.t.Helper()
	select {
	case pkt = <-n.device.Outgoing():
	default:
		w.t.Fatalf("nothing arrives at %v: %v", n.addr, nonzero(n))
	}
	info, f, ok := parsed(pkt)
	if !ok || !wire.VerifyChecksum(pkt, info) || !wire.VerifyIPv4Checksum(pkt) || !strings.HasSuffix(string(pkt), text) {
		w.t.Fatalf("at %v arrives %x", n.addr, pkt)
	}
	return pkt, f
}

// Two clients of L2TP behind one NAT, both from port 1701 to port 1701, under a policy of
// the table and under a template that takes the ports as the client names them. Each has
// its own conversation, which neither rekeys of any SA by either end nor a NAT that
// forgets takes from it; what the server says to the second by another port is led to the
// device as long as there is somebody.
func TestTwoClientsBehindOneNAT(t *testing.T) {
	template := func(addr netip.Addr) string {
		text := strings.ReplaceAll(strings.ReplaceAll(l2tpClient, "SERVER", eastAddr.String()), "192.0.2.1/32", addr.String()+"/32")
		return strings.Replace(text, "dst-port = 1701", "src-port = 1701\ndst-port = 1701", 1)
	}
	for name, c := range map[string]struct {
		server  string
		client  func(addr netip.Addr) string
		profile string
		narrow  bool // without clients nothing is led to any port of theirs
	}{
		"a template":            {uniqueServer, template, "mobike = false", true},
		"a template, MOBIKE":    {uniqueServer, template, `dpd-interval = "8s"`, true},
		"a template, any port":  {strings.Replace(uniqueServer, "port-strict", "port-override", 1), template, "mobike = false", true},
		"a policy of the table": {passive(hostToHost(eastAddr, outerAddr, "[[policy]]", "[[policy]]\nlevel = \"unique\"")), func(a netip.Addr) string { return hostToHost(a, eastAddr) }, "mobike = false", false},
		"… that names the ports": {passive(hostToHost(eastAddr, outerAddr, "[[policy]]", "[[policy]]\nlevel = \"unique\"\nprotocol = \"udp\"\nsrc-port = 1701\ndst-port = 1701")), func(a netip.Addr) string {
			return hostToHost(a, eastAddr, "[[policy]]", "[[policy]]\nprotocol = \"udp\"\nsrc-port = 1701\ndst-port = 1701")
		}, "mobike = false", true},
	} {
		t.Run(name, func(t *testing.T) {
			w, clients, nat := behindOne(t, c.server, c.client, c.profile)
			if w.east.follows == 0 {
				t.Error("the host had nothing to follow")
			}
			before := w.l2tp(clients)
			if before[0] != 1701 || before[1] == 1701 {
				t.Fatalf("the server sees ports %d", before)
			}
			led := func() (narrow bool) { // to one port of the clients, or not at all
				for _, r := range w.east.plane.Plan(w.east.comp).Routes {
					if r.Remote == netip.PrefixFrom(outerAddr, 32) {
						return r.RemotePort != 0
					}
				}
				return true
			}
			if led() {
				t.Errorf("routes %+v", w.east.plane.Plan(w.east.comp).Routes)
			}
			same := func(what string) {
				t.Helper()
				w.run(10 * time.Second)
				if now := w.l2tp(clients); !slices.Equal(now, before) {
					t.Errorf("after %s the server sees ports %d, not %d", what, now, before)
				}
			}
			for _, n := range append(slices.Clone(clients), w.east) {
				n.input(core.Command{Do: core.RekeyChildren})
				same("a rekey of the CHILD SAs")
				n.input(core.Command{Do: core.RekeyIKE})
				same("a rekey of the IKE SAs")
			}
			nat.Flush()
			for range 20 { // who has moved says so, or is heard
				for _, n := range clients {
					n.plane.Send(w.clock.Now(), wire.AppendUDPPacket(nil, netip.AddrPortFrom(n.addr, 1701), netip.AddrPortFrom(eastAddr, 1701), nil))
				}
				w.run(time.Second)
			}
			same("the NAT forgot")
			if n := w.east.count(core.EvIKEUp); n != 2 {
				t.Errorf("%d IKE SAs were made", n)
			}

			// The first one leaves. What was for it reaches nobody; the second goes on.
			clients[0].input(core.Command{Do: core.Shutdown})
			w.run(10 * time.Second)
			late := wire.AppendUDPPacket(nil, netip.AddrPortFrom(eastAddr, 1701), netip.AddrPortFrom(outerAddr, before[0]), []byte("too late"))
			if r := w.east.plane.Send(w.clock.Now(), late); r != datapath.OutNoStates {
				t.Errorf("for who has left: %v", r)
			}
			if now := w.l2tp(clients[1:]); now[0] != before[1] || led() {
				t.Errorf("the server sees port %d of the second, not %d", now[0], before[1])
			}
			clients[1].input(core.Command{Do: core.Shutdown})
			w.run(10 * time.Second)
			if len(w.east.plane.Clients) != 0 || led() != c.narrow {
				t.Errorf("left are %v; routes %+v", w.east.plane.Clients, w.east.plane.Plan(w.east.comp).Routes)
			}
		})
	}
}

// Clients of a template outside pools come at once. Host and guard know of each before
// its SA is there and before the message leaves after which it may send. Those that come together share one following.
func TestHostFollowsBeforeClientsMaySend(t *testing.T) {
	const clients = 20
	c := newChanging(t)
	w, server := c.w, c.w.east
	if err := c.change(t, l2tpServer, nil); err != nil {
		t.Fatal(err)
	}
	server.comp, server.gathers = c.compiled, true
	c.plane.Config.Serve = server.serve // in this goroutine
	server.followed = func() tun.Plan {
		plans, flows := server.host.Plans(), c.guard.Plans()
		plan, guarded := plans[len(plans)-1], flows[len(flows)-1]
		for _, r := range plan.Routes {
			if !slices.ContainsFunc(guarded.Flows, func(f guard.Flow) bool { return f.Remote == r.Remote && f.LocalPort == r.LocalPort }) {
				t.Errorf("the guard does not know %v", r)
			}
		}
		return plan
	}
	var nodes []*node
	for i := range clients {
		n := w.node(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}), 7, byte(100+i))
		w.others, nodes = append(w.others, n), append(nodes, n)
	}
	before := len(server.host.Plans())
	for _, n := range nodes {
		n.mustConfigure(strings.ReplaceAll(strings.ReplaceAll(l2tpClient, "SERVER", eastAddr.String()), "192.0.2.1/32", n.addr.String()+"/32"))
	}
	w.until("all are up", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return n.sealing() != 1 })
	})
	plans := server.host.Plans()[before:]
	if len(plans) != 1 || len(plans[0].Routes) != clients+1 {
		t.Errorf("for %d clients the host followed %d times: %v", clients, len(plans), plans)
	}
	for _, n := range nodes {
		n.input(core.Command{Do: core.Shutdown})
	}
	w.run(10 * time.Second)
	if !c.plane.Replan {
		t.Error("they have gone, and their routes stay")
	}
	c.followNow()
	if plans = server.host.Plans(); len(plans[len(plans)-1].Routes) != 1 {
		t.Errorf("left are %v", plans[len(plans)-1].Routes)
	}
}

// At level require the second is told what to do, on both sides.
func TestSecondClientBehindOneNATIsTold(t *testing.T) {
	w := newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
	nat := simnet.NewNAT(outerAddr)
	other := w.node(netip.MustParseAddr("192.0.2.3"), 7, 3)
	w.others = append(w.others, other)
	w.east.mustConfigure(l2tpServer)
	for _, n := range []*node{w.west, other} {
		w.net.Behind(netip.PrefixFrom(n.addr, 32), nat)
		n.mustConfigure(strings.ReplaceAll(strings.ReplaceAll(l2tpClient, "SERVER", eastAddr.String()), "192.0.2.1/32", n.addr.String()+"/32"))
		w.run(10 * time.Second)
	}
	if w.west.sealing() != 1 || other.sealing() != 0 {
		t.Errorf("the first has %d SAs and the second %d", w.west.sealing(), other.sealing())
	}
	for _, e := range w.east.events {
		if e.Kind == core.EvTSUnacceptable {
			if !strings.Contains(e.Reason, `level = "unique"`) {
				t.Errorf("the event says %q", e.Reason)
			}
			return
		}
	}
	t.Errorf("no event among %v", kinds(w.east.events))
}
