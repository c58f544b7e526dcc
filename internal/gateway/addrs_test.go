package gateway

import (
	"net/netip"
	"testing"
)

// What is watched is this host: its addresses come once, without loopback's, and
// the watch ends when it is told to.
func TestWatchAddrs(t *testing.T) {
	if all, err := (&addrs{}).list(); err != nil || len(all) == 0 {
		t.Skipf("this host has no address for peers (%v)", err)
	}
	done := make(chan struct{})
	calls := 0
	a := &addrs{}
	a.watch(done, func(list []netip.Addr) {
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
	all, err := (&addrs{}).list()
	if err != nil || len(all) == 0 {
		t.Skipf("this host has no address for peers (%v)", err)
	}
	only := &addrs{listen: all[:1]}
	if list, err := only.list(); err != nil || len(list) == 0 || list[0] != all[0] || len(list) > 1 && list[1] != all[0] {
		t.Errorf("%v of %v, %v", list, all, err)
	}
}
