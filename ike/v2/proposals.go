package v2

import (
	"culvert/ike/core"
	"culvert/ike/message"
)

// The SA payload and the neutral proposals that package core matches.

// neutral is what the peer proposed or chose.
func neutral(ps []message.Proposal) []core.Alternative {
	out := make([]core.Alternative, len(ps))
	for i, p := range ps {
		out[i] = core.Alternative{Number: p.Number, Protocol: core.Protocol(p.Protocol), Transforms: make([]core.Transform, len(p.Transforms))}
		for j, t := range p.Transforms {
			out[i].Transforms[j] = core.Transform(t)
		}
	}
	return out
}

// proposing is the SA payload that has alternatives, with our SPI: none in IKE_SA_INIT.
func proposing(spi []byte, list ...core.Alternative) *message.SA {
	sa := &message.SA{}
	for _, a := range list {
		p := message.Proposal{Number: a.Number, Protocol: uint8(a.Protocol), SPI: spi}
		for _, t := range a.Transforms {
			p.Transforms = append(p.Transforms, message.Transform(t))
		}
		sa.Proposals = append(sa.Proposals, p)
	}
	return sa
}
