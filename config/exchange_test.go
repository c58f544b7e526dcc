package config

import (
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

func TestKeyExchanges(t *testing.T) {
	text := built(replaced("profile", "dh-group = 'ecp256'", "dh-group = ['x25519+ml-kem-768+ml-kem-1024', 'x25519', 'ecp384+ml-kem-768']"), "")
	c, warnings, err := Parse("f", []byte(text))
	if err != nil || len(others(warnings)) > 0 {
		t.Fatal(err, warnings)
	}
	var got, groups string
	for _, p := range c.Profiles {
		if p.Name != "p1" {
			continue
		}
		for _, x := range p.KeyExchanges {
			got += x.Group.Name
			for _, k := range x.Additional {
				got += "+" + k.Name
			}
			got += " "
		}
		for _, g := range p.Groups {
			groups += g.Name + " "
		}
	}
	if got != "x25519+ml-kem-768+ml-kem-1024 x25519 ecp384+ml-kem-768 " || groups != "x25519 ecp384 " {
		t.Errorf("the key exchanges are %q, the groups %q", got, groups)
	}
	// A weak group is weak whatever comes after it.
	_, warnings, err = Parse("f", []byte(built(replaced("profile", "dh-group = 'ecp256'", "dh-group = 'modp1024+ml-kem-768'"), "")))
	if err != nil || !strings.Contains(weakWarnings(warnings), `[[profile]] "p1": modp1024+ml-kem-768,`) {
		t.Error(err, warnings)
	}
}

// A pfs-group that is not written is every group that is not weak, the manual's default, and none
// at all; a list is itself, in its order.
func TestPFSGroups(t *testing.T) {
	for _, v := range []struct {
		line string
		want []string
		any  bool
	}{
		{"", []string{"x25519", "ecp256", "ecp384", "ecp521", "modp3072", "modp4096", "modp2048", "modp6144", "modp8192", "modp1024", "none"}, true},
		{"pfs-group = ['none', 'ecp256+ml-kem-768', 'x25519']\n", []string{"none", "ecp256+ml-kem-768", "x25519"}, false},
		{"pfs-group = 'modp1024'\n", []string{"modp1024"}, false},
		{"pfs-group = 'none'\n", nil, false},
	} {
		p := mustParse(t, "[[proposal]]\nname = 'q'\n"+v.line).Proposals[1]
		var got []string
		for _, x := range p.PFS {
			name := "none"
			if x.Group != nil {
				name = x.Group.Name
			}
			for _, k := range x.Additional {
				name += "+" + k.Name
			}
			got = append(got, name)
		}
		if !slices.Equal(got, v.want) || p.AnyPFS != v.any {
			t.Errorf("%q: %v, any %v", v.line, got, p.AnyPFS)
		}
	}
	for i := range suite.Groups {
		if g := &suite.Groups[i]; !g.Weak && !slices.Contains(strongGroups, g.Name) {
			t.Errorf("%s is not weak, and no peer may use it for PFS unasked", g.Name)
		}
	}
}
