package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
)

func TestNameservers(t *testing.T) {
	got := usable(nameservers("# a\nnameserver 127.0.0.53\nnameserver 192.0.2.53 # b\nsearch x\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nnameserver\n"))
	if fmt.Sprint(got) != "[192.0.2.53]" { // three are read, as resolvers do
		t.Errorf("%v", got)
	}
}

// Where the system's resolver has no answer, the DNS servers are asked past the
// policies, and not where there is no such name.
func TestResolvePast(t *testing.T) {
	var asked atomic.Int32 // the resolver dials from two goroutines
	past := New(func(_ context.Context, network, address string) (net.Conn, error) {
		asked.Add(1)
		return nil, errors.New("no way to " + address)
	})
	if a, err := Resolve("192.0.2.7", past); err != nil || a.String() != "192.0.2.7" || asked.Load() != 0 {
		t.Error(a, err, asked.Load())
	}
	if _, err := past.LookupNetIP(t.Context(), "ip", "gw.culvert.invalid."); err == nil || asked.Load() == 0 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
}
