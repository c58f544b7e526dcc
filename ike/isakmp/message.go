package isakmp

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"culvert/ike/message"
)

// Bounds on what is parsed, beyond those of the length fields.
const (
	maxPayloads   = 64
	maxProposals  = 64
	maxTransforms = 255
	maxAttributes = 256
	maxSPIs       = 1024
	maxNets       = 1024
	maxCerts      = 16
)

// genericLen is the length of the generic payload header in bytes.
const genericLen = 4

// Odd is what a message has that RFC 2408 forbids and that does no harm.
type Odd struct {
	Reserved bool // a reserved byte or bit is not zero: racoon, old Cisco, Android 4
	Trailing int  // bytes after the last payload; in a decrypted chain, the padding
	Padded   bool // the attributes of mode config are padded to four bytes: libreswan
}

// Chain is the payloads of a message as they were received.
type Chain struct {
	Payloads []Payload
	Odd      Odd

	raw  []byte // the payloads with their generic headers
	ends []int  // where each ends in raw
}

// Body is payload i as it was received, without its generic header: what a
// hash of phase 1 takes of the SA and the ID (RFC 2409 §5). It belongs to the chain.
func (c *Chain) Body(i int) []byte {
	start := genericLen
	if i > 0 {
		start += c.ends[i-1]
	}
	return c.raw[start:c.ends[i]:c.ends[i]]
}

// After is what follows payload i up to the end of the last payload, with generic
// headers and without trailing bytes: what HASH(1) to HASH(3) take of a
// message whose payload i is the HASH (RFC 2409 §5.5). It belongs to the chain.
func (c *Chain) After(i int) []byte { return c.raw[c.ends[i]:] }

// Message is an IKEv1 message as it was received.
type Message struct {
	message.Header
	Chain // of a message in clear
	// Sealed is what follows the header of an encrypted message, whose payloads
	// ParsePayloads reads once it is decrypted; nil in clear.
	Sealed []byte
}

// Parse reads an IKEv1 message. If it has the encryption flag, its content is
// Sealed; but a fragment is in clear always, and some peers set the flag of the whole
// message on each. The error is a *SyntaxError.
func Parse(b []byte) (*Message, error) {
	h, err := message.ParseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Major() != 1 {
		return nil, &SyntaxError{Payload: NoNext, Reason: fmt.Sprintf("major version %d is not IKEv1", h.Major())}
	}
	if h.Flags&FlagEncryption != 0 && h.Next != TypeFragment {
		return &Message{Header: h, Sealed: bytes.Clone(b[message.HeaderLen:])}, nil
	}
	c, err := ParsePayloads(h.Next, b[message.HeaderLen:])
	if err != nil {
		return nil, err
	}
	return &Message{Header: h, Chain: *c}, nil
}

// ParsePayloads reads a chain of payloads, which were decrypted if the message was
// encrypted; first is the next payload field of the header. The error is a *SyntaxError.
func ParsePayloads(first PayloadType, b []byte) (*Chain, error) {
	b = bytes.Clone(b)
	c := &Chain{}
	s := cryptobyte.String(b)
	for t := first; t != NoNext; {
		if len(c.Payloads) == maxPayloads {
			return nil, &SyntaxError{Payload: t, Reason: fmt.Sprintf("more than %d payloads in a message", maxPayloads)}
		}
		var next PayloadType
		var reserved uint8
		var length uint16
		if !s.ReadUint8((*uint8)(&next)) || !s.ReadUint8(&reserved) || !s.ReadUint16(&length) {
			return nil, &SyntaxError{Payload: t, Reason: "the message ends before it"}
		}
		var body []byte
		if !s.ReadBytes(&body, int(length)-genericLen) { // fewer than none cannot be read
			return nil, &SyntaxError{Payload: t, Reason: fmt.Sprintf("length %d does not fit the message", length)}
		}
		c.Odd.zero(reserved)
		p, err := parsePayload(t, body, &c.Odd)
		if err != nil {
			return nil, err
		}
		c.Payloads = append(c.Payloads, p)
		c.ends = append(c.ends, len(b)-len(s))
		t = next
	}
	c.Odd.Trailing = len(s)
	c.raw = b[: len(b)-len(s) : len(b)-len(s)]
	return c, nil
}

// Append writes a message in clear with the lengths and next payload fields that
// ps need; Next and Length of h are ignored.
func Append(b []byte, h message.Header, ps []Payload) []byte {
	first, body := AppendPayloads(nil, ps)
	return appendMessage(b, h, first, body)
}

// AppendSealed writes an encrypted message. first is the type of the first payload inside,
// sealed the ciphertext. The encryption flag is set; Next and Length of h are ignored.
func AppendSealed(b []byte, h message.Header, first PayloadType, sealed []byte) []byte {
	h.Flags |= FlagEncryption
	return appendMessage(b, h, first, sealed)
}

func appendMessage(b []byte, h message.Header, first PayloadType, body []byte) []byte {
	h.Next, h.Length = first, uint32(message.HeaderLen+len(body))
	return append(h.Append(b), body...)
}

// AppendPayloads appends a chain of payloads with their generic headers.
// first is the type of the first one, NoNext if there is none.
func AppendPayloads(b []byte, ps []Payload) (first PayloadType, out []byte) {
	return message.AppendPayloads(b, ps)
}

func (o *Odd) zero(reserved ...byte) {
	for _, r := range reserved {
		if r != 0 {
			o.Reserved = true
		}
	}
}

func parsePayload(t PayloadType, body []byte, odd *Odd) (Payload, error) {
	parse := parsers[t]
	if parse == nil {
		return &Unknown{T: t, Body: body}, nil
	}
	p, reason := parse(t, body, odd)
	if reason != "" {
		return nil, &SyntaxError{Payload: t, Reason: reason}
	}
	return p, nil
}

// parsers has one row for each payload with a codec. A reason that is not empty
// says why the body cannot be read.
var parsers = [256]func(t PayloadType, s cryptobyte.String, odd *Odd) (p Payload, reason string){
	TypeSA:         parseSA,
	TypeKE:         opaque(func(b []byte) Payload { return &KE{b} }),
	TypeID:         parseID,
	TypeCert:       parseCert,
	TypeCertReq:    parseCertReq,
	TypeHash:       opaque(func(b []byte) Payload { return &Hash{b} }),
	TypeSig:        opaque(func(b []byte) Payload { return &Sig{b} }),
	TypeNonce:      opaque(func(b []byte) Payload { return &Nonce{b} }),
	TypeNotify:     parseNotify,
	TypeDelete:     parseDelete,
	TypeVendorID:   opaque(func(b []byte) Payload { return &VendorID{b} }),
	TypeAttributes: parseAttributesPayload,
	TypeNATD:       opaque(func(b []byte) Payload { return &NATD{Data: b} }),
	TypeNATDDraft:  opaque(func(b []byte) Payload { return &NATD{Draft: true, Data: b} }),
	TypeNATOA:      parseNATOA,
	TypeNATOADraft: parseNATOA,
	TypeFragment:   parseFragment,
}

// opaque parses a payload whose body has no structure.
func opaque(of func([]byte) Payload) func(PayloadType, cryptobyte.String, *Odd) (Payload, string) {
	return func(_ PayloadType, s cryptobyte.String, _ *Odd) (Payload, string) { return of(rest(&s)), "" }
}

const short = "the body ends too early"

// rest takes all that is left.
func rest(s *cryptobyte.String) []byte {
	b := []byte(*s)
	*s = nil
	return b[:len(b):len(b)]
}

// take reads n bytes, which an append to them leaves alone.
func take(s *cryptobyte.String, out *[]byte, n int) bool {
	if !s.ReadBytes(out, n) {
		return false
	}
	*out = (*out)[:n:n]
	return true
}

// bounded is the length of v, or the most that fits where v is longer.
func bounded(v []byte, most int) []byte { return v[:min(len(v), most)] }

func putLength(b []byte, at, from int) { binary.BigEndian.PutUint16(b[at:], uint16(len(b)-from)) }
