package gateway

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/internal/operate/control"
	"culvert/internal/packet/underlay"
)

const byHand = `[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.2.0.0/16"
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.2"
tunnel = true
[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.3.0.0/16"
action = "discard"
`

// Each way to say it wrong has its answer; what was wrong leaves nothing behind.
func TestAddSARefuses(t *testing.T) {
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "west", westAddr, byHand)
	ctx := context.Background()
	eventually(t, "a gateway", func() bool { _, err := p.client().Policies(ctx); return err == nil })
	good := func() control.ManualSA {
		return control.ManualSA{Policy: 1, UDP: true, ReplayWindow: 128, ESP: &control.ManualKeys{SPIIn: 0x1001, SPIOut: 0x1002, EncAlgorithm: "aes-128-gcm",
			EncKeyIn: strings.Repeat("01", 20), EncKeyOut: "0x" + strings.Repeat("02", 20)}}
	}
	for _, c := range []struct {
		change func(sa *control.ManualSA)
		want   string
	}{
		{func(sa *control.ManualSA) { sa.Policy = 9 }, "there is no policy 9, or it handles no packets"},
		{func(sa *control.ManualSA) { sa.Policy = 0 }, "there is no policy 0, or it handles no packets"},
		{func(sa *control.ManualSA) { sa.Policy = 2 }, "policy 2 gets its SAs from a peer, or has none"},
		{func(sa *control.ManualSA) { sa.UDP = false }, "add udp"},
		{func(sa *control.ManualSA) { sa.ESP = nil }, "policy 1 uses esp"},
		{func(sa *control.ManualSA) { sa.AH = sa.ESP }, "policy 1 uses esp"},
		{func(sa *control.ManualSA) { sa.ESP.SPIIn = 255 }, "SPIs below 256 are reserved"},
		{func(sa *control.ManualSA) { sa.ESP.SPIOut = 0 }, "spi-out is 0"},
		{func(sa *control.ManualSA) { sa.ESP.EncAlgorithm = "rot13" }, `enc-algorithm "rot13" is unknown`},
		{func(sa *control.ManualSA) { sa.ESP.EncAlgorithm = "aes-128-cbc" }, "auth-algorithm is missing"},
		{func(sa *control.ManualSA) { sa.ESP.AuthAlgorithm = "crc32" }, `auth-algorithm "crc32" is unknown`},
		{func(sa *control.ManualSA) { sa.ESP.AuthAlgorithm = "sha1" }, "aes-128-gcm has built-in integrity: leave out auth-algorithm"},
		{func(sa *control.ManualSA) {
			sa.ESP.EncAlgorithm, sa.ESP.AuthAlgorithm, sa.ESP.EncKeyIn = "aes-128-cbc", "sha1", strings.Repeat("01", 16)
		}, "auth-key-in has 0 bytes: the algorithm needs 20"},
		{func(sa *control.ManualSA) { sa.ReplayWindow = 31 }, "replay-window is 31: write 32 to 4096 packets, or 0 for no replay check"},
		{func(sa *control.ManualSA) { sa.ReplayWindow = 4097 }, "replay-window is 4097: write 32 to 4096 packets, or 0 for no replay check"},
		{func(sa *control.ManualSA) { sa.Lifetime = -time.Second }, "lifetime is -1s"},
		{func(sa *control.ManualSA) { sa.ESP.EncKeyIn = "0102" }, "enc-key-in has 2 bytes: the algorithm needs 20"},
		{func(sa *control.ManualSA) { sa.ESP.EncKeyOut = "secret" }, "enc-key-out is not hexadecimal"},
	} {
		sa := good()
		c.change(&sa)
		if _, err := p.client().AddSA(ctx, sa); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	installed := func() int {
		rows, err := p.client().InstalledSAs(ctx, true)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	if n := installed(); n != 0 {
		t.Errorf("%d SAs after nothing but refusals", n)
	}
	if w, err := p.client().AddSA(ctx, good()); err != nil || len(w) != 1 || !strings.Contains(w[0], "never use this key again") {
		t.Fatalf("%q, %v", w, err)
	}
	if _, err := p.client().AddSA(ctx, good()); err == nil || err.Error() != "another SA has the inbound SPI 0x00001001: choose another SPI, or delete that SA: see `culvert installed-sa print`" {
		t.Error("the same SPI twice:", err)
	}
	if err := p.client().DeleteSA(ctx, 7); err == nil || !strings.Contains(err.Error(), "there is no SA with the inbound SPI 0x00000007") {
		t.Error(err)
	}
	for _, c := range []struct {
		enc, auth string
		enckeys   [2]string
		want      []string
	}{
		{"aes-256-cbc", "sha256", [2]string{strings.Repeat("01", 32), strings.Repeat("01", 32)}, nil},
		{"des", "md5", [2]string{strings.Repeat("01", 8), strings.Repeat("02", 8)}, []string{"weak algorithms: des, md5"}},
		{"null", "sha1", [2]string{}, []string{"weak algorithms: null, sha1"}},
		{"aes-128-ctr", "sha1", [2]string{strings.Repeat("01", 20), strings.Repeat("02", 20)}, []string{"weak algorithms: sha1", "aes-128-ctr is broken if a counter value repeats"}},
		{"aes-128-gmac", "", [2]string{strings.Repeat("01", 20), strings.Repeat("01", 20)}, []string{"never use this key again", "both directions have the same key"}},
	} {
		sa, auth := good(), ""
		if a := suite.IntegByName(c.auth); a != nil {
			auth = strings.Repeat("03", a.KeyLen)
		}
		*sa.ESP = control.ManualKeys{SPIIn: 0x2001, SPIOut: 0x2002, EncAlgorithm: c.enc, EncKeyIn: c.enckeys[0], EncKeyOut: c.enckeys[1], AuthAlgorithm: c.auth, AuthKeyIn: auth, AuthKeyOut: auth}
		got, err := p.client().AddSA(ctx, sa)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %q, %v", c.enc, got, err)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", c.enc, got, c.want)
			}
		}
		if err := p.client().DeleteSA(ctx, 0x2001); err != nil {
			t.Error(err)
		}
	}
	// An SA goes with its policy, stays when another changes, and is flushed with all.
	writeFile(t, p.path, byHand+"[[policy]]\nsrc-address = \"10.1.0.0/16\"\ndst-address = \"10.4.0.0/16\"\naction = \"discard\"\n")
	if _, err := p.client().Reload(ctx); err != nil || installed() != 2 {
		t.Errorf("after a reload: %d rows, %v", installed(), err)
	}
	writeFile(t, p.path, strings.Replace(byHand, "192.0.2.2", "192.0.2.3", 1))
	if _, err := p.client().Reload(ctx); err != nil || installed() != 0 {
		t.Errorf("after its policy changed: %d rows, %v", installed(), err)
	}
	if _, err := p.client().AddSA(ctx, good()); err != nil {
		t.Fatal(err)
	}
	if n, err := p.client().Flush(ctx); err != nil || n != 1 || installed() != 0 {
		t.Errorf("flush: %d, %v", n, err)
	}
}

// SAs by hand of two policies are two: one can be deleted without the other.
func TestTwoSAsByHand(t *testing.T) {
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "west", westAddr,
		byHand+"[[policy]]\n"+strings.Replace(strings.Split(byHand, "[[policy]]\n")[1], "10.2.0.0/16", "10.4.0.0/16", 1))
	ctx := context.Background()
	eventually(t, "a gateway", func() bool { _, err := p.client().Policies(ctx); return err == nil })
	for policy, spi := range map[int]uint32{1: 0x1001, 3: 0x3001} {
		sa := control.ManualSA{Policy: policy, UDP: true, ESP: &control.ManualKeys{SPIIn: spi, SPIOut: spi + 1, EncAlgorithm: "aes-128-gcm",
			EncKeyIn: strings.Repeat("01", 20), EncKeyOut: strings.Repeat("02", 20)}}
		if _, err := p.client().AddSA(ctx, sa); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		delete uint32
		want   string
	}{{0, "0x00001001 0x00001002 0x00003001 0x00003002"}, {0x1001, "0x00003001 0x00003002"}, {0x3001, ""}} {
		if c.delete != 0 {
			if err := p.client().DeleteSA(ctx, c.delete); err != nil {
				t.Fatal(err)
			}
		}
		spis := strings.Fields(p.spis())
		slices.Sort(spis)
		if got := strings.Join(spis, " "); got != c.want {
			t.Errorf("after the end of %#x there are %q, not %q", c.delete, got, c.want)
		}
	}
}
