package gateway

import (
	"errors"
	"net/netip"
	"testing"

	"culvert/ike/core"
)

// Whether packets from the address in use stray is asked where another one leads to the peer, and nowhere else.
func TestSourceFor(t *testing.T) {
	own, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	for name, c := range map[string]struct {
		own, leads, want netip.Addr
		strays           func(_, _ netip.Addr) bool
		wantStrays       bool
	}{
		"another leads there":   {own, other, other, func(a, _ netip.Addr) bool { return a == own }, true},
		"by a link that has it": {own, other, other, func(_, _ netip.Addr) bool { return false }, false},
		"the same leads there":  {own, own, own, func(_, _ netip.Addr) bool { return true }, false},
		"none is in use":        {netip.Addr{}, other, other, func(_, _ netip.Addr) bool { return true }, false},
		"nobody knows":          {own, other, other, nil, false},
	} {
		n := &names{source: func(netip.Addr) (netip.Addr, error) { return c.leads, nil }, strays: c.strays}
		b, err := n.sourceFor(core.SourceFor{Remote: netip.MustParseAddr("203.0.113.1"), Own: c.own})
		if got, strays := core.UnpackSource(b); err != nil || got != c.want || strays != c.wantStrays {
			t.Errorf("%s: %v, %v, %v", name, got, strays, err)
		}
	}
	failed := errors.New("no route")
	n := &names{source: func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, failed }}
	if _, err := n.sourceFor(core.SourceFor{Own: own}); !errors.Is(err, failed) {
		t.Errorf("nothing leads there: %v", err)
	}
}
