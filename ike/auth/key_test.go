package auth

import (
	"testing"

	"culvert/crypto/pki"
	"culvert/ike/core"
)

// Key is the same where Same is true, and tells others apart.
func TestKey(t *testing.T) {
	dn := func(s string) string {
		der, err := pki.ParseDN(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	ids := []core.ID{
		{Type: core.IDFQDN, Data: "gate.example"}, {Type: core.IDFQDN, Data: "GATE.Example"}, {Type: core.IDFQDN, Data: "gate.example.org"},
		{Type: core.IDFQDN, Data: "\u212aelvin"}, {Type: core.IDFQDN, Data: "kelvin"}, {Type: core.IDFQDN, Data: "ma\u017f"}, {Type: core.IDFQDN, Data: "MAS"},
		{Type: core.IDUser, Data: "gate.example"}, {Type: core.IDUser, Data: "a@b"}, {Type: core.IDUser, Data: "A@b"},
		{Type: core.IDIPv4, Data: "\x0a\x00\x00\x01"}, {Type: core.IDIPv4, Data: "\x0a\x00\x00\x02"},
		{Type: core.IDDN, Data: dn("CN=gate, O=Example")}, {Type: core.IDDN, Data: dn("cn=GATE,o=example")}, {Type: core.IDDN, Data: dn("CN=gate")},
		{Type: core.IDDN, Data: "no name"}, {Type: core.IDDN, Data: pki.DNKey([]byte(dn("CN=gate")))}, {},
	}
	same := 0
	for _, a := range ids {
		for _, b := range ids {
			if Same(a, b) != (Key(a) == Key(b)) && !(a.Type == core.IDDN && b.Type == core.IDDN) {
				t.Errorf("%v and %v: same %v, keys %q and %q", a, b, Same(a, b), Key(a), Key(b))
			}
			if Same(a, b) && Key(a) != Key(b) {
				t.Errorf("%v and %v are the same, and their keys are %q and %q", a, b, Key(a), Key(b))
			}
			if a != b && Same(a, b) {
				same++
			}
		}
	}
	if same != 10 {
		t.Errorf("%d pairs are the same, not 10", same)
	}
	if Same(ids[14], ids[16]) {
		t.Error("the key of a name is taken for the name")
	}
}
