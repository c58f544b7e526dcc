package resolver

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// files are where the servers of this host may be written, the first that has any counts.
// Where resolv.conf names a resolver on this host, the others have the servers that this one
// asks. Windows keeps its servers elsewhere.
var files = []string{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",        // systemd-resolved
	"/run/NetworkManager/no-stub-resolv.conf", // NetworkManager, with any resolver
	"/run/dnsmasq/resolv.conf",                // dnsmasq, by resolvconf
	"/run/resolvconf/resolv.conf",
}

// Servers are the servers that this host asks, as far as others can ask them too.
func Servers() []netip.Addr {
	return first(files, func(a netip.Addr) bool {
		return !a.IsLoopback() && !a.IsLinkLocalUnicast()
	})
}

// upstream are the servers that this host asks, as far as they are not on this host.
func upstream() (list []netip.AddrPort) {
	for _, a := range first(files, func(a netip.Addr) bool { return !a.IsLoopback() }) {
		list = append(list, netip.AddrPortFrom(a, 53))
	}
	return list
}

// first are the servers that will do of the first file that has any.
func first(files []string, will func(netip.Addr) bool) []netip.Addr {
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		list := slices.DeleteFunc(nameservers(string(data)), func(a netip.Addr) bool {
			return a.IsUnspecified() || !will(a) // 0.0.0.0 is this host, too
		})
		if len(list) > 0 {
			return list
		}
	}
	return nil
}

// maxNameservers is as many as resolvers use.
const maxNameservers = 3

// nameservers are those of a resolv.conf. A link-local address has its zone.
func nameservers(text string) (list []netip.Addr) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(list) == maxNameservers {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}
