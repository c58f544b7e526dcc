package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// ModeConfig is [[mode-config]]: what road warriors get from us, or that we ask
// the other side for it.
type ModeConfig struct {
	Entry
	// Responder: give addresses; else ask for one. Where the key is not written it
	// is true for an entry that has an address or a pool to give.
	Responder           bool
	Address             netip.Addr // zero: none
	AddressPool         string     // "none": none
	AddressPrefixLength int        // 0: the whole address
	SplitInclude        []netip.Prefix
	StaticDNS           []netip.Addr
	SystemDNS           bool // effective: never beside StaticDNS, never where we ask

	Pool *Pool `json:"-"`
}

// none is the manual's word for no reference.
const none = "none"

var modeConfigFields = []field[ModeConfig]{
	of("address", addressOrNone, func(m *ModeConfig) *netip.Addr { return &m.Address }),
	of("address-pool", label, func(m *ModeConfig) *string { return &m.AddressPool }),
	of("address-prefix-length", integer[int](1, 128), func(m *ModeConfig) *int { return &m.AddressPrefixLength }),
	of("responder", boolean, func(m *ModeConfig) *bool { return &m.Responder }),
	of("split-include", list(prefix), func(m *ModeConfig) *[]netip.Prefix { return &m.SplitInclude }),
	of("static-dns", list(address), func(m *ModeConfig) *[]netip.Addr { return &m.StaticDNS }),
	of("system-dns", boolean, func(m *ModeConfig) *bool { return &m.SystemDNS }),
}

func addressOrNone(v value) (netip.Addr, bool) {
	if v.raw == none {
		return netip.Addr{}, true
	}
	return address(v)
}

func (l *loader) checkModeConfig(m *ModeConfig, d *directory) {
	e := &m.Entry
	if !m.Written("responder") || e.bad["responder"] {
		m.Responder = m.Address.IsValid() || m.AddressPool != none
	}
	if m.AddressPool != none {
		m.Pool = refer(l, e, "mode-config", "address-pool", m.AddressPool, d.pools)
	}
	if m.Written("static-dns") && m.SystemDNS {
		if m.Written("system-dns") {
			l.faultAt(e, "mode-config", "static-dns", "cannot be combined with system-dns = true, write one of them")
		}
		m.SystemDNS = false
	}
	if !m.Responder {
		l.checkRequest(m)
		return
	}
	switch {
	case m.Address.IsValid() && m.AddressPool != none:
		l.faultAt(e, "mode-config", "address-pool", "cannot be combined with address, write one of them")
	case !m.Address.IsValid() && m.AddressPool == none && !e.bad["address"] && !e.bad["address-pool"]:
		l.faultAt(e, "mode-config", "responder", "true, and there is no address to give: write address or address-pool")
	case m.Address.Is4() && m.AddressPrefixLength > 32, m.Pool != nil && m.Pool.only4() && m.AddressPrefixLength > 32:
		l.faultAt(e, "mode-config", "address-prefix-length", "%d is out of range for IPv4 addresses, accepted: 1..32", m.AddressPrefixLength)
	}
	if m.Pool != nil && m.Pool.Disabled && !m.Disabled {
		l.faultAt(e, "mode-config", "address-pool", "[[pool]] %q is disabled, enable it or disable the mode-config", m.AddressPool)
	}
}

// checkRequest looks at an entry that asks the other side.
func (l *loader) checkRequest(m *ModeConfig) {
	m.SystemDNS = false
	for _, key := range []string{"address", "address-pool", "address-prefix-length", "split-include", "static-dns"} {
		if m.Written(key) && (key != "address-pool" || m.AddressPool != none) && (key != "address" || m.Address.IsValid()) {
			l.faultAt(&m.Entry, "mode-config", key, "an entry with responder = false asks the other side for it, leave it out or write responder = true")
		}
	}
}

// checkGenerate resolves mode-config and policy-template-group of an identity.
func (l *loader) checkGenerate(i *Identity, d *directory) {
	e := &i.Entry
	if i.PolicyTemplateGroup != none {
		refer(l, e, "identity", "policy-template-group", i.PolicyTemplateGroup, d.groups)
	} else if i.Generates() {
		l.faultAt(e, "identity", "policy-template-group", "is none, and generate-policy = %q needs a group with templates", i.GeneratePolicy)
	}
	if i.ModeConfig != none {
		i.Mode = refer(l, e, "identity", "mode-config", i.ModeConfig, d.modes)
	}
	if i.Mode != nil && i.Mode.Disabled && !i.Disabled {
		l.faultAt(e, "identity", "mode-config", "[[mode-config]] %q is disabled, enable it or disable the identity", i.ModeConfig)
	}
	if p := d.peers.of[i.PeerName]; p != nil && p.OnDemand && i.Mode != nil && !i.Mode.Responder && i.Generates() && !i.Disabled {
		l.warnAt(e, "identity", "mode-config", "[[peer]] %q is on-demand, and no traffic needs it before it has given an address: take on-demand out of the peer", i.PeerName)
	}
	if p := d.peers.of[i.PeerName]; p != nil && i.Mode != nil && !i.Mode.Responder && !i.Disabled && !p.Disabled && !p.Initiates() {
		l.warnAt(e, "identity", "mode-config", "[[mode-config]] %q asks the other side for an address, and [[peer]] %q never starts an exchange: give it a single address, without passive",
			i.ModeConfig, i.PeerName)
	}
}

// Requests reports whether the identity asks its peer for an address of this host.
func (i *Identity) Requests() bool {
	return !i.Disabled && i.Mode != nil && !i.Mode.Responder
}

// any6 is all addresses of both families, as in the manual's own template.
var any6 = netip.MustParsePrefix("::/0")

// checkTemplate looks at a policy that is a pattern for others.
func (l *loader) checkTemplate(p *Policy) {
	e := &p.Entry
	for _, end := range []struct {
		key    string
		prefix *netip.Prefix
	}{{"src-address", &p.SrcAddress}, {"dst-address", &p.DstAddress}} {
		if !p.Written(end.key) {
			*end.prefix = any6
		}
	}
	p.AnyMode = !p.Written("tunnel")
	if p.Disabled {
		return
	}
	if p.Action != Encrypt {
		l.faultAt(e, "policy", "action", "%s, and the policies made from a template encrypt, leave it out", p.Action)
	}
	if p.SrcAddress != any6 && p.DstAddress != any6 && p.SrcAddress.Addr().Is4() != p.DstAddress.Addr().Is4() {
		l.faultAt(e, "policy", "dst-address", "%s and src-address %s are of different address families", p.DstAddress, p.SrcAddress)
	}
	for _, key := range []string{"peer", "identity", "src-port", "dst-port"} {
		if p.Written(key) {
			l.faultAt(e, "policy", key, "a template has none, leave it out: peers come by policy-template-group of their identity, ports by generate-policy")
		}
	}
	if len(p.IPsecProtocols) > 1 {
		l.faultAt(e, "policy", "ipsec-protocols", "is one of the two with IKEv2, which cannot negotiate both together, write [\"esp\"] or [\"ah\"], or two templates")
	}
	l.checkAH(p)
	switch {
	case p.Proposal == nil || !p.Proposal.Disabled:
	case p.File != "":
		l.faultAt(e, "policy", "proposal", "[[proposal]] %q is disabled, enable it or disable the template", p.ProposalName)
	default:
		l.disableOwnTemplate(p)
	}
}

// disableOwnTemplate: the manual's own template stands in no file, so that nobody can
// disable it. Where its proposal is disabled and nobody's policies are made from it, it is
// disabled with that.
func (l *loader) disableOwnTemplate(p *Policy) {
	for _, i := range l.config.Identities {
		if !i.Disabled && i.Generates() && i.PolicyTemplateGroup == p.Group {
			l.faultAt(&p.Proposal.Entry, "proposal", "disabled", "the policies of the [[identity]] at %s are made with it, by the manual's own template of [[policy-group]] %q: enable it, or "+
				"write a [[policy-group]] and a [[policy]] with template = true for it, and the name of that group in policy-template-group of the identity", i.at(""), p.Group)
			return
		}
	}
	p.Disabled = true
}

// warnTemplates names identities that are to generate policies and whose group
// has no template for it.
func (l *loader) warnTemplates() {
	has, tunnels := map[string]bool{}, map[string]bool{}
	remote := map[string][]netip.Prefix{} // of templates for tunnels
	for _, p := range l.config.Policies {
		if p.Template && !p.Disabled {
			has[p.Group] = true
			if p.Tunnel || p.AnyMode {
				tunnels[p.Group] = true
				remote[p.Group] = append(remote[p.Group], p.DstAddress)
			}
		}
	}
	for _, i := range l.config.Identities {
		if i.Disabled || !i.Generates() || i.bad["policy-template-group"] || i.PolicyTemplateGroup == none {
			continue
		}
		if has[i.PolicyTemplateGroup] {
			if i.Mode != nil && !tunnels[i.PolicyTemplateGroup] {
				l.warnAt(&i.Entry, "identity", "mode-config", "addresses that are given go by tunnels, and the templates of [[policy-group]] %q say tunnel = false: take it out of one", i.PolicyTemplateGroup)
			} else if r, out := i.Mode.outside(remote[i.PolicyTemplateGroup]); out {
				l.warnAt(&i.Entry, "identity", "mode-config", "[[mode-config]] %q gives %s, which the dst-address of no template of [[policy-group]] %q covers, so a client with that address gets no policy: widen one",
					i.ModeConfig, r, i.PolicyTemplateGroup)
			}
			continue
		}
		l.warnAt(&i.Entry, "identity", "generate-policy", "the [[policy-group]] %q has no template, so that no policy is made: write a [[policy]] with template = true and that group", i.PolicyTemplateGroup)
	}
}

// outside finds addresses that the entry gives and that none of the prefixes covers.
func (m *ModeConfig) outside(prefixes []netip.Prefix) (AddrRange, bool) {
	if m == nil || !m.Responder {
		return AddrRange{}, false
	}
	var gives []AddrRange
	if m.Address.IsValid() {
		gives = append(gives, AddrRange{m.Address, m.Address})
	}
	seen := map[*Pool]bool{} // one that leads back is a fault of its own
	for p := m.Pool; p != nil && !seen[p]; p = p.Next {
		seen[p] = true
		gives = append(gives, p.Ranges...)
	}
	covered := func(a netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) || p == any6 })
	}
	i := slices.IndexFunc(gives, func(r AddrRange) bool { return !covered(r.From) || !covered(r.To) })
	if i < 0 {
		return AddrRange{}, false
	}
	return gives[i], true
}

func equalModes(a, b *ModeConfig) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Entry, y.Entry = a.bare(), b.bare()
	x.Pool, y.Pool = nil, nil
	return reflect.DeepEqual(x, y)
}

func equalPools(a, b *Pool) bool {
	return a.Name == b.Name && a.Disabled == b.Disabled && a.NextPool == b.NextPool && slices.Equal(a.Ranges, b.Ranges)
}

// Pool is [[pool]]: addresses to give.
type Pool struct {
	Entry
	Ranges   []AddrRange // in order, not empty
	NextPool string      // "none": none

	Next *Pool `json:"-"` // where to look when all addresses are given; no loops
}

// AddrRange is addresses of one family, both ends included.
type AddrRange struct{ From, To netip.Addr }

// String is the range as it is written: "192.0.2.2-192.0.2.254", or one address.
func (r AddrRange) String() string {
	if r.From == r.To {
		return r.From.String()
	}
	return r.From.String() + "-" + r.To.String()
}

// MarshalText is String.
func (r AddrRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

func (r AddrRange) overlaps(o AddrRange) bool {
	return r.From.Is4() == o.From.Is4() && r.From.Compare(o.To) <= 0 && o.From.Compare(r.To) <= 0
}

func (p *Pool) only4() bool {
	return !slices.ContainsFunc(p.Ranges, func(r AddrRange) bool { return !r.From.Is4() })
}

var poolFields = []field[Pool]{
	of("next-pool", label, func(p *Pool) *string { return &p.NextPool }),
	of("ranges", list(addrRange), func(p *Pool) *[]AddrRange { return &p.Ranges }),
}

const rangeAccepts = `a range, an address or a prefix such as "192.0.2.2-192.0.2.254"`

func addrRange(v value) (AddrRange, bool) {
	s, ok := v.raw.(string)
	if !ok {
		v.wrongType(rangeAccepts)
		return AddrRange{}, false
	}
	if strings.Contains(s, "/") {
		p, ok := prefix(v)
		if !ok {
			return AddrRange{}, false
		}
		return AddrRange{p.Addr(), lastOf(p)}, true
	}
	from, to, is := strings.Cut(s, "-")
	if !is {
		to = from
	}
	a, errA := netip.ParseAddr(strings.TrimSpace(from))
	b, errB := netip.ParseAddr(strings.TrimSpace(to))
	switch {
	case errA != nil || errB != nil || a.Zone() != "" || b.Zone() != "" || a.Is4In6() || b.Is4In6():
		v.wrong("%q is not a range, accepted: %s", s, rangeAccepts)
	case a.Is4() != b.Is4():
		v.wrong("%q begins and ends in different address families, accepted: %s", s, rangeAccepts)
	case a.Compare(b) > 0:
		v.wrong("%q ends before it begins, accepted: %s", s, rangeAccepts)
	default:
		return AddrRange{a, b}, true
	}
	return AddrRange{}, false
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (l *loader) checkPools(d *directory) {
	for _, p := range l.config.Pools {
		if !p.Written("ranges") {
			l.faultAt(&p.Entry, "pool", "ranges", "is missing, accepted: %s", rangeAccepts)
		}
		if p.NextPool != none {
			p.Next = refer(l, &p.Entry, "pool", "next-pool", p.NextPool, d.pools)
		}
	}
	for _, p := range l.config.Pools {
		seen := map[*Pool]bool{p: true}
		for q := p.Next; q != nil; q = q.Next {
			if q == p {
				l.faultAt(&p.Entry, "pool", "next-pool", "leads back to this pool, leave it out in the last one")
			}
			if seen[q] {
				break
			}
			seen[q] = true
		}
	}
	l.warnOverlaps()
}

// warnOverlaps: an address is given once, whichever pool it comes from, so that
// an overlap makes pools smaller than they look.
func (l *loader) warnOverlaps() {
	type owned struct {
		AddrRange
		pool *Pool
	}
	var all []owned
	for _, p := range l.config.Pools {
		for _, r := range p.Ranges {
			all = append(all, owned{r, p})
		}
	}
	slices.SortStableFunc(all, func(a, b owned) int { return a.From.Compare(b.From) })
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; a.overlaps(b.AddrRange) {
			l.warnAt(&b.pool.Entry, "pool", "ranges", "%s and %s of [[pool]] %q overlap", b.AddrRange, a.AddrRange, a.pool.Name)
		}
		if all[i-1].To.Compare(all[i].To) > 0 && all[i-1].From.Is4() == all[i].From.Is4() {
			all[i].AddrRange.To, all[i].pool = all[i-1].To, all[i-1].pool // the widest so far
		}
	}
}
