package gateway

import (
	"encoding/binary"
	"errors"
	"maps"
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
)

// The manual's site-to-site example, both sides of it, IPv4 and IPv6 inside.
func TestSiteToSite(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.up()
	w.carriesAll()
	for _, n := range []*node{w.west, w.east} {
		sas := n.plane.Config.Endpoint.SAs()
		if len(sas) != 1 || sas[0].State != "established" || len(sas[0].Children) != 2 {
			t.Errorf("%v: IKE SAs %+v", n.addr, sas)
		}
		if got := n.count(core.EvIKEUp); got != 1 {
			t.Errorf("%v: %d IKE SAs came up", n.addr, got)
		}
		for _, r := range n.view().Policies() {
			if !r.Template && (!r.Active || r.Ph2State != "established" || r.Ph2Count != 1 || r.SASrcAddress != n.addr.String()) {
				t.Errorf("%v: policy %+v", n.addr, r)
			}
		}
		if plans := n.host.Plans(); len(plans) != 1 || len(plans[0].Routes) != 2 || plans[0].MTU != 1422 {
			t.Errorf("%v: plans %+v", n.addr, plans)
		}
	}
}

// Both ends begin at once. One IKE SA stays, and no traffic suffers.
func TestBothBegin(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.east.mustConfigure(site(westAddr, "102", "101"))
	w.west.mustConfigure(site(eastAddr, "101", "102"))
	w.until("established", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
	for range 10 {
		w.carriesAll()
	}
	for _, n := range []*node{w.west, w.east} {
		if len(n.plane.Config.Endpoint.SAs()) != 1 || n.plane.SAs.Len() != 2 {
			t.Errorf("%v: %d IKE SAs, %d CHILD SAs", n.addr, len(n.plane.Config.Endpoint.SAs()), n.plane.SAs.Len())
		}
	}
}

// Many of the datagrams of the exchange are lost or come twice or late.
func TestSiteToSiteOverABadLink(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.3, Dup: 0.1, Reorder: 0.1})
	w.up()
	w.net.Link = simnet.Link{Delay: 30 * time.Millisecond}
	w.run(time.Minute)
	w.carriesAll()
}

// Traffic asks for an SA that the peer took away, once, and gets it.
func TestAcquire(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.up()
	w.west.input(core.Command{Do: core.FlushSAs})
	w.run(100 * time.Millisecond)
	pkt := echo("10.1.101.5", "10.1.102.6", 1)
	if r := w.west.plane.Send(w.clock.Now(), pkt); r != datapath.OutNoStates {
		t.Fatalf("without SA: %v", r)
	}
	w.west.settle()
	w.run(500 * time.Millisecond)
	w.carries(w.west, w.east, "10.1.101.5", "10.1.102.6")
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	before, refs := w.west.spis(), maps.Clone(w.west.comp.ByContent)

	w.west.mustConfigure("# nothing but a comment\n" + site(eastAddr, "101", "102"))
	w.run(3 * time.Second)
	if after := w.west.spis(); !maps.Equal(before, after) {
		t.Errorf("SPIs before %v, after %v", before, after)
	}
	if !maps.Equal(refs, w.west.comp.ByContent) {
		t.Errorf("refs before %v, after %v", refs, w.west.comp.ByContent)
	}

	more := `
[[policy]]
peer = "other"
src-address = "10.2.101.0/24"
dst-address = "10.2.102.0/24"
tunnel = true
proposal = "ike2"
`
	back := `
[[policy]]
peer = "other"
src-address = "10.2.102.0/24"
dst-address = "10.2.101.0/24"
tunnel = true
proposal = "ike2"
`
	w.east.mustConfigure(passive(site(westAddr, "102", "101", back)))
	w.west.mustConfigure(site(eastAddr, "101", "102", more))
	w.until("the third policy up", func() bool { return w.west.sealing() == 3 && w.east.sealing() == 3 })
	w.run(10 * time.Second)
	after := w.west.spis()
	for spi := range before {
		if _, ok := after[spi]; !ok {
			t.Errorf("%s is gone; %v", spi, after)
		}
	}
	w.carriesAll()
	w.carries(w.west, w.east, "10.2.101.1", "10.2.102.1")

	// Without the policy again: its SA goes, the others stay.
	w.west.mustConfigure(site(eastAddr, "101", "102"))
	w.run(time.Second)
	if got := w.west.spis(); !maps.Equal(before, got) {
		t.Errorf("SPIs before %v, after %v", before, got)
	}
	w.carriesAll()
}

func TestReloadThatTheHostRefuses(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	before := w.west.spis()
	refused := errors.New("no")
	w.west.host.Fail(refused)
	if err := w.west.configure(site(eastAddr, "111", "112")); !errors.Is(err, refused) {
		t.Fatalf("configure: %v", err)
	}
	w.run(3 * time.Second)
	if after := w.west.spis(); !maps.Equal(before, after) {
		t.Errorf("SPIs before %v, after %v", before, after)
	}
	w.carriesAll()
}

// A reload that the host refuses leaves the policies of level use as they were: the route
// still follows the SA.
func TestRefusedReloadKeepsLevelUse(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.east.mustConfigure(passive(site(westAddr, "102", "101")))
	w.west.mustConfigure(replaceOnce(t, site(eastAddr, "101", "102"), "[[policy]]", "[[policy]]\nlevel = \"use\""))
	w.until("up", func() bool { return w.west.sealing() == 2 })
	w.run(2 * time.Second)
	refused := errors.New("no")
	w.west.host.Fail(refused)
	if err := w.west.configure(site(eastAddr, "101", "102")); !errors.Is(err, refused) {
		t.Fatalf("configure: %v", err)
	}
	w.west.plane.Replan = false
	w.west.input(core.Command{Do: core.FlushSAs})
	if !w.west.plane.Replan {
		t.Error("the SA of a policy of level use went, and the host keeps its route")
	}
}

// A reload that the host refuses leaves the templates as they were: a client that
// connects afterwards has its policy.
func TestRefusedReloadKeepsTemplates(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.east.mustConfigure(l2tpServer)
	refused := errors.New("no")
	w.east.host.Fail(refused)
	if err := w.east.configure(passive(site(westAddr, "102", "101"))); !errors.Is(err, refused) {
		t.Fatalf("configure: %v", err)
	}
	w.west.mustConfigure(strings.ReplaceAll(l2tpClient, "SERVER", eastAddr.String()))
	w.until("established", func() bool { return w.west.sealing() == 1 && w.east.serving() == 1 })
	w.run(2 * time.Second)
	client, server := netip.AddrPortFrom(westAddr, 40000), netip.AddrPortFrom(eastAddr, 1701)
	for _, c := range []struct {
		from, to *node
		pkt      []byte
	}{
		{w.west, w.east, wire.AppendUDPPacket(nil, client, server, []byte("SCCRQ"))},
		{w.east, w.west, wire.AppendUDPPacket(nil, server, client, []byte("SCCRP"))},
	} {
		if r := c.from.plane.Send(w.clock.Now(), c.pkt); r != datapath.Passed {
			t.Fatalf("from %v: %v", c.from.addr, r)
		}
		w.run(time.Second)
		select {
		case <-c.to.device.Outgoing():
		default:
			t.Errorf("from %v: nothing arrives: %v", c.from.addr, nonzero(c.to))
		}
	}
}

// A reload may give the device another MTU: the MSS of TCP connections follows it.
func TestReloadFollowsTheDevicesMTU(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	mss := func() uint16 {
		t.Helper()
		syn := make([]byte, 44)
		copy(syn, []byte{0x45, 0, 0, 44, 0, 1, 0, 0, 64, 6, 0, 0, 10, 1, 101, 5, 10, 1, 102, 6,
			0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4})
		if r := w.west.plane.Send(w.clock.Now(), syn); r != datapath.Passed {
			t.Fatal(r)
		}
		w.run(time.Second)
		select {
		case got := <-w.east.device.Outgoing():
			return binary.BigEndian.Uint16(got[42:])
		default:
			t.Fatalf("no SYN arrives: %v", nonzero(w.east))
		}
		return 0
	}
	before := mss()
	w.west.device.SetMTU(1000) // as the host does in Apply
	w.west.mustConfigure(site(eastAddr, "101", "102"))
	if after := mss(); before <= 960 || after != 960 {
		t.Errorf("the MSS was %d and is %d with an MTU of 1000", before, after)
	}
}

// A peer whose secret changes gets new SAs; a wrong one gets none.
func TestReloadOfAPeer(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	before := w.west.spis()
	other := func(text string) string {
		return replaceOnce(t, text, `secret = "thisisnotasecurepsk"`, `secret = "neitheristhis"`)
	}
	w.west.mustConfigure(other(site(eastAddr, "101", "102")))
	w.run(10 * time.Second)
	if w.west.sealing() != 0 || w.west.count(core.EvAuthFailed)+w.east.count(core.EvAuthFailed) == 0 {
		t.Errorf("with two secrets: %d policies up, %v", w.west.sealing(), kinds(w.west.events))
	}
	w.east.mustConfigure(other(passive(site(westAddr, "102", "101"))))
	w.until("up with the new secret", func() bool { return w.west.sealing() == 2 })
	for spi := range w.west.spis() {
		if _, ok := before[spi]; ok {
			t.Errorf("%s is still there", spi)
		}
	}
	w.run(2 * time.Second)
	w.carriesAll()
}

func TestFlushAndKill(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	for _, do := range []core.CommandKind{core.FlushSAs, core.KillAll} {
		before := w.west.spis()
		ups := w.west.count(core.EvIKEUp)
		w.west.input(core.Command{Do: do})
		w.run(50 * time.Millisecond)
		if n := w.east.plane.SAs.Len(); n != 0 {
			t.Errorf("command %d: the peer still has %d SAs", do, n)
		}
		w.until("up again", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
		w.run(10 * time.Second)
		for spi := range w.west.spis() {
			if _, ok := before[spi]; ok {
				t.Errorf("command %d: %s is still there", do, spi)
			}
		}
		if again := w.west.count(core.EvIKEUp) - ups; again > 0 != (do == core.KillAll) {
			t.Errorf("command %d made %d IKE SAs anew", do, again)
		}
		w.carriesAll()
	}
}

func TestShutdownTellsThePeer(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	w.west.input(core.Command{Do: core.Shutdown})
	w.run(100 * time.Millisecond)
	for _, n := range []*node{w.west, w.east} {
		for _, sa := range n.plane.Config.Endpoint.SAs() {
			if n == w.west || sa.State == "established" {
				t.Errorf("%v still has the IKE SA %+v", n.addr, sa)
			}
		}
		if n.plane.SAs.Len() != 0 {
			t.Errorf("%v still has %d CHILD SAs", n.addr, n.plane.SAs.Len())
		}
	}
	sent := w.west.sent
	w.west.plane.Send(w.clock.Now(), echo("10.1.101.5", "10.1.102.6", 1))
	w.west.settle()
	w.run(time.Second)
	if w.west.sent > sent+8 { // answers to the other end's attempts at most
		t.Errorf("%d messages after the shutdown", w.west.sent-sent)
	}
}

// Fragments that wait for the rest of their packet, which never comes, are counted
// when their time is up, with no packet after them and no SA that has anything to do.
func TestFragmentsAreGivenUp(t *testing.T) {
	w := newWorld(t, simnet.Link{})
	w.west.mustConfigure(strings.Replace(site(eastAddr, "101", "102"), "tunnel = true", "tunnel = true\nprotocol = \"udp\"\ndst-port = 2000", 1))
	w.west.input(core.Command{Do: core.Shutdown})
	h := wire.IPv4{TTL: 1, Proto: wire.ProtoUDP, ID: 1, More: true, FragOffset: 8, Src: netip.MustParseAddr("10.1.101.5"), Dst: netip.MustParseAddr("10.1.102.6")}
	if r := w.west.plane.Send(w.clock.Now(), append(h.Append(nil, 8), make([]byte, 8)...)); r != datapath.Passed {
		t.Fatal(r)
	}
	w.west.settle()
	late := func() uint64 { return w.west.plane.Path.Counters().Get(datapath.OutFragmentErrors) }
	w.run(30*time.Second - 1)
	if n := late(); n != 0 {
		t.Errorf("%d are counted too early", n)
	}
	w.run(1)
	if n := late(); n != 1 {
		t.Errorf("%d are counted", n)
	}
	if at, ok := w.west.plane.Deadline(); ok && at.Sub(w.clock.Now()) < time.Second {
		t.Errorf("and due again at %v", at)
	}
}

// The SAs of a day: every rekey passes, nothing is left behind.
func TestADay(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.up()
	for range 26 {
		w.run(time.Hour)
		w.carriesAll()
	}
	for _, n := range []*node{w.west, w.east} {
		if n.plane.SAs.Len() != 2 || len(n.plane.Config.Endpoint.SAs()) != 1 {
			t.Errorf("%v: %d CHILD SAs, %d IKE SAs", n.addr, n.plane.SAs.Len(), len(n.plane.Config.Endpoint.SAs()))
		}
		if n.count(core.EvChildRekeyed) < 48 || n.count(core.EvIKERekeyed) < 1 {
			t.Errorf("%v: %d and %d rekeys", n.addr, n.count(core.EvChildRekeyed), n.count(core.EvIKERekeyed))
		}
	}
}

// A policy of level use leads its traffic to the device only while it has an SA.
func TestLevelUseFollowsItsSA(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	use := func(text string) string {
		return replaceOnce(t, text, "[[policy]]", "[[policy]]\nlevel = \"use\"")
	}
	w.east.mustConfigure(site(westAddr, "102", "101"))
	w.west.mustConfigure(use(site(eastAddr, "101", "102")))
	if r := w.west.host.Plans()[0].Routes; !r[0].Pass || r[1].Pass {
		t.Errorf("without SA: %+v", r)
	}
	w.until("up", func() bool { return w.west.sealing() == 2 })
	if r := w.west.followed().Routes; w.west.plane.Replan || r[0].Pass {
		t.Errorf("with SA: replan %v, %+v", w.west.plane.Replan, r)
	}
	w.run(2 * time.Second)
	w.west.input(core.Command{Do: core.FlushSAs})
	if r := w.west.plane.Plan(w.west.comp).Routes; !w.west.plane.Replan || !r[0].Pass {
		t.Errorf("after the flush: replan %v, %+v", w.west.plane.Replan, r)
	}
}

// What was negotiated for an IKE SA is in active-peers print, in explain peer and in the events ike-up and ike-rekeyed.
func TestNegotiatedIsShown(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	text := func(s string) string {
		s = replaceOnce(t, s, `dh-group = "x25519"`, "dh-group = \"x25519+ml-kem-768\"\nprf-algorithm = \"sha384\"\nlifetime = \"10h\"")
		return strings.ReplaceAll(s, "[[identity]]\npeer = \"other\"", "[[identity]]\npeer = \"other\"\nmy-id = \"auto\"")
	}
	w.east.mustConfigure(text(passive(site(westAddr, "102", "101"))))
	w.west.mustConfigure(text(site(eastAddr, "101", "102")))
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	const suite = "aes-128/sha256, prf sha384, x25519+ml-kem-768"
	want := control.Negotiated{EncAlgorithm: "aes-128", HashAlgorithm: "sha256", PRFAlgorithm: "sha384", DHGroup: "x25519+ml-kem-768"}
	shown := func() {
		t.Helper()
		for _, n := range []*node{w.west, w.east} {
			other := map[*node]string{w.west: "192.0.2.2", w.east: "192.0.2.1"}[n]
			x, err := n.view().ExplainPeer("other")
			rows := n.view().ActivePeers()
			if err != nil || len(rows) != 1 || len(x.SAs) != 1 {
				t.Fatalf("%+v, %+v, %v", rows, x, err)
			}
			// The soft lifetime is between 80 and 90 % of the hard one.
			if in := time.Duration(rows[0].RekeyIn) * time.Second; in < 7*time.Hour || in > 9*time.Hour || x.SAs[0].RekeyIn != rows[0].RekeyIn {
				t.Errorf("%v: rekey in %v, %v", n.addr, in, x.SAs[0].RekeyIn)
			}
			want.RekeyIn = rows[0].RekeyIn
			if rows[0].Negotiated != want || x.SAs[0].Negotiated != want || rows[0].MyID != n.addr.String() || x.SAs[0].MyID != n.addr.String() || x.SAs[0].ID != other {
				t.Errorf("%v: %+v, %+v", n.addr, rows[0], x.SAs[0])
			}
		}
	}
	shown()
	w.west.input(core.Command{Do: core.RekeyIKE})
	w.run(10 * time.Second)
	shown()
	for _, n := range []*node{w.west, w.east} {
		for _, kind := range []core.EventKind{core.EvIKEUp, core.EvIKERekeyed} {
			i := slices.IndexFunc(n.events, func(e core.Event) bool { return e.Kind == kind })
			if i < 0 || !strings.HasSuffix(n.events[i].Reason, suite) {
				t.Errorf("%v: %v", n.addr, kinds(n.events))
			}
		}
	}
}
