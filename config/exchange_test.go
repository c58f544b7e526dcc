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
		if names := p.PFSNames(); !slices.Equal(names, v.want) && (len(v.want) > 0 || !slices.Equal(names, []string{"none"})) {
			t.Errorf("%q: named %v", v.line, names)
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

// The EC2N groups have no number in IKEv2: what a peer of IKEv2 uses may not have them, and what nobody
// of IKEv2 uses may. No default has one.
func TestGroupsOfIKEv1Alone(t *testing.T) {
	const told = `is a group of IKEv1 alone, and [[peer]] "a" has exchange-mode "ike2", take it out or use another `
	template := map[string]string{
		"policy":   "group = 'default'\ntemplate = true\nproposal = 'q1'\n",
		"identity": "peer = 'a'\nsecret = 's'\ngenerate-policy = 'port-strict'\n",
		"proposal": "name = 'q1'\npfs-group = ['modp1024', 'ec2n185']\n",
	}
	for _, c := range []struct {
		instead map[string]string
		more    string
		want    string
	}{
		{replaced("profile", "'ecp256'", "['ecp256', 'ec2n155']"), "", `profile.dh-group: "ec2n155" ` + told + `[[profile]] for that peer`},
		{replaced("profile", "'ecp256'", "'ec2n185+ml-kem-768'"), "", `profile.dh-group: "ec2n185+ml-kem-768" ` + told + `[[profile]] for that peer`},
		{replaced("proposal", "'none'", "['none', 'ec2n185']"), "", `proposal.pfs-group: "ec2n185" ` + told + `[[proposal]] for that peer`},
		{template, "", `proposal.pfs-group: "ec2n185" ` + told + `[[proposal]] for that peer`},
		{nil, "[[profile]]\nname = 'old'\ndh-group = ['ec2n155', 'ec2n185']\n[[proposal]]\nname = 'old'\npfs-group = 'ec2n155'\n", ""},
	} {
		_, warnings, err := Parse("f", []byte(built(c.instead, c.more)))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (c.want == "") != (err == nil) || !strings.Contains(got, c.want) || strings.Count(got, told) > 1 {
			t.Errorf("%v, want %q", err, c.want)
		}
		if c.want == "" && !strings.Contains(weakWarnings(warnings), "ec2n155, ec2n185") {
			t.Errorf("nothing is said of the weak groups: %v", warnings)
		}
	}
	c, _, err := Parse("f", []byte(built(map[string]string{"profile": "name = 'p1'\n", "proposal": "name = 'q1'\n"}, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Profiles {
		for _, g := range p.Groups {
			if g.OnlyV1 {
				t.Errorf("profile %q has %s", p.Name, g.Name)
			}
		}
	}
	for _, p := range c.Proposals {
		for _, x := range p.PFS {
			if x.Group != nil && x.Group.OnlyV1 {
				t.Errorf("proposal %q has %s", p.Name, x.Group.Name)
			}
		}
	}
}
