package core

import (
	"cmp"
	"slices"

	"culvert/crypto/suite"
)

// Suite is what two peers agreed on for one SA. Fields that the protocol does
// not negotiate are nil.
type Suite struct {
	Encr  *suite.Encr
	PRF   *suite.PRF
	Integ *suite.Integ // nil with an AEAD
	Group *suite.Group
	ESN   bool
	AH    *suite.Integ // of the AH around ESP; nil: there is none

	Additional []*suite.KEM // key exchanges after the first, in order
}

// KeyExchange names the key exchanges of a suite as dh-group does: "x25519+ml-kem-768". It is empty if there is none.
func (s Suite) KeyExchange() string {
	if s.Group == nil {
		return ""
	}
	name := s.Group.Name
	for _, k := range s.Additional {
		name += "+" + k.Name
	}
	return name
}

// IKEText is the suite of an IKE SA for people: "aes-256/sha256, prf sha256, x25519+ml-kem-768".
func (s Suite) IKEText() string {
	if s.Encr == nil {
		return ""
	}
	text := cmp.Or(s.Encr.IKEName, s.Encr.Name)
	if s.Integ != nil {
		text += "/" + s.Integ.Name
	}
	if s.PRF != nil {
		text += ", prf " + s.PRF.Name
	}
	if k := s.KeyExchange(); k != "" {
		text += ", " + k
	}
	return text
}

// Alternative is one proposal for one SA, as it was sent or is to be sent: what of each
// type would do. It is the same in every version of IKE. An IKEv1 proposal of several
// transforms, of which each is whole, is as many alternatives.
type Alternative struct {
	Number     uint8
	Protocol   Protocol
	Transforms []Transform
	AH         []Transform // of AH that goes around ESP, in IKEv1; nil: the protocol is alone
}

// Transform is one algorithm of an Alternative.
type Transform struct {
	Type    suite.TransformType
	ID      uint16 // by the numbers of IKEv2, into which other versions translate by the rows of crypto/suite
	KeyBits uint16 // 0: none said
	Unknown bool   // something about it is not understood, so that it cannot be chosen
}

// Offer is one side's transforms for one SA, in order of preference.
type Offer struct {
	Protocol Protocol
	Encrs    []*suite.Encr
	PRFs     []*suite.PRF
	Integs   []*suite.Integ
	Groups   []*suite.Group // nil: no key exchange
	ESN      []bool         // nil: not negotiated (IKE)
	AH       []*suite.Integ // of AH that goes around ESP; nil: the protocol is alone

	sets []exchanges // which of Groups go with which additional key exchanges; nil: none
}

// IKEOffer is the offer of a profile.
func IKEOffer(p *Profile) Offer {
	return Offer{Protocol: ProtoIKE, Encrs: p.Encrs, PRFs: p.PRFs, Integs: p.Integs, Groups: p.Groups}
}

// ChildOffer is the offer of a proposal. In IKE_AUTH there is no key exchange of
// its own (RFC 7296 §1.2).
func ChildOffer(p *Policy, withPFS bool) Offer {
	o := Offer{Protocol: p.Protocol, Encrs: p.Proposal.Encrs, Integs: p.Proposal.Integs, ESN: p.Proposal.ESN}
	if p.Protocol == ProtoAH {
		o.Encrs = nil // AH does not encrypt
	}
	if p.Peer != nil && p.Peer.Version == IKEv1 {
		o = o.phase2()
		if p.AH {
			o.AH = o.Integs
		}
	}
	if withPFS && len(p.Proposal.PFS) > 0 {
		o.Groups, o.sets = p.Proposal.Groups(), sets(p.Proposal.PFS, true)
	}
	return o
}

// Alternatives writes the offer down as proposals. AEADs and other ciphers go
// into proposals of their own, because only the latter have integrity
// transforms (RFC 5282 §8); the kind of the first cipher comes first.
func (o Offer) Alternatives() []Alternative {
	var kinds []bool
	for _, e := range o.Encrs {
		if !slices.Contains(kinds, e.AEAD()) {
			kinds = append(kinds, e.AEAD())
		}
	}
	if o.Protocol == ProtoAH {
		kinds = []bool{false}
	}
	var out []Alternative
	for _, x := range o.exchanges() {
		out = o.appendAlternatives(out, kinds, x)
	}
	return out
}

func (o Offer) appendAlternatives(out []Alternative, kinds []bool, x exchanges) []Alternative {
	for _, aead := range kinds {
		if !aead && len(o.Integs) == 0 {
			continue
		}
		p := Alternative{Number: uint8(len(out) + 1), Protocol: o.Protocol}
		for _, e := range o.Encrs {
			if e.AEAD() == aead {
				p.Transforms = append(p.Transforms, Transform{Type: suite.TypeEncr, ID: e.ID, KeyBits: e.KeyBits})
			}
		}
		for _, f := range o.PRFs {
			p.Transforms = append(p.Transforms, Transform{Type: suite.TypePRF, ID: f.ID})
		}
		if !aead {
			for _, a := range o.Integs {
				p.Transforms = append(p.Transforms, Transform{Type: suite.TypeInteg, ID: a.ID})
			}
		}
		for _, g := range x.groups {
			p.Transforms = append(p.Transforms, Transform{Type: suite.TypeDH, ID: g.ID})
		}
		for _, esn := range o.ESN {
			p.Transforms = append(p.Transforms, Transform{Type: suite.TypeESN, ID: esnID(esn)})
		}
		x.addTransforms(&p)
		out = append(out, p)
	}
	return out
}

func esnID(esn bool) uint16 {
	if esn {
		return 1
	}
	return 0
}

// Select chooses from what the peer proposed: the first proposal that we can
// accept, and in it of each kind the transform that we like best. The answer is
// the proposal to send back; ok is false when
// nothing fits.
func (o Offer) Select(peer []Alternative) (s Suite, answer Alternative, ok bool) {
	for i := range peer {
		if s, ok = o.match(&peer[i]); ok {
			return s, s.proposal(o, &peer[i]), true
		}
	}
	return Suite{}, Alternative{}, false
}

// Accepts checks what a responder chose from our offer: exactly one proposal,
// with at most one transform of each kind, all of them ours.
func (o Offer) Accepts(chosen []Alternative) (Suite, bool) {
	if len(chosen) != 1 {
		return Suite{}, false
	}
	seen := map[suite.TransformType]bool{}
	for _, t := range chosen[0].Transforms {
		if seen[t.Type] {
			return Suite{}, false
		}
		seen[t.Type] = true
	}
	return o.match(&chosen[0])
}

// match selects within one proposal. An AEAD needs no integrity transform, and
// one that is offered along with it is passed over, because old peers do so. A
// missing ESN transform means 32-bit numbers. Where we have no group, a group
// of the peer's is refused unless NONE is offered too; in IKE_AUTH the caller
// takes DH transforms out before.
func (o Offer) match(p *Alternative) (s Suite, ok bool) {
	if !o.sameProtocols(p) || slices.ContainsFunc(p.Transforms, strange) {
		return s, false
	}
	if len(o.AH) > 0 {
		if s.AH = firstInteg(o.AH, p.AH); s.AH == nil {
			return s, false
		}
	}
	for _, e := range o.Encrs {
		if encrOf(p, e) == nil {
			continue
		}
		integ, ok := o.integ(p, e)
		if ok {
			s.Encr, s.Integ = e, integ
			break
		}
	}
	if o.Protocol == ProtoAH {
		s.Integ = o.anyInteg(p)
	}
	if s.Encr == nil && (o.Protocol != ProtoAH || s.Integ == nil) {
		return s, false
	}
	if o.Protocol == ProtoIKE {
		i := slices.IndexFunc(o.PRFs, func(f *suite.PRF) bool { return has(p, suite.TypePRF, f.ID, 0) })
		if i < 0 {
			return s, false
		}
		s.PRF = o.PRFs[i]
	}
	if len(o.Groups) > 0 {
		if !s.exchange(o, p) {
			return s, false
		}
	} else if !without(p) {
		return s, false
	}
	if len(o.ESN) > 0 {
		i := slices.IndexFunc(o.ESN, func(esn bool) bool {
			return has(p, suite.TypeESN, esnID(esn), 0) || !esn && !hasAny(p, suite.TypeESN)
		})
		if i < 0 {
			return s, false
		}
		s.ESN = o.ESN[i]
	}
	return s, true
}

// without reports whether a proposal can do without a key exchange: it has none, or NONE.
func without(p *Alternative) bool {
	return (!hasAny(p, suite.TypeDH) || has(p, suite.TypeDH, 0, 0)) && (exchanges{}).fits(p)
}

// exchange selects the group and what comes after it, or none.
func (s *Suite) exchange(o Offer, p *Alternative) bool {
	for _, x := range o.exchanges() {
		if x.none && without(p) {
			return true
		}
		i := slices.IndexFunc(x.groups, func(g *suite.Group) bool { return has(p, suite.TypeDH, g.ID, 0) })
		if i >= 0 && x.fits(p) {
			s.Group, s.Additional = x.groups[i], x.additional
			return true
		}
	}
	return false
}

// strange reports a transform of a type that we do not know; a proposal that has
// one is not ours to accept (RFC 7296 §3.3.6).
func strange(t Transform) bool { return t.Type < suite.TypeEncr || t.Type > suite.TypeAddKE7 }

func (o Offer) integ(p *Alternative, e *suite.Encr) (*suite.Integ, bool) {
	if e.AEAD() {
		return nil, true
	}
	a := o.anyInteg(p)
	return a, a != nil
}

func (o Offer) anyInteg(p *Alternative) *suite.Integ { return firstInteg(o.Integs, p.Transforms) }

func firstInteg(ours []*suite.Integ, theirs []Transform) *suite.Integ {
	for _, a := range ours {
		if hasOf(theirs, suite.TypeInteg, a.ID, 0) {
			return a
		}
	}
	return nil
}

// sameProtocols reports whether a proposal is for the protocol of the offer, or for both where AH is to go around ESP.
func (o Offer) sameProtocols(p *Alternative) bool {
	return p.Protocol == o.Protocol && (len(p.AH) > 0) == (len(o.AH) > 0)
}

// proposal is the responder's answer: the chosen transforms of the peer's
// proposal and nothing else. A Key Length attribute goes back as it came.
func (s Suite) proposal(o Offer, peer *Alternative) Alternative {
	p := Alternative{Number: peer.Number, Protocol: o.Protocol}
	add := func(t suite.TransformType, id, bits uint16) {
		p.Transforms = append(p.Transforms, Transform{Type: t, ID: id, KeyBits: bits})
	}
	if s.Encr != nil {
		add(suite.TypeEncr, s.Encr.ID, encrOf(peer, s.Encr).KeyBits)
	}
	if s.PRF != nil {
		add(suite.TypePRF, s.PRF.ID, 0)
	}
	if s.Integ != nil {
		add(suite.TypeInteg, s.Integ.ID, 0)
	}
	if s.Group != nil {
		add(suite.TypeDH, s.Group.ID, 0)
	}
	if len(o.ESN) > 0 {
		add(suite.TypeESN, esnID(s.ESN), 0)
	}
	s.answerAdditional(&p, peer)
	return p
}

// encrOf is the transform of a proposal that is the cipher; nil if there is none.
func encrOf(p *Alternative, e *suite.Encr) *Transform {
	for i := range p.Transforms {
		if x := &p.Transforms[i]; x.Type == suite.TypeEncr && e.Is(x.ID, x.KeyBits) && !x.Unknown {
			return x
		}
	}
	return nil
}

func has(p *Alternative, t suite.TransformType, id, bits uint16) bool {
	return hasOf(p.Transforms, t, id, bits)
}

func hasOf(list []Transform, t suite.TransformType, id, bits uint16) bool {
	return slices.ContainsFunc(list, func(x Transform) bool {
		return x.Type == t && x.ID == id && x.KeyBits == bits && !x.Unknown
	})
}

func hasAny(p *Alternative, t suite.TransformType) bool {
	return slices.ContainsFunc(p.Transforms, func(x Transform) bool { return x.Type == t })
}
