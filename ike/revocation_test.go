package ike

import (
	"errors"
	"strings"
	"testing"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/internal/testing/simnet"
)

// fetchBy has a side's Fetches done by get, which answers when it likes.
func (s *side) fetchBy(get func(auth.Fetch, func([]byte, error))) {
	s.system = func(a core.Ask) (core.Answer, bool) {
		f, ok := a.Work.(auth.Fetch)
		if ok {
			get(f, func(data []byte, err error) { s.in(core.Answer{ID: a.ID, Data: data, Err: err}) })
		}
		return core.Answer{}, ok // an answer that nobody waits for
	}
}

// How a is asked after by b, and what comes of it: the answers to Fetch are the
// system's, here after 5 s as from a server that hangs.
func TestRevocationIsAsked(t *testing.T) {
	k := newCerts()
	leaf := k.root.Leaf("a", "p256")
	server := own(k.root.Leaf("b", "p256"))
	fresh := k.root.CRL(epoch.Add(-time.Hour), epoch.Add(time.Hour))
	revoked := k.root.CRL(epoch.Add(-time.Hour), epoch.Add(time.Hour), leaf)
	for _, c := range []struct {
		name   string
		strict bool
		data   []byte // nil: no answer
		reason string // of the refusal
		event  string // of what does not refuse
	}{
		{"good", true, fresh, "", ""},
		{"revoked", false, revoked, "was revoked on", ""},
		{"no answer", false, nil, "", "is not known"},
		{"no answer, strict", true, nil, `set crl-policy = "if-present" in certificate "root"`, ""},
		{"no CRL, strict", true, []byte("rubbish"), "it is no CRL", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 11, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				sign(a, trustIn(k.root), own(leaf))
				sign(b, trustIn(k.root), server)
				b.Trust.Authorities[0].CRLs, b.Trust.Authorities[0].Strict = []string{"http://192.0.2.9/root.crl"}, c.strict
				passiveB(b)
			})
			asked := 0
			p.b.fetchBy(func(f auth.Fetch, answer func([]byte, error)) {
				asked++
				if f.URL != "http://192.0.2.9/root.crl" || f.Limit != auth.MaxCRL {
					t.Errorf("%s, at most %d bytes, is asked for", f.URL, f.Limit)
				}
				p.clock.After(auth.FetchTimeout, func() {
					if c.data == nil {
						answer(nil, errors.New("no answer within 5s"))
						return
					}
					answer(c.data, nil)
				})
			})
			p.up()
			p.run(4 * time.Second)
			if p.b.established() != 0 || asked != 1 {
				t.Errorf("before the answer: %d SAs, asked %d times", p.b.established(), asked)
			}
			p.run(1500 * time.Millisecond)
			got := p.b.reasons(core.EvAuthFailed)
			if c.reason == "" && (!p.bothUp() || got != "") || c.reason != "" && (p.b.established() != 0 || !strings.Contains(got, c.reason)) {
				t.Errorf("b has %d SAs and says %q, not %q", p.b.established(), got, c.reason)
			}
			if ev := p.b.reasons(core.EvCertificate); !strings.Contains(ev, c.event) || c.event == "" && ev != "" {
				t.Errorf("the event is %q, not %q", ev, c.event)
			}
		})
	}
}

// An SA that ends while a server is asked leaves nothing behind, and the answer
// that comes afterwards means nothing.
func TestRevocationAnswersTooLate(t *testing.T) {
	k := newCerts()
	p := newPair(t, 12, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256")))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
		b.Trust.Authorities[0].CRLs = []string{"http://192.0.2.9/root.crl"}
		passiveB(b)
	})
	p.b.fetchBy(func(_ auth.Fetch, answer func([]byte, error)) {
		p.clock.After(time.Second, func() { answer(nil, errors.New("no answer")) })
	})
	p.up()
	p.run(500 * time.Millisecond)
	p.a.in(core.Command{Do: core.Shutdown})
	p.b.in(core.Command{Do: core.Shutdown})
	p.run(5 * time.Second)
	if !p.b.e.Idle() || p.b.count(core.EvIKEUp) != 0 {
		t.Errorf("b has %v", p.b.e.SAs())
	}
}

// The authority between a certificate and the trusted one was revoked.
func TestRevokedIntermediate(t *testing.T) {
	k := newCerts()
	crl := k.root.CRL(epoch.Add(-time.Hour), epoch.Add(time.Hour), k.mid)
	p := newPair(t, 13, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.mid.Leaf("a", "p256"), k.mid))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
		b.Trust.Authorities[0].CRLs = []string{"http://192.0.2.9/root.crl"}
		passiveB(b)
	})
	p.b.fetchBy(func(_ auth.Fetch, answer func([]byte, error)) { answer(crl, nil) })
	p.up()
	p.run(time.Second)
	if got := p.b.reasons(core.EvAuthFailed); !strings.Contains(got, `intermediate" was revoked on`) || p.b.established() != 0 {
		t.Errorf("b has %d SAs and says %q", p.b.established(), got)
	}
}

// A client is revoked while it is connected: it stays until its proof has to be made anew, and not longer, make before
// break or not.
func TestRevokedMeanwhile(t *testing.T) {
	k := newCerts()
	leaf := k.root.Leaf("a", "p256")
	good, revoked := k.root.CRL(epoch.Add(-time.Hour), epoch.Add(time.Minute)), k.root.CRL(epoch.Add(-time.Hour), epoch.Add(time.Hour), leaf)
	p := newPair(t, 14, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(leaf))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
		b.Trust.Authorities[0].CRLs = []string{"http://192.0.2.9/root.crl"}
		b.Peers[0].Profile.Reauth = 10 * time.Minute
		passiveB(b)
	})
	crl := good
	p.b.fetchBy(func(_ auth.Fetch, answer func([]byte, error)) { answer(crl, nil) })
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	crl = revoked
	p.run(7 * time.Minute)
	if !p.bothUp() {
		t.Fatalf("gone before its time: %v", p.b.e.SAs())
	}
	p.run(4 * time.Minute)
	if got := p.b.reasons(core.EvAuthFailed); !strings.Contains(got, "was revoked on") || p.b.established() != 0 || p.a.established() != 0 {
		t.Errorf("a has %d SAs, b has %d and says %q", p.a.established(), p.b.established(), got)
	}
}
