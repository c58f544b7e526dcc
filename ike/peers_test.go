package ike

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"culvert/ike/core"
)

// The peer whose address is the longest prefix is chosen, wherever it stands in the table; at the same length the
// first. A peer with local-address is one only for what comes there.
func TestFindPeer(t *testing.T) {
	peer := func(name, address, local string) *core.Peer {
		p := &core.Peer{Name: name, Version: core.IKEv2}
		if address != "" {
			p.Address = netip.MustParsePrefix(address)
		}
		if local != "" {
			p.Local = netip.MustParseAddr(local)
		}
		return p
	}
	named := peer("by name", "", "")
	named.DNSName = "gw.example.net"
	cfg := &core.Config{Peers: []*core.Peer{
		peer("anybody", "0.0.0.0/0", ""), peer("anybody else", "0.0.0.0/0", ""), peer("any IPv6", "::/0", ""),
		peer("net", "192.0.2.0/24", ""), peer("host there", "192.0.2.7/32", "203.0.113.1"), peer("half", "192.0.2.0/25", ""), named,
		{Name: "of another version", Address: netip.MustParsePrefix("192.0.2.8/32")},
	}}
	at := map[string][]netip.Addr{"by name": {netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("192.0.2.9")}}
	find := func(cfg *core.Config, at map[string][]netip.Addr, local, remote netip.Addr) *core.Peer {
		x := indexPeers(cfg.Peers, at)
		return x.find(core.IKEv2, local, remote)
	}
	for _, c := range []struct{ local, remote, want string }{
		{"203.0.113.2", "198.51.100.1", "anybody"},
		{"203.0.113.2", "192.0.2.200", "net"},
		{"203.0.113.2", "192.0.2.1", "half"},
		{"203.0.113.2", "::ffff:192.0.2.1", "half"},
		{"203.0.113.1", "192.0.2.7", "host there"},
		{"203.0.113.2", "192.0.2.7", "half"},
		{"203.0.113.2", "192.0.2.8", "half"},
		{"203.0.113.2", "192.0.2.9", "by name"},
		{"2001:db8::1", "2001:db8::2", "any IPv6"},
		{"2001:db8::1", "2001:db8::9", "by name"},
	} {
		if got := find(cfg, at, netip.MustParseAddr(c.local), netip.MustParseAddr(c.remote)); got == nil || got.Name != c.want {
			t.Errorf("%s to %s: %v, not %q", c.remote, c.local, got, c.want)
		}
	}
	cfg.Peers = cfg.Peers[3:4]
	if got := find(cfg, nil, netip.Addr{}, netip.MustParseAddr("198.51.100.1")); got != nil {
		t.Errorf("a stranger is %q", got.Name)
	}
}

// Where no peer fits only because of local-address, the event names the peer and what differs: adding a peer would be wrong.
func TestNoPeerNamesWhatDiffers(t *testing.T) {
	there := &core.Peer{Name: "there", Version: core.IKEv2, Address: netip.MustParsePrefix("192.0.2.0/24"), Local: netip.MustParseAddr("203.0.113.1")}
	x := indexPeers([]*core.Peer{there, {Name: "six", Version: core.IKEv2, Address: netip.MustParsePrefix("::/0")}}, nil)
	for remote, want := range map[string]string{
		"192.0.2.7":    "peer \"there\" is for 192.0.2.7, but its local-address is 203.0.113.1 and the message came to 203.0.113.2: change or remove local-address",
		"198.51.100.1": "no peer is configured for 198.51.100.1: add one whose address covers it",
	} {
		if got := noPeer(&x, core.IKEv2, netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr(remote)); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}

// walk is the specification of peerIndex: it looks at every peer.
func walk(table []*core.Peer, v core.Version, at map[string][]netip.Addr, local, remote netip.Addr) (best *core.Peer) {
	remote = remote.Unmap()
	bits := -1
	for _, p := range table {
		address := p.Address
		if p.DNSName != "" && slices.Contains(at[p.Name], remote) {
			address = netip.PrefixFrom(remote, remote.BitLen())
		}
		if p.Version != v || !address.Contains(remote) || p.Local.IsValid() && local.IsValid() && p.Local != local.Unmap() {
			continue
		}
		if address.Bits() > bits {
			best, bits = p, address.Bits()
		}
	}
	return best
}

// The index finds the peer that a walk over the table finds.
func TestFindPeerLikeAWalk(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 7))
	addr := func() netip.Addr {
		if rnd.IntN(3) == 0 {
			return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(rnd.IntN(8))})
		}
		return netip.AddrFrom4([4]byte{10, byte(rnd.IntN(2)), 0, byte(rnd.IntN(8))})
	}
	found := 0
	for range 300 {
		var table []*core.Peer
		at := map[string][]netip.Addr{}
		for i := range rnd.IntN(20) {
			a := addr()
			p := &core.Peer{Name: string(rune('a' + i)), Version: core.Version(2 - rnd.IntN(8)/7)}
			switch rnd.IntN(4) {
			case 0:
				p.DNSName = "a name"
				if rnd.IntN(3) > 0 {
					at[p.Name] = []netip.Addr{a, addr()}
				}
			case 1:
				p.Address = netip.PrefixFrom(a, a.BitLen())
			default:
				p.Address = netip.PrefixFrom(a, rnd.IntN(a.BitLen()+1)).Masked()
			}
			if rnd.IntN(3) == 0 {
				p.Local = addr()
			}
			table = append(table, p)
		}
		x := indexPeers(table, at)
		for range 50 {
			local, remote := addr(), addr()
			if rnd.IntN(10) == 0 {
				local = netip.Addr{}
			}
			if rnd.IntN(10) == 0 && remote.Is6() {
				remote = remote.WithZone("eth0")
			}
			v := core.Version(2 - rnd.IntN(4)/3)
			want := walk(table, v, at, local, remote)
			if got := x.find(v, local, remote); got != want {
				t.Fatalf("%v to %v: %v, not %v, in %v at %v", remote, local, got, want, table, at)
			}
			if want != nil {
				found++
			}
		}
		if i := slices.IndexFunc(table, func(p *core.Peer) bool { return p.DNSName != "" }); i >= 0 { // it moves
			at[table[i].Name] = []netip.Addr{addr()}
			x.named = namedPeers(table, at)
			if got, want := x.find(table[i].Version, netip.Addr{}, at[table[i].Name][0]), walk(table, table[i].Version, at, netip.Addr{}, at[table[i].Name][0]); got != want {
				t.Fatalf("after a move: %v, not %v", got, want)
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d searches found anybody", found)
	}
}

// All peers that fit are found, the one to prefer first, so that a version of IKE can tell them apart
// by more than an address.
func TestPeersThatFit(t *testing.T) {
	peer := func(name string, v core.Version, address string) *core.Peer {
		p := &core.Peer{Name: name, Version: v}
		if address == "" {
			p.DNSName = "gw.example.net"
		} else {
			p.Address = netip.MustParsePrefix(address)
		}
		return p
	}
	x := indexPeers([]*core.Peer{
		peer("anybody", 1, "0.0.0.0/0"), peer("main", 1, "192.0.2.7/32"), peer("by name", 1, ""), peer("aggressive", 1, "192.0.2.7/32"),
		peer("net", 1, "192.0.2.0/24"), peer("ike2", core.IKEv2, "192.0.2.7/32"), peer("other", 1, "198.51.100.0/24"),
	}, map[string][]netip.Addr{"by name": {netip.MustParseAddr("192.0.2.7")}})
	for v, want := range map[core.Version][]string{1: {"main", "by name", "aggressive", "net", "anybody"}, core.IKEv2: {"ike2"}, 3: nil} {
		var got []string
		for p := range x.of(v, netip.Addr{}, netip.MustParseAddr("192.0.2.7")) {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("version %d: %q, not %q", v, got, want)
		}
	}
}
