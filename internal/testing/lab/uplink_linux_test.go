package lab

import (
	"context"
	"strings"
	"testing"
	"time"
)

// The uplink of a gateway goes while its address stays, or its address goes: with MOBIKE the IKE SA moves to the other uplink,
// without it another IKE SA is made from there. Nobody waits until the peer counts as dead.
//
// The router filters by reverse path: it ignores an ARP request whose sender address is not of that link. Linux sends the request
// with the source address of the packet that waits. So while ESP leaves from the old address, nothing leaves from the new one.
func TestUplinkIsGone(t *testing.T) {
	Need(t)
	const another = "our address that leads to the peer is another one"
	for _, c := range []struct {
		name, profile, command string
		says                   string // in the log
	}{
		{"route, MOBIKE", "", "ip route del default via 10.9.0.254", "another uplink leads to the peer"},
		{"route", withoutMOBIKE, "ip route del default via 10.9.0.254", another},
		{"address", withoutMOBIKE, "ip addr del 10.9.0.1/24 dev eth0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := newRecoverySite(ctx, t, &fault{name: c.name, far: farCulvert, profile: c.profile})
			s.router.Run("sh", "-e", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done")
			traffic := s.host.Start("traffic", nil, "ping", "-D", "-i", "0.1", "10.2.0.1")
			defer traffic.Kill()
			passes := func(since time.Time) func() error {
				return func() error {
					if list := answers(traffic.Log()); len(list) == 0 || !list[len(list)-1].at.After(since) {
						return context.DeadlineExceeded
					}
					return nil
				}
			}
			if err := Until(ctx, passes(time.Now())); err != nil {
				t.Fatal(err, s.east.Log())
			}
			before := len(s.east.Log())
			s.guardSite.east.Run("sh", "-e", "-c", c.command)
			if err := Until(ctx, passes(time.Now().Add(time.Second))); err != nil {
				t.Fatal(err, s.east.Log())
			}
			log := s.east.Log()[before:]
			if strings.Contains(log, "event=peer-dead") || !strings.Contains(log, c.says) {
				t.Errorf("the log does not say %q, or that the peer was dead\n%s", c.says, log)
			}
		})
	}
}
