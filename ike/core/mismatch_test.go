package core

import (
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

func offerOf(proto Protocol, encrs, hashes, groups []string) Offer {
	o := Offer{Protocol: proto}
	for _, n := range encrs {
		e := suite.EncrByName(n)
		if proto == ProtoIKE {
			e = suite.EncrByIKEName(n)
		}
		o.Encrs = append(o.Encrs, e)
	}
	for _, n := range hashes {
		o.Integs = append(o.Integs, suite.IntegByName(n))
		if proto == ProtoIKE {
			o.PRFs = append(o.PRFs, suite.PRFByName(n))
		}
	}
	for _, n := range groups {
		o.Groups = append(o.Groups, suite.GroupByName(n))
	}
	if proto != ProtoIKE {
		o.ESN = []bool{false}
	}
	return o
}

func words(s string) []string { return strings.Fields(s) }

var holder = Holder{Name: `profile "x"`, Where: func(key string) string { return "site.toml:" + key }}

func TestExplain(t *testing.T) {
	tr := func(typ suite.TransformType, id, bits uint16) Transform {
		return Transform{Type: typ, ID: id, KeyBits: bits}
	}
	for _, c := range []struct {
		name  string
		ours  Offer
		peer  []Alternative
		part  string
		hint  string
		their string // a line of Theirs
	}{
		{"encryption, the one of two that exists here", offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("x25519")),
			[]Alternative{{Number: 1, Protocol: 1, Transforms: []Transform{tr(1, 7777, 0), tr(1, 12, 256), tr(2, 5, 0), tr(3, 12, 0), tr(4, 31, 0)}}}, "encryption",
			`encryption: we allow aes-128, the peer offers #7777, aes-256: add aes-256 to enc-algorithm of profile "x" (site.toml:enc-algorithm)`, "encryption: #7777, aes-256"},
		{"the manual's FAQ: a hash", offerOf(ProtoIKE, words("aes-128 aes-256"), words("sha512"), words("modp2048")),
			offerOf(ProtoIKE, words("aes-128 aes-256"), words("sha1"), words("modp2048")).Alternatives(), "prf",
			`prf: we allow sha512, the peer offers sha1: add sha1 to hash-algorithm of profile "x" (site.toml:hash-algorithm)`, "integrity: sha1"},
		{"group", offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("modp3072 x25519")),
			offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("modp2048")).Alternatives(), "group",
			`group: we allow modp3072, x25519, the peer offers modp2048: add modp2048 to dh-group of profile "x" (site.toml:dh-group)`, "group: modp2048"},
		{"one that is not weak before one that is", offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("x25519")),
			offerOf(ProtoIKE, words("3des aes-256"), words("sha256"), words("x25519")).Alternatives(), "encryption", "the peer offers 3des, aes-256: add aes-256 to", "encryption: 3des, aes-256"},
		{"weak where there is no other", offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("x25519")),
			offerOf(ProtoIKE, words("3des"), words("sha256"), words("x25519")).Alternatives(), "encryption", "add 3des to", "encryption: 3des"},
		{"the proposal that comes furthest", offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("x25519")),
			append(offerOf(ProtoIKE, words("aes-256"), words("sha256"), words("x25519")).Alternatives(),
				offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("ecp256")).Alternatives()...), "group",
			`group: we allow x25519, the peer offers ecp256: add ecp256 to dh-group`, "proposal 1, encryption: aes-256"},
		{"ESP integrity", offerOf(ProtoESP, words("aes-128-cbc"), words("sha1"), nil),
			offerOf(ProtoESP, words("aes-128-cbc"), words("sha256"), nil).Alternatives(), "integrity",
			`add sha256 to auth-algorithms of profile "x"`, "esn: no"},
		{"another pfs group", offerOf(ProtoESP, words("aes-128-gcm"), nil, words("x25519")),
			offerOf(ProtoESP, words("aes-128-gcm"), nil, words("modp2048")).Alternatives(), "group", `add modp2048 to pfs-group of profile "x"`, "encryption: aes-128-gcm"},
		{"pfs where we have none", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil),
			offerOf(ProtoESP, words("aes-128-gcm"), nil, words("modp2048")).Alternatives(), "group", `set pfs-group of profile "x" to modp2048`, "group: modp2048"},
		{"pfs that the peer does not do", offerOf(ProtoESP, words("aes-128-gcm"), nil, words("x25519")),
			offerOf(ProtoESP, words("aes-128-gcm"), nil, nil).Alternatives(), "group", `the peer offers none: add none to pfs-group of profile "x"`, "esn: no"},
		{"esn", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil),
			[]Alternative{{Number: 1, Protocol: 3, Transforms: []Transform{tr(1, 20, 128), tr(5, 1, 0)}}}, "esn", `set esn of profile "x" to yes`, "esn: yes"},
		{"what nobody knows", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil),
			[]Alternative{{Number: 1, Protocol: 3, Transforms: []Transform{tr(1, 9999, 64), tr(1, 20, 129)}}}, "encryption",
			"the peer offers #9999/64, #20/129: profile \"x\" (site.toml:enc-algorithms) cannot be given any of that", "encryption: #9999/64, #20/129"},
		{"a transform of another kind", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil),
			[]Alternative{{Number: 1, Protocol: 3, Transforms: []Transform{tr(1, 20, 128), tr(13, 1, 0)}}}, "transform", "leave that out", "encryption: aes-128-gcm"},
		{"another key exchange", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil),
			[]Alternative{{Number: 1, Protocol: 3, Transforms: []Transform{tr(1, 20, 128), tr(6, 36, 0)}}}, "additional key exchanges", "we allow none, the peer offers ml-kem-768: write the same pfs-group on both sides", "encryption: aes-128-gcm"},
		{"protocol", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil),
			[]Alternative{{Number: 1, Protocol: 2, Transforms: []Transform{tr(3, 2, 0)}}}, "protocol", "we allow ESP, the peer offers AH", "protocol: AH"},
		{"nothing", offerOf(ProtoESP, words("aes-128-gcm"), nil, nil), nil, "", "proposed nothing", ""},
	} {
		if _, _, ok := c.ours.Select(c.peer); ok {
			t.Errorf("%s: it fits", c.name)
		}
		m := c.ours.Explain(c.peer, holder)
		if m.Part != c.part || !strings.Contains(m.Hint, c.hint) {
			t.Errorf("%s: part %q, hint\n%s\nwant %q\n%s", c.name, m.Part, m.Hint, c.part, c.hint)
		}
		if c.their != "" && !slices.Contains(m.Theirs, c.their) {
			t.Errorf("%s: theirs %q lacks %q", c.name, m.Theirs, c.their)
		}
		if len(m.Ours) == 0 {
			t.Errorf("%s: ours is empty", c.name)
		}
	}
}

// What a hint says is done: then the proposal is accepted.
func TestHintsHelp(t *testing.T) {
	ours := offerOf(ProtoIKE, words("aes-128"), words("sha1"), words("modp2048"))
	peer := offerOf(ProtoIKE, words("aes-192 aes-256"), words("sha256"), words("ecp384")).Alternatives()
	for step := range 5 {
		if _, _, ok := ours.Select(peer); ok {
			if step == 0 {
				t.Fatal("it fits from the beginning")
			}
			return
		}
		m := ours.Explain(peer, holder)
		name := words(m.Hint[strings.Index(m.Hint, ": add ")+6:])[0]
		switch {
		case strings.Contains(m.Hint, " to enc-algorithm "):
			ours.Encrs = append(ours.Encrs, suite.EncrByIKEName(name))
		case strings.Contains(m.Hint, " to hash-algorithm "):
			ours.PRFs, ours.Integs = append(ours.PRFs, suite.PRFByName(name)), append(ours.Integs, suite.IntegByName(name))
		case strings.Contains(m.Hint, " to dh-group "):
			ours.Groups = append(ours.Groups, suite.GroupByName(name))
		default:
			t.Fatalf("no advice: %s", m.Hint)
		}
	}
	t.Error("five hints did not help")
}

// However much a peer proposes, what is shown is bounded.
func TestExplainIsBounded(t *testing.T) {
	var peer []Alternative
	for i := range 64 {
		p := Alternative{Number: uint8(i + 1), Protocol: 1}
		for id := range 255 {
			p.Transforms = append(p.Transforms, Transform{Type: suite.TypeEncr, ID: uint16(id + 2000)})
		}
		peer = append(peer, p)
	}
	m := offerOf(ProtoIKE, words("aes-128"), words("sha1"), words("modp2048")).Explain(peer, holder)
	if len(m.Theirs) != maxLines+1 || len(strings.Join(m.Theirs, "\n"))+len(m.Hint) > 8000 {
		t.Errorf("%d lines, %d bytes", len(m.Theirs), len(strings.Join(m.Theirs, "\n")))
	}
}
