package config

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]struct {
		d    time.Duration
		back string
	}{
		"30m": {30 * time.Minute, "30m"}, "1d": {day, "1d"}, "1d2h": {26 * time.Hour, "1d2h"}, "45s": {45 * time.Second, "45s"},
		"90m": {90 * time.Minute, "1h30m"}, "1w": {7 * day, "7d"}, "0s": {0, "0s"}, "1d0h1s": {day + time.Second, "1d1s"},
	} {
		d, ok := ParseDuration(text)
		if !ok || time.Duration(d) != want.d || d.String() != want.back {
			t.Errorf("%s: %v %v", text, d, ok)
		}
		if again, ok := ParseDuration(d.String()); !ok || again != d {
			t.Errorf("%s does not read what it prints: %v", text, again)
		}
	}
	for _, text := range []string{"", "1", "m", "1m1h", "1h1h", "-1s", "1.5h", "1 h", "1H", "1000000000s", "9999999999s", "999999999w", "1d ", "1ms"} {
		if d, ok := ParseDuration(text); ok {
			t.Errorf("%q is taken as %v", text, d)
		}
	}
	if s := Duration(1500 * time.Millisecond).String(); s != "1s" {
		t.Errorf("parts of a second: %s", s)
	}
}

func TestProtocol(t *testing.T) {
	for text, want := range map[string]Protocol{"all": 0, "icmp": 1, "tcp": 6, "17": 17, "gre": 47, "icmpv6": 58, "ipv6-icmp": 58, "254": 254} {
		p, ok := ParseProtocol(text)
		if !ok || p != want {
			t.Errorf("%s: %d %v", text, p, ok)
		}
		if again, ok := ParseProtocol(p.String()); !ok || again != p {
			t.Errorf("%s does not read what it prints: %s", text, p)
		}
	}
	for _, text := range []string{"", "256", "-1", "TCP", "0x11"} {
		if p, ok := ParseProtocol(text); ok {
			t.Errorf("%q is taken as %v", text, p)
		}
	}
	for p, want := range map[Protocol]bool{0: false, 1: false, 6: true, 17: true, 47: false, 132: true, 200: false} {
		if p.HasPorts() != want {
			t.Errorf("%v has ports: %v", p, !want)
		}
	}
	if lo, hi := (Port{}).Range(); lo != 0 || hi != 65535 {
		t.Errorf("any: %d..%d", lo, hi)
	}
	if lo, hi := (Port{53, true}).Range(); lo != 53 || hi != 53 {
		t.Errorf("53: %d..%d", lo, hi)
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"src-address", "dst-address", "tunnel", "enc-algorithms", "sha1", "sha384", "sha256", "aes-128-cbc", "camellia-128"}
	for given, want := range map[string]string{
		"src_address": "src-address", "srcAddress": "src-address", "dst-adress": "dst-address", "tunel": "tunnel",
		"enc-algorithm": "enc-algorithms", "tnunel": "tunnel", "comment": "", "x": "",
		"SHA2": "sha256", "aes-128": "aes-128-cbc", "camellia-128-cbc": "camellia-128", "tun": "tunnel", "tunnels-and-more": "",
	} {
		got := didYouMean(given, known)
		if want != "" {
			want = ` (did you mean "` + want + `"?)`
		}
		if got != want {
			t.Errorf("%s: %q, want %q", given, got, want)
		}
	}
}
