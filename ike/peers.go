package ike

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"culvert/ike/core"
)

// peerIndex finds the peers that a stranger's address stands for, of the version of IKE
// that it speaks: those whose address matches, the longest prefix first, and of the same
// prefix in the order of the table. A version that says more in its first message than an
// address (in IKEv1 the exchange mode, in aggressive mode an ID) goes on to the one that fits.
// Anybody can have it search: it asks once for each length of prefix that occurs,
// however many peers there are.
type peerIndex struct {
	peers map[network][]*core.Peer
	bits  map[lengths][]int     // that occur, the longest first
	named map[host][]*core.Peer // peers with DNS names, by where they are
	place map[*core.Peer]int    // in the table
}

// network and host are what peers of a version are found by.
type network struct {
	version core.Version
	prefix  netip.Prefix
}

type host struct {
	version core.Version
	addr    netip.Addr
}

// lengths are those of the prefixes of a version and an address family.
type lengths struct {
	version core.Version
	ip4     bool
}

// indexPeers indexes a table of peers; at has the addresses of those with DNS names.
func indexPeers(table []*core.Peer, at map[string][]netip.Addr) peerIndex {
	x := peerIndex{peers: map[network][]*core.Peer{}, bits: map[lengths][]int{}, place: map[*core.Peer]int{}, named: namedPeers(table, at)}
	for i, p := range table {
		x.place[p] = i
		if p.DNSName != "" || !p.Address.IsValid() {
			continue
		}
		key := network{p.Version, p.Address.Masked()}
		x.peers[key] = append(x.peers[key], p)
		l := lengths{p.Version, key.prefix.Addr().Is4()}
		if !slices.Contains(x.bits[l], key.prefix.Bits()) {
			x.bits[l] = append(x.bits[l], key.prefix.Bits())
		}
	}
	for _, bits := range x.bits {
		slices.SortFunc(bits, func(a, b int) int { return cmp.Compare(b, a) })
	}
	return x
}

// namedPeers are the peers with DNS names whose addresses are known.
func namedPeers(table []*core.Peer, at map[string][]netip.Addr) map[host][]*core.Peer {
	named := map[host][]*core.Peer{}
	for _, p := range table {
		if p.DNSName == "" {
			continue
		}
		for _, a := range at[p.Name] {
			key := host{p.Version, a}
			if !slices.Contains(named[key], p) {
				named[key] = append(named[key], p)
			}
		}
	}
	return named
}

// find is the first peer for a message of a version from remote to local; nil: there is none.
func (x *peerIndex) find(v core.Version, local, remote netip.Addr) *core.Peer {
	for p := range x.of(v, local, remote) {
		return p
	}
	return nil
}

// noPeer is why find has found none, and what to do about it.
func noPeer(x *peerIndex, v core.Version, local, remote netip.Addr) string {
	if p := x.find(v, local, remote); p != nil { // IKEv1
		return fmt.Sprintf("peer %q is for %v, but it begins phase 1 in another way than the message does: compare exchange-mode on both sides", p.Name, remote)
	}
	if p := x.find(v, netip.Addr{}, remote); p != nil {
		return fmt.Sprintf("peer %q is for %v, but its local-address is %v and the message came to %v: change or remove local-address", p.Name, remote, p.Local, local)
	}
	return fmt.Sprintf("no peer is configured for %v: add one whose address covers it", remote)
}

// of are all of them, the one to prefer first.
func (x *peerIndex) of(v core.Version, local, remote netip.Addr) iter.Seq[*core.Peer] {
	return func(yield func(*core.Peer) bool) {
		remote := remote.Unmap()
		if !remote.IsValid() || remote.Zone() != "" { // no prefix contains an address with a zone
			return
		}
		fits := func(p *core.Peer) bool { return !p.Local.IsValid() || !local.IsValid() || p.Local == local.Unmap() }
		named := x.named[host{v, remote}]
		bits := x.bits[lengths{v, remote.Is4()}]
		if len(named) > 0 && (len(bits) == 0 || bits[0] < remote.BitLen()) { // a name stands for a whole address
			bits = append([]int{remote.BitLen()}, bits...)
		}
		for _, n := range bits {
			list := x.peers[network{v, netip.PrefixFrom(remote, n).Masked()}]
			if n == remote.BitLen() {
				list = x.merged(named, list)
			}
			for _, p := range list {
				if fits(p) && !yield(p) {
					return
				}
			}
		}
	}
}

// merged are two lists as one, in the order of the table.
func (x *peerIndex) merged(a, b []*core.Peer) []*core.Peer {
	if len(a) == 0 {
		return b
	}
	return slices.SortedFunc(slices.Values(slices.Concat(a, b)), func(p, q *core.Peer) int { return cmp.Compare(x.place[p], x.place[q]) })
}
