package compile

import (
	"net/netip"
	"slices"

	"culvert/config"
)

// The device's MTU if the configuration says auto: the longest packet that fits
// through the links towards the peers after sealing with the algorithm and encapsulation that
// add most.
//
// It is only what hosts start with. The size that fits through each SA
// is known exactly, and senders of longer packets are told (internal/packet/datapath/size.go).
const (
	// AutoMTU is the MTU of a gateway without policies that protect, and of a new device before
	// the links are known.
	AutoMTU = 1400
	// ethernet is the MTU of links that are not known. No link counts as larger, because the following
	// links of a path may be smaller than the first.
	ethernet = 1500
	// leastMTU is what a device that carries IPv6 needs (RFC 8200 §5).
	leastMTU = 1280
	// maxLinks is for how many peers the links are looked up.
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
