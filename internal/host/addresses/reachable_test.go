package addresses

import (
	"net/netip"
	"testing"
)

// What is watched is this host: its addresses come once, without loopback's, and
// the watch ends when it is told to.
func TestWatchAddrs(t *testing.T) {
	if all, err := (&Reachable{}).List(); err != nil || len(all) == 0 {
		t.Skipf("this host has no address for peers (%v)", err)
	}
	done := make(chan struct{})
	calls := 0
	a := &Reachable{}
	a.Watch(done, func(list []netip.Addr) {
		calls++
		for _, x := range list {
			if x.IsLoopback() || !x.IsGlobalUnicast() || x.Is4In6() {
				t.Errorf("%v is not an address for peers", x)
			}
		}
		close(done)
	})
	if calls != 1 {
		t.Errorf("told %d times", calls)
	}
}

func TestWatchAddrsThatWeListenOn(t *testing.T) {
	all, err := (&Reachable{}).List()
	if err != nil || len(all) == 0 {
		t.Skipf("this host has no address for peers (%v)", err)
	}
	only := &Reachable{Listen: all[:1]}
	if list, err := only.List(); err != nil || len(list) == 0 || list[0] != all[0] || len(list) > 1 && list[1] != all[0] {
		t.Errorf("%v of %v, %v", list, all, err)
	}
}

// The networks are those of this host.
func TestNetworks(t *testing.T) {
	all, err := (&Reachable{}).List()
	if err != nil || len(all) == 0 {
		t.Skipf("this host has no address for peers (%v)", err)
	}
	networks, err := (&Reachable{}).Networks()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		if !n.Prefix.Contains(n.Addr) || n.Prefix != n.Prefix.Masked() || n.Where == "" || n.Addr.IsLoopback() || n.Addr.Is4In6() {
			t.Errorf("%+v", n)
		}
	}
}
