package auth

import (
	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// PreSharedKey is a secret that both ends have (RFC 7296 §2.15).
var PreSharedKey = &Method{
	Auth: core.AuthPSK, Name: "pre-shared-key", Proof: "pre-shared key", Wire: []uint8{MethodSharedKey}, Symmetric: true,
	Prove: func(s Side) Part { return pskProof{s} },
	Check: func(s Side) Part { return pskCheck{s} },
	Refused: func(*core.Identity) Refused {
		return Refused{Compare: "compare secret, my-id and remote-id on both sides", See: "compare secret, "}
	},
}

type pskProof struct{ Side }

func (p pskProof) Step(_ []message.Payload, done Done) error {
	key := p.Identity().Secret
	out := []message.Payload{&message.Auth{Method: MethodSharedKey, Data: PSK(p.PRF(), key, p.Signed(true))}}
	if s, ok := p.SignedWithoutPPK(); ok {
		out = append(out, noPPKAuth(PSK(p.PRF(), key, s)))
	}
	return done(out, true)
}

func (pskProof) End() {}

type pskCheck struct{ Side }

func (p pskCheck) Step(in []message.Payload, done Done) error {
	if !p.Proved(VerifyPSK(p.PRF(), p.Identity().Secret, p.Signed(false), find(in).Data)) {
		return p.wrong()
	}
	return done(nil, true)
}

func (pskCheck) End() {}

// wrong says which of two secrets differs, as far as that shows: a peer that does not require its PPK also proves itself
// without (RFC 8784 §3).
func (p pskCheck) wrong() error {
	ppk := p.PPK()
	if ppk == nil {
		return p.Refuse(p.parts(), "the proof of %s is wrong: compare the secret of the identity on both sides", p.PeerID())
	}
	data, s, ok := p.CheckedWithoutPPK()
	switch {
	case !ok:
		m := p.parts()
		m.Hint = "secret or ppk-secret differs, and nothing shows which of them: write the same on both sides" + at(m.Where)
		return p.Refuse(m, "the proof of %s is wrong: compare secret and ppk-secret of the identity on both sides", p.PeerID())
	case p.Proved(VerifyPSK(p.PRF(), p.Identity().Secret, s, data)):
		return p.Refuse(ppkParts(p.Side), "the proof of %s is wrong with the postquantum preshared key %q, and right without: compare ppk-secret on both sides", p.PeerID(), ppk.ID)
	}
	return p.Refuse(p.parts(), "the proof of %s is wrong, without the postquantum preshared key too: compare the secret of the identity on both sides", p.PeerID())
}

// ppkParts is for a PPK whose name both ends have, and whose secret differs.
func ppkParts(s Side) *core.Mismatch {
	m := &core.Mismatch{What: "PPK", Part: "ppk-secret", Ours: []string{"ppk-id " + s.PPK().ID}, Theirs: []string{"it is " + s.PeerID().String()},
		Where: s.Place(s.Identity(), "ppk-secret")}
	m.Hint = "ppk-secret: both sides name the same ppk-id and have another secret for it: write the same one on both" + at(m.Where)
	return m
}

func (p pskCheck) parts() *core.Mismatch {
	return OtherSecret(p.Place(p.Identity(), "secret"), p.PeerID())
}

// OtherSecret explains that a peer has another secret than ours, which stands at where. It never says more of a
// secret than that.
func OtherSecret(where string, peer core.ID) *core.Mismatch {
	m := &core.Mismatch{What: "secret", Part: "secret", Where: where}
	m.Hint = "the secrets of both sides differ: write the same one on both" + at(m.Where)
	if peer.Type != core.IDNone {
		m.Theirs = []string{"it is " + peer.String()}
	}
	return m
}

// AUTH methods (RFC 7296 §3.8) that are not in crypto/sign.
const (
	MethodRSA       = 1
	MethodSharedKey = 2
)

// keyPad makes a stored PSK useful for this purpose alone (RFC 7296 §2.15).
var keyPad = []byte("Key Pad for IKEv2")

// Signed are the octets that one side proves to have sent (RFC 7296 §2.15):
// its first message, the other side's nonce, and its ID under its SK_p.
type Signed struct {
	Message []byte // the whole IKE message, without non-ESP marker
	Nonce   []byte // of the other side
	IDBody  []byte // body of the ID payload, without generic header
	SKp     secret.Bytes
	IntAuth []byte // of the exchanges between IKE_SA_INIT and IKE_AUTH (RFC 9242 §3.3.2); empty: none
	// Hash is of IKEv1, and the only thing then: HASH_I or HASH_R (RFC 2409 §5).
	Hash []byte
}

// octets is what the proof is made over.
func (s Signed) octets(f *suite.PRF) []byte {
	if s.Hash != nil {
		return s.Hash
	}
	b := append([]byte(nil), s.Message...)
	b = append(b, s.Nonce...)
	b = append(b, prf.Sum(f, s.SKp, s.IDBody)...)
	return append(b, s.IntAuth...)
}

// PSK computes the AUTH data of a pre-shared key.
func PSK(f *suite.PRF, key secret.Bytes, s Signed) secret.Bytes {
	padded := prf.Sum(f, key, keyPad)
	defer padded.Wipe()
	return prf.Sum(f, padded, s.octets(f))
}

// Resumed computes the AUTH data of a resumed IKE SA: SK_p, which comes of the old
// IKE SA, is the key (RFC 5723 §4.3.3).
func Resumed(f *suite.PRF, s Signed) secret.Bytes { return prf.Sum(f, s.SKp, s.octets(f)) }

// ResumedBriefly is the same over the first message alone, as libreswan 5 reads the "message octets" of
// RFC 5723 §5.1: nonces and SPIs are in SK_p.
func ResumedBriefly(f *suite.PRF, s Signed) secret.Bytes { return prf.Sum(f, s.SKp, s.Message) }

// VerifyPSK compares in constant time. An empty key proves nothing.
func VerifyPSK(f *suite.PRF, key secret.Bytes, s Signed, got []byte) bool {
	return len(key) > 0 && PSK(f, key, s).Equal(got)
}
