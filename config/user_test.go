package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/internal/testing/testcert"
)

// Who logs in, and with what, depends on passive; what does not fit is a fault with what to write.
func TestXAuthIdentities(t *testing.T) {
	const profile = "[[profile]]\nname = 'p'\ndh-group = 'modp2048'\nenc-algorithm = 'aes-256'\nhash-algorithm = 'sha256'\n"
	const client = "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nprofile = 'p'\n" + profile
	const server = "[[peer]]\nname = 'a'\npassive = true\nprofile = 'p'\n" + profile
	const identity = "[[identity]]\npeer = 'a'\nsecret = 'a-long-secret-of-many-letters-23487'\nauth-method = 'pre-shared-key-xauth'\n"
	const user = "[[user]]\nname = 'anna'\npassword = '0xnohex'\n"
	const warning = "can pretend to be the gateway and read the passwords of its users: use rsa-signature-hybrid"
	for _, c := range []struct{ text, fault, warning string }{
		{client + identity + "username = 'anna'\npassword = 'p'\n", "", warning},
		{server + identity + user, "", warning},
		{server + identity, "", "there is no [[user]]: write one for each"},
		{server + identity + user + "disabled = true\n", "", "there is no [[user]]: write one for each"},
		{client + identity + "password = 'p'\n", `identity.username: is missing`, ""},
		{client + identity + "username = 'anna'\n", `identity.password: is missing`, ""},
		{client + identity + "username = 'anna'\npassword = 'p'\npassword-file = 'testdata/ca.pem'\n", `identity.password-file: cannot be combined with password`, ""},
		{server + identity + "username = 'anna'\n" + user, `identity.username: is what this host logs in with, and [[peer]] "a" is passive`, ""},
		{server + identity + "password = 'p'\n" + user, `identity.password: is what this host logs in with`, ""},
		{client + strings.Replace(identity, "-xauth", "", 1) + "username = 'anna'\n", `identity.username: is for auth-method "pre-shared-key-xauth" or "rsa-signature-hybrid", and this is "pre-shared-key"`, ""},
		{strings.Replace(client, "\n", "\nexchange-mode = 'ike2'\n", 1) + identity + "username = 'anna'\npassword = 'p'\n", `"pre-shared-key-xauth" is of IKEv1, and [[peer]] "a" has exchange-mode "ike2"`, ""},
		{client + strings.Replace(identity, "secret = ", "# ", 1) + "username = 'anna'\npassword = 'p'\n", `identity.secret: is missing, auth-method pre-shared-key-xauth needs secret`, ""},
		{server + identity + "[[user]]\nname = 'anna'\n", `user.password: is missing, write password or password-file`, ""},
		{server + identity + "[[user]]\nname = 'anna'\npassword = 'p'\npassword-file = 'testdata/ca.pem'\n", `user.password-file: cannot be combined with password`, ""},
		{server + identity + user + user, `user.name: "anna" is already used`, ""},
	} {
		_, warnings, err := Parse("f", []byte(c.text))
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s\nfault %v, not %s", c.text, err, c.fault)
		}
		if all := fmt.Sprint(warnings); err == nil && !strings.Contains(all, c.warning) {
			t.Errorf("%s\nwarnings %s, not %s", c.text, all, c.warning)
		}
	}
}

// In hybrid authentication the end where users log in has a certificate with an RSA key, and the other end checks it.
func TestHybridIdentities(t *testing.T) {
	const profile = "[[profile]]\nname = 'p'\ndh-group = 'modp2048'\nenc-algorithm = 'aes-256'\nhash-algorithm = 'sha256'\n"
	const client = "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nprofile = 'p'\n" + profile
	const server = "[[peer]]\nname = 'a'\npassive = true\nprofile = 'p'\n" + profile
	const ca = "[[certificate]]\nname = 'ca'\nfile = 'testdata/ca.pem'\n"
	const identity = ca + "[[identity]]\npeer = 'a'\nauth-method = 'rsa-signature-hybrid'\n"
	const login = "username = 'anna'\npassword = 'p'\n"
	const user = "[[user]]\nname = 'anna'\npassword = 'p'\n"
	for _, c := range []struct{ text, fault, warning string }{
		{client + identity + login, "", ""},
		{client + strings.Replace(identity, ca, "", 1) + login, "", "no peer can prove itself: there is no [[certificate]] of an authority"},
		{client + identity + login + "secret = 'a-long-secret-of-many-letters-23487'\n", "", "is not used, since neither side proves itself by pre-shared-key"},
		{client + identity, `identity.username: is missing, auth-method "rsa-signature-hybrid" logs in`, ""},
		{client + identity + login + "certificate = 'ca'\n", `identity.certificate: is for the gateway, where users log in, and [[peer]] "a" is not passive`, ""},
		{client + identity + login + "my-id = 'dn'\n", `identity.my-id: dn is the subject of our certificate, and there is none`, ""},
		{client + identity + login + "remote-auth-method = 'pre-shared-key'\n", `identity.remote-auth-method: is "pre-shared-key", and auth-method is "rsa-signature-hybrid"`, ""},
		{strings.Replace(client, "\n", "\nexchange-mode = 'ike2'\n", 1) + identity + login, `"rsa-signature-hybrid" is of IKEv1, and [[peer]] "a" has exchange-mode "ike2"`, ""},
		{server + identity + user, `identity.certificate: is missing, auth-method rsa-signature-hybrid needs a [[certificate]] with a key`, ""},
		{server + rsaPair(t) + identity + "certificate = 'rsa'\n" + user, "", ""},
		{server + rsaPair(t) + identity + "certificate = 'rsa'\n", "", "there is no [[user]]: write one for each"},
		{server + rsaPair(t) + identity + "certificate = 'rsa'\nremote-id = 'fqdn:a.example.net'\n" + user, "", `remote-id: proves nothing with auth-method "rsa-signature-hybrid"`},
		{server + rsaPair(t) + identity + "certificate = 'rsa'\nremote-certificate = 'ca'\n" + user, `identity.remote-certificate: needs auth-method`, ""},
		{server + ecPair(t) + identity + "certificate = 'ec'\n" + user, `identity.certificate: [[certificate]] "ec" has no RSA key`, ""},
	} {
		_, warnings, err := Parse("f", []byte(c.text))
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s\nfault %v, not %s", c.text, err, c.fault)
		}
		if all := fmt.Sprint(warnings); err == nil && (!strings.Contains(all, c.warning) || c.warning == "" && strings.Contains(all, "identity.")) {
			t.Errorf("%s\nwarnings %s, not %s", c.text, all, c.warning)
		}
	}
}

// rsaPair and ecPair are [[certificate]]s with a key of a kind.
func rsaPair(t *testing.T) string { return pairOf(t, "rsa", "rsa-2048") }
func ecPair(t *testing.T) string  { return pairOf(t, "ec", "p256") }

var pairRoot = testcert.Root("root", "p256")

func pairOf(t *testing.T, name, kind string) string {
	t.Helper()
	leaf := pairRoot.Leaf(name, kind)
	path := filepath.Join(t.TempDir(), name+".pem")
	if err := os.WriteFile(path, append(leaf.PEM(), leaf.KeyPEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[[certificate]]\nname = %q\nfile = %q\n", name, path)
}

// A change of users, and of what this host logs in with, is a change.
func TestDiffOfUsers(t *testing.T) {
	const text = "[[user]]\nname = 'anna'\npassword = 'p'\n"
	parse := func(s string) *Config {
		c, _, err := Parse("f", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	was := parse(text)
	if d := Diff(was, parse(text+"comment = 'c'\n")); !d.Empty() {
		t.Errorf("a comment: %+v", d)
	}
	for _, s := range []string{"", text + "disabled = true\n", strings.Replace(text, "'p'", "'q'", 1), text + "[[user]]\nname = 'bert'\npassword = 'p'\n"} {
		if d := Diff(was, parse(s)); !d.Users || d.Empty() {
			t.Errorf("%s: %+v", s, d)
		}
	}
	if s := fmt.Sprintf("%v %+v", was.Users[0], *was.Users[0]); strings.Contains(s, "112") || strings.Contains(s, "p ") && strings.Contains(s, "Password:p") {
		t.Errorf("the password is printed: %s", s)
	}
}
