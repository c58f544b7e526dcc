package config

import (
	"fmt"
	"strings"

	"culvert/crypto/suite"
)

// warnWeak names the weak algorithms that written keys allow, in one warning:
// an old peer may have nothing else, but the peer also chooses among what is
// allowed. The manual's defaults are not written.
func (l *loader) warnWeak() {
	var first *Entry
	var table, key string
	var all []string
	look := func(e *Entry, of string, keys ...weakKey) {
		var found []string
		for _, k := range keys {
			if e.Disabled || !e.Written(k.name) || len(k.weak) == 0 {
				continue
			}
			if found = append(found, k.weak...); first == nil {
				first, table, key = e, of, k.name
			}
		}
		if len(found) > 0 {
			all = append(all, fmt.Sprintf("[[%s]] %q: %s", of, e.Name, accepted(found)))
		}
	}
	for _, p := range l.config.Profiles {
		look(&p.Entry, "profile",
			weakKey{"dh-group", weak(p.DHGroup, groupOf, func(g *suite.Group) bool { return g.Weak })},
			weakKey{"enc-algorithm", weak(p.EncAlgorithm, suite.EncrByIKEName, func(e *suite.Encr) bool { return e.Weak })},
			weakKey{"hash-algorithm", weak(p.HashAlgorithm, suite.IntegByName, func(a *suite.Integ) bool { return a.Weak })},
			weakKey{"prf-algorithm", weak(p.PRFAlgorithm, suite.PRFByName, func(f *suite.PRF) bool { return f.Weak })})
	}
	for _, p := range l.config.Proposals {
		look(&p.Entry, "proposal",
			weakKey{"auth-algorithms", weak(p.AuthAlgorithms, suite.IntegByName, func(a *suite.Integ) bool { return a.Weak })},
			weakKey{"enc-algorithms", weak(p.EncAlgorithms, suite.EncrByName, func(e *suite.Encr) bool { return e.Weak })},
			weakKey{"pfs-group", weak(p.PFSGroup, groupOf, func(g *suite.Group) bool { return g.Weak })})
	}
	if first != nil {
		l.warnAt(first, table, key, "weak algorithms are allowed (%s), allow them only for a peer that has nothing better", strings.Join(all, "; "))
	}
}

// weakKey is a key with those of its values that are weak.
type weakKey struct {
	name string
	weak []string
}

func weak[R any](names []string, find func(string) *R, is func(*R) bool) (list []string) {
	for _, n := range names {
		if r := find(n); r != nil && is(r) {
			list = append(list, n)
		}
	}
	return list
}
