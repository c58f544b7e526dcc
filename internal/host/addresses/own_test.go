package addresses

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
)

// The networks of this host are its addresses, also those of loopback, and the networks that they are in.
func TestNetsOfThisHost(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3/24": "[10.1.2.3/32 10.1.2.0/24]", "192.0.2.1/32": "[192.0.2.1/32 192.0.2.1/32]", "127.0.0.1/8": "[]", "fe80::1/64": "[]", "2001:db8::1/64": "[2001:db8::1/128 2001:db8::/64]",
	} {
		ip, n, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(ownNets(&net.IPNet{IP: ip, Mask: n.Mask})); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
	before, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	list, err := (&Own{Device: "culvert-none"}).List()
	if err != nil || !slices.IsSortedFunc(list, netip.Prefix.Compare) {
		t.Fatalf("%v, %v", list, err)
	}
	after, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range before {
		if !slices.ContainsFunc(after, func(b net.Addr) bool { return a.String() == b.String() }) {
			continue // it went meanwhile
		}
		for _, p := range ownNets(a.(*net.IPNet)) {
			if !slices.Contains(list, p) {
				t.Errorf("%v is missing from %v", p, list)
			}
		}
	}
	if slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		t.Errorf("a default route is in %v", list)
	}
}
