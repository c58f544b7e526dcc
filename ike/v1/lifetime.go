package v1

import (
	"fmt"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// How long a CHILD SA lives is said in its proposal. What a responder does with what the initiator
// says, proposal-check decides:
//
//	obey     it is as the initiator says
//	strict   the same, but longer than ours is refused
//	claim    the shorter one counts; where that is ours, RESPONDER-LIFETIME says so (RFC 2407 §4.6.3.1)
//	exact    another one than ours is refused
//
// What an initiator says nothing of is as we have it.

// life is a lifetime; 0: no limit, or nothing is said.
type life struct {
	time  time.Duration
	bytes uint64
}

// maxSeconds and maxKilobytes bound what a peer wants: no timer is set for longer, and no sum overflows.
const (
	maxSeconds   = 10 * 365 * 24 * 3600
	maxKilobytes = 1 << 50
)

func lifeOf(l isakmp.Lifetime) life {
	return life{time.Duration(min(l.Seconds, maxSeconds)) * time.Second, min(l.Kilobytes, maxKilobytes) * 1024}
}

// minPhase1 bounds how often a peer can have us make phase 1 anew.
const minPhase1 = time.Minute

// agreedLife is how long phase 1 lives, for the responder: for the shorter of the two lifetimes.
func agreedLife(ours time.Duration, said life) time.Duration {
	if said.time > 0 && said.time < ours {
		return max(said.time, min(minPhase1, ours))
	}
	return ours
}

func (l life) String() string {
	s := l.time.String()
	if l.bytes > 0 {
		s += fmt.Sprintf(" and %d bytes", l.bytes)
	}
	return s
}

// shorter is the shorter of two.
func (l life) shorter(m life) life {
	if m.time > 0 && (l.time == 0 || m.time < l.time) {
		l.time = m.time
	}
	if m.bytes > 0 && (l.bytes == 0 || m.bytes < l.bytes) {
		l.bytes = m.bytes
	}
	return l
}

// checkLife is for the responder: how long a CHILD SA lives of which the initiator says l. claimed: it has to be told.
func checkLife(check core.ProposalCheck, p *core.Proposal, l life) (agreed life, claimed bool, err error) {
	ours := life{p.Lifetime, p.Lifebytes / 1024 * 1024} // kilobytes are said
	if l.time == 0 {
		l.time = ours.time
	}
	said := l
	if l.bytes == 0 {
		l.bytes = ours.bytes
	}
	least := l.shorter(ours)
	const differ = "the peer wants a CHILD SA to live for %v, proposal %q has %v: %s"
	switch {
	case check == core.CheckExact && said != ours:
		return l, false, refuse(isakmp.NotifyNoProposalChosen, differ, l, p.Name, ours, "write the same lifetime and lifebytes on both sides (proposal-check exact)")
	case check == core.CheckStrict && least != l:
		return l, false, refuse(isakmp.NotifyNoProposalChosen, differ, l, p.Name, ours, "have the peer want no more, or write more here (proposal-check strict)")
	case check == core.CheckClaim:
		return least, least != l, nil
	}
	return l, false, nil
}

// claims is what tells the initiator that ours counts.
func (l life) claims(protocol uint8, spi []byte) *isakmp.Notify {
	said := lifetime(l.time, l.bytes)
	return &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: protocol, SPI: spi, Kind: isakmp.NotifyResponderLifetime, Data: isakmp.AppendResponderLifetime(nil, said)}
}

// claimed is what the responder says of it in message 2; what it says nothing of is not limited by it.
func claimed(ps []isakmp.Payload) (l life) {
	if n := notify(ps, isakmp.NotifyResponderLifetime); n != nil {
		if said, ok := isakmp.ReadResponderLifetime(n.Data); ok {
			return lifeOf(said)
		}
	}
	return l
}
