package v2

import (
	"fmt"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Postquantum preshared keys (RFC 8784): a second secret that both ends have is
// mixed into SK_d, SK_pi and SK_pr, so that who records the traffic and later
// breaks the key exchange still lacks it:
//
//	IKE_SA_INIT   N(USE_PPK)                           -->  <--  N(USE_PPK)
//	IKE_AUTH      N(PPK_IDENTITY), [N(NO_PPK_AUTH)]    -->  <--  [N(PPK_IDENTITY)]
//
// NO_PPK_AUTH is the proof as it is without the PPK, for a responder that has
// another one or none; an identity that requires a PPK does not send it.

// ppkFixed is the type of a PPK_ID that names one PPK (RFC 8784 §5.1).
const ppkFixed = 2

// ppkState is what IKE_SA_INIT said of PPKs, and the keys as they are without.
type ppkState struct {
	agreed    bool // both ends said USE_PPK
	mixed     bool
	d, pi, pr secret.Bytes // SK_d', SK_pi', SK_pr'
}

func (s *ppkState) wipe() {
	for _, b := range []secret.Bytes{s.d, s.pi, s.pr} {
		b.Wipe()
	}
	*s = ppkState{}
}

// ppkSupport says in IKE_SA_INIT that we have a PPK for the peer.
type ppkSupport struct{ noop }

func (*ppkSupport) hear(x *exchange) error {
	x.sa.init.ppk.agreed = x.sa.base.Peer.HasPPK() && notify(x.in, message.NotifyUsePPK) != nil
	return nil
}

func (*ppkSupport) say(x *exchange) {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyUsePPK})
}

func (t *ppkSupport) request(x *exchange) error {
	if x.sa.base.Peer.HasPPK() {
		t.say(x)
	}
	return nil
}

func (t *ppkSupport) accept(x *exchange) error { return t.hear(x) }

func (t *ppkSupport) reply(x *exchange) error {
	if x.sa.init.ppk.agreed {
		t.say(x)
	}
	return nil
}

func (t *ppkSupport) complete(x *exchange) error { return t.hear(x) }

// ppkUse chooses the PPK in IKE_AUTH and mixes it in, before proofs are made.
type ppkUse struct{ noop }

func (*ppkUse) prepare(x *exchange) error {
	sa := x.sa
	switch p := sa.base.Identity.PPK; {
	case p == nil:
		return nil
	case sa.init.ppk.agreed:
		return mixPPK(sa, p)
	case p.Required:
		return cannotSign(sa, ppkParts(sa, "no PPK for us"), "the peer uses no postquantum preshared key, and ppk-required wants one")
	}
	return nil
}

func (*ppkUse) request(x *exchange) error {
	if !x.sa.init.ppk.mixed {
		return nil
	}
	id := append([]byte{ppkFixed}, x.sa.base.Identity.PPK.ID...)
	x.out = append(x.out, &message.Notify{Kind: message.NotifyPPKIdentity, Data: id})
	return nil
}

func (*ppkUse) accept(x *exchange) error { return choosePPK(x) }

func (*ppkUse) round(x *exchange) error {
	if x.rounds > 0 {
		return nil
	}
	if !x.mine {
		if x.sa.init.ppk.mixed {
			x.out = append(x.out, &message.Notify{Kind: message.NotifyPPKIdentity})
		}
		return nil
	}
	sa := x.sa
	if !sa.init.ppk.mixed || notify(x.in, message.NotifyPPKIdentity) != nil {
		return nil
	}
	if sa.base.Identity.PPK.Required {
		return sa.distrust(ppkParts(sa, "no such PPK"), "the peer does not use the postquantum preshared key %q, and ppk-required wants it", sa.base.Identity.PPK.ID)
	}
	unmixPPK(sa)
	return nil
}

// choosePPK is the responder's decision (RFC 8784 §4): the PPK that the
// initiator names, if ours, else its proof without one, if neither end minds.
func choosePPK(x *exchange) error {
	sa := x.sa
	p := sa.base.Identity.PPK
	name, named := ppkName(x.in)
	named = named && sa.init.ppk.agreed
	if p != nil && named && name == p.ID {
		return mixPPK(sa, p)
	}
	theirs := "it names no PPK"
	if named {
		theirs = fmt.Sprintf("its ppk-id is %+q", name)
	}
	if p != nil && p.Required {
		return sa.authFailed(ppkParts(sa, theirs), "%s does not use the postquantum preshared key %q, which ppk-required wants", sa.base.PeerID, p.ID)
	}
	if !named {
		return nil
	}
	without := notify(x.in, message.NotifyNoPPKAuth)
	proof := find[*message.Auth](x.in)
	if without == nil || proof == nil {
		return sa.authFailed(ppkParts(sa, theirs), "%s requires the postquantum preshared key %+q, and its identity here has another or none", sa.base.PeerID, name)
	}
	proof.Data = without.Data // what it proves without the PPK stands for its proof
	return nil
}

// ppkName reads PPK_IDENTITY.
func ppkName(in []message.Payload) (string, bool) {
	n := notify(in, message.NotifyPPKIdentity)
	if n == nil || len(n.Data) < 2 || n.Data[0] != ppkFixed {
		return "", n != nil && len(n.Data) > 0
	}
	return string(n.Data[1:]), true
}

// mixPPK is SK_x = prf+(PPK, SK_x') (RFC 8784 §3).
func mixPPK(sa *SA, p *core.PPK) (err error) {
	s, k := &sa.init.ppk, &sa.sealer.keys
	s.mixed, s.d, s.pi, s.pr = true, k.d, k.pi, k.pr
	for _, m := range []struct{ to, from *secret.Bytes }{{&k.d, &s.d}, {&k.pi, &s.pi}, {&k.pr, &s.pr}} {
		if *m.to, err = mixed(sa.base.Suite.PRF, p.Secret, *m.from); err != nil {
			return end(0, "%v", err)
		}
	}
	return nil
}

func mixed(f *suite.PRF, ppk, key secret.Bytes) (secret.Bytes, error) {
	return prf.Plus(f, ppk, len(key), key)
}

// unmixPPK goes back to the keys without.
func unmixPPK(sa *SA) {
	s, k := &sa.init.ppk, &sa.sealer.keys
	for _, b := range []secret.Bytes{k.d, k.pi, k.pr} {
		b.Wipe()
	}
	k.d, k.pi, k.pr = s.d, s.pi, s.pr
	*s = ppkState{agreed: s.agreed}
}

// withoutPPK reports whether we also prove ourselves without the PPK.
func withoutPPK(sa *SA) bool {
	return sa.base.Initiator && sa.init.ppk.mixed && !sa.base.Identity.PPK.Required
}

// signedWithout is what the initiator proves without the PPK.
func signedWithout(sa *SA, idBody []byte) auth.Signed {
	s := signed(sa, true, idBody)
	s.SKp = sa.init.ppk.pi
	return s
}

func ppkParts(sa *SA, theirs string) *core.Mismatch {
	m := &core.Mismatch{What: "PPK", Part: "ppk-id", Ours: []string{"no ppk-id"}, Theirs: []string{theirs}, Where: explain(sa).Place(sa.base.Identity, "ppk-id")}
	if p := sa.base.Identity.PPK; p != nil {
		m.Ours = []string{"ppk-id " + p.ID}
	}
	m.Hint = "ppk-id: write the same ppk-id and ppk-secret on both sides, or leave out ppk-required where a PPK is not a must" + core.At(m.Where)
	return m
}
