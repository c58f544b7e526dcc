package resolver

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Servers are the servers that this host asks, as far as others can ask them
// too: of /etc/resolv.conf, or where that names only a resolver on this host, of
// the list that systemd-resolved keeps. Windows keeps its servers elsewhere.
func Servers() []netip.Addr {
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if list := usable(nameservers(string(data))); len(list) > 0 {
			return list
		}
	}
	return nil
}

// maxNameservers is as many as resolvers use.
const maxNameservers = 3

func nameservers(text string) (list []netip.Addr) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(list) == maxNameservers {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			list = append(list, a.WithZone("").Unmap())
		}
	}
	return list
}

// usable leaves out servers that only this host can reach.
func usable(list []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(list, func(a netip.Addr) bool {
		return !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified()
	})
}
