package message

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"culvert/crypto/suite"
)

// SA is the Security Association payload (RFC 7296 §3.3): the proposals in
// order of preference, or the one that was chosen.
type SA struct {
	Proposals []Proposal // at most 64
}

// Proposal is one proposal substructure (RFC 7296 §3.3.1). Whether SPI has the
// length of its protocol is the reader's to check.
//
//	+---------------+---------------+-------------------------------+
//	| Last Substruc |   RESERVED    |         Proposal Length       |
//	+---------------+---------------+---------------+---------------+
//	| Proposal Num  |  Protocol ID  |    SPI Size   |Num  Transforms|
//	+---------------+---------------+---------------+---------------+
//	~                        SPI (variable)                         ~
//	+---------------------------------------------------------------+
//	~                        <Transforms>                           ~
//	+---------------------------------------------------------------+
type Proposal struct {
	Number     uint8
	Protocol   uint8 // 1 IKE, 2 AH, 3 ESP
	SPI        []byte
	Transforms []Transform // at most 255
}

// Transform is one transform substructure (RFC 7296 §3.3.2).
//
//	+---------------+---------------+-------------------------------+
//	| Last Substruc |   RESERVED    |        Transform Length       |
//	+---------------+---------------+-------------------------------+
//	|Transform Type |   RESERVED    |          Transform ID         |
//	+---------------+---------------+-------------------------------+
//	~                      Transform Attributes                     ~
//	+---------------------------------------------------------------+
type Transform struct {
	Type    suite.TransformType
	ID      uint16
	KeyBits uint16 // Key Length attribute; 0: none
	// Unknown: carries an attribute that is not understood, so that it must not
	// be selected (RFC 7296 §3.3.6). It is parsed, never sent.
	Unknown bool
}

const (
	moreProposals  = 2
	moreTransforms = 3
	attrFormatTV   = 0x8000
	attrKeyLength  = 14 // RFC 7296 §3.3.5
)

func (p *SA) Type() PayloadType { return TypeSA }

func (p *SA) AppendBody(b []byte) []byte {
	ps := p.Proposals[:min(len(p.Proposals), maxProposals)]
	for i := range ps {
		b = ps[i].append(b, i+1 < len(ps))
	}
	return b
}

func (p *Proposal) append(b []byte, more bool) []byte {
	start := len(b)
	ts := p.Transforms[:min(len(p.Transforms), maxTransforms)]
	spi := p.SPI[:min(len(p.SPI), 255)]
	b = append(b, flag(more, moreProposals), 0, 0, 0, p.Number, p.Protocol, byte(len(spi)), byte(len(ts)))
	b = append(b, spi...)
	for i, t := range ts {
		b = t.append(b, i+1 < len(ts))
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func (t Transform) append(b []byte, more bool) []byte {
	length := uint16(8)
	if t.KeyBits != 0 {
		length += 4
	}
	b = append(b, flag(more, moreTransforms), 0)
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(b, byte(t.Type), 0)
	b = binary.BigEndian.AppendUint16(b, t.ID)
	if t.KeyBits != 0 {
		b = binary.BigEndian.AppendUint16(b, attrFormatTV|attrKeyLength)
		b = binary.BigEndian.AppendUint16(b, t.KeyBits)
	}
	return b
}

func flag(set bool, v byte) byte {
	if set {
		return v
	}
	return 0
}

func parseSA(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &SA{}
	for more := true; more; {
		if len(p.Proposals) == maxProposals {
			return nil, fmt.Sprintf("more than %d proposals", maxProposals)
		}
		last, body, reason := readSubstructure(&s, moreProposals, "proposal")
		if reason != "" {
			return nil, reason
		}
		q, reason := parseProposal(body)
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

func parseProposal(s cryptobyte.String) (p Proposal, reason string) {
	var spiLen, n uint8
	if !s.ReadUint8(&p.Number) || !s.ReadUint8(&p.Protocol) || !s.ReadUint8(&spiLen) || !s.ReadUint8(&n) ||
		!s.ReadBytes(&p.SPI, int(spiLen)) {
		return p, short
	}
	for i := range int(n) {
		last, body, reason := readSubstructure(&s, moreTransforms, "transform")
		if reason != "" {
			return p, reason
		}
		if last != (i == int(n)-1) {
			return p, "the number of transforms is not what the proposal says"
		}
		t, reason := parseTransform(body)
		if reason != "" {
			return p, reason
		}
		p.Transforms = append(p.Transforms, t)
	}
	if !s.Empty() {
		return p, "bytes after the last transform"
	}
	return p, ""
}

func parseTransform(s cryptobyte.String) (t Transform, reason string) {
	if !s.ReadUint8((*uint8)(&t.Type)) || !s.Skip(1) || !s.ReadUint16(&t.ID) {
		return t, short
	}
	for !s.Empty() {
		var attr, v uint16 // v is the value (TV) or its length (TLV)
		if !s.ReadUint16(&attr) || !s.ReadUint16(&v) {
			return t, short
		}
		if attr&attrFormatTV == 0 && !s.Skip(int(v)) {
			return t, short
		}
		if attr == attrFormatTV|attrKeyLength && v != 0 && t.KeyBits == 0 {
			t.KeyBits = v
		} else {
			t.Unknown = true
		}
	}
	return t, ""
}

// readSubstructure reads the head that proposals and transforms share (more or
// last, reserved, length with the head) and the body it announces.
func readSubstructure(s *cryptobyte.String, more uint8, what string) (last bool, body cryptobyte.String, reason string) {
	var mark uint8
	var length uint16
	if !s.ReadUint8(&mark) || !s.Skip(1) || !s.ReadUint16(&length) {
		return false, nil, short
	}
	if mark != 0 && mark != more {
		return false, nil, fmt.Sprintf("%s marked %d, neither last nor more", what, mark)
	}
	var b []byte
	if !s.ReadBytes(&b, int(length)-4) { // fewer than none cannot be read
		return false, nil, fmt.Sprintf("length %d of a %s does not fit", length, what)
	}
	return mark == 0, b, ""
}
