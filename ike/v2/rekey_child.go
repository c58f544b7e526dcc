package v2

import (
	"encoding/binary"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Rekeying a CHILD SA (RFC 7296 §1.3.3, §2.8): a new one is made beside the old
// one, and who made it deletes the old one. If both ends begin at once, both
// new ones come up, and the one whose exchange has the lowest of the four
// nonces is deleted by who made it; the winner deletes the old one (§2.8.1).

// childReplaced names the CHILD SA to replace.
type childReplaced struct{ noop }

func (*childReplaced) request(x *exchange) error {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyRekeySA, Protocol: uint8(x.policy.Protocol),
		SPI: binary.BigEndian.AppendUint32(nil, x.old.spiIn)})
	return nil
}

func (*childReplaced) accept(x *exchange) error {
	n := notify(x.in, message.NotifyRekeySA)
	var old *Child
	if len(n.SPI) == 4 {
		old = x.sa.childBySPI(binary.BigEndian.Uint32(n.SPI))
	}
	if old == nil {
		return refused{kind: message.NotifyChildSANotFound, protocol: core.Protocol(n.Protocol), spi: clone(n.SPI),
			reason: "the peer wants to rekey a CHILD SA that does not exist"}
	}
	x.old, x.policy = old, old.policy
	return x.replaceable()
}

func (*childReplaced) reply(x *exchange) error { return x.replaceable() }

// stillReplaceable refuses to rekey what we are deleting (RFC 7296 §2.25.1). It
// is asked again after the Asks, for in the meantime our own rekey may be through.
func (x *exchange) stillReplaceable() error {
	if x.old.closing || x.old.gone {
		return refuse(message.NotifyTemporaryFailure, "the CHILD SA is being deleted")
	}
	if t := x.old.theirs; t != nil && !t.gone {
		return refuse(message.NotifyTemporaryFailure, "the CHILD SA was rekeyed and waits for its Delete")
	}
	return nil
}

// replaceable refuses to begin a rekey that comes to nothing. Where our own lacks
// nothing but IKE_FOLLOWUP_KE, this is no collision: the peer answered ours
// before it knew how its own would be.
func (x *exchange) replaceable() error {
	if p := x.sa.parked.mine; p != nil && p == x.old.rekeying {
		return refuse(message.NotifyTemporaryFailure, "the CHILD SA is being rekeyed")
	}
	return x.stillReplaceable()
}

// childSuccession settles who comes after whom.
type childSuccession struct{ noop }

func (*childSuccession) settle(x *exchange) error {
	sa, old, made := x.sa, x.old, x.made
	made.birth = old.birth
	sa.env.After(TwinDelay, made.settleTwins)
	if !x.mine {
		old.theirs = made
		made.after = old
		if old.gone {
			made.Activate()
		}
		sa.rekeyed(old, made)
		return nil
	}
	old.rekeying = nil
	if x.loses() {
		made.Delete("both ends rekeyed at once, and the peer's CHILD SA stays")
		if old.theirs == nil {
			old.rekeyLater() // unless the peer's key exchanges are through by then
		}
		return nil
	}
	made.Activate()
	sa.rekeyed(old, made)
	old.Delete("rekeyed")
	if t := old.theirs; t != nil {
		t.redundant()
	}
	return nil
}

func (sa *SA) rekeyed(old, made *Child) {
	sa.emit(core.Event{Kind: core.EvChildRekeyed, Child: made.id, OldC: old.id, Policy: made.policy.Ref})
}

func rekeyChildFailed(x *exchange, fault error) {
	old := x.old
	old.rekeying = nil
	switch {
	case old.gone || old.theirs != nil:
		// The peer was faster, or deleted it.
	case isRefused(fault, message.NotifyChildSANotFound) && old.sure: // else our answer that made it is still under way
		old.end("the peer does not know it any more")
	default:
		old.refusals++
		if !isRefused(fault, message.NotifyTemporaryFailure) {
			x.sa.emit(core.Event{Kind: core.EvNotify, Child: old.id, Policy: old.policy.Ref,
				Detail: x.rekeyParts(fault), Reason: "rekeying failed and will be tried again: " + fault.Error()})
		}
		old.rekeyLater()
	}
}
