package v2

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Session resumption (RFC 5723): a gateway gives its client a ticket, and the
// client comes back with it after it has lost the IKE SA, without a key exchange
// and without proving anew who it is:
//
//	HDR, [N(COOKIE)], Ni, N(TICKET_OPAQUE), N(NAT_DETECTION_*)  -->
//	                                  <--  HDR, Nr, N(NAT_DETECTION_*)
//	HDR, SK{IDi, [IDr], AUTH, …, N(TICKET_REQUEST)}  -->
//	                                  <--  HDR, SK{IDr, AUTH, …, N(TICKET_LT_OPAQUE)}
//
// The first exchange stands in place of IKE_SA_INIT, and all keys are new:
//
//	SKEYSEED = prf(SK_d (old), "Resumption" | Ni | Nr)                     (§5.1)
//	AUTH     = prf(SK_pi or SK_pr (new), what RFC 7296 §2.15 has signed)   (§4.3.3)
//	           or, by libreswan, over the sender's first message alone: both are accepted
//
// Whatever is wrong with a ticket is answered with TICKET_NACK, and the client
// begins with IKE_SA_INIT. ticket.go has the tickets themselves.

// Session is what a client keeps of an IKE SA to resume it: a ticket, and what the
// ticket says.
type Session struct {
	ticket  []byte
	expires time.Time
	proven  time.Time
	gateway netip.Addr // who gave it
	origin  [32]byte
	myID    core.ID
	peerID  core.ID
	suite   core.Suite
	brief   bool         // see SA.brief
	d       secret.Bytes // SK_d
}

// Wipe overwrites the secret.
func (s *Session) Wipe() {
	if s != nil {
		s.d.Wipe()
	}
}

// Usable reports whether the session can be resumed with a peer, as it is
// configured now, at an address.
func (s *Session) Usable(now time.Time, jar *TicketJar, p *core.Peer, remote netip.Addr) bool {
	return p.Profile.Resumption && now.Before(s.expires) && s.gateway == remote.Unmap() && jar.identity(p, s.origin) != nil && allowed(p, s.suite)
}

// Gateway is the address of the gateway that gave the ticket.
func (s *Session) Gateway() netip.Addr { return s.gateway }

// Identity is the peer's identity that the session is of; nil: it is none any more.
func (s *Session) Identity(jar *TicketJar, p *core.Peer) *core.Identity {
	return jar.identity(p, s.origin)
}

// allowed reports whether a profile would still agree to a suite.
func allowed(p *core.Peer, s core.Suite) bool {
	_, ok := core.InitOffer(&p.Profile, true).Accepts([]core.Alternative{s.Chosen()})
	return ok
}

// resumed is what a resumed IKE SA has of the old one.
type resumed struct {
	idle
	session *Session   // as initiator: the ticket to present
	name    ticketName // as responder: of the ticket presented
	expires time.Time
	d       secret.Bytes // SK_d (old); wiped when the new keys are there
}

func (r *resumed) end() {
	r.d.Wipe()
	r.session.Wipe()
}

// lineage is what tickets there are of an IKE SA; a successor at a rekey inherits it.
type lineage struct {
	sa      *SA
	session *Session // as the client: the newest
	given   []given  // as the gateway: the last ones
	timer   *core.Timer
}

type given struct {
	name    ticketName
	expires time.Time
}

// maxGiven is how many tickets of an IKE SA are remembered, to end the IKE SA when
// one of them is presented, and them when the IKE SA is deleted.
const maxGiven = 2

// maxHeld bounds the tickets that a client keeps, in bytes.
const maxHeld = 4096

// ticketLater is when a client asks again that was told to (TICKET_ACK).
const ticketLater = 30 * time.Second

// resumeTries is after how many requests without an answer, that is 15.5 s, a client
// begins with IKE_SA_INIT: a gateway that does not know the exchange drops it.
const resumeTries = 5

// Resume has an SA made by Initiate begin with the session's ticket.
func (sa *SA) Resume(s *Session) {
	sa.resumed = &resumed{session: s, d: s.d.Clone()}
	sa.base.Resumed, sa.base.Auth.Proven = true, s.proven
	sa.base.Suite, sa.base.MyID, sa.base.PeerID = s.suite, s.myID, s.peerID
	sa.base.Identity = sa.owner.Tickets().identity(sa.base.Peer, s.origin)
	sa.brief = s.brief
}

// firstExchange is the exchange that an IKE SA begins with.
func firstExchange(sa *SA) *kind {
	if sa.resumed != nil {
		return row(resume)
	}
	return row(initial)
}

func firstWire(sa *SA) message.ExchangeType {
	if sa.resumed != nil {
		return message.ExchangeSessionResume
	}
	return message.ExchangeIKESAInit
}

// firstAuth is the IKE_AUTH that follows.
func firstAuth(sa *SA) *kind {
	if sa.resumed != nil {
		return row(resumedAuth)
	}
	return row(authenticate)
}

// AcceptResume is Accept for an IKE_SESSION_RESUME request. If the ticket does not
// count, there is no SA and refused says why, for people; the answer is TICKET_NACK.
func AcceptResume(env *core.Env, common ikesa.Owner, owner Owner, peer *core.Peer, raw []byte, in core.Datagram) (refused, err error) {
	m, err := parseFirst(raw)
	if err == nil {
		err = reflected(env, m.Payloads)
	}
	if err != nil {
		return nil, err
	}
	jar := owner.Tickets()
	n := notify(m.Payloads, message.NotifyTicketOpaque)
	switch {
	case !peer.Profile.Resumption:
		return fmt.Errorf("profile %q has no resumption", peer.Profile.Name), nil
	case n == nil:
		return fmt.Errorf("there is no ticket in the request"), nil
	case common.Host.Config().Encapsulation == core.EncapUDP && notify(m.Payloads, message.NotifyNATDetectionSourceIP) == nil:
		return fmt.Errorf("the request has no NAT detection, and ESP travels in UDP here"), nil
	}
	t, name, refused := jar.open(env, n.Data)
	t, refused = jar.witnessed(env, peer, t, refused)
	if refused != nil {
		return refused, nil
	}
	s, ok := core.InitOffer(&peer.Profile, true).Accepts([]core.Alternative{t.chosen})
	identity := jar.identity(peer, t.origin)
	switch {
	case t.peer != peer.Name:
		refused = fmt.Errorf("it is for peer %q, and the address is that of peer %q", t.peer, peer.Name)
	case identity == nil:
		refused = fmt.Errorf("the identity of %s, or what its certificate is checked against, is not what it was, or is gone", t.id)
	case !ok:
		refused = fmt.Errorf("profile %q does not allow the algorithms of its IKE SA any more", peer.Profile.Name)
	}
	if refused != nil {
		t.d.Wipe()
		return refused, nil
	}
	sa := acceptFirst(env, common, owner, peer, m, raw, in)
	sa.resumed = &resumed{name: name, expires: t.expires, d: t.d}
	sa.base.Suite, sa.base.Identity, sa.base.MyID, sa.base.PeerID, sa.base.Auth.Until = s, identity, t.our, t.id, t.until
	sa.base.Home, sa.base.Resumed, sa.base.Auth.Proven = t.home, true, t.proven
	owner.Adopt(sa.base)
	sa.weigh()
	sa.initRequest(m)
	return nil, nil
}

// resumedKeys are those of a resumed IKE SA.
func resumedKeys(s core.Suite, oldD secret.Bytes, ni, nr []byte, spii, spir uint64) (keys, error) {
	seed := prf.Sum(s.PRF, oldD, []byte("Resumption"), ni, nr)
	defer seed.Wipe()
	return expandKeys(s, s.PRF, seed, ni, nr, spii, spir)
}

// ticketRefused reads the response before anything else does.
type ticketRefused struct{ noop }

func (*ticketRefused) complete(x *exchange) error {
	if n := notify(x.in, message.NotifyTicketNack); n != nil && find[*message.Nonce](x.in) == nil {
		return refuse(message.NotifyTicketNack, "the peer does not take the ticket")
	}
	if n := errorNotify(x.in); n != nil && find[*message.Nonce](x.in) == nil {
		return peerSaid(n)
	}
	return nil
}

// presentTicket exchanges the ticket and the nonces.
type presentTicket struct{ noop }

func (*presentTicket) prepare(x *exchange) error {
	if x.ni == nil {
		x.ni = x.sa.base.Env.Random(nonceLen)
	}
	return nil
}

func (*presentTicket) request(x *exchange) error {
	x.out = append(x.out, &message.Nonce{Data: x.ni},
		&message.Notify{Kind: message.NotifyTicketOpaque, Data: x.sa.resumed.session.ticket})
	return nil
}

func (*presentTicket) accept(x *exchange) error {
	x.ni = clone(find[*message.Nonce](x.in).Data)
	x.nr = x.sa.base.Env.Random(nonceLen)
	return nil
}

func (*presentTicket) reply(x *exchange) error {
	x.out = append(x.out, &message.Nonce{Data: x.nr})
	return nil
}

func (*presentTicket) complete(x *exchange) error {
	sa := x.sa
	x.nr = clone(find[*message.Nonce](x.in).Data)
	sa.resumed.session.Wipe() // it has been used, whatever comes of it
	sa.resumed.session = nil
	return nil
}

// resumeFailed goes on without the ticket, at once. One that nothing at all
// answered may never have arrived: it is kept in case that the network is down.
func resumeFailed(x *exchange, fault error) {
	sa := x.sa
	if r, ok := fault.(redirected); ok {
		goElsewhere(sa, r, false)
		return
	}
	s := sa.resumed.session
	if x.in != nil || sa.init.cookie != nil {
		s.Wipe()
		s = nil
	}
	sa.base.Emit(core.Event{Kind: core.EvNotify, Exchange: x.kind.name, Reason: fmt.Sprintf("the IKE SA is not resumed but made anew: %v", fault)})
	wanted := sa.base.TakeWants()
	sa.resumed.session = nil
	sa.base.End(false, "not resumed")
	sa.owner.NotResumed(sa.base, s, wanted)
}

// resumedAuthFailed begins anew, at once, if the peer has taken the ticket and refuses the proof that comes with it.
func resumedAuthFailed(x *exchange, fault error) {
	sa := x.sa
	if !isRefused(fault, message.NotifyAuthenticationFailed) {
		sa.connectFailed(x.kind.name, fault)
		return
	}
	wanted := sa.base.TakeWants()
	if p := part[*pendingChild](x).policy; p != nil {
		wanted = append([]*core.Policy{p}, wanted...)
	}
	sa.base.Emit(core.Event{Kind: core.EvNotify, Exchange: x.kind.name, Reason: explain(sa).RefusedText() + ": it is made anew"})
	sa.base.End(false, "not resumed")
	sa.owner.NotResumed(sa.base, nil, wanted)
}

// resumedIdentities says who we are and hears who the peer is: nobody else than in
// the old IKE SA (RFC 5723 §4.3.3).
type resumedIdentities struct{ noop }

func (*resumedIdentities) same(id *message.ID, want core.ID) bool {
	return id != nil && idOf(id) == want
}

func (*resumedIdentities) request(x *exchange) error {
	x.out = append(x.out, idPayload(x.sa.base.MyID, true), idPayload(x.sa.base.PeerID, false))
	return nil
}

func (t *resumedIdentities) accept(x *exchange) error {
	sa := x.sa
	if idr := findID(x.in, false); !t.same(findID(x.in, true), sa.base.PeerID) || idr != nil && !t.same(idr, sa.base.MyID) {
		return sa.authFailed(nil, "the peer resumes with a ticket of %s, and says it is somebody else or asks for somebody else", sa.base.PeerID)
	}
	return nil
}

func (*resumedIdentities) reply(x *exchange) error {
	x.out = append(x.out, idPayload(x.sa.base.MyID, false))
	return nil
}

func (t *resumedIdentities) complete(x *exchange) error {
	if sa := x.sa; !t.same(findID(x.in, false), sa.base.PeerID) {
		return sa.distrust(nil, "the peer was %s, and in the resumed IKE SA it is somebody else", sa.base.PeerID)
	}
	return nil
}

// resumedProof proves that we have SK_d of the old IKE SA.
type resumedProof struct{ noop }

func (*resumedProof) say(x *exchange) error {
	sa := x.sa
	s := signed(sa, sa.base.Initiator, idPayload(sa.base.MyID, sa.base.Initiator).AppendBody(nil))
	proof := auth.Resumed
	if sa.brief {
		proof = auth.ResumedBriefly
	}
	x.out = append(x.out, &message.Auth{Method: auth.MethodSharedKey, Data: proof(sa.base.Suite.PRF, s)})
	return nil
}

func (*resumedProof) right(x *exchange) bool {
	sa := x.sa
	a := find[*message.Auth](x.in)
	if a == nil || a.Method != auth.MethodSharedKey {
		return false
	}
	s := signed(sa, !sa.base.Initiator, findID(x.in, !sa.base.Initiator).AppendBody(nil))
	whole, brief := auth.Resumed(sa.base.Suite.PRF, s).Equal(a.Data), auth.ResumedBriefly(sa.base.Suite.PRF, s).Equal(a.Data)
	sa.brief = brief // the answer is made in the same way
	return sa.base.Env.Proved(whole || brief)
}

func (t *resumedProof) request(x *exchange) error { return t.say(x) }

func (t *resumedProof) accept(x *exchange) error {
	switch sa := x.sa; {
	case !t.right(x):
		return sa.authFailed(nil, "the proof of %s is wrong: it does not have the keys of its ticket", sa.base.PeerID)
	case sa.owner.Tickets().used(sa.resumed.name):
		return sa.authFailed(nil, "the ticket of %s was used a moment ago", sa.base.PeerID)
	default:
		sa.owner.Tickets().spend(sa.base.Env, sa.resumed.name, sa.resumed.expires)
		return nil
	}
}

func (t *resumedProof) reply(x *exchange) error { return t.say(x) }

func (t *resumedProof) complete(x *exchange) error {
	if sa := x.sa; !t.right(x) {
		return sa.distrust(nil, "the proof of %s is wrong: it does not have the keys of its ticket", sa.base.PeerID)
	}
	return nil
}

func (*resumedProof) settle(x *exchange) error {
	if !x.mine {
		replaceOld(x.sa)
	}
	return nil
}

// replaceOld ends the IKE SA that the ticket was of and sends nothing: its client
// has lost it (RFC 5723 §4.3.1).
func replaceOld(sa *SA) {
	for _, s := range sa.base.Others.Namesakes(sa.base) {
		if s.State >= Established && sa.base.Had(s) {
			s.End(false, "the peer had lost it, and resumed it with a ticket")
		}
	}
}

// resumes reports whether sa began with a ticket of s.
func resumes(sa *SA, s *SA) bool {
	return sa.resumed != nil && !sa.base.Initiator && slices.ContainsFunc(s.tickets.given, func(g given) bool { return g.name == sa.resumed.name })
}

// --- asking for tickets and giving them ---

// sessionTicket asks for a ticket in IKE_AUTH and gives one (RFC 5723 §4.1).
type sessionTicket struct{ noop }

func (*sessionTicket) request(x *exchange) error {
	if x.sa.base.Peer.Profile.Resumption {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyTicketRequest})
	}
	return nil
}

func (*sessionTicket) reply(x *exchange) error {
	giveTicket(x, x.sa)
	return nil
}

func (*sessionTicket) settle(x *exchange) error {
	if x.mine {
		x.sa.tickets.hear(x.in)
	}
	return nil
}

// rekeyTicket gives a ticket of the successor where the request for a rekey asks
// for one. As the client we ask on the successor itself.
type rekeyTicket struct {
	noop
	next *succession
}

func (t *rekeyTicket) reply(x *exchange) error {
	if t.next.made != nil {
		giveTicket(x, t.next.made)
	} else if wantsTicket(x) { // the keys are not there yet: it may ask again
		x.out = append(x.out, &message.Notify{Kind: message.NotifyTicketAck})
	}
	return nil
}

// informTicket is for INFORMATIONAL.
type informTicket struct {
	noop
	ask bool // ours: it asks for a session ticket
}

func (t *informTicket) request(x *exchange) error {
	if t.ask {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyTicketRequest})
	}
	return nil
}

func (t *informTicket) reply(x *exchange) error {
	if !closes(x) {
		giveTicket(x, x.sa)
	}
	return nil
}

func (t *informTicket) settle(x *exchange) error {
	if !closes(x) && x.sa.base.Auth.Mine && x.sa.base.State == Established && (t.ask || !x.mine) {
		x.sa.tickets.hear(x.in)
	}
	return nil
}

// wantsTicket reports whether the peer asks for a ticket and is one that may.
func wantsTicket(x *exchange) bool {
	return notify(x.in, message.NotifyTicketRequest) != nil && x.sa.base.Peer.Profile.Resumption && !x.sa.base.Auth.Mine
}

// giveTicket answers TICKET_REQUEST with a ticket of an IKE SA, which is that of
// the exchange or its successor.
func giveTicket(x *exchange, of *SA) {
	sa := x.sa
	if !wantsTicket(x) {
		return
	}
	now, a := sa.base.Env.Now(), &sa.base.Auth
	proven := provenAt(sa)
	life := min(maxTicketLife, sa.base.Peer.Profile.Lifetime)
	if most := sa.base.Peer.Profile.Reauth; most > 0 {
		life = min(life, proven.Add(most).Sub(now))
	}
	if a.Life > 0 {
		life = min(life, a.Since.Add(a.Life).Sub(now))
	}
	if !a.Until.IsZero() {
		life = min(life, a.Until.Sub(now))
	}
	life = life.Truncate(time.Second)
	raw, name := []byte(nil), ticketName{}
	err := fmt.Errorf("who it is has to be proven anew before")
	jar := sa.owner.Tickets()
	switch {
	case a.Asked:
		err = fmt.Errorf("whether its certificate was revoked is asked anew each time")
	case life > 0:
		t := ticket{expires: now.Add(life).Truncate(time.Second), proven: proven, until: a.Until, origin: jar.origin(sa.base.Peer, sa.base.Identity), peer: sa.base.Peer.Name,
			id: sa.base.PeerID, our: sa.base.MyID, chosen: of.base.Suite.Chosen(), d: of.sealer.keys.d}
		t.home = sa.base.Origin()
		raw, name, err = jar.seal(sa.base.Env, &t)
	}
	if err != nil {
		sa.base.Event(core.EvNotify, "%s gets no ticket to resume with: %v", sa.base.PeerID, err)
		x.out = append(x.out, &message.Notify{Kind: message.NotifyTicketNack})
		return
	}
	of.tickets.given = append(of.tickets.given, given{name, now.Add(life)})
	if n := len(of.tickets.given); n > maxGiven {
		of.tickets.given = of.tickets.given[n-maxGiven:]
	}
	x.out = append(x.out, &message.Notify{Kind: message.NotifyTicketLTOpaque,
		Data: append(binary.BigEndian.AppendUint32(nil, uint32(life/time.Second)), raw...)})
}

// provenAt is when the peer proved who it is, by more than a ticket.
func provenAt(sa *SA) time.Time {
	if proven := sa.base.Auth.Proven; !proven.IsZero() {
		return proven
	}
	return sa.base.Env.Now() // just now
}

// hear keeps the ticket that a peer gave, in place of an older one.
func (l *lineage) hear(in []message.Payload) {
	sa := l.sa
	if !sa.base.Peer.Profile.Resumption {
		return
	}
	sa.base.Env.Timers.Stop(l.timer)
	if notify(in, message.NotifyTicketAck) != nil {
		l.timer = sa.base.Env.After(ticketLater, l.ask)
		return
	}
	n := notify(in, message.NotifyTicketLTOpaque)
	if n == nil || len(n.Data) <= 4 || len(n.Data) > 4+maxHeld {
		return
	}
	life := min(time.Duration(binary.BigEndian.Uint32(n.Data))*time.Second, 7*maxTicketLife)
	if life <= 0 {
		return
	}
	l.session.Wipe()
	l.session = &Session{ticket: clone(n.Data[4:]), expires: sa.base.Env.Now().Add(life), proven: provenAt(sa), gateway: sa.base.Remote.Addr().Unmap(),
		origin: sa.owner.Tickets().origin(sa.base.Peer, sa.base.Identity), myID: sa.base.MyID, peerID: sa.base.PeerID, suite: sa.base.Suite, brief: sa.brief, d: sa.sealer.keys.d.Clone()}
	l.timer = sa.base.Env.After(life*9/10, l.ask)
}

// ask asks for another ticket.
func (l *lineage) ask() {
	sa := l.sa
	if sa.base.State != Established || !sa.base.Peer.Profile.Resumption {
		return
	}
	x := newExchange(row(inform))
	part[*informTicket](x).ask = true
	sa.start(x)
}

// inherit is for the successor at a rekey, whose own ticket the client asks for.
func (l *lineage) inherit(old *SA) {
	old.tickets.rest()
	l.session, l.given = old.tickets.session, append(old.tickets.given, l.given...)
	old.tickets = lineage{sa: old}
	if l.session != nil && old.base.Auth.Mine {
		l.ask()
	}
}

// rest begins nothing more.
func (l *lineage) rest() { l.sa.base.Env.Timers.Stop(l.timer) }

// interrupted leaves the session to be resumed: the IKE SA was lost.
func (l *lineage) interrupted() {
	sa := l.sa
	if s := l.session; s != nil {
		l.session = nil
		sa.owner.Interrupted(sa.base, s)
	}
}

// deleted is for an IKE SA that one of the ends deletes: it shall not be
// resumed (RFC 5723 §4.3.1).
func (l *lineage) deleted() {
	sa := l.sa
	for _, g := range l.given {
		sa.owner.Tickets().spend(sa.base.Env, g.name, g.expires)
	}
	l.given = nil
	l.end()
}

func (l *lineage) end() {
	sa := l.sa
	sa.base.Env.Timers.Stop(l.timer)
	l.session.Wipe()
	l.session = nil
}
