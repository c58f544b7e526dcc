package sa

import (
	"net/netip"
	"slices"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Mode config, whatever payload a version of IKE says it in (RFC 7296 §2.19; in IKEv1
// draft-dukes-ike-mode-cfg): what we ask for, what of the peer's answer is kept, and what a
// peer is given.

// Attribute is one attribute of mode config; one that asks has no value.
type Attribute struct {
	Type  uint16
	Value []byte
}

// The attributes, whose numbers are the same in every version of IKE (RFC 7296 §3.15.1,
// draft-dukes-ike-mode-cfg-02 §3.3).
const (
	CfgIP4Address uint16 = 1
	CfgIP4Netmask uint16 = 2
	CfgIP4DNS     uint16 = 3
	CfgIP6Address uint16 = 8
	CfgIP6DNS     uint16 = 10
	CfgIP4Subnet  uint16 = 13
	CfgIP6Subnet  uint16 = 15
)

// Bounds on what of a peer's answer is kept.
const (
	MaxDNS     = 8
	MaxSubnets = 64
)

// ConfigRequest is what one end asks the other for.
type ConfigRequest struct {
	V4, V6     bool // an address of that family
	DNS4, DNS6 bool // servers that have an address of that family
	Netmask    bool // of the IPv4 address
	// Wishes are the addresses that the peer would like to have, at most one of each family:
	// it had them before, perhaps from another gateway.
	Wishes []netip.Addr
}

// AskedFor is what we ask for together with the CHILD SA of a policy: what that can use.
// nil: the CHILD SA is made later, or there is none.
func AskedFor(sa *SA, p *core.Policy) ConfigRequest {
	if p == nil && len(sa.Wanted) > 0 {
		p = sa.Wanted[0]
	}
	v4, v6 := true, true
	if p != nil {
		local, _ := p.Selectors()
		v4 = slices.ContainsFunc(local, func(t selector.TS) bool { return t.Lo.Is4() })
		v6 = slices.ContainsFunc(local, func(t selector.TS) bool { return t.Lo.Is6() })
	}
	return ConfigRequest{V4: v4, V6: v6, DNS4: v4, DNS6: v6, Netmask: v4}
}

// Attributes are those that ask for it.
func (r ConfigRequest) Attributes() (list []Attribute) {
	ask := func(wanted bool, kinds ...uint16) {
		for _, k := range kinds {
			if wanted {
				list = append(list, Attribute{Type: k})
			}
		}
	}
	ask(r.V4, CfgIP4Address)
	ask(r.Netmask, CfgIP4Netmask)
	ask(r.DNS4, CfgIP4DNS)
	ask(r.V4, CfgIP4Subnet)
	ask(r.V6, CfgIP6Address)
	ask(r.DNS6, CfgIP6DNS)
	ask(r.V6, CfgIP6Subnet)
	return list
}

// RequestOf reads what attributes ask for.
func RequestOf(list []Attribute) ConfigRequest {
	return ConfigRequest{V4: asked(list, CfgIP4Address), V6: asked(list, CfgIP6Address), DNS4: asked(list, CfgIP4DNS), DNS6: asked(list, CfgIP6DNS),
		Netmask: asked(list, CfgIP4Netmask), Wishes: wishes(list)}
}

func asked(list []Attribute, kind uint16) bool {
	return slices.ContainsFunc(list, func(a Attribute) bool { return a.Type == kind })
}

// wishes are the addresses that a request names, the first of each family.
func wishes(list []Attribute) (wished []netip.Addr) {
	for _, kind := range []uint16{CfgIP4Address, CfgIP6Address} {
		for _, a := range list {
			v := a.Value
			if a.Type != kind {
				continue
			}
			if kind == CfgIP6Address && len(v) == 17 {
				v = v[:16] // the rest is the length of its prefix
			}
			if addr, ok := netip.AddrFromSlice(v); ok && !addr.IsUnspecified() && addr.Is4() == (kind == CfgIP4Address) {
				wished = append(wished, addr)
				break
			}
		}
	}
	return wished
}

// NewLease is a lease from the peer, to which what it gives is added. What cannot be, and
// what is more than the bounds allow, is passed over.
func NewLease(sa *SA) *Lease { return &Lease{Holder: sa.ID, Asked: true} }

// AddAddr adds an inner address, the first one of each family.
func (l *Lease) AddAddr(a netip.Addr) {
	taken := slices.ContainsFunc(l.Addrs, func(b netip.Addr) bool { return b.BitLen() == a.BitLen() })
	if !taken && a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() {
		l.Addrs = append(l.Addrs, a)
	}
}

// AddDNS adds a DNS server.
func (l *Lease) AddDNS(a netip.Addr) {
	if a.IsValid() && !a.IsUnspecified() && len(l.DNS) < MaxDNS {
		l.DNS = append(l.DNS, a)
	}
}

// AddSubnet adds a network that is reached through the peer.
func (l *Lease) AddSubnet(p netip.Prefix) {
	if p.IsValid() && len(l.Subnets) < MaxSubnets && !slices.Contains(l.Subnets, p.Masked()) {
		l.Subnets = append(l.Subnets, p.Masked())
	}
}

// Take adds what one attribute of the peer's answer gives. One whose length is impossible is passed over.
func (l *Lease) Take(a Attribute) {
	v := a.Value
	addr, ok := netip.AddrFromSlice(v[:min(len(v), addrLen(a.Type))])
	if !ok {
		return
	}
	switch a.Type {
	case CfgIP4Address, CfgIP6Address:
		l.AddAddr(addr)
	case CfgIP4DNS, CfgIP6DNS:
		l.AddDNS(addr)
	case CfgIP4Subnet:
		if bits, ok := maskBits(v[4:]); ok {
			l.AddSubnet(netip.PrefixFrom(addr, bits))
		}
	case CfgIP6Subnet:
		if len(v) == 17 {
			l.AddSubnet(netip.PrefixFrom(addr, int(v[16])))
		}
	}
}

func addrLen(kind uint16) int {
	switch kind {
	case CfgIP6Address, CfgIP6DNS, CfgIP6Subnet:
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

// TakeLease keeps what the peer gave. The error is a *Refusal: it gave no address.
func TakeLease(sa *SA, l *Lease) error {
	if len(l.Addrs) == 0 {
		return Refuse(NoAddress, "the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here")
	}
	sa.Lease = l
	return nil
}

// ConfigReply is what a peer is given.
type ConfigReply struct {
	Addrs    []netip.Addr
	Bits     int            // length of the prefix that is told with an address; 0: all of it
	Netmask  bool           // the mask of an IPv4 address is told
	DNS      []netip.Addr   // of the families that the peer asked for
	Networks []netip.Prefix // that are reached through us; also to a peer that did not ask: most can use them
}

// Given is what the peer gets by a mode-config, once its lease is there.
func Given(sa *SA, m *core.ModeConfig, asked ConfigRequest) ConfigReply {
	r := ConfigReply{Bits: m.Prefix, Netmask: asked.Netmask || m.Prefix > 0, Networks: m.Split}
	dns := slices.Clone(m.DNS)
	if l := sa.Lease; l != nil {
		r.Addrs, dns = l.Addrs, append(dns, l.DNS...)
	}
	for _, a := range dns {
		if a.Is4() && asked.DNS4 || a.Is6() && asked.DNS6 {
			r.DNS = append(r.DNS, a)
		}
	}
	return r
}

// Attributes are those that give it.
func (r ConfigReply) Attributes() (list []Attribute) {
	add := func(kind uint16, value []byte) { list = append(list, Attribute{kind, value}) }
	for _, a := range r.Addrs {
		if a.Is6() {
			bits := 128
			if r.Bits > 32 {
				bits = r.Bits
			}
			add(CfgIP6Address, append(a.AsSlice(), byte(bits)))
			continue
		}
		add(CfgIP4Address, a.AsSlice())
		if r.Netmask {
			add(CfgIP4Netmask, mask(min(r.Bits, 32)))
		}
	}
	for _, a := range r.DNS {
		kind := CfgIP6DNS
		if a.Is4() {
			kind = CfgIP4DNS
		}
		add(kind, a.AsSlice())
	}
	for _, p := range r.Networks {
		if p.Addr().Is4() {
			add(CfgIP4Subnet, append(p.Addr().AsSlice(), mask4(p.Bits())...))
		} else {
			add(CfgIP6Subnet, append(p.Addr().AsSlice(), byte(p.Bits())))
		}
	}
	return list
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

// LeaseProven is for the protocol, once the peer has proved who it is; mine: we began. What it
// gave us is used from now on.
func LeaseProven(sa *SA, mine bool) {
	switch l := sa.Lease; {
	case mine && l.Leased():
		sa.Env.Emit(core.Configured{Holder: l.Holder, Peer: sa.Peer.Name, Addrs: l.Addrs, DNS: l.DNS})
		sa.Event(core.EvLeased, "the peer gave us %v, DNS servers %v, networks %v", l.Addrs, l.DNS, l.Subnets)
	case mine && sa.Mode(false) != nil && sa.Identity.Generate != core.GenerateNo:
		sa.Env.After(0, func() { sa.Delete("the peer gave no address") })
	case l != nil && !mine:
		sa.Event(core.EvLeased, "%s has %v", sa.PeerID, l.Addrs)
	}
}
