package tun

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kernel without IPv6 has nothing of it, which is no error.
func TestListAllOfAFamilyThatIsMissing(t *testing.T) {
	for _, c := range []struct {
		err, want error
	}{
		{nil, nil}, {unix.EAFNOSUPPORT, nil}, {unix.EOPNOTSUPP, nil}, {unix.EPERM, unix.EPERM},
	} {
		list, err := listAll(func() ([]int, error) { return []int{7}, c.err })
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || len(list) == 1 != (c.err == nil || c.want != nil) {
			t.Errorf("%v: %v, %v", c.err, list, err)
		}
	}
}

// What a route in one of the instance's tables is: ours, or of somebody else who put it there. A route in
// another table is neither.
func TestRoutesHeld(t *testing.T) {
	const table, device = 1000, 3
	net4, net6 := netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("2001:db8:2::/64")
	all4, all6 := anyPrefix(false), anyPrefix(true)
	if all4.String() != "0.0.0.0/0" || all6.String() != "::/0" {
		t.Fatal(all4, all6)
	}
	none := netip.Addr{}
	src := netip.MustParseAddr("10.1.0.1")
	ours := func(table int, dst netip.Prefix, change ...func(*netlink.Route)) netlink.Route {
		r := netlink.Route{Table: table, Protocol: Protocol, Type: unix.RTN_UNICAST, LinkIndex: device, Dst: toIPNet(dst)}
		if dst.Addr().Is6() {
			r.Priority = 1024
		}
		for _, f := range change {
			f(&r)
		}
		return r
	}
	kind := func(kind, metric int) func(*netlink.Route) {
		return func(r *netlink.Route) { r.Type, r.Priority = kind, metric }
	}
	by := func(index int) func(*netlink.Route) { return func(r *netlink.Route) { r.LinkIndex = index } }
	for _, c := range []struct {
		name string
		r    netlink.Route
		v6   bool
		want held // foreign is r where nothing else is set
	}{
		{"to the device", ours(table, net4, func(r *netlink.Route) { r.Src = src.AsSlice() }), false, held{state: state{routes: map[netip.Prefix]netip.Addr{net4: src}}}},
		{"to the device, of IPv6", ours(table, net6), true, held{state: state{routes: map[netip.Prefix]netip.Addr{net6: none}}}},
		{"everything to the device", ours(table, all4), false, held{state: state{routes: map[netip.Prefix]netip.Addr{all4: none}}}},
		{"the fence", ours(table, all4, kind(unix.RTN_UNREACHABLE, fenceMetric)), false, held{state: state{fences: [2]bool{true, false}}}},
		{"the fence of IPv6", ours(table, all6, kind(unix.RTN_UNREACHABLE, fenceMetric)), true, held{state: state{fences: [2]bool{false, true}}}},
		{"of a link", ours(table|nearBit, net4, by(9)), false, held{state: state{near: map[netip.Prefix]link{net4: {9, none}}}}},

		{"to another device", ours(table, net4, by(9)), false, held{}},
		{"with another metric", ours(table, net4, kind(unix.RTN_UNICAST, 1)), false, held{}},
		{"by a router", ours(table, net4, func(r *netlink.Route) { r.Gw = src.AsSlice() }), false, held{}},
		{"by a router of the other family", ours(table, net4, func(r *netlink.Route) { r.Via = &netlink.Via{} }), false, held{}},
		{"in a capsule", ours(table, net4, func(r *netlink.Route) { r.Encap = &netlink.MPLSEncap{} }), false, held{}},
		{"by several routers", ours(table, net4, func(r *netlink.Route) { r.MultiPath = []*netlink.NexthopInfo{{}} }), false, held{}},
		{"of another protocol", ours(table, net4, func(r *netlink.Route) { r.Protocol = unix.RTPROT_STATIC }), false, held{}},
		{"a fence for one network", ours(table, net4, kind(unix.RTN_UNREACHABLE, fenceMetric)), false, held{}},
		{"a fence in front", ours(table, all4, kind(unix.RTN_UNREACHABLE, 0)), false, held{}},
		{"a fence that discards", ours(table, all4, kind(unix.RTN_BLACKHOLE, fenceMetric)), false, held{}},
		{"what is thrown back", ours(table, net4, kind(unix.RTN_THROW, 0)), false, held{}},
		{"of a link, with another metric", ours(table|nearBit, net4, kind(unix.RTN_UNICAST, 1)), false, held{}},
		{"of a link, and unreachable", ours(table|nearBit, net4, kind(unix.RTN_UNREACHABLE, 0)), false, held{}},
		{"of a link, of another protocol", ours(table|nearBit, net4, func(r *netlink.Route) { r.Protocol = unix.RTPROT_STATIC }), false, held{}},
		{"a fence among the links", ours(table|nearBit, all4, kind(unix.RTN_UNREACHABLE, fenceMetric)), false, held{}},
	} {
		got := held{state: state{routes: map[netip.Prefix]netip.Addr{}, near: map[netip.Prefix]link{}}}
		got.take(c.r, table, device, c.v6)
		foreign := len(c.want.routes)+len(c.want.near) == 0 && c.want.fences == [2]bool{}
		if !maps.Equal(got.routes, c.want.routes) || !maps.Equal(got.near, c.want.near) || got.fences != c.want.fences || foreign != (len(got.foreign) == 1) {
			t.Errorf("%s: %+v", c.name, got)
		}
		c.r.Table++
		got = held{state: state{routes: map[netip.Prefix]netip.Addr{}, near: map[netip.Prefix]link{}}}
		if got.take(c.r, table, device, c.v6); len(got.routes)+len(got.near)+len(got.foreign) > 0 || got.fences != [2]bool{} {
			t.Errorf("%s, in another table: %+v", c.name, got)
		}
	}
}

// A rule comes back from the kernel as it went there.
func TestRulesComeBack(t *testing.T) {
	k := &kernel{o: Options{Table: 1000, Pref: 500}}
	some := rule{from: netip.MustParsePrefix("10.1.0.0/16"), to: netip.MustParsePrefix("10.2.0.0/24"), proto: 17, sport: 500, dport: 4500, mark: 7, own: true}
	for _, act := range []action{toTable, toEnd, toNear, toMain, nop, gate} {
		p := placed{rule: some, pref: 600}
		if p.act = act; act == gate {
			p.past = 700
		} else if act == nop {
			p.pref = k.o.Pref + PrefSpan
		}
		r := k.encode(p)
		if got, ok := k.decode(*r, false); !ok || got != p {
			t.Errorf("%v became %v, %v", p, got, ok)
		}
		r.Protocol = unix.RTPROT_STATIC
		if _, ok := k.decode(*r, false); ok {
			t.Errorf("%v of another protocol is ours", p)
		}
	}
	r := k.encode(placed{rule: rule{v6: true}, pref: 600})
	if got, ok := k.decode(*r, true); !ok || got != (placed{rule: rule{v6: true}, pref: 600}) || r.Family != unix.AF_INET6 || r.Src != nil || r.Dst != nil {
		t.Errorf("%+v, %+v", got, r)
	}
	if r.Table++; r.Table == k.o.Table {
		t.Fatal(r.Table)
	}
	if _, ok := k.decode(*r, true); ok {
		t.Error("a rule of another instance is ours")
	}
}

// Which addresses of the host packets may come from.
func TestUsableAddresses(t *testing.T) {
	for _, c := range []struct {
		addr         string
		scope, flags int
		want         bool
	}{
		{"192.0.2.1", unix.RT_SCOPE_UNIVERSE, 0, true}, {"2001:db8::1", unix.RT_SCOPE_UNIVERSE, unix.IFA_F_PERMANENT, true},
		{"2001:db8::1", unix.RT_SCOPE_UNIVERSE, lesser, true},
		{"2001:db8::1", unix.RT_SCOPE_UNIVERSE, unix.IFA_F_TENTATIVE, false}, {"2001:db8::1", unix.RT_SCOPE_UNIVERSE, unix.IFA_F_DADFAILED, false},
		{"192.0.2.1", unix.RT_SCOPE_LINK, 0, false}, {"127.0.0.1", unix.RT_SCOPE_UNIVERSE, 0, false}, {"fe80::1", unix.RT_SCOPE_UNIVERSE, 0, false},
	} {
		if got := usable(netip.MustParseAddr(c.addr), netlink.Addr{Scope: c.scope, Flags: c.flags}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A device that is set up on a route has a name in the system's answer.
func TestDecisionNamesTheDevice(t *testing.T) {
	k, err := newKernel(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	way := func(index uint32) (Decision, error) {
		return k.decodeDecision(decision(unix.RTN_UNICAST, attributeOf(unix.RTA_OIF, index)))
	}
	if got, err := way(1); err != nil || got.Device != "lo" || got.Table != 254 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := way(1 << 30); err == nil {
		t.Errorf("a device that is not there is %+v", got)
	}
}

// Differences name the fence of the family that has lost it, and who else put a route into the table.
func TestDifferencesOfFences(t *testing.T) {
	o := Options{Device: "culvert0", Table: 1000}
	dev := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{RawFlags: unix.IFF_UP, MTU: 1400}}
	made := state{fences: [2]bool{true, true}}
	foreign := netlink.Route{Dst: toIPNet(netip.MustParsePrefix("10.2.0.0/24")), Gw: []byte{192, 0, 2, 1}, Protocol: unix.RTPROT_STATIC}
	for _, c := range []struct {
		now  held
		want []string
	}{
		{held{state: made}, nil},
		{held{state: state{fences: [2]bool{false, true}}}, []string{"route unreachable 0.0.0.0/0 was removed from table 1000"}},
		{held{state: state{fences: [2]bool{true, false}}}, []string{"route unreachable ::/0 was removed from table 1000"}},
		{held{state: made, foreign: []netlink.Route{foreign}}, []string{"foreign route 10.2.0.0/24 via 192.0.2.1 (protocol static) was added to table 1000"}},
	} {
		if got := differences(o, dev, 1400, c.now, made, nil); !slices.Equal(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for mtu, want := range map[int][]string{0: nil, 1: {"MTU of culvert0 was set to 1400"}, 1400: nil} {
		if got := differences(o, dev, mtu, held{state: made}, made, nil); !slices.Equal(got, want) {
			t.Errorf("an MTU of %d: %q", mtu, got)
		}
	}
}

// A Restore that cannot compare the system with the plan says so, and keeps what it knows.
func TestRestoreThatCannotLook(t *testing.T) {
	k, err := newKernel(Options{Device: "nosuch0", Table: 1000, Pref: 500})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	h := &host{o: k.o, kernel: k, applied: true, made: state{fences: [2]bool{true, true}}, found: []string{"found"}}
	if h.watch, err = newWatch(h.o); err != nil {
		t.Fatal(err)
	}
	defer h.watch.Close()
	h.plan = Plan{Addresses: []netip.Prefix{{}}} // no address
	what, _, err := h.Restore()
	if err == nil || what != nil || !reflect.DeepEqual(h.made, state{fences: [2]bool{true, true}}) || !slices.Equal(h.found, []string{"found"}) {
		t.Errorf("%q, %v, and then %+v, %q", what, err, h.made, h.found)
	}
}

// A file without an offload header is read and written by the package.
func TestFilesWithoutOffload(t *testing.T) {
	open, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, f := range map[string]*os.File{"none": nil, "another": open, "closed": closed} {
		called := false
		r, err := newReader(f)
		if offloadFile(f, func(int) { called = true }) != nil || called || r != nil || err != nil || newWriter(f) != nil {
			t.Errorf("%s: it has an offload header, or %v", name, err)
		}
	}
}

// Where a change cannot begin, what is reached is what there was.
func TestChangeThatCannotBegin(t *testing.T) {
	k, err := newKernel(Options{Device: "nosuch0", Table: 1000, Pref: 500})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	net := netip.MustParsePrefix("10.2.0.0/24")
	from := state{
		addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32")}, routes: map[netip.Prefix]netip.Addr{net: {}}, near: map[netip.Prefix]link{net: {9, netip.Addr{}}},
		fences: [2]bool{true, false}, rules: []placed{{rule: rule{to: net}, pref: 600}},
	}
	reached, err := k.change(from, state{addrs: from.addrs, fences: [2]bool{true, true}})
	if err == nil || !reflect.DeepEqual(reached, from) {
		t.Errorf("%v, and then %+v, want %+v", err, reached, from)
	}
}

// An attribute is found behind others; what is cut has none.
func TestAttribute(t *testing.T) {
	data := slices.Concat(attributeOf(unix.RTA_OIF, 3), attributeOf(unix.RTA_TABLE, 1000), attributeOf(unix.RTA_TABLE, 2000))
	for kind, want := range map[uint16][]byte{unix.RTA_OIF: {3, 0, 0, 0}, unix.RTA_TABLE: {0xe8, 3, 0, 0}, unix.RTA_GATEWAY: nil} {
		if want != nil {
			want = binary.NativeEndian.AppendUint32(nil, binary.LittleEndian.Uint32(want))
		}
		if got := attribute(data, kind); !slices.Equal(got, want) {
			t.Errorf("%d: %x, want %x", kind, got, want)
		}
	}
	if got := attribute(data[:5], unix.RTA_OIF); got != nil {
		t.Errorf("of what is cut: %x", got)
	}
}

// What cannot be added is not among what is reached. A change stops there; one that is to go on adds the rest.
func TestChangeThatIsRefused(t *testing.T) {
	lone(t)
	run(t, "ip link set culvert0 up")
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/culvert0/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	k, err := newKernel(Options{Device: "culvert0", Table: 1000, Pref: 500})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	good, bad := netip.MustParsePrefix("10.9.0.5/32"), netip.MustParsePrefix("2001:db8:9::5/128") // there is no IPv6
	reachable, stray := netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.3.0.0/24")
	p := placed{rule: rule{to: reachable}, pref: 600}
	to := state{
		addrs: []netip.Prefix{bad, good}, fences: [2]bool{true, false}, rules: []placed{p},
		routes: map[netip.Prefix]netip.Addr{reachable: {}, stray: netip.MustParseAddr("192.0.2.77")}, // which is nobody's
	}
	there := func() state {
		now, err := k.read()
		if err != nil {
			t.Fatal(err)
		}
		return now.state
	}
	if reached, err := k.change(state{}, to); err == nil || len(reached.addrs)+len(reached.routes)+len(reached.rules) > 0 || len(there().rules) > 0 {
		t.Errorf("an address is refused: %v, %+v", err, reached)
	}
	only := to
	only.addrs = nil
	reached, err := k.change(state{}, only)
	if _, ok := reached.routes[stray]; err == nil || ok || reached.fences != to.fences || len(reached.rules) > 0 || len(there().rules) > 0 {
		t.Errorf("a route is refused: %v, %+v", err, reached)
	}
	want := state{addrs: []netip.Prefix{good}, routes: map[netip.Prefix]netip.Addr{reachable: {}}, near: map[netip.Prefix]link{}, fences: to.fences, rules: to.rules}
	reached, err = k.goOver(state{}, to, true)
	if err == nil || !strings.Contains(err.Error(), bad.String()) || !strings.Contains(err.Error(), stray.String()) || !reflect.DeepEqual(reached, want) {
		t.Errorf("going on: %v, %+v, want %+v", err, reached, want)
	}
	if now := there(); !maps.Equal(now.routes, want.routes) || now.fences != want.fences || !slices.Equal(now.rules, want.rules) {
		t.Errorf("there are %+v", now)
	}
}

// A host that is closed stays so, and may be closed again.
func TestHostIsClosedOnce(t *testing.T) {
	lone(t)
	h, err := NewHost(Options{Device: "culvert0", LockDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := h.Apply(everything()); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// A thread whose network namespace cannot be told has no lock.
func TestNamespaceThatCannotBeTold(t *testing.T) {
	if ns, err := namespaceAt(t.TempDir() + "/net"); ns != 0 || err == nil || !strings.Contains(err.Error(), "cannot tell the network namespace") {
		t.Error(ns, err)
	}
	here, err := namespace()
	if again, err2 := namespace(); here == 0 || err != nil || err2 != nil || again != here {
		t.Error(here, err, again, err2)
	}
}

// The route of a network on a link is missed as long as the link has that network, by that address.
func TestDifferencesOfNetworksOnLinks(t *testing.T) {
	o := Options{Device: "culvert0", Table: 1000}
	dev := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{RawFlags: unix.IFF_UP}}
	net := netip.MustParsePrefix("192.168.1.0/24")
	was, moved := link{3, netip.MustParseAddr("192.168.1.2")}, link{4, netip.MustParseAddr("192.168.1.3")}
	near := func(l link) map[netip.Prefix]link { return map[netip.Prefix]link{net: l} }
	for _, c := range []struct {
		name       string
		now, links map[netip.Prefix]link
		differs    bool
	}{
		{"as it was", near(was), near(was), false}, {"removed", nil, near(was), true}, {"changed", near(moved), near(was), true},
		{"removed with the link", nil, nil, false}, {"removed, and the network is on another link", nil, near(moved), false}, {"left behind", near(was), nil, false},
	} {
		got := differences(o, dev, 0, held{state: state{near: c.now}}, state{near: near(was)}, c.links)
		if c.differs != slices.Equal(got, []string{"route 192.168.1.0/24 was removed from table 1000"}) || !c.differs && got != nil {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// The networks on links are asked for where something is for everywhere, and they are to be left alone.
func TestAsksLANs(t *testing.T) {
	all, some := route("10.1.0.0/24", "0.0.0.0/0"), route("10.1.0.0/24", "10.2.0.0/24")
	pass, none := all, all
	pass.Pass, none.Remote = true, netip.Prefix{}
	for _, c := range []struct {
		routes []Route
		bypass bool
		want   bool
	}{
		{[]Route{some, all}, true, true}, {[]Route{some, all}, false, false}, {[]Route{some}, true, false}, {nil, true, false},
		{[]Route{pass}, true, false}, {[]Route{none}, true, false}, {[]Route{route("fd00::/64", "::/0")}, true, true},
	} {
		if got := (Plan{Routes: c.routes, LANBypass: c.bypass}).asksLANs(); got != c.want {
			t.Errorf("%+v, lan-bypass %v: %v", c.routes, c.bypass, got)
		}
	}
}
