package v2

import (
	"net/netip"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// The Configuration payload in IKE_AUTH (RFC 7296 §2.19, §3.15): a road warrior
// asks for an inner address and gets one, with what belongs to it.
//
//	…, AUTH, CP(CFG_REQUEST), SAi2, TSi, TSr  -->
//	                   <--  …, AUTH, CP(CFG_REPLY), SAr2, TSi, TSr
//
// The address is the IKE SA's until it ends; a successor at a rekey takes it over. Package sa
// decides what is asked for, given and kept; here is how it is written.

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

// modeConfig asks for an address, or gives one.
type modeConfig struct {
	noop
	child *pendingChild
}

func (t *modeConfig) request(x *exchange) error {
	if sa := x.sa.base; sa.Mode(false) != nil {
		x.out = append(x.out, configRequest(ikesa.AskedFor(sa, t.child.policy)))
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
		x.out = append(x.out, configReply(ikesa.Given(x.sa.base, m, readRequest(req))))
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
	ikesa.LeaseProven(x.sa.base, x.mine)
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

func configRequest(r ikesa.ConfigRequest) *message.Config {
	c := &message.Config{CfgType: cfgRequest}
	ask := func(wanted bool, kinds ...uint16) {
		for _, k := range kinds {
			if wanted {
				c.Attributes = append(c.Attributes, message.Attribute{Type: k})
			}
		}
	}
	ask(r.V4, cfgIP4Address)
	ask(r.Netmask, cfgIP4Netmask)
	ask(r.DNS4, cfgIP4DNS)
	ask(r.V4, cfgIP4Subnet)
	ask(r.V6, cfgIP6Address)
	ask(r.DNS6, cfgIP6DNS)
	ask(r.V6, cfgIP6Subnet)
	return c
}

// readConfig takes what the peer gives.
func readConfig(x *exchange) error {
	l := ikesa.NewLease(x.sa.base)
	if c := configOf(x.in, cfgReply); c != nil {
		for _, a := range c.Attributes {
			readAttribute(l, a)
		}
	}
	if n := notify(x.in, message.NotifyInternalAddressFailure); n != nil && len(l.Addrs) == 0 {
		return peerSaid(n)
	}
	return inNotify(ikesa.TakeLease(x.sa.base, l))
}

// readAttribute takes one attribute; what has an impossible length is passed over.
func readAttribute(l *ikesa.Lease, a message.Attribute) {
	v := a.Value
	addr, ok := netip.AddrFromSlice(v[:min(len(v), addrLen(a.Type))])
	if !ok {
		return
	}
	switch a.Type {
	case cfgIP4Address, cfgIP6Address:
		l.AddAddr(addr)
	case cfgIP4DNS, cfgIP6DNS:
		l.AddDNS(addr)
	case cfgIP4Subnet:
		if bits, ok := maskBits(v[4:]); ok {
			l.AddSubnet(netip.PrefixFrom(addr, bits))
		}
	case cfgIP6Subnet:
		if len(v) == 17 {
			l.AddSubnet(netip.PrefixFrom(addr, int(v[16])))
		}
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
	if req == nil {
		return
	}
	asked := readRequest(req)
	if !asked.V4 && !asked.V6 {
		return
	}
	w := core.Lease{V4: asked.V4, V6: asked.V6, Wishes: asked.Wishes}
	x.waiting++
	x.sa.base.RequestLease(m, w, x.madeContact(), func() bool { return x.over }, func(err error) {
		if x.waiting--; err != nil {
			t.child.refuse = refuse(message.NotifyInternalAddressFailure, "%v", err)
		}
		x.proceed()
	})
}

func readRequest(c *message.Config) ikesa.ConfigRequest {
	return ikesa.ConfigRequest{V4: wants(c, cfgIP4Address), V6: wants(c, cfgIP6Address), DNS4: wants(c, cfgIP4DNS), DNS6: wants(c, cfgIP6DNS),
		Netmask: wants(c, cfgIP4Netmask), Wishes: wishes(c)}
}

// wishes are the addresses that a request names, the first of each family.
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

func configReply(r ikesa.ConfigReply) *message.Config {
	c := &message.Config{CfgType: cfgReply}
	add := func(kind uint16, value []byte) {
		c.Attributes = append(c.Attributes, message.Attribute{Type: kind, Value: value})
	}
	for _, a := range r.Addrs {
		if a.Is6() {
			bits := 128
			if r.Bits > 32 {
				bits = r.Bits
			}
			add(cfgIP6Address, append(a.AsSlice(), byte(bits)))
			continue
		}
		add(cfgIP4Address, a.AsSlice())
		if r.Netmask {
			add(cfgIP4Netmask, mask(min(r.Bits, 32)))
		}
	}
	for _, a := range r.DNS {
		kind := uint16(cfgIP6DNS)
		if a.Is4() {
			kind = cfgIP4DNS
		}
		add(kind, a.AsSlice())
	}
	for _, p := range r.Networks {
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
