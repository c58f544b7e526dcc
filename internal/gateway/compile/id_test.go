package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"culvert/config"
	"culvert/crypto/pki"
	"culvert/ike/auth"
	"culvert/ike/core"

	"pgregory.net/rapid"
)

// readID is an ID that is written in a configuration.
func readID(text string) (core.ID, error) {
	c, _, err := config.Parse("x.toml", fmt.Appendf(nil, `
[[peer]]
name = "p"
exchange-mode = "ike2"
[[identity]]
peer = "p"
secret = "a secret of many letters"
remote-id = "%s"
`, text))
	if err != nil {
		return core.ID{}, err
	}
	return storeOf(nil).identity(c.Identities[0]).RemoteID, nil
}

// An ID that is printed, in an event or a hint, can be written in the
// configuration as it is, and is then the same ID.
func TestIDRoundTrip(t *testing.T) {
	same := func(t rapid.TB, id core.ID) {
		again, err := readID(id.String())
		if err != nil || !auth.Same(id, again) || auth.Key(id) != auth.Key(again) {
			t.Fatalf("%d %q is printed as %s and read as %d %q: %v", id.Type, id.Data, id, again.Type, again.Data, err)
		}
	}
	for _, id := range []core.ID{
		{Type: core.IDFQDN, Data: "gw.example.net"}, {Type: core.IDFQDN, Data: `a"b\c`}, {Type: core.IDFQDN, Data: "M\xfcller"}, {Type: core.IDUser, Data: "jürgen@example.net"},
		{Type: core.IDKeyID, Data: "\x00\x01\xfe\xff"}, {Type: core.IDKeyID, Data: "#12"}, {Type: core.IDKeyID, Data: "a\nb"}, {Type: core.IDKeyID, Data: "0x12"},
		{Type: core.IDDN, Data: "0\x0d1\x0b0\x09\x06\x03U\x04\x03\x1e\x02\x00g"}, {Type: core.IDDN, Data: "no name"},
		auth.AddressID(netip.MustParseAddr("192.0.2.1")), auth.AddressID(netip.MustParseAddr("2001:db8::1")),
	} {
		same(t, id)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := core.ID{Type: rapid.SampledFrom([]core.IDType{core.IDFQDN, core.IDUser, core.IDKeyID}).Draw(t, "type")}
		if rapid.Bool().Draw(t, "text") {
			id.Data = rapid.StringN(1, 30, -1).Draw(t, "data")
		} else {
			id.Data = string(rapid.SliceOfN(rapid.Byte(), 1, 30).Draw(t, "bytes"))
		}
		same(t, id)
	})
	rapid.Check(t, func(t *rapid.T) {
		der, err := pki.ParseDN(rapid.StringOfN(rapid.RuneFrom([]rune(`CN=OU+,\#0aü "`)), 3, 20, -1).Draw(t, "name"))
		if err == nil {
			same(t, core.ID{Type: core.IDDN, Data: string(der)})
		}
	})
}
