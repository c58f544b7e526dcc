package config

import (
	"fmt"
	"slices"
	"strings"

	"culvert/crypto/suite"
)

// What is weak is said of every profile and proposal that is in force, whether its
// algorithms are written or the manual's defaults, and of what is written elsewhere.
// The peer chooses among all that is allowed, and who is on the path may choose for it.

// weakKey is a key with a list of algorithms.
type weakKey struct {
	name  string
	all   []string // as allowed
	weak  func(name string) bool
	inUse bool   // whether anything looks at the key
	good  string // what to write where all are weak
}

// warnWeak says of each profile and each proposal in one line which weak algorithms
// it allows, and what to write instead.
func (l *loader) warnWeak() {
	profiles, proposals := l.inForce()
	for _, p := range l.config.Profiles {
		hash := !allAEAD(p.Encrs) || slices.Contains(p.PRFAlgorithm, "auto")
		l.warnWeakKeys(&p.Entry, "profile", profiles[p],
			weakKey{"dh-group", p.DHGroup, weakGroup, true, "modp2048"},
			weakKey{"enc-algorithm", p.EncAlgorithm, isWeak(suite.EncrByIKEName, func(e *suite.Encr) bool { return e.Weak }), true, "aes-256"},
			weakKey{"hash-algorithm", p.HashAlgorithm, weakInteg, hash, "sha256"},
			weakKey{"prf-algorithm", p.PRFAlgorithm, isWeak(suite.PRFByName, func(f *suite.PRF) bool { return f.Weak }), true, "sha256"})
	}
	for _, p := range l.config.Proposals {
		l.warnWeakKeys(&p.Entry, "proposal", proposals[p],
			weakKey{"auth-algorithms", p.AuthAlgorithms, weakInteg, !allAEAD(p.Encrs), "sha256"},
			weakKey{"enc-algorithms", p.EncAlgorithms, isWeak(suite.EncrByName, func(e *suite.Encr) bool { return e.Weak }), true, "aes-256-gcm"},
			weakKey{"pfs-group", p.PFSGroup, weakGroup, true, "modp2048"})
	}
}

// user is an entry by which a profile or a proposal is in force.
type user struct {
	entry      *Entry
	table, key string
}

// inForce are the profiles and proposals that a running gateway would use, each with
// the first entry that makes it so.
func (l *loader) inForce() (map[*Profile]*user, map[*Proposal]*user) {
	profiles, proposals := map[*Profile]*user{}, map[*Proposal]*user{}
	for _, p := range l.config.Peers {
		if p.Disabled || len(p.Identities) == 0 {
			continue
		}
		if profiles[p.Profile] == nil {
			profiles[p.Profile] = &user{&p.Entry, "peer", "profile"}
		}
	}
	by := map[string]*Identity{} // of a group whose templates policies are made from, the first that has it
	for _, i := range l.config.Identities {
		inForce := i.Peer != nil && !i.Disabled && !i.Peer.Disabled && i.Generates()
		if inForce && by[i.PolicyTemplateGroup] == nil {
			by[i.PolicyTemplateGroup] = i
		}
	}
	for _, p := range l.config.Policies {
		made := p.Template && !p.Disabled && by[p.Group] != nil
		written := p.Works() && p.Action == Encrypt && p.Peer != nil && !p.Peer.Disabled
		if !made && !written || p.Proposal == nil || proposals[p.Proposal] != nil {
			continue
		}
		u := &user{&p.Entry, "policy", "proposal"}
		if p.File == "" { // the manual's own template
			u = &user{&by[p.Group].Entry, "identity", "policy-template-group"}
		}
		proposals[p.Proposal] = u
	}
	return profiles, proposals
}

// warnWeakKeys looks at one entry. An entry that nobody wrote is told of where it is used.
func (l *loader) warnWeakKeys(e *Entry, table string, by *user, keys ...weakKey) {
	var found, instead []string
	at, key := "", ""
	for _, k := range keys {
		weak := slices.DeleteFunc(slices.Clone(k.all), func(n string) bool { return !k.weak(n) })
		if e.Disabled || len(weak) == 0 || e.bad[k.name] || !e.Written(k.name) && (by == nil || !k.inUse) {
			continue
		}
		if e.Written(k.name) && at == "" {
			at, key = k.name, table+"."+k.name
		}
		for _, n := range weak {
			if !slices.Contains(found, n) {
				found = append(found, n)
			}
		}
		instead = append(instead, k.name+" = "+k.without())
	}
	if len(found) == 0 {
		return
	}
	text := fmt.Sprintf("weak algorithms are allowed by [[%s]] %q: %s, write %s at both ends, and allow weak ones only for a peer that has nothing better",
		table, e.Name, accepted(found), strings.Join(instead, ", "))
	switch {
	case e.File == "":
		l.warnAt(by.entry, by.table, by.key, "%s", strings.Replace(text, ", write ", fmt.Sprintf(" (the manual's defaults), write a [[%s]] %q with ", table, e.Name), 1))
	case at == "":
		l.warn(e.at(""), table, "%s", text)
	default:
		l.warn(e.at(at), key, "%s", text)
	}
}

// without is what to write for the key: what it allows less what is weak.
func (k weakKey) without() string {
	list := slices.DeleteFunc(slices.Clone(k.all), k.weak)
	switch len(list) {
	case 0:
		return fmt.Sprintf("%q", k.good)
	case 1:
		return fmt.Sprintf("%q", list[0])
	}
	return `["` + strings.Join(list, `", "`) + `"]`
}

// isWeak looks a name up in a table of crypto/suite.
func isWeak[R any](find func(string) *R, is func(*R) bool) func(string) bool {
	return func(name string) bool {
		r := find(name)
		return r != nil && is(r)
	}
}

var (
	weakGroup = isWeak(groupOf, func(g *suite.Group) bool { return g.Weak })
	weakInteg = isWeak(suite.IntegByName, func(a *suite.Integ) bool { return a.Weak })
)
