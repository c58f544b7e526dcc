package v2

import (
	"bytes"
	"slices"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Additional key exchanges when the IKE SA is rekeyed (RFC 9370 §2.2.4), one
// IKE_FOLLOWUP_KE each, after the CREATE_CHILD_SA that agreed on them:
//
//	HDR, SK{SA, Ni, KEi}                             -->
//	                  <--  HDR, SK{SA, Nr, KEr, N(ADDITIONAL_KEY_EXCHANGE)}
//	HDR, SK{KEi(n), N(ADDITIONAL_KEY_EXCHANGE)}      -->
//	                  <--  HDR, SK{KEr(n), [N(ADDITIONAL_KEY_EXCHANGE)]}
//
// The successor is made with the last of them: SKEYSEED = prf(SK_d, g^ir | Ni |
// Nr | SK(1) | … | SK(n)). Until then the rekey is parked.

// parkedLife is how long a responder waits for the next IKE_FOLLOWUP_KE.
const parkedLife = 30 * time.Second

const linkLen = 16

// parked are rekeys of which key exchanges are missing: ours and the peer's.
type parked struct {
	mine, theirs *exchange
	timer        *core.Timer // of theirs
}

func (sa *SA) dropParked() {
	sa.env.Timers.Stop(sa.parked.timer)
	for _, x := range []*exchange{sa.parked.mine, sa.parked.theirs} {
		if x != nil {
			x.extra.Wipe()
			x.abandon()
		}
	}
	sa.parked = parked{}
}

// rekeyingIKE reports whether our own rekey of the IKE SA is under way.
func (sa *SA) rekeyingIKE() bool {
	return sa.parked.mine != nil || sa.current != nil && sa.current.kind.id == rekeyIKE
}

// rekeyOffer is what the successor may have: additional key exchanges only where
// the first SA has them, so that the peer is known to be able.
func (sa *SA) rekeyOffer() core.Offer {
	return core.InitOffer(&sa.peer.Profile, len(sa.suite.Additional) > 0)
}

// missing are the key exchanges that a rekey still lacks.
func (x *exchange) missing() []*suite.KEM {
	return x.agreed.suite.Additional[min(x.extras, len(x.agreed.suite.Additional)):]
}

// addLink names the rekey that the next IKE_FOLLOWUP_KE goes on with.
func (x *exchange) addLink(link []byte) {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: link})
}

// readLink remembers what the responder calls the rekey.
func (x *exchange) readLink(in []message.Payload) error {
	n := notify(in, message.NotifyAdditionalKeyExchange)
	if n == nil || len(n.Data) == 0 {
		return refuse(message.NotifyInvalidSyntax, "the peer agreed on additional key exchanges and does not say how to go on")
	}
	x.link = clone(n.Data)
	return nil
}

// parkMine frees the window for the follow-ups of our rekey. False: it needs none.
func (sa *SA) parkMine(x *exchange) bool {
	if x.kind.id != rekeyIKE || len(x.missing()) == 0 {
		return false
	}
	sa.parked.mine = x
	sa.current = nil
	sa.sendID++
	sa.followUpNext(x)
	sa.pump()
	return true
}

func (sa *SA) followUpNext(x *exchange) {
	y := &exchange{sa: sa, mine: true, kind: row(followUp)}
	y.parent = x
	y.still = func() bool { return sa.parked.mine == x }
	sa.queue = slices.Insert(sa.queue, 0, y)
}

// parkTheirs keeps the peer's rekey, whose exchange is over.
func (sa *SA) parkTheirs(x *exchange) {
	if old := sa.parked.theirs; old != nil {
		old.extra.Wipe()
		old.abandon()
	}
	p := &exchange{sa: sa, kind: x.kind, in: x.in, from: x.from, draft: x.draft}
	x.draft = draft{}
	sa.parked.theirs = p
	sa.env.Timers.Stop(sa.parked.timer)
	sa.parked.timer = sa.env.After(parkedLife, func() {
		p.extra.Wipe()
		p.abandon()
		if sa.parked.theirs == p {
			sa.parked.theirs = nil
		}
	})
}

// followUpKE is IKE_FOLLOWUP_KE.
func followUpKE() task {
	return task{
		prepare: func(x *exchange) error { return x.offerKEM(x.parent.missing()[0]) },
		request: func(x *exchange) error {
			x.out = append(x.out, &message.KE{Group: x.parent.missing()[0].ID, Data: x.public})
			x.addLink(x.parent.link)
			return nil
		},
		accept: func(x *exchange) error {
			p := x.sa.parked.theirs
			n := notify(x.in, message.NotifyAdditionalKeyExchange)
			if p == nil || n == nil || !bytes.Equal(n.Data, p.link) {
				return refuse(message.NotifyStateNotFound, "the peer goes on with a rekey that does not wait")
			}
			x.parent = p
			return x.answerKEM(p.missing()[0])
		},
		reply: func(x *exchange) error {
			p := x.parent
			if err := p.ikeReplaceable(); err != nil {
				return err
			}
			x.out = append(x.out, &message.KE{Group: p.missing()[0].ID, Data: x.public})
			x.addExtra()
			if len(p.missing()) > 0 {
				p.link = x.sa.env.Random(linkLen)
				x.addLink(p.link)
				return nil
			}
			return p.makeSuccessor()
		},
		complete: func(x *exchange) error {
			p := x.parent
			if err := x.shareKEM(p.missing()[0]); err != nil {
				return err
			}
			x.addExtra()
			if len(p.missing()) > 0 {
				return p.readLink(x.in)
			}
			return nil
		},
		settle: func(x *exchange) error {
			sa, p := x.sa, x.parent
			switch {
			case len(p.missing()) > 0 && x.mine:
				sa.followUpNext(p)
				return nil
			case len(p.missing()) > 0:
				return nil
			case x.mine:
				sa.parked.mine = nil
			default:
				sa.parked.theirs = nil
				sa.env.Timers.Stop(sa.parked.timer)
			}
			p.over = true
			return ikeSuccession().settle(p)
		},
	}
}

// addExtra puts the secret of a follow-up to the rekey.
func (x *exchange) addExtra() {
	p := x.parent
	longer := append(p.extra.Clone(), x.shared...)
	p.extra.Wipe()
	p.extra = longer
	p.extras++
}

// followUpFailed ends our rekey; it is tried again.
func followUpFailed(x *exchange, fault error) {
	p := x.parent
	if x.sa.parked.mine != p {
		return
	}
	x.sa.parked.mine = nil
	p.in = nil // the peer made no successor
	p.extra.Wipe()
	p.abandon()
	rekeyIKEFailed(p, fault)
}
