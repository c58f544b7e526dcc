package sa

import (
	"time"

	"culvert/ike/core"
)

// A contest: a client asks for what another IKE SA has, which may be an older one of
// its own whose path is gone, or another device's. Whoever has it is asked whether it
// is there; what does not answer is ended, and what it had is free.
//
//	claimer                      gateway                              holder
//	IKE_AUTH, CP(CFG_REQUEST) ►
//	                             INFORMATIONAL (empty), 3 times ────►
//	                                        ◄──── anything, or nothing for 3.5 s
//	          ◄ IKE_AUTH, CP(CFG_REPLY)

// contestWait is how long a holder has for an answer: a request is sent after 0,
// 0.5 and 1.5 s (core.RetransmitWait). Clients wait longer for IKE_AUTH.
const contestWait = 3500 * time.Millisecond

// contest is one that is under way: who waits for its end.
type contest struct {
	done  []func(stays bool)
	timer *core.Timer
}

// contests is the contest that an IKE SA may have.
type contests struct {
	idle
	sa *SA
}

func (c contests) passTo(*SA) { c.sa.settleContest(true) } // whoever made the successor has just been heard
func (c contests) ended()     { c.sa.settleContest(false) }

// Contest asks the peer whether it is there, and calls done, perhaps at once. An SA
// that does not stay has ended by then; why says what for.
func (sa *SA) Contest(why string, done func(stays bool)) {
	switch {
	case sa.State < Established: // it has just proved who it is
		done(true)
		return
	case sa.State > Expired: // our Delete is under way, or it has nothing any more
		sa.End(false, "%s", why)
		done(false)
		return
	case sa.contest != nil:
		sa.contest.done = append(sa.contest.done, done)
		return
	}
	sa.contest = &contest{done: []func(bool){done}}
	sa.contest.timer = sa.Env.After(contestWait, func() {
		sa.Depose("%s, and it does not answer", why)
	})
	sa.Protocol.Probe(true)
}

// settleContest ends a contest: the peer was heard, or the SA is gone.
func (sa *SA) settleContest(stays bool) {
	c := sa.contest
	if c == nil {
		return
	}
	sa.contest = nil
	sa.Env.Timers.Stop(c.timer)
	for _, done := range c.done {
		done(stays)
	}
}
