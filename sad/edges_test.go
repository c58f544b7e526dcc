package sad

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/internal/packet/wire"
)

// A claim about a path is passed on to an SA on it that has a peer and goes to that port, once in ClaimsEvery.
func TestClaims(t *testing.T) {
	table := NewTable(10, 1)
	p := params(t, table, 1)
	port := netip.AddrPortFrom(p.Remote.Addr(), 1024)
	install(t, table, p)
	q := params(t, table, 2)
	q.Remote = port
	install(t, table, q)
	m := manual(t, table, 3, 0x300)
	m.Local, m.Remote, m.UDP = p.Local, p.Remote, true
	install(t, table, m)
	every := int64(ClaimsEvery)
	for i, c := range []struct {
		remote netip.AddrPort
		mtu    int
		now    int64
		child  uint64 // 0: not passed on
	}{
		{p.Remote, 1400, 1, 1}, // the first one, however early
		{p.Remote, 1400, every, 0},
		{p.Remote, 1400, every + 1, 1},
		{port, 1400, 2*every + 1, 2},
		{p.Remote, MaxPMTU + 1, 4 * every, 0}, // lowers nothing
		{netip.MustParseAddrPort("203.0.113.77:4500"), 1400, 5 * every, 0},
		{netip.AddrPortFrom(p.Remote.Addr(), 7), 1400, 6 * every, 0},
	} {
		child, size, ok := table.Claim(p.Local.Addr(), c.remote, c.mtu, c.now)
		if child != c.child || ok != (c.child != 0) || ok != (size != 0) {
			t.Errorf("claim %d: SA %d, %d bytes, %v", i+1, child, size, ok)
		}
	}
}

// Reaches asks for addresses and protocol, of both ends, and not for ports.
func TestReaches(t *testing.T) {
	table := NewTable(10, 1)
	for name, c := range map[string]struct {
		local, remote uint8 // protocol of the selectors
		src, dst      string
		want          bool
	}{
		"any protocol":                {0, 0, "10.2.0.1", "10.1.0.1", true},
		"the protocol":                {6, 6, "10.2.0.1", "10.1.0.1", true},
		"another protocol at one end": {17, 0, "10.2.0.1", "10.1.0.1", false},
		"another at the other end":    {0, 17, "10.2.0.1", "10.1.0.1", false},
		"another source":              {0, 0, "10.3.0.1", "10.1.0.1", false},
		"another destination":         {0, 0, "10.2.0.1", "10.3.0.1", false},
		"outbound":                    {0, 0, "10.1.0.1", "10.2.0.1", false},
		"another family":              {0, 0, "2001:db8::1", "2001:db8::2", false},
	} {
		p := params(t, table, 1)
		p.Pairs[0].Local.Proto, p.Pairs[0].Remote.Proto = c.local, c.remote
		p.Pairs[0].Local.PortLo, p.Pairs[0].Local.PortHi = 80, 80
		child := install(t, table, p)
		f := &wire.Flow{Src: netip.MustParseAddr(c.src), Dst: netip.MustParseAddr(c.dst), Proto: 6, Opaque: true}
		if got := child.Inbound().Reaches(f); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		table.Remove(1)
	}
}

// A packet from elsewhere is reported at most once in HeardEvery.
func TestStrayed(t *testing.T) {
	table := NewTable(10, 1)
	p := params(t, table, 1)
	in := install(t, table, p).Inbound()
	elsewhere := netip.MustParseAddrPort("203.0.113.1:4500")
	every := int64(HeardEvery)
	if !in.Commit(7) {
		t.Fatal("Commit")
	}
	for i, c := range []struct {
		seq  uint64
		from netip.AddrPort
		now  int64
		want bool
	}{
		{7, p.Remote, 1, false}, {6, elsewhere, 1, false}, {7, elsewhere, 1, true},
		{7, elsewhere, every, false}, {7, elsewhere, every + 1, true},
	} {
		if got := in.Strayed(c.seq, c.from, c.now); got != c.want {
			t.Errorf("packet %d: %v", i+1, got)
		}
	}
}

type noted struct {
	Transform
	wiped bool
}

func (n *noted) Wipe() { n.wiped = true; n.Transform.Wipe() }

// Both halves' transforms are wiped with the SA.
func TestTransformsAreWiped(t *testing.T) {
	table := NewTable(10, 1)
	c := install(t, table, params(t, table, 1))
	in, out := &noted{Transform: c.in.transform}, &noted{Transform: c.out.transform}
	c.in.transform, c.out.transform = in, out
	table.Remove(1)
	if !in.wiped || !out.wiped {
		t.Errorf("wiped: inbound %v, outbound %v", in.wiped, out.wiped)
	}
}

// To one address there may be several paths, from several of ours: where ours is not known, it is the last one that is there.
func TestPathToAnAddress(t *testing.T) {
	for _, first := range []uint64{1, 2} {
		table := NewTable(10, 1)
		p := params(t, table, 1)
		one := install(t, table, p).Path()
		q := params(t, table, 2)
		q.Local = netip.MustParseAddrPort("198.51.100.1:4500")
		two := install(t, table, q).Path()
		if one == two || table.Path(netip.Addr{}, p.Remote.Addr()) != two {
			t.Fatal("not the last path")
		}
		want := two
		if table.Remove(first); first == 2 {
			want = nil
		}
		if got := table.Path(netip.Addr{}, p.Remote.Addr()); got != want {
			t.Errorf("without SA %d: %+v, want %+v", first, got, want)
		}
	}
}

// An SA that begins to seal late stands behind all that were installed after it.
func TestLateActivationIsBehindAll(t *testing.T) {
	table := NewTable(10, 1)
	late := params(t, table, 1)
	late.Standby = true
	install(t, table, late)
	for id := range uint64(3) {
		install(t, table, params(t, table, id+2))
	}
	table.Activate(1)
	for _, want := range []uint64{4, 3, 2, 1} {
		if o := table.Outbound(1, testFlow("10.1.0.1", "10.2.0.1")); o == nil || o.Child().ID != want {
			t.Fatalf("%v seals, not SA %d", o, want)
		}
		table.Remove(want)
	}
}

// The index counts what it has, and grows with it.
func TestPolicyIndexGrows(t *testing.T) {
	var x policyIndex
	x.init()
	o := &Outbound{child: &Child{}}
	const n = 1000
	for ref := range uint32(n) {
		x.remove(ref+n, o) // which it does not have
		x.add(ref, o)
		x.add(ref, o)
	}
	if buckets := len(*x.buckets.Load()); x.entries != n || buckets < n {
		t.Errorf("%d entries in %d buckets", x.entries, buckets)
	}
	for ref := range uint32(n) {
		x.remove(ref, o)
		x.remove(ref, o)
	}
	if x.entries != 0 {
		t.Errorf("%d entries are left", x.entries)
	}
}

// What is left of the window is refused although its place in the ring was not used again yet.
func TestClaimLeftOfTheWindow(t *testing.T) {
	var r replay
	r.init(64, false)
	for _, c := range []struct {
		seq  uint64
		want bool
	}{{1000, true}, {1000 - 63, true}, {1000 - 64, false}, {1000 - 63, false}, {0, false}} {
		if got := r.check(c.seq); got != c.want {
			t.Errorf("check %d: %v", c.seq, got)
		}
		if got := r.claim(c.seq); got != c.want {
			t.Errorf("claim %d: %v", c.seq, got)
		}
	}
}

// An SPI that people gave is not given again, and costs no other one.
func TestGivenSPIIsSkipped(t *testing.T) {
	all := NewTable(4, 1).AllocSPIs(4)
	table := NewTable(4, 1)
	p := params(t, NewTable(4, 2), 9)
	p.In.SPI, p.Manual = all[1], true
	install(t, table, p)
	got := table.AllocSPIs(4)
	if len(got) != 4 || slices.Contains(got, all[1]) || got[0] != all[0] {
		t.Errorf("%x, and %x is given", got, all[1])
	}
}

// A lifetime is over at its instant.
func TestHardLifetimeOfAMoment(t *testing.T) {
	table := NewTable(10, 1)
	p := params(t, table, 1)
	p.Hard = 1
	o := install(t, table, p).Outbound()
	if o.Expired(start.UnixNano()) || !o.Expired(start.Add(time.Nanosecond).UnixNano()) {
		t.Error("a lifetime of a nanosecond is not one")
	}
}

// Without a replay window a packet that comes again from elsewhere tells nothing of where
// the peer is.
func TestNobodyStraysWithoutAReplayWindow(t *testing.T) {
	table := NewTable(10, 1)
	p := params(t, table, 1)
	p.ReplayWindow = 0
	in := install(t, table, p).Inbound()
	elsewhere := netip.MustParseAddrPort("198.51.100.7:4500")
	for range 2 {
		if !in.Commit(9) {
			t.Fatal("a packet that came before is refused")
		}
	}
	if in.Strayed(9, elsewhere, 1) {
		t.Error("the newest packet, sent again, moves the peer")
	}
}
