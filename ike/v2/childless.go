package v2

import "culvert/ike/message"

// Childless initiation (RFC 6023): a responder says in IKE_SA_INIT that it takes
// an IKE_AUTH without SA, TSi and TSr, which makes an IKE SA and no CHILD SA. Every
// responder here does. As initiator we always have a policy that wants a CHILD SA.
func childlessSupport() task {
	return task{reply: func(x *exchange) error {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyChildlessIKEv2Supported})
		return nil
	}}
}
