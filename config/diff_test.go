package config

import (
	"slices"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	base := built(nil, "[[policy]]\naction = 'discard'\nsrc-address = '::/0'\ndst-address = '::/0'\n")
	old := mustParse(t, base)
	for name, c := range map[string]struct {
		text                    string
		changed, added, removed string
		kept, more, less        int
		reordered               bool
	}{
		"same":     {base, "", "", "", 3, 0, 0, false},
		"comments": {"# one\n\n" + strings.Replace(base, "[[peer]]", "[[peer]]\ncomment = 'x'", 1), "", "", "", 3, 0, 0, false},
		"default":  {strings.Replace(base, "[[peer]]", "[[peer]]\nport = 500", 1), "", "", "", 3, 0, 0, false},
		"peer":     {strings.Replace(base, "[[peer]]", "[[peer]]\nport = 501", 1), "a", "", "", 3, 0, 0, false},
		"profile":  {strings.Replace(base, "ecp256", "ecp384", 1), "a", "", "", 3, 0, 0, false},
		"secret":   {strings.Replace(base, "'s'", "'t'", 1), "a", "", "", 3, 0, 0, false},
		"identity": {base + "[[identity]]\npeer = 'a'\nremote-id = 'fqdn:x'\nsecret = 's'\n", "a", "", "", 3, 0, 0, false},
		// A name alone is no change, nor is a policy's identity under another name.
		"named":           {strings.Replace(base, "[[identity]]", "[[identity]]\nname = 'x'", 1), "", "", "", 3, 0, 0, false},
		"policy identity": {strings.NewReplacer("[[identity]]", "[[identity]]\nname = 'x'", "[[policy]]\npeer", "[[policy]]\nidentity = 'x'\npeer").Replace(base), "", "", "", 2, 1, 1, false},
		"proposal":        {strings.Replace(base, "'none'", "'ecp256'", 1), "", "", "", 2, 1, 1, false},
		"policy":          {strings.Replace(base, "10.2.0.0", "10.3.0.0", 1), "", "", "", 2, 1, 1, false},
		"renamed":         {strings.NewReplacer("name = 'a'", "name = 'b'", "peer = 'a'", "peer = 'b'").Replace(base), "", "b", "a", 2, 1, 1, false},
		"moved": {strings.Replace(base, "[[policy]]\npeer", "[[policy]]\naction = 'discard'\nsrc-address = '::/0'\ndst-address = '::/0'\n[[policy]]\npeer", 1) + "disabled = true\n",
			"", "", "", 3, 1, 0, true},
		"swapped": {built(map[string]string{"policy": "action = 'discard'\nsrc-address = '::/0'\ndst-address = '::/0'\n"}, "[[policy]]\n"+sound["policy"]), "", "", "", 3, 0, 0, true},
	} {
		passive := strings.Replace(base, "[[peer]]", "[[peer]]\npassive = true", 1)
		for name, text := range map[string]string{
			"redirect":          strings.Replace(passive, "[[peer]]", "[[peer]]\nredirect = '192.0.2.9'", 1),
			"identity.redirect": strings.Replace(passive, "[[identity]]", "[[identity]]\nredirect = '192.0.2.9'", 1),
		} {
			d := Diff(mustParse(t, passive), mustParse(t, text))
			if !slices.Equal(d.PeersRedirected, []string{"a"}) || len(d.PeersChanged) != 0 || d.Empty() {
				t.Errorf("%s: redirected %v, changed %v", name, d.PeersRedirected, d.PeersChanged)
			}
		}
		d := Diff(old, mustParse(t, c.text))
		got := []string{strings.Join(d.PeersChanged, ","), strings.Join(d.PeersAdded, ","), strings.Join(d.PeersRemoved, ",")}
		if !slices.Equal(got, []string{c.changed, c.added, c.removed}) {
			t.Errorf("%s: peers changed, added, removed %q", name, got)
		}
		if len(d.Kept) != c.kept || len(d.PoliciesAdded) != c.more || len(d.PoliciesRemoved) != c.less || d.Reordered != c.reordered {
			t.Errorf("%s: kept %d, added %d, removed %d, reordered %v", name, len(d.Kept), len(d.PoliciesAdded), len(d.PoliciesRemoved), d.Reordered)
		}
		for next, was := range d.Kept {
			if next.SrcAddress != was.SrcAddress || next.DstAddress != was.DstAddress || next.Action != was.Action {
				t.Errorf("%s: %v is kept as %v", name, was, next)
			}
		}
	}
	named := base + "[[identity]]\nname = 'x'\npeer = 'a'\nremote-id = 'fqdn:x'\nsecret = 'x'\n[[identity]]\nname = 'y'\npeer = 'a'\nremote-id = 'fqdn:y'\nsecret = 'y'\n"
	named = strings.Replace(named, "[[policy]]\npeer", "[[policy]]\nidentity = 'x'\npeer", 1)
	for name, c := range map[string]struct {
		replace []string
		kept    int
		changed string
	}{
		"the other":           {[]string{"identity = 'x'", "identity = 'y'"}, 2, ""},
		"none":                {[]string{"identity = 'x'\n", ""}, 2, ""},
		"the same, renamed":   {[]string{"'x'\n", "'z'\n", "secret = 'x'", "secret = 'x'"}, 3, ""},
		"the names change":    {[]string{"name = 'x'", "name = 'y'", "name = 'y'", "name = 'x'"}, 2, ""},
		"the secret of it":    {[]string{"secret = 'x'", "secret = 'X'"}, 2, "a"},
		"the secret of other": {[]string{"secret = 'y'", "secret = 'Y'"}, 3, "a"},
	} {
		d := Diff(mustParse(t, named), mustParse(t, strings.NewReplacer(c.replace...).Replace(named)))
		if len(d.Kept) != c.kept || strings.Join(d.PeersChanged, ",") != c.changed {
			t.Errorf("%s: kept %d, peers changed %v", name, len(d.Kept), d.PeersChanged)
		}
	}
	d := Diff(old, mustParse(t, base+"[gateway]\nlog-level = 'warn'\nlisten = '192.0.2.1'\ntun = 'culvert1'\n"))
	if !slices.Equal(d.Gateway, []string{"tun", "listen", "log-level"}) || !slices.Equal(d.Restart, []string{"tun", "listen"}) || d.Empty() {
		t.Errorf("gateway %v, restart %v", d.Gateway, d.Restart)
	}
}

// Policies that kept their order in part have changed it all the same.
func TestDiffReordered(t *testing.T) {
	policies := func(order string) *Config {
		text := ""
		for _, n := range order {
			text += "[[policy]]\naction = 'discard'\nsrc-address = '::/0'\ndst-address = '2001:db8:" + string(n) + "::/48'\n"
		}
		return mustParse(t, text)
	}
	for order, want := range map[string]bool{"abcd": false, "dabc": true, "bcda": true, "acbd": true, "abdc": true, "abd": false, "abcde": false, "fabcd": false, "bacd": true, "": false} {
		if d := Diff(policies("abcd"), policies(order)); d.Reordered != want {
			t.Errorf("abcd to %q: reordered %v", order, d.Reordered)
		}
	}
}

// Every key of [gateway] takes part in Diff.
func TestDiffKnowsTheGateway(t *testing.T) {
	var known []string
	for _, k := range gatewayKeys {
		known = append(known, k.name)
	}
	if want := keysOf(gatewayFields); !slices.Equal(known, want) {
		t.Errorf("%v, want %v", known, want)
	}
}
