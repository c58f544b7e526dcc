package v2

import "culvert/ike/message"

// Transport mode (RFC 7296 §1.3.1): who wants it says so beside its offer, and
// it is agreed on where the responder says so too. A policy is for one mode, and
// the other is refused: what the two ends believe about headers must not differ.
// package sa decides (request.go, answer.go).

// saysTransport reports whether the peer asks for transport mode, or chose it.
func (x *exchange) saysTransport() bool {
	return notify(x.in, message.NotifyUseTransportMode) != nil
}

// sayTransport asks for transport mode, or says that it was chosen.
func (x *exchange) sayTransport() {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyUseTransportMode})
}
