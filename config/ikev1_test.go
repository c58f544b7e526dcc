package config

import (
	"fmt"
	"strings"
	"testing"
)

// Main mode is the default, with pre-shared keys. What IKEv1 cannot do, or this build cannot do with it, is a fault.
func TestMainMode(t *testing.T) {
	const peer = "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nprofile = 'p'\n"
	const identity = "[[identity]]\npeer = 'a'\nsecret = 'a-long-secret-of-many-letters-23487'\n"
	const profile = "[[profile]]\nname = 'p'\ndh-group = 'modp2048'\nenc-algorithm = 'aes-256'\nhash-algorithm = 'sha256'\n"
	for _, c := range []struct{ text, fault, warning string }{
		{peer + identity + profile, "", ""},
		{peer + identity + profile + "[[policy]]\npeer = 'a'\ntunnel = true\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\nipsec-protocols = ['esp', 'ah']\n[[proposal]]\nname = 'default'\nauth-algorithms = 'sha256'\npfs-group = 'modp2048'\n", "", ""},
		{peer + "exchange-mode = 'main'\n" + identity + profile + "nat-traversal = false\ndpd-maximum-failures = 2\nproposal-check = 'obey'\n", "", ""},
		{peer + "exchange-mode = 'base'\n" + identity + profile, "", `pre-shared-key in base mode: whoever listens gets what the secret can be guessed by`},
		{peer + "exchange-mode = 'aggressive'\n" + identity + profile, "", `pre-shared-key in aggressive mode: whoever calls this gateway or listens gets what the secret can be guessed by, without a further call`},
		{peer + identity + "remote-auth-method = 'digital-signature'\n" + profile, `identity.remote-auth-method: is "digital-signature", and auth-method is "pre-shared-key": with exchange-mode "main" of [[peer]] "a" both ends prove themselves in the same way, leave remote-auth-method out`, ""},
		{peer + identity + "ppk-id = 'x'\nppk-secret = '0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'\n" + profile, `identity.ppk-id: is of IKEv2, and [[peer]] "a" has exchange-mode "main": leave it out`, ""},
		{peer + identity + profile + "proposal-check = 'strict'\nlifebytes = 1000000\n", "", ""},
		{peer + identity + strings.Replace(profile, "'aes-256'", "'aes-256-gcm'", 1), `profile.enc-algorithm: has nothing that IKEv1 can negotiate, which [[peer]] "a" speaks (exchange-mode "main"): add aes-256`, ""},
		{peer + identity + strings.Replace(profile, "'modp2048'", "'x25519'", 1), `profile.dh-group: has nothing that IKEv1 can negotiate, which [[peer]] "a" speaks (exchange-mode "main"): add modp2048`, ""},
		{peer + "childless = 'prefer'\n" + identity + profile + "mobike = true\nresumption = true\n", "", `profile: "p": IKEv1, which [[peer]] "a" speaks, ignores mobike, resumption, childless of [[peer]]`},
	} {
		_, warnings, err := Parse("f", []byte(c.text))
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s\nfault %v, not %s", c.text, err, c.fault)
		}
		if all := fmt.Sprint(warnings); err == nil && (c.warning == "" && len(warnings) > 0 || !strings.Contains(all, c.warning)) {
			t.Errorf("%s\nwarnings %s, not %s", c.text, all, c.warning)
		}
	}
}

// The mode tells peers of one address apart; in main mode their secrets do.
func TestPeersOfOneAddress(t *testing.T) {
	const text = "[[peer]]\nname = 'a'\npassive = true\n[[peer]]\nname = 'b'\npassive = true\n[[peer]]\nname = 'c'\nexchange-mode = 'ike2'\npassive = true\n" +
		"[[identity]]\npeer = 'a'\nsecret = 'one'\n[[identity]]\npeer = 'b'\nsecret = 'two'\n[[identity]]\npeer = 'c'\nsecret = 'three'\n"
	_, warnings, err := Parse("f", []byte(text))
	if err != nil || strings.Contains(fmt.Sprint(warnings), "has the same address") {
		t.Errorf("%v %v", warnings, err)
	}
}
