package v2

import (
	"encoding/binary"
	"time"

	"culvert/ike/message"
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
