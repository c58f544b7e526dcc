package view

import (
	"container/list"
	"slices"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
)

// Attempts are the last attempts to connect with each peer and their results, the newest last.
// Equal ones are merged, so that a peer that is refused every minute does not push out what
// happened before. Strangers can cause attempts in the name of any peer, so all attempts together are
// bounded in bytes, and the oldest are dropped.
type Attempts struct {
	of    map[string][]attempt // by peer
	order list.List            // of the peers' names, one for each attempt, the oldest first
	bytes int
	most  int // bytes
}

type attempt struct {
	first, last time.Time
	times       int
	event       core.Event
	bytes       int
	place       *list.Element
}

// maxAttempts is how many attempts are kept of one peer, and attemptsBytes how many bytes of all peers
// unless the configuration says otherwise.
const (
	maxAttempts   = 16
	attemptsBytes = config.DefaultStrangerMemory / compile.StrangerParts
)

// NewAttempts has none.
func NewAttempts() *Attempts { return &Attempts{of: map[string][]attempt{}, most: attemptsBytes} }

// telling are the events that are results of an attempt.
var telling = map[core.EventKind]bool{
	core.EvIKEUp: true, core.EvChildUp: true, core.EvIKEDown: true, core.EvInitFailed: true, core.EvAuthFailed: true,
	core.EvNoProposal: true, core.EvTSUnacceptable: true, core.EvPeerDead: true, core.EvNotify: true, core.EvAskedAgain: true,
}

// Note adds an event.
func (a *Attempts) Note(now time.Time, e core.Event) {
	if e.Peer == "" || !telling[e.Kind] {
		return
	}
	was := attempt{first: now}
	if i := slices.IndexFunc(a.of[e.Peer], func(x attempt) bool { return alike(x.event, e) }); i >= 0 {
		was = a.of[e.Peer][i]
		a.drop(e.Peer, i)
	}
	if len(a.of[e.Peer]) == maxAttempts {
		a.drop(e.Peer, 0)
	}
	x := attempt{was.first, now, was.times + 1, e, weightOf(&e), a.order.PushBack(e.Peer)}
	a.of[e.Peer] = append(a.of[e.Peer], x)
	a.bytes += x.bytes
	a.bound()
}

// bound drops the oldest until all are within the bound.
func (a *Attempts) bound() {
	for a.bytes > a.most {
		a.drop(a.order.Front().Value.(string), 0)
	}
}

// drop forgets one attempt of a peer.
func (a *Attempts) drop(peer string, i int) {
	list := a.of[peer]
	a.bytes -= list[i].bytes
	a.order.Remove(list[i].place)
	if a.of[peer] = slices.Delete(list, i, i+1); len(list) == 1 {
		delete(a.of, peer)
	}
}

// weightOf is how many bytes an event takes, including its entries in list and table.
func weightOf(e *core.Event) int {
	n := 800 + len(e.Reason)
	if d := e.Detail; d != nil {
		n += 200 + len(d.Hint)
		for _, lines := range [][]string{d.Ours, d.Theirs} {
			for _, l := range lines {
				n += 16 + len(l)
			}
		}
	}
	return n
}

// alike reports whether two events are equal apart from what differs between attempts: names, SPIs and ports.
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

// keep forgets the peers that are no longer configured.
func (a *Attempts) keep(peers map[string]*core.Peer) {
	for name := range a.of {
		for peers[name] == nil && len(a.of[name]) > 0 {
			a.drop(name, 0)
		}
	}
}

// Configured takes over a configuration.
func (a *Attempts) Configured(c *compile.Result) {
	a.keep(c.Peers)
	a.most = c.StrangerShare
	a.bound()
}
