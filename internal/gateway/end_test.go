package gateway

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"culvert/config"
	"culvert/internal/packet/underlay"
	"culvert/internal/state/store"
)

// closing counts how often a store is closed.
type closing struct {
	store.Memory
	closed atomic.Int32
}

func (c *closing) Close() error {
	c.closed.Add(1)
	return c.Memory.Close()
}

// A gateway closes its store once, when it has ended: another one may need it.
func TestRunClosesItsStore(t *testing.T) {
	s := &closing{}
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", eastAddr, warriorServer, func(o *Options) {
		edges := o.Edges
		o.Edges = func(g *config.Gateway) (Edges, error) {
			e, err := edges(g)
			e.Store = func(string) (store.Store, error) { return s, nil }
			return e, err
		}
	})
	eventually(t, "running", func() bool { _, err := p.client().Peers(context.Background()); return err == nil })
	if n := s.closed.Load(); n != 0 {
		t.Errorf("a gateway that runs has closed its store %d times", n)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
	if n := s.closed.Load(); n != 1 {
		t.Errorf("a gateway that has ended has closed its store %d times", n)
	}
}

// When nobody can ask for a reload any more, the gateway goes on, and reloads nothing.
func TestRunAfterTheLastReload(t *testing.T) {
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", westAddr, passive(site(eastAddr, "101", "102")))
	ctx := context.Background()
	eventually(t, "running", func() bool { _, err := p.client().Peers(ctx); return err == nil })
	close(p.reload)
	for range 50 { // the gateway looks at the closed channel in between
		if _, err := p.client().Peers(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(); err != nil || strings.Contains(p.log.String(), "reload") {
		t.Errorf("%v\n%s", err, p.log)
	}
}

// Secrets that belong to somebody else are warned of at the start.
func TestRunWarnsOfTheOwnerOfSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "psk")
	if err := os.WriteFile(file, []byte("a secret of more than twenty letters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 1234, -1); err != nil {
		t.Skip("only root can give a file to somebody else: ", err)
	}
	text := strings.Replace(passive(site(eastAddr, "101", "102")), `secret = "thisisnotasecurepsk"`, `secret-file = "`+file+`"`, 1)
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", westAddr, text)
	eventually(t, "warned", func() bool { return strings.Contains(p.log.String(), "belongs to user 1234") })
}

// A recording says in the log whether it contains secrets.
func TestRunSaysWhatItRecords(t *testing.T) {
	for redact, want := range map[bool]string{true: "recording without secrets", false: "recording: it contains the secrets of the configuration"} {
		dir := filepath.Join(t.TempDir(), "recording")
		p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", westAddr, passive(site(eastAddr, "101", "102")),
			func(o *Options) { o.Recording = Recording{Dir: dir, Redact: redact} })
		eventually(t, "running", func() bool { _, err := p.client().Peers(context.Background()); return err == nil })
		if err := p.end(); err != nil {
			t.Error(err)
		}
		if log := p.log.String(); !strings.Contains(log, want) || strings.Count(log, `msg="recording`)+strings.Count(log, "msg=recording") != 1 {
			t.Errorf("redacted %v:\n%s", redact, log)
		}
	}
}
