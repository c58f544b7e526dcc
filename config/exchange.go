package config

import (
	"slices"
	"strings"

	"culvert/crypto/suite"
)

// keyExchange is a member of a profile's dh-group: a group, and after it what
// comes in exchanges of its own (RFC 9370): "x25519+ml-kem-768".
func keyExchange(v value) (string, bool) {
	s, ok := v.raw.(string)
	first, rest, more := strings.Cut(s, "+")
	if !ok || !more || !slices.Contains(groupNames(), first) {
		return oneOf[string](groupNames()...)(v)
	}
	kems := names(suite.KEMs, func(k *suite.KEM) string { return k.Name })
	for _, k := range strings.Split(rest, "+") {
		if !slices.Contains(kems, k) {
			v.wrong("%q has %q behind the plus%s, accepted there: %s", s, k, didYouMean(k, kems), accepted(kems))
			return "", false
		}
	}
	if suite.KeyExchangeByName(s) == nil {
		v.wrong("%q has too many parts, accepted: %d behind the first", s, suite.MaxAdditional)
		return "", false
	}
	return s, true
}

// exchanges resolves dh-group: what each member is, and the groups in it, each once.
func (p *Profile) exchanges() {
	for _, name := range p.DHGroup {
		x := suite.KeyExchangeByName(name)
		if x == nil {
			continue
		}
		p.KeyExchanges = append(p.KeyExchanges, *x)
		if !slices.Contains(p.Groups, x.Group) {
			p.Groups = append(p.Groups, x.Group)
		}
	}
}

// groupOf is the group of a member of dh-group; nil if there is none.
func groupOf(name string) *suite.Group {
	first, _, _ := strings.Cut(name, "+")
	return suite.GroupByName(first)
}

// Additional reports whether a member of dh-group has more than a group.
func (p *Profile) Additional() bool {
	return slices.ContainsFunc(p.KeyExchanges, func(x suite.KeyExchange) bool { return len(x.Additional) > 0 })
}
