package auth

import (
	"bytes"
	"crypto/rsa"
	"fmt"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/ike/core"
	"culvert/ike/message"
)

// WireRawKey is the method of a Claim that is proved by a signature without a certificate. No AUTH payload has this number: IKEv1 has
// no such payload, and raw keys are not used with IKEv2.
const WireRawKey = 255

// RawKey is IKEv1's signature by an RSA key that has no certificate: each end has the public key of the other one. On the
// wire it is RSA signatures (RFC 2409 §5.1) without a CERT payload.
var RawKey = &Method{
	Auth: core.AuthRawKey, Name: "rsa-key", Proof: "RSA key", Wire: []uint8{WireRawKey},
	Prove: func(s Side) Part { return rawProof{s} },
	Check: func(s Side) Part { return rawCheck{s} },
	Refused: func(id *core.Identity) Refused {
		return Refused{
			Compare: fmt.Sprintf("see whether it has the public key of %q (culvert key export-pub-key %s -); compare my-id and remote-id on both sides", id.OwnKey.Name, id.OwnKey.Name),
			Ours:    fmt.Sprintf("our key is %q", id.OwnKey.Name),
			See:     fmt.Sprintf("see whether it has the public key of %q; compare ", id.OwnKey.Name),
		}
	},
}

type rawProof struct{ Side }

func (rawProof) End() {}

func (p rawProof) Step(_ []message.Payload, done Done) error {
	own := p.Identity().OwnKey
	p.Ask(SignRaw{Own: own, Octets: p.Signed(true).Octets(p.PRF())}, func(b secret.Bytes, err error) error {
		if err != nil {
			return p.Refuse(nil, "we cannot sign with key %q: %v", own.Name, err)
		}
		return done([]message.Payload{&message.Auth{Method: WireRawKey, Data: b}}, true)
	})
	return nil
}

type rawCheck struct{ Side }

func (rawCheck) End() {}

func (c rawCheck) Step(in []message.Payload, done Done) error {
	id := c.Identity()
	w := VerifyRaw{Key: id.RemoteKey.Public, Data: bytes.Clone(find(in).Data), Octets: c.Signed(false).Octets(c.PRF())}
	c.Ask(w, func(_ secret.Bytes, err error) error {
		if err == nil {
			return done(nil, true)
		}
		m := &core.Mismatch{What: "key", Part: "remote-key", Ours: []string{fmt.Sprintf("remote-key is %q", id.RemoteKey.Name)},
			Theirs: []string{"it is " + c.PeerID().String()}, Where: c.Place(id, "remote-key")}
		m.Hint = fmt.Sprintf("the peer signs with another key than %q, or another ID than its own: import its public key anew (culvert key import)", id.RemoteKey.Name) + at(m.Where)
		return c.Refuse(m, "the signature of %s is not by remote-key %q: import the public key that the peer has now", c.PeerID(), id.RemoteKey.Name)
	})
	return nil
}

// SignRaw is the Work of signing a hash of IKEv1. What it answers is no secret.
type SignRaw struct {
	Own    *core.RawKey
	Octets []byte
}

func (w SignRaw) Do() (secret.Bytes, error) {
	return sign.Bare(w.Own.Public).Sign(w.Own.Key.Signer(), w.Octets)
}

// VerifyRaw is the Work of checking such a signature. It answers nothing, or fails.
type VerifyRaw struct {
	Key          *rsa.PublicKey
	Data, Octets []byte
}

func (w VerifyRaw) Do() (secret.Bytes, error) {
	return nil, sign.Bare(w.Key).Verify(w.Key, w.Octets, w.Data)
}
