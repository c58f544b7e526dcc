package v2

import (
	"encoding/binary"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Rekeying a CHILD SA (RFC 7296 §1.3.3, §2.8): a new one is made beside the old
// one, and who made it deletes the old one. If both ends begin at once, both
// new ones come up, and the one whose exchange has the lowest of the four
// nonces is deleted by who made it; the winner deletes the old one (§2.8.1).

// RekeyChild begins to replace a CHILD SA, unless the peer's rekey of it lacks nothing but
// IKE_FOLLOWUP_KE.
func (sa *SA) RekeyChild(c *Child) bool {
	if parkedRekey(sa, rekeyChild, c) != nil {
		return false // unless the peer's rekey is through by then
	}
	x := newExchange(row(rekeyChild))
	p := part[*pendingChild](x)
	p.policy, p.old = c.Policy, c
	x.still = func() bool {
		if c.MayRekey() {
			return true
		}
		c.Rekeying = false
		return false
	}
	sa.start(x)
	return true
}

// childReplaced names the CHILD SA to replace.
type childReplaced struct {
	noop
	child *pendingChild
}

func (t *childReplaced) request(x *exchange) error {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyRekeySA, Protocol: uint8(t.child.policy.Protocol),
		SPI: binary.BigEndian.AppendUint32(nil, t.child.old.SPIIn)})
	return nil
}

func (t *childReplaced) accept(x *exchange) error {
	n := notify(x.in, message.NotifyRekeySA)
	var old *Child
	if len(n.SPI) == 4 {
		old = x.sa.base.ChildBySPI(binary.BigEndian.Uint32(n.SPI))
	}
	if old == nil {
		return refused{kind: message.NotifyChildSANotFound, protocol: core.Protocol(n.Protocol), spi: clone(n.SPI),
			reason: "the peer wants to rekey a CHILD SA that does not exist"}
	}
	t.child.old, t.child.policy = old, old.Policy
	return replaceable(x.sa, old)
}

func (t *childReplaced) reply(x *exchange) error { return replaceable(x.sa, t.child.old) }

// stillReplaceable refuses to rekey what we are deleting (RFC 7296 §2.25.1). It
// is asked again after the Asks, for in the meantime our own rekey may be through.
func stillReplaceable(old *Child) error {
	if old.Closing || old.Gone {
		return refuse(message.NotifyTemporaryFailure, "the CHILD SA is being deleted")
	}
	if t := old.Theirs; t != nil && !t.Gone {
		return refuse(message.NotifyTemporaryFailure, "the CHILD SA was rekeyed and waits for its Delete")
	}
	return nil
}

// replaceable refuses to begin a rekey that comes to nothing. Where our own lacks
// nothing but IKE_FOLLOWUP_KE, this is no collision: the peer answered ours
// before it knew how its own would be.
func replaceable(sa *SA, old *Child) error {
	if p := sa.parked.mine; p != nil && replacedIn(p) == old && p.kind.id == rekeyChild {
		return refuse(message.NotifyTemporaryFailure, "the CHILD SA is being rekeyed")
	}
	return stillReplaceable(old)
}

// childSuccession settles who comes after whom.
type childSuccession struct {
	noop
	child *pendingChild
}

func (t *childSuccession) settle(x *exchange) error {
	sa, old, made := x.sa, t.child.old, t.child.made
	made.Birth = old.Birth
	sa.base.Env.After(ikesa.TwinDelay, made.SettleTwins)
	if !x.mine {
		old.Theirs = made
		made.After = old
		if old.Gone {
			made.Activate()
		}
		old.Rekeyed(made)
		return nil
	}
	old.Rekeying = false
	if loses(x) {
		made.Delete("both ends rekeyed at once, and the peer's CHILD SA stays")
		if old.Theirs == nil {
			old.RekeyLater() // unless the peer's key exchanges are through by then
		}
		return nil
	}
	made.Activate()
	old.Rekeyed(made)
	old.Delete("rekeyed")
	if t := old.Theirs; t != nil {
		t.Redundant()
	}
	return nil
}

func rekeyChildFailed(x *exchange, fault error) {
	old := replacedIn(x)
	old.Rekeying = false
	switch {
	case old.Gone || old.Theirs != nil:
		// The peer was faster, or deleted it.
	case isRefused(fault, message.NotifyChildSANotFound) && old.Sure: // else our answer that made it is still under way
		old.End("the peer does not know it any more")
	default:
		if !isRefused(fault, message.NotifyTemporaryFailure) && !isFatal(fault) { // else the IKE SA ends, and says so
			x.sa.base.Emit(core.Event{Kind: core.EvNotify, Exchange: x.kind.name, Child: old.ID, Policy: old.Policy.Ref,
				Detail: x.rekeyParts(fault), Reason: "rekeying failed and will be tried again: " + fault.Error()})
		}
		if why, refused := causeIn(fault); refused {
			old.RekeyRefused(why)
		} else {
			old.RekeyLater()
		}
	}
}
