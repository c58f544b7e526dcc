package sa

import (
	"fmt"

	"culvert/ike/core"
)

// Cause is why one end refuses a CHILD SA, or the other end. A version of IKE says it in its own numbers.
type Cause uint8

const (
	AnotherCause Cause = iota // what only one version of IKE knows
	NoProposal                // no proposal fits
	BadSelectors              // no policy is for the selectors
	NeedsAddress              // the peer has to ask for an address first
	NoAddress                 // there is no address for it
	NotNow                    // it may be asked for again a moment later
	TooMany                   // there is no room for another CHILD SA
	NoMoreLines               // there is no room for another CHILD SA beside one
	NotProven                 // one end does not accept who the other says that it is
)

// CauseOf is what a notification says, in a version's table of those that say one.
func CauseOf[K comparable](table map[Cause]K, kind K) Cause {
	for c, k := range table {
		if k == kind {
			return c
		}
	}
	return AnotherCause
}

// Event is the kind of event that reports a refusal.
func (c Cause) Event() core.EventKind {
	switch c {
	case NoProposal:
		return core.EvNoProposal
	case BadSelectors:
		return core.EvTSUnacceptable
	case NotProven:
		return core.EvAuthFailed
	}
	return core.EvNotify
}

// Refusal is the error of a CHILD SA that is not made, where the IKE SA lives on, or of a peer
// that is not who it has to be.
type Refusal struct {
	Cause  Cause
	Reason string         // for our people; the peer gets Cause alone
	Detail *core.Mismatch // both sides beside each other; nil: there is nothing to compare
}

func (r *Refusal) Error() string { return r.Reason }

// Refuse makes a Refusal.
func Refuse(c Cause, format string, a ...any) error {
	return &Refusal{Cause: c, Reason: fmt.Sprintf(format, a...)}
}

// mismatched is Refuse with the two sides beside each other.
func mismatched(c Cause, d *core.Mismatch, format string, a ...any) error {
	return &Refusal{Cause: c, Reason: fmt.Sprintf(format, a...), Detail: d}
}

// NoIKE is an attempt of ours to make an IKE SA that came to nothing.
type NoIKE struct {
	Exchange string // for people
	Cause    Cause  // NoProposal or NotProven, where the peer says so
	Reason   string
	Detail   *core.Mismatch
	Told     bool // an event has said why
}

// Report says to people why there is no IKE SA, and ends sa.
func (n NoIKE) Report(sa *SA) {
	e, kind := Explainer{sa}, core.EvInitFailed
	switch n.Cause {
	case NoProposal:
		kind, n.Detail = n.Cause.Event(), e.IKEUnchosen()
		n.Reason = "the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile " + sa.Peer.Profile.Name + " with the peer's"
	case NotProven:
		kind, n.Detail, n.Reason = n.Cause.Event(), e.ProofRefused(), e.RefusedText()
	}
	if !n.Told {
		sa.Emit(core.Event{Kind: kind, Exchange: n.Exchange, Reason: n.Reason, Detail: n.Detail})
	}
	sa.End(true, "%s", n.Reason)
}

// NoChild is an attempt of ours to make a CHILD SA that came to nothing.
type NoChild struct {
	Policy      *core.Policy
	Exchange    string // for people
	KeyExchange bool   // it had room for one
	Refused     bool   // else it broke off
	Cause       Cause  // with Refused
	Reason      string
	Said        bool           // with Refused: the peer says so and no more; else Reason is our judgement of its answer
	Detail      *core.Mismatch // nil, with Said: what we offered is shown
	Ours        bool           // the peer had no part in it
}

// Report says to people why there is no CHILD SA, and to the owner of sa that the
// policy still has none.
func (n NoChild) Report(sa *SA) {
	none := "no CHILD SA for the policy " + n.Policy.Pair.String() + ": " + n.Reason
	switch {
	case n.Refused && n.Cause == NotNow:
		if !n.Ours {
			sa.Emit(core.Event{Kind: core.EvAskedAgain, Exchange: n.Exchange, Policy: n.Policy.Ref, Reason: none + ": it is asked for again a moment later"})
		}
	case n.Refused:
		if n.Detail == nil && n.Said {
			n.Detail = Explainer{sa}.ChildUnchosen(n.Policy, n.Cause, n.KeyExchange)
			none += ": " + n.advice()
		}
		sa.Emit(core.Event{Kind: n.Cause.Event(), Exchange: n.Exchange, Policy: n.Policy.Ref, Detail: n.Detail, Reason: none})
	default:
		sa.Emit(core.Event{Kind: core.EvNotify, Exchange: n.Exchange, Policy: n.Policy.Ref, Reason: none})
	}
	sa.Keeper.ChildFailed(sa, n.Policy, !n.Ours)
	if n.Refused && !n.Ours {
		childRefused(sa, n.Policy, n.Cause)
	}
}

// childKeys are the properties of a proposal that can differ; keyExchange: the exchange had room for one.
func childKeys(keyExchange bool) string {
	if keyExchange {
		return "enc-algorithms, auth-algorithms, esn and pfs-group"
	}
	return "enc-algorithms, auth-algorithms and esn"
}

// advice is what to do where the peer says no more than Cause.
func (n NoChild) advice() string {
	switch n.Cause {
	case NoProposal:
		if n.Detail.Part == "group" {
			return fmt.Sprintf("compare pfs-group of proposal %s on both sides", n.Policy.Proposal.Name)
		}
		return fmt.Sprintf("compare tunnel, and %s of proposal %s on both sides", childKeys(n.KeyExchange), n.Policy.Proposal.Name)
	case BadSelectors:
		return "compare src-address and dst-address of the policy on both sides"
	case NeedsAddress:
		return "the peer wants us to ask for an address: write mode-config into the identity here"
	case NoAddress:
		return "the peer has no address for us: see its log and its pool"
	case TooMany:
		return "the peer makes no more CHILD SAs on this IKE SA"
	}
	return "see the log of the peer"
}
