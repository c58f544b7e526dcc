package ike

import (
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
)

// upWithTickets is both ends up, for longer than a moment.
func (p *pair) upWithTickets() {
	p.t.Helper()
	p.up()
	p.until(time.Minute, "up", p.bothUp)
	p.run(time.Second)
}

// Peers with certificates resume without showing them again. A CRL that comes in
// with a reload voids all tickets, so that who is revoked does not come back; where
// revocation is asked about online, there are no tickets.
func TestResumptionWithCertificates(t *testing.T) {
	k := newCerts()
	leaf, server := k.root.Leaf("a", "p256"), own(k.root.Leaf("b", "p256"))
	pairOf := func(t *testing.T) *pair {
		return newPair(t, 21, goodLink, bothResume, func(a, b *core.Config) {
			sign(a, trustIn(k.root), own(leaf))
			sign(b, trustIn(k.root), server)
			passiveB(b)
		})
	}
	t.Run("as it was", func(t *testing.T) {
		p := pairOf(t)
		p.upWithTickets()
		certs := false
		p.a.e.Trace(func(_ bool, _ message.Header, body []message.Payload) {
			certs = certs || findPayload[*message.Cert](body) != nil
		})
		p.outage()
		p.until(time.Minute, "resumed", p.resumedNow)
		if certs {
			t.Error("certificates were sent")
		}
	})
	t.Run("revoked meanwhile", func(t *testing.T) {
		p := pairOf(t)
		p.upWithTickets()
		revoked := k.root.CRL(epoch.Add(-time.Hour), epoch.Add(240*time.Hour), leaf)
		list := *p.b.cfg
		trust := *list.Trust
		crl, err := x509.ParseRevocationList(revoked)
		if err != nil {
			t.Fatal(err)
		}
		trust.CRLs = append(trust.CRLs, crl)
		list.Trust = &trust
		p.outage()
		p.b.in(core.Reconfigure{Config: &list})
		p.run(time.Minute)
		if p.a.established()+p.b.established() != 0 {
			t.Errorf("a revoked peer is in: %v", p.b.e.SAs())
		}
		if r := p.b.reasons(core.EvNotify); !strings.Contains(r, "is not what it was") {
			t.Errorf("the ticket was refused because %s", r)
		}
		if r := p.b.reasons(core.EvAuthFailed); !strings.Contains(r, "revoked") {
			t.Errorf("and then the certificate because %s", r)
		}
	})
	t.Run("asked about online", func(t *testing.T) {
		p := pairOf(t)
		p.b.cfg.Trust.Authorities[0].CRLs = []string{"http://192.0.2.9/root.crl"}
		p.b.fetchBy(func(_ auth.Fetch, answer func([]byte, error)) {
			p.clock.After(0, func() { answer(k.root.CRL(epoch.Add(-time.Hour), epoch.Add(24*time.Hour)), nil) })
		})
		p.upWithTickets()
		if r := p.b.reasons(core.EvNotify); !strings.Contains(r, "gets no ticket") {
			t.Errorf("the event is %q", r)
		}
		p.outage()
		p.until(time.Minute, "up again", p.bothUp)
		if p.a.e.SAs()[0].Resumed {
			t.Error("resumed")
		}
	})
}

// A ticket does not count for longer than the certificate of the peer.
func TestTicketEndsWithTheCertificate(t *testing.T) {
	k := newCerts()
	leaf := k.root.Leaf("a", "p256")
	p := newPair(t, 22, goodLink, bothResume, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(leaf))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
		passiveB(b)
	})
	p.clock.Run(leaf.Cert.NotAfter.Add(-time.Hour))
	p.upWithTickets()
	sa := p.b.e.SAs()
	if len(sa) != 1 {
		t.Fatal(sa)
	}
	life := time.Duration(0)
	p.b.e.Trace(func(sent bool, _ message.Header, body []message.Payload) {
		if n := findNotify(body, message.NotifyTicketLTOpaque); sent && n != nil {
			life = time.Duration(uint32(n.Data[0])<<24|uint32(n.Data[1])<<16|uint32(n.Data[2])<<8|uint32(n.Data[3])) * time.Second
		}
	})
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(10 * time.Second)
	if life <= 0 || life > time.Hour {
		t.Errorf("it counts for %v", life)
	}
}

// CP, MOBIKE and fragments go in the IKE_AUTH of a resumption as in any other, and
// the road warrior comes back from another address.
func TestResumptionOfARoadWarrior(t *testing.T) {
	r := newRig(t, resumes, givesLeases, func(c *core.Config) {
		c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0")
		c.Peers[0].Profile.MOBIKE, c.Peers[0].Profile.Fragmentation = true, true
	})
	p := newPuppet(r, 1)
	p.init()
	in := p.authLeased("192.168.77.9", p.authPayloads(append(p.offer(wholeSpace(true), wholeSpace(false)), asksAddress(), note(message.NotifyTicketRequest))...)...)
	ticket := granted(t, in)

	q := p.again(2)
	q.addr = netip.MustParseAddrPort("203.0.113.77:500")
	q.first = []message.Payload{note(message.NotifyIKEv2FragmentationSupported)}
	_, ps := q.resume(ticket)
	says(t, ps, "Nonce N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) N(IKEV2_FRAGMENTATION_SUPPORTED) N(CHILDLESS_IKEV2_SUPPORTED)")
	in = q.authLeased("192.168.77.9", q.resumedPayloads(append(q.offer(wholeSpace(true), wholeSpace(false)), asksAddress(),
		note(message.NotifyMOBIKESupported), note(message.NotifyTicketRequest))...)...)
	says(t, in, "IDr AUTH CP SA TSi TSr N(MOBIKE_SUPPORTED) N(TICKET_LT_OPAQUE)")
	q.proves(in)
	if c := findPayload[*message.Config](in); c == nil || c.CfgType != 2 {
		t.Errorf("the reply is %v", c)
	}
	if sas := r.e.SAs(); len(sas) != 1 || !sas[0].Resumed || len(sas[0].Leased) != 1 || sas[0].Remote.Addr() != q.addr.Addr() {
		t.Errorf("%+v", sas)
	}
	if n := len(seen[core.Release](r)); n != 1 {
		t.Errorf("%d addresses were given back, not the old IKE SA's", n)
	}
}

// Additional key exchanges are not run again: what they gave is in SK_d. A rekey
// runs them.
func TestResumptionWithAdditionalKeyExchanges(t *testing.T) {
	p := newPair(t, 23, goodLink, passive, bothResume, func(a, b *core.Config) {
		exchanges(a, "x25519+ml-kem-768")
		exchanges(b, "x25519+ml-kem-768")
	})
	resumedLife(p, nil)
	if !p.resumedNow() {
		t.Fatalf("%v", p.a.e.SAs())
	}
	count := func(x message.ExchangeType) (n int) {
		for _, h := range p.a.sent {
			if h.Exchange == x && !h.Response() {
				n++
			}
		}
		return n
	}
	if count(message.ExchangeIntermediate) != 1 {
		t.Errorf("%d IKE_INTERMEDIATE", count(message.ExchangeIntermediate))
	}
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(10 * time.Second)
	if count(message.ExchangeFollowUpKE) != 1 {
		t.Errorf("%d IKE_FOLLOWUP_KE", count(message.ExchangeFollowUpKE))
	}
	p.outage()
	p.until(time.Minute, "resumed again", p.resumedNow)
}

// While the ticket waits for an answer, the peer connects by itself: nothing is left
// to begin, however the peer answers the ticket.
func TestPeerConnectsWhileATicketWaits(t *testing.T) {
	for name, nack := range map[string]bool{"no answer": false, "TICKET_NACK": true} {
		t.Run(name, func(t *testing.T) {
			r, p := clientOf(t, lifeTicket(86400, "ticket"))
			p.dies()
			p.presented("ticket")
			q := newPuppet(r, 2)
			says(t, q.connect(), "IDr AUTH SA TSi TSr")
			says(t, q.request(message.ExchangeInformational), "")
			if nack {
				p.replyResume(0, note(message.NotifyTicketNack))
			}
			r.pass(time.Minute)
			for _, s := range r.take() {
				if h := mustHeader(t, s.Data); h.Exchange == message.ExchangeIKESAInit {
					t.Fatalf("the endpoint connects; %s", r.reasons())
				}
			}
			if len(r.e.SAs()) != 1 || len(r.children) != 1 || len(r.e.sessions) != 0 {
				t.Errorf("%v, %d CHILD SAs, %d sessions", r.e.SAs(), len(r.children), len(r.e.sessions))
			}
		})
	}
}
