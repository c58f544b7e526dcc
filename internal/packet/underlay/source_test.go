package underlay

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSourceFor(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	if got, err := SourceFor(loopback, 0); err != nil || got != loopback {
		t.Errorf("towards %v: %v, %v", loopback, got, err)
	}
	// The system sends to its own addresses from them.
	if got, err := SourceFor(netip.MustParseAddr("127.0.0.9"), 0); err != nil || !got.IsLoopback() || !got.Is4() {
		t.Errorf("towards 127.0.0.9: %v, %v", got, err)
	}
	if got, err := SourceFor(netip.Addr{}, 0); err == nil || !strings.Contains(err.Error(), "local-address") {
		t.Errorf("towards nobody: %v, %v", got, err)
	}
}
