package config

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// read reads one value and returns what was taken, whether it was, and what is wrong with it.
func read[V any](p parser[V], table, key string, raw any) (got any, ok bool, faults []string) {
	l := &loader{config: &Config{}, order: map[string]int{}}
	v := value{load: l, file: &source{name: "f"}, table: table, key: key, raw: raw}
	x, ok := p(v)
	for _, f := range l.faults {
		faults = append(faults, f.Message)
	}
	return x, ok, faults
}

func reader[V any](p parser[V], table, key string) func(raw any) (any, bool, []string) {
	return func(raw any) (any, bool, []string) { return read(p, table, key, raw) }
}

// What is not right is not taken, and one fault says why. Bounds belong to what they bound.
func TestValues(t *testing.T) {
	type list = []any
	for what, c := range map[string]struct {
		read  func(raw any) (any, bool, []string)
		right map[any]any // the raw value and what it becomes
		wrong []any
	}{
		"label":            {reader(label, "peer", "name"), map[any]any{"a": "a", "a b": "a b"}, []any{"", " ", "a ", "\ta", "a\nb", 5}},
		"comment":          {reader(comment, "peer", "comment"), map[any]any{"": "", " a": " a"}, []any{"a\nb", "\x7f", true}},
		"boolean":          {reader(boolean, "peer", "passive"), map[any]any{true: true, false: false}, []any{"yes", "no", "true", int64(1)}},
		"boolean, not yet": {reader(boolean, "settings", "accounting"), map[any]any{false: false}, []any{true}},
		"integer":          {reader(integer[int](2, 5), "peer", "port"), map[any]any{int64(2): 2, int64(5): 5}, []any{int64(1), int64(6), "3", 2.5}},
		"one of":           {reader(oneOf[string]("a", "b"), "peer", "x"), map[any]any{"a": "a", "b": "b"}, []any{"c", "a,b", "", int64(1)}},
		"one of, not yet":  {reader(oneOf[string]("rsa-key", "eap"), "identity", "auth-method"), map[any]any{"rsa-key": "rsa-key"}, []any{"eap", "other"}},
		"duration": {reader(duration(time.Second, time.Hour), "peer", "x"), map[any]any{"1s": Duration(time.Second), "1h": Duration(time.Hour)},
			[]any{"0s", "1h1s", "x", "", int64(5)}},
		"dpd-interval": {reader(dpdInterval, "profile", "dpd-interval"), map[any]any{"disable-dpd": Duration(0), "1s": Duration(time.Second), "1d": Duration(24 * time.Hour)},
			[]any{"0s", "1d1s", "disable_dpd", "never", int64(0)}},
		"address": {reader(address, "policy", "sa-src-address"), map[any]any{"192.0.2.1": netip.MustParseAddr("192.0.2.1"), "::1": netip.MustParseAddr("::1")},
			[]any{"", "gw", "fe80::1%eth0", "::ffff:192.0.2.1", "192.0.2.1/32", int64(1)}},
		"prefix": {reader(prefix, "policy", "src-address"), map[any]any{"192.0.2.1": netip.MustParsePrefix("192.0.2.1/32"), "10.0.0.0/8": netip.MustParsePrefix("10.0.0.0/8"),
			"10.1.0.0/8": netip.MustParsePrefix("10.0.0.0/8"), "::1": netip.MustParsePrefix("::1/128")}, []any{"", "gw", "fe80::1%eth0", "::ffff:10.0.0.0/104", "::ffff:1.2.3.4", "10.0.0.0/33", false}},
		"port": {reader(port, "policy", "src-port"), map[any]any{int64(0): Port{0, true}, int64(65535): Port{65535, true}, "any": Port{}, "0": Port{0, true}, "65535": Port{65535, true}},
			[]any{int64(-1), int64(65536), "65536", "-1", "http", "", true}},
		"protocol": {reader(protocol, "policy", "protocol"), map[any]any{int64(0): Protocol(0), int64(255): Protocol(255), "all": Protocol(0), "udp": Protocol(17), "255": Protocol(255)},
			[]any{int64(-1), int64(256), "256", "tpc", "", 1.5}},
		"my-id": {reader(identityID(), "identity", "my-id"), map[any]any{"auto": ID{Kind: IDAuto}, "dn": ID{Kind: IDDN}, "fqdn:a": ID{Kind: IDFQDN, Value: "a"},
			"key-id:#6162": ID{Kind: IDKeyID, Value: "#6162", Bytes: "ab"}, "address:2001:DB8::1": ID{Kind: IDAddress, Value: "2001:db8::1", Addr: netip.MustParseAddr("2001:db8::1")}},
			[]any{"auto:", "auto:x", "dn:x", "fqdn", "fqdn:", "ignore", "x:y", "address:gw", "address:fe80::1%eth0", "address:::ffff:192.0.2.1", "key-id:#", "key-id:#6", "key-id:#zz", int64(1)}},
		"remote-id": {reader(remoteID, "identity", "remote-id"), map[any]any{"ignore": ID{Kind: IDIgnore}, "fqdn:*.example.net": ID{Kind: IDFQDN, Value: "*.example.net", Pattern: true},
			"user-fqdn:*@example.net": ID{Kind: IDUserFQDN, Value: "*@example.net", Pattern: true}, "key-id:*": ID{Kind: IDKeyID, Value: "*"},
			"fqdn:#2a2e61": ID{Kind: IDFQDN, Value: "#2a2e61", Bytes: "*.a"}},
			[]any{"dn:", "dn:x", "ignore:x", "fqdn:", int64(1), "fqdn:*", "fqdn:*.", "fqdn:a.*", "fqdn:*a.example.net", "fqdn:*.*.example.net", "fqdn:*..net", "fqdn:*@example.net",
				"user-fqdn:*", "user-fqdn:*@", "user-fqdn:a@*", "user-fqdn:a*@example.net", "user-fqdn:*@a@b"}},
		"tfc":          {reader(orNumber("mtu", -1, 0, 9), "proposal", "tfc"), map[any]any{"mtu": -1, int64(0): 0, int64(9): 9}, []any{"0", "max", int64(-1), int64(10), true}},
		"tun":          {reader(tunName, "gateway", "tun"), map[any]any{"a": "a", strings.Repeat("a", 15): strings.Repeat("a", 15), "A-9_.": "A-9_."}, []any{"", "!~", strings.Repeat("a", 16), ".", "..", "a b", "a/b", "a:b", "a%d", "\x7f", "ä", int64(1)}},
		"path":         {reader(absolutePath, "gateway", "state-dir"), nil, []any{"", "a", "a/b", "./a", int64(1)}},
		"table":        {reader(routingTable, "gateway", "table"), map[any]any{int64(1): uint32(1), int64(252): uint32(252), int64(256): uint32(256), int64(maxTable): uint32(maxTable)}, []any{int64(0), int64(253), int64(254), int64(255), int64(maxTable + 1), "main"}},
		"log-level":    {reader(logLevel, "gateway", "log-level"), map[any]any{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}, []any{"WARN", "", "info+1", int64(1)}},
		"split-tunnel": {reader(addrRange, "pool", "ranges"), map[any]any{"192.0.2.0/30": AddrRange{netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("192.0.2.3")}}, []any{"", "-", "192.0.2.1-", "10.0.0.0/33", int64(1)}},
	} {
		for raw, want := range c.right {
			if got, ok, faults := c.read(raw); !ok || len(faults) > 0 || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %v: %v, %v, %q", what, raw, got, ok, faults)
			}
		}
		for _, raw := range c.wrong {
			if got, ok, faults := c.read(raw); ok || len(faults) != 1 {
				t.Errorf("%s %v: %v, %v, %q", what, raw, got, ok, faults)
			}
		}
	}
	for _, raw := range []any{"", "0x", "0x0", "0xzz", int64(5)} {
		if got, ok, faults := read(psk, "identity", "secret", raw); ok || len(faults) != 1 || strings.Contains(faults[0], "zz") {
			t.Errorf("secret %v: %v, %q", raw, got, faults)
		}
	}
	for _, raw := range []any{list{}, list{"a", "a"}, list{"a", ""}, list{"", "a"}, list{int64(1)}, ""} {
		if got, ok, faults := read(listOf(label), "peer", "x", raw); ok || len(faults) != 1 {
			t.Errorf("list %v: %v, %q", raw, got, faults)
		}
	}
	if got, ok, faults := read(listOf(label), "peer", "x", list{"a", "b", "c"}); !ok || !reflect.DeepEqual(got, []string{"a", "b", "c"}) || len(faults) > 0 {
		t.Errorf("list: %v, %q", got, faults)
	}
}

func listOf(p parser[string]) parser[[]string] { return list(p) }

func TestDNSNames(t *testing.T) {
	l63 := strings.Repeat("a", 63)
	n253 := strings.Repeat("a.", 126) + "a"
	for s, want := range map[string]bool{
		"a": true, "a.b": true, "a-b.c": true, "1.a": true, l63 + ".a": true, n253: true,
		"": false, ".": false, "a..b": false, ".a": false, "a.": false, "-a": false, "a-": false, "-": false, "a.-b": false, "a-.b": false, l63 + "a": false, n253 + "a": false, "b." + n253: false,
	} {
		if got := isDNSName(s); got != want {
			t.Errorf("%.20q, %d bytes: %v", s, len(s), got)
		}
	}
	for s, want := range map[string]bool{
		"a": true, "z": true, "A": true, "Z": true, "a0": true, "a9": true, "a-.": true,
		"": false, "0": false, "9.9": false, "-.": false, "a@": false, "a[": false, "a`": false, "a{": false, "a/": false, "a:": false, "a_": false, "a b": false, "ä": false,
	} {
		if got := looksLikeName(s); got != want {
			t.Errorf("%q looks like a name: %v", s, got)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		limit, want int
	}{
		{"", "", 3, 0}, {"a", "", 3, 1}, {"", "ab", 3, 2}, {"abc", "abc", 3, 0}, {"abc", "abd", 3, 1}, {"abc", "acb", 3, 1}, {"abcd", "badc", 3, 2},
		{"abc", "xyz", 3, 3}, {"abc", "xyz", 2, 2}, {"aaaaaaaa", "a", 3, 3}, {"a", "aaaaaaaa", 3, 3}, {"kitten", "sitting", 9, 3},
	} {
		if got := editDistance(c.a, c.b, c.limit); got != c.want {
			t.Errorf("%q to %q: %d changes, want %d", c.a, c.b, got, c.want)
		}
	}
}

// The control socket stands where the system keeps such things.
func TestDefaultControl(t *testing.T) {
	for system, want := range map[string]string{"windows": `\\.\pipe\ProtectedPrefix\Administrators\culvert`, "darwin": "/var/run/culvert/control.sock", "linux": "/run/culvert/control.sock"} {
		if got := defaultControl(system); got != want {
			t.Errorf("%s: %s", system, got)
		}
	}
	if tpl := mustParse(t, "").Policies[0]; tpl.SrcAddress != any6 || tpl.DstAddress != any6 || !tpl.Template {
		t.Errorf("the template: %+v", tpl)
	}
}
