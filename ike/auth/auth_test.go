package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"testing"

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
