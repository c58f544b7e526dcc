package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

// sound is a configuration in pieces that tests replace.
var sound = map[string]string{
	"profile":  "name = 'p1'\ndh-group = 'ecp256'\n",
	"proposal": "name = 'q1'\npfs-group = 'none'\n",
	"peer":     "name = 'a'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\nprofile = 'p1'\n",
	"identity": "peer = 'a'\nsecret = 's'\n",
	"policy":   "peer = 'a'\nproposal = 'q1'\ntunnel = true\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\n",
}

// built joins the pieces, those given instead of the sound ones, and more.
func built(instead map[string]string, more string) string {
	var b strings.Builder
	for _, name := range []string{"profile", "proposal", "peer", "identity", "policy"} {
		text := sound[name]
		if s, ok := instead[name]; ok {
			text = s
		}
		if text != "" {
			fmt.Fprintf(&b, "[[%s]]\n%s", name, text)
		}
	}
	return b.String() + more
}

// replaced is a sound piece with one line written differently.
func replaced(table, old, now string) map[string]string {
	if !strings.Contains(sound[table], old) {
		panic(old + " is not in " + table)
	}
	return map[string]string{table: strings.Replace(sound[table], old, now, 1)}
}

// anybody is a peer that may have any address.
const anybody = "[[peer]]\nname = 'rw'\nexchange-mode = 'ike2'\npassive = true\nprofile = 'p1'\n"

func TestCrossChecks(t *testing.T) {
	for _, c := range []struct {
		instead map[string]string
		more    string
		faults  string // all of them, without the file's name
		warns   string
	}{
		{nil, "", "", ""},
		{replaced("identity", "secret", "my-id = 'fqdn:gw.example'\nremote-id = 'fqdn:GW.example'\nsecret"), "", `15: identity.remote-id: is my-id too, fqdn:gw.example, and a peer that says it is this gateway itself is refused, give each side an ID of its own`, ""},
		{replaced("identity", "secret", "my-id = 'key-id:gw'\nremote-id = 'key-id:gw'\nsecret"), "", `15: identity.remote-id: is my-id too, key-id:gw, and a peer that says it is this gateway itself is refused, give each side an ID of its own`, ""},
		{replaced("identity", "secret", "my-id = 'key-id:gw'\nremote-id = 'key-id:GW'\nsecret"), "", "", ""},
		{replaced("identity", "secret", "my-id = 'key-id:gw'\nremote-id = 'fqdn:gw'\nsecret"), "", "", ""},
		{replaced("identity", "secret", "disabled = true\nmode-config = 'm'\nsecret"), "[[mode-config]]\nname = 'm'\ndisabled = true\n", `18: policy.peer: [[peer]] "a" has no [[identity]], write one with peer = "a"`, `7: peer: "a" has no [[identity]] and is not used`},
		{replaced("identity", "secret", "mode-config = 'm'\nsecret"), "[[mode-config]]\nname = 'm'\ndisabled = true\n", `14: identity.mode-config: [[mode-config]] "m" is disabled, enable it or disable the identity`, ""},
		{replaced("identity", "secret", "my-id = 'address:192.168.1.1'\nremote-id = 'address:192.168.1.1'\nsecret"), "", "", ""},
		// A remote-id that stands for many: each holder of a secret may claim any of them.
		{replaced("identity", "secret", "remote-id = 'fqdn:*.example.net'\nsecret"), "", "",
			`14: identity.remote-id: fqdn:*.example.net stands for many IDs, and every holder of the secret may say that it has any of them, also that of another, give each peer an [[identity]] with a secret of its own, or use certificates`},
		{replaced("identity", "secret", "remote-id = 'dn:O=Example, CN=*'\nsecret"), "", "",
			`14: identity.remote-id: dn:O=Example, CN=* stands for many IDs, and every holder of the secret may say that it has any of them, also that of another, give each peer an [[identity]] with a secret of its own, or use certificates`},
		{replaced("identity", "secret", "remote-id = 'fqdn:#2a2e6578616d706c65'\nsecret"), "", "", ""},
		{replaced("identity", "secret", "remote-id = 'key-id:*'\nsecret"), "", "", ""},
		{replaced("peer", "'p1'", "'p2'"), "", `11: peer.profile: there is no [[profile]] named "p2"`, ""},
		{replaced("peer", "profile", "local-address = '2001:db8::1'\nprofile"), "", `11: peer.local-address: 2001:db8::1 and the peer's address 192.0.2.1/32 are of different address families`, ""},
		{replaced("peer", "name", "redirect = '192.0.2.9'\nname"), "", `8: peer.redirect: is for peers that connect to this gateway, and this gateway connects to "a" itself, write passive = true`, ""},
		{replaced("peer", "name", "passive = true\nredirect = 'gw2.example.net'\nredirect-above = 5\nname"), "", "", ""},
		{replaced("peer", "name", "passive = true\nredirect-above = 5\nredirect = 7\nname"), "", "10: peer.redirect: is a number, accepted: the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net", ""},
		{replaced("policy", "10.1.0.0/16'\ndst-address = '10.2.0.0/16'", "nowhere'\ndst-address = '2001:db8::/32'"), "", "19: policy.src-address: \"nowhere\" is not a prefix, accepted: an address or a prefix such as \"192.0.2.1\" or \"10.1.0.0/16\"", ""},
		{replaced("policy", "10.2.0.0/16", "nowhere"), "", "20: policy.dst-address: \"nowhere\" is not a prefix, accepted: an address or a prefix such as \"192.0.2.1\" or \"10.1.0.0/16\"", ""},
		{replaced("peer", "name", "passive = true\nredirect-above = 5\nname"), "", "", `9: peer.redirect-above: says when clients are redirected, and redirect is missing, write redirect`},
		{replaced("peer", "name", "passive = true\nlocal-address = '192.0.2.9'\nredirect = '192.0.2.9'\nname"), "", `10: peer.redirect: 192.0.2.9 is this gateway's local-address, name another gateway`, ""},
		{replaced("peer", "name", "passive = true\nredirect = '0.0.0.0'\nname"), "", `9: peer.redirect: "0.0.0.0" is none, accepted: the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net`, ""},
		{replaced("identity", "peer", "redirect = '192.0.2.9'\npeer"), "", "", `13: identity.redirect: is for peers that connect to this gateway, and this gateway connects to "a" itself, write passive = true there`},
		{replaced("peer", "name", "disabled = true\nname"), "", "", `17: policy.peer: [[peer]] "a" is disabled, so that what the policy covers is dropped (out-policy-dead), disable the policy as well if it may go in clear`},
		{replaced("profile", "name", "disabled = true\nname"), "", `12: peer.profile: [[profile]] "p1" is disabled, enable it or disable the peer`, ""},
		{replaced("proposal", "name", "disabled = true\nname"), "", `18: policy.proposal: [[proposal]] "q1" is disabled, enable it or disable the policy`, ""},
		// The manual's own template stands in no file: the fault is where it comes from.
		{nil, "[[proposal]]\nname = 'default'\ndisabled = true\n", "", ""},
		{replaced("identity", "peer", "generate-policy = 'port-strict'\npeer"), "[[proposal]]\nname = 'default'\ndisabled = true\n",
			`24: proposal.disabled: the policies of the [[identity]] at f:12 are made with it, by the manual's own template of [[policy-group]] "default": enable it, or ` +
				`write a [[policy-group]] and a [[policy]] with template = true for it, and the name of that group in policy-template-group of the identity`, ""},
		// Clients from anywhere are told by what they say, so that one secret can be for any.
		{nil, anybody + "[[identity]]\npeer = 'rw'\nsecret = 't'\n[[identity]]\npeer = 'rw'\nsecret = 'u'\n",
			`29: identity.remote-id: is auto, as that of the [[identity]] at f:26: [[peer]] "rw" may be anybody, and the ID that a client says tells which secret it has; ` +
				`write remote-id in every [[identity]] of the peer but one`, ""},
		{nil, anybody + "[[identity]]\npeer = 'rw'\nsecret = 't'\n[[identity]]\npeer = 'rw'\nsecret = 'u'\nremote-id = 'ignore'\n",
			`32: identity.remote-id: is ignore, as that of the [[identity]] at f:26: [[peer]] "rw" may be anybody, and the ID that a client says tells which secret it has; ` +
				`write remote-id in every [[identity]] of the peer but one`, ""},
		{nil, anybody + "[[identity]]\npeer = 'rw'\nsecret = 't'\n[[identity]]\npeer = 'rw'\nsecret = 'u'\nremote-id = 'fqdn:a'\n", "", ""},
		{nil, anybody + "[[identity]]\npeer = 'rw'\nsecret = 't'\n[[identity]]\npeer = 'rw'\nsecret = 'u'\ndisabled = true\n", "", ""},
		{replaced("proposal", "name", "replay-window = 0\nname"), "", "",
			`5: proposal.replay-window: 0 lets everybody who saw a packet send it again any number of times, write it only for a peer that sends no sequence numbers or the same ones twice`},
		{replaced("profile", "name", "prf-algorithm = ['auto', 'sha1']\nname"), "", `2: profile.prf-algorithm: auto cannot be combined with other values, write auto or names`, ""},
		{replaced("proposal", "'none'", "['none', 'x25519']"), "", "", ""},
		// Nobody can say which peer the identity is for: that it has none is not said.
		{replaced("identity", "peer = 'a'\n", ""), "", "12: identity.peer: is missing, name a [[peer]]", ""},
		{replaced("identity", "'a'", "'aa'"), "", `13: identity.peer: there is no [[peer]] named "aa"`, ""},
		{replaced("identity", "'a'", "5"), "", `13: identity.peer: is a number, accepted: a name in quotes`, ""},
		{replaced("identity", "peer = 'a'", "disabled = true\npeer = 'a'"), "", `17: policy.peer: [[peer]] "a" has no [[identity]], write one with peer = "a"`, `7: peer: "a" has no [[identity]] and is not used`},
		{replaced("peer", "name", "local-address = '192.0.2.9'\nname"), "[gateway]\nlisten = ['192.0.2.8', '2001:db8::8']\n", `8: peer.local-address: 192.0.2.9 is not in listen of [gateway], from which all datagrams are sent, add it there or leave one of the two out`, ""},
		{replaced("peer", "name", "local-address = '192.0.2.9'\nname"), "[gateway]\nlisten = ['192.0.2.8', '192.0.2.9']\n", "", ""},
		{replaced("peer", "name", "local-address = '192.0.2.9'\nname"), "[gateway]\nlisten = '0.0.0.0'\n", "", ""},
		{replaced("identity", "secret = 's'\n", ""), "", `12: identity.secret: is missing, auth-method pre-shared-key needs secret or secret-file`, ""},
		{replaced("identity", "peer", "policy-template-group = 'g'\npeer"), "", `13: identity.policy-template-group: there is no [[policy-group]] named "g"`, ""},
		// Whom of several identities a policy is for.
		{replaced("policy", "peer", "identity = 'x'\npeer"), "", `16: policy.identity: there is no [[identity]] named "x"`, ""},
		{replaced("policy", "peer", "identity = 'x'\npeer"), "[[identity]]\nname = 'x'\npeer = 'a'\nsecret = 't'\nremote-id = 'fqdn:x'\n", "", ""},
		{replaced("policy", "peer = 'a'", "identity = 'x'"), "[[identity]]\nname = 'x'\npeer = 'a'\nsecret = 't'\n",
			"15: policy.peer: is missing, a policy that encrypts needs a [[peer]], or sa-src-address and sa-dst-address where SAs are added by hand\n" +
				`16: policy.identity: is an identity of [[peer]] "a", write peer = "a" as well`, ""},
		{replaced("policy", "peer", "identity = 'x'\npeer"), "[[peer]]\nname = 'b'\nexchange-mode = 'ike2'\npassive = true\n[[identity]]\nname = 'x'\npeer = 'b'\nsecret = 't'\n",
			`16: policy.identity: [[identity]] "x" is of [[peer]] "b", and the policy is of [[peer]] "a", name one of that`, ""},
		{replaced("policy", "peer", "identity = 'x'\npeer"), "[[identity]]\nname = 'x'\npeer = 'a'\nsecret = 't'\ndisabled = true\n",
			`16: policy.identity: [[identity]] "x" is disabled, enable it or disable the policy`, ""},
		{replaced("policy", "peer", "disabled = true\nidentity = 'x'\npeer"), "[[identity]]\nname = 'x'\npeer = 'a'\nsecret = 't'\ndisabled = true\n", "", ""},
		{nil, "[[policy]]\ntemplate = true\nidentity = 'x'\n", `23: policy.identity: a template has none, leave it out: peers come by policy-template-group of their identity, ports by generate-policy`, ""},
		{replaced("identity", "peer", "name = 'x'\npeer"), "[[identity]]\nname = 'x'\npeer = 'a'\nsecret = 't'\n", `23: identity.name: "x" is already used at f:13, choose another name`,
			`16: policy.identity: is missing, and [[peer]] "a" has 2 identities: whoever proves to be any of them gets the traffic of this policy; write a name into the [[identity]] that it is meant for, and identity with that name here`},
		{nil, "[[identity]]\npeer = 'a'\nsecret = 't'\n[[policy]]\npeer = 'a'\ntunnel = true\nsrc-address = '10.1.0.0/16'\ndst-address = '10.3.0.0/16'\n[[policy]]\naction = 'discard'\nsrc-address = '10.1.0.0/16'\ndst-address = '10.4.0.0/16'\n", "",
			`15: policy.identity: is missing, and [[peer]] "a" has 2 identities: whoever proves to be any of them gets the traffic of this policy (and of 1 more of the peer); write a name into the [[identity]] that it is meant for, and identity with that name here`},
		{replaced("policy", "peer = 'a'\n", ""), "", `15: policy.peer: is missing, a policy that encrypts needs a [[peer]], or sa-src-address and sa-dst-address where SAs are added by hand`, ""},
		{replaced("policy", "'q1'", "'q2'"), "", `17: policy.proposal: there is no [[proposal]] named "q2"`, ""},
		{replaced("policy", "tunnel = true\n", ""), "", `15: policy.tunnel: false is transport mode, which protects two hosts themselves, write tunnel = true, or single addresses in src-address and dst-address`, ""},
		{replaced("policy", "tunnel = true\n", "tunnel = true\nipsec-protocols = ['ah', 'esp']\n"), "", `19: policy.ipsec-protocols: is one of the two with IKEv2, which cannot negotiate both together, write ["esp"] or ["ah"]`, ""},
		{replaced("policy", "peer = 'a'\n", "sa-src-address = '192.0.2.9'\nsa-dst-address = '192.0.2.2'\nipsec-protocols = ['ah', 'esp']\n"), "", "", ""},
		{replaced("policy", "peer = 'a'\n", "sa-src-address = '192.0.2.9'\nsa-dst-address = '192.0.2.1'\n"), "", "",
			`17: policy.sa-dst-address: is the address of [[peer]] "a", and the policy gets SAs only by hand (culvert sa add), write peer = "a" instead if that is not meant`},
		{replaced("policy", "peer = 'a'\n", "sa-src-address = '192.0.2.9'\n"), "", `15: policy.sa-dst-address: is missing, sa-src-address alone is not enough`, ""},
		{replaced("policy", "peer = 'a'\n", "sa-dst-address = '192.0.2.9'\n"), "", `15: policy.sa-src-address: is missing, sa-dst-address alone is not enough`, ""},
		{replaced("policy", "peer = 'a'\n", "peer = 'a'\nsa-dst-address = '192.0.2.9'\n"), "", `17: policy.sa-dst-address: is for policies whose SAs are added by hand, and this one has a peer, whose addresses count: leave it out`, ""},
		{replaced("policy", "peer = 'a'\n", "sa-src-address = '192.0.2.9'\nsa-dst-address = '2001:db8::1'\n"), "", `17: policy.sa-dst-address: 2001:db8::1 and sa-src-address 192.0.2.9 are of different address families`, ""},
		{nil, "[[policy]]\nsrc-address = '192.0.2.9'\ndst-address = '192.0.2.1'\nsa-src-address = '192.0.2.9'\nsa-dst-address = '192.0.2.2'\n",
			`25: policy.sa-dst-address: is 192.0.2.2, and transport mode (tunnel = false) protects the ends themselves, which the policy says are 192.0.2.1: write that`, ""},
		{replaced("policy", "tunnel = true\n", "tunnel = true\nipsec-protocols = ['ah']\n"), "[gateway]\nencapsulation = 'udp'\n", `19: policy.ipsec-protocols: AH cannot go by UDP, and encapsulation in [gateway] is "udp", write ["esp"]`, ""},
		{replaced("policy", "tunnel = true\n", "tunnel = false\n"), "", `18: policy.tunnel: false is transport mode, which protects two hosts themselves, write tunnel = true, or single addresses in src-address and dst-address`, ""},
		{replaced("policy", "tunnel = true\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\n", ""), "", `15: policy.src-address: is missing, write it, or local-address in [[peer]] "a", which counts in transport mode (tunnel = false)`, ""},
		{replaced("policy", "src-address = '10.1.0.0/16'\n", ""), "", `15: policy.src-address: is missing, write a prefix, "0.0.0.0/0" or "::/0" for any`, ""},
		{replaced("policy", "10.2.0.0/16", "2001:db8::/32"), "", `20: policy.dst-address: 2001:db8::/32 and src-address 10.1.0.0/16 are of different address families`, ""},
		{replaced("policy", "10.2.0.0/16", "10.2.0.1/16"), "", "", `20: policy.dst-address: 10.2.0.1/16 has bits set after its length and is read as 10.2.0.0/16, write that`},
		{replaced("policy", "peer", "dst-port = 80\npeer"), "", `16: policy.dst-port: protocol all has no ports, write protocol = "tcp", "udp", "sctp", "dccp" or "udp-lite"`, ""},
		{replaced("policy", "peer", "protocol = 'gre'\nsrc-port = 80\npeer"), "", `17: policy.src-port: protocol gre has no ports, write protocol = "tcp", "udp", "sctp", "dccp" or "udp-lite"`, ""},
		{replaced("policy", "peer", "protocol = 'tcp'\nsrc-port = 80\npeer"), "", "", ""},
		{replaced("policy", "peer", "group = 'g'\npeer"), "[[policy-group]]\nname = 'g'\n", "", ""},
		{replaced("policy", "peer", "group = 'g'\npeer"), "", `16: policy.group: there is no [[policy-group]] named "g"`, ""},
		{replaced("proposal", "pfs-group = 'none'\n", ""), "", "", ""},
		{replaced("policy", "proposal = 'q1'\n", ""), "", "", ""},
		// No integrity of its own.
		{replaced("proposal", "name", "auth-algorithms = 'null'\nenc-algorithms = 'aes-128-gcm'\nname"), "", "", ""},
		{replaced("proposal", "name", "auth-algorithms = ['null', 'sha1']\nenc-algorithms = ['aes-128-gcm', 'aes-128-cbc']\nname"), "", "", ""},
		{replaced("proposal", "name", "auth-algorithms = 'null'\nname"), "", `5: proposal.auth-algorithms: null leaves aes-256-cbc, aes-192-cbc, aes-128-cbc without integrity, add an algorithm such as sha256 or let enc-algorithms have AEADs alone, such as aes-256-gcm`, ""},
		{replaced("proposal", "name", "auth-algorithms = 'null'\nenc-algorithms = ['aes-128-gmac', 'aes-128-ctr']\nname"), "", `5: proposal.auth-algorithms: null leaves aes-128-ctr without integrity, add an algorithm such as sha256 or let enc-algorithms have AEADs alone, such as aes-256-gcm`, ""},
		{replaced("proposal", "name", "auth-algorithms = 'sha256-96'\nname"), "", "", ""},
		{replaced("proposal", "name", "auth-algorithms = ['sha256-96', 'sha256']\nname"), "", `5: proposal.auth-algorithms: sha256 and sha256-96 have one number in IKE, so that neither end could know which one is meant: write one of them`, ""},
		{replaced("proposal", "name", "auth-algorithms = ['sha256', 'null']\nenc-algorithms = 'aes-128-ctr'\nname"), "", `5: proposal.auth-algorithms: null is for AEADs such as aes-256-gcm, and enc-algorithms has none, remove null`, ""},
		{replaced("policy", "proposal = 'q1'\n", ""), "[[proposal]]\nname = 'default'\npfs-group = 'ecp256'\n", "", ""},
		{nil, "[[proposal]]\nname = 'not used'\n", "", ""},
		{nil, "[[policy]]\naction = 'discard'\nsrc-address = '::/0'\ndst-address = '::/0'\n", "", ""},
		{nil, "[[policy]]\ndisabled = true\n", "", ""},
		// Names and selectors that are there twice.
		{nil, "[[peer]]\nname = 'a'\nexchange-mode = 'ike2'\naddress = '192.0.2.2'\n[[profile]]\nname = 'p1'\n",
			"22: peer.name: \"a\" is already used at f:8, choose another name\n26: profile.name: \"p1\" is already used at f:2, choose another name",
			`21: peer: "a" has no [[identity]] and is not used`},
		{nil, "[[profile]]\nname = 'default'\n[[profile]]\nname = 'default'\n", `24: profile.name: "default" is already used at f:22, choose another name`, ""},
		{nil, "[[policy-group]]\ncomment = 'no name'\n", `21: policy-group.name: is missing, every [[policy-group]] needs a name`, ""},
		{nil, "[[policy]]\naction = 'discard'\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\n", "",
			`21: policy: invalid: the policy at f:15 has the same addresses, ports and protocol and comes first`},
		{nil, "[[peer]]\nname = 'b'\nexchange-mode = 'ike2'\naddress = '192.0.2.1/32'\n[[identity]]\npeer = 'b'\nsecret = 's'\n", "",
			`24: peer.address: [[peer]] "a" has the same address 192.0.2.1/32 and is chosen when the other side starts`},
		{replaced("peer", "192.0.2.1", "192.0.2.0/24"), "", "", `16: policy.peer: [[peer]] "a" has the address 192.0.2.0/24, so that only the other side can start, write passive = true there if that is meant`},
		{replaced("peer", "192.0.2.1'", "192.0.2.0/24'\npassive = true"), "", "", ""},
		{replaced("profile", "name", "proposal-check = 'obey'\nnat-traversal = false\nlifebytes = 0\nname"), "", "", `1: profile: "p1": IKEv2 ignores proposal-check, lifebytes, nat-traversal`},
		// Tables.
		{nil, "[gateway]\nport = 4500\n", `22: gateway.port: port and natt-port are both 4500, they must differ`, ""},
		{nil, "[[gateway]]\nport = 4500\n", `21: gateway: exists once, write [gateway]`, ""},
		{map[string]string{"policy": ""}, "[policy]\ntunnel = true\n", `15: policy: is a single table, write [[policy]]`, ""},
		{nil, "[policys]\n[[policy_group]]\n", "21: policys: unknown (did you mean \"policy\"?), accepted: " + tablesAble() + "\n" +
			"22: policy_group: unknown (did you mean \"policy-group\"?), accepted: " + tablesAble(), ""},
		{nil, "[[proposal]]\nname = 'x'\nenc-algorithms = 'aes-128-gcm, aes-256-gcm'\n", `23: proposal.enc-algorithms: "aes-128-gcm, aes-256-gcm" is several in one string, write ["aes-128-gcm", "aes-256-gcm"] if the key takes a list, accepted: ` + espAble, ""},
		{nil, "[gateway]\nguard = yes\n", `22: is not TOML: a boolean is true or false, without quotes`, ""},
		{nil, "[[policy]\n", `21: is not TOML: expected end of table array name delimiter ']', but got '\n' instead`, ""},
	} {
		text := built(c.instead, c.more)
		_, warnings, err := Parse("f", []byte(text))
		warnings = others(warnings) // see TestWeakInForce, TestShortSecrets
		faults := ""
		if err != nil {
			faults = strings.ReplaceAll("\n"+err.Error(), "\nf:", "\n")[1:]
		}
		warns := make([]string, len(warnings))
		for i, w := range warnings {
			warns[i] = strings.TrimPrefix(w.String(), "f:")
		}
		if faults != c.faults {
			t.Errorf("%s\nfaults\n%s\nwant\n%s", text, faults, c.faults)
		}
		if got := strings.Join(warns, "\n"); got != c.warns {
			t.Errorf("%s\nwarnings\n%s\nwant\n%s", text, got, c.warns)
		}
	}
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, _, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOwnEntries(t *testing.T) {
	c := mustParse(t, "")
	if len(c.Profiles) != 1 || len(c.Proposals) != 1 || len(c.Groups) != 1 || len(c.Policies) != 1 {
		t.Fatalf("own entries: %+v", c)
	}
	p, q, tpl := c.Profiles[0], c.Proposals[0], c.Policies[0]
	if !p.Default || p.Name != "default" || !slices.Equal(p.DHGroup, []string{"modp1024", "modp2048"}) ||
		!slices.Equal(p.Groups, []*suite.Group{suite.GroupByName("modp1024"), suite.GroupByName("modp2048")}) {
		t.Errorf("profile: %+v", p)
	}
	if !slices.Equal(q.PFSGroup, []string{"modp1024"}) || !q.AnyPFS || len(q.Encrs) != 3 || q.ESN != ESNBoth || q.ReplayWindow != 128 {
		t.Errorf("proposal: %+v", q)
	}
	if !tpl.Template || !tpl.Default || tpl.Works() || tpl.SrcAddress.String() != "::/0" || tpl.Group != "default" || tpl.Proposal != q {
		t.Errorf("template: %+v", tpl)
	}
	g := c.Gateway
	if g.Tun != "culvert0" || g.Port != 500 || g.NATTPort != 4500 || !g.Guard || g.StateDir != "/var/lib/culvert" || g.LogLevel != slog.LevelInfo {
		t.Errorf("gateway: %+v", g)
	}

	c = mustParse(t, "[[profile]]\nname = 'x'\n[[profile]]\nname = 'default'\nlifetime = '1h'\n")
	if len(c.Profiles) != 2 || !c.Profiles[0].Default || c.Profiles[0].Lifetime.String() != "1h" || c.Profiles[0].Line != 3 || c.Profiles[1].Default {
		t.Errorf("a written default: %+v", c.Profiles[0])
	}
}

func TestAlgorithms(t *testing.T) {
	c := mustParse(t, `[[profile]]
name = "aead"
enc-algorithm = "aes-256-gcm"
hash-algorithm = ["sha512", "sha256"]
[[profile]]
name = "mixed"
enc-algorithm = ["aes-256-gcm", "aes-128"]
prf-algorithm = "sha384"
[[proposal]]
name = "aead"
enc-algorithms = "aes-128-gcm"
auth-algorithms = "sha512"
pfs-group = "x25519"
esn = "no"
`)
	p, q := c.Profiles[1], c.Profiles[2]
	if len(p.Integs) != 0 || len(p.PRFs) != 2 || p.PRFs[0].Name != "sha512" || p.PRFs[1].Name != "sha256" {
		t.Errorf("AEAD alone: integs %v, prfs %v", p.Integs, p.PRFs)
	}
	if len(q.Integs) != 1 || q.Integs[0].Name != "sha1" || len(q.PRFs) != 1 || q.PRFs[0].Name != "sha384" || q.Encrs[1].Name != "aes-128-cbc" {
		t.Errorf("mixed: integs %v, prfs %v", q.Integs, q.PRFs)
	}
	r := c.Proposals[1]
	if len(r.Integs) != 0 || len(r.PFS) != 1 || r.PFS[0].Group != suite.GroupByName("x25519") || !slices.Equal(r.ESN.Accepts(), []bool{false}) {
		t.Errorf("proposal: %+v", r)
	}
}

func TestFaultsInLineOrder(t *testing.T) {
	_, _, err := Parse("f", []byte(`[gateway]
mtu = 1
[[policy]]
protocol = "nothing"
peer = "none"
tunnel = 1
[[identity]]
secret = 7
peer = "b"
[mode-config]
[[peer]]
address = [
  "x",
]
[settings]
interim-update = "1m"
`))
	faults, ok := err.(Faults)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	var lines []int
	for _, f := range faults {
		lines = append(lines, f.Line)
	}
	if !slices.IsSorted(lines) {
		t.Errorf("not in the order of lines: %v", err)
	}
	for _, line := range []int{2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 16} {
		if !slices.Contains(lines, line) {
			t.Errorf("no fault for line %d in\n%v", line, err)
		}
	}
}

const topSecret = "correct-horse-battery"

func TestSecretsAreNotPrinted(t *testing.T) {
	c := mustParse(t, built(replaced("identity", "'s'", "'"+topSecret+"'"), ""))
	id := c.Identities[0]
	if string(id.Secret) != topSecret {
		t.Fatal("the secret was not read")
	}
	js, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c, "identity", *id)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", *c, "identity", id)
	hex := id.Secret.Reveal()
	for _, s := range []string{string(js), log.String(), fmt.Sprint(c, *id), fmt.Sprintf("%+v %+v %#v %#v %x %q", *c, *id, *c, *id, id.Secret, id.Secret)} {
		if strings.Contains(s, topSecret) || strings.Contains(strings.ToLower(s), hex) || strings.Contains(s, fmt.Sprint([]byte(topSecret))) {
			t.Errorf("the secret is in %s", s)
		}
	}
}

func TestSecretsAreNotInFaults(t *testing.T) {
	for _, line := range []string{
		"secret = " + topSecret, "secret = \"" + topSecret, "secret = '" + topSecret + "' x", "secret = \"\"\"\n" + topSecret + "\n", "secret = [\n" + topSecret + "\n]",
		"secret = ['" + topSecret + "']", "secret = '0x" + topSecret + "'", "secret = {a = '" + topSecret + "'}", "password = '" + topSecret + "'",
		"secret = 'x'\nsecret = '" + topSecret + "'", "secret-file = [\"" + topSecret + "\", 1]", "Secret = '" + topSecret + "'", "secret = \"\\q" + topSecret + "\"",
	} {
		_, _, err := Parse("f", []byte("[[identity]]\n"+line+"\n"))
		if err == nil || strings.Contains(err.Error(), topSecret) || strings.Contains(err.Error(), topSecret[:7]) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "keys/text", "psk\r\n", 0o600)
	write(t, dir, "keys/hex", "0x0102\n", 0o600)
	write(t, dir, "keys/open", "psk", 0o644)
	write(t, dir, "keys/empty", "\n", 0o600)
	load := func(file string) (*Config, []Warning, error) {
		return Load(write(t, dir, "culvert.toml", built(replaced("identity", "secret = 's'", "secret-file = '"+file+"'"), ""), 0o644))
	}
	for file, want := range map[string]string{"keys/text": "psk", "keys/hex": "\x01\x02", "keys/open": "psk"} {
		c, warnings, err := load(file)
		warnings = others(warnings)
		if err != nil || string(c.Identities[0].Secret) != want {
			t.Errorf("%s: %v", file, err)
		}
		if open := file == "keys/open" && runtime.GOOS != "windows"; open != (len(warnings) == 1) {
			t.Errorf("%s: warnings %v", file, warnings)
		}
	}
	for _, file := range []string{"keys/none", "keys", "keys/empty"} {
		_, _, err := load(file)
		if f, ok := err.(Faults); !ok || len(f) != 1 || f[0].Key != "identity.secret-file" || f[0].Line != 14 {
			t.Errorf("%s: %v", file, err)
		}
	}
	_, _, err := Load(write(t, dir, "culvert.toml", built(replaced("identity", "secret", "secret-file = 'keys/hex'\nsecret"), ""), 0o644))
	if f, ok := err.(Faults); !ok || len(f) != 1 || f[0].Message != "cannot be combined with secret, write one of them" {
		t.Errorf("both: %v", err)
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	main := write(t, dir, "culvert.toml", "include = ['conf.d/*.toml', 'last.toml']\n[gateway]\nport = 501\n[[peer]]\nname = 'main'\nexchange-mode = 'ike2'\n", 0o644)
	peer := func(name string) string { return "[[peer]]\nname = '" + name + "'\nexchange-mode = 'ike2'\n" }
	b := write(t, dir, "conf.d/b.toml", peer("b"), 0o644)
	a := write(t, dir, "conf.d/a.toml", peer("a")+"[gateway]\nmtu = 1400\n", 0o644)
	last := write(t, dir, "last.toml", peer("last"), 0o644)
	c, _, err := Load(main)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range c.Peers {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "last", "main"}) || c.Gateway.MTU != 1400 || c.Gateway.Port != 501 {
		t.Errorf("peers %v, gateway %+v", names, c.Gateway)
	}
	if !slices.Equal(c.Files, []string{main, a, b, last}) {
		t.Errorf("files %v", c.Files)
	}

	write(t, dir, "conf.d/a.toml", peer("main")+"[gateway]\nport = 502\n", 0o644)
	write(t, dir, "conf.d/b.toml", "x = [\n", 0o644)
	write(t, dir, "last.toml", "include = ['culvert.toml', 'gone.toml', '[']\n", 0o644)
	_, _, err = Load(main)
	want := []string{
		main + ":3: gateway.port: is already at " + a + ":5, write it once",
		main + `:5: peer.name: "main" is already used at ` + a + ":2, choose another name",
		b + ":",
		last + ":1: include: " + main + " is read twice, include it once",
		last + `:1: include: there is no file "` + filepath.Join(dir, "gone.toml") + `"`,
		last + `:1: include: "[" is not a pattern, accepted: a path with *, ? and [a-z]`,
	}
	got := strings.Split(fmt.Sprint(err), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %s\nwant %s", got[i], want[i])
		}
	}
	if _, _, err := Load(filepath.Join(dir, "none.toml")); err == nil || !strings.Contains(err.Error(), "none.toml") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Tens of thousands of entries must not need quadratic time.
func TestLarge(t *testing.T) {
	var b strings.Builder
	b.WriteString(built(nil, ""))
	for i := range 20000 {
		fmt.Fprintf(&b, "[[peer]]\nname = 'p%d'\naddress = '10.%d.%d.%d'\nexchange-mode = 'ike2'\n", i, i>>16, i>>8&255, i&255)
		fmt.Fprintf(&b, "[[identity]]\npeer = 'p%d'\nsecret = 'x'\n", i)
		fmt.Fprintf(&b, "[[policy]]\npeer = 'p%d'\nproposal = 'q1'\ntunnel = true\nsrc-address = '10.0.0.0/8'\ndst-address = '11.%d.%d.%d'\n", i, i>>16, i>>8&255, i&255)
	}
	c := mustParse(t, b.String())
	if len(c.Policies) != 20002 || c.Policies[20001].Peer.Name != "p19999" {
		t.Errorf("%d policies", len(c.Policies))
	}
	if d := Diff(c, c); !d.Empty() || len(d.Kept) != 20002 {
		t.Error("a configuration differs from itself")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(built(nil, "")))
	for _, k := range keyCases {
		f.Add([]byte(k.one(k.wrong)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("nclude")) || bytes.Contains(data, []byte("-file")) || bytes.IndexByte(data, '\\') >= 0 {
			return // nothing of this machine's files
		}
		c, _, err := Parse("f", data)
		if (c == nil) != (err != nil) {
			t.Fatalf("configuration %v with error %v", c, err)
		}
		if err != nil {
			for _, fault := range err.(Faults) {
				if fault.File != "f" || fault.Message == "" || fault.Line > bytes.Count(data, []byte("\n"))+1 {
					t.Errorf("%+v", fault)
				}
			}
			return
		}
		if d := Diff(c, c); !d.Empty() {
			t.Error("a configuration differs from itself")
		}
		for _, p := range c.Policies {
			if p.Works() && p.Action == Encrypt && (p.Peer == nil || p.Proposal == nil || p.Peer.Profile == nil || len(p.Peer.Identities) == 0) {
				t.Errorf("an encrypting policy without what it needs: %+v", p)
			}
		}
	})
}

// In transport mode the hosts' addresses need not be written twice.
func TestHostsOfTransportMode(t *testing.T) {
	const peers = `[[peer]]
name = "a"
address = "192.0.2.1"
local-address = "192.0.2.9"
exchange-mode = "ike2"
[[identity]]
peer = "a"
secret = "s"
[[policy]]
peer = "a"
`
	for text, want := range map[string]string{
		peers:                                 "192.0.2.9/32 192.0.2.1/32",
		peers + "dst-address = '192.0.2.1'\n": "192.0.2.9/32 192.0.2.1/32",
		peers + "protocol = 'udp'\ndst-port = 1701\n":                                  "192.0.2.9/32 192.0.2.1/32",
		"[[policy]]\nsa-src-address = '2001:db8::1'\nsa-dst-address = '2001:db8::2'\n": "2001:db8::1/128 2001:db8::2/128",
	} {
		c, warnings, err := Parse("test.toml", []byte(text))
		if warnings = others(warnings); err != nil || len(warnings) != 0 {
			t.Errorf("%s: %v, %v", text, warnings, err)
			continue
		}
		p := c.Policies[len(c.Policies)-1]
		if got := p.SrcAddress.String() + " " + p.DstAddress.String(); got != want || p.Tunnel || !p.Works() {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if _, _, err := Parse("test.toml", []byte(strings.Replace(peers, "192.0.2.1", "192.0.2.0/24", 1))); err == nil ||
		!strings.Contains(err.Error(), `policy.dst-address: is missing, write it, or one address in [[peer]] "a"`) {
		t.Error(err)
	}
}
