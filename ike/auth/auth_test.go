package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"slices"
	"testing"

	"culvert/crypto/pki"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
)

func hmac256(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// AUTH = prf(prf(secret, "Key Pad for IKEv2"), message | nonce | prf(SK_p, ID))
// (RFC 7296 §2.15), computed here from the standard library alone.
func TestPSK(t *testing.T) {
	f := suite.PRFByName("sha256")
	s := Signed{Message: []byte("message"), Nonce: []byte("nonce"), IDBody: []byte("\x02\x00\x00\x00gw.example"), SKp: secret.Bytes("SK_p")}
	want := hmac256(hmac256([]byte("secret"), "Key Pad for IKEv2"), "message", "nonce", string(hmac256([]byte("SK_p"), string(s.IDBody))))
	if !PSK(f, secret.Bytes("secret"), s).Equal(want) {
		t.Error("the proof is not that of RFC 7296")
	}
	if !VerifyPSK(f, secret.Bytes("secret"), s, want) {
		t.Error("the proof does not verify")
	}
	for i := range want {
		want[i] ^= 1
		if VerifyPSK(f, secret.Bytes("secret"), s, want) {
			t.Errorf("verified with byte %d changed", i)
		}
		want[i] ^= 1
	}
	if VerifyPSK(f, secret.Bytes("secret"), s, want[:31]) || VerifyPSK(f, secret.Bytes("secret"), s, nil) {
		t.Error("a short proof verified")
	}
	if VerifyPSK(f, nil, s, PSK(f, nil, s)) {
		t.Error("no secret is a secret that everybody knows")
	}
}

// Secrets around the block of the hash, and longer ones: both sides do the same
// with them (RFC 2104).
func TestPSKLengths(t *testing.T) {
	f := suite.PRFByName("sha256")
	s := Signed{Message: []byte("message"), Nonce: []byte("nonce"), IDBody: []byte("id"), SKp: secret.Bytes("SK_p")}
	for _, n := range []int{1, 63, 64, 65, 127, 128, 129, 1000} {
		key := make([]byte, n)
		for i := range key {
			key[i] = byte(i)
		}
		want := hmac256(hmac256(key, "Key Pad for IKEv2"), "message", "nonce", string(hmac256([]byte("SK_p"), "id")))
		if !PSK(f, key, s).Equal(want) || !VerifyPSK(f, key, s, want) {
			t.Errorf("a secret of %d bytes", n)
		}
	}
}

func TestMatch(t *testing.T) {
	name := func(s string) core.ID { return core.ID{Type: core.IDFQDN, Data: s} }
	any1 := &core.Identity{MyID: name("a")}
	any2 := &core.Identity{RemoteID: name("ignored"), Ignore: true, MyID: name("b")}
	exact := &core.Identity{RemoteID: name("x"), MyID: name("c")}
	auto := &core.Identity{RemoteID: name("y")}
	ids := []*core.Identity{any1, any2, exact, auto}
	tests := []struct {
		remote, expected core.ID
		want             *core.Identity
	}{
		{name("x"), core.ID{}, exact},
		{name("X"), core.ID{}, exact},
		{core.ID{Type: core.IDUser, Data: "x"}, core.ID{}, any1},
		{core.ID{Type: core.IDKeyID, Data: "x"}, core.ID{}, any1},
		{name("z"), core.ID{}, any1},
		{name("z"), name("b"), any2},
		{name("x"), name("a"), any1},
		{name("x"), name("q"), nil},
		{name("y"), name("q"), auto}, // my-id auto answers to any name
	}
	for _, c := range tests {
		if got := Match(ids, Claim{ID: c.remote, Expected: c.expected}, nil); got != c.want {
			t.Errorf("%v, expecting %v: %+v", c.remote, c.expected, got)
		}
	}
	if Same(core.ID{Type: core.IDKeyID, Data: "k"}, core.ID{Type: core.IDKeyID, Data: "K"}) {
		t.Error("key IDs are bytes")
	}
	if !Accepts(any2, name("w")) || Accepts(exact, name("w")) || !Accepts(any1, name("w")) {
		t.Error("Accepts")
	}
	v6 := netip.MustParseAddr("::ffff:192.0.2.1")
	if id := MyID(any2, v6); id != name("b") {
		t.Error(id)
	}
	if id := MyID(auto, v6); id.String() != "address:192.0.2.1" {
		t.Error(id)
	}
	if id := MyID(auto, netip.MustParseAddr("2001:db8::1")); id.Type != core.IDIPv6 || id.String() != "address:2001:db8::1" {
		t.Error(id)
	}
}

// A remote-id with a * stands for the names below it, and for nothing else.
func TestPatterns(t *testing.T) {
	dn := func(s string) string {
		der, err := pki.ParseDN(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	pattern := func(s string) string {
		der, wild, err := pki.ParsePattern(s)
		if err != nil || !wild {
			t.Fatal(s, wild, err)
		}
		return string(der)
	}
	host, user, name := core.IDFQDN, core.IDUser, core.IDDN
	for _, c := range []struct {
		pattern, id core.ID
		want        bool
	}{
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: "gw.example.net"}, true},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: "GW.Example.NET"}, true},
		{core.ID{Type: host, Data: "*.Example.net"}, core.ID{Type: host, Data: "a.b.example.net"}, true}, // the * spans dots
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: "example.net"}, false},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: ".example.net"}, false},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: "a..example.net"}, false},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: "a.badexample.net"}, false},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: host, Data: "gw.example.net.evil.org"}, false},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: user, Data: "gw.example.net"}, false},
		{core.ID{Type: host, Data: "*.example.net"}, core.ID{Type: core.IDKeyID, Data: "gw.example.net"}, false},
		{core.ID{Type: user, Data: "*@example.net"}, core.ID{Type: user, Data: "joe@example.net"}, true},
		{core.ID{Type: user, Data: "*@example.net"}, core.ID{Type: user, Data: "joe.b@Example.net"}, true},
		{core.ID{Type: user, Data: "*@example.net"}, core.ID{Type: user, Data: "@example.net"}, false},
		{core.ID{Type: user, Data: "*@example.net"}, core.ID{Type: user, Data: "joe@evil.org@example.net"}, false},
		{core.ID{Type: user, Data: "*@example.net"}, core.ID{Type: user, Data: "joe@a.example.net"}, false},
		{core.ID{Type: user, Data: "*@example.net"}, core.ID{Type: host, Data: "joe@example.net"}, false},
		{core.ID{Type: name, Data: pattern("O=Example, CN=*")}, core.ID{Type: name, Data: dn("O=example, CN=joe")}, true},
		{core.ID{Type: name, Data: pattern("O=Example, CN=*")}, core.ID{Type: name, Data: dn("CN=joe, O=Example")}, false},
		{core.ID{Type: name, Data: pattern("O=Example, CN=*")}, core.ID{Type: name, Data: dn("O=Example, OU=x, CN=joe")}, false},
		{core.ID{Type: name, Data: pattern("O=Example, CN=*")}, core.ID{Type: name, Data: dn("O=Example")}, false},
		{core.ID{Type: name, Data: pattern("O=Example, CN=*")}, core.ID{Type: name, Data: dn("O=Evil, CN=joe")}, false},
		{core.ID{Type: name, Data: pattern("O=Example, CN=*")}, core.ID{Type: name, Data: dn("O=Example, OU=joe")}, false},
	} {
		id := &core.Identity{RemoteID: c.pattern, Pattern: true}
		if got := Accepts(id, c.id); got != c.want || (Match([]*core.Identity{id}, Claim{ID: c.id}, nil) != nil) != c.want {
			t.Errorf("%s for %s: %v", id.RemoteText(), c.id, got)
		}
	}
	if Accepts(&core.Identity{RemoteID: core.ID{Type: host, Data: "*.example.net"}}, core.ID{Type: host, Data: "gw.example.net"}) {
		t.Error("a * that means itself stands for others")
	}
}

// Of several that accept an ID the most exact one is taken, whatever the order of the table.
func TestMostExactMatch(t *testing.T) {
	der := func(s string) string {
		b, _, err := pki.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	ids := []*core.Identity{
		{MyID: core.ID{Type: core.IDFQDN, Data: "any"}},
		{RemoteID: core.ID{Type: core.IDFQDN, Data: "*.net"}, Pattern: true},
		{RemoteID: core.ID{Type: core.IDFQDN, Data: "*.example.net"}, Pattern: true},
		{RemoteID: core.ID{Type: core.IDFQDN, Data: "*.a.example.net"}, Pattern: true},
		{RemoteID: core.ID{Type: core.IDFQDN, Data: "gw.a.example.net"}},
		{RemoteID: core.ID{Type: core.IDDN}},
		{RemoteID: core.ID{Type: core.IDDN, Data: der("O=*, CN=*")}, Pattern: true},
		{RemoteID: core.ID{Type: core.IDDN, Data: der("O=Example, CN=*")}, Pattern: true},
		{RemoteID: core.ID{Type: core.IDDN, Data: der("O=Example, CN=joe")}},
	}
	host := func(s string) core.ID { return core.ID{Type: core.IDFQDN, Data: s} }
	for _, c := range []struct {
		id   core.ID
		want int
	}{
		{host("gw.a.example.net"), 4}, {host("x.a.example.net"), 3}, {host("a.example.net"), 2}, {host("x.net"), 1}, {host("x.org"), 0},
		{core.ID{Type: core.IDDN, Data: der("O=Example, CN=joe")}, 8}, {core.ID{Type: core.IDDN, Data: der("O=Example, CN=ann")}, 7},
		{core.ID{Type: core.IDDN, Data: der("O=Other, CN=joe")}, 6}, {core.ID{Type: core.IDDN, Data: der("CN=joe")}, 5},
	} {
		for _, back := range []bool{false, true} {
			list := slices.Clone(ids)
			if back {
				slices.Reverse(list)
			}
			if got := slices.Index(ids, Match(list, Claim{ID: c.id}, nil)); got != c.want {
				t.Errorf("%s: the identity %d, not %d; backwards %v", c.id, got, c.want, back)
			}
		}
	}
	// An identity for the method that the peer uses goes before an exact one for another.
	other := &core.Identity{Auth: core.AuthSignature, RemoteID: host("gw.example.net")}
	mine := &core.Identity{Auth: core.AuthPSK, RemoteID: host("*.example.net"), Pattern: true}
	if got := Match([]*core.Identity{other, mine}, Claim{ID: host("gw.example.net"), Wire: MethodSharedKey}, nil); got != mine {
		t.Errorf("%+v", got)
	}
}
