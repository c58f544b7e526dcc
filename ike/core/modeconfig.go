package core

import (
	"net/netip"
	"slices"

	"culvert/crypto/secret"
	"culvert/spd/selector"
)

// ModeConfig is the manual's mode-config: what a peer is given, or that it is
// asked for it.
type ModeConfig struct {
	Name      string
	Responder bool // give; else ask
	// Pool is where addresses come from, unless Address is the only one.
	Pool    string
	Address netip.Addr
	Prefix  int            // length of the prefix that is told with an address; 0: all of it
	Split   []netip.Prefix // split-include
	DNS     []netip.Addr
	// SystemDNS: the servers that this host asks itself, too.
	SystemDNS bool
}

// Generate is the manual's generate-policy.
type Generate uint8

// The values of generate-policy.
const (
	GenerateNo       Generate = iota
	GenerateStrict            // the peer's ports
	GenerateOverride          // any port
)

// Template is a policy that others are made from.
type Template struct {
	Ref           PolicyRef
	Index         int    // place in the table, for people
	Group         string // policy-group
	Local, Remote netip.Prefix
	Proto         uint8
	// Tunnel and Transport are the modes that the policies may have; with both, each
	// has the one that its peer asks for.
	Tunnel, Transport bool
	Unique            bool
	Protocol          Protocol
	Proposal          Proposal
}

// anyFamily as an end of a template matches addresses of both families, as the
// manual's own template does.
var anyFamily = netip.PrefixFrom(netip.IPv6Unspecified(), 0)

// Pairs is what a template allows, for each address family.
func (t *Template) Pairs() (pairs []selector.Pair) {
	for _, any := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), anyFamily} {
		end := func(p netip.Prefix) (selector.TS, bool) {
			if p == anyFamily {
				p = any
			}
			ts := selector.FromPrefix(p)
			ts.Proto = t.Proto
			return ts, p.Addr().Is4() == any.Addr().Is4()
		}
		local, okL := end(t.Local)
		remote, okR := end(t.Remote)
		if okL && okR {
			pairs = append(pairs, selector.Pair{Local: local, Remote: remote})
		}
	}
	return pairs
}

// Names reports whether the template says which network its peers may have: a prefix
// of length 0 names none.
func (t *Template) Names() bool { return t.Remote.Bits() > 0 }

// Narrow is the part of what a peer asks for that the template allows.
func (t *Template) Narrow(local, remote []selector.TS) (l, r []selector.TS, ok bool) {
	for _, p := range t.Pairs() {
		if a, b, some := selector.NarrowPair(local, remote, p); some {
			l, r = append(l, a...), append(r, b...)
		}
	}
	return l, r, len(l) > 0
}

// Narrowed is Narrow where there is something in common.
func (t *Template) Narrowed(local, remote []selector.TS) (l, r []selector.TS) {
	l, r, _ = t.Narrow(local, remote)
	return l, r
}

// Covers reports whether the template allows all of it.
func (t *Template) Covers(local, remote []selector.TS) bool {
	within := func(ts selector.TS, end func(selector.Pair) selector.TS) bool {
		return slices.ContainsFunc(t.Pairs(), func(p selector.Pair) bool { return end(p).Covers(ts) })
	}
	for _, ts := range local {
		if !within(ts, func(p selector.Pair) selector.TS { return p.Local }) {
			return false
		}
	}
	for _, ts := range remote {
		if !within(ts, func(p selector.Pair) selector.TS { return p.Remote }) {
			return false
		}
	}
	return true
}

// TemplatesOf are the templates of a policy-group in the order of the table.
func (c *Config) TemplatesOf(group string) (list []*Template) {
	for _, t := range c.Templates {
		if t.Group == group {
			list = append(list, t)
		}
	}
	return list
}

// Template finds a template by its Ref; nil: there is none.
func (c *Config) Template(ref PolicyRef) *Template {
	for _, t := range c.Templates {
		if t.Ref == ref {
			return t
		}
	}
	return nil
}

// ForTunnels are those of a list whose policies may be for tunnel mode.
func ForTunnels(list []*Template) []*Template {
	return slices.DeleteFunc(slices.Clone(list), func(t *Template) bool { return !t.Tunnel })
}

// Make is a policy of the template, made at run time for a peer. The endpoint gives it its Ref.
func (t *Template) Make(peer *Peer, tunnel bool, local, remote []selector.TS) Policy {
	p := Policy{Index: t.Index, Peer: peer, Tunnel: tunnel, Unique: t.Unique, Protocol: t.Protocol, Proposal: t.Proposal,
		Made: &Made{Template: t.Ref, Local: local, Remote: remote}}
	if pairs := p.Pairs(); len(pairs) > 0 {
		p.Pair = pairs[0]
	}
	return p
}

// Dial is what an initiator asks for before it knows its address: all that the
// first template for tunnels of the identity's group allows. Nil where the first identity
// of the peer does not ask for an address or makes no policies.
func (c *Config) Dial(peer *Peer) *Policy {
	if !peer.Initiates() || len(peer.Identities) == 0 {
		return nil
	}
	id := peer.Identities[0]
	if id.Mode == nil || id.Mode.Responder || id.Generate == GenerateNo {
		return nil
	}
	list := ForTunnels(c.TemplatesOf(id.Group))
	if len(list) == 0 {
		return nil
	}
	var local, remote []selector.TS
	for _, p := range list[0].Pairs() {
		local, remote = append(local, p.Local), append(remote, p.Remote)
	}
	p := list[0].Make(peer, true, local, remote)
	p.Made.Dial = true
	return &p
}

// Made is what a policy has that was made at run time; nil in a policy of the table.
type Made struct {
	Template      PolicyRef
	Also          []PolicyRef   // other templates that it was made from as well
	Local, Remote []selector.TS // it stands for each pair of them; Policy.Pair is the first
	// Dial: not a policy yet, but what we ask the peer for; the peer's answer makes
	// the policy, of the same Ref. Dialed is the asking that a policy came from.
	Dial   bool
	Dialed *Policy
	Owner  string // who may share it: a peer as it proved itself
	// Outer, if valid, is where the peer was when the policy was made for its traffic
	// from there, in tunnel mode: the policy goes when the peer moves.
	Outer netip.Addr
}

// Refs of templates and of policies made at run time begin here; those of the
// table's policies are below both.
const (
	FirstTemplate PolicyRef = 1 << 30
	FirstMade     PolicyRef = 1 << 31
)

// Selectors is what the policy covers: each local selector with each remote one.
func (p *Policy) Selectors() (local, remote []selector.TS) {
	if p.Made != nil {
		return p.Made.Local, p.Made.Remote
	}
	return []selector.TS{p.Pair.Local}, []selector.TS{p.Pair.Remote}
}

// Pairs is the same as rectangles.
func (p *Policy) Pairs() []selector.Pair {
	if p.Made != nil {
		return selector.Pairs(p.Made.Local, p.Made.Remote)
	}
	return []selector.Pair{p.Pair}
}

// Narrow is the part of what a peer asks for that the policy covers (RFC 7296 §2.9).
func (p *Policy) Narrow(local, remote []selector.TS) (l, r []selector.TS, ok bool) {
	if p.Made != nil {
		return selector.NarrowSets(local, remote, p.Made.Local, p.Made.Remote)
	}
	return selector.NarrowPair(local, remote, p.Pair)
}

// Lease asks for addresses for a peer: an address of each family that is wanted
// and that the pool has, and for the system's DNS servers. The answer is
// AppendLease of both. Whoever keeps the record answers, not Do; the addresses are
// the Ask's SA's until a Release.
type Lease struct {
	Pool    string
	Address netip.Addr // valid: the only one to give, instead of Pool
	Owner   string     // who it is for; comes back to the same address
	Same    []SAID     // holders that are the same device: their leases may be given to it too
	V4, V6  bool
	Wishes  []netip.Addr // that the peer would like to have (RFC 7296 §3.15.1); nobody else's
	DNS     bool
}

func (Lease) Do() (secret.Bytes, error) { return nil, ErrSystem }

// Release gives back what the Lease of an IKE SA was answered with, or will be.
type Release struct{ Holder SAID }

// AddPolicy puts a policy made at run time in force, behind those made before
// from the same template, and where the template stands in the table. One with
// the same Ref is replaced. It comes before the Install that serves it.
type AddPolicy struct {
	Ref, Template PolicyRef
	Peer          string
	Pairs         []selector.Pair
	Tunnel        bool
}

// DropPolicy takes it away.
type DropPolicy struct{ Ref PolicyRef }

// Configured says what addresses a peer gave us, and with what. Those that
// Configured named for the same holder before are replaced.
type Configured struct {
	Holder SAID
	Peer   string
	Addrs  []netip.Addr
	DNS    []netip.Addr
}

// Unconfigured says that they are ours no more.
type Unconfigured struct{ Holder SAID }

func (Release) output()      {}
func (AddPolicy) output()    {}
func (DropPolicy) output()   {}
func (Configured) output()   {}
func (Unconfigured) output() {}

// AppendLease writes the answer to a Lease: addresses, each behind its length,
// then 0, then DNS servers in the same way.
func AppendLease(b []byte, addrs, dns []netip.Addr) []byte {
	return appendAddrs(append(appendAddrs(b, addrs), 0), dns)
}

func appendAddrs(b []byte, addrs []netip.Addr) []byte {
	for _, a := range addrs {
		s := a.AsSlice()
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// ParseLease reads what AppendLease wrote.
func ParseLease(b []byte) (addrs, dns []netip.Addr, ok bool) {
	to := &addrs
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 && to == &addrs {
			to, b = &dns, b[1:]
			continue
		}
		if len(b) < 1+n {
			return nil, nil, false
		}
		a, ok := netip.AddrFromSlice(b[1 : 1+n])
		if !ok {
			return nil, nil, false
		}
		*to, b = append(*to, a), b[1+n:]
	}
	return addrs, dns, true
}
