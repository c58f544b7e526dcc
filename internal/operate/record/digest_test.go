package record

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/ike/core"
)

// What digests are of, as text: a recording is played by other versions, so it stays as it is.
func TestValuesAsText(t *testing.T) {
	type inner struct{ N uint16 }
	type nest []nest
	var none *inner
	deepest := nest{} // the innermost is as deep in it as is written
	for range maxDepth {
		deepest = nest{deepest}
	}
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "nil;"},
		{true, "true;"},
		{-5, "-5;"},
		{uint8(5), "5;"},
		{"ab", "\x00\x00\x00\x02ab"},
		{[]byte("ab"), "\x00\x00\x00\x02ab"},
		{[2]byte{1, 2}, "\x00\x00\x00\x021;2;"},
		{[]string{"a", ""}, "\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x00"},
		{netip.MustParseAddr("192.0.2.1"), "192.0.2.1;"},
		{netip.Addr{}, "invalid IP;"},
		{netip.MustParseAddrPort("[fe80::1%eth0]:500"), "[fe80::1%eth0]:500;"},
		{suite.EncrByName("3des"), "3des;"},
		{suite.IntegByName("sha1"), "sha1;"},
		{(*suite.Group)(nil), "none;"},
		{errors.New("no"), "no;"},
		{inner{7}, "record.inner{N:7;}"},
		{&inner{7}, "record.inner{N:7;}"},
		{none, "nil;"},
		{[]inner{{1}, {2}}, "\x00\x00\x00\x02record.inner{N:1;}record.inner{N:2;}"},
		{map[string]int{"b": 2, "a": 1}, `["\x00\x00\x00\x01a1;" "\x00\x00\x00\x01b2;"];`},
		{func() {}, "func();"},
		{core.Retire{Child: 2}, "core.Retire{Child:2;}"},
		{deepest, strings.Repeat("\x00\x00\x00\x01", maxDepth) + "\x00\x00\x00\x00"},
		{nest{deepest}, strings.Repeat("\x00\x00\x00\x01", maxDepth+1) + "nil;"},
	} {
		if got := string(appendValue(nil, reflect.ValueOf(c.v), 0)); got != c.want {
			t.Errorf("%T: %q, want %q", c.v, got, c.want)
		}
	}
}
