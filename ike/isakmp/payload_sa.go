package isakmp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// The domain of interpretation, the situation and the protocols of RFC 2407 (§4.2, §4.4.1).
const (
	DOIISAKMP uint32 = 0
	DOIIPsec  uint32 = 1

	SituationIdentityOnly uint32 = 1

	ProtoISAKMP uint8 = 1
	ProtoAH     uint8 = 2
	ProtoESP    uint8 = 3
	ProtoIPComp uint8 = 4
)

// SA is the Security Association payload (RFC 2408 §3.4, RFC 2407 §4.6.1): the proposals in
// order of preference, or the one that was chosen.
//
//	+---------------------------------------------------------------+
//	|               Domain of Interpretation (DOI)                  |
//	+---------------------------------------------------------------+
//	|                           Situation                           |
//	+---------------------------------------------------------------+
//	~                           Proposals                           ~
//	+---------------------------------------------------------------+
//
// Under another DOI, or in a situation with secrecy or integrity levels, other fields follow
// than proposals: then Proposals is empty, and Rest is what follows.
type SA struct {
	DOI       uint32
	Situation uint32
	Proposals []Proposal // at most 64
	Rest      []byte     // what is not understood, after DOI and Situation

	raw []byte
}

// Proposal is one Proposal payload (RFC 2408 §3.5). Whether SPI has the
// length of its protocol is the reader's to check. SPI is empty in phase 1, but some peers
// send their cookie or zeros there.
//
//	+---------------+---------------+-------------------------------+
//	| Next Payload  |   RESERVED    |        Payload Length         |
//	+---------------+---------------+---------------+---------------+
//	|  Proposal #   |  Protocol-Id  |    SPI Size   |# of Transforms|
//	+---------------+---------------+---------------+---------------+
//	~                        SPI (variable)                         ~
//	+---------------------------------------------------------------+
//	~                        Transforms                             ~
//	+---------------------------------------------------------------+
type Proposal struct {
	Number     uint8
	Protocol   uint8
	SPI        []byte
	Transforms []Transform // one of them is to be chosen; at most 255
}

// Transform is one Transform payload (RFC 2408 §3.6). Who chooses it sends it back with
// its number and its attributes as they are (§4.2), so it keeps their order and form.
//
//	+---------------+---------------+-------------------------------+
//	| Next Payload  |   RESERVED    |        Payload Length         |
//	+---------------+---------------+-------------------------------+
//	|  Transform #  |  Transform-Id |           RESERVED2           |
//	+---------------+---------------+-------------------------------+
//	~                       SA Attributes                           ~
//	+---------------------------------------------------------------+
type Transform struct {
	Number     uint8
	ID         uint8
	Attributes []Attribute
}

// What stands as next payload in a proposal and a transform that is not the last.
const (
	moreProposals  = 2
	moreTransforms = 3
)

func (p *SA) Type() PayloadType { return TypeSA }

// Body is the body as it was received, which is what a hash of phase 1 takes (SAi_b), and
// that of AppendBody if it was not received.
func (p *SA) Body() []byte {
	if p.raw != nil {
		return p.raw
	}
	return p.AppendBody(nil)
}

// Offers are the alternatives: consecutive proposals of one number belong together, and all of
// them are chosen or none (RFC 2408 §4.2).
func (p *SA) Offers() [][]Proposal {
	var all [][]Proposal
	for i, q := range p.Proposals {
		if i > 0 && q.Number == p.Proposals[i-1].Number {
			all[len(all)-1] = append(all[len(all)-1], q)
		} else {
			all = append(all, []Proposal{q})
		}
	}
	return all
}

func (p *SA) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, p.DOI)
	b = binary.BigEndian.AppendUint32(b, p.Situation)
	ps := p.Proposals[:min(len(p.Proposals), maxProposals)]
	for i := range ps {
		b = ps[i].append(b, i+1 < len(ps))
	}
	return append(b, p.Rest...)
}

func (p *Proposal) append(b []byte, more bool) []byte {
	start := len(b)
	ts := p.Transforms[:min(len(p.Transforms), maxTransforms)]
	spi := bounded(p.SPI, 255)
	b = append(b, mark(more, moreProposals), 0, 0, 0, p.Number, p.Protocol, byte(len(spi)), byte(len(ts)))
	b = append(b, spi...)
	for i := range ts {
		b = ts[i].append(b, i+1 < len(ts))
	}
	putLength(b, start+2, start)
	return b
}

func (t *Transform) append(b []byte, more bool) []byte {
	start := len(b)
	b = append(b, mark(more, moreTransforms), 0, 0, 0, t.Number, t.ID, 0, 0)
	b = appendAttributes(b, t.Attributes)
	putLength(b, start+2, start)
	return b
}

func mark(more bool, v byte) byte {
	if more {
		return v
	}
	return 0
}

func parseSA(_ PayloadType, s cryptobyte.String, odd *Odd) (Payload, string) {
	p := &SA{raw: s[:len(s):len(s)]}
	if !s.ReadUint32(&p.DOI) || !s.ReadUint32(&p.Situation) {
		return nil, short
	}
	if p.DOI > DOIIPsec || p.Situation != SituationIdentityOnly {
		p.Rest = rest(&s)
		return p, ""
	}
	for more := true; more; {
		if len(p.Proposals) == maxProposals {
			return nil, fmt.Sprintf("more than %d proposals", maxProposals)
		}
		last, body, reason := readSubstructure(&s, moreProposals, "proposal", odd)
		if reason != "" {
			return nil, reason
		}
		q, reason := parseProposal(body, odd)
		if reason != "" {
			return nil, reason
		}
		p.Proposals, more = append(p.Proposals, q), !last
	}
	if !s.Empty() {
		return nil, "bytes after the last proposal"
	}
	return p, ""
}

func parseProposal(s cryptobyte.String, odd *Odd) (p Proposal, reason string) {
	var spiLen, n uint8
	if !s.ReadUint8(&p.Number) || !s.ReadUint8(&p.Protocol) || !s.ReadUint8(&spiLen) || !s.ReadUint8(&n) ||
		!take(&s, &p.SPI, int(spiLen)) {
		return p, short
	}
	for i := range int(n) {
		last, body, reason := readSubstructure(&s, moreTransforms, "transform", odd)
		if reason != "" {
			return p, reason
		}
		if last != (i == int(n)-1) {
			return p, "the number of transforms is not what the proposal says"
		}
		var t Transform
		var reserved uint16
		if !body.ReadUint8(&t.Number) || !body.ReadUint8(&t.ID) || !body.ReadUint16(&reserved) {
			return p, short
		}
		odd.zero(byte(reserved>>8), byte(reserved))
		if t.Attributes, reason = parseAttributes(body); reason != "" {
			return p, reason
		}
		p.Transforms = append(p.Transforms, t)
	}
	if !s.Empty() {
		return p, "bytes after the last transform"
	}
	return p, ""
}

// readSubstructure reads the head that proposals and transforms share (more or
// last, reserved, length with the head) and the body it announces.
func readSubstructure(s *cryptobyte.String, more uint8, what string, odd *Odd) (last bool, body cryptobyte.String, reason string) {
	var mark, reserved uint8
	var length uint16
	if !s.ReadUint8(&mark) || !s.ReadUint8(&reserved) || !s.ReadUint16(&length) {
		return false, nil, short
	}
	odd.zero(reserved)
	if mark != 0 && mark != more {
		return false, nil, fmt.Sprintf("%s marked %d, neither last nor more", what, mark)
	}
	var b []byte
	if !take(s, &b, int(length)-genericLen) { // fewer than none cannot be read
		return false, nil, fmt.Sprintf("length %d of a %s does not fit", length, what)
	}
	return mark == 0, b, ""
}
