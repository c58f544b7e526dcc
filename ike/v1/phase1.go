package v1

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"

	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// phase1 is what phase 1 needs until the SA is up; mainmode.go has how it goes.
type phase1 struct {
	sa *SA
	// next takes the peer's next message. nil: none is expected, or an Ask is open. It calls
	// flight.hear once the message counts. An error is dropped or fatal.
	next       func(m *isakmp.Message, raw []byte, in core.Datagram) error
	awaited    string       // what next takes, for people
	candidates []*core.Peer // as responder: who the peer may be, by its address
	method     uint16       // how the ends prove themselves (isakmp.Auth…)

	life    life   // that the initiator says
	sai     []byte // the body of the initiator's SA payload
	ni, nr  []byte
	ke      keyExchange
	forged  []byte            // the hash of our address where it is to match none
	iv      []byte            // of the next encrypted message
	warned  bool              // an event has said that the peer's proof cannot be read
	misread int               // how many proofs of the peer could not be
	said    isakmp.NotifyType // what somebody said without proof why it refuses; 0: nothing

	// Of a proof in a message that anybody can have sent: what forgets it, nil where none is being checked, and why the last one
	// was refused (doubt.go).
	doubted func(reason string)
	refusal string

	// The peer's: the body of its ID payload, its certificates, its own first, and the authorities that it trusts.
	peerID       []byte
	certs        []*x509.Certificate
	certsErr     error
	cas          []auth.KeyHash
	pkcs7        bool      // it asks for certificates in PKCS #7
	ours, theirs auth.Part // signatures under way; nil: not begun

	// Messages of phase 2 that overtook the last one of phase 1, or came while that was checked. last: that is what is awaited.
	early []early
	last  bool
}

// early is a message that came too early.
type early struct {
	raw []byte
	in  core.Datagram
}

// maxEarly bounds how many messages are kept that came too early: a request of XAuth or mode config, INITIAL-CONTACT and a DELETE may.
const maxEarly = 4

// keep keeps a message of phase 2 until phase 1 is through, and reports whether it does. Whoever sends it has not proved anything:
// it is read later as if it came then.
func (p *phase1) keep(raw []byte, in core.Datagram) bool {
	if !p.last || len(p.early) == maxEarly {
		return false
	}
	if !slices.ContainsFunc(p.early, func(e early) bool { return bytes.Equal(e.raw, raw) }) {
		p.early = append(p.early, early{raw, in})
	}
	return true
}

func newPhase1(sa *SA) *phase1 {
	p := &phase1{sa: sa}
	p.ke.sa = sa
	return p
}

func (p *phase1) end() {
	p.ke.end()
	p.endProofs()
}

// expect says what the peer's next message is for.
func (p *phase1) expect(what string, next func(*isakmp.Message, []byte, core.Datagram) error) {
	p.awaited, p.next = what, next
}

// expectLast is expect for the last message of phase 1.
func (p *phase1) expectLast(what string, next func(*isakmp.Message, []byte, core.Datagram) error) {
	p.last = true
	p.expect(what, next)
}

// say sends a message. As initiator we see to it that it arrives; a responder only answers again what it is
// asked again, since anybody can begin from an address that is another's (CVE-2016-5361).
func (p *phase1) say(raw []byte) {
	sa := p.sa
	if !sa.base.Initiator {
		sa.first.say(raw, nil)
		return
	}
	sa.first.say(raw, func() {
		b := sa.base
		sa.fail(end(0, "%s never came, in %d attempts: check that UDP %d and %d reach the peer, that it is running%s",
			p.awaited, core.Tries, b.Peer.Port, b.Peer.NATT(), p.silence()))
	})
	if sa.base.SPIr == 0 {
		p.seekSource()
	}
}

// silence is what else may be the reason why the peer says nothing.
func (p *phase1) silence() string {
	if p.refusal != "" {
		return "; a message came whose proof was refused, and anybody could have sent it: " + p.refusal
	}
	if p.said != 0 {
		return "; a message in clear, which anybody could have sent, says " + p.said.String()
	}
	if p.sa.keys.made() || p.sa.exchange == isakmp.ExchangeBase && p.sa.base.SPIr != 0 {
		return ", and compare secret, my-id and remote-id on both sides: a peer that cannot read our proof says nothing"
	}
	if p.sa.base.SPIr == 0 && p.sa.exchange != isakmp.ExchangeMain {
		return ", and compare exchange-mode, my-id, remote-id and secret on both sides"
	}
	if p.sa.base.SPIr == 0 {
		return ", and compare exchange-mode on both sides"
	}
	return ""
}

// seekSource looks for another address of ours while nobody answers the first message.
func (p *phase1) seekSource() {
	sa := p.sa
	silent := func() bool { return sa.phase1 == p && sa.base.SPIr == 0 }
	sa.base.Env.After(core.RetransmitWait(0), func() {
		if silent() {
			ikesa.SeekSource(sa.base, silent, func() { sa.base.Transmit(sa.base.Path, sa.first.said) })
		}
	})
}

// then goes on after an Ask.
func (p *phase1) then(step func() error) func(error) {
	return func(err error) {
		if p.sa.phase1 != p || p.sa.base.State == Ended {
			return
		}
		if err == nil {
			err = step()
		} else {
			err = end(isakmp.NotifyInvalidKeyInformation, "%v", err)
		}
		p.conclude(err)
	}
}

// conclude is the end of a step after an Ask.
func (p *phase1) conclude(err error) {
	if err != nil {
		p.sa.fail(err)
	}
	p.sa.weigh()
}

// phase1Message handles a message of phase 1.
func (sa *SA) phase1Message(m *isakmp.Message, raw []byte, in core.Datagram) error {
	p := sa.phase1
	switch {
	case m.ID != 0:
		return drop("a message of phase 1 with message ID %08x", m.ID)
	case sa.first.repeated(raw, in), p == nil, p.next == nil:
		return nil // said again, or late
	}
	next := p.next
	p.next = nil
	err := next(m, raw, in)
	var d dropped
	if errors.As(err, &d) {
		if sa.phase1 == p {
			p.next = next
		}
		return err
	}
	if err != nil {
		sa.fail(err)
	}
	return nil
}

// fail ends an SA whose phase 1 came to nothing, and says why.
func (sa *SA) fail(err error) {
	var f fatal
	if !errors.As(err, &f) {
		f = fatal{reason: err.Error()}
	}
	if f.kind != 0 {
		sa.tell(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: f.kind})
	}
	if sa.base.Initiator && sa.last != nil { // the SA is up on the peer's side
		sa.inform(sa.deleteOfPhase1())
	}
	giveUp(sa, sa.Doing(), f)
}

// giveUp says why there is no SA and ends it; doing is what it was about, for people.
func giveUp(sa *SA, doing string, f fatal) {
	if sa.base.Initiator {
		ikesa.NoIKE{Exchange: doing, Cause: f.cause, Reason: f.reason, Detail: f.detail, Told: f.told}.Report(sa.base)
		return
	}
	if !f.told {
		kind := f.cause.Event()
		if f.cause == ikesa.AnotherCause {
			kind = core.EvBadMessage
		}
		sa.base.Emit(core.Event{Kind: kind, Exchange: doing, Reason: f.reason, Detail: f.detail})
	}
	sa.base.End(true, "%s", f.reason)
}

// choose is for the responder: it finds the transform of the peer's SA payload, and who of the
// candidates the peer can be then.
func (p *phase1) choose(payload *isakmp.SA, methods func(*core.Peer) []uint16) (*offered, error) {
	sa := p.sa
	all := phase1Offers(payload)
	var chosen *offered
	var fit []*core.Peer
	for _, peer := range p.candidates {
		list := ofMethods(all, methods(peer))
		if chosen != nil {
			list = []offered{*chosen}
		}
		s, a, ok := core.Phase1Offer(&peer.Profile).Select(alternatives(list))
		switch {
		case !ok:
			continue
		case chosen == nil:
			o := list[a.Number-1]
			chosen, sa.base.Suite, p.method = &o, s, o.phase1.Auth
			p.life = lifeOf(o.phase1.Life)
			ikesa.TurnOut(sa.base, peer)
		case len(ofMethods(list, methods(peer))) == 0:
			continue
		}
		fit = append(fit, peer)
	}
	if p.candidates = fit; chosen != nil {
		return chosen, nil
	}
	peer := sa.base.Peer
	f := fatal{kind: isakmp.NotifyNoProposalChosen, cause: ikesa.NoProposal}
	if len(ofMethods(all, methods(peer))) == 0 {
		names := methodsOf(all)
		f.reason = "the peer would prove itself by " + list(names) + ", and no identity of peer \"" + peer.Name + "\" has that: set auth-method there or at the peer"
		f.detail = ikesa.Explainer{SA: sa.base}.AuthParts(names)
		return nil, f
	}
	f.reason = "no proposal of the peer fits profile \"" + peer.Profile.Name + "\": compare enc-algorithm, hash-algorithm and dh-group on both sides"
	f.detail = ikesa.Explainer{SA: sa.base}.IKEParts(alternatives(ofMethods(all, methods(peer))))
	return nil, f
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	s := names[0]
	for _, n := range names[1:] {
		s += " or " + n
	}
	return s
}

// derive makes the keys of SKEYID.
func (p *phase1) derive(root secret.Bytes) keys {
	s := &p.sa.base.Suite
	return deriveKeys(s.PRF, s.Encr, root, p.ke.shared, p.sa.base.SPIi, p.sa.base.SPIr)
}

// gx are the public values, the initiator's first.
func (p *phase1) gx() (i, r []byte) {
	if p.sa.base.Initiator {
		return p.ke.own, p.ke.peer
	}
	return p.ke.peer, p.ke.own
}

// lowest is the lower of two nonces.
func lowest(a, b []byte) []byte {
	if ikesa.Lower(b, a) {
		return b
	}
	return a
}
