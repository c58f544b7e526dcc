package ike

import (
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// A gateway that takes the ticket and then refuses the IKE SA for another reason than the proof has refused it: that
// is said once, and nothing begins anew at once. A refused proof may be because of the ticket.
func TestResumedAndRefused(t *testing.T) {
	for kind, anew := range map[message.NotifyType]bool{message.NotifyNoProposalChosen: false, message.NotifyInvalidSyntax: false, message.NotifyAuthenticationFailed: true} {
		r, p := clientOf(t, lifeTicket(86400, "ticket"))
		p.dies()
		p.presented("ticket")
		h, _ := p.acceptResume()
		r.take()
		failures := func() int {
			return r.count(core.EvInitFailed) + r.count(core.EvAuthFailed) + r.count(core.EvNoProposal)
		}
		failed, ups := failures(), r.count(core.EvIKEUp)
		p.answer(h, note(kind))
		var began []message.ExchangeType
		for _, s := range r.take() {
			began = append(began, mustHeader(t, s.Data).Exchange)
		}
		if slices.Contains(began, message.ExchangeIKESAInit) != anew {
			t.Errorf("%v: it is followed by %v", kind, began)
		}
		if said := strings.Contains(r.reasons(), "it is made anew"); said != anew {
			t.Errorf("%v: %s", kind, r.reasons())
		}
		if n := failures() - failed; n != map[bool]int{false: 1, true: 0}[anew] {
			t.Errorf("%v: %d failures are told: %s", kind, n, r.reasons())
		}
		if r.pass(5 * time.Second); r.count(core.EvIKEUp) != ups {
			t.Errorf("%v: it is up", kind)
		}
	}
}
