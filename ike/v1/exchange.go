package v1

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// exchange is one exchange of phase 2, which its message ID names. Its messages have a chain of IVs of
// their own.
type exchange struct {
	id    uint32
	mine  bool // we began it
	iv    []byte
	on    flight
	begun time.Time
	quick *quick       // nil: it is no quick mode
	trans *transaction // nil: it is no transaction
	over  bool         // it only answers what is said again
}

// exchangeLife is how long an exchange that is over answers what is said again: as long as one like us
// repeats itself.
const exchangeLife = core.TimeToGiveUp

// Bounds on the exchanges of one SA.
const (
	maxTheirs = 8       // quick modes and transactions of the peer that are under way
	maxKept   = 64      // exchanges that are over and kept
	maxUsed   = 1 << 15 // message IDs that are remembered: a day in which both ends ask each other by DPD every 15 s has fewer
)

// begin makes an exchange of ours with a message ID that is not in use.
func (sa *SA) begin() *exchange {
	env := sa.base.Env
	id := uint32(0)
	for id == 0 || sa.exchanges[id] != nil || sa.used.has(id) {
		b := env.Random(4)
		id = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	return sa.newExchange(id, true)
}

func (sa *SA) newExchange(id uint32, mine bool) *exchange {
	s := &sa.base.Suite
	return &exchange{id: id, mine: mine, on: flight{sa: sa}, begun: sa.base.Env.Now(), iv: exchangeIV(s.PRF, s.Encr, sa.last, id)}
}

// finish ends what an exchange does. It still answers for a while.
func (sa *SA) finish(x *exchange) {
	if x.over {
		return
	}
	x.over = true
	if x.quick != nil {
		x.quick.end()
	}
	kept := 0
	for _, y := range sa.exchanges {
		if y.over {
			kept++
		}
	}
	if kept > maxKept {
		sa.forget(x)
		return
	}
	sa.base.Env.Timers.Stop(x.on.timer)
	x.on.timer = sa.base.Env.After(exchangeLife, func() { sa.forget(x) })
}

// forget drops an exchange. Its message ID is not to be used again.
func (sa *SA) forget(x *exchange) {
	sa.base.Env.Timers.Stop(x.on.timer)
	if sa.exchanges[x.id] == x {
		delete(sa.exchanges, x.id)
		sa.used.add(x.id)
	}
}

// conclude gives an exchange up at once.
func (sa *SA) conclude(x *exchange) {
	if q := x.quick; !x.over && q != nil {
		q.end()
		if q.old != nil && x.mine {
			q.old.RekeyLater() // another IKE SA may have it now
		}
		if q.old == nil && x.mine && sa.left {
			sa.base.Keeper.ChildFailed(sa.base, q.policy, false) // another IKE SA is to make it
		}
	}
	x.over = true
	sa.forget(x)
}

// sorted are the exchanges in an order that is always the same.
func (sa *SA) sorted() []*exchange {
	return slices.SortedFunc(maps.Values(sa.exchanges), func(a, b *exchange) int { return cmp.Compare(a.id, b.id) })
}

// usedIDs are the message IDs that the peer used last.
type usedIDs struct {
	ids  map[uint32]bool
	ring []uint32
	at   int
}

func (u *usedIDs) has(id uint32) bool { return u.ids[id] }

func (u *usedIDs) add(id uint32) {
	if u.ids == nil {
		u.ids = map[uint32]bool{}
	}
	if u.ids[id] {
		return
	}
	u.ids[id] = true
	if len(u.ring) < maxUsed {
		u.ring = append(u.ring, id)
		return
	}
	delete(u.ids, u.ring[u.at])
	u.ring[u.at] = id
	u.at = (u.at + 1) % maxUsed
}

// phase2Message handles a message of quick mode, of a transaction or of an informational exchange.
func (sa *SA) phase2Message(m *isakmp.Message, raw []byte, in core.Datagram) error {
	switch {
	case m.Sealed == nil:
		return sa.inClear(m)
	case m.ID == 0:
		return drop("an exchange of phase 2 with message ID 0")
	case sa.phase1 != nil && sa.phase1.keep(raw, in):
		return nil
	case sa.last == nil || sa.phase1 != nil:
		return drop("a message of phase 2 before phase 1 is through")
	}
	x := sa.exchanges[m.ID]
	if x != nil && x.on.repeated(raw, in) {
		return nil
	}
	if m.Exchange == isakmp.ExchangeInformational {
		return sa.informed(m, in)
	}
	if x == nil {
		if sa.used.has(m.ID) {
			return drop("message ID %08x was used before", m.ID)
		}
		if sa.theirs() >= maxTheirs {
			return drop("the peer has %d exchanges under way", maxTheirs)
		}
	}
	switch transaction := m.Exchange == isakmp.ExchangeTransaction; {
	case x != nil && transaction != (x.trans != nil):
		return drop("message ID %08x is another exchange's", m.ID)
	case transaction:
		return transactionMessage(sa, x, m, raw, in)
	case sa.setup != nil && !sa.setup.inherit():
		return drop("quick mode before %s is through", sa.setup.doing)
	case x == nil:
		x = sa.newExchange(m.ID, false)
	}
	if x.over || x.quick != nil && x.quick.next == nil {
		return nil // late, or an Ask is open
	}
	c, next, err := sa.open(m, sa.keys.enc, x.iv)
	if err != nil {
		return err
	}
	if x.quick == nil {
		x.quick = newQuick(sa, x)
		x.quick.next = x.quick.first
	}
	q := x.quick
	step := q.next
	q.next = nil
	err = step(c, m, raw, next, in)
	var d dropped
	if errors.As(err, &d) {
		q.next = step
		return err
	}
	if err != nil {
		q.fail(err)
	}
	return nil
}

// theirs is how many exchanges of the peer are under way.
func (sa *SA) theirs() (n int) {
	for _, x := range sa.exchanges {
		if !x.mine && !x.over {
			n++
		}
	}
	return n
}

// genuine notes that a message of an exchange is the peer's and new: the chain of IVs goes on behind it.
func (sa *SA) genuine(x *exchange, m *isakmp.Message, c *isakmp.Chain, raw, next []byte, in core.Datagram) {
	sa.exchanges[x.id] = x
	x.iv = next
	x.on.hear(raw)
	sa.arrived()
	fresh(sa, in)
	sa.base.Env.Traced(false, m.Header, c.Payloads)
}

// shown notes that the peer has the SA.
func shown(sa *SA) {
	if sa.base.Shown.IsZero() {
		sa.base.Shown = sa.base.Env.Now()
	}
}

// arrived notes that the peer has what phase 1 ended with.
func (sa *SA) arrived() {
	sa.heard, sa.repeats = true, false
	shown(sa)
	sa.first.stop()
}
