package selector

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// The properties are checked on the same draws each time.
func TestMain(m *testing.M) {
	flag.Parse()
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "1000", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func ts(t testing.TB, s string, rest ...uint16) TS {
	t.Helper()
	var out TS
	if p, err := netip.ParsePrefix(s); err == nil {
		out = FromPrefix(p)
	} else {
		var lo, hi string
		for i, c := range s {
			if c == '-' {
				lo, hi = s[:i], s[i+1:]
			}
		}
		out = TS{Lo: netip.MustParseAddr(lo), Hi: netip.MustParseAddr(hi), PortHi: 65535}
	}
	if len(rest) > 0 {
		out.Proto = uint8(rest[0])
	}
	if len(rest) > 2 {
		out.PortLo, out.PortHi = rest[1], rest[2]
	}
	return out
}

func TestString(t *testing.T) {
	for want, in := range map[string]TS{
		"10.1.202.0/24":            ts(t, "10.1.202.0/24"),
		"10.1.1.1/32":              ts(t, "10.1.1.1/32"),
		"0.0.0.0/0":                ts(t, "0.0.0.0/0"),
		"::/0":                     ts(t, "::/0"),
		"2001:db8::/32":            ts(t, "2001:db8::/32"),
		"10.0.0.1-10.0.0.9":        ts(t, "10.0.0.1-10.0.0.9"),
		"10.1.0.0/16[tcp/80]":      ts(t, "10.1.0.0/16", 6, 80, 80),
		"10.1.0.0/16[udp]":         ts(t, "10.1.0.0/16", 17),
		"10.1.0.0/16[udp/1-1024]":  ts(t, "10.1.0.0/16", 17, 1, 1024),
		"10.1.0.0/16[tcp/opaque]":  ts(t, "10.1.0.0/16", 6, 65535, 0),
		"10.1.0.0/16[icmp/8:0]":    ts(t, "10.1.0.0/16", 1, 0x0800, 0x0800),
		"10.1.0.0/16[253]":         ts(t, "10.1.0.0/16", 253),
		"10.1.0.0/16[all/80]":      ts(t, "10.1.0.0/16", 0, 80, 80),
		"::/0[icmpv6/128:0-129:0]": ts(t, "::/0", 58, 0x8000, 0x8100),
	} {
		if got := in.String(); got != want {
			t.Errorf("%#v prints %q, want %q", in, got, want)
		}
	}
	p := Pair{ts(t, "10.1.0.0/16"), ts(t, "10.2.0.0/16")}
	if got := p.String(); got != "10.1.0.0/16 => 10.2.0.0/16" {
		t.Errorf("pair prints %q", got)
	}
}

func TestIsAny(t *testing.T) {
	for want, all := range map[bool][]TS{
		true:  {ts(t, "0.0.0.0/0"), ts(t, "::/0")},
		false: {ts(t, "0.0.0.0/1"), ts(t, "::/0", 6), ts(t, "0.0.0.0/0", 0, 1, 65535), ts(t, "0.0.0.0-255.255.255.254"), {}},
	} {
		for _, s := range all {
			if s.IsAny() != want {
				t.Errorf("%#v: IsAny is %v", s, !want)
			}
		}
	}
}

func TestPrefix(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.0-10.0.0.255":                            "10.0.0.0/24",
		"10.0.0.0-10.0.0.0":                              "10.0.0.0/32",
		"0.0.0.0-255.255.255.255":                        "0.0.0.0/0",
		"10.0.0.0-10.0.0.254":                            "",
		"10.0.0.1-10.0.0.255":                            "",
		"10.0.0.255-10.0.1.0":                            "",
		"2001:db8::-2001:db8::ffff":                      "2001:db8::/112",
		"2001:db8::-2001:db8:0:1::":                      "",
		"2001:db8::1-2001:db8::1":                        "2001:db8::1/128",
		"10.0.0.255-10.0.0.0":                            "",
		"2001:db8::ffff-2001:db8::":                      "",
		"10.0.0.0-2001:db8::":                            "",
		"10.0.0.128-10.0.0.255":                          "10.0.0.128/25",
		"ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "ff00::/8",
	} {
		p, ok := ts(t, in).Prefix()
		if got := p.String(); ok && got != want || !ok && want != "" {
			t.Errorf("%s: %v %v, want %q", in, p, ok, want)
		}
	}
}

// family is small enough to be looked at point by point: 8 addresses around a
// byte border, 3 protocols, 6 ports and "not visible".
var (
	sampleProtos = []uint8{1, 6, 17}
	samplePorts  = []uint16{0, 1, 79, 80, 443, 65535}
)

func sampleAddrs() []netip.Addr {
	var out []netip.Addr
	for _, base := range []string{"10.0.0.252", "2001:db8::fffc"} {
		a := netip.MustParseAddr(base)
		for range 8 {
			out = append(out, a)
			a = a.Next()
		}
	}
	return out
}

func drawTS(t *rapid.T, v6 bool) TS {
	addrs := sampleAddrs()[:8]
	if v6 {
		addrs = sampleAddrs()[8:]
	}
	i, j := rapid.IntRange(0, 7).Draw(t, "lo"), rapid.IntRange(0, 7).Draw(t, "hi")
	s := TS{Lo: addrs[min(i, j)], Hi: addrs[max(i, j)], PortHi: 65535}
	s.Proto = rapid.SampledFrom(append([]uint8{0}, sampleProtos...)).Draw(t, "proto")
	switch rapid.IntRange(0, 3).Draw(t, "ports") {
	case 0:
		s.PortLo, s.PortHi = 65535, 0
	case 1:
		a, b := rapid.SampledFrom(samplePorts).Draw(t, "p"), rapid.SampledFrom(samplePorts).Draw(t, "q")
		s.PortLo, s.PortHi = min(a, b), max(a, b)
	}
	return s
}

// point is one packet's end; port -1 is not visible.
type point struct {
	addr  netip.Addr
	proto uint8
	port  int
}

func points(f func(point)) {
	for _, a := range sampleAddrs() {
		for _, proto := range sampleProtos {
			f(point{a, proto, -1})
			for _, port := range samplePorts {
				f(point{a, proto, int(port)})
			}
		}
	}
}

func (t TS) has(p point) bool {
	if p.port < 0 {
		return t.ContainsOpaque(p.addr, p.proto)
	}
	return t.Contains(p.addr, p.proto, uint16(p.port))
}

func TestSetAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawTS(t, rapid.Bool().Draw(t, "a6"))
		b := drawTS(t, rapid.Bool().Draw(t, "b6"))
		c, ok := Intersect(a, b)
		d, ok2 := Intersect(b, a)
		if c != d || ok != ok2 {
			t.Fatalf("%v ∩ %v: %v, the other way %v", a, b, c, d)
		}
		if ok && !(a.Covers(c) && b.Covers(c)) {
			t.Fatalf("%v ∩ %v = %v is not in both", a, b, c)
		}
		if a.Covers(b) != (ok && c == b) {
			t.Fatalf("%v covers %v: %v, but the intersection is %v", a, b, a.Covers(b), c)
		}
		points(func(p point) {
			both := a.has(p) && b.has(p)
			if both != (ok && c.has(p)) {
				t.Fatalf("%v ∩ %v = %v, %v differs at %+v", a, b, c, ok, p)
			}
			if a.Covers(b) && b.has(p) && !a.has(p) {
				t.Fatalf("%v covers %v but for %+v", a, b, p)
			}
		})
	})
}

func TestNarrowIsTheIntersectionOfUnions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offered, allowed []TS
		for range rapid.IntRange(0, 4).Draw(t, "offered") {
			offered = append(offered, drawTS(t, rapid.Bool().Draw(t, "6")))
		}
		for range rapid.IntRange(0, 4).Draw(t, "allowed") {
			allowed = append(allowed, drawTS(t, rapid.Bool().Draw(t, "6")))
		}
		got := Narrow(offered, allowed)
		in := func(set []TS, p point) bool {
			for _, s := range set {
				if s.has(p) {
					return true
				}
			}
			return false
		}
		points(func(p point) {
			if in(got, p) != (in(offered, p) && in(allowed, p)) {
				t.Fatalf("offered %v, allowed %v: narrowed to %v, which differs at %+v", offered, allowed, got, p)
			}
		})
		for i, s := range got {
			for j, u := range got {
				if i != j && s.Covers(u) {
					t.Fatalf("%v in %v is covered by another", u, got)
				}
			}
		}
	})
}

func TestNarrowPair(t *testing.T) {
	policy := Pair{Local: ts(t, "10.1.0.0/16"), Remote: ts(t, "10.2.0.0/16")}
	tcp := policy
	tcp.Local.Proto = 6
	for name, c := range map[string]struct {
		local, remote []TS
		policy        Pair
		wantL, wantR  []TS
	}{
		"as offered":     {[]TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.2.0.0/16")}, policy, []TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.2.0.0/16")}},
		"wider offer":    {[]TS{ts(t, "0.0.0.0/0")}, []TS{ts(t, "0.0.0.0/0")}, policy, []TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.2.0.0/16")}},
		"narrower offer": {[]TS{ts(t, "10.1.1.0/24")}, []TS{ts(t, "10.2.1.1-10.2.1.9")}, policy, []TS{ts(t, "10.1.1.0/24")}, []TS{ts(t, "10.2.1.1-10.2.1.9")}},
		"packet first, then its net": {
			[]TS{ts(t, "10.1.1.1/32", 6, 80, 80), ts(t, "10.1.1.0/24")}, []TS{ts(t, "10.2.1.1/32", 6, 999, 999), ts(t, "10.0.0.0/8")}, policy,
			[]TS{ts(t, "10.1.1.0/24")}, []TS{ts(t, "10.2.0.0/16")}},
		"packet first, then something else": {
			[]TS{ts(t, "10.1.1.1/32"), ts(t, "10.1.9.0/24"), ts(t, "11.0.0.0/8")}, []TS{ts(t, "10.2.1.1/32")}, policy,
			[]TS{ts(t, "10.1.1.1/32"), ts(t, "10.1.9.0/24")}, []TS{ts(t, "10.2.1.1/32")}},
		"protocol named at one end": {[]TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.2.0.0/16")}, tcp, []TS{ts(t, "10.1.0.0/16", 6)}, []TS{ts(t, "10.2.0.0/16", 6)}},
		"no partner of the protocol": {
			[]TS{ts(t, "10.1.0.0/16", 6), ts(t, "10.1.0.0/16", 17)}, []TS{ts(t, "10.2.0.0/16", 17)}, policy,
			[]TS{ts(t, "10.1.0.0/16", 17)}, []TS{ts(t, "10.2.0.0/16", 17)}},
		"other families are left out": {
			[]TS{ts(t, "::/0"), ts(t, "0.0.0.0/0")}, []TS{ts(t, "::/0"), ts(t, "0.0.0.0/0")}, policy,
			[]TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.2.0.0/16")}},
		"nothing of the remote end": {[]TS{ts(t, "10.1.0.0/16")}, []TS{ts(t, "10.3.0.0/16")}, policy, nil, nil},
		"other protocol":            {[]TS{ts(t, "10.1.0.0/16", 17)}, []TS{ts(t, "10.2.0.0/16")}, tcp, nil, nil},
		"protocols that never meet": {[]TS{ts(t, "10.1.0.0/16", 6)}, []TS{ts(t, "10.2.0.0/16", 17)}, policy, nil, nil},
		"nothing offered":           {nil, []TS{ts(t, "10.2.0.0/16")}, policy, nil, nil},
	} {
		l, r, ok := NarrowPair(c.local, c.remote, c.policy)
		if ok != (c.wantL != nil) || !reflect.DeepEqual(l, c.wantL) || !reflect.DeepEqual(r, c.wantR) {
			t.Errorf("%s: %v %v %v, want %v %v", name, l, r, ok, c.wantL, c.wantR)
		}
	}
}

func TestPairs(t *testing.T) {
	local := []TS{ts(t, "10.1.0.0/16", 6), ts(t, "10.1.0.0/16", 17), ts(t, "::/0")}
	remote := []TS{ts(t, "10.2.0.0/16"), ts(t, "10.3.0.0/16", 17)}
	want := []Pair{
		{ts(t, "10.1.0.0/16", 6), ts(t, "10.2.0.0/16", 6)},
		{ts(t, "10.1.0.0/16", 17), ts(t, "10.2.0.0/16", 17)},
		{ts(t, "10.1.0.0/16", 17), ts(t, "10.3.0.0/16", 17)},
	}
	if got := Pairs(local, remote); !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

func TestIntersectPair(t *testing.T) {
	a := Pair{ts(t, "10.1.0.0/16"), ts(t, "10.2.0.0/16", 6, 80, 80)}
	b := Pair{ts(t, "10.0.0.0/8"), ts(t, "10.2.1.0/24")}
	want := Pair{ts(t, "10.1.0.0/16", 6), ts(t, "10.2.1.0/24", 6, 80, 80)}
	if got, ok := IntersectPair(a, b); !ok || got != want {
		t.Fatalf("%v %v, want %v", got, ok, want)
	}
	if !a.Covers(want) || want.Covers(a) || a.Reverse().Reverse() != a {
		t.Fatal("Covers or Reverse is wrong")
	}
	for _, b := range []Pair{
		{ts(t, "10.1.0.0/16", 17), ts(t, "0.0.0.0/0")},
		{ts(t, "10.1.0.0/16"), ts(t, "10.3.0.0/16")},
		{ts(t, "10.3.0.0/16"), ts(t, "10.2.0.0/16")},
		{ts(t, "::/0"), ts(t, "::/0")},
	} {
		if got, ok := IntersectPair(a, b); ok {
			t.Errorf("%v and %v have %v in common", a, b, got)
		}
	}
}

// Matches without a direction: the port that is not zero is the type's.
func TestMatchesTypedProtocols(t *testing.T) {
	p := Pair{ts(t, "10.1.0.0/16", 1, 0x0800, 0x0800), ts(t, "10.2.0.0/16", 1, 0, 0)}
	l, r := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
	for name, c := range map[string]struct{ got, want bool }{
		"echo out":           {p.Matches(l, r, 1, 0x0800, 0), true},
		"echo in":            {p.Matches(l, r, 1, 0, 0x0800), false},
		"reply":              {p.Matches(l, r, 1, 0, 0), true},
		"reply out":          {p.MatchesOut(l, r, 1, 0, 0), false},
		"reply in":           {p.MatchesIn(l, r, 1, 0, 0), true},
		"unreachable out":    {p.Matches(l, r, 1, 0x0300, 0), false},
		"udp":                {p.Matches(l, r, 17, 0x0800, 0), false},
		"ends swapped":       {p.Matches(r, l, 1, 0x0800, 0), false},
		"type not visible":   {p.MatchesOpaque(l, r, 1), false},
		"any, not visible":   {Pair{ts(t, "10.1.0.0/16"), ts(t, "10.2.0.0/16", 6, 65535, 0)}.MatchesOpaque(l, r, 6), true},
		"opaque with a port": {Pair{ts(t, "10.1.0.0/16"), ts(t, "10.2.0.0/16", 6, 65535, 0)}.Matches(l, r, 6, 1, 2), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", name, c.got)
		}
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	p := Pair{ts(t, "2001:db8::/32"), ts(t, "2001:db9::/32", 6, 80, 90)}
	l, r := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db9::1")
	if n := testing.AllocsPerRun(100, func() {
		if !p.Matches(l, r, 6, 1, 80) || !p.Local.Contains(l, 6, 1) || p.MatchesOpaque(l, r, 6) {
			t.Error("no match")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// Any two addresses, however far apart: the prefixes tile the range.
func FuzzPrefixes(f *testing.F) {
	for _, s := range [][2]string{{"10.0.0.1", "10.0.0.9"}, {"0.0.0.0", "255.255.255.255"}, {"0.0.0.1", "255.255.255.254"},
		{"::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"}, {"::", "::"}, {"10.0.0.1", "::"}} {
		f.Add(netip.MustParseAddr(s[0]).AsSlice(), netip.MustParseAddr(s[1]).AsSlice())
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		lo, _ := netip.AddrFromSlice(a)
		hi, _ := netip.AddrFromSlice(b)
		s := TS{Lo: lo, Hi: hi, PortHi: 65535}
		ps := s.Prefixes()
		if !s.Valid() {
			if ps != nil {
				t.Fatalf("%v is cut into %v", s, ps)
			}
			return
		}
		if len(ps) == 0 || len(ps) > 254 || ps[0].Addr() != lo || lastAddr(ps[len(ps)-1]) != hi {
			t.Fatalf("%v is cut into %v", s, ps)
		}
		for i, p := range ps {
			if p != p.Masked() || i > 0 && lastAddr(ps[i-1]).Next() != p.Addr() {
				t.Fatalf("%v is cut into %v", s, ps)
			}
		}
		if p, ok := s.Prefix(); ok != (len(ps) == 1) || ok && p != ps[0] {
			t.Fatalf("Prefix of %v is %v %v, Prefixes %v", s, p, ok, ps)
		}
	})
}

func FuzzIntersect(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0}, []byte{10, 0, 0, 255}, uint8(0), uint16(0), uint16(65535), []byte{10, 0, 0, 7}, []byte{10, 0, 1, 0}, uint8(6), uint16(80), uint16(80))
	f.Add([]byte{10, 0, 0, 0}, []byte{10, 0, 0, 255}, uint8(6), uint16(65535), uint16(0), []byte{10, 0, 0, 0}, []byte{10, 0, 1, 0}, uint8(0), uint16(0), uint16(65535))
	f.Fuzz(func(t *testing.T, alo, ahi []byte, aproto uint8, ap, aq uint16, blo, bhi []byte, bproto uint8, bp, bq uint16) {
		make1 := func(lo, hi []byte, proto uint8, p, q uint16) TS {
			l, _ := netip.AddrFromSlice(lo)
			h, _ := netip.AddrFromSlice(hi)
			return TS{l, h, proto, p, q}
		}
		a, b := make1(alo, ahi, aproto, ap, aq), make1(blo, bhi, bproto, bp, bq)
		c, ok := Intersect(a, b)
		if ok != c.Valid() || ok && !(a.Covers(c) && b.Covers(c)) || a.Covers(b) != (ok && c == b) {
			t.Fatalf("%v ∩ %v = %v %v", a, b, c, ok)
		}
		if a.Valid() != a.Covers(a) {
			t.Fatalf("%v covers itself: %v", a, a.Covers(a))
		}
		_ = fmt.Sprint(a, Pair{a, b})
	})
}
