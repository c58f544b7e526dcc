package gateway

import (
	"slices"
	"time"

	"culvert/ike/core"
)

// attempts are the last things that came of attempts to come together with each
// peer, the newest last. Equal ones are one: a peer that is refused every minute
// leaves room for what happened before.
type attempts map[string][]attempt

type attempt struct {
	first, last time.Time
	times       int
	event       core.Event
}

// maxAttempts is how many are kept of one peer; peers are bounded by the configuration.
const maxAttempts = 16

// telling are the events that say what came of an attempt.
var telling = map[core.EventKind]bool{
	core.EvIKEUp: true, core.EvChildUp: true, core.EvIKEDown: true, core.EvInitFailed: true, core.EvAuthFailed: true,
	core.EvNoProposal: true, core.EvTSUnacceptable: true, core.EvPeerDead: true, core.EvNotify: true,
}

func (a attempts) note(now time.Time, e core.Event) {
	if e.Peer == "" || !telling[e.Kind] {
		return
	}
	list := a[e.Peer]
	was := attempt{first: now}
	if i := slices.IndexFunc(list, func(x attempt) bool { return alike(x.event, e) }); i >= 0 {
		was = list[i]
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == maxAttempts {
		list = slices.Delete(list, 0, 1)
	}
	a[e.Peer] = append(list, attempt{was.first, now, was.times + 1, e})
}

// alike leaves out what differs from attempt to attempt: names, SPIs and ports.
func alike(a, b core.Event) bool {
	same := a.Kind == b.Kind && a.Initiator == b.Initiator && a.Exchange == b.Exchange && a.Policy == b.Policy &&
		a.Remote.Addr() == b.Remote.Addr() && a.Local.Addr() == b.Local.Addr()
	switch {
	case !same, (a.Detail == nil) != (b.Detail == nil):
		return false
	case a.Kind == core.EvChildUp: // its reason has the SPIs
		return true
	case a.Detail != nil && (a.Detail.Hint != b.Detail.Hint || !slices.Equal(a.Detail.Theirs, b.Detail.Theirs)):
		return false
	}
	return a.Reason == b.Reason
}

// keep forgets the peers that are not configured any more.
func (a attempts) keep(peers map[string]*core.Peer) {
	for name := range a {
		if peers[name] == nil {
			delete(a, name)
		}
	}
}
