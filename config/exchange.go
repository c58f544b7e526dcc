package config

import (
	"slices"
	"strings"

	"culvert/crypto/suite"
)

// keyExchange is a member of dh-group or pfs-group: a group, and after it what
// comes in exchanges of its own (RFC 9370): "x25519+ml-kem-768". words are others
// that may stand there.
func keyExchange(words ...string) parser[string] {
	return func(v value) (string, bool) {
		s, ok := v.raw.(string)
		first, rest, more := strings.Cut(s, "+")
		if !ok || !more || !slices.Contains(groupNames(), first) {
			return oneOf[string](append(groupNames(), words...)...)(v)
		}
		return combined(v, s, rest)
	}
}

// combined reads what stands behind the group.
func combined(v value, s, rest string) (string, bool) {
	kems := names(suite.KEMs, func(k *suite.KEM) string { return k.Name })
	parts := strings.Split(rest, "+")
	for i, k := range parts {
		if !slices.Contains(kems, k) {
			v.wrong("%q has %q after the plus%s, accepted there: %s", s, k, didYouMean(k, kems), accepted(kems))
			return "", false
		}
		if slices.Contains(parts[:i], k) {
			v.wrong("%q has %s twice, write it once: each key exchange of an SA is another one (RFC 9370)", s, k)
			return "", false
		}
	}
	if suite.KeyExchangeByName(s) == nil {
		v.wrong("%q has too many parts, accepted: %d after the first", s, suite.MaxAdditional)
		return "", false
	}
	return s, true
}

// exchanges resolves dh-group: what each member is, and the groups in it, each once.
func (p *Profile) exchanges() {
	p.KeyExchanges = keyExchanges(p.DHGroup)
	for _, x := range p.KeyExchanges {
		if !slices.Contains(p.Groups, x.Group) {
			p.Groups = append(p.Groups, x.Group)
		}
	}
}

// keyExchanges are the members of names that there are.
func keyExchanges(names []string) (list []suite.KeyExchange) {
	for _, name := range names {
		if x := suite.KeyExchangeByName(name); x != nil {
			list = append(list, *x)
		}
	}
	return list
}

// pfs resolves pfs-group: its members in order, "none" as a key exchange without a group. If it is
// not written, the peer may choose any group that is not weak, the manual's default, or none.
func (p *Proposal) pfs() {
	p.AnyPFS = !p.Written("pfs-group")
	names := p.PFSNames()
	for _, name := range names {
		if x := suite.KeyExchangeByName(name); x != nil {
			p.PFS = append(p.PFS, *x)
		} else if name == "none" && len(names) > 1 {
			p.PFS = append(p.PFS, suite.KeyExchange{})
		}
	}
}

// PFSNames are the names of all key exchanges that would do, in order of preference, with "none" for no key exchange.
func (p *Proposal) PFSNames() []string {
	if p.AnyPFS {
		return slices.Concat(strongGroups, p.PFSGroup, []string{"none"})
	}
	return p.PFSGroup
}

// strongGroups are the groups that are not weak, the cheapest first of those that are alike.
var strongGroups = []string{"x25519", "ecp256", "ecp384", "ecp521", "modp3072", "modp4096", "modp2048", "modp6144", "modp8192"}

// groupOf is the group of a member of dh-group or pfs-group; nil if there is none.
func groupOf(name string) *suite.Group {
	first, _, _ := strings.Cut(name, "+")
	return suite.GroupByName(first)
}

// Additional reports whether a member of dh-group has more than a group.
func (p *Profile) Additional() bool {
	return slices.ContainsFunc(p.KeyExchanges, func(x suite.KeyExchange) bool { return len(x.Additional) > 0 })
}

// checkOnlyV1 refuses groups that IKEv2 does not have in what peers of IKEv2 use.
func (l *loader) checkOnlyV1() {
	only := func(names []string) string {
		i := slices.IndexFunc(names, func(n string) bool { g := groupOf(n); return g != nil && g.OnlyV1 })
		if i < 0 {
			return ""
		}
		return names[i]
	}
	said := map[*Entry]bool{}
	refuse := func(e *Entry, table, key string, names []string, by *Peer) {
		group := only(names)
		if by == nil || by.Disabled || by.ExchangeMode != "ike2" || group == "" || said[e] || e.bad[key] {
			return
		}
		said[e] = true
		l.faultAt(e, table, key, "%q is a group of IKEv1 alone, and [[peer]] %q has exchange-mode \"ike2\", take it out or use another [[%s]] for that peer", group, by.Name, table)
	}
	for _, p := range l.config.Peers {
		if p.Profile != nil {
			refuse(&p.Profile.Entry, "profile", "dh-group", p.Profile.DHGroup, p)
		}
	}
	for _, p := range l.config.Policies {
		if p.Proposal == nil || p.Disabled {
			continue
		}
		q := p.Proposal
		refuse(&q.Entry, "proposal", "pfs-group", q.PFSGroup, p.Peer)
		for _, i := range l.config.Identities {
			if p.Template && !i.Disabled && i.Generates() && i.PolicyTemplateGroup == p.Group {
				refuse(&q.Entry, "proposal", "pfs-group", q.PFSGroup, i.Peer)
			}
		}
	}
}
