package gateway

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/operate/control"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

// l2tpServer is the manual's "only IPsec-encapsulated traffic": clients get their
// policies from the default template, and below it stands one that discards
// everybody else's L2TP.
const l2tpServer = `
[[profile]]
name = "ike2"
dh-group = "x25519"
[[policy]]
src-address = "192.0.2.2/32"
dst-address = "0.0.0.0/0"
protocol = "udp"
src-port = 1701
action = "discard"
tunnel = true
[[peer]]
name = "clients"
exchange-mode = "ike2"
passive = true
profile = "ike2"
[[identity]]
peer = "clients"
secret = "s"
generate-policy = "port-strict"
`

// l2tpClient has a policy for its own host and the server as it sees it.
const l2tpClient = `
[[profile]]
name = "ike2"
dh-group = "x25519"
[[peer]]
name = "server"
address = "SERVER"
exchange-mode = "ike2"
profile = "ike2"
[[identity]]
peer = "server"
secret = "s"
[[policy]]
peer = "server"
src-address = "192.0.2.1/32"
dst-address = "SERVER/32"
dst-port = 1701
protocol = "udp"
`

// serving is how many policies made from templates have an SA that seals.
func (n *node) serving() (c int) {
	for _, m := range n.plane.MadeInOrder() {
		if n.plane.Has(m.Ref) {
			c++
		}
	}
	return c
}

// In transport mode, with ESP and AH, and through NATs at either end: the policy
// made stands above the static discard, with the addresses that the server sees, and
// carries packets both ways, also after the rekeys of each end. The rest of L2TP is discarded, before,
// while and after it is there, and the plan has a route for the pair above that
// of the discard.
func TestTransportModeFromATemplate(t *testing.T) {
	const discards = "192.0.2.2/32 => 0.0.0.0/0 discard require 0"
	for name, c := range map[string]struct {
		west, east  bool // behind a NAT
		raw         bool
		override    bool
		replace     []string // in both
		proto, made string
	}{
		"in UDP":        {made: "192.0.2.2/32[udp/1701] => 192.0.2.1/32[udp]"},
		"protocol 50":   {raw: true, made: "192.0.2.2/32[udp/1701] => 192.0.2.1/32[udp]"},
		"port-override": {override: true, made: "192.0.2.2/32[udp] => 192.0.2.1/32[udp]"},
		"AH": {raw: true, proto: "ah", replace: []string{"[[peer]]", "[[policy]]\ntemplate = true\nipsec-protocols = \"ah\"\n[[peer]]",
			"[[policy]]\npeer", "[[policy]]\nipsec-protocols = \"ah\"\npeer"}, made: "192.0.2.2/32[udp/1701] => 192.0.2.1/32[udp]"},
		"the client behind a NAT": {west: true, made: "192.0.2.2/32[udp/1701] => 203.0.113.9/32[udp]"},
		"both behind NATs":        {west: true, east: true, made: "192.0.2.2/32[udp/1701] => 203.0.113.9/32[udp]"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
			if c.raw {
				w.west.conn.WithRaw()
				w.east.conn.WithRaw()
			}
			seen := map[*node]netip.Addr{w.west: westAddr, w.east: eastAddr}
			if c.west {
				seen[w.west] = outerAddr
				w.net.Behind(netip.PrefixFrom(westAddr, 32), simnet.NewNAT(outerAddr))
			}
			if c.east {
				seen[w.east] = netip.MustParseAddr("198.51.100.9")
				nat := simnet.NewNAT(seen[w.east])
				nat.Forward(500, netip.AddrPortFrom(eastAddr, 500))
				nat.Forward(4500, netip.AddrPortFrom(eastAddr, 4500))
				w.net.Behind(netip.PrefixFrom(eastAddr, 32), nat)
			}
			texts := strings.NewReplacer(append([]string{"SERVER", seen[w.east].String()}, c.replace...)...)
			server := l2tpServer
			if c.override {
				server = strings.Replace(server, "port-strict", "port-override", 1)
			}
			if c.proto == "ah" { // the templates stand above the discard
				above := server[:strings.Index(server, "[[policy]]")] + "[[policy]]\ntemplate = true\nipsec-protocols = \"ah\"\n"
				server = above + server[strings.Index(server, "[[policy]]"):]
			} else {
				server = texts.Replace(server)
			}
			w.east.mustConfigure(server)
			stranger := wire.AppendUDPPacket(nil, netip.AddrPortFrom(eastAddr, 1701), netip.MustParseAddrPort("192.0.2.77:1701"), []byte("L2TP"))
			discarded := func(when string) {
				t.Helper()
				if r := w.east.plane.Send(w.clock.Now(), stranger); r != datapath.OutPolicyBlocked {
					t.Errorf("%s: L2TP without IPsec: %v", when, r)
				}
			}
			discarded("before")
			routes := w.east.plane.Plan(w.east.comp).Routes

			w.west.mustConfigure(strings.Replace(texts.Replace(l2tpClient), "peer = \"server\"\nsrc", "peer = \"server\"\nlevel = \"unique\"\nsrc", 1))
			w.until("established", func() bool { return w.west.sealing() == 1 && w.east.serving() == 1 })
			made := w.east.plane.MadeInOrder()
			if len(made) != 1 || made[0].Tunnel || len(made[0].Pairs) != 1 || made[0].Pairs[0].String() != c.made {
				t.Fatalf("made are %+v, want %s", made, c.made)
			}
			table := w.east.table()
			if last := len(table) - 1; !strings.Contains(table[last], discards) || !strings.HasSuffix(table[last-1], "192.0.2.2/32 => "+seen[w.west].String()+"/32 encrypt require 1") ||
				!strings.Contains(table[last-1], " DA ") {
				t.Errorf("policies\n%s", strings.Join(table, "\n"))
			}
			for _, r := range w.east.view().Policies() {
				if proto := map[string]string{"": "esp", "ah": "ah"}[c.proto]; r.Dynamic && (r.Tunnel != control.No || r.IPsecProtocols != proto || r.SADstAddress != seen[w.west].String()) {
					t.Errorf("row %+v", r)
				}
			}
			want := tun.Route{Local: netip.PrefixFrom(eastAddr, 32), Remote: netip.PrefixFrom(seen[w.west], 32), Proto: 17, LocalPort: 1701}
			if c.override {
				want.LocalPort = 0
			}
			if got := w.east.plane.Plan(w.east.comp).Routes; !slices.Equal(got, append([]tun.Route{want}, routes...)) {
				t.Errorf("routes %+v, want %+v above %+v", got, want, routes)
			}

			talk := func() {
				t.Helper()
				w.west.drain()
				w.east.drain()
				there := wire.AppendUDPPacket(nil, netip.AddrPortFrom(westAddr, 40000), netip.AddrPortFrom(seen[w.east], 1701), []byte("SCCRQ"))
				back := wire.AppendUDPPacket(nil, netip.AddrPortFrom(eastAddr, 1701), netip.AddrPortFrom(seen[w.west], 40000), []byte("SCCRP"))
				for i, pkt := range [][]byte{there, back} {
					from, to := w.west, w.east
					if i == 1 {
						from, to = to, from
					}
					if r := from.plane.Send(w.clock.Now(), pkt); r != datapath.Passed {
						t.Fatalf("%v: %v, events %v", from.addr, r, kinds(from.events))
					}
					w.run(500 * time.Millisecond)
					select {
					case got := <-to.device.Outgoing():
						info, f, ok := parsed(got)
						if !ok || f.Src != seen[from] || f.Dst != to.addr || !wire.VerifyChecksum(got, info) {
							t.Fatalf("at %v arrives %x: %v", to.addr, got, f)
						}
					default:
						t.Fatalf("nothing arrives at %v: %v", to.addr, nonzero(to))
					}
				}
			}
			talk()
			discarded("beside the tunnel")
			for _, n := range []*node{w.west, w.east} {
				rekeys := n.count(core.EvChildRekeyed)
				n.input(core.Command{Do: core.RekeyChildren})
				w.until("rekeyed", func() bool { return n.count(core.EvChildRekeyed) > rekeys })
				w.run(10 * time.Second)
				talk()
			}
			w.sameSAs()
			w.west.input(core.Command{Do: core.Shutdown})
			w.run(10 * time.Second)
			if got := w.east.plane.Plan(w.east.comp).Routes; !slices.Equal(got, routes) || len(w.east.plane.Made.Policies) != 0 {
				t.Errorf("left are routes %+v and policies %v", got, w.east.table())
			}
			discarded("after")
		})
	}
}

// A reload that changes what mode a template allows ends what was made from it;
// the client connects anew, in the mode that there is.
func TestReloadOfATemplatesMode(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
	with := func(lines string) string {
		at := strings.Index(l2tpServer, "[[policy]]")
		return l2tpServer[:at] + "[[policy-group]]\nname = \"g\"\n[[policy]]\ntemplate = true\ngroup = \"g\"\n" + lines + l2tpServer[at:] + "policy-template-group = \"g\"\n"
	}
	w.east.mustConfigure(with(""))
	w.west.mustConfigure(strings.ReplaceAll(l2tpClient, "SERVER", eastAddr.String()))
	w.until("established", func() bool { return w.west.sealing() == 1 && w.east.serving() == 1 })
	w.run(10 * time.Second)
	before := w.east.spis()
	w.east.mustConfigure(with("comment = \"the same\"\n"))
	w.run(10 * time.Second)
	if after := w.east.spis(); len(before) == 0 || len(after) != len(before) || w.east.count(core.EvChildDown) != 0 {
		t.Errorf("a comment: SAs %v, then %v", before, after)
	}
	w.east.mustConfigure(with("tunnel = true\n"))
	w.run(10 * time.Second)
	if w.east.count(core.EvChildDown) == 0 || w.west.sealing() != 0 {
		t.Errorf("transport mode goes on under a template for tunnels: %v", w.east.table())
	}
	w.east.mustConfigure(with("tunnel = false\n"))
	w.until("transport mode again", func() bool { return w.west.sealing() == 1 && w.east.serving() == 1 })
	if made := w.east.plane.MadeInOrder(); len(made) != 1 || made[0].Tunnel {
		t.Errorf("made are %+v", made)
	}
}

// The client's NAT gets another address: what was made for the former one ends, and
// the client's next CHILD SA has a policy for the new one.
func TestTransportClientIsMovedByItsNAT(t *testing.T) {
	for _, profile := range []string{"mobike = false", "dpd-interval = \"8s\""} {
		w := newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
		nat := simnet.NewNAT(outerAddr)
		w.net.Behind(netip.PrefixFrom(westAddr, 32), nat)
		with := func(text string) string { return strings.Replace(text, "[[profile]]", "[[profile]]\n"+profile, 1) }
		w.east.mustConfigure(with(l2tpServer))
		w.west.mustConfigure(with(strings.ReplaceAll(l2tpClient, "SERVER", eastAddr.String())))
		w.until("established", func() bool { return w.west.sealing() == 1 && w.east.serving() == 1 })
		w.run(10 * time.Second)
		moved := netip.MustParseAddr("203.0.113.10")
		nat.Renumber(moved)
		pkt := wire.AppendUDPPacket(nil, netip.AddrPortFrom(westAddr, 40000), netip.AddrPortFrom(eastAddr, 1701), []byte("SCCRQ"))
		for range 30 {
			w.west.plane.Send(w.clock.Now(), pkt)
			w.run(time.Second)
		}
		made := w.east.plane.MadeInOrder()
		if len(made) != 1 || made[0].Pairs[0].Remote.Lo != moved || w.east.serving() != 1 || w.east.count(core.EvIKEUp) != 1 {
			t.Fatalf("%s: made are %+v; events %v", profile, made, kinds(w.east.events))
		}
		w.east.drain()
		if r := w.west.plane.Send(w.clock.Now(), pkt); r != datapath.Passed {
			t.Errorf("%s: %v", profile, r)
		}
		w.run(time.Second)
		select {
		case got := <-w.east.device.Outgoing():
			if _, f, ok := parsed(got); !ok || f.Src != moved {
				t.Errorf("%s: arrives %x", profile, got)
			}
		default:
			t.Errorf("%s: nothing arrives: %v", profile, nonzero(w.east))
		}
	}
}
