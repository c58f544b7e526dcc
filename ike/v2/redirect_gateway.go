package v2

import (
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Redirect (RFC 5685) as the gateway, which sends clients to another one. Whose
// client does not say that it can be sent is served as ever.
//
//	IKE_SA_INIT    N(REDIRECT_SUPPORTED)  -->  <--  HDR(A,0), N(REDIRECT, gateway, Ni)
//	IKE_AUTH       IDi, AUTH, …           -->  <--  IDr, AUTH, N(REDIRECT, gateway)
//	INFORMATIONAL                              <--  N(REDIRECT, gateway)
//
// In IKE_SA_INIT nothing is kept. After the other two the client makes an IKE SA
// with the other gateway and deletes this one; a client that does not is
// disconnected after a while (§5).

// away is about an IKE SA whose peer can be sent, or was.
type away struct {
	idle
	sa    *SA
	able  bool         // the peer is a client that understands REDIRECT
	from  core.Gateway // who sent it here
	to    core.Gateway // where we sent it
	until time.Time    // when it is disconnected; zero: never
	timer *core.Timer
}

// AwayTime is how long a client that was sent elsewhere keeps its IKE SA here,
// unless somebody says otherwise.
const AwayTime = 2 * time.Minute

// RedirectInit is the response that sends whoever sent an IKE_SA_INIT request to
// another gateway (RFC 5685 §3); nil: it cannot be sent there, or is there. skimmed
// is what message.Skim read of the request. Nothing is kept.
func RedirectInit(h message.Header, skimmed []message.Payload, local netip.Addr, to core.Gateway) []byte {
	if to.Addr == local.Unmap() {
		return nil
	}
	able, from := readSupport(skimmed)
	ni := find[*message.Nonce](skimmed)
	if !able || from == to || ni == nil {
		return nil
	}
	answer := message.Message{
		Header:   message.Header{SPIi: h.SPIi, Version: 0x20, Exchange: h.Exchange, Flags: message.FlagResponse},
		Payloads: []message.Payload{&message.Notify{Kind: message.NotifyRedirect, Data: append(appendGateway(nil, to), ni.Data...)}},
	}
	return answer.Append(nil)
}

// readSupport reads what an IKE_SA_INIT request says: that the client can be
// sent elsewhere, and who sent it here. Clients that say the second may leave out
// the first (strongSwan does).
func readSupport(in []message.Payload) (able bool, from core.Gateway) {
	able = notify(in, message.NotifyRedirectSupported) != nil
	if n := notify(in, message.NotifyRedirectedFrom); n != nil {
		able = true
		from, _, _ = readRedirect(n.Data)
	}
	return able, from
}

// appendGateway appends a gateway as type, length, identity (RFC 5685 §7.2).
func appendGateway(b []byte, g core.Gateway) []byte {
	kind, id := byte(gatewayFQDN), []byte(g.Name)
	if g.Name == "" {
		kind, id = gatewayIPv4, g.Addr.AsSlice()
		if g.Addr.Is6() {
			kind = gatewayIPv6
		}
	}
	return append(append(b, kind, byte(len(id))), id...)
}

// Redirectable reports whether the peer can be sent elsewhere: it is a client
// that said so, and we do not connect to it ourselves.
func (sa *SA) Redirectable() bool {
	return sa.base.State == Established && sa.away.able && !sa.base.Auth.Mine && !sa.base.Peer.Initiates()
}

// Redirect sends the peer, which is Redirectable, to another gateway (RFC 5685
// §5). Where it has not gone within a time, it is disconnected; 0: never.
func (sa *SA) Redirect(to core.Gateway, within time.Duration) {
	x := newExchange(row(inform))
	*part[*redirectLater](x) = redirectLater{sending: sending{to, within}}
	x.still = func() bool { return sa.base.State == Established }
	sa.start(x)
}

// redirectAuth sends a client elsewhere whose identity is for another gateway
// (RFC 5685 §6). Both prove themselves, and no CHILD SA is made: what else the
// request asks for, the client asks the other gateway for.
type redirectAuth struct {
	noop
	sending
}

func (t *redirectAuth) accept(x *exchange) error {
	sa := x.sa
	to := sa.base.Host.Config().IdentityRedirects[sa.base.Identity]
	if !to.Valid() || !sa.away.able || to == sa.away.from || to.Addr == sa.base.Local.Addr() {
		return nil
	}
	t.sending = sending{to, AwayTime}
	x.in = slices.DeleteFunc(slices.Clone(x.in), func(p message.Payload) bool {
		switch p.(type) {
		case *message.SA, *message.TS, *message.Config:
			return true
		}
		return false
	})
	return nil
}

func (t *redirectAuth) reply(x *exchange) error {
	t.say(x)
	return nil
}

func (t *redirectAuth) settle(x *exchange) error {
	t.sent(x)
	return nil
}

// redirectLater is for INFORMATIONAL. The wait begins with the request: a client
// may go before its answer is here.
type redirectLater struct {
	noop
	sending
}

func (t *redirectLater) request(x *exchange) error {
	t.say(x)
	t.sent(x)
	return nil
}

// sending is where an exchange sends the peer; not valid: nowhere.
type sending struct {
	to     core.Gateway
	within time.Duration // how soon it has to be gone; 0: it need not be
}

func (t *sending) say(x *exchange) {
	if t.to.Valid() {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyRedirect, Data: appendGateway(nil, t.to)})
	}
}

// sent begins the wait for the client to go.
func (t *sending) sent(x *exchange) {
	sa := x.sa
	if !t.to.Valid() || sa.base.State > Established {
		return
	}
	sa.away.to, sa.away.until, sa.base.Leaving = t.to, time.Time{}, true
	sa.base.Tally()
	if t.within > 0 {
		sa.away.until = sa.base.Env.Now().Add(t.within)
	}
	sa.away.watch()
	sa.base.Event(core.EvRedirecting, "sent %s to the gateway %v", sa.base.PeerID, t.to)
}

// watch sets the timer for a peer that does not go.
func (a *away) watch() {
	a.end()
	if a.until.IsZero() {
		return
	}
	a.timer = a.sa.base.Env.Timers.At(a.until, func() {
		a.sa.base.Delete("the peer did not go to the gateway " + a.to.String() + " that it was sent to")
	})
}

// inherit is for the successor at a rekey.
func (a *away) inherit(old *SA) {
	old.away.end()
	sa := a.sa
	*a = old.away
	a.sa, a.timer = sa, nil
	sa.base.Leaving = a.to.Valid()
	sa.base.Tally()
	a.watch()
}

func (a *away) end() { a.sa.base.Env.Timers.Stop(a.timer) }

// redirectedFrom is the content of REDIRECTED_FROM.
func redirectedFrom(a netip.Addr) []byte { return appendGateway(nil, core.Gateway{Addr: a}) }
