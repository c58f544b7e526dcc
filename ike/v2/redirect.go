package v2

import (
	"net/netip"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Redirect (RFC 5685), as the client (redirect_gateway.go has the other end): a gateway that is overloaded or about to
// stop sends us to another one, at any of three moments:
//
//	IKE_SA_INIT    N(REDIRECT_SUPPORTED)  -->  <--  N(REDIRECT, gateway, Ni)
//	IKE_AUTH       IDi, AUTH, …           -->  <--  IDr, AUTH, N(REDIRECT, gateway)
//	INFORMATIONAL                              <--  N(REDIRECT, gateway)
//
// and the IKE_SA_INIT request to the other one says N(REDIRECTED_FROM, gateway).
// The first is not protected: our nonce in it shows that it comes from somebody
// who saw the request. The other two count once the peer has proven itself.
// Who the other one is, is proven there as everywhere. Where to go and how often
// is the owner's to decide.

// Types of a gateway's identity (RFC 5685 §7.2).
const (
	gatewayIPv4 = 1
	gatewayIPv6 = 2
	gatewayFQDN = 3
)

// readRedirect reads REDIRECT: type, length, identity, nonce.
func readRedirect(data []byte) (g core.Gateway, nonce []byte, ok bool) {
	if len(data) < 2 || len(data)-2 < int(data[1]) {
		return g, nil, false
	}
	kind, id, nonce := data[0], data[2:2+int(data[1])], data[2+int(data[1]):]
	switch {
	case kind == gatewayIPv4 && len(id) == 4, kind == gatewayIPv6 && len(id) == 16:
		a, _ := netip.AddrFromSlice(id)
		g.Addr = a.Unmap()
		ok = !g.Addr.IsUnspecified() && !g.Addr.IsMulticast() && !g.Addr.IsLoopback()
	case kind == gatewayFQDN:
		g.Name, ok = string(id), hostName(id)
	}
	return g, nonce, ok
}

// hostName reports whether a name is fit for the DNS.
func hostName(name []byte) bool {
	for _, c := range name {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 253 && name[0] != '-' && name[0] != '.'
}

// redirected is the outcome of an initial exchange that the peer answered with REDIRECT.
type redirected struct {
	to     core.Gateway
	wanted *core.Policy // of the CHILD SA that the exchange would have made
}

func (e redirected) Error() string { return "the peer sends us to " + e.to.String() }

// redirectForged reports whether a response to IKE_SA_INIT redirects us without
// our nonce: somebody guesses, and the true response may still come.
func redirectForged(x *exchange, in []message.Payload) bool {
	n := notify(in, message.NotifyRedirect)
	if n == nil {
		return false
	}
	_, nonce, ok := readRedirect(n.Data)
	return ok && string(nonce) != string(x.ni)
}

// redirectedInit reads the response to IKE_SA_INIT before anything else does.
type redirectedInit struct{ noop }

func (*redirectedInit) complete(x *exchange) error {
	n := notify(x.in, message.NotifyRedirect)
	if n == nil || find[*message.Nonce](x.in) != nil {
		return nil
	}
	g, _, ok := readRedirect(n.Data)
	if !ok {
		return end(0, "the peer sends us to a gateway that cannot be: %x", n.Data)
	}
	return redirected{to: g}
}

// redirectSupport says in IKE_SA_INIT that we can be sent elsewhere, and who did;
// or hears it.
type redirectSupport struct{ noop }

func (*redirectSupport) request(x *exchange) error {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyRedirectSupported})
	if from := x.sa.base.ComesFrom; from.IsValid() {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyRedirectedFrom, Data: redirectedFrom(from)})
	}
	return nil
}

func (*redirectSupport) accept(x *exchange) error {
	x.sa.away.able, x.sa.away.from = readSupport(x.in)
	return nil
}

// redirectedAuth is for IKE_AUTH. The exchange goes on until the peer's proof is
// checked; then no SA comes of it.
type redirectedAuth struct {
	noop
	child *pendingChild // that there will not be; nil in INFORMATIONAL
	to    *core.Gateway // where the peer sends us; nil: nowhere
}

func (t *redirectedAuth) complete(x *exchange) error {
	t.read(x)
	return nil
}

func (t *redirectedAuth) settle(x *exchange) error {
	if t.to == nil {
		return nil
	}
	return redirected{to: *t.to, wanted: t.child.policy}
}

// redirectedLater is for INFORMATIONAL. The SA stays until another one has taken over.
type redirectedLater struct{ redirectedAuth }

func (*redirectedLater) complete(*exchange) error { return nil }

func (t *redirectedLater) accept(x *exchange) error {
	if x.sa.base.Auth.Mine { // else we never said that we can be sent elsewhere
		t.read(x)
	} else if notify(x.in, message.NotifyRedirect) != nil {
		x.sa.base.Event(core.EvNotify, "the peer wants to send us elsewhere, and it is the peer that connected: left as it is")
	}
	return nil
}

func (t *redirectedLater) settle(x *exchange) error {
	if sa := x.sa; t.to != nil && !closes(x) && sa.base.State == Established {
		sa.owner.Redirected(sa.base, *t.to, sa.base.MainPolicy())
	}
	return nil
}

// read reads a protected REDIRECT; one that makes no sense changes nothing.
func (t *redirectedAuth) read(x *exchange) {
	n := notify(x.in, message.NotifyRedirect)
	if n == nil {
		return
	}
	if g, _, ok := readRedirect(n.Data); ok {
		t.to = &g
		return
	}
	x.sa.base.Event(core.EvNotify, "the peer sends us to a gateway that cannot be: %x", n.Data)
}

// goElsewhere ends an SA that is not yet up and whose peer sent us elsewhere. A
// peer that has proven itself has the SA, and is told; nobody waits for its answer.
func goElsewhere(sa *SA, r redirected, proven bool) {
	wanted := sa.base.Wanted
	if r.wanted != nil {
		wanted = append([]*core.Policy{r.wanted}, wanted...)
	}
	if proven {
		sendLast(sa, sa.sendID, &message.Delete{Protocol: uint8(core.ProtoIKE)})
	}
	sa.owner.Redirected(sa.base, r.to, wanted)
	sa.base.End(false, "%v", r)
}

// sendLast sends a last request that nobody waits for an answer to.
func sendLast(sa *SA, id uint32, ps ...message.Payload) {
	h := message.Header{SPIi: sa.base.SPIi, SPIr: sa.base.SPIr, Version: 0x20, Exchange: message.ExchangeInformational, ID: id}
	if sa.base.Initiator {
		h.Flags |= message.FlagInitiator
	}
	if raw, err := sa.sealer.seal(h, ps); err == nil {
		sa.base.Transmit(sa.base.Path, [][]byte{raw})
	}
}
