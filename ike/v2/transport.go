package v2

import (
	"culvert/ike/message"
)

// Transport mode (RFC 7296 §1.3.1): who wants it says so beside its offer, and
// it is agreed on where the responder says so too. A policy is for one mode, and
// the other is refused: what the two ends believe about headers must not differ.

// askTransport adds the notify to a request whose policy is for transport mode.
func (x *exchange) askTransport() {
	if !x.policy.Tunnel {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyUseTransportMode})
	}
}

// grantTransport answers a peer that asked for transport mode, or did not.
func (x *exchange) grantTransport() error {
	asked := notify(x.in, message.NotifyUseTransportMode) != nil
	switch {
	case x.policy.Tunnel:
		return nil // without our notify it is tunnel mode; whether that will do is the peer's to say
	case !asked:
		return refuse(message.NotifyNoProposalChosen, "the peer wants tunnel mode, policy %v is for transport mode: tunnel differs on the two sides", x.policy.Pair)
	}
	x.out = append(x.out, &message.Notify{Kind: message.NotifyUseTransportMode})
	return nil
}

// checkTransport compares the responder's mode with the policy's.
func (x *exchange) checkTransport() error {
	granted := notify(x.in, message.NotifyUseTransportMode) != nil
	switch {
	case granted && x.policy.Tunnel:
		return refuse(message.NotifyNoProposalChosen, "the peer chose transport mode, which was not asked for")
	case !granted && !x.policy.Tunnel:
		return refuse(message.NotifyNoProposalChosen, "the peer declined transport mode: tunnel differs on the two sides")
	}
	return nil
}
