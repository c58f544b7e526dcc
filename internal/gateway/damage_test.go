package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"culvert/internal/packet/underlay"
	"culvert/internal/state/store"
)

// A damaged file with the state keeps no gateway from starting, and one that is damaged
// later nothing from being written: clients get addresses all the while.
func TestRunWithDamagedState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, store.FileName)
	if err := os.WriteFile(path, bytes.Repeat([]byte("no database\n"), 3000), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	ctx := context.Background()
	server := launch(t, c, "server", eastAddr, fmt.Sprintf("[gateway]\nstate-dir = %q\n", dir)+warriorServer)
	eventually(t, "the server answering", func() bool { _, err := server.client().Peers(ctx); return err == nil })
	connect := func(name string) {
		t.Helper()
		client := launch(t, c, name, westAddr, strings.Replace(warriorClient, "192.0.2.2", eastAddr.String(), 1))
		eventually(t, name+" has an address", func() bool {
			plans := client.host.Plans()
			return len(plans) > 0 && len(plans[len(plans)-1].Addresses) == 1
		})
		if err := client.end(); err != nil {
			t.Error(err)
		}
	}
	connect("first")
	if n := strings.Count(server.log.String(), "is set aside"); n != 1 {
		t.Errorf("set aside %d times\n%s", n, server.log)
	}
	if runtime.GOOS != "windows" { // where a mapped file cannot be cut
		if err := os.Truncate(path, 5000); err != nil {
			t.Fatal(err)
		}
		connect("second")
		eventually(t, "set aside again", func() bool { return strings.Count(server.log.String(), "is set aside") == 2 })
	}
	if err := server.end(); err != nil {
		t.Error(err)
	}
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leases := 0
	err = s.View(func(tx store.Tx) error {
		return tx.Each("leases", func(_, _ []byte) error { leases++; return nil })
	})
	if err != nil || leases == 0 || s.Close() != nil {
		t.Errorf("%d leases are on the disk, %v", leases, err)
	}
}
