package v2

import (
	"net/netip"
	"slices"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
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

// modeConfig asks for an address, or gives one.
type modeConfig struct {
	noop
	child *pendingChild
}

func (t *modeConfig) request(x *exchange) error {
	if x.sa.base.Mode(false) != nil {
		x.out = append(x.out, configRequest(x, t.child.policy))
	}
	return nil
}

func (t *modeConfig) admit(x *exchange) error {
	if m := x.sa.base.Mode(true); m != nil {
		t.lease(x, m)
	}
	return nil
}

func (t *modeConfig) reply(x *exchange) error {
	if m, req := x.sa.base.Mode(true), configOf(x.in, cfgRequest); m != nil && req != nil && t.child.refuse == nil {
		x.out = append(x.out, configReply(x, m, req))
	}
	return nil
}

func (t *modeConfig) complete(x *exchange) error {
	if x.sa.base.Mode(false) != nil {
		t.child.refuse = readConfig(x)
	}
	return nil
}

func (t *modeConfig) settle(x *exchange) error {
	sa := x.sa
	if x.mine && sa.base.Lease.Leased() { // the peer is proven now
		l := sa.base.Lease
		sa.base.Env.Emit(core.Configured{Holder: l.Holder, Peer: sa.base.Peer.Name, Addrs: l.Addrs, DNS: l.DNS})
		sa.base.Event(core.EvLeased, "the peer gave us %v, DNS servers %v, networks %v", l.Addrs, l.DNS, l.Subnets)
	} else if sa.base.Lease != nil && !x.mine {
		sa.base.Event(core.EvLeased, "%s has %v", sa.base.PeerID, sa.base.Lease.Addrs)
	}
	if x.mine && sa.base.Mode(false) != nil && sa.base.Identity.Generate != core.GenerateNo && !sa.base.Lease.Leased() {
		sa.base.Env.After(0, func() { sa.base.Delete("the peer gave no address") })
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
func configRequest(x *exchange, p *core.Policy) *message.Config {
	v4, v6 := true, true
	if p == nil && len(x.sa.base.Wanted) > 0 { // it is to have its CHILD SA later
		p = x.sa.base.Wanted[0]
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
func readConfig(x *exchange) error {
	sa := x.sa
	l := &ikesa.Lease{Holder: sa.base.ID, Asked: true}
	if c := configOf(x.in, cfgReply); c != nil {
		for _, a := range c.Attributes {
			readAttribute(l, a)
		}
	}
	if len(l.Addrs) == 0 {
		if n := notify(x.in, message.NotifyInternalAddressFailure); n != nil {
			return peerSaid(n)
		}
		return refuse(message.NotifyInternalAddressFailure, "the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here")
	}
	sa.base.Lease = l
	return nil
}

// readAttribute takes one attribute; what has an impossible length is passed over.
func readAttribute(l *ikesa.Lease, a message.Attribute) {
	v := a.Value
	addr, ok := netip.AddrFromSlice(v[:min(len(v), addrLen(a.Type))])
	if !ok || addr.IsUnspecified() && a.Type != cfgIP4Subnet && a.Type != cfgIP6Subnet {
		return
	}
	switch a.Type {
	case cfgIP4Address, cfgIP6Address:
		taken := slices.ContainsFunc(l.Addrs, func(b netip.Addr) bool { return b.BitLen() == addr.BitLen() })
		if !taken && addr.IsValid() && !addr.IsMulticast() && !addr.IsLoopback() { // one of each family
			l.Addrs = append(l.Addrs, addr)
		}
	case cfgIP4DNS, cfgIP6DNS:
		if len(l.DNS) < maxDNS {
			l.DNS = append(l.DNS, addr)
		}
	case cfgIP4Subnet:
		if bits, ok := maskBits(v[4:]); ok {
			addSubnet(l, netip.PrefixFrom(addr, bits))
		}
	case cfgIP6Subnet:
		if len(v) == 17 {
			addSubnet(l, netip.PrefixFrom(addr, int(v[16])))
		}
	}
}

func addSubnet(l *ikesa.Lease, p netip.Prefix) {
	if p.IsValid() && len(l.Subnets) < maxSubnets && !slices.Contains(l.Subnets, p.Masked()) {
		l.Subnets = append(l.Subnets, p.Masked())
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

// lease asks for an address for the peer, if the peer asks for one.
func (t *modeConfig) lease(x *exchange, m *core.ModeConfig) {
	req := configOf(x.in, cfgRequest)
	if req == nil || !wants(req, cfgIP4Address) && !wants(req, cfgIP6Address) {
		return
	}
	w := core.Lease{V4: wants(req, cfgIP4Address), V6: wants(req, cfgIP6Address), Wishes: wishes(req)}
	x.waiting++
	x.sa.base.RequestLease(m, w, x.madeContact(), func() bool { return x.over }, func(err error) {
		if x.waiting--; err != nil {
			t.child.refuse = refuse(message.NotifyInternalAddressFailure, "%v", err)
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
func configReply(x *exchange, m *core.ModeConfig, req *message.Config) *message.Config {
	c := &message.Config{CfgType: cfgReply}
	add := func(kind uint16, value []byte) {
		c.Attributes = append(c.Attributes, message.Attribute{Type: kind, Value: value})
	}
	if l := x.sa.base.Lease; l != nil {
		for _, a := range l.Addrs {
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
	if l := x.sa.base.Lease; l != nil {
		dns = append(slices.Clone(dns), l.DNS...)
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
