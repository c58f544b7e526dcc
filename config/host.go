package config

import "net/netip"

// Host is an address or a DNS name. The zero value is none.
type Host struct {
	Addr netip.Addr
	Name string // empty: Addr counts
}

// IsSet reports whether it is one.
func (h Host) IsSet() bool { return h != Host{} }

func (h Host) String() string {
	switch {
	case h.Name != "":
		return h.Name
	case h.Addr.IsValid():
		return h.Addr.String()
	}
	return ""
}

// HostAccepts tells people what ParseHost reads.
const HostAccepts = "the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net"

// ParseHost reads a host.
func ParseHost(s string) (Host, bool) {
	if looksLikeName(s) {
		return Host{Name: s}, isDNSName(s)
	}
	a, err := netip.ParseAddr(s)
	a = a.Unmap()
	return Host{Addr: a}, err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback()
}

func host(v value) (Host, bool) {
	s, ok := text(HostAccepts)(v)
	if !ok {
		return Host{}, false
	}
	h, ok := ParseHost(s)
	if !ok {
		v.wrong("%q is none, accepted: %s", s, HostAccepts)
	}
	return h, ok
}
