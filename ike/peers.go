package ike

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/ike/core"
)

// peerIndex finds the peer that a stranger's address stands for: of those whose
// address matches the one with the longest prefix, the first in the table.
// Anybody can have it search: it asks once for each length of prefix that occurs,
// however many peers there are.
type peerIndex struct {
	peers map[netip.Prefix][]*core.Peer
	bits  [2][]int                   // lengths that occur in IPv4 and in IPv6, the longest first
	named map[netip.Addr][]placement // peers with DNS names, by where they are
	place map[*core.Peer]int         // in the table
}

type placement struct {
	peer  *core.Peer
	place int
}

// indexPeers indexes a table of peers; at has the addresses of those with DNS names.
func indexPeers(table []*core.Peer, at map[string]netip.Addr) peerIndex {
	x := peerIndex{peers: map[netip.Prefix][]*core.Peer{}, place: map[*core.Peer]int{}, named: namedPeers(table, at)}
	for i, p := range table {
		x.place[p] = i
		if p.Version != core.IKEv2 || p.DNSName != "" || !p.Address.IsValid() {
			continue
		}
		prefix := p.Address.Masked()
		x.peers[prefix] = append(x.peers[prefix], p)
		if bits := &x.bits[family(prefix.Addr())]; !slices.Contains(*bits, prefix.Bits()) {
			*bits = append(*bits, prefix.Bits())
		}
	}
	for _, bits := range x.bits {
		slices.SortFunc(bits, func(a, b int) int { return cmp.Compare(b, a) })
	}
	return x
}

// namedPeers are the peers with DNS names whose address is known.
func namedPeers(table []*core.Peer, at map[string]netip.Addr) map[netip.Addr][]placement {
	named := map[netip.Addr][]placement{}
	for i, p := range table {
		if a := at[p.Name]; p.Version == core.IKEv2 && p.DNSName != "" && a.IsValid() {
			named[a] = append(named[a], placement{p, i})
		}
	}
	return named
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// find is the peer for a message from remote to local; nil: there is none.
func (x *peerIndex) find(local, remote netip.Addr) *core.Peer {
	remote = remote.Unmap()
	if !remote.IsValid() || remote.Zone() != "" { // no prefix contains an address with a zone
		return nil
	}
	fits := func(p *core.Peer) bool { return !p.Local.IsValid() || !local.IsValid() || p.Local == local.Unmap() }
	var named *placement
	for i, p := range x.named[remote] {
		if fits(p.peer) {
			named = &x.named[remote][i]
			break
		}
	}
	for _, bits := range x.bits[family(remote)] {
		if named != nil && bits < remote.BitLen() {
			break
		}
		prefix := netip.PrefixFrom(remote, bits).Masked()
		for _, p := range x.peers[prefix] {
			if fits(p) && (named == nil || x.place[p] < named.place) {
				return p
			}
			if fits(p) {
				break
			}
		}
	}
	if named != nil {
		return named.peer
	}
	return nil
}
