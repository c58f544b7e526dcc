package gateway

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"culvert/config"
	"culvert/internal/packet/underlay"
	"culvert/internal/state/lease"
	"culvert/internal/state/store"
)

// remembering gives a process a store that outlives it.
func remembering(s store.Store) func(*Options) {
	return func(o *Options) {
		edges := o.Edges
		o.Edges = func(g *config.Gateway) (Edges, error) {
			e, err := edges(g)
			e.Store = func(string) (store.Store, error) { return kept{s}, nil }
			return e, err
		}
	}
}

// withLease is a store in which somebody has an address of warriorServer's pool.
func withLease(t *testing.T) *store.Memory {
	t.Helper()
	s := &store.Memory{}
	b, err := lease.Open(s, start)
	if err != nil {
		t.Fatal(err)
	}
	b.SetPools(poolsOf(parse(t, warriorServer)))
	if _, err := b.Take(start, lease.Request{Pool: "ike2-pool", Owner: "a", Holder: 1, V4: true}); err != nil {
		t.Fatal(err)
	}
	b.Release(start, 1)
	if _, err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	return s
}

// A reload that the host refuses leaves the pools as they are.
func TestRefusedReloadLeavesThePools(t *testing.T) {
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", eastAddr, warriorServer, remembering(withLease(t)))
	ctx := context.Background()
	eventually(t, "started", func() bool { return len(p.host.Plans()) == 1 })
	before, err := p.client().Pools(ctx)
	if err != nil || len(before) == 0 || before[0].Kept != 1 {
		t.Fatalf("pools %+v, %v", before, err)
	}
	p.host.Fail(errors.New("no"))
	writeFile(t, p.path, strings.Replace(warriorServer, "192.168.77.2-192.168.77.254", "192.168.78.2-192.168.78.254", 1))
	if _, err := p.client().Reload(ctx); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Fatalf("reloaded: %v", err)
	}
	after, err := p.client().Pools(ctx)
	if err != nil || after[0] != before[0] {
		t.Errorf("pools %+v, %v; before the reload that was refused %+v", after, err, before)
	}
}
