package v2

import (
	"bytes"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Additional key exchanges of CREATE_CHILD_SA (RFC 9370 §2.2.4), one
// IKE_FOLLOWUP_KE each, after the exchange that agreed on them:
//
//	HDR, SK{[N(REKEY_SA)], SA, Ni, KEi, [TSi, TSr]}  -->
//	      <--  HDR, SK{SA, Nr, KEr, [TSi, TSr], N(ADDITIONAL_KEY_EXCHANGE)}
//	HDR, SK{KEi(n), N(ADDITIONAL_KEY_EXCHANGE)}      -->
//	      <--  HDR, SK{KEr(n), [N(ADDITIONAL_KEY_EXCHANGE)]}
//
// The SA is made with the last of them; until then what was agreed on is parked:
//
//	SKEYSEED = prf(SK_d, g^ir | Ni | Nr | SK(1) | … | SK(n))
//	KEYMAT  = prf+(SK_d, g^ir | Ni | Nr | SK(1) | … | SK(n))
//
// Where both ends rekey the same SA at once, all four nonces are known before any
// of this is done. The one whose exchange has the lowest does not go on, and if it
// needed no more key exchanges and so made its SA, it deletes that.

// parkedLife is how long a responder waits for the next IKE_FOLLOWUP_KE.
const parkedLife = 30 * time.Second

// maxParked bounds what a peer can begin and not go on with, in one IKE SA.
const maxParked = 4

const linkLen = 16

// parked are the CREATE_CHILD_SA of which key exchanges are missing: ours, of
// which there is one because of the window, and the peer's, oldest first.
type parked struct {
	mine   *exchange
	theirs []*exchange
}

func (p *parked) end() {
	if x := p.mine; x != nil {
		x.abandon()
	}
	for _, x := range p.theirs {
		x.abandon()
	}
	*p = parked{}
}

// unpark forgets one of the peer's.
func unpark(sa *SA, p *exchange) {
	sa.parked.theirs = slices.DeleteFunc(sa.parked.theirs, func(x *exchange) bool { return x == p })
}

// parkedRekey is the peer's rekey of old, or of the IKE SA, of which key exchanges
// are missing; nil if there is none.
func parkedRekey(sa *SA, id kindID, old *Child) *exchange {
	for _, p := range sa.parked.theirs {
		if p.kind.id == id && replacedIn(p) == old {
			return p
		}
	}
	return nil
}

// rekeyingIKE reports whether our own rekey of the IKE SA is under way.
func rekeyingIKE(sa *SA) bool {
	is := func(x *exchange) bool { return x != nil && x.kind.id == rekeyIKE }
	return is(sa.parked.mine) || is(sa.current)
}

// rekeyOffer is what the successor may have: additional key exchanges only where
// the first SA has them, so that the peer is known to be able.
func rekeyOffer(sa *SA) core.Offer {
	return core.InitOffer(&sa.base.Peer.Profile, len(sa.base.Suite.Additional) > 0)
}

// followUps are the key exchanges that a CREATE_CHILD_SA agreed on beside its own.
type followUps struct {
	noop
	lacks   []*suite.KEM // those to come
	secrets secret.Bytes // of those that are over
	link    []byte       // ADDITIONAL_KEY_EXCHANGE: what the next one goes on with
}

func (f *followUps) end(*exchange) { f.secrets.Wipe() }

// lacksKeys reports whether an exchange is not over before others followed it.
func lacksKeys(x *exchange) bool {
	f := part[*followUps](x)
	return f != nil && len(f.lacks) > 0
}

// addLink names, in our response x, what the next IKE_FOLLOWUP_KE goes on with.
func (f *followUps) addLink(x *exchange) {
	f.link = x.sa.base.Env.Random(linkLen)
	x.out = append(x.out, &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: f.link})
}

// readLink remembers what the responder calls the exchange.
func (f *followUps) readLink(in []message.Payload) error {
	n := notify(in, message.NotifyAdditionalKeyExchange)
	if n == nil || len(n.Data) == 0 {
		return refuse(message.NotifyInvalidSyntax, "the peer agreed on additional key exchanges and does not say how to go on")
	}
	f.link = clone(n.Data)
	return nil
}

// add takes in the secret of the key exchange that came next.
func (f *followUps) add(shared secret.Bytes) {
	longer := append(f.secrets.Clone(), shared...)
	f.secrets.Wipe()
	f.secrets, f.lacks = longer, f.lacks[1:]
}

// rival is the lowest nonce of the peer's rekey of what x rekeys, whether that is
// through or lacks key exchanges; nil: there is none.
func rival(x *exchange) []byte {
	sa, old := x.sa, replacedIn(x)
	switch {
	case x.kind.id != rekeyChild && x.kind.id != rekeyIKE:
		return nil
	case old != nil && old.Theirs != nil: // also if that has been deleted since, and the old one with it
		return old.Theirs.LowNonce
	case old == nil && sa.successor != nil && sa.successor.base.State == Established:
		return sa.successor.lowNonce
	}
	if p := parkedRekey(sa, x.kind.id, old); p != nil {
		return lowest(p.ni, p.nr)
	}
	return nil
}

// loses reports whether the peer's rekey goes before ours.
func loses(x *exchange) bool {
	low := rival(x)
	return low != nil && ikesa.Lower(lowest(x.ni, x.nr), low)
}

// parkMine goes on with the key exchanges that our CREATE_CHILD_SA lacks, unless
// it is not to come to anything.
func parkMine(sa *SA, x *exchange) {
	old := replacedIn(x)
	if loses(x) || sa.base.State != Established || old != nil && (old.Gone || old.Closing) {
		sa.failed(x, refuse(message.NotifyTemporaryFailure, "the peer's rekey goes on, or what it replaces goes"))
		return
	}
	sa.parked.mine = x
	sa.current = nil
	sa.sendID++
	followUpNext(sa, x)
	sa.pump()
}

func followUpNext(sa *SA, x *exchange) {
	y := newExchange(row(followUp))
	y.sa, y.mine = sa, true
	part[*followUpKE](y).parent = x
	y.still = func() bool { return sa.parked.mine == x }
	sa.queue = slices.Insert(sa.queue, 0, y)
}

// parkTheirs keeps the peer's CREATE_CHILD_SA, whose exchange is over. A second
// rekey of the same replaces the first.
func parkTheirs(sa *SA, x *exchange) {
	first := (*exchange)(nil)
	if x.kind.id != createChild {
		first = parkedRekey(sa, x.kind.id, replacedIn(x))
	}
	if first == nil && len(sa.parked.theirs) == maxParked {
		first = sa.parked.theirs[0]
	}
	if first != nil {
		first.abandon()
		unpark(sa, first)
	}
	p := &exchange{sa: sa, kind: x.kind, tasks: x.tasks, in: x.in, from: x.from, ni: x.ni, nr: x.nr}
	x.tasks = nil // they are p's now
	sa.parked.theirs = append(sa.parked.theirs, p)
	awaitNext(p)
}

// awaitNext begins (anew) the wait for the next IKE_FOLLOWUP_KE.
func awaitNext(p *exchange) {
	p.sa.base.Env.Timers.Stop(p.timer)
	p.timer = p.sa.base.Env.After(parkedLife, func() {
		p.abandon()
		unpark(p.sa, p)
	})
}

// followUpKE is IKE_FOLLOWUP_KE.
type followUpKE struct {
	noop
	ke     *keyExchange
	parent *exchange // the CREATE_CHILD_SA that it goes on with
}

// more is what of the parent is to come.
func (t *followUpKE) more() *followUps { return part[*followUps](t.parent) }

func (t *followUpKE) prepare(x *exchange) error { return t.ke.offerKEM(x, t.more().lacks[0]) }

func (t *followUpKE) request(x *exchange) error {
	x.out = append(x.out, t.ke.payload(), &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: t.more().link})
	return nil
}

func (t *followUpKE) accept(x *exchange) error {
	n := notify(x.in, message.NotifyAdditionalKeyExchange)
	i := slices.IndexFunc(x.sa.parked.theirs, func(p *exchange) bool {
		return n != nil && bytes.Equal(n.Data, part[*followUps](p).link)
	})
	if i < 0 {
		return refuse(message.NotifyStateNotFound, "the peer goes on with what does not wait, or waited for more than %v", parkedLife)
	}
	t.parent = x.sa.parked.theirs[i]
	return t.ke.answerKEM(x, t.more().lacks[0])
}

func (t *followUpKE) reply(x *exchange) error {
	p := t.parent
	if err := goesOn(p); err != nil {
		return err
	}
	more, first := t.more(), part[*keyExchange](p)
	x.out = append(x.out, t.ke.payload())
	more.add(t.ke.shared)
	switch {
	case len(more.lacks) > 0:
		more.addLink(x)
		return nil
	case p.kind.id == rekeyIKE:
		return part[*succession](p).make(p, first, more)
	}
	return part[*pendingChild](p).install(p, true, first.shared, more.secrets)
}

func (t *followUpKE) complete(x *exchange) error {
	more := t.more()
	if err := t.ke.shareKEM(x, more.lacks[0]); err != nil {
		return err
	}
	more.add(t.ke.shared)
	if len(more.lacks) == 0 {
		return nil
	}
	err := more.readLink(x.in)
	if err != nil {
		more.lacks = nil // the peer waits for nothing more
	}
	return err
}

func (t *followUpKE) settle(x *exchange) error {
	sa, p := x.sa, t.parent
	switch {
	case lacksKeys(p) && x.mine:
		followUpNext(sa, p)
		return nil
	case lacksKeys(p):
		awaitNext(p)
		return nil
	case x.mine:
		sa.parked.mine = nil
	default:
		unpark(sa, p)
	}
	p.over = true
	err := settleAll(p)
	if err != nil && x.mine { // then it fails as a whole, with what it holds
		sa.parked.mine, p.over = p, false
		return err
	}
	p.conclude()
	return err
}

// goesOn refuses a follow-up of what must not come to anything any more.
func goesOn(x *exchange) error {
	switch {
	case x.over:
		return refuse(message.NotifyStateNotFound, "what the peer goes on with waited for more than %v", parkedLife)
	case x.kind.id == rekeyIKE:
		return ikeReplaceable(x)
	case x.sa.base.State != Established:
		return refuse(message.NotifyTemporaryFailure, "the IKE SA is being replaced or deleted")
	}
	if c := part[*pendingChild](x); c.old != nil {
		c.policy = c.old.Policy // a configuration may have been loaded since
		return stillReplaceable(c.old)
	}
	return nil
}

// settleAll runs the last stage of what was parked.
func settleAll(x *exchange) error {
	for _, t := range x.tasks {
		if err := t.settle(x); err != nil {
			return err
		}
	}
	return nil
}

// followUpFailed ends what it belongs to, which is tried again from its start.
func followUpFailed(x *exchange, fault error) {
	p := part[*followUpKE](x).parent
	if x.sa.parked.mine != p {
		return
	}
	x.sa.parked.mine = nil
	x.sa.disown(p)
	p.abandon()
	p.kind.failed(p, fault)
}

// Waiting is how much of what the peer began waits for an IKE_FOLLOWUP_KE.
func (sa *SA) Waiting() int { return len(sa.parked.theirs) }
