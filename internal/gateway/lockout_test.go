package gateway

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// A gateway does not take over a configuration by which the host that it runs on loses
// its own network: it does not start, and a reload changes nothing.
func TestLockedOut(t *testing.T) {
	var own atomic.Pointer[config.OwnNetwork]
	own.Store(&config.OwnNetwork{Addr: netip.MustParseAddr("10.1.102.1"), Prefix: netip.MustParsePrefix("10.1.102.0/24"), Where: "eth0"})
	networks := func(o *Options) {
		edges := o.Edges
		o.Edges = func(g *config.Gateway) (Edges, error) {
			e, err := edges(g)
			e.Networks = func() ([]config.OwnNetwork, error) { return []config.OwnNetwork{*own.Load()}, nil }
			return e, err
		}
	}
	const fault = "policy.dst-address: 10.1.102.0/24 is the network of this host's eth0"
	empty := &cable{ends: map[netip.Addr]*underlay.Memory{}}

	p := launch(t, empty, "p", westAddr, site(eastAddr, "101", "102"), networks)
	var faults config.Faults
	select {
	case err := <-p.ended:
		close(p.ended)
		if !errors.As(err, &faults) || len(faults) != 1 || !strings.Contains(faults[0].String(), fault) || faults[0].Line == 0 {
			t.Errorf("started, and ended with %v", err)
		}
	case <-time.After(limit):
		t.Fatal("it started")
	}
	if !p.host.Closed() || len(p.host.Plans()) > 0 {
		t.Errorf("the host was changed, or is still taken: %v", p.host.Plans())
	}
	if _, err := os.Stat(p.door); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is there: %v", err)
	}

	q := launch(t, empty, "q", westAddr, site(eastAddr, "101", "103"), networks)
	eventually(t, "started", func() bool { return len(q.host.Plans()) == 1 })
	writeFile(t, q.path, site(eastAddr, "101", "102"))
	if _, err := q.client().Reload(context.Background()); err == nil || !strings.Contains(err.Error(), fault) {
		t.Errorf("reloaded: %v", err)
	}
	if len(q.host.Plans()) != 1 {
		t.Errorf("a refused reload changed the host: %v", q.host.Plans())
	}
	// A network that the host joins later ends nothing: it is told once.
	own.Store(&config.OwnNetwork{Addr: netip.MustParseAddr("10.1.103.1"), Prefix: netip.MustParsePrefix("10.1.103.0/24"), Where: "eth0"})
	for n := 1; n < 3; n++ {
		q.host.Disturb("")
		eventually(t, "compared again", func() bool { return q.host.Restores() == n })
	}
	if err := q.end(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(q.log.String(), "10.1.103.0/24 is the network of this host's eth0"); n != 1 {
		t.Errorf("told %d times\n%s", n, q.log)
	}
}

// Where nobody can say in which networks the host is, the gateway starts all the same.
func TestLockedOutUnknown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	writeFile(t, path, site(eastAddr, "101", "102"))
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var log buffer
	err := Run(ctx, Options{ConfigPath: path, Control: filepath.Join(t.TempDir(), "s"), Stderr: &log, Edges: func(*config.Gateway) (Edges, error) {
		return Edges{Host: &tun.MemoryHost{}, Device: tun.NewMemory("culvert0", 1400), Conn: underlay.NewMemory(westAddr, 500, 4500, func(underlay.Packet) {}),
			Source:   func(netip.Addr) (netip.Addr, error) { return westAddr, nil },
			Networks: func() ([]config.OwnNetwork, error) { return nil, os.ErrPermission }}, nil
	}})
	if err != nil || !strings.Contains(log.String(), "the networks of this host cannot be read") {
		t.Errorf("%v\n%s", err, &log)
	}
}
