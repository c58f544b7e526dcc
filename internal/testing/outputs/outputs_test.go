package outputs

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
)

// written is the hash of the outputs of one endpoint.
func written(t *testing.T, outputs ...core.Output) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("CULVERT_OUTPUTS", dir)
	t.Run("one", func(t *testing.T) {
		l := New(t, "a")
		for _, o := range outputs {
			l.Add(o)
		}
	})
	b, err := os.ReadFile(filepath.Join(dir, filepath.Base(os.Args[0])+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, sum, ok := strings.Cut(string(b), " outputs, ")
	if !ok || strings.Count(string(b), "\n") != 1 {
		t.Fatalf("written is %q", b)
	}
	return sum
}

// Every value of an output counts, and of an event the kind alone.
func TestWhatCounts(t *testing.T) {
	to := netip.MustParseAddrPort("192.0.2.1:500")
	install := func(key byte, encr string) core.Output {
		return core.Install{Child: 1, In: core.HalfSA{SPI: 7, EncKey: secret.Bytes{1, key}}, Encr: suite.EncrByName(encr)}
	}
	for _, c := range []struct {
		name string
		a, b core.Output
		same bool
	}{
		{"the same", core.Send{Remote: to, Data: []byte("x")}, core.Send{Remote: to, Data: []byte("x")}, true},
		{"data", core.Send{Remote: to, Data: []byte("x")}, core.Send{Remote: to, Data: []byte("y")}, false},
		{"port", core.Send{Remote: to}, core.Send{Remote: netip.AddrPortFrom(to.Addr(), 501)}, false},
		{"key", install(1, "aes-128-gcm"), install(2, "aes-128-gcm"), false},
		{"algorithm", install(1, "aes-128-gcm"), install(1, "aes-256-gcm"), false},
		{"type", core.Activate{Child: 1}, core.Retire{Child: 1}, false},
		{"words of an event", core.Event{Kind: core.EvIKEUp, Reason: "a"}, core.Event{Kind: core.EvIKEUp, Reason: "b"}, true},
		{"kind of an event", core.Event{Kind: core.EvIKEUp}, core.Event{Kind: core.EvIKEDown}, false},
	} {
		if (written(t, c.a) == written(t, c.b)) != c.same {
			t.Errorf("%s: two outputs are to be the same: %v", c.name, c.same)
		}
	}
	if written(t, core.Activate{Child: 1}, core.Activate{Child: 2}) == written(t, core.Activate{Child: 2}, core.Activate{Child: 1}) {
		t.Error("the order does not count")
	}
}
