package core

import (
	"reflect"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

// keywords reads strongSwan's keywords; ok is false for what is not in the table
// or what our configuration cannot say (a group or none).
func keywords(protocol Protocol, s string, own bool) (o Offer, extra []Transform, ok bool) {
	o.Protocol = protocol
	for _, w := range strings.Split(s, "-") {
		switch w {
		case "aes128", "aes256":
			o.Encrs = append(o.Encrs, suite.EncrByName("aes-"+w[3:]+"-cbc"))
		case "sha256", "sha1":
			o.Integs = append(o.Integs, suite.IntegByName(w))
			if protocol == ProtoIKE {
				o.PRFs = append(o.PRFs, suite.PRFByName(w))
			}
		case "modp3072", "ecp256", "ecp384":
			o.Groups = append(o.Groups, suite.GroupByName(w))
		case "esn":
			o.ESN = append(o.ESN, true)
		case "noesn":
			o.ESN = append(o.ESN, false)
		case "none":
			extra = append(extra, Transform{Type: suite.TypeDH})
		default:
			return o, nil, false
		}
	}
	if len(o.Integs) == 0 || own && len(extra) > 0 && len(o.Groups) > 0 {
		return o, nil, false
	}
	if protocol == ProtoESP && o.ESN == nil {
		o.ESN = []bool{false}
	}
	return o, extra, true
}

func TestSelectVectors(t *testing.T) {
	var v struct {
		Tests []struct{ Proto, Self, Other, Expected, Flags string }
	}
	vectors.Load(t, "strongswan-tables/proposal_select.json", &v)
	n := 0
	for _, c := range v.Tests {
		protocol := map[string]Protocol{"ESP": ProtoESP, "IKE": ProtoIKE}[c.Proto]
		self, _, ok := keywords(protocol, c.Self, true)
		other, extra, ok2 := keywords(protocol, c.Other, false)
		if !ok || !ok2 {
			continue
		}
		n++
		if c.Flags == "PROPOSAL_SKIP_KE" { // IKE_AUTH
			self.Groups, other.Groups = nil, nil
		}
		ps := other.Alternatives()
		ps[0].Transforms = append(ps[0].Transforms, extra...)
		s, answer, ok := self.Select(ps)
		if ok != (c.Expected != "") {
			t.Errorf("%s with %s: %v, want %q", c.Self, c.Other, ok, c.Expected)
			continue
		}
		if !ok {
			continue
		}
		want, _, _ := keywords(protocol, c.Expected, false)
		if s.Encr != want.Encrs[0] || s.Integ != want.Integs[0] || len(want.Groups) > 0 && s.Group != want.Groups[0] ||
			len(want.Groups) == 0 && s.Group != nil || protocol == ProtoESP && s.ESN != want.ESN[0] {
			t.Errorf("%s with %s: %+v, want %s", c.Self, c.Other, s, c.Expected)
		}
		// The initiator accepts what the responder chose.
		if got, ok := other.Accepts([]Alternative{answer}); ok && !reflect.DeepEqual(got, s) || !ok && len(extra) == 0 {
			t.Errorf("%s with %s: the answer is understood as %+v, %v", c.Self, c.Other, got, ok)
		}
	}
	if n < 10 {
		t.Errorf("only %d vectors", n)
	}
}

func TestSelect(t *testing.T) {
	gcm, cbc := suite.EncrByName("aes-128-gcm"), suite.EncrByName("aes-256-cbc")
	sha := suite.IntegByName("sha256")
	o := Offer{Protocol: ProtoESP, Encrs: []*suite.Encr{gcm, cbc}, Integs: []*suite.Integ{sha}, ESN: []bool{true, false}}
	ps := o.Alternatives()
	if len(ps) != 2 || ps[0].Number != 1 || ps[1].Number != 2 {
		t.Fatalf("AEAD and HMAC belong into two proposals (RFC 5282 §8): %+v", ps)
	}
	for _, x := range ps[0].Transforms {
		if x.Type == suite.TypeInteg {
			t.Error("an integrity transform beside an AEAD")
		}
	}
	tr := func(ts ...Transform) []Alternative {
		return []Alternative{{Number: 1, Protocol: 3, Transforms: ts}}
	}
	g := Transform{Type: 1, ID: 20, KeyBits: 128}
	tests := []struct {
		name string
		ps   []Alternative
		ok   bool
	}{
		{"an AEAD", tr(g, Transform{Type: 5}), true},
		{"no ESN transform means 32 bits", tr(g), true},
		{"an AEAD with integrity, as old peers have it", tr(g, Transform{Type: 3, ID: 12}, Transform{Type: 5}), true},
		{"no key length", tr(Transform{Type: 1, ID: 20}), false},
		{"another key length", tr(Transform{Type: 1, ID: 20, KeyBits: 256}), false},
		{"an attribute that is not known", tr(Transform{Type: 1, ID: 20, KeyBits: 128, Unknown: true}), false},
		{"a transform type that is not known", tr(g, Transform{Type: 6, ID: 1}), false},
		{"transform type 0", tr(g, Transform{}), false},
		{"CBC without integrity", tr(Transform{Type: 1, ID: 12, KeyBits: 256}), false},
		{"another protocol", []Alternative{{Number: 1, Protocol: 1, Transforms: []Transform{g}}}, false},
		{"the second proposal", append(tr(Transform{Type: 1, ID: 3}), Alternative{Number: 2, Protocol: 3, Transforms: []Transform{g}}), true},
		{"nothing", nil, false},
		{"an empty proposal", tr(), false},
	}
	for _, c := range tests {
		if _, _, ok := o.Select(c.ps); ok != c.ok {
			t.Errorf("%s: %v", c.name, ok)
		}
	}
	if _, ok := o.Accepts(tr(g, g, Transform{Type: 5})); ok {
		t.Error("a choice of two ciphers was accepted")
	}
	if _, ok := o.Accepts(append(tr(g), tr(g)...)); ok {
		t.Error("a choice of two proposals was accepted")
	}
}
