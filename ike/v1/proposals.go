package v1

import (
	"fmt"
	"slices"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// The SA payload and the neutral proposals that package core matches. Each transform of IKEv1 is whole, so that it is an
// alternative of its own.

// phase1SA is what we offer for phase 1, of some groups.
func phase1SA(p *core.Profile, method uint16, groups []*suite.Group) *isakmp.SA {
	o := core.Phase1Offer(p)
	q := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtoISAKMP}
	for _, a := range o.Whole(groups) {
		t := isakmp.Phase1{Auth: method, Life: lifetime(p.Lifetime, p.Lifebytes)}
		for _, x := range a.Transforms {
			switch x.Type {
			case suite.TypeEncr:
				t.Encryption, t.KeyBits = suite.EncrByID(x.ID, x.KeyBits).V1.Phase1, x.KeyBits
			case suite.TypePRF:
				t.Hash = suite.PRFByID(x.ID).V1
			case suite.TypeDH:
				t.Group = suite.GroupByID(x.ID).V1
			}
		}
		q.Transforms = append(q.Transforms, isakmp.Transform{Number: a.Number, ID: isakmp.KeyIKE, Attributes: t.Attributes()})
	}
	return &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{q}}
}

// lifetime says how long an SA lives.
func lifetime(d time.Duration, bytes uint64) isakmp.Lifetime {
	return isakmp.Lifetime{Seconds: uint64(d / time.Second), Kilobytes: bytes / 1024}
}

// offered is one transform that the peer offers, or has chosen.
type offered struct {
	proposal  isakmp.Proposal
	transform isakmp.Transform
	neutral   core.Alternative
	phase1    isakmp.Phase1
	phase2    isakmp.Phase2
	ah        *offered // AH that goes around it; nil: it is alone
	ahFirst   bool     // its proposal stands before that of ESP
}

// maxOffered bounds how many transforms of one SA payload are looked at.
const maxOffered = 255

// payload is the SA payload that has that one alone: as an answer, unchanged as it came (RFC 2408 §4.2).
func (o *offered) payload(ours spis) *isakmp.SA {
	list := []isakmp.Proposal{o.alone(ours.own)}
	switch {
	case o.ah != nil && o.ahFirst:
		list = append([]isakmp.Proposal{o.ah.alone(ours.ah)}, list...)
	case o.ah != nil:
		list = append(list, o.ah.alone(ours.ah))
	}
	return &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: list}
}

func (o *offered) alone(spi uint32) isakmp.Proposal {
	q := o.proposal
	q.SPI, q.Transforms = nil, []isakmp.Transform{o.transform}
	if spi != 0 {
		q.SPI = spiBytes(spi)
	}
	return q
}

// alternatives are the neutral ones, numbered by their places from 1.
func alternatives(list []offered) (out []core.Alternative) {
	for i, o := range list {
		o.neutral.Number = uint8(i + 1)
		out = append(out, o.neutral)
	}
	return out
}

// phase1Offers reads what the peer offers for phase 1.
func phase1Offers(p *isakmp.SA) (list []offered) {
	for _, q := range p.Proposals {
		if q.Protocol != isakmp.ProtoISAKMP {
			continue
		}
		for _, t := range q.Transforms {
			o := offered{proposal: q, transform: t, phase1: isakmp.ReadPhase1(t.Attributes)}
			o.neutral = phase1Neutral(t.ID, o.phase1)
			if len(list) < maxOffered {
				list = append(list, o)
			}
		}
	}
	return list
}

func phase1Neutral(id uint8, p isakmp.Phase1) core.Alternative {
	a := core.Alternative{Protocol: core.ProtoIKE}
	unknown := id != isakmp.KeyIKE || p.Strange
	add := func(t suite.TransformType, id, bits uint16, known bool) {
		a.Transforms = append(a.Transforms, core.Transform{Type: t, ID: id, KeyBits: bits, Unknown: unknown || !known})
	}
	if e := suite.EncrByPhase1(p.Encryption, p.KeyBits); e != nil {
		add(suite.TypeEncr, e.ID, e.KeyBits, true)
	} else {
		add(suite.TypeEncr, p.Encryption, p.KeyBits, false)
	}
	if f := suite.PRFByPhase1(p.Hash); f != nil {
		add(suite.TypePRF, f.ID, 0, true)
		add(suite.TypeInteg, suite.IntegByName(f.Name).ID, 0, true)
	} else {
		add(suite.TypePRF, p.Hash, 0, false)
		add(suite.TypeInteg, p.Hash, 0, false)
	}
	if g := suite.GroupByPhase1(p.Group); g != nil {
		add(suite.TypeDH, g.ID, 0, true)
	} else {
		add(suite.TypeDH, p.Group, 0, false)
	}
	return a
}

// ofMethods leaves the transforms that prove the ends in one of some ways.
func ofMethods(list []offered, methods []uint16) []offered {
	return slices.DeleteFunc(slices.Clone(list), func(o offered) bool { return !slices.Contains(methods, o.phase1.Auth) })
}

var methodNames = map[uint16]string{
	isakmp.AuthPreShared: "pre-shared key", isakmp.AuthDSSSignatures: "DSS signatures", isakmp.AuthRSASignatures: "RSA signatures",
	isakmp.AuthRSAEncryption: "encryption with RSA", isakmp.AuthRSARevised: "revised encryption with RSA",
	isakmp.AuthECDSA256: "ECDSA signatures (256)", isakmp.AuthECDSA384: "ECDSA signatures (384)", isakmp.AuthECDSA521: "ECDSA signatures (521)",
	isakmp.AuthHybridInitRSA: "hybrid", isakmp.AuthHybridRespRSA: "hybrid", isakmp.AuthXAuthInitPreShared: "pre-shared key and XAuth",
	isakmp.AuthXAuthRespPreShared: "pre-shared key and XAuth", isakmp.AuthXAuthInitRSA: "RSA signatures and XAuth", isakmp.AuthXAuthRespRSA: "RSA signatures and XAuth",
}

// methodsOf names the ways in which the peer would have the ends prove themselves, for people.
func methodsOf(list []offered) (names []string) {
	for _, o := range list {
		name := methodNames[o.phase1.Auth]
		if name == "" {
			name = fmt.Sprintf("method %d", o.phase1.Auth)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// --- phase 2 ---

// phase2SA is what we offer for a CHILD SA: with a group for a key exchange of its own, unless that is nil. Where AH goes
// around ESP there are two proposals of one number, which are to be used together (RFC 2408 §4.2).
func phase2SA(p *core.Policy, g *suite.Group, ours spis, encap uint16) *isakmp.SA {
	var groups []*suite.Group
	if g != nil {
		groups = []*suite.Group{g}
	}
	var list []isakmp.Proposal
	if p.AH {
		around := *p
		around.Protocol = core.ProtoAH
		list = append(list, phase2Proposal(&around, groups, ours.ah, encap))
	}
	list = append(list, phase2Proposal(p, groups, ours.own, encap))
	return &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: list}
}

// phase2Proposal is that for one protocol.
func phase2Proposal(p *core.Policy, groups []*suite.Group, spi uint32, encap uint16) isakmp.Proposal {
	q := isakmp.Proposal{Number: 1, Protocol: uint8(p.Protocol), SPI: spiBytes(spi)}
	for _, a := range core.ChildOffer(p, true).Whole(groups) {
		t := isakmp.Phase2{Encapsulation: encap, Life: lifetime(p.Proposal.Lifetime, p.Proposal.Lifebytes)}
		var id uint8
		for _, x := range a.Transforms {
			switch x.Type {
			case suite.TypeEncr:
				id, t.KeyBits = suite.EncrByID(x.ID, x.KeyBits).V1.ESP, x.KeyBits
			case suite.TypeInteg:
				i := suite.IntegByID(x.ID)
				if t.Auth = i.V1.ESP; p.Protocol == core.ProtoAH {
					id = i.V1.AH
				}
			case suite.TypeDH:
				t.Group = suite.GroupByID(x.ID).V1
			}
		}
		q.Transforms = append(q.Transforms, isakmp.Transform{Number: a.Number, ID: id, Attributes: t.Attributes()})
	}
	return q
}

// phase2Offers reads what the peer offers for a CHILD SA. Of several protocols that are to be used together it takes AH
// with ESP alone (bundle.go).
func phase2Offers(p *isakmp.SA) (list []offered) {
	for _, together := range p.Offers() {
		switch len(together) {
		case 1:
			list = append(list, transformsOf(together[0])...)
		case 2:
			list = append(list, bundles(together)...)
		}
	}
	return list[:min(len(list), maxOffered)]
}

// transformsOf are those of a proposal for a CHILD SA.
func transformsOf(q isakmp.Proposal) (list []offered) {
	if len(q.SPI) != 4 {
		return nil
	}
	for _, t := range q.Transforms {
		o := offered{proposal: q, transform: t, phase2: isakmp.ReadPhase2(t.Attributes)}
		o.neutral = phase2Neutral(q.Protocol, t.ID, o.phase2)
		list = append(list, o)
	}
	return list
}

func phase2Neutral(protocol, id uint8, p isakmp.Phase2) core.Alternative {
	a := core.Alternative{Protocol: core.Protocol(protocol)}
	strange := p.Strange || p.ESN == 1 // sequence numbers of 64 bits are neither offered nor chosen
	add := func(t suite.TransformType, id, bits uint16, known bool) {
		a.Transforms = append(a.Transforms, core.Transform{Type: t, ID: id, KeyBits: bits, Unknown: strange || !known})
	}
	i := suite.IntegByPhase2(p.Auth)
	if a.Protocol == core.ProtoAH {
		if i != nil && i.V1.AH == id { // both name it, and have to agree (RFC 2407 §4.4.3)
			add(suite.TypeInteg, i.ID, 0, true)
		} else {
			add(suite.TypeInteg, uint16(id), 0, false)
		}
	} else {
		if e := suite.EncrByPhase2(id, p.KeyBits); e != nil {
			add(suite.TypeEncr, e.ID, e.KeyBits, true)
		} else {
			add(suite.TypeEncr, uint16(id), p.KeyBits, false)
		}
		switch {
		case i != nil:
			add(suite.TypeInteg, i.ID, 0, true)
		case p.Auth != 0:
			add(suite.TypeInteg, p.Auth, 0, false)
		}
	}
	if p.Group != 0 {
		if g := suite.GroupByPhase1(p.Group); g != nil {
			add(suite.TypeDH, g.ID, 0, true)
		} else {
			add(suite.TypeDH, p.Group, 0, false)
		}
	}
	return a
}
