package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

// greedyClient asks the L2TP server for a tunnel between everything and everything.
const greedyClient = `
[[profile]]
name = "ike2"
dh-group = "x25519"
[[peer]]
name = "server"
address = "192.0.2.2"
exchange-mode = "ike2"
profile = "ike2"
[[identity]]
peer = "server"
secret = "s"
[[policy]]
peer = "server"
tunnel = true
src-address = "0.0.0.0/0"
dst-address = "0.0.0.0/0"
`

// With the L2TP recipe of docs/guard.md a client that asks for everything gets a policy for its own address: what the LAN
// behind the server sends to the internet is no traffic of the client's, in the data path and in the routes.
func TestAClientThatAsksForEverything(t *testing.T) {
	for name, server := range map[string]string{"the default template": l2tpServer, "level unique": uniqueServer,
		"0.0.0.0/0, written": strings.Replace(uniqueServer, "template = true", "template = true\ndst-address = \"0.0.0.0/0\"", 1)} {
		w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
		w.east.mustConfigure(server)
		lan := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("192.168.88.10:40000"), netip.MustParseAddrPort("198.51.100.1:443"), []byte("to the internet"))
		before := w.east.plane.Send(w.clock.Now(), lan)
		w.west.mustConfigure(greedyClient)
		w.until("established", func() bool { return w.west.sealing() == 1 && w.east.serving() == 1 })
		w.run(10 * time.Second)
		if r := w.east.plane.Send(w.clock.Now(), lan); r != before || r == datapath.Passed {
			t.Errorf("%s: what the LAN sends to the internet: %v, before %v", name, r, before)
		}
		made := w.east.plane.MadeInOrder()
		if len(made) != 1 || fmt.Sprint(made[0].Pairs) != "[0.0.0.0/0 => 192.0.2.1/32]" {
			t.Errorf("%s: made are %+v", name, made)
		}
		for _, r := range w.east.plane.Plan(w.east.comp).Routes {
			if r.Remote.Bits() == 0 && r.Proto == 0 {
				t.Errorf("%s: everything is led to the device: %+v", name, r)
			}
		}
		if want := (tun.Route{Local: netip.MustParsePrefix("0.0.0.0/0"), Remote: netip.MustParsePrefix("192.0.2.1/32")}); !slices.Contains(w.east.plane.Plan(w.east.comp).Routes, want) {
			t.Errorf("%s: no route to the client: %+v", name, w.east.plane.Plan(w.east.comp).Routes)
		}
	}
}

// What a configuration says that no peer gets by asking: addresses of mode-configs in use, and networks behind
// this gateway, but no prefix of length 0.
func TestWhatNobodyMayClaim(t *testing.T) {
	c := compiled(t, parse(t, strings.Replace(warriorServer, "level = \"unique\"", "level = \"unique\"\n[[policy]]\ntemplate = true\ngroup = \"unused\"\nsrc-address = \"10.66.0.0/16\"", 1)+
		"[[policy-group]]\nname = \"unused\"\n"+
		"[[mode-config]]\nname = \"unused\"\naddress = \"192.168.99.2\"\n")).IKE
	given := netip.Prefix{}
	for _, p := range c.Given {
		if p.Contains(netip.MustParseAddr("192.168.77.2")) {
			given = p
		}
		if p.Contains(netip.MustParseAddr("192.168.99.2")) || p.Contains(netip.MustParseAddr("192.168.77.1")) || p.Contains(netip.MustParseAddr("192.168.77.255")) {
			t.Errorf("given is %v", p)
		}
	}
	if !given.IsValid() {
		t.Errorf("given are %v", c.Given)
	}
	if got := fmt.Sprint(c.Ours); got != "[10.5.8.0/24 192.168.55.0/24]" {
		t.Errorf("ours are %s", got)
	}
	c = compiled(t, parse(t, site(eastAddr, "101", "102"))).IKE
	if got := fmt.Sprint(c.Given, c.Ours); got != "[] [10.1.101.0/24 2001:db8:101::/64]" {
		t.Errorf("given and ours are %s", got)
	}
}

func compiled(t *testing.T, c *config.Config) *compile.Result {
	t.Helper()
	r, err := compile.Compile(c, [2]uint16{500, 4500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
