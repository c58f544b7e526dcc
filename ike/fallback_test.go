package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// refuser is a peer that answers each CREATE_CHILD_SA with the same refusal, and makes IKE SAs
// as often as somebody asks.
type refuser struct {
	r       *rig
	says    *message.Notify
	at      []*puppet           // its IKE SAs
	refused int                 // how often it has refused
	auths   [][]message.Payload // of the IKE_AUTH requests after the first
	deleted int                 // IKE SAs that the endpoint deleted
}

func newRefuser(r *rig, says *message.Notify) *refuser {
	p := newPuppet(r, 1)
	p.accept()
	r.take()
	return &refuser{r: r, says: says, at: []*puppet{p}}
}

// pass lets time go by until the end, or until done.
func (f *refuser) pass(d time.Duration, done func() bool) bool {
	for end := f.r.now.Add(d); f.r.now.Before(end); f.r.pass(time.Second) {
		for len(f.r.sends) > 0 {
			s := f.r.sends[0]
			f.r.sends = f.r.sends[1:]
			f.take(s)
		}
		if done() {
			return true
		}
	}
	return false
}

func (f *refuser) take(s core.Send) {
	h, err := message.ParseHeader(s.Data)
	if err != nil || h.Response() {
		return
	}
	if h.Exchange == message.ExchangeIKESAInit {
		if slices.ContainsFunc(f.at, func(p *puppet) bool { return p.spii == h.SPIi }) {
			return
		}
		p := newPuppet(f.r, byte(len(f.at)+1))
		f.at = append(f.at, p)
		f.r.sends = append([]core.Send{s}, f.r.sends...)
		rest := f.r.sends[1:]
		f.r.sends = f.r.sends[:1]
		_, ps := p.called()
		p.spir, p.nr = 0x2222222222222222+uint64(len(f.at)), nonce(byte(40+len(f.at))).Data
		p.agree(ps, &p.ni)
		p.derive(mac(slices.Concat(p.ni, p.nr), p.shared))
		p.replyInit(p.spir, p.initPayloads()...)
		p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
		f.r.sends = append(rest, f.r.sends...)
		return
	}
	i := slices.IndexFunc(f.at, func(p *puppet) bool { return p.spii == h.SPIi })
	if i < 0 {
		f.r.t.Fatalf("%v for an IKE SA that the peer does not have", h.Exchange)
	}
	p := f.at[i]
	h, ps := p.open(s.Data)
	p.note(ps)
	switch {
	case h.Exchange == message.ExchangeIKEAuth:
		f.auths = append(f.auths, ps)
		p.answer(h, p.authPayloads(p.childAnswer()...)...)
	case h.Exchange == message.ExchangeCreateChildSA:
		f.refused++
		p.answer(h, f.says)
	default:
		if d := findPayload[*message.Delete](ps); d != nil && d.Protocol == 1 {
			f.deleted++
		}
		p.answer(h)
	}
}

func (f *refuser) seals() bool {
	for _, k := range f.r.children {
		if k.active && !k.retired {
			return true
		}
	}
	return false
}

// A peer that refuses to replace the CHILD SA, whatever it says, gets a new IKE SA in time, whose
// IKE_AUTH makes a CHILD SA at once. The old one stays until the new one is up.
func TestFallBackToNewIKESA(t *testing.T) {
	for _, refusal := range []*message.Notify{note(message.NotifyNoAdditionalSAs), note(message.NotifyNoProposalChosen), note(message.NotifyTemporaryFailure),
		note(message.NotifyTSUnacceptable), {Kind: message.NotifyInvalidKEPayload, Data: []byte{0, 18}}} {
		t.Run(refusal.Kind.String(), func(t *testing.T) {
			r := newRig(t, initiates)
			f := newRefuser(r, refusal)
			begun := r.now
			up := f.pass(30*time.Minute, func() bool {
				if !f.seals() {
					t.Fatalf("nothing seals after %v, %d refusals; %s", r.now.Sub(begun), f.refused, r.reasons())
				}
				return f.deleted > 0
			})
			if !up || len(f.at) != 2 || r.established() != 1 {
				t.Fatalf("%d IKE SAs, %d deleted, %d refusals; %s", len(f.at), f.deleted, f.refused, r.reasons())
			}
			says(t, f.auths[0], "IDi AUTH SA TSi TSr")
			most := map[message.NotifyType]int{message.NotifyNoAdditionalSAs: 2, message.NotifyTemporaryFailure: 20}[refusal.Kind]
			if most == 0 {
				most = 4 // the last one while the new IKE SA takes over
			}
			if f.refused > most {
				t.Errorf("%d refusals until the new IKE SA is there, at most %d are worth waiting for", f.refused, most)
			}
			// That one is replaced in the same way, and so on.
			f.deleted = 0
			if !f.pass(30*time.Minute, func() bool { return f.deleted > 0 && f.seals() }) || len(f.at) != 3 {
				t.Errorf("%d IKE SAs after the second lifetime; %s", len(f.at), r.reasons())
			}
		})
	}
}

// The same where it refuses the rekey of the IKE SA.
func TestFallBackWhenIKERekeyIsRefused(t *testing.T) {
	for _, refusal := range []message.NotifyType{message.NotifyNoAdditionalSAs, message.NotifyNoProposalChosen, message.NotifyTemporaryFailure} {
		r := newRig(t, initiates, func(c *core.Config) {
			c.Peers[0].Profile.Lifetime = 10 * time.Minute
			c.Policies[0].Proposal.Lifetime = 10 * time.Hour
		})
		f := newRefuser(r, note(refusal))
		ok := f.pass(10*time.Minute, func() bool {
			if !f.seals() {
				t.Fatalf("%v: nothing seals; %s", refusal, r.reasons())
			}
			return f.deleted > 0
		})
		if !ok || len(f.at) != 2 || r.established() != 1 || len(r.children) == 0 {
			t.Errorf("%v: %d IKE SAs, %d refusals; %s", refusal, len(f.at), f.refused, r.reasons())
		}
	}
}

// A CHILD SA that the peer deletes and does not let us make anew: IKE_AUTH made it before.
func TestFallBackForDeletedChild(t *testing.T) {
	r := newRig(t, initiates)
	f := newRefuser(r, note(message.NotifyNoProposalChosen))
	p := f.at[0]
	p.nextID = 0
	p.request(message.ExchangeInformational, deleteESP(p.spi))
	if !f.pass(2*time.Minute, func() bool { return f.seals() && len(f.at) == 2 && f.deleted == 1 }) {
		t.Errorf("%d IKE SAs, %d refusals; %s", len(f.at), f.refused, r.reasons())
	}
}

// To whom we may not connect gets no new IKE SA. It is told that there is none, so that it
// connects itself.
func TestNoFallBackToPassivePeer(t *testing.T) {
	r, p := settled(t)
	gone := false
	for end := r.now.Add(31 * time.Minute); r.now.Before(end); r.pass(time.Second) {
		for _, s := range r.take() {
			h, ps := p.open(s.Data)
			switch d := findPayload[*message.Delete](ps); {
			case h.Exchange == message.ExchangeIKESAInit:
				t.Fatal("the endpoint connects to a peer that is passive")
			case h.Response():
			case h.Exchange == message.ExchangeCreateChildSA:
				p.answer(h, note(message.NotifyNoAdditionalSAs))
			default:
				gone = gone || d != nil && d.Protocol == 1
				p.answer(h)
			}
		}
	}
	if !gone || len(r.e.SAs()) != 0 {
		t.Errorf("%d IKE SAs stay without a CHILD SA; %s", len(r.e.SAs()), r.reasons())
	}
}

// What it says names pfs-group: the algorithms were agreed on before.
func TestRefusedRekeyNamesPFS(t *testing.T) {
	r, p := settled(t, func(c *core.Config) {
		c.Policies[0].Proposal.PFS = []suite.KeyExchange{*suite.KeyExchangeByName("x25519")}
	})
	r.in(core.Expire{Child: 1})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	p.answer(h, note(message.NotifyNoProposalChosen))
	if d := r.event(core.EvNotify).Detail; d == nil || d.Part != "group" || !strings.Contains(d.Hint, "pfs-group") {
		t.Errorf("the event says %+v", d)
	}
}
