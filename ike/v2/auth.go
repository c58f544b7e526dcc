package v2

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/crypto/suite"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// IKE_AUTH (RFC 7296 §1.2, §2.15); what belongs to certificates is in signature.go:
//
//	HDR, SK{IDi, [IDr], [CERT+], [CERTREQ], [N(INITIAL_CONTACT)], AUTH, SAi2, TSi, TSr}  -->
//	                                  <--  HDR, SK{IDr, [CERT+], AUTH, SAr2, TSi, TSr}
//
// Both ends are established when this is through, also if the CHILD SA in it
// came to nothing.

func newAuth(sa *SA) *exchange {
	x := newExchange(firstAuth(sa))
	if len(sa.base.Wanted) > 0 && !sa.init.childless {
		part[*pendingChild](x).policy = ikesa.Redial(sa.base.Wanted[0])
		sa.base.Wanted = sa.base.Wanted[1:]
	}
	return x
}

// authRefused ends the SA when the peer answers with nothing but an error.
type authRefused struct{ noop }

func (*authRefused) round(x *exchange) error {
	says := findID(x.in, false) != nil
	if x.rounds > 0 {
		says = find[*message.Auth](x.in) != nil || find[*message.EAP](x.in) != nil
	}
	if !x.mine || says {
		return nil
	}
	if n := errorNotify(x.in); n != nil {
		return peerSaid(n)
	}
	return end(0, "the peer answered IKE_AUTH without proof and without a reason")
}

// identities sends who we are and finds out who the peer is.
type identities struct {
	noop
	peer *message.ID // the peer's
}

func (*identities) prepare(x *exchange) error {
	sa := x.sa
	if sa.base.Identity == nil { // else it is that of the policies
		sa.base.Identity = ikesa.FirstIdentity(sa.base, sa.init.sig.cas)
	}
	sa.base.MyID = auth.MyID(sa.base.Identity, sa.base.Local.Addr())
	return nil
}

func (*identities) request(x *exchange) error {
	sa := x.sa
	x.out = append(x.out, idPayload(sa.base.MyID, true))
	if id := sa.base.Identity; id.RemoteID.Data != "" && !id.Ignore && !id.Pattern { // nobody is called by a pattern
		x.out = append(x.out, idPayload(sa.base.Identity.RemoteID, false))
	}
	return nil
}

func (t *identities) accept(x *exchange) error {
	sa := x.sa
	idi := findID(x.in, true)
	if idi == nil {
		return end(message.NotifyInvalidSyntax, "IKE_AUTH has no ID of the initiator")
	}
	t.peer = idi
	err := ikesa.PeerSays(sa.base, idOf(idi))
	if err == nil {
		var expected core.ID
		if idr := findID(x.in, false); idr != nil {
			expected = idOf(idr)
		}
		err = ikesa.ChooseIdentity(sa.base, claimOf(x, expected))
	}
	return sa.disbelieve(x, err)
}

func (t *identities) round(x *exchange) error {
	switch {
	case x.rounds > 0:
		return nil
	case !x.mine:
		x.out = append(x.out, idPayload(x.sa.base.MyID, false))
		return nil
	}
	sa := x.sa
	t.peer = findID(x.in, false)
	err := ikesa.PeerSays(sa.base, idOf(t.peer))
	if err == nil {
		err = ikesa.CheckIdentity(sa.base)
	}
	return sa.disbelieve(x, err)
}

// proof is both ends' proofs: our own, and the check of the peer's. How each goes is a
// row of auth.Methods. One that takes several messages goes on in further rounds.
type proof struct {
	noop
	ours, theirs         auth.Part // nil: not begun
	oursOver, theirsOver bool
	out                  []message.Payload // of our next message
	read                 bool
	certs                []*x509.Certificate // of the peer
	certsErr             error
}

func (t *proof) prepare(x *exchange) error { return t.prove(x, func() error { return nil }) }

func (t *proof) request(x *exchange) error { return t.say(x) }

func (t *proof) round(x *exchange) error {
	then := func() error { return t.prove(x, func() error { return t.goOn(x) }) }
	if t.theirsOver {
		return then()
	}
	if t.theirs == nil {
		m := auth.Of(x.sa.base.Identity.Remote())
		if err := t.mayBe(x, m); err != nil {
			return err
		}
		t.theirs = m.Check(authSide{x, t})
	}
	return t.theirs.Step(x.in, func(out []message.Payload, over bool) error {
		t.out, t.theirsOver = append(t.out, out...), over
		return then()
	})
}

// prove goes on with our own proof, and then with then.
func (t *proof) prove(x *exchange, then func() error) error {
	in := x.in
	switch {
	case t.oursOver:
		return then()
	case t.ours == nil:
		m := auth.Of(x.sa.base.Identity.Auth)
		if m.Prove == nil {
			return authSide{x, t}.Refuse(nil, "there is no %s to prove ourselves by", m.Name)
		}
		t.ours, in = m.Prove(authSide{x, t}), nil
	}
	return t.ours.Step(in, func(out []message.Payload, over bool) error {
		t.out, t.oursOver = append(t.out, out...), over
		return then()
	})
}

// say moves what the methods want said into our message.
func (t *proof) say(x *exchange) error {
	x.out, t.out = append(x.out, t.out...), nil
	return nil
}

// goOn asks for another round where a proof lacks one.
func (t *proof) goOn(x *exchange) error {
	says := len(t.out) > 0
	t.say(x)
	switch {
	case x.mine && says, !x.mine && !(t.oursOver && t.theirsOver):
		x.more = true
	case !t.oursOver || !t.theirsOver:
		return authSide{x, t}.Refuse(explain(x.sa).MethodParts("a proof that is not complete"), "%s ended IKE_AUTH without a complete proof", x.sa.base.PeerID)
	}
	return nil
}

// mayBe refuses a peer that proves itself in another way than by method m.
func (t *proof) mayBe(x *exchange, m *auth.Method) error {
	sa, a := x.sa, find[*message.Auth](x.in)
	refuse := authSide{x, t}.Refuse
	switch {
	case m.Check == nil:
		return refuse(nil, "there is no %s by which %s could prove itself", m.Name, sa.base.PeerID)
	case a == nil && m.Late:
		return nil
	case a == nil && x.mine:
		return refuse(explain(sa).MethodParts("no proof at all"), "the response of %s has no proof", sa.base.PeerID)
	case a == nil:
		// Without AUTH the initiator asks for EAP (RFC 7296 §2.16).
		return refuse(explain(sa).MethodParts("EAP"), "%s asks for EAP, and no identity of peer %q has it: set auth-method at the peer to what ours has", sa.base.PeerID, sa.base.Peer.Name)
	case m.Late || !m.Goes(a.Method):
		return refuse(explain(sa).MethodParts(auth.MethodName(a.Method)), "%s proves itself by %s, and the identity wants %s: set remote-auth-method here or the peer's method",
			sa.base.PeerID, auth.MethodName(a.Method), m.Name)
	}
	return nil
}

func (t *proof) end(*exchange) {
	for _, p := range []auth.Part{t.ours, t.theirs} {
		if p != nil {
			p.End()
		}
	}
}

// peerCerts reads the certificates of the peer's first message once.
func (t *proof) peerCerts(x *exchange) ([]*x509.Certificate, error) {
	if !t.read {
		t.read = true
		t.certs, t.certsErr = auth.ReadCerts(x.in)
	}
	return t.certs, t.certsErr
}

// authSide is an exchange as a method sees it.
type authSide struct {
	x *exchange
	t *proof
}

func (s authSide) Identity() *core.Identity { return s.x.sa.base.Identity }
func (s authSide) PeerID() core.ID          { return s.x.sa.base.PeerID }
func (s authSide) PRF() *suite.PRF          { return s.x.sa.base.Suite.PRF }
func (s authSide) Trust() *core.Trust       { return s.x.sa.base.Host.Config().Trust }
func (s authSide) Hashes() []sign.HashID    { return s.x.sa.init.sig.hashes }
func (s authSide) PSS() bool {
	return s.x.sa.init.sig.pss || !s.x.mine && auth.ByPSS(find[*message.Auth](s.x.in))
}
func (s authSide) PPK() *core.PPK {
	if !s.x.sa.init.ppk.mixed {
		return nil
	}
	return s.x.sa.base.Identity.PPK
}
func (s authSide) CheckedWithoutPPK() ([]byte, auth.Signed, bool) {
	sa, n := s.x.sa, notify(s.x.in, message.NotifyNoPPKAuth)
	if n == nil || s.x.mine || !sa.init.ppk.mixed {
		return nil, auth.Signed{}, false
	}
	signed := s.Signed(false)
	signed.SKp = sa.init.ppk.pi
	return n.Data, signed, true
}
func (s authSide) Ours() bool          { return s.x.mine }
func (s authSide) Now() time.Time      { return s.x.sa.base.Env.Now() }
func (s authSide) Proved(ok bool) bool { return s.x.sa.base.Env.Proved(ok) }

func (s authSide) Certs() ([]*x509.Certificate, error) { return s.t.peerCerts(s.x) }

func (s authSide) Certified(until time.Time, asked bool) {
	s.x.sa.base.Auth.Until, s.x.sa.base.Auth.Asked = until, asked
}

func (s authSide) Place(entry any, key string) string { return explain(s.x.sa).Place(entry, key) }

func (s authSide) Report(k core.EventKind, format string, a ...any) {
	s.x.sa.base.Event(k, format, a...)
}

func (s authSide) Ask(w core.Work, done func(secret.Bytes, error) error) { s.x.inquire(w, done) }

func (s authSide) Signed(ours bool) auth.Signed {
	sa := s.x.sa
	id := part[*identities](s.x).peer
	if ours {
		id = idPayload(sa.base.MyID, sa.base.Initiator)
	}
	return signed(sa, sa.base.Initiator == ours, id.AppendBody(nil))
}

func (s authSide) SignedWithoutPPK() (auth.Signed, bool) {
	sa := s.x.sa
	if !withoutPPK(sa) {
		return auth.Signed{}, false
	}
	return signedWithout(sa, idPayload(sa.base.MyID, true).AppendBody(nil)), true
}

// Refuse refuses the peer in the way that its part in the exchange allows.
func (s authSide) Refuse(d *core.Mismatch, format string, a ...any) error {
	switch sa := s.x.sa; {
	case !s.x.mine:
		return sa.authFailed(d, format, a...)
	case s.x.raw == nil:
		return cannotSign(sa, d, format, a...)
	default:
		return sa.distrust(d, format, a...)
	}
}

// signed is what the original initiator or responder proves.
func signed(sa *SA, initiator bool, idBody []byte) auth.Signed {
	if initiator {
		return auth.Signed{Message: sa.init.request, Nonce: sa.init.nr, IDBody: idBody, SKp: sa.sealer.keys.pi, IntAuth: sa.init.inter.octets()}
	}
	return auth.Signed{Message: sa.init.response, Nonce: sa.init.ni, IDBody: idBody, SKp: sa.sealer.keys.pr, IntAuth: sa.init.inter.octets()}
}

// disbelieve refuses a peer that package sa refuses, in the way of our part in the exchange.
func (sa *SA) disbelieve(x *exchange, err error) error {
	var r *ikesa.Refusal
	switch {
	case !errors.As(err, &r):
		return err
	case x.mine:
		return sa.distrust(r.Detail, "%s", r.Reason)
	}
	return sa.authFailed(r.Detail, "%s", r.Reason)
}

// authFailed refuses the peer as responder (RFC 7296 §2.21.2).
func (sa *SA) authFailed(d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	return fatal{kind: message.NotifyAuthenticationFailed, reason: reason, detail: d, told: true}
}

// distrust refuses the peer as initiator: its SA is up on its side, so it is
// told in an INFORMATIONAL request, whose answer nobody waits for (RFC 7296
// §2.21.2). The Delete is for peers that only note the reason, such as libreswan.
func (sa *SA) distrust(d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	sendLast(sa, sa.sendID+1, &message.Notify{Kind: message.NotifyAuthenticationFailed}, &message.Delete{Protocol: uint8(core.ProtoIKE)})
	return fatal{reason: reason, detail: d, told: true}
}

// ikeUp is the end of the initial exchanges.
type ikeUp struct {
	noop
	child *pendingChild
}

func (t *ikeUp) settle(x *exchange) error {
	sa := x.sa
	sa.up()
	sa.base.Birth = ikesa.Birth{Mine: x.mine, Begun: sa.base.Created, Up: sa.base.EstablishedAt, LowNonce: sa.lowNonce}
	how := ""
	if sa.resumed != nil {
		how = ", resumed"
	}
	sa.base.Event(core.EvIKEUp, "%s, we are %s%s, %s", sa.base.PeerID, sa.base.MyID, how, sa.base.Suite.IKEText())
	if !x.mine {
		sa.base.BoundSame()
	}
	if t.child.refuse != nil && x.mine {
		wanted := []*core.Policy{t.child.policy}
		if t.child.policy == nil { // they were to have their CHILD SAs later
			wanted = sa.base.TakeWants()
		}
		sa.disown(x)
		t.child.policy = nil
		t.child.end(x)
		for _, p := range wanted {
			childRefused(x, p, t.child.refuse)
		}
	}
	sa.base.Keeper.Established(sa.base)
	return nil
}
