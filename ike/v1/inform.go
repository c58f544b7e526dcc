package v1

import (
	"encoding/binary"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// Informational exchanges (RFC 2409 §5.7) are one message, which nobody answers and which may be lost:
//
//	HDR*, HASH(1), N or D   -->

// inform sends one, under keys that there are; before, there is no way to say something that counts.
func (sa *SA) inform(ps ...isakmp.Payload) {
	if !sa.keys.made() || sa.last == nil || sa.left {
		return
	}
	x := sa.begin()
	sa.used.add(x.id)
	raw := sa.sealHashed(isakmp.ExchangeInformational, x.id, &x.iv, func(rest []byte) secret.Bytes { return sa.keys.hash1(x.id, rest) }, ps...)
	sa.base.Transmit(sa.base.Path, sa.parts.split(raw))
}

// tell sends a notification: in clear while there are no keys, where it is no more than a hint.
func (sa *SA) tell(n *isakmp.Notify) {
	if sa.keys.made() && sa.last != nil {
		sa.inform(n)
		return
	}
	id := binary.BigEndian.Uint32(sa.base.Env.Random(4))
	sa.base.Transmit(sa.base.Path, [][]byte{sa.clear(isakmp.ExchangeInformational, id, []isakmp.Payload{n})})
}

// inClear hears what somebody says without proof. It changes nothing; people are told, since it is often the
// only answer that a peer gives.
func (sa *SA) inClear(m *isakmp.Message) error {
	for _, p := range m.Payloads {
		if n, ok := p.(*isakmp.Notify); ok {
			if sa.phase1 != nil && n.Kind.IsError() {
				sa.phase1.said = n.Kind
				return drop("the peer says %v, which anybody could", n.Kind)
			}
		}
	}
	return drop("a message of phase 2 in clear")
}

// informed hears what the peer says.
func (sa *SA) informed(m *isakmp.Message, in core.Datagram) error {
	if sa.used.has(m.ID) {
		return drop("message ID %08x was used before", m.ID)
	}
	x := sa.exchanges[m.ID]
	if x == nil {
		x = sa.newExchange(m.ID, false)
	}
	c, _, err := sa.open(m, sa.keys.enc, x.iv)
	if err != nil {
		return err
	}
	if err := sa.hashed(c, func(rest []byte) secret.Bytes { return sa.keys.hash1(m.ID, rest) }); err != nil {
		return err
	}
	sa.used.add(m.ID)
	sa.arrived()
	fresh(sa, in)
	sa.base.Env.Traced(false, m.Header, c.Payloads)
	for _, p := range c.Payloads[1:] {
		if sa.base.State >= Closing && !sa.left {
			return nil
		}
		if sa.setup != nil {
			sa.setup.informed(p)
			continue
		}
		switch p := p.(type) {
		case *isakmp.Delete:
			sa.deleted(p)
		case *isakmp.Notify:
			if !sa.left {
				sa.notified(p)
			}
		}
	}
	return nil
}

// notified hears a notification of the peer. R-U-THERE-ACK says nothing more than that the peer is there.
func (sa *SA) notified(n *isakmp.Notify) {
	switch {
	case n.Kind == isakmp.NotifyInitialContact:
		if sa.base.Env.Now().Sub(sa.base.EstablishedAt) > contactTime {
			sa.base.Event(core.EvNotify, "the peer says INITIAL-CONTACT long after phase 1: it is passed over")
			return
		}
		sa.base.InitialContact()
	case n.Kind == isakmp.NotifyRUThere:
		sa.dpd.answer(n)
	case n.Kind == isakmp.NotifyUnityLoadBalance:
		sentElsewhere(sa, n)
	case n.Kind.IsError():
		sa.refusedBy(n)
	}
}

// contactTime is how long after phase 1 the peer can say in a message of its own that it has no other SA. What it says
// later would end SAs that it has used beside this one.
const contactTime = 10 * time.Second

// refusedBy hears why a quick mode of ours comes to nothing: the one whose SPI the notification names, else the
// oldest one that waits for an answer.
func (sa *SA) refusedBy(n *isakmp.Notify) {
	var which *exchange
	for _, x := range sa.sorted() {
		q := x.quick
		if q == nil || !x.mine || x.over || q.next == nil {
			continue
		}
		if len(n.SPI) == 4 && q.spis.has(binary.BigEndian.Uint32(n.SPI)) {
			which = x
			break
		}
		if which == nil || x.begun.Before(which.begun) {
			which = x
		}
	}
	if which != nil {
		which.quick.fail(refused{kind: n.Kind, reason: "the peer answered with " + n.Kind.String()})
		return
	}
	sa.base.Event(core.EvNotify, "the peer says %v", n.Kind)
}

// initialContact says that we know of no other SA with the peer (RFC 2407 §4.6.3.3).
func (sa *SA) initialContact() *isakmp.Notify {
	return &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: cookies(sa.base.SPIi, sa.base.SPIr), Kind: isakmp.NotifyInitialContact}
}
