package v2

import (
	"culvert/ike/core"
	"culvert/ike/message"
)

// Childless initiation (RFC 6023): a responder says in IKE_SA_INIT that it takes
// an IKE_AUTH without SA, TSi and TSr, which makes an IKE SA and no CHILD SA. Every
// responder here does. As initiator we do it where the configuration wants it:
// all CHILD SAs, the first too, are then made by CREATE_CHILD_SA, with a key
// exchange of their own.
type childlessSupport struct{ noop }

func (*childlessSupport) reply(x *exchange) error {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyChildlessIKEv2Supported})
	return nil
}

func (*childlessSupport) complete(x *exchange) error {
	sa := x.sa
	announced := notify(x.in, message.NotifyChildlessIKEv2Supported) != nil
	if sa.base.Peer.Childless == core.ChildlessRequire && !announced {
		return end(0, `the peer does not say CHILDLESS_IKEV2_SUPPORTED, and peer %q has childless = "require": write "prefer" to do without, or have the peer allow it`, sa.base.Peer.Name)
	}
	sa.init.childless = announced && sa.base.Peer.Childless != core.ChildlessNo
	return nil
}

// onlyChildless refuses a CHILD SA in IKE_AUTH where the configuration wants it
// with a key exchange of its own; the IKE SA comes up.
func onlyChildless(sa *SA) error {
	if sa.base.Peer.Childless == core.ChildlessRequire {
		return refuse(message.NotifyNoProposalChosen, `peer %q has childless = "require", and the peer asks for a CHILD SA in IKE_AUTH: have it make CHILD SAs by CREATE_CHILD_SA alone`, sa.base.Peer.Name)
	}
	return nil
}
