package compile

import (
	"net/netip"
	"slices"

	"culvert/config"
)

// What the device's MTU is where the configuration says auto: the packets that fit
// through the links towards the peers, sealed by the longest of the algorithms that
// the policies allow, as they would be in the longest of their ways.
//
// It is a bound for the host alone and what hosts begin with. What fits through an SA
// is known to the byte, and told to who sends more (internal/packet/datapath/size.go).
const (
	// AutoMTU is that of a gateway without policies that protect, and of one that makes
	// its device before its links are looked at.
	AutoMTU = 1400
	// ethernet is taken for links that are not known. None counts as more: that the first
	// link of a way takes longer packets does not say that the next ones do.
	ethernet = 1500
	// leastMTU is what a device that carries IPv6 needs (RFC 8200 §5).
	leastMTU = 1280
	// maxLinks is how many peers' links are looked at.
	maxLinks = 64
)

// MTU is the device's MTU. link is what the first link towards an address takes, in
// bytes, 0: not known; nil: none is.
func MTU(c *config.Config, link func(remote netip.Addr) int) int {
	if c.Gateway.MTU != 0 {
		return c.Gateway.MTU
	}
	size, header := waysOf(c, link)
	groups := groupsInUse(c.Identities)
	mtu := 0
	for _, p := range c.Policies {
		if p.Action == config.Encrypt && !p.Disabled && !p.Invalid && p.Proposal != nil && (!p.Template || groups[p.Group]) {
			if n := largest(p, size-header, c.Gateway.Encapsulation != config.Raw); mtu == 0 || n < mtu {
				mtu = n
			}
		}
	}
	if mtu == 0 {
		return AutoMTU
	}
	return max(mtu, leastMTU)
}

const (
	ipv4Header, ipv6Header = 20, 40
	udpHeader              = 8
)

// waysOf is the least that a link towards a peer takes, and the longest outer header.
func waysOf(c *config.Config, link func(remote netip.Addr) int) (size, header int) {
	size, header = ethernet, ipv4Header
	looks := 0
	add := func(remote netip.Addr, one bool) {
		if !remote.Is4() {
			header = ipv6Header
		}
		if link == nil || !one || looks == maxLinks {
			return
		}
		looks++
		if n := link(remote); n > 0 {
			size = min(size, n)
		}
	}
	for _, p := range c.Peers {
		if !p.Disabled { // one with a DNS name may be anywhere
			add(p.Address.Addr(), p.Address.IsSingleIP())
		}
	}
	for _, p := range c.Policies {
		if p.Manual() && !p.Disabled {
			add(p.SADstAddress, true)
		}
	}
	return size, header
}

// largest is the longest packet that becomes at most size bytes behind the outer IP
// header, whichever algorithms of the policy's proposal seal it.
func largest(p *config.Policy, size int, udp bool) int {
	icv := 0
	for _, a := range p.Proposal.Integs {
		icv = max(icv, a.ICVLen)
	}
	both := len(p.IPsecProtocols) > 1
	if slices.Contains(p.IPsecProtocols, "ah") {
		size -= (12 + icv + 7) &^ 7 // RFC 4302 §3.3.3.2.1; in IPv4 some peers round so as well
		if !both {
			return size
		}
	} else if udp {
		size -= udpHeader
	}
	least := size
	for _, e := range p.Proposal.Encrs {
		room := size - 8 - e.IVLen - e.ICVLen // RFC 4303 §2: SPI and sequence number, IV, ICV
		if !e.AEAD() {
			room -= icv
		}
		least = min(least, room-room%max(e.Block, 4)-2)
	}
	return least
}
