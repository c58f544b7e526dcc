package record

import (
	"bytes"
	"encoding/binary"

	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// What a redacted recording has of messages and of answers. Whatever is not
// listed here is zeros of the same length, so that a new payload, notify or
// question gives nothing away before somebody has thought about it.

// keepAll is more than a payload can have.
const keepAll = 1 << 16

// keptOf is how many bytes of a payload's body stay: all of what says what is
// wanted, and of what proves or hides something the part that says how.
var keptOf = map[message.PayloadType]int{
	message.TypeSA: keepAll, message.TypeKE: keepAll, message.TypeNonce: keepAll,
	message.TypeIDi: keepAll, message.TypeIDr: keepAll, message.TypeCERT: keepAll, message.TypeCERTREQ: keepAll,
	message.TypeDelete: keepAll, message.TypeVendorID: keepAll, message.TypeTSi: keepAll, message.TypeTSr: keepAll,
	message.TypeCP:     keepAll,
	message.TypeAUTH:   4, // the method
	message.TypeEAP:    5, // code, identifier, length and type
	message.TypeNotify: keepAll,
	message.TypeSKF:    4, // number and total

	// Of IKEv1; no number means something in both. What is in HASH and SIG payloads proves something; for
	// attributes see blankAttributes.
	isakmp.TypeSA: keepAll, isakmp.TypeKE: keepAll, isakmp.TypeNonce: keepAll, isakmp.TypeID: keepAll,
	isakmp.TypeCert: keepAll, isakmp.TypeCertReq: keepAll, isakmp.TypeNotify: keepAll, isakmp.TypeDelete: keepAll, isakmp.TypeVendorID: keepAll,
	isakmp.TypeNATD: keepAll, isakmp.TypeNATDDraft: keepAll, isakmp.TypeNATOA: keepAll, isakmp.TypeNATOADraft: keepAll,
}

// ticketName is what a session ticket of ours has in clear: version, ID of the key
// and name.
const ticketName = 1 + 8 + 12

// hiddenNotifies carry proofs or what only one end can read; so may those that
// have no name here.
var hiddenNotifies = map[message.NotifyType]bool{
	message.NotifyNoPPKAuth: true, message.NotifyTicketLTOpaque: true, message.NotifyTicketOpaque: true,
}

// blank overwrites, in a chain of payloads as they travel, what does not stay.
// Of a chain that breaks off, everything behind the break goes.
func blank(first message.PayloadType, b []byte) {
	const generic = 4
	for t := first; t != message.NoNext && len(b) >= generic; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < generic || n > len(b) {
			clear(b[generic:])
			return
		}
		body := b[generic:n]
		if t == isakmp.TypeAttributes {
			blankAttributes(body)
		} else {
			clear(body[min(kept(t, body), len(body)):])
		}
		encrypted := t == message.TypeSK || t == message.TypeSKF
		t, b = message.PayloadType(b[0]), b[n:]
		if encrypted {
			break // what it names as next is inside
		}
	}
	clear(b)
}

// blankAttributes overwrites the values of attributes of mode config and XAuth that may be passwords: all of XAuth but what
// is asked for and how it went, and all that have no name.
func blankAttributes(body []byte) {
	const head, basic, private = 4, 0x8000, 1 << 14
	b := body[min(head, len(body)):]
	for len(b) >= head {
		t, value, rest := binary.BigEndian.Uint16(b), b[2:head], b[head:]
		if t&basic == 0 {
			n := min(int(binary.BigEndian.Uint16(b[2:])), len(rest))
			value, rest = rest[:n], rest[n:]
		}
		t &^= basic
		if unity := t >= isakmp.UnityBanner && t <= isakmp.UnityDDNSHostname; t >= private && !unity && !keptAttributes[t] {
			clear(value)
		}
		b = rest
	}
	clear(b)
}

// keptAttributes are those of XAuth that stay.
var keptAttributes = map[uint16]bool{
	isakmp.XAuthType: true, isakmp.XAuthUserName: true, isakmp.XAuthMessage: true, isakmp.XAuthStatus: true,
}

func kept(t message.PayloadType, body []byte) int {
	if t != message.TypeNotify || len(body) < 4 {
		return keptOf[t]
	}
	kind := message.NotifyType(binary.BigEndian.Uint16(body[2:]))
	if hiddenNotifies[kind] || !kind.Known() {
		n := 4
		if spi := int(body[1]); spi <= 8 {
			n += spi
		}
		switch kind {
		case message.NotifyTicketLTOpaque:
			n += 4 // how long the ticket counts
		case message.NotifyTicketOpaque:
			n += ticketName
		}
		return n
	}
	return keptOf[t]
}

// blankDatagram is a datagram as it may be passed on: a message of IKEv2 with
// what it has outside of its SK payload, one of IKEv1 if it is in clear, of anything else the length.
func blankDatagram(d core.Datagram) core.Datagram {
	d.Data = bytes.Clone(d.Data)
	h, err := message.ParseHeader(d.Data)
	switch {
	case len(d.Data) < message.HeaderLen:
		clear(d.Data)
	case err != nil || h.Major() != 2 && h.Major() != 1:
		clear(d.Data[message.HeaderLen:])
	case h.Major() == 1 && h.Flags&isakmp.FlagEncryption != 0: // all behind the header is encrypted
		clear(d.Data[message.HeaderLen:])
	default:
		blank(h.Next, d.Data[message.HeaderLen:])
	}
	return d
}

// blankAnswer is an answer without what is computed with keys.
func blankAnswer(a core.Answer, w core.Work) core.Answer {
	if a.Data == nil {
		return a
	}
	data := append(secret.Bytes{}, a.Data...)
	keep := 0
	switch w := w.(type) {
	case core.SourceFor, core.Resolve, core.Lease, auth.Verify, auth.VerifyRaw, auth.Fetch, auth.Revocation, core.KEPublic:
		keep = len(data)
	case core.KEBoth:
		keep = w.Group.PublicLen
	case core.Encapsulate:
		keep = w.KEM.CipherLen
	}
	clear(data[min(keep, len(data)):])
	a.Data = data
	return a
}
