package v2

import (
	"encoding/binary"
	"slices"
	"time"

	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// authLifetime tells and hears AUTH_LIFETIME.
type authLifetime struct{ noop }

func (*authLifetime) reply(x *exchange) error {
	if life := x.sa.base.ProofLeft(); life > 0 {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyAuthLifetime,
			Data: binary.BigEndian.AppendUint32(nil, uint32(life/time.Second))})
	}
	return nil
}

func (*authLifetime) complete(x *exchange) error {
	hearAuthLifetime(x.sa, x.in)
	return nil
}

func (*authLifetime) settle(x *exchange) error {
	x.sa.base.Proved(x.mine)
	return nil
}

// hearAuthLifetime reads AUTH_LIFETIME, which may also come later, in an
// INFORMATIONAL request (RFC 4478 §3).
func hearAuthLifetime(sa *SA, in []message.Payload) {
	if n := notify(in, message.NotifyAuthLifetime); n != nil && len(n.Data) == 4 {
		sa.base.LimitAuth(time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second)
	}
}

// InitiateAnew makes the IKE SA that replaces sa at a re-authentication, with
// the same policies. The caller adopts it and calls Begin.
func InitiateAnew(old *ikesa.SA, owner Owner, ikePort uint16) *SA {
	p := ikesa.Path{Local: withPort(old.Local, ikePort), Remote: withPort(old.Remote, old.Peer.Port)}
	n := Initiate(old.Env, old.Owner, owner, old.Peer, p, old.MainPolicy())
	if slices.ContainsFunc(old.Children, func(c *Child) bool { return c.Policy.Identity != nil }) {
		n.base.Identity = old.Identity // that of the policies that it takes over
	}
	return n
}
