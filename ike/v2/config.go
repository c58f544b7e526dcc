package v2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// The Configuration payload in IKE_AUTH (RFC 7296 §2.19, §3.15): a road warrior
// asks for an inner address and gets one, with what belongs to it.
//
//	…, AUTH, CP(CFG_REQUEST), SAi2, TSi, TSr  -->
//	                   <--  …, AUTH, CP(CFG_REPLY), SAr2, TSi, TSr
//
// The address is the IKE SA's until it ends; a successor at a rekey takes it over.

const (
	cfgRequest = 1
	cfgReply   = 2
)

// Attributes of RFC 7296 §3.15.1.
const (
	cfgIP4Address = 1
	cfgIP4Netmask = 2
	cfgIP4DNS     = 3
	cfgIP6Address = 8
	cfgIP6DNS     = 10
	cfgIP4Subnet  = 13
	cfgIP6Subnet  = 15
)

// Bounds on what of a peer's reply is kept.
const (
	maxDNS     = 8
	maxSubnets = 64
)

// lease is the inner addresses of one end, by mode-config.
type lease struct {
	holder  core.SAID // the IKE SA that got it
	asked   bool      // as initiator: it is ours
	addrs   []netip.Addr
	dns     []netip.Addr
	subnets []netip.Prefix // split-include, as initiator
	// made are the policies that came of it, as initiator: the first belongs to
	// the CHILD SA of IKE_AUTH.
	made []*core.Policy
}

// selectors are the addresses as selectors.
func (l *lease) selectors() (list []selector.TS) {
	for _, a := range l.addrs {
		list = append(list, selector.FromPrefix(netip.PrefixFrom(a, a.BitLen())))
	}
	return list
}

// mode is the mode-config of the identity if it gives (or else asks); nil if not.
func (sa *SA) mode(responder bool) *core.ModeConfig {
	if sa.identity == nil || sa.identity.Mode == nil || sa.identity.Mode.Responder != responder {
		return nil
	}
	return sa.identity.Mode
}

// modeConfig asks for an address, or gives one.
type modeConfig struct{ noop }

func (*modeConfig) request(x *exchange) error {
	if x.sa.mode(false) != nil {
		x.out = append(x.out, x.configRequest())
	}
	return nil
}

func (*modeConfig) admit(x *exchange) error {
	if m := x.sa.mode(true); m != nil {
		x.lease(m)
	}
	return nil
}

func (*modeConfig) reply(x *exchange) error {
	if m, req := x.sa.mode(true), configOf(x.in, cfgRequest); m != nil && req != nil && x.refuse == nil {
		x.out = append(x.out, x.configReply(m, req))
	}
	return nil
}

func (*modeConfig) complete(x *exchange) error {
	if x.sa.mode(false) != nil {
		x.refuse = x.readConfig()
	}
	return nil
}

func (*modeConfig) settle(x *exchange) error {
	sa := x.sa
	if x.mine && sa.Leased() { // the peer is proven now
		l := sa.lease
		sa.env.Emit(core.Configured{Holder: l.holder, Peer: sa.peer.Name, Addrs: l.addrs, DNS: l.dns})
		sa.event(core.EvLeased, "the peer gave us %v, DNS servers %v, networks %v", l.addrs, l.dns, l.subnets)
	} else if sa.lease != nil && !x.mine {
		sa.event(core.EvLeased, "%s has %v", sa.peerID, sa.lease.addrs)
	}
	if x.mine && sa.mode(false) != nil && sa.identity.Generate != core.GenerateNo && !sa.Leased() {
		sa.env.After(0, func() { sa.Delete("the peer gave no address") })
	}
	return nil
}

func configOf(in []message.Payload, kind uint8) *message.Config {
	for _, p := range in {
		if c, ok := p.(*message.Config); ok && c.CfgType == kind {
			return c
		}
	}
	return nil
}

func attributes(c *message.Config, kind uint16) (values [][]byte) {
	for _, a := range c.Attributes {
		if a.Type == kind {
			values = append(values, a.Value)
		}
	}
	return values
}

func wants(c *message.Config, kind uint16) bool { return len(attributes(c, kind)) > 0 }

// --- initiator ---

// configRequest asks for what the policy can use: addresses of its families.
func (x *exchange) configRequest() *message.Config {
	v4, v6 := true, true
	p := x.policy
	if p == nil && len(x.sa.wanted) > 0 { // it is to have its CHILD SA later
		p = x.sa.wanted[0]
	}
	if p != nil {
		local, _ := p.Selectors()
		v4 = slices.ContainsFunc(local, func(t selector.TS) bool { return t.Lo.Is4() })
		v6 = slices.ContainsFunc(local, func(t selector.TS) bool { return t.Lo.Is6() })
	}
	c := &message.Config{CfgType: cfgRequest}
	ask := func(wanted bool, kinds ...uint16) {
		for _, k := range kinds {
			if wanted {
				c.Attributes = append(c.Attributes, message.Attribute{Type: k})
			}
		}
	}
	ask(v4, cfgIP4Address, cfgIP4Netmask, cfgIP4DNS, cfgIP4Subnet)
	ask(v6, cfgIP6Address, cfgIP6DNS, cfgIP6Subnet)
	return c
}

// readConfig takes what the peer gives.
func (x *exchange) readConfig() error {
	sa := x.sa
	l := &lease{holder: sa.id, asked: true}
	if c := configOf(x.in, cfgReply); c != nil {
		for _, a := range c.Attributes {
			l.read(a)
		}
	}
	if len(l.addrs) == 0 {
		if n := notify(x.in, message.NotifyInternalAddressFailure); n != nil {
			return peerSaid(n)
		}
		return refuse(message.NotifyInternalAddressFailure, "the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here")
	}
	sa.lease = l
	return nil
}

// read takes one attribute; what has an impossible length is passed over.
func (l *lease) read(a message.Attribute) {
	v := a.Value
	addr, ok := netip.AddrFromSlice(v[:min(len(v), addrLen(a.Type))])
	if !ok || addr.IsUnspecified() && a.Type != cfgIP4Subnet && a.Type != cfgIP6Subnet {
		return
	}
	switch a.Type {
	case cfgIP4Address, cfgIP6Address:
		taken := slices.ContainsFunc(l.addrs, func(b netip.Addr) bool { return b.BitLen() == addr.BitLen() })
		if !taken && addr.IsValid() && !addr.IsMulticast() && !addr.IsLoopback() { // one of each family
			l.addrs = append(l.addrs, addr)
		}
	case cfgIP4DNS, cfgIP6DNS:
		if len(l.dns) < maxDNS {
			l.dns = append(l.dns, addr)
		}
	case cfgIP4Subnet:
		if bits, ok := maskBits(v[4:]); ok {
			l.addSubnet(netip.PrefixFrom(addr, bits))
		}
	case cfgIP6Subnet:
		if len(v) == 17 {
			l.addSubnet(netip.PrefixFrom(addr, int(v[16])))
		}
	}
}

func (l *lease) addSubnet(p netip.Prefix) {
	if p.IsValid() && len(l.subnets) < maxSubnets && !slices.Contains(l.subnets, p.Masked()) {
		l.subnets = append(l.subnets, p.Masked())
	}
}

func addrLen(kind uint16) int {
	switch kind {
	case cfgIP6Address, cfgIP6DNS, cfgIP6Subnet:
		return 16
	}
	return 4
}

// maskBits is the length of a prefix whose mask is given.
func maskBits(mask []byte) (int, bool) {
	if len(mask) != 4 {
		return 0, false
	}
	m := uint32(mask[0])<<24 | uint32(mask[1])<<16 | uint32(mask[2])<<8 | uint32(mask[3])
	bits := 0
	for ; m&(1<<31) != 0; m <<= 1 {
		bits++
	}
	return bits, m == 0
}

// --- responder ---

// lease asks for an address for the peer, if the peer asks for one. Whoever has the
// one that it would get, and may be the peer itself, is asked first whether it is there.
func (x *exchange) lease(m *core.ModeConfig) {
	sa := x.sa
	req := configOf(x.in, cfgRequest)
	if req == nil || !wants(req, cfgIP4Address) && !wants(req, cfgIP6Address) {
		return
	}
	w := core.Lease{Pool: m.Pool, Address: m.Address, Owner: sa.leaseOwner(),
		V4: wants(req, cfgIP4Address), V6: wants(req, cfgIP6Address), Wishes: wishes(req), DNS: m.SystemDNS}
	rivals := x.rivals(m)
	sa.lease = &lease{holder: sa.id} // given back at the end, whatever the answer is
	x.waiting++
	left := len(rivals)
	ask := func() {
		w.Same = x.shares()
		x.askLease(m, w)
		x.waiting--
		x.proceed()
	}
	for _, s := range rivals {
		s.Contest(fmt.Sprintf("%s asks from %v for the address that this one has", sa.peerID, sa.remote), func(stays bool) {
			if left--; x.over {
				return
			}
			if stays && len(s.Leases()) > 0 {
				sa.event(core.EvNotify, "%s at %v is there and keeps %v: two devices with one ID have an address each", s.peerID, s.remote, s.Leases())
			}
			if left == 0 {
				ask()
			}
		})
	}
	if len(rivals) == 0 {
		ask()
	}
}

// shares are the holders of leases that are the peer's own: of the same device, and
// of what it says that it has forgotten.
func (x *exchange) shares() (holders []core.SAID) {
	for _, s := range x.sa.owner.Namesakes(x.sa) {
		if s.Given() && (x.sa.sameDevice(s) || x.forgets(s)) {
			holders = append(holders, s.lease.holder)
		}
	}
	return holders
}

// rivals are the IKE SAs of other devices that have what the peer would get: those
// that the book of leases knows by the same name, and who has the only address that
// its identity gives. A device that has an address already wants nobody else's.
func (x *exchange) rivals(m *core.ModeConfig) (list []*SA) {
	sa := x.sa
	if len(x.shares()) > 0 {
		return nil // it has one already
	}
	add := func(s *SA) {
		if s.Given() && !sa.sameDevice(s) && !x.forgets(s) && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, s := range sa.owner.Namesakes(sa) {
		if s.Given() && s.identity == sa.identity && sa.Claims(s) {
			add(s)
		}
	}
	if m.Address.IsValid() {
		for s := range sa.owner.Siblings(sa) {
			if s.Given() && slices.Contains(s.lease.addrs, m.Address) {
				add(s)
			}
		}
	}
	return list
}

// Leases are the inner addresses of either end.
func (sa *SA) Leases() []netip.Addr {
	if sa.lease == nil {
		return nil
	}
	return sa.lease.addrs
}

func (x *exchange) askLease(m *core.ModeConfig, w core.Lease) {
	sa := x.sa
	x.waiting++
	sa.env.Ask(sa.id, w, func(b secret.Bytes, err error) {
		if x.over {
			return
		}
		x.waiting--
		addrs, dns, ok := core.ParseLease(b)
		if err == nil && (!ok || len(addrs) == 0) {
			err = errors.New("the pool gave nothing")
		}
		if err != nil {
			sa.lease = nil
			sa.env.Emit(core.Release{Holder: sa.id})
			x.refuse = refuse(message.NotifyInternalAddressFailure, "no address for %s from mode-config %q: %v", sa.peerID, m.Name, err)
		} else {
			sa.lease.addrs, sa.lease.dns = addrs, dns
		}
		x.proceed()
	})
}

// wishes are the addresses that a request names, one of each family: the peer had them before, perhaps from another gateway.
func wishes(c *message.Config) (list []netip.Addr) {
	for _, kind := range []uint16{cfgIP4Address, cfgIP6Address} {
		for _, v := range attributes(c, kind) {
			if kind == cfgIP6Address && len(v) == 17 {
				v = v[:16] // the rest is the length of its prefix
			}
			if a, ok := netip.AddrFromSlice(v); ok && !a.IsUnspecified() && a.Is4() == (kind == cfgIP4Address) {
				list = append(list, a)
				break
			}
		}
	}
	return list
}

// configReply gives what was asked for, and the split networks, which few ask
// for by name and most can use.
func (x *exchange) configReply(m *core.ModeConfig, req *message.Config) *message.Config {
	c := &message.Config{CfgType: cfgReply}
	add := func(kind uint16, value []byte) {
		c.Attributes = append(c.Attributes, message.Attribute{Type: kind, Value: value})
	}
	if l := x.sa.lease; l != nil {
		for _, a := range l.addrs {
			if a.Is6() {
				bits := 128
				if m.Prefix > 32 {
					bits = m.Prefix
				}
				add(cfgIP6Address, append(a.AsSlice(), byte(bits)))
				continue
			}
			add(cfgIP4Address, a.AsSlice())
			if bits := min(m.Prefix, 32); wants(req, cfgIP4Netmask) || bits != 0 {
				add(cfgIP4Netmask, mask(bits))
			}
		}
	}
	dns := m.DNS
	if l := x.sa.lease; l != nil {
		dns = append(slices.Clone(dns), l.dns...)
	}
	for _, a := range dns {
		switch {
		case a.Is4() && wants(req, cfgIP4DNS):
			add(cfgIP4DNS, a.AsSlice())
		case a.Is6() && wants(req, cfgIP6DNS):
			add(cfgIP6DNS, a.AsSlice())
		}
	}
	for _, p := range m.Split {
		if p.Addr().Is4() {
			add(cfgIP4Subnet, append(p.Addr().AsSlice(), mask4(p.Bits())...))
		} else {
			add(cfgIP6Subnet, append(p.Addr().AsSlice(), byte(p.Bits())))
		}
	}
	return c
}

// mask is the netmask of a prefix length; 0 stands for the whole address.
func mask(bits int) []byte {
	if bits == 0 {
		bits = 32
	}
	return mask4(bits)
}

func mask4(bits int) []byte {
	m := ^uint32(0) << (32 - bits)
	if bits == 0 {
		m = 0
	}
	return []byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
}

// giveBack ends the use of an address with its IKE SA.
func (sa *SA) giveBack() {
	l := sa.lease
	sa.lease = nil
	switch {
	case l == nil:
	case l.asked:
		sa.env.Emit(core.Unconfigured{Holder: l.holder})
	default:
		sa.env.Emit(core.Release{Holder: l.holder})
	}
}

// Given reports whether we gave the peer an address.
func (sa *SA) Given() bool { return sa.lease != nil && !sa.lease.asked }

// Leased reports whether the peer gave us an address.
func (sa *SA) Leased() bool { return sa.lease != nil && sa.lease.asked }
