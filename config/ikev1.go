package config

import (
	"slices"
	"strings"

	"culvert/crypto/suite"
)

// What is particular to peers that speak IKEv1 (exchange-mode other than "ike2").

// IKEv1 reports whether the peer speaks IKEv1.
func (p *Peer) IKEv1() bool { return p.ExchangeMode != "ike2" }

// checkIKEv1 checks what IKEv1 cannot negotiate, and what this build does not do with it yet.
func (l *loader) checkIKEv1() {
	for _, p := range l.config.Peers {
		if p.Disabled || !p.IKEv1() || p.bad["exchange-mode"] {
			continue
		}
		for _, i := range p.Identities {
			l.checkIdentityV1(p, i)
		}
		l.checkProfileV1(p)
	}
}

func (l *loader) checkIdentityV1(p *Peer, i *Identity) {
	e := &i.Entry
	if i.Written("remote-auth-method") && i.RemoteAuthMethod != i.AuthMethod && !(byPSK(i.AuthMethod) && byPSK(i.RemoteAuthMethod)) && !e.bad["remote-auth-method"] && !e.bad["auth-method"] {
		l.faultAt(e, "identity", "remote-auth-method", "is %q, and auth-method is %q: with exchange-mode %q of [[peer]] %q both ends prove themselves in the same way, leave remote-auth-method out", i.RemoteAuthMethod, i.AuthMethod, p.ExchangeMode, p.Name)
	}
	if p.ExchangeMode == "aggressive" && byPSK(i.AuthMethod) && !e.bad["auth-method"] {
		l.warnAt(e, "identity", "auth-method", "%s in aggressive mode: whoever calls this gateway or listens gets what the secret can be guessed by, without a further call: use exchange-mode main or ike2, or certificates; else write a secret made by openssl rand -hex 32", i.AuthMethod)
	}
	if p.ExchangeMode == "base" && byPSK(i.AuthMethod) && !e.bad["auth-method"] {
		l.warnAt(e, "identity", "auth-method", "%s in base mode: whoever listens gets what the secret can be guessed by, without a further call: use exchange-mode main or ike2, or certificates; else write a secret made by openssl rand -hex 32", i.AuthMethod)
	}
	for _, key := range []string{"ppk-id", "ppk-secret", "ppk-required"} {
		if i.Written(key) {
			l.faultAt(e, "identity", key, "is of IKEv2, and [[peer]] %q has exchange-mode %q: leave it out", p.Name, p.ExchangeMode)
		}
	}
}

// ignoredByV1 are the keys of a profile that mean nothing to IKEv1.
var ignoredByV1 = []string{"prf-algorithm", "mobike", "reauth", "resumption"}

func (l *loader) checkProfileV1(p *Peer) {
	q := p.Profile
	if q == nil || q.Disabled {
		return
	}
	e := &q.Entry
	for _, c := range []struct {
		key   string
		fits  bool
		needs string
	}{
		{"enc-algorithm", slices.ContainsFunc(q.Encrs, func(e *suite.Encr) bool { return e.V1.Phase1 != 0 }), "aes-256"},
		{"dh-group", slices.ContainsFunc(q.Groups, func(g *suite.Group) bool { return g.V1 != 0 }), "modp2048"},
	} {
		if !c.fits && !e.bad[c.key] {
			l.faultAt(e, "profile", c.key, "has nothing that IKEv1 can negotiate, which [[peer]] %q speaks (exchange-mode %q): add %s", p.Name, p.ExchangeMode, c.needs)
		}
	}
	var keys []string
	for _, key := range ignoredByV1 {
		if q.Written(key) {
			keys = append(keys, key)
		}
	}
	for _, key := range []string{"childless", "redirect"} {
		if p.Written(key) {
			keys = append(keys, key+" of [[peer]]")
		}
	}
	if len(keys) > 0 {
		l.warn(q.at(""), "profile", "%q: IKEv1, which [[peer]] %q speaks, ignores %s", q.Name, p.Name, strings.Join(keys, ", "))
	}
}
