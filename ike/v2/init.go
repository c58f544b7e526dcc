package v2

import (
	"errors"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// IKE_SA_INIT (RFC 7296 §1.2):
//
//	HDR, [N(COOKIE)], SAi1, KEi, Ni, N(NAT_DETECTION_*)  -->
//	                       <--  HDR, SAr1, KEr, Nr, N(NAT_DETECTION_*)
//
// or, in answer, COOKIE or INVALID_KE_PAYLOAD, and the request is repeated.

// initState is what IKE_AUTH needs of IKE_SA_INIT.
type initState struct {
	idle
	request, response []byte // the messages as they were on the wire
	ni, nr            []byte
	cookie            []byte
	group             *suite.Group // to begin with; nil: the first of the profile
	repeats           int
	moved             bool // the request went out from another address before
	sig               signatures
	ppk               ppkState
	inter             intermediates
	childless         bool // IKE_AUTH goes without CHILD SA
}

func (s *initState) end() { s.wipe() }

func (s *initState) wipe() {
	if s == nil {
		return
	}
	s.ppk.wipe()
	s.inter.wipe()
	*s = initState{}
}

// maxRepeats bounds how often a responder can make us repeat IKE_SA_INIT.
const maxRepeats = 5

// Accept makes an IKE SA as responder of an IKE_SA_INIT request and answers it.
// raw is the SA's to keep. The owner finds it later by SPI, or by the
// initiator's SPI and address if the request comes again.
func Accept(env *core.Env, common ikesa.Owner, owner Owner, peer *core.Peer, raw []byte, in core.Datagram) error {
	m, err := parseFirst(raw)
	if err == nil {
		err = reflected(env, m.Payloads)
	}
	if err != nil {
		return err
	}
	sa := acceptFirst(env, common, owner, peer, m, raw, in)
	owner.Adopt(sa.base)
	sa.weigh()
	sa.initRequest(m)
	return nil
}

// parseFirst reads the request that an IKE SA begins with.
func parseFirst(raw []byte) (*message.Message, error) {
	m, err := message.Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := message.CheckOuter(m.Header, m.Payloads); err != nil {
		return nil, err
	}
	if err := message.CheckGrammar(m.Header, m.Payloads); err != nil {
		return nil, err
	}
	return m, nil
}

// acceptFirst makes the half-open IKE SA of such a request.
func acceptFirst(env *core.Env, common ikesa.Owner, owner Owner, peer *core.Peer, m *message.Message, raw []byte, in core.Datagram) *SA {
	sa := newSA(ikesa.Accept(env, common, peer, m.SPIi, in, halfOpenLife, "IKE_AUTH"), owner)
	sa.init.request = raw
	return sa
}

// initRequest answers the request that the SA begins with.
func (sa *SA) initRequest(m *message.Message) {
	sa.base.Env.Traced(false, m.Header, m.Payloads)
	x := newExchange(firstExchange(sa))
	x.sa, x.in, x.from = sa, m.Payloads, sa.base.Path
	sa.answering, sa.read = x, len(sa.init.request)
	defer sa.weigh()
	var err error
	if t, bad := critical(m.Payloads); bad {
		err = refused{kind: message.NotifyUnsupportedCriticalPayload, data: []byte{byte(t)}, reason: "in " + x.kind.name}
	}
	sa.answer(x, err)
}

// Again is the request that a half-open SA began with, once more. The same bytes
// get the same answer (RFC 7296 §2.1), as often as an initiator like ours repeats
// a request: who only knows the SPI, or sends from an address that is not its own,
// must not have us send more than that.
func (sa *SA) Again(in core.Datagram) {
	sa.base.Stats.RxPackets++
	sa.base.Stats.RxBytes += uint64(len(in.Data))
	if sa.recvID == 1 && sa.lastResponse != nil && sa.repeated < core.Tries {
		sa.repeated++
		sa.base.Transmit(ikesa.PathOf(in), sa.lastResponse)
	}
}

// initMessage is the response to us as initiator of the exchange that an SA begins with.
func (sa *SA) initMessage(m *message.Message, raw []byte, in core.Datagram) {
	if err := message.CheckOuter(m.Header, m.Payloads); err != nil {
		sa.bad(in, "%v", err)
		return
	}
	x := sa.current
	if !m.Response() || !sa.base.Initiator || sa.base.State != Connecting || x == nil || !x.kind.clear || x.raw == nil || x.in != nil || m.ID != 0 {
		return
	}
	if to := in.Local.Addr(); sa.init.moved && to.IsValid() && !to.IsUnspecified() && to.WithZone("") != sa.base.Local.Addr().WithZone("") {
		return // it answers what was sent from the former address, and was other bytes
	}
	sa.base.Env.Traced(false, m.Header, m.Payloads)
	if err := message.CheckGrammar(m.Header, m.Payloads); err != nil {
		sa.bad(in, "%v", err) // unprotected: anybody may have sent it
		return
	}
	if t, bad := critical(m.Payloads); bad {
		sa.bad(in, "the response to IKE_SA_INIT has an unknown critical payload %d, which no response may have (RFC 7296 §2.5)", t)
		return
	}
	if redirectForged(x, m.Payloads) {
		sa.bad(in, "a REDIRECT without the nonce of our request")
		return
	}
	sa.unusable = ""
	if find[*message.Nonce](m.Payloads) != nil { // else it only refuses
		if m.SPIr == 0 {
			return
		}
		sa.base.SPIr = m.SPIr
		sa.init.response = raw
	}
	sa.take(x, m.Header, m.Payloads, nil)
}

// seekSource looks for another address of ours while nobody answers the first request, and
// goes on from there with a request that says so.
func seekSource(sa *SA, x *exchange) {
	if !x.kind.clear {
		return
	}
	ikesa.SeekSource(sa.base, func() bool { return !x.over && x.in == nil }, func() {
		sa.init.moved = true
		x.fail(again{"address"})
	})
}

// repeatInit begins the request with the COOKIE that the responder asked for,
// and repeats it when the responder wants a cookie or another group (RFC 7296
// §2.6, §1.2).
type repeatInit struct {
	noop
	ke *keyExchange
}

func (*repeatInit) request(x *exchange) error {
	if c := x.sa.init.cookie; c != nil {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyCookie, Data: c})
	}
	return nil
}

func (t *repeatInit) complete(x *exchange) error {
	sa := x.sa
	if find[*message.Nonce](x.in) != nil {
		return nil
	}
	if sa.init.repeats++; sa.init.repeats > maxRepeats {
		return end(0, "the peer asked %d times to repeat %s", maxRepeats, x.kind.name)
	}
	if n := notify(x.in, message.NotifyCookie); n != nil {
		if len(n.Data) == 0 || len(n.Data) > 64 {
			return end(0, "the peer's cookie has %d bytes, not 1 to 64", len(n.Data))
		}
		sa.init.cookie = clone(n.Data)
		sa.init.group = t.ke.group
		return again{"cookie"}
	}
	if n := notify(x.in, message.NotifyInvalidKEPayload); n != nil {
		g := t.ke.wantedGroup(n, sa.base.Peer.Profile.Groups)
		if g == nil {
			return fatal{detail: explain(sa).GroupParts(n),
				reason: notOurGroup(profileGroups(sa)) + ": compare dh-group on both sides"}
		}
		sa.init.group = g
		return again{"group"}
	}
	if n := errorNotify(x.in); n != nil {
		return peerSaid(n)
	}
	return end(0, "the peer answered %s with neither an SA nor a reason", x.kind.name)
}

// ikeKeyExchange negotiates the algorithms of the IKE SA and runs its
// Diffie-Hellman.
type ikeKeyExchange struct {
	noop
	ke *keyExchange
}

func (t *ikeKeyExchange) prepare(x *exchange) error {
	sa := x.sa
	g := sa.init.group
	if g == nil {
		g = sa.base.Peer.Profile.Groups[0]
	}
	if t.ke.group == g && t.ke.public != nil {
		return nil // repeated with a cookie: everything else stays (RFC 7296 §2.6)
	}
	if x.ni == nil {
		x.ni = sa.base.Env.Random(nonceLen)
	}
	return t.ke.offer(x, g)
}

func (t *ikeKeyExchange) request(x *exchange) error {
	x.out = append(x.out, proposing(nil, core.InitOffer(&x.sa.base.Peer.Profile, true).Alternatives()...))
	x.out = append(x.out, t.ke.payload(), &message.Nonce{Data: x.ni})
	return nil
}

func (t *ikeKeyExchange) accept(x *exchange) error {
	sa := x.sa
	s, answer, ok := core.InitOffer(&sa.base.Peer.Profile, saysIntermediate(x)).Select(neutral(find[*message.SA](x.in).Proposals))
	if !ok {
		return mismatched(message.NotifyNoProposalChosen, explain(sa).IKEParts(neutral(find[*message.SA](x.in).Proposals)),
			"no proposal of the peer fits profile %q: compare enc-algorithm, hash-algorithm and dh-group on both sides", sa.base.Peer.Profile.Name)
	}
	sa.base.Suite = s
	x.ni = clone(find[*message.Nonce](x.in).Data)
	x.nr = sa.base.Env.Random(nonceLen)
	x.out = append(x.out, proposing(nil, answer))
	return t.ke.answer(x, s.Group)
}

func (t *ikeKeyExchange) reply(x *exchange) error {
	x.out = append(x.out, t.ke.payload(), &message.Nonce{Data: x.nr})
	return nil
}

func (t *ikeKeyExchange) complete(x *exchange) error {
	sa := x.sa
	s, ok := core.InitOffer(&sa.base.Peer.Profile, saysIntermediate(x)).Accepts(neutral(find[*message.SA](x.in).Proposals))
	if !ok {
		return end(0, "the peer chose a proposal that was not offered")
	}
	sa.base.Suite = s
	x.nr = clone(find[*message.Nonce](x.in).Data)
	if s.Group != t.ke.group {
		return end(0, errOtherGroup)
	}
	return t.ke.share(x)
}

// ikeKeys derives the keys once everything is known, and goes on to IKE_AUTH.
type ikeKeys struct {
	noop
	ke *keyExchange
}

func (t *ikeKeys) settle(x *exchange) error {
	sa := x.sa
	k, err := t.first(x)
	if err != nil {
		return end(0, "%v", err)
	}
	t.ke.wipe()
	sa.sealer.keys = k
	sa.init.ni, sa.init.nr = x.ni, x.nr
	sa.lowNonce = lowest(x.ni, x.nr)
	if x.mine {
		sa.init.request = x.raw[0]
		sa.start(afterInit(sa))
		return nil
	}
	sa.init.response = sa.lastResponse[0]
	return nil
}

// first are the first keys of an IKE SA.
func (t *ikeKeys) first(x *exchange) (keys, error) {
	sa := x.sa
	if sa.resumed != nil {
		defer sa.resumed.d.Wipe()
		return resumedKeys(sa.base.Suite, sa.resumed.d, x.ni, x.nr, sa.base.SPIi, sa.base.SPIr)
	}
	return deriveKeys(sa.base.Suite, t.ke.shared, x.ni, x.nr, sa.base.SPIi, sa.base.SPIr)
}

// connectFailed ends an SA that was not established, and says why.
func (sa *SA) connectFailed(exchange string, fault error) {
	if r, ok := fault.(redirected); ok {
		goElsewhere(sa, r, sa.sealer.keys.d != nil)
		return
	}
	n := ikesa.NoIKE{Exchange: exchange, Reason: fault.Error(), Detail: detailOf(fault)}
	var r refused
	switch f, ok := fault.(fatal); {
	case ok:
		n.Told = f.told
	case errors.As(fault, &r) && r.kind == message.NotifyNoProposalChosen:
		n.Cause = ikesa.NoProposal
	case errors.As(fault, &r) && r.kind == message.NotifyAuthenticationFailed:
		n.Cause = ikesa.NotProven
	}
	n.Report(sa.base)
}
