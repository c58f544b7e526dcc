package v2

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"culvert/ike/core"
)

// bytesOf is REDIRECT's content, from the words of RFC 5685 §7.2.
func bytesOf(g core.Gateway, nonce []byte) []byte {
	kind, id := byte(3), []byte(g.Name)
	if g.Name == "" {
		kind, id = 1, g.Addr.AsSlice()
		if len(id) == 16 {
			kind = 2
		}
	}
	return append(append([]byte{kind, byte(len(id))}, id...), nonce...)
}

func TestReadRedirect(t *testing.T) {
	nonce := bytes.Repeat([]byte{7}, 32)
	for _, g := range []core.Gateway{
		{Addr: netip.MustParseAddr("192.0.2.3")},
		{Addr: netip.MustParseAddr("2001:db8::3")},
		{Name: "gw-2.example.net"},
		{Name: strings.Repeat("a", 253)},
	} {
		whole := bytesOf(g, nonce)
		if got, n, ok := readRedirect(whole); !ok || got != g || !bytes.Equal(n, nonce) {
			t.Errorf("%v was read as %v %x %v", g, got, n, ok)
		}
		for i := range len(whole) {
			_, n, ok := readRedirect(whole[:i])
			if id := len(whole) - len(nonce); ok != (i >= id) || ok && len(n) != i-id {
				t.Errorf("%v cut at %d of %d: %v, nonce %x", g, i, len(whole), ok, n)
			}
		}
	}
	if g, _, ok := readRedirect(bytesOf(core.Gateway{Addr: netip.MustParseAddr("::ffff:192.0.2.3")}, nil)); !ok || g.Addr != netip.MustParseAddr("192.0.2.3") {
		t.Errorf("an IPv4 address as IPv6 was read as %v %v", g, ok)
	}
	if g, _, ok := readRedirect(bytesOf(core.Gateway{Addr: netip.MustParseAddr("::ffff:0.0.0.0")}, nil)); ok {
		t.Errorf("%v counts as an address", g)
	}
	for _, name := range []string{"", ".", "-a", "a b", "a\x00", "a/b", "ä.example", strings.Repeat("a", 254)} {
		if _, _, ok := readRedirect(append([]byte{3, byte(len(name))}, name...)); ok {
			t.Errorf("%q counts as a name", name)
		}
	}
}

func FuzzReadRedirect(f *testing.F) {
	f.Add(bytesOf(core.Gateway{Addr: netip.MustParseAddr("192.0.2.3")}, []byte{1, 2}))
	f.Add(bytesOf(core.Gateway{Addr: netip.MustParseAddr("2001:db8::3")}, nil))
	f.Add(bytesOf(core.Gateway{Name: "gw.example"}, []byte{1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, nonce, ok := readRedirect(data)
		if !ok {
			return
		}
		if (g.Name == "") != g.Addr.IsValid() {
			t.Errorf("%x is %+v", data, g)
		}
		if again, n, ok := readRedirect(bytesOf(g, nonce)); !ok || again != g || !bytes.Equal(n, nonce) {
			t.Errorf("%x is %+v, and written again %+v", data, g, again)
		}
	})
}
