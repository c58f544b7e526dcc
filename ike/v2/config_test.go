package v2

import (
	"net/netip"
	"testing"

	"culvert/ike/message"
	ikesa "culvert/ike/sa"
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
		l := &ikesa.Lease{}
		for range 2 * ikesa.MaxSubnets {
			readAttribute(l, message.Attribute{Type: kind, Value: value})
		}
		if len(l.Addrs) > 2 || len(l.DNS) > ikesa.MaxDNS || len(l.Subnets) > ikesa.MaxSubnets {
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
	l := &ikesa.Lease{}
	for _, a := range []message.Attribute{
		{Type: cfgIP4Address, Value: []byte{0, 0, 0, 0}}, {Type: cfgIP4Address, Value: []byte{127, 0, 0, 1}},
		{Type: cfgIP4Address, Value: []byte{10, 0, 0, 9}}, {Type: cfgIP4Address, Value: []byte{10, 0, 0, 10}},
		{Type: cfgIP6Address, Value: append(netip.MustParseAddr("fd00::9").AsSlice(), 64)},
		{Type: cfgIP4Subnet, Value: []byte{0, 0, 0, 0, 0, 0, 0, 0}}, {Type: cfgIP6Subnet, Value: append(netip.MustParseAddr("fd00:2::7").AsSlice(), 64)},
		{Type: cfgIP6Subnet, Value: append(netip.MustParseAddr("fd00:2::7").AsSlice(), 200)},
	} {
		readAttribute(l, a)
	}
	if len(l.Addrs) != 2 || l.Addrs[0].String() != "10.0.0.9" || l.Addrs[1].String() != "fd00::9" ||
		len(l.Subnets) != 2 || l.Subnets[0].String() != "0.0.0.0/0" || l.Subnets[1].String() != "fd00:2::/64" {
		t.Errorf("%v, %v", l.Addrs, l.Subnets)
	}
}
