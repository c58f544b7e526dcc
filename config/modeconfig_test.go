package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// roadWarriors is the manual's server for road warriors, with a pre-shared key.
const roadWarriors = `
[[profile]]
name = "ike2"
dh-group = "ecp256"
[[proposal]]
name = "ike2"
pfs-group = "none"
[[pool]]
name = "ike2-pool"
ranges = "192.168.77.2-192.168.77.254"
[[mode-config]]
name = "ike2-conf"
address-pool = "ike2-pool"
address-prefix-length = 32
split-include = "10.5.8.0/24"
static-dns = "10.5.8.1"
[[policy-group]]
name = "ike2-policies"
[[policy]]
template = true
group = "ike2-policies"
dst-address = "192.168.77.0/24"
src-address = "0.0.0.0/0"
proposal = "ike2"
[[peer]]
name = "ike2"
exchange-mode = "ike2"
passive = true
profile = "ike2"
[[identity]]
peer = "ike2"
secret = "s"
generate-policy = "port-strict"
mode-config = "ike2-conf"
policy-template-group = "ike2-policies"
`

func TestRoadWarriors(t *testing.T) {
	c, warnings, err := Parse("f", []byte(roadWarriors))
	if err != nil || len(others(warnings)) > 0 {
		t.Fatal(err, warnings)
	}
	own := c.ModeConfigs[0]
	if own.Name != "request-only" || !own.Default || own.Responder || own.SystemDNS {
		t.Errorf("the manual's own entry: %+v", own)
	}
	m := c.Identities[0].Mode
	if m != c.ModeConfigs[1] || !m.Responder || m.SystemDNS || m.Pool != c.Pools[0] ||
		m.Pool.Ranges[0] != (AddrRange{netip.MustParseAddr("192.168.77.2"), netip.MustParseAddr("192.168.77.254")}) {
		t.Errorf("mode-config %+v", m)
	}
	tpl := c.Policies[1]
	if !tpl.Template || tpl.Works() || tpl.SrcAddress.String() != "0.0.0.0/0" || tpl.DstAddress.String() != "192.168.77.0/24" {
		t.Errorf("template %+v", tpl)
	}
	changed, _, err := Parse("f", []byte(strings.Replace(roadWarriors, `"10.5.8.0/24"`, `"10.5.0.0/16"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(c, changed); len(d.PeersChanged) != 1 || len(d.PoliciesAdded) != 0 {
		t.Errorf("another split-include: %+v", d)
	}
	changed, _, _ = Parse("f", []byte(strings.Replace(roadWarriors, `.254"`, `.253"`, 1)))
	if d := Diff(c, changed); !d.Pools || len(d.PeersChanged) != 0 {
		t.Errorf("another range: %+v", d)
	}
}

// The manual's own mode-config can be written over, and a template without
// addresses means any.
func TestOwnModeConfig(t *testing.T) {
	c, _, err := Parse("f", []byte("[[mode-config]]\nname = 'request-only'\ncomment = 'mine'\n[[policy]]\ntemplate = true\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.ModeConfigs) != 1 || c.ModeConfigs[0].Comment != "mine" || !c.ModeConfigs[0].Default {
		t.Errorf("%+v", c.ModeConfigs[0])
	}
	if p := c.Policies[1]; p.SrcAddress.String() != "::/0" || p.DstAddress.String() != "::/0" {
		t.Errorf("template %v => %v", p.SrcAddress, p.DstAddress)
	}
}

func TestModeConfigFaults(t *testing.T) {
	const asks = ": an entry with responder = false asks the other side for it, leave it out or write responder = true"
	for _, c := range []struct{ old, now, fault, warning string }{
		{`address-pool = "ike2-pool"`, `address-pool = "ike-pool"`, `13: mode-config.address-pool: there is no [[pool]] named "ike-pool" (did you mean "ike2-pool"?)`, ""},
		{`address-pool = "ike2-pool"`, `responder = true`, `13: mode-config.responder: true, and there is no address to give: write address or address-pool`, ""},
		{`address-pool = "ike2-pool"`, `address-pool = "ike2-pool"; address = "192.0.2.9"`, `13: mode-config.address-pool: cannot be combined with address, write one of them`, ""},
		{`address-prefix-length = 32`, `address-prefix-length = 64`, `14: mode-config.address-prefix-length: 64 is out of range for IPv4 addresses, accepted: 1..32`, ""},
		{`address-prefix-length = 32`, `system-dns = true`, `16: mode-config.static-dns: cannot be combined with system-dns = true, write one of them`, ""},
		{`address-prefix-length = 32`, `src-address-list = "local"`, `14: mode-config.src-address-list: not supported yet, leave it out`, ""},
		{`address-prefix-length = 32`, `disabled = true`, `34: identity.mode-config: [[mode-config]] "ike2-conf" is disabled, enable it or disable the identity`, ""},
		{`address-pool = "ike2-pool"`, `responder = false`, "14: mode-config.address-prefix-length" + asks + "\nf:15: mode-config.split-include" + asks + "\nf:16: mode-config.static-dns" + asks, ""},
		{`ranges = "192`, `disabled = true; ranges = "192`, `14: mode-config.address-pool: [[pool]] "ike2-pool" is disabled, enable it or disable the mode-config`, ""},
		{`ranges = "192.168.77.2-192.168.77.254"`, ``, `8: pool.ranges: is missing, accepted: ` + rangeAccepts, ""},
		{`ranges = "192`, `next-pool = "ike2-pool"; ranges = "192`, `10: pool.next-pool: leads back to this pool, leave it out in the last one`, ""},
		{`"192.168.77.2-192.168.77.254"`, `["192.168.77.2-192.168.77.254", "192.168.77.1", "192.168.77.9"]`, "", `10: pool.ranges: 192.168.77.9 and 192.168.77.2-192.168.77.254 of [[pool]] "ike2-pool" overlap`},
		{`src-address = "0.0.0.0/0"`, `src-address = "2001:db8::/32"`, `22: policy.dst-address: 192.168.77.0/24 and src-address 2001:db8::/32 are of different address families`, ""},
		{`src-address = "0.0.0.0/0"`, `peer = "ike2"`, `23: policy.peer: a template has none, leave it out: peers come by policy-template-group of their identity, ports by generate-policy`, ""},
		{`src-address = "0.0.0.0/0"`, `action = "discard"`, `23: policy.action: discard, and the policies made from a template encrypt, leave it out`, ""},
		{`src-address = "0.0.0.0/0"`, `ipsec-protocols = ["ah", "esp"]`, `23: policy.ipsec-protocols: is one of the two with IKEv2, which cannot negotiate both together, write ["esp"] or ["ah"], or two templates`, ""},
		{`src-address = "0.0.0.0/0"`, `tunnel = false`, "", `34: identity.mode-config: addresses that are given go by tunnels, and the templates of [[policy-group]] "ike2-policies" say tunnel = false: take it out of one`},
		{`template-group = "ike2-policies"`, `template-group = "none"`, `35: identity.policy-template-group: is none, and generate-policy = "port-strict" needs a group with templates`, ""},
		{`group = "ike2-policies"`, ``, "", `33: identity.generate-policy: the [[policy-group]] "ike2-policies" has no template, so that no policy is made: write a [[policy]] with template = true and that group`},
		{`"192.168.77.2-192.168.77.254"`, `"192.168.77.2-192.168.78.9"`, "", `34: identity.mode-config: [[mode-config]] "ike2-conf" gives 192.168.77.2-192.168.78.9, which the dst-address of no template of [[policy-group]] "ike2-policies" covers, so a client with that address gets no policy: widen one`},
		{`address-pool = "ike2-pool"`, `address = "192.168.66.2"`, "", `34: identity.mode-config: [[mode-config]] "ike2-conf" gives 192.168.66.2, which the dst-address of no template of [[policy-group]] "ike2-policies" covers, so a client with that address gets no policy: widen one`},
		{`mode-config = "ike2-conf"`, `mode-config = "request-only"`, "", `34: identity.mode-config: [[mode-config]] "request-only" asks the other side for an address, and [[peer]] "ike2" never starts an exchange: give it a single address, without passive`},
	} {
		text := strings.Replace(roadWarriors, c.old, strings.ReplaceAll(c.now, "; ", "\n"), 1)
		_, warnings, err := Parse("f", []byte(text))
		warnings = others(warnings)
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		if c.fault != "" && fault != "f:"+c.fault || c.fault == "" && fault != "" {
			t.Errorf("%s\n got  %s\n want f:%s", c.now, fault, c.fault)
		}
		if c.warning != "" && (len(warnings) != 1 || warnings[0].String() != "f:"+c.warning) {
			t.Errorf("%s\n got  %v\n want f:%s", c.now, warnings, c.warning)
		}
	}
}

// A template says which mode the policies have, or leaves it to the peer; and ESP or AH.
func TestModesOfTemplates(t *testing.T) {
	parse := func(lines string) (*Config, error) {
		c, _, err := Parse("f", []byte("[[proposal]]\nname = 'aead'\nenc-algorithms = 'aes-256-gcm'\n[[proposal]]\nname = 'cbc'\nenc-algorithms = 'aes-256-cbc'\nauth-algorithms = 'sha256'\n"+
			"[[policy]]\ntemplate = true\n"+lines))
		return c, err
	}
	must := func(lines string) *Config {
		t.Helper()
		c, err := parse(lines)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	open, tunnel, transport := must("proposal = 'cbc'\n"), must("proposal = 'cbc'\ntunnel = true\n"), must("proposal = 'cbc'\ntunnel = false\n")
	for i, c := range []*Config{open, tunnel, transport} {
		if p := c.Policies[1]; p.AnyMode != (i == 0) || p.Tunnel != (i == 1) {
			t.Errorf("%d: tunnel %v, any %v", i, p.Tunnel, p.AnyMode)
		}
	}
	if p := open.Policies[0]; !p.AnyMode {
		t.Error("the manual's own template leaves it to the peer")
	}
	if d := Diff(open, transport); len(d.PoliciesAdded) != 1 || len(d.PoliciesRemoved) != 1 {
		t.Errorf("another mode: %+v", d)
	}
	must("proposal = 'cbc'\nipsec-protocols = ['ah']\n")
	_, err := parse("proposal = 'aead'\nipsec-protocols = ['ah']\n")
	if want := `f:10: policy.proposal: AH needs auth-algorithms, which [[proposal]] "aead" does not have beside AEADs, add a cipher such as aes-256-cbc to its enc-algorithms`; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// Who asks for an address is a client, and past its tunnel goes nothing unless
// that is written; a site gateway reaches its private links.
func TestLANBypass(t *testing.T) {
	const peer = "[[peer]]\nname = 'p'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n"
	const asks = peer + "[[identity]]\npeer = 'p'\nsecret = 's'\ngenerate-policy = 'port-strict'\nmode-config = 'request-only'\n"
	const serves = "[[mode-config]]\nname = 'm'\naddress = '10.9.0.5'\n[[peer]]\nname = 'p'\npassive = true\nexchange-mode = 'ike2'\n[[identity]]\npeer = 'p'\nsecret = 's'\ngenerate-policy = 'port-strict'\nmode-config = 'm'\n"
	for text, want := range map[string]bool{
		"":                                      true,
		serves:                                  true,
		asks:                                    false,
		asks + "disabled = true\n":              true,
		"[gateway]\nlan-bypass = true\n" + asks: true,
		"[gateway]\nlan-bypass = false\n":       false,
	} {
		if c := mustParse(t, text); c.Gateway.LANBypass != want {
			t.Errorf("%s\nlan-bypass %v, want %v", text, c.Gateway.LANBypass, want)
		}
	}
	if d := Diff(mustParse(t, ""), mustParse(t, asks)); !slices.Contains(d.Gateway, "lan-bypass") || len(d.Restart) != 0 {
		t.Errorf("%+v", d)
	}
	if _, _, err := Parse("f", []byte("[gateway]\nguard = false\nguard-always = true\n")); err == nil || err.Error() != "f:3: gateway.guard-always: is true and guard is false, leave one of them out" {
		t.Error(err)
	}
}
