package sa

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// What a peer may have a tunnel for (RFC 4301 §4.4.3): to prove who it is says nothing
// about which addresses are its own. A template allows of what the peer asks for:
//
//	the peer                                    its end of the tunnel
//	got an address from us                      that address
//	gave us one                                 the networks that it named
//	has a template with a network in            what of the network is nobody else's
//	dst-address
//	has one without (length 0, or no            the address that it speaks from; behind a NAT,
//	dst-address)                                at level unique, its private address as well
//
// In transport mode it is the address that the peer speaks from, in any case
// (betweenHosts).

// denial is a selector that the peer does not get by a template, and why.
type denial struct {
	template *core.Template
	what     selector.TS
	why      string
	key      string // of the template: what to change
	hint     string
}

// entitled leaves of the peer's selectors what it may have by a template; what it may
// not have is noted in r.denied.
func (r *Request) entitled(t *core.Template, local, remote []selector.TS) (ours, theirs []selector.TS) {
	sa := r.SA
	switch {
	case sa.Lease.Given():
		return local, selector.Narrow(remote, sa.Lease.Selectors())
	case sa.Lease.Leased():
		return selector.Narrow(local, sa.Lease.Selectors()), selector.Narrow(remote, sa.Lease.Networks())
	}
	outer := only(sa.Remote.Addr())
	for _, ts := range remote {
		var d *denial
		var may []selector.TS
		switch {
		case t.Names():
			may, d = r.named(t, local, ts)
		case ts.Lo == ts.Hi && (len(outer) == 0 || ts.Lo != outer[0].Lo):
			may, d = r.inside(t, local, ts)
		default:
			if may = selector.Narrow([]selector.TS{ts}, outer); !slices.Equal(may, []selector.TS{ts}) {
				d = &denial{why: "the template names no network, so that the peer gets its own address alone, " + sa.Remote.Addr().String(), key: "dst-address", hint: namesOne}
			}
		}
		if d != nil {
			d.template, d.what = t, ts
			r.denied = append(r.denied, *d)
		}
		theirs = append(theirs, may...)
	}
	return local, theirs
}

// unlessGiven leaves out addresses that mode-configs give, where the peer's identity has one of
// these and the peer was given others, or none: a policy of the table may be for all clients.
func unlessGiven(sa *SA, remote []selector.TS) ([]selector.TS, error) {
	if sa.Mode(true) == nil {
		return remote, nil
	}
	var own []selector.TS
	if sa.Lease != nil {
		own = sa.Lease.Selectors()
	}
	left := slices.DeleteFunc(slices.Clone(remote), func(ts selector.TS) bool {
		return !slices.ContainsFunc(own, func(o selector.TS) bool { return o.Covers(ts) }) &&
			slices.ContainsFunc(sa.Host.Config().Given, func(p netip.Prefix) bool { return within(p, ts) })
	})
	switch {
	case len(left) > 0:
		return left, nil
	case sa.Lease == nil:
		return nil, Refuse(NeedsAddress, "%s asked for no address, and wants %v, which mode-config gives", sa.PeerID, remote)
	}
	return nil, outsideLease(sa, remote)
}

// outsideLease refuses selectors that are not of the address that the peer was given.
func outsideLease(sa *SA, remote []selector.TS) error {
	return Refuse(BadSelectors, "%s asks for %v, outside the address that it was given, %v", sa.PeerID, remote, sa.Lease.Addrs)
}

const namesOne = "write the peer's network as dst-address of the template, or give it an address with mode-config"

// named is for a template that names a network: what of it is nobody else's.
func (r *Request) named(t *core.Template, local []selector.TS, ts selector.TS) ([]selector.TS, *denial) {
	var may []selector.TS
	var d *denial
	for _, p := range t.Pairs() {
		n, ok := selector.Intersect(ts, p.Remote)
		if !ok {
			continue
		}
		if why := r.elses(t, local, n, t.Remote.Bits()); why != "" {
			d = &denial{why: why, key: "dst-address", hint: "have the peer ask for its own network alone, or write that as dst-address of the template"}
			continue
		}
		may = append(may, n)
	}
	return may, d
}

// inside is for the one address that a host behind a NAT has itself. Each private network may
// have it, so that only level unique can serve it, where the data plane knows whose each
// flow is.
func (r *Request) inside(t *core.Template, local []selector.TS, ts selector.TS) ([]selector.TS, *denial) {
	sa, here := r.SA, r.SA.Remote.Addr()
	switch a := ts.Lo; {
	case !sa.NAT.Remote:
		return nil, &denial{why: fmt.Sprintf("the template names no network, and %s is not the peer's address, which is %s", a, here), key: "dst-address", hint: namesOne}
	case !private(a):
		return nil, &denial{why: fmt.Sprintf("the template names no network, and %s is neither the peer's address, which is %s, nor a private one behind its NAT", a, here), key: "dst-address", hint: namesOne}
	case !t.Unique:
		return nil, &denial{why: fmt.Sprintf("%s is the peer's address behind its NAT, which others may have too", a), key: "level",
			hint: `write level = "unique" into the template, or give the peer an address with mode-config`}
	default:
		if why := r.elses(t, local, ts, 0); why != "" {
			return nil, &denial{why: why, key: "dst-address", hint: "have the peer use another address behind its NAT, or give it one with mode-config"}
		}
		if other := insideNow(sa, a); other.IsValid() {
			return nil, &denial{why: fmt.Sprintf("the peer is behind a NAT and has a tunnel for %s already: it gets one address of its own", other), key: "dst-address", hint: namesOne}
		}
	}
	return []selector.TS{ts}, nil
}

// insideNow is the other address behind its NAT that the peer has tunnels for; not
// valid: there is none of this family.
func insideNow(sa *SA, a netip.Addr) netip.Addr {
	for _, c := range sa.Children {
		if c.Policy.Made == nil || !c.Policy.Tunnel {
			continue
		}
		for _, p := range c.Pairs {
			b := p.Remote.Lo
			if b == p.Remote.Hi && b != a && b.BitLen() == a.BitLen() && private(b) && !sameAddr(b, sa.Remote.Addr()) {
				return b
			}
		}
	}
	return netip.Addr{}
}

// shared are addresses that providers use behind NATs of their own (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// private reports whether an address means something only behind a NAT.
func private(a netip.Addr) bool { return a.IsPrivate() || sharedSpace.Contains(a) }

func sameAddr(a, b netip.Addr) bool { return a == b.Unmap().WithZone("") }

// elses says whose else a part of a peer's network or address is; "": nobody's. Of
// what is ours only that counts which is named more exactly than the template
// names it: bits is the length of the template's prefix.
func (r *Request) elses(t *core.Template, local []selector.TS, ts selector.TS, bits int) string {
	sa, cfg := r.SA, r.SA.Host.Config()
	meets := func(list []netip.Prefix, bits int) netip.Prefix {
		i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Bits() > bits && within(p, ts) })
		if i < 0 {
			return netip.Prefix{}
		}
		return list[i]
	}
	if p := meets(cfg.Given, 0); p.IsValid() {
		return fmt.Sprintf("%s is for those who are given an address by mode-config", p)
	}
	if p := meets(sa.Host.Nets(), bits); p.IsValid() {
		return fmt.Sprintf("%s is this host's, or it has a route to it", p)
	}
	if p := meets(cfg.Ours, bits); p.IsValid() {
		return fmt.Sprintf("%s is a network behind this gateway", p)
	}
	for _, p := range cfg.Policies {
		if p.Peer == sa.Peer && sa.MayHave(p) && bits > 0 || p.Index < t.Index && bits > 0 {
			continue // its own, or it comes first in any case
		}
		if remote, ok := p.Pair.Remote.Prefix(); ok && meets([]netip.Prefix{remote}, bits).IsValid() {
			return fmt.Sprintf("%s is another peer's by %s", remote, Explainer{sa}.policyLine(p))
		}
	}
	made := t.Make(sa.Peer, true, local, []selector.TS{ts})
	return sa.Policies.Taken(sa, &made)
}

// within reports whether a selector has an address of a prefix.
func within(p netip.Prefix, ts selector.TS) bool {
	q := selector.FromPrefix(p)
	return q.Lo.BitLen() == ts.Lo.BitLen() && q.Lo.Compare(ts.Hi) <= 0 && ts.Lo.Compare(q.Hi) <= 0
}

func joined[T fmt.Stringer](list []T) string {
	var s []string
	for _, t := range list {
		s = append(s, t.String())
	}
	return strings.Join(core.Lines(s), ", ")
}

// denials are what one template does not give, for people.
func (r *Request) denials(t *core.Template) string {
	var list []string
	for _, d := range r.denied {
		if d.template == t {
			list = append(list, fmt.Sprintf("%s: %s", d.what, d.why))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(core.Lines(list), ", ")
}

// narrowed tells people that a peer has less than it asked for because nobody gave it more.
func (r *Request) narrowed(c *Choice) string {
	for _, d := range r.denied {
		if c.Policy.Made != nil && d.template.Ref == c.Policy.Made.Template {
			return fmt.Sprintf("; it asked for %s and gets %s by %s: %s", d.what, joined(c.Remote), templateLine(r.SA, d.template), d.why)
		}
	}
	return ""
}
