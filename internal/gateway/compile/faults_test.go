package compile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"culvert/config"
)

// six is a policy for IPv6.
func six(action, more string) string {
	return "[[policy]]\naction = \"" + action + "\"\nsrc-address = \"2001:db8:1::/48\"\ndst-address = \"2001:db8:2::/48\"\n" + more
}

// Configurations that load and do not compile, and how people are told. What config refuses
// before is made by alter.
func TestFaults(t *testing.T) {
	const size = "[gateway]\nmtu = 1279\n"
	warriors := size + `
[[peer]]
name = "all"
exchange-mode = "ike2"
passive = true
[[identity]]
peer = "all"
secret = "x"
generate-policy = "port-strict"
mode-config = "six"
[[mode-config]]
name = "six"
address = "2001:db8::7"
`
	policy := func(c *config.Config) *config.Policy { return c.Policies[2] }
	identity := func(c *config.Config) *config.Identity { return c.Identities[0] }
	for _, c := range []struct {
		name, text string
		alter      func(*config.Config)
		want       string // "": it compiles
	}{
		{"nothing", manual, nil, ""},
		{"IPv6 on a small device", size + six("discard", ""), nil,
			"test.toml:2: gateway.mtu: 1279 is too small for IPv6, which the policy at test.toml:3 needs, write 1280 or more, or leave it out"},
		{"IPv6 that passes by", size + six("none", ""), nil, "test.toml:2: gateway.mtu: 1279 is too small for IPv6, which the policy at test.toml:3 needs, "},
		{"IPv6 that is disabled", size + six("discard", "disabled = true\n"), nil, ""},
		{"IPv6 on a device that takes it", strings.Replace(size, "1279", "1280", 1) + six("discard", ""), nil, ""},
		{"IPv6 where no size is written", six("discard", ""), nil, ""},
		{"IPv4 on a small device", size + manual, nil, ""},
		{"IPv6 for clients", warriors, nil, "test.toml:2: gateway.mtu: 1279 is too small for IPv6, which its own template needs, write 1280 or more, or leave it out"},
		{"IPv4 for clients", strings.Replace(warriors, "2001:db8::7", "192.0.2.7", 1), nil, ""},
		{"an auth-method", manual, func(c *config.Config) { identity(c).AuthMethod = "riddle" },
			`identity.auth-method: "riddle" is not in this build, accepted: "digital-signature", "pre-shared-key"`},
		{"the peer's", manual, func(c *config.Config) { identity(c).RemoteAuthMethod = "riddle" }, `identity.remote-auth-method: "riddle" is not in this build, `},
		{"generate-policy", manual, func(c *config.Config) { identity(c).GeneratePolicy = "all" }, `identity.generate-policy: "all" is not in this build, accepted: "no", "port-override", "port-strict"`},
		{"childless", manual, func(c *config.Config) { c.Peers[0].Childless = "maybe" }, `peer.childless: "maybe" is not in this build, accepted: "no", "prefer", "require"`},
		{"of the second peer", manual, func(c *config.Config) { c.Peers[1].Disabled, c.Peers[1].Childless = false, "maybe" }, `peer.childless: "maybe" is not in this build, `},
		{"of a disabled peer", manual, func(c *config.Config) { c.Peers[1].Childless = "maybe" }, ""},
		{"encapsulation", "[gateway]\n", func(c *config.Config) { c.Gateway.Encapsulation = "tcp" }, `gateway.encapsulation: "tcp" is not in this build, accepted: "detect", "raw", "udp"`},
		{"action", manual, func(c *config.Config) { policy(c).Action = "log" }, `policy.action: "log" is not in this build, accepted: "discard", "encrypt", "none"`},
		{"level", manual, func(c *config.Config) { policy(c).Level = "some" }, `policy.level: "some" is not in this build, accepted: "require", "unique", "use"`},
		{"no identity", manual, func(c *config.Config) { c.Peers[0].Identities = nil }, `policy.peer: [[peer]] "site2" has no [[identity]] in force, enable one, or disable the policy`},
		{"no proposal", manual, func(c *config.Config) { policy(c).Proposal = nil }, `policy.proposal: there is no [[proposal]] "ike2-site2" in force, name another one, or disable the policy`},
		{"no proposal of a template", warriors, func(c *config.Config) { c.Policies[0].Proposal = nil }, `policy.proposal: there is no [[proposal]] "default" in force, name another one, or disable the template`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := parse(t, c.text)
			if c.alter != nil {
				c.alter(cfg)
			}
			r, err := Compile(cfg, ports, nil)
			if c.want == "" {
				if err != nil || r == nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var faults config.Faults
			if !errors.As(err, &faults) || r != nil {
				t.Fatalf("not refused: %v", err)
			}
			if !slices.ContainsFunc(faults, func(f config.Fault) bool { return strings.Contains(f.String(), c.want) }) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// A template that an earlier one makes useless is named, unless it repeats the manual's own.
func TestTheSameTemplateTwice(t *testing.T) {
	const warriors = `
[[policy-group]]
name = "g"
[[peer]]
name = "all"
exchange-mode = "ike2"
passive = true
[[identity]]
peer = "all"
secret = "x"
generate-policy = "port-strict"
policy-template-group = "GROUP"
[[policy]]
template = true
group = "GROUP"
[[policy]]
template = true
group = "GROUP"
`
	for group, want := range map[string]string{
		"g":       "test.toml:17: policy.template: is the same as the template at test.toml:13, which comes first, remove one of the two",
		"default": "",
	} {
		r := compiled(t, strings.ReplaceAll(warriors, "GROUP", group), nil)
		var got []string
		for _, w := range r.Warnings {
			got = append(got, w.String())
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s: %q, want %q", group, got, want)
		}
	}
}

// The values that config accepts and those that the planes have are the same.
func TestWhatLoadsIsInTheTables(t *testing.T) {
	for _, c := range []struct {
		table, key string
		has        []string
	}{
		{"[[identity]]", "auth-method", names(authMethods())},
		{"[[identity]]", "remote-auth-method", names(methodsAlone())},
		{"[[identity]]", "generate-policy", names(generates)},
		{"[[peer]]", "childless", names(childless)},
		{"[gateway]", "encapsulation", names(encapsulations)},
		{"[[policy]]", "action", names(actions)},
		{"[[policy]]", "level", names(levels)},
	} {
		_, _, err := config.Parse("test.toml", []byte(c.table+"\n"+c.key+" = \"none of them\"\n"))
		_, list, ok := strings.Cut(fmt.Sprint(err), `"none of them"`)
		_, list, accepted := strings.Cut(list, "accepted: ")
		list, _, _ = strings.Cut(list, "\n")
		got := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(`", `, r) })
		got = slices.DeleteFunc(got, func(v string) bool { return v == "or" })
		slices.Sort(got)
		if !ok || !accepted || !slices.Equal(got, c.has) {
			t.Errorf("%s of %s: config accepts %q, the planes have %q; %v", c.key, c.table, got, c.has, err)
		}
	}
}

func names[K ~string, V any](m map[K]V) (list []string) {
	for k := range m {
		list = append(list, string(k))
	}
	slices.Sort(list)
	return list
}
