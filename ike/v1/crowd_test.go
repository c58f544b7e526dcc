package v1

import (
	"iter"
	"net/netip"
	"testing"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// crowd counts who walks through all SAs of a peer.
type crowd struct {
	ikesa.Others
	same  []*ikesa.SA
	walks int
}

func (c *crowd) Namesakes(*ikesa.SA) []*ikesa.SA { return c.same }
func (c *crowd) Siblings(*ikesa.SA) iter.Seq[*ikesa.SA] {
	c.walks++
	return func(func(*ikesa.SA) bool) {}
}

// A hundred thousand road warriors are of one peer: one that begins anew does not meet all. Neither does another gateway whose SA of
// before is over.
func TestNewcomerDoesNotMeetAll(t *testing.T) {
	one := netip.MustParsePrefix("192.0.2.2/32")
	for _, c := range []struct {
		name  string
		peer  core.Peer
		state ikesa.State
		walks int
	}{
		{"a gateway", core.Peer{Address: one}, Established, 1},
		{"a gateway whose SA is over", core.Peer{Address: one}, Closing, 0},
		{"a passive peer", core.Peer{Address: one, Passive: true}, Established, 0},
		{"road warriors", core.Peer{Address: netip.MustParsePrefix("0.0.0.0/0")}, Established, 0},
	} {
		old := &ikesa.SA{Peer: &c.peer, State: c.state, Env: core.NewEnv([32]byte{})}
		others := &crowd{same: []*ikesa.SA{old}}
		n := &SA{base: &ikesa.SA{Owner: ikesa.Owner{Others: others}, Peer: &c.peer, State: Closing, Env: old.Env}}
		if n.renews(); others.walks != c.walks {
			t.Errorf("%s: %d walks through all SAs of the peer, not %d", c.name, others.walks, c.walks)
		}
	}
}
