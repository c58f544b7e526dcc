package lab

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A passive peer that is killed unseen and started again, with default settings at our end, carries traffic again long
// before dead peer detection has found out (dpd-interval is two minutes, and a question is repeated for 72 s). The
// restarted gateway says that it knows neither our packets nor our IKE SA. strongSwan says nothing.
func TestPassivePeerIsRestarted(t *testing.T) {
	Need(t)
	for name, start := range map[string]func(ctx context.Context, s *guardSite) (kill func(), restart func(context.Context)){
		"culvert": func(ctx context.Context, s *guardSite) (func(), func(context.Context)) {
			west := s.west.Culvert(ctx, "", passive(tunnelConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24")))
			return func() { west.Kill() }, west.Restart
		},
		"strongswan": func(ctx context.Context, s *guardSite) (func(), func(context.Context)) {
			west := s.west.StrongSwan(ctx, passiveSwanctl)
			return func() { west.Kill() }, west.Restart
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			l := New(t)
			s := newGuardSite(l)
			kill, restart := start(ctx, s)
			east := s.east.Culvert(ctx, "", tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24"))
			passes := func() error {
				_, err := s.host.Try("ping", "-c", "1", "-W", "0.3", "10.2.0.1")
				return err
			}
			if err := Until(ctx, passes); err != nil {
				t.Fatal(err, east.Log())
			}
			traffic := s.host.Start("traffic", nil, "ping", "-q", "-i", "0.2", "10.2.0.1")
			defer traffic.Kill()
			time.Sleep(3 * time.Second) // so that the SA has been in use for a while
			kill()
			killed := time.Now()
			restart(ctx)
			back := time.Now()
			if err := Until(ctx, passes); err != nil {
				t.Fatal(err, east.Log())
			}
			took := time.Since(back)
			t.Logf("traffic again %.1f s after the restart, %.1f s after the kill", took.Seconds(), time.Since(killed).Seconds())
			if took > time.Minute {
				t.Errorf("traffic again after %v\n%s", took, east.Log())
			}
			if log := east.Log(); strings.Count(log, "event=peer-dead") != 1 || !strings.Contains(log, "the peer did not answer it any more, and has connected anew") {
				t.Errorf("the log does not say that the peer was dead\n%s", log)
			}
		})
	}
}

const passiveSwanctl = `
connections {
	c {
		version = 2
		local_addrs = 10.8.0.2
		remote_addrs = 10.9.0.1
		proposals = aes128-sha1-modp1024,aes128-sha256-modp2048,aes256-sha256-modp2048,default
		local { auth = psk }
		remote { auth = psk }
		children {
			c {
				local_ts = 10.2.0.0/24
				remote_ts = 10.1.0.0/24
				esp_proposals = aes256-sha1,aes128-sha1,aes256-sha256,default
			}
		}
	}
}
secrets {
	ike { secret = "correct horse battery staple" }
}
`
