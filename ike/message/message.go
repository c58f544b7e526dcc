package message

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Bounds on what is parsed, beyond those of the length fields.
const (
	maxPayloads   = 64
	maxProposals  = 64
	maxTransforms = 255
	maxSelectors  = 255
	maxAttributes = 256
	maxSPIs       = 1024
)

// maxBehind is how many bytes may follow the last payload of a response to IKE_SA_INIT: Openswan makes
// the length of its INVALID_KE_PAYLOAD a multiple of four.
const maxBehind = 3

// genericLen is the generic payload header, maxBody the longest body below it.
const (
	genericLen = 4
	maxBody    = 65535 - genericLen
)

// SyntaxError says why a message cannot be read or is not one that its exchange
// allows. The answer to an authenticated request is INVALID_SYNTAX; everything
// else is dropped (RFC 7296 §2.21).
type SyntaxError struct {
	Payload PayloadType // where; NoNext: the message itself
	Reason  string
}

func (e *SyntaxError) Error() string {
	if e.Payload == NoNext {
		return "IKE message: " + e.Reason
	}
	return "IKE message: " + e.Payload.String() + " payload: " + e.Reason
}

// Payload is one payload of an IKEv2 message.
type Payload interface {
	Type() PayloadType
	// AppendBody appends what follows the generic payload header.
	AppendBody(b []byte) []byte
}

// Message is an IKEv2 message. Next and Length of the header are as received;
// Append works them out anew.
type Message struct {
	Header
	Payloads []Payload
}

// Parse reads header and cleartext chain of an IKEv2 message. An SK or SKF
// payload is the last one and becomes an *Encrypted or *EncryptedFragment,
// still closed. The payloads alias b. The error is a *SyntaxError.
func Parse(b []byte) (*Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Major() != 2 {
		return nil, &SyntaxError{NoNext, fmt.Sprintf("major version %d is not IKEv2", h.Major())}
	}
	behind := 0
	if h.Exchange == ExchangeIKESAInit && h.Response() {
		behind = maxBehind
	}
	ps, err := parseChain(h.Next, b[HeaderLen:], true, behind, nil)
	if err != nil {
		return nil, err
	}
	return &Message{h, ps}, nil
}

// Skim reads the Notify and Nonce payloads of an IKE_SA_INIT or
// IKE_SESSION_RESUME request and passes over the others without reading them.
// That is enough to ask for a COOKIE, to check one and to redirect, and costs
// little however long the request is. The payloads alias b. The error is a
// *SyntaxError.
func Skim(h Header, b []byte) ([]Payload, error) {
	return parseChain(h.Next, b[HeaderLen:], false, 0, func(t PayloadType) bool { return t == TypeNotify || t == TypeNonce })
}

// Append writes the message with the lengths and next payload fields that its
// payloads need. An *Encrypted or *EncryptedFragment can only be the last.
func (m *Message) Append(b []byte) []byte {
	start := len(b)
	b = m.Header.Append(b)
	first, b := AppendPayloads(b, m.Payloads)
	b[start+16] = byte(first)
	binary.BigEndian.PutUint32(b[start+24:], uint32(len(b)-start))
	return b
}

// ParsePayloads reads a chain of payloads that were decrypted; first is the
// next payload field of the SK payload. The payloads alias b. An SK payload
// among them is an error. The error is a *SyntaxError.
func ParsePayloads(first PayloadType, b []byte) ([]Payload, error) {
	return parseChain(first, b, false, 0, nil)
}

// AppendPayloads appends a chain of payloads with their generic headers.
// first is the type of the first one, NoNext if there is none.
func AppendPayloads(b []byte, ps []Payload) (first PayloadType, out []byte) {
	for i, p := range ps {
		if i == 0 {
			first = p.Type()
		}
		var next PayloadType
		if i+1 < len(ps) {
			next = ps[i+1].Type()
		}
		var critical byte
		switch p := p.(type) {
		case *Encrypted:
			next = p.First
		case *EncryptedFragment:
			next = p.First
		case *Unknown:
			if p.Critical {
				critical = criticalBit
			}
		}
		start := len(b)
		b = p.AppendBody(append(b, byte(next), critical, 0, 0))
		b = b[:min(len(b), start+genericLen+maxBody)]
		binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	}
	return first, b
}

// criticalBit is the C bit of the generic payload header (RFC 7296 §3.2). On
// payloads that are known it is ignored.
const criticalBit = 0x80

// parseChain reads a chain of payloads, or of them those that are wanted; nil:
// all. sealed: an SK or SKF payload may be the last. behind is how many bytes may follow the last one.
func parseChain(next PayloadType, b []byte, sealed bool, behind int, wanted func(PayloadType) bool) ([]Payload, error) {
	var ps []Payload
	s := cryptobyte.String(b)
	n := 0
	for t := next; t != NoNext; t = next {
		if n++; n > maxPayloads {
			return nil, &SyntaxError{t, fmt.Sprintf("more than %d payloads in a message", maxPayloads)}
		}
		var flags uint8
		var length uint16
		if !s.ReadUint8((*uint8)(&next)) || !s.ReadUint8(&flags) || !s.ReadUint16(&length) {
			return nil, &SyntaxError{t, "the message ends before it"}
		}
		var body []byte
		if !s.ReadBytes(&body, int(length)-genericLen) { // fewer than none cannot be read
			return nil, &SyntaxError{t, fmt.Sprintf("length %d does not fit the message", length)}
		}
		if t == TypeSK || t == TypeSKF {
			if !sealed {
				return nil, &SyntaxError{t, "inside another SK payload"}
			}
			p, err := parseEncrypted(t, next, body)
			if err != nil {
				return nil, err
			}
			ps, next = append(ps, p), NoNext
			continue
		}
		if wanted != nil && !wanted(t) {
			continue
		}
		p, err := parsePayload(t, flags&criticalBit != 0, body)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	if len(s) > behind {
		return nil, &SyntaxError{NoNext, fmt.Sprintf("%d bytes after the last payload", len(s))}
	}
	return ps, nil
}

// parsePayload reads the body of any payload but SK and SKF.
func parsePayload(t PayloadType, critical bool, body []byte) (Payload, error) {
	parse := parsers[t]
	if parse == nil {
		return &Unknown{t, critical, body}, nil
	}
	p, reason := parse(t, body)
	if reason != "" {
		return nil, &SyntaxError{t, reason}
	}
	return p, nil
}

// parsers has one row for each payload with a codec. A reason that is not empty
// says why the body cannot be read.
var parsers = [256]func(t PayloadType, s cryptobyte.String) (p Payload, reason string){
	TypeSA:       parseSA,
	TypeKE:       parseKE,
	TypeIDi:      parseID,
	TypeIDr:      parseID,
	TypeCERT:     parseCert,
	TypeCERTREQ:  parseCertReq,
	TypeAUTH:     parseAuth,
	TypeNonce:    parseNonce,
	TypeNotify:   parseNotify,
	TypeDelete:   parseDelete,
	TypeVendorID: parseVendorID,
	TypeTSi:      parseTS,
	TypeTSr:      parseTS,
	TypeCP:       parseConfig,
	TypeEAP:      parseEAP,
}

const short = "the body ends too early"

// rest takes all that is left.
func rest(s *cryptobyte.String) []byte {
	b := []byte(*s)
	*s = nil
	return b
}
