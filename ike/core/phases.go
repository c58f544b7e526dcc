package core

import (
	"slices"

	"culvert/crypto/suite"
)

// What of profiles and proposals IKEv1 can negotiate.

// Phase1Offer is the offer of a profile for phase 1. The hash of phase 1 is both PRF and integrity: the
// names are those of hash-algorithm.
func Phase1Offer(p *Profile) Offer {
	o := Offer{Protocol: ProtoIKE, Encrs: only(p.Encrs, func(e *suite.Encr) bool { return e.V1.Phase1 != 0 }),
		Groups: only(p.Groups, func(g *suite.Group) bool { return g.V1 != 0 })}
	for _, a := range p.Integs {
		if f := suite.PRFByName(a.Name); f != nil && f.V1 != 0 {
			o.PRFs, o.Integs = append(o.PRFs, f), append(o.Integs, a)
		}
	}
	return o
}

// OfferFor is the offer for a new IKE SA with a peer, in the version that it speaks, if the peer understands all of it.
func OfferFor(p *Peer) Offer {
	if p.Version == IKEv1 {
		return Phase1Offer(&p.Profile)
	}
	return InitOffer(&p.Profile, true)
}

// phase2 leaves of an offer for a CHILD SA what has numbers in phase 2. Sequence numbers are of 32 bits.
func (o Offer) phase2() Offer {
	o.Encrs = only(o.Encrs, func(e *suite.Encr) bool { return e.V1.ESP != 0 })
	o.Integs = only(o.Integs, func(a *suite.Integ) bool { return a.V1.ESP != 0 })
	o.ESN = nil
	return o
}

func only[T any](list []*T, ok func(*T) bool) []*T {
	return slices.DeleteFunc(slices.Clone(list), func(t *T) bool { return !ok(t) })
}

// Whole writes the offer down as IKEv1 does: each alternative has one transform of each type. groups are
// those to offer; without any, the offer has no key exchange. The first alternative has number 1.
func (o Offer) Whole(groups []*suite.Group) (out []Alternative) {
	add := func(ts ...Transform) {
		base := len(ts)
		for i := range max(len(groups), 1) {
			ts := slices.Clone(ts[:base])
			if len(groups) > 0 {
				ts = append(ts, Transform{Type: suite.TypeDH, ID: groups[i].ID})
			}
			if len(out) < maxWhole {
				out = append(out, Alternative{Number: uint8(len(out) + 1), Protocol: o.Protocol, Transforms: ts})
			}
		}
	}
	if o.Protocol == ProtoAH {
		for _, a := range o.Integs {
			add(Transform{Type: suite.TypeInteg, ID: a.ID})
		}
		return out
	}
	for _, e := range o.Encrs {
		encr := Transform{Type: suite.TypeEncr, ID: e.ID, KeyBits: e.KeyBits}
		switch {
		case o.Protocol == ProtoIKE:
			for i, f := range o.PRFs {
				add(encr, Transform{Type: suite.TypePRF, ID: f.ID}, Transform{Type: suite.TypeInteg, ID: o.Integs[i].ID})
			}
		case e.AEAD():
			add(encr)
		default:
			for _, a := range o.Integs {
				add(encr, Transform{Type: suite.TypeInteg, ID: a.ID})
			}
		}
	}
	return out
}

// maxWhole is how many transforms a proposal can count.
const maxWhole = 255
