package v2

import "culvert/ike/message"

// initialContact says that we know of no other SA with the peer, or hears it
// (RFC 7296 §2.4): what is left of an earlier life of the peer goes away.
type initialContact struct{ noop }

func (*initialContact) request(x *exchange) error {
	if x.sa.base.Only() {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyInitialContact})
	}
	return nil
}

func (*initialContact) settle(x *exchange) error {
	if !x.mine && x.madeContact() {
		x.sa.base.InitialContact()
	}
	return nil
}

// madeContact reports whether the peer says INITIAL_CONTACT.
func (x *exchange) madeContact() bool { return notify(x.in, message.NotifyInitialContact) != nil }
