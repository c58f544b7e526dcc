package config

import (
	"strings"
	"testing"
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
