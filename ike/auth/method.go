package auth

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Method is one way in which an end of an IKE SA proves who it is. Each stands in a
// file of its own; Methods is the table of them.
type Method struct {
	Auth  core.AuthMethod // auth-method of an identity
	Name  string          // as the configuration has it
	Proof string          // what proves it, for people
	Wire  []uint8         // methods of the AUTH payload that it goes by (RFC 7296 §3.8)
	// Certificate: who proves itself in this way has a certificate, and an ID that the
	// certificate has is nobody else's. CERT, CERTREQ and SIGNATURE_HASH_ALGORITHMS are exchanged.
	Certificate bool
	// Symmetric: both ends prove themselves with the same secret in the same way.
	Symmetric bool
	// Late: the initiator's first message has no AUTH payload, which asks for
	// further rounds of IKE_AUTH (RFC 7296 §2.16).
	Late bool
	// Prove and Check begin our proof, and the check of the peer's.
	Prove, Check func(Side) Part
	// Refused says what to compare after a peer refused who an identity says we are.
	Refused func(*core.Identity) Refused
}

// Refused is for people.
type Refused struct {
	Compare string // what to compare, besides the IDs
	Ours    string // what we showed; "": nothing that may be printed
	See     string // the same for a hint with a place in the configuration
}

// Methods is the table of authentication methods.
var Methods = []*Method{PreSharedKey, Signature}

// OfPhase1 are those that IKEv1 alone has: no AUTH payload is of them.
var OfPhase1 = []*Method{ByUser, RawKey}

// Of is the row of an auth-method. One that is in no table proves nothing.
func Of(a core.AuthMethod) *Method {
	for _, list := range [][]*Method{Methods, OfPhase1} {
		for _, m := range list {
			if m.Auth == a {
				return m
			}
		}
	}
	return &Method{Auth: a, Name: fmt.Sprintf("auth-method %d", a)}
}

// Goes reports whether an AUTH payload of a method can be of m.
func (m *Method) Goes(wire uint8) bool { return slices.Contains(m.Wire, wire) }

// byWire is the first row that goes by an AUTH method; nil: there is none.
func byWire(wire uint8) *Method {
	for _, m := range Methods {
		if m.Goes(wire) {
			return m
		}
	}
	return nil
}

// MethodName is an AUTH method for people.
func MethodName(wire uint8) string {
	if m := byWire(wire); m != nil {
		return m.Proof
	}
	return fmt.Sprintf("method %d", wire)
}

// ByCertificate reports whether either end of a peer may prove itself by a certificate.
func ByCertificate(p *core.Peer) bool {
	return slices.ContainsFunc(p.Identities, func(i *core.Identity) bool { return Of(i.Auth).Certificate || Of(i.Remote()).Certificate })
}

// Part is one proof while it is made by us, or while the peer's is checked. It may
// take several rounds of IKE_AUTH and keeps its own state between them.
type Part interface {
	// Step goes on with the peer's newest message, nil where there is none yet. It
	// calls done, at once or once what it asked for is answered, with the payloads that go
	// into our next message, and whether this was all: the proof is complete, or
	// the peer has proved itself. An error, as Side.Refuse makes one, ends the IKE SA.
	Step(in []message.Payload, done Done) error
	// End is called once, whatever came of it: secrets are wiped.
	End()
}

// Done goes on after a Step.
type Done func(out []message.Payload, over bool) error

// Side is the IKE SA of a Part.
type Side interface {
	Identity() *core.Identity
	PeerID() core.ID // as the peer says; zero: it has not yet
	PRF() *suite.PRF
	// Signed are the octets that we prove, or that the peer does.
	Signed(ours bool) Signed
	// SignedWithoutPPK are those that we prove for a peer that lacks our PPK (RFC
	// 8784); false: no such proof is wanted.
	SignedWithoutPPK() (Signed, bool)
	// PPK is the postquantum preshared key that the peer's proof is made with; nil: none is.
	PPK() *core.PPK
	// CheckedWithoutPPK is the proof that the peer sent for an end that lacks its PPK, and what it is made over; false: it
	// sent none.
	CheckedWithoutPPK() (data []byte, s Signed, ok bool)
	// Hashes are those that the peer can verify signatures with; none: it said none.
	Hashes() []sign.HashID
	// PSS reports whether the peer announced RSASSA-PSS, or has signed by it.
	PSS() bool
	// Certs are the peer's certificates, its own first.
	Certs() ([]*x509.Certificate, error)
	// Certified says until when the peer's certificate counts, and whether others are
	// asked each time whether it was revoked.
	Certified(until time.Time, asked bool)
	Trust() *core.Trust
	// Ours reports whether we are the initiator of the exchange.
	Ours() bool
	Now() time.Time
	// Ask has work done elsewhere. Its failure is an answer like any other. Nothing is called
	// after the IKE SA has ended.
	Ask(w core.Work, done func(secret.Bytes, error) error)
	// Proved is ok, unless a replay says otherwise; for what takes a secret to verify.
	Proved(ok bool) bool
	// Refuse is the error that refuses the peer, or says that we cannot prove ourselves.
	Refuse(d *core.Mismatch, format string, a ...any) error
	Report(k core.EventKind, format string, a ...any)
	// Place is the line of an entry of the configuration and its key; "": unknown.
	Place(entry any, key string) string
}

// at is the end of a hint that names a line.
func at(where string) string {
	if where == "" {
		return ""
	}
	return " (" + where + ")"
}

// noPPKAuth is the proof without the PPK (RFC 8784 §3).
func noPPKAuth(data []byte) message.Payload {
	return &message.Notify{Kind: message.NotifyNoPPKAuth, Data: data}
}

// find is the AUTH payload of a message; nil: it has none.
func find(in []message.Payload) *message.Auth {
	for _, p := range in {
		if a, ok := p.(*message.Auth); ok {
			return a
		}
	}
	return nil
}
