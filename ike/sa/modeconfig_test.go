package sa

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Whatever a peer puts into a reply, what is kept of it is bounded and valid.
func FuzzLeaseRead(f *testing.F) {
	for kind := range uint16(17) {
		for n := range 20 {
			f.Add(kind, make([]byte, n))
			f.Add(kind, []byte{192, 168, 77, 9, 255, 255, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 64, 0, 0, 0}[:n])
		}
	}
	f.Fuzz(func(t *testing.T, kind uint16, value []byte) {
		l := &Lease{}
		for range 2 * MaxSubnets {
			l.Take(Attribute{Type: kind, Value: value})
		}
		if len(l.Addrs) > 2 || len(l.DNS) > MaxDNS || len(l.Subnets) > MaxSubnets {
			t.Fatalf("%d addresses, %d servers, %d networks", len(l.Addrs), len(l.DNS), len(l.Subnets))
		}
		for _, p := range l.Subnets {
			if !p.IsValid() || p != p.Masked() {
				t.Fatalf("network %v", p)
			}
		}
		if len(l.Addrs) > 0 {
			l.Networks()
			l.Selectors()
		}
	})
}

func TestMasks(t *testing.T) {
	for bits := range 33 {
		if got, ok := maskBits(mask4(bits)); !ok || got != bits {
			t.Errorf("/%d: %v gives %d, %v", bits, mask4(bits), got, ok)
		}
	}
	for _, bad := range [][]byte{nil, {255}, {255, 255, 255, 0, 0}, {255, 0, 255, 0}, {0, 0, 0, 1}} {
		if _, ok := maskBits(bad); ok {
			t.Errorf("%v is taken for a mask", bad)
		}
	}
}

func TestReadLease(t *testing.T) {
	l := &Lease{}
	for _, a := range []Attribute{
		{Type: CfgIP4Address, Value: []byte{0, 0, 0, 0}}, {Type: CfgIP4Address, Value: []byte{127, 0, 0, 1}},
		{Type: CfgIP4Address, Value: []byte{10, 0, 0, 9}}, {Type: CfgIP4Address, Value: []byte{10, 0, 0, 10}},
		{Type: CfgIP6Address, Value: append(netip.MustParseAddr("fd00::9").AsSlice(), 64)},
		{Type: CfgIP4Subnet, Value: []byte{0, 0, 0, 0, 0, 0, 0, 0}}, {Type: CfgIP6Subnet, Value: append(netip.MustParseAddr("fd00:2::7").AsSlice(), 64)},
		{Type: CfgIP6Subnet, Value: append(netip.MustParseAddr("fd00:2::7").AsSlice(), 200)},
	} {
		l.Take(a)
	}
	if len(l.Addrs) != 2 || l.Addrs[0].String() != "10.0.0.9" || l.Addrs[1].String() != "fd00::9" ||
		len(l.Subnets) != 2 || l.Subnets[0].String() != "0.0.0.0/0" || l.Subnets[1].String() != "fd00:2::/64" {
		t.Errorf("%v, %v", l.Addrs, l.Subnets)
	}
}

// The length of an IPv6 prefix is told where it is one that IPv4 does not have.
func TestConfigReplyLengths(t *testing.T) {
	a4, a6 := netip.MustParseAddr("10.9.0.5"), netip.MustParseAddr("2001:db8::5")
	for bits, want := range map[int]byte{0: 128, 24: 128, 32: 128, 33: 33, 64: 64, 128: 128} {
		c := ConfigReply{Addrs: []netip.Addr{a4, a6}, Bits: bits, Netmask: true}.Attributes()
		if len(c) != 3 || c[2].Type != CfgIP6Address || !bytes.Equal(c[2].Value, append(a6.AsSlice(), want)) {
			t.Errorf("%d bits: %+v", bits, c)
		}
		if c[1].Type != CfgIP4Netmask || !bytes.Equal(c[1].Value, mask(min(bits, 32))) {
			t.Errorf("%d bits: the netmask %x", bits, c[1].Value)
		}
	}
}

// The addresses that a client wishes are the first of each family that has the right length and is one.
func TestWishes(t *testing.T) {
	ask := func(kind uint16, values ...[]byte) (list []Attribute) {
		for _, v := range values {
			list = append(list, Attribute{Type: kind, Value: v})
		}
		return list
	}
	a4, b4, a6 := []byte{10, 9, 0, 5}, []byte{10, 9, 0, 6}, netip.MustParseAddr("fd00::9").AsSlice()
	with := func(b []byte, more ...byte) []byte { return append(slices.Clone(b), more...) }
	for _, c := range []struct {
		name string
		have []Attribute
		want string
	}{
		{"none", ask(CfgIP4Address, nil), ""}, {"one", ask(CfgIP4Address, a4), "10.9.0.5"}, {"the first of two", ask(CfgIP4Address, a4, b4), "10.9.0.5"},
		{"the first that is one", ask(CfgIP4Address, nil, []byte{0, 0, 0, 0}, with(a4, 24), b4), "10.9.0.6"},
		{"IPv6 with the length of its prefix", ask(CfgIP6Address, with(a6, 64)), "fd00::9"}, {"IPv6 without", ask(CfgIP6Address, a6), "fd00::9"},
		{"IPv6 with more", ask(CfgIP6Address, with(a6, 64, 0), with(a6, make([]byte, 16)...)), ""}, {"IPv6 with less", ask(CfgIP6Address, a6[:15], a6[:1], a4), ""},
		{"IPv6 as IPv4", ask(CfgIP4Address, a6), ""}, {"both", append(ask(CfgIP6Address, a6), ask(CfgIP4Address, a4)...), "10.9.0.5 fd00::9"},
	} {
		var got []string
		for _, a := range RequestOf(c.have).Wishes {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}
