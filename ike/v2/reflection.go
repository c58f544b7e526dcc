package v2

import (
	"encoding/binary"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Reflection: somebody on the path sends our own messages back to us from the peer's
// address. With a pre-shared key, which both sides prove in the same way, we would
// then authenticate ourselves as the peer. So whoever says to us what only we can
// have drawn is not answered, in any exchange:
//
//	SPI            of the IKE SA that we begin, in the header or in a proposal
//	nonce          of a request of ours that is not answered yet
//	public value   of the same, in a KE payload
//
// The keys of the two directions of an IKE SA differ, so that protected messages
// cannot come back; there it is the peer itself that says what is ours.

// noteOwn notes what a request of ours carries, before it leaves.
func (x *exchange) noteOwn() {
	x.forgetOwn()
	for _, p := range x.out {
		switch p := p.(type) {
		case *message.Nonce:
			x.own = append(x.own, string(p.Data))
		case *message.KE:
			x.own = append(x.own, string(p.Data))
		}
	}
	if s := part[*succession](x); s != nil {
		x.own = append(x.own, string(binary.BigEndian.AppendUint64(nil, s.newSPI)))
	}
	for _, v := range x.own {
		x.sa.base.Env.Own.Add(v)
	}
}

// forgetOwn is called when the request was answered, or never will be.
func (x *exchange) forgetOwn() {
	for _, v := range x.own {
		x.sa.base.Env.Own.Drop(v)
	}
	x.own = nil
}

// reflected is ErrReflected where a request of the peer carries what is ours.
func reflected(env *core.Env, in []message.Payload) error {
	for _, p := range in {
		switch p := p.(type) {
		case *message.Nonce:
			if env.Own.Has(p.Data) {
				return ikesa.ErrReflected
			}
		case *message.KE:
			if env.Own.Has(p.Data) {
				return ikesa.ErrReflected
			}
		case *message.SA:
			for _, prop := range p.Proposals {
				if len(prop.SPI) == 8 && env.Own.Has(prop.SPI) {
					return ikesa.ErrReflected
				}
			}
		}
	}
	return nil
}
