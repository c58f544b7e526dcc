package selector

import (
	"net/netip"
	"reflect"
	"testing"
)

func at(s string) netip.Addr { return netip.MustParseAddr(s) }

// invalid are selectors that denote no packet.
func invalid() map[string]TS {
	return map[string]TS{
		"nothing":                 {},
		"no addresses":            {PortHi: 65535},
		"only the lowest":         {Lo: at("10.0.0.1"), PortHi: 65535},
		"only the highest":        {Hi: at("10.0.0.1"), PortHi: 65535},
		"two families":            {Lo: at("10.0.0.1"), Hi: at("2001:db8::1"), PortHi: 65535},
		"addresses out of order":  {Lo: at("10.0.0.2"), Hi: at("10.0.0.1"), PortHi: 65535},
		"addresses far apart":     {Lo: at("10.9.0.0"), Hi: at("10.0.0.1"), PortHi: 65535},
		"ports out of order":      {Lo: at("10.0.0.1"), Hi: at("10.0.0.2"), PortLo: 2, PortHi: 1},
		"nearly OPAQUE":           {Lo: at("10.0.0.1"), Hi: at("10.0.0.2"), PortLo: 65535, PortHi: 1},
		"nearly OPAQUE otherwise": {Lo: at("10.0.0.1"), Hi: at("10.0.0.2"), PortLo: 65534, PortHi: 0},
	}
}

// What is not valid covers nothing, is covered by nothing and has nothing in common with anything.
func TestInvalid(t *testing.T) {
	for name, bad := range invalid() {
		if bad.Valid() {
			t.Errorf("%s: valid", name)
		}
		if bad.IsAny() {
			t.Errorf("%s: any", name)
		}
		for _, good := range []TS{ts(t, "0.0.0.0/0"), ts(t, "::/0"), ts(t, "10.0.0.1-10.0.0.2"), bad} {
			if good.Covers(bad) || bad.Covers(good) {
				t.Errorf("%s and %v: one covers the other", name, good)
			}
			for _, pair := range [][2]TS{{good, bad}, {bad, good}} {
				if got, ok := Intersect(pair[0], pair[1]); ok || got != (TS{}) {
					t.Errorf("%s and %v have %v in common", name, good, got)
				}
			}
		}
	}
	for _, name := range []string{"nothing", "only the lowest", "only the highest", "two families", "addresses out of order", "addresses far apart"} {
		if got := invalid()[name].Prefixes(); got != nil {
			t.Errorf("%s: prefixes %v", name, got)
		}
	}
}

func TestValid(t *testing.T) {
	for _, good := range []TS{ts(t, "10.0.0.1-10.0.0.1"), ts(t, "::1-::2", 6, 80, 80), ts(t, "10.0.0.0/8", 0, 65535, 0)} {
		if !good.Valid() {
			t.Errorf("%v is not valid", good)
		}
	}
}

// Both ends of each range belong to it, and what is beside them does not.
func TestContainsItsEnds(t *testing.T) {
	s := ts(t, "10.0.0.4-10.0.0.6", 6, 80, 82)
	for _, c := range []struct {
		addr  string
		proto uint8
		port  uint16
		want  bool
	}{
		{"10.0.0.3", 6, 81, false}, {"10.0.0.4", 6, 81, true}, {"10.0.0.6", 6, 81, true}, {"10.0.0.7", 6, 81, false},
		{"10.0.0.5", 6, 79, false}, {"10.0.0.5", 6, 80, true}, {"10.0.0.5", 6, 82, true}, {"10.0.0.5", 6, 83, false},
		{"10.0.0.5", 17, 81, false}, {"::ffff:10.0.0.5", 6, 81, false}, {"2001:db8::5", 6, 81, false},
	} {
		if got := s.Contains(at(c.addr), c.proto, c.port); got != c.want {
			t.Errorf("%v: %s %d %d: %v", s, c.addr, c.proto, c.port, got)
		}
	}
	six := ts(t, "::4-::6")
	for a, want := range map[string]bool{"::3": false, "::4": true, "::6": true, "::7": false, "0.0.0.5": false} {
		if got := six.Contains(at(a), 6, 1); got != want {
			t.Errorf("%v: %s: %v", six, a, got)
		}
	}
	if (TS{PortHi: 65535}).Contains(netip.Addr{}, 6, 1) || (TS{Hi: at("::"), PortHi: 65535}).Contains(at("10.0.0.1"), 6, 1) {
		t.Error("what has no addresses contains one")
	}
}

// An OPAQUE selector has nothing in common with one that asks for ports, in either order.
func TestOpaqueMeetsPorts(t *testing.T) {
	opaque, ports, anyPort := ts(t, "10.0.0.0/8", 6, 65535, 0), ts(t, "10.0.0.0/8", 6, 80, 90), ts(t, "10.0.0.0/8", 6)
	for _, c := range []struct {
		a, b, want TS
		ok         bool
	}{
		{opaque, ports, TS{}, false}, {ports, opaque, TS{}, false},
		{opaque, anyPort, opaque, true}, {anyPort, opaque, opaque, true}, {opaque, opaque, opaque, true},
		{ports, ts(t, "10.0.0.0/8", 6, 90, 95), ts(t, "10.0.0.0/8", 6, 90, 90), true},
		{ports, ts(t, "10.0.0.0/8", 6, 91, 95), TS{}, false},
		{ports, ts(t, "11.0.0.0/8", 6, 80, 90), TS{}, false},
		{ports, ts(t, "10.0.0.0/8", 17, 80, 90), TS{}, false},
		{ts(t, "10.0.0.1-10.0.0.5"), ts(t, "10.0.0.5-10.0.0.9"), ts(t, "10.0.0.5-10.0.0.5"), true},
	} {
		if got, ok := Intersect(c.a, c.b); ok != c.ok || got != c.want {
			t.Errorf("%v and %v: %v %v, want %v %v", c.a, c.b, got, ok, c.want, c.ok)
		}
	}
}

// A packet of a typed protocol whose direction is not known: the end that has a type is the sender.
func TestMatchesWithoutDirection(t *testing.T) {
	const echo, unreachable = 8 << 8, 3<<8 | 1
	for _, proto := range []uint8{1, 58, 135} {
		p := Pair{ts(t, "10.1.0.0/16", uint16(proto), echo, echo), ts(t, "10.2.0.0/16", uint16(proto), unreachable, unreachable)}
		here, there := at("10.1.0.1"), at("10.2.0.1")
		for _, c := range []struct {
			local, remote uint16
			want          bool
		}{
			{echo, 0, true}, {0, unreachable, true},
			{unreachable, 0, false}, {0, echo, false}, {0, 0, false},
			{echo, unreachable, true}, // both: either may be the sender
			{echo, 1, true}, {1, unreachable, true}, {1, 1, false},
		} {
			if got := p.Matches(here, there, proto, c.local, c.remote); got != c.want {
				t.Errorf("protocol %d, %#x and %#x: %v", proto, c.local, c.remote, got)
			}
		}
	}
	reply := Pair{ts(t, "10.1.0.0/16", 1, 0, 0), ts(t, "10.2.0.0/16", 1, unreachable, unreachable)}
	if !reply.Matches(at("10.1.0.1"), at("10.2.0.1"), 1, 0, 0) {
		t.Error("an echo reply from here, of type 0, is not matched")
	}
	if reply.MatchesOut(at("10.1.0.1"), at("10.3.0.1"), 1, 0, 0) {
		t.Error("the address of the other end is ignored")
	}
	mixed := Pair{reply.Local, ts(t, "10.2.0.0/16", 6)}
	if mixed.MatchesOut(at("10.1.0.1"), at("10.2.0.1"), 1, 0, 0) {
		t.Error("the protocol of the other end is ignored")
	}
	for _, theirs := range []uint16{1, echo} {
		if reply.Matches(at("10.1.0.1"), at("10.2.0.1"), 1, 0, theirs) {
			t.Errorf("a packet of type %#x from the other end is taken for an echo reply from here", theirs)
		}
	}
	if !Typed(135) || Typed(6) || Typed(17) || Typed(134) || Typed(136) {
		t.Error("typed are ICMP, ICMPv6 and the mobility header")
	}
	tcp := Pair{ts(t, "10.1.0.0/16", 6, 80, 80), ts(t, "10.2.0.0/16", 6, 1, 1)}
	if tcp.Matches(at("10.1.0.1"), at("10.2.0.1"), 6, 1, 80) || !tcp.Matches(at("10.1.0.1"), at("10.2.0.1"), 6, 80, 1) {
		t.Error("TCP is matched in the wrong direction")
	}
}

// Both ends have to be covered.
func TestPairCovers(t *testing.T) {
	wide, narrow := ts(t, "10.0.0.0/8"), ts(t, "10.1.0.0/16")
	for _, c := range []struct {
		p, q Pair
		want bool
	}{
		{Pair{wide, wide}, Pair{narrow, narrow}, true},
		{Pair{narrow, wide}, Pair{wide, narrow}, false},
		{Pair{wide, narrow}, Pair{narrow, wide}, false},
	} {
		if got := c.p.Covers(c.q); got != c.want {
			t.Errorf("%v covers %v: %v", c.p, c.q, got)
		}
	}
}

// Nothing is left of either end if nothing is left of the other.
func TestNarrowToNothing(t *testing.T) {
	in, out, six := []TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.3.0.0/16")}, []TS{ts(t, "2001:db8::/32")}
	for name, c := range map[string]struct{ local, remote []TS }{
		"the local end":  {out, in},
		"the remote end": {in, out},
		"families":       {in, six},
	} {
		allowed := append(append([]TS{}, in...), six...)
		local, remote, ok := NarrowSets(c.local, c.remote, allowed, allowed)
		if ok || local != nil || remote != nil {
			t.Errorf("%s: %v %v %v", name, local, remote, ok)
		}
	}
	for name, p := range map[string]Pair{"families": {in[0], six[0]}, "protocols": {ts(t, "10.1.0.0/16", 6), ts(t, "10.1.0.0/16", 17)}} {
		local, remote, ok := NarrowPair(in, in, p)
		if ok || local != nil || remote != nil {
			t.Errorf("a policy of two %s: %v %v %v", name, local, remote, ok)
		}
	}
	if local, remote, ok := NarrowPair(in, in, Pair{in[0], in[0]}); !ok || !reflect.DeepEqual(local, in) || !reflect.DeepEqual(remote, in) {
		t.Errorf("%v %v %v", local, remote, ok)
	}
}

// Overlap is symmetric, and true where a packet of both exists.
func TestOverlap(t *testing.T) {
	pair := func(local, remote TS) Pair { return Pair{Local: local, Remote: remote} }
	net := func(s string) TS { return FromPrefix(netip.MustParsePrefix(s)) }
	site := pair(net("10.1.0.0/16"), net("10.2.0.0/16"))
	for _, c := range []struct {
		a, b []Pair
		want bool
	}{
		{[]Pair{site}, []Pair{site}, true},
		{[]Pair{site}, []Pair{pair(net("10.1.7.0/24"), net("10.0.0.0/8"))}, true},
		{[]Pair{site}, []Pair{pair(net("10.1.7.0/24"), net("10.3.0.0/16"))}, false},
		{[]Pair{site}, []Pair{pair(net("10.4.0.0/16"), net("10.2.0.0/16"))}, false},
		{[]Pair{site}, []Pair{pair(net("10.4.0.0/16"), net("10.2.0.0/16")), site}, true},
		{[]Pair{site}, nil, false},
	} {
		if got, back := Overlap(c.a, c.b), Overlap(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%v and %v: %v and %v, not %v", c.a, c.b, got, back, c.want)
		}
	}
}
