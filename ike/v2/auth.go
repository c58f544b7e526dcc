package v2

import (
	"fmt"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
)

// IKE_AUTH (RFC 7296 §1.2, §2.15); what belongs to certificates is in signature.go:
//
//	HDR, SK{IDi, [IDr], [CERT+], [CERTREQ], [N(INITIAL_CONTACT)], AUTH, SAi2, TSi, TSr}  -->
//	                                  <--  HDR, SK{IDr, [CERT+], AUTH, SAr2, TSi, TSr}
//
// Both ends are established when this is through, also if the CHILD SA in it
// came to nothing.

func newAuth(sa *SA) *exchange {
	x := newExchange(sa.firstAuth())
	if len(sa.wanted) > 0 && !sa.init.childless {
		x.policy = redial(sa.wanted[0])
		sa.wanted = sa.wanted[1:]
	}
	return x
}

// authRefused ends the SA when the peer answers with nothing but an error.
type authRefused struct{ noop }

func (*authRefused) complete(x *exchange) error {
	if findID(x.in, false) != nil {
		return nil
	}
	if n := errorNotify(x.in); n != nil {
		return peerSaid(n)
	}
	return end(0, "the peer answered IKE_AUTH without proof and without a reason")
}

// maxID is how many bytes a peer's ID may have: tables, tickets and the book of leases have it as their key.
const maxID = 2048

// identities sends who we are and finds out who the peer is.
type identities struct{ noop }

func (*identities) prepare(x *exchange) error {
	sa := x.sa
	if sa.identity == nil { // else it is that of the policies
		sa.identity = sa.firstIdentity()
	}
	sa.myID = auth.MyID(sa.identity, sa.local.Addr())
	return nil
}

func (*identities) request(x *exchange) error {
	sa := x.sa
	x.out = append(x.out, idPayload(sa.myID, true))
	if sa.identity.RemoteID.Data != "" && !sa.identity.Ignore {
		x.out = append(x.out, idPayload(sa.identity.RemoteID, false))
	}
	return nil
}

func (*identities) accept(x *exchange) error {
	sa := x.sa
	idi := findID(x.in, true)
	if idi == nil {
		return end(message.NotifyInvalidSyntax, "IKE_AUTH has no ID of the initiator")
	}
	if n := len(idi.Data); n > maxID {
		return sa.authFailed(nil, "the peer's ID has %d bytes, at most %d are accepted: give it a shorter my-id", n, maxID)
	}
	sa.name(idOf(idi))
	var expected core.ID
	if idr := findID(x.in, false); idr != nil {
		expected = idOf(idr)
	}
	sa.identity = auth.Match(sa.peer.Identities, x.claim(expected), sa.owner.Config().Trust)
	if sa.identity == nil {
		return sa.authFailed(sa.identityParts(sa.peer.Identities, expected), "no identity of peer %q fits the ID %s (asked for %s): add one with remote-id = %q",
			sa.peer.Name, sa.peerID, expected, sa.peerID)
	}
	sa.myID = auth.As(sa.identity, expected, sa.local.Addr())
	if sa.itself() {
		return sa.authFailed(nil, itselfText, sa.peerID)
	}
	return nil
}

func (*identities) reply(x *exchange) error {
	x.out = append(x.out, idPayload(x.sa.myID, false))
	return nil
}

func (*identities) complete(x *exchange) error {
	sa := x.sa
	idr := findID(x.in, false)
	if n := len(idr.Data); n > maxID {
		return sa.distrust(nil, "the peer's ID has %d bytes, at most %d are accepted: give it a shorter my-id", n, maxID)
	}
	sa.name(idOf(idr))
	if !auth.Accepts(sa.identity, sa.peerID) {
		return sa.distrust(sa.identityParts([]*core.Identity{sa.identity}, core.ID{}), "the peer says it is %s, and remote-id wants %s", sa.peerID, sa.identity.RemoteID)
	}
	if sa.itself() {
		return sa.distrust(nil, itselfText, sa.peerID)
	}
	return nil
}

// proof makes and checks the AUTH payloads.
type proof struct{ noop }

func (*proof) prepare(x *exchange) error { return x.sign(x.sa.cannotSign) }

func (*proof) request(x *exchange) error { return x.addProof() }

func (*proof) accept(x *exchange) error {
	return x.judge(x.sa.authFailed, func() error { return x.sign(x.sa.authFailed) })
}

func (*proof) reply(x *exchange) error { return x.addProof() }

func (*proof) complete(x *exchange) error {
	return x.judge(x.sa.distrust, func() error { return nil })
}

// signed is what the original initiator or responder proves.
func (sa *SA) signed(initiator bool, idBody []byte) auth.Signed {
	if initiator {
		return auth.Signed{Message: sa.init.request, Nonce: sa.init.nr, IDBody: idBody, SKp: sa.keys.pi, IntAuth: sa.init.inter.octets()}
	}
	return auth.Signed{Message: sa.init.response, Nonce: sa.init.ni, IDBody: idBody, SKp: sa.keys.pr, IntAuth: sa.init.inter.octets()}
}

func (x *exchange) addProof() error {
	sa := x.sa
	if sa.identity.Auth == core.AuthSignature {
		x.out = append(x.out, &message.Auth{Method: x.proof.method, Data: x.proof.data})
		if sa.withoutPPK() {
			x.addNoPPK(x.proof.withoutPPK)
		}
		return nil
	}
	body := idPayload(sa.myID, sa.initiator).AppendBody(nil)
	mac := auth.PSK(sa.suite.PRF, sa.identity.Secret, sa.signed(sa.initiator, body))
	x.out = append(x.out, &message.Auth{Method: auth.MethodSharedKey, Data: mac})
	if sa.withoutPPK() {
		x.addNoPPK(auth.PSK(sa.suite.PRF, sa.identity.Secret, sa.signedWithout(body)))
	}
	return nil
}

func (x *exchange) checkProof() bool {
	sa := x.sa
	a := find[*message.Auth](x.in)
	if a == nil || a.Method != auth.MethodSharedKey {
		return false
	}
	body := findID(x.in, !sa.initiator).AppendBody(nil)
	return sa.env.Proved(auth.VerifyPSK(sa.suite.PRF, sa.identity.Secret, sa.signed(!sa.initiator, body), a.Data))
}

// authFailed refuses the peer as responder (RFC 7296 §2.21.2).
func (sa *SA) authFailed(d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	sa.emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	return fatal{kind: message.NotifyAuthenticationFailed, reason: reason, detail: d, told: true}
}

// distrust refuses the peer as initiator: its SA is up on its side, so it is
// told in an INFORMATIONAL request, whose answer nobody waits for (RFC 7296
// §2.21.2).
func (sa *SA) distrust(d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	sa.emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	sa.part(sa.sendID+1, &message.Notify{Kind: message.NotifyAuthenticationFailed})
	return fatal{reason: reason, detail: d, told: true}
}

// name notes who the peer says that it is.
func (sa *SA) name(id core.ID) {
	was := sa.peerID
	sa.peerID = id
	sa.owner.Named(sa, was)
}

// ikeUp is the end of the initial exchanges.
type ikeUp struct{ noop }

func (*ikeUp) settle(x *exchange) error {
	sa := x.sa
	sa.up()
	sa.birth = birth{mine: x.mine, begun: sa.created, up: sa.established, lowNonce: sa.lowNonce}
	how := ""
	if sa.resumed != nil {
		how = ", resumed"
	}
	sa.event(core.EvIKEUp, "%s, we are %s%s", sa.peerID, sa.myID, how)
	if !x.mine {
		sa.boundSame()
	}
	if x.refuse != nil && x.mine {
		wanted := []*core.Policy{x.policy}
		if x.policy == nil { // they were to have their CHILD SAs later
			wanted = sa.TakeWants()
		}
		sa.disown(x)
		x.policy = nil
		x.drop(sa.env)
		for _, p := range wanted {
			sa.childRefused(x.kind.name, p, x.refuse)
		}
	}
	sa.owner.Established(sa)
	return nil
}
