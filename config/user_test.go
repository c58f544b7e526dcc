package config

import (
	"fmt"
	"strings"
	"testing"
)

// Who logs in, and with what, depends on passive; what does not fit is a fault with what to write.
func TestXAuthIdentities(t *testing.T) {
	const profile = "[[profile]]\nname = 'p'\ndh-group = 'modp2048'\nenc-algorithm = 'aes-256'\nhash-algorithm = 'sha256'\n"
	const client = "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nprofile = 'p'\n" + profile
	const server = "[[peer]]\nname = 'a'\npassive = true\nprofile = 'p'\n" + profile
	const identity = "[[identity]]\npeer = 'a'\nsecret = 'a-long-secret-of-many-letters-23487'\nauth-method = 'pre-shared-key-xauth'\n"
	const user = "[[user]]\nname = 'anna'\npassword = '0xnohex'\n"
	const warning = "can pretend to be the gateway and read the passwords of its users: rsa-signature-hybrid"
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
		{client + strings.Replace(identity, "-xauth", "", 1) + "username = 'anna'\n", `identity.username: is for auth-method "pre-shared-key-xauth", and this is "pre-shared-key"`, ""},
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
