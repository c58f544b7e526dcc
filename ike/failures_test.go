package ike

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/testcert"
	"culvert/spd/selector"
)

// Each way to fail, at each end: which event tells of it, and the line that a person reads. A row is two ends of ours,
// whose configurations differ in one thing, or one end of ours and a peer that says what ours never does. The events
// are all that tell of the failure, in their order: those of the initiator before those of the responder.
type failure struct {
	name string
	// differ makes the difference between two ends; the first initiates. then goes on once both had half a second.
	differ func(a, b *core.Config)
	then   func(p *pair)
	// system is how the initiator's system fails to answer, and drop the exchange that does not pass.
	system func(core.Ask) error
	drop   message.ExchangeType
	// peer is another peer: it does what fails and returns our end.
	peer func(t *testing.T) *rig
	// lines are "ROLE EVENT in EXCHANGE: REASON => HINT", the role being ours at the end that says it.
	lines []string
}

// line is an event as a person reads it.
func line(e core.Event) string {
	s := "responder "
	if e.Initiator {
		s = "initiator "
	}
	s += e.Kind.String()
	if e.Exchange != "" {
		s += " in " + e.Exchange
	}
	s += ": " + e.Reason
	if e.Detail != nil {
		s += " => " + e.Detail.Hint
	}
	return s
}

// linesOf are the events that tell of a failure.
func linesOf(events []core.Event) (lines []string) {
	for _, e := range events {
		switch e.Kind {
		case core.EvIKEUp, core.EvChildUp, core.EvIKERekeyed, core.EvChildRekeyed, core.EvLeased:
		default:
			lines = append(lines, line(e))
		}
	}
	return lines
}

// run makes a row fail and returns what was said.
func (f *failure) run(t *testing.T) (lines []string) {
	if f.peer != nil {
		return linesOf(f.peer(t).events)
	}
	p := newPair(t, 77, simnet.Link{Delay: 5 * time.Millisecond}, passive, func(a, b *core.Config) {
		a.Where = func(_ any, key string) string { return "a.toml:" + key }
		b.Where = func(_ any, key string) string { return "b.toml:" + key }
		f.differ(a, b)
	})
	if f.system != nil {
		p.a.system = func(a core.Ask) (core.Answer, bool) { return core.Answer{ID: a.ID, Err: f.system(a)}, true }
	}
	p.drop = func(_ *side, h message.Header) bool { return f.drop != 0 && h.Exchange == f.drop }
	p.up()
	p.run(time.Second / 2)
	if f.then != nil {
		f.then(p)
	}
	for _, e := range p.a.events {
		if !e.Initiator && e.Kind != core.EvBadMessage {
			t.Errorf("the initiator says that it is the responder: %s", line(e))
		}
	}
	return append(linesOf(p.a.events), linesOf(p.b.events)...)
}

func TestFailures(t *testing.T) {
	for i := range failures {
		f := &failures[i]
		t.Run(f.name, func(t *testing.T) {
			got := f.run(t)
			if strings.Join(got, "\n") != strings.Join(f.lines, "\n") {
				t.Errorf("said\n\t`%s`,\nwant\n\t`%s`,", strings.Join(got, "`,\n\t`"), strings.Join(f.lines, "`,\n\t`"))
			}
		})
	}
}

// --- what the rows are made of ---

func profileOf(c *core.Config) *core.Profile   { return &c.Peers[0].Profile }
func identityOf(c *core.Config) *core.Identity { return c.Peers[0].Identities[0] }
func proposalOf(c *core.Config) *core.Proposal { return &c.Policies[0].Proposal }
func fqdnID(name string) core.ID               { return core.ID{Type: core.IDFQDN, Data: name} }
func groupNamed(name string) []*suite.Group    { return []*suite.Group{suite.GroupByName(name)} }
func espNamed(name string) []*suite.Encr       { return []*suite.Encr{suite.EncrByName(name)} }

// rekeysChild and rekeysIKE have the initiator replace what is up.
func rekeysChild(p *pair) {
	p.a.events, p.b.events = nil, nil
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(time.Second / 2)
}

// asResponder is our end as responder of a peer that has run IKE_SA_INIT.
func asResponder(t *testing.T, change ...func(c *core.Config)) (*rig, *puppet) {
	r := newRig(t, append(change, placed)...)
	p := newPuppet(r, 1)
	p.init()
	return r, p
}

// asInitiator is our end as initiator whose IKE_SA_INIT was answered, and its request of IKE_AUTH.
func asInitiator(t *testing.T, change ...func(c *core.Config)) (*rig, *puppet, message.Header) {
	r := newRig(t, append(change, placed, initiates)...)
	p := newPuppet(r, 1)
	p.acceptInit()
	h, ps := p.asked(message.ExchangeIKEAuth)
	p.note(ps)
	return r, p, h
}

// up is our end as initiator with all that it wants.
func upAsInitiator(t *testing.T, change ...func(c *core.Config)) (*rig, *puppet) {
	r := newRig(t, append(change, placed, initiates)...)
	p := newPuppet(r, 1)
	p.accept()
	r.take()
	r.events = nil
	return r, p
}

func placed(c *core.Config) {
	c.Where = func(_ any, key string) string { return "us.toml:" + key }
}

// answersAuth is a row of a responder whose answer to IKE_AUTH is what make says.
func answersAuth(make func(p *puppet) []message.Payload, change ...func(c *core.Config)) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r, p, h := asInitiator(t, change...)
		p.answer(h, make(p)...)
		return r
	}
}

// asksAuth is a row of an initiator whose request of IKE_AUTH is what make says.
func asksAuth(make func(p *puppet) []message.Payload, change ...func(c *core.Config)) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r, p := asResponder(t, change...)
		p.r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, 1, false), make(p)...))
		return r
	}
}

// answersNothing is a row in which our end stops by itself after IKE_SA_INIT.
func answersNothing(change ...func(c *core.Config)) func(t *testing.T) *rig {
	return answersInit(func(p *puppet) []message.Payload { return p.initPayloads() }, change...)
}

// answersInit is a row of a responder whose answer to IKE_SA_INIT is what make says.
func answersInit(make func(p *puppet) []message.Payload, change ...func(c *core.Config)) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r := newRig(t, append(change, placed, initiates)...)
		p := newPuppet(r, 1)
		_, ps := p.called()
		p.spir, p.nr = 0x2222222222222222, nonce(9).Data
		p.agree(ps, &p.ni)
		p.replyInit(p.spir, make(p)...)
		return r
	}
}

// asksInit is a row of an initiator whose IKE_SA_INIT is what make says.
func asksInit(make func(p *puppet) []message.Payload, change ...func(c *core.Config)) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r := newRig(t, append(change, placed)...)
		p := newPuppet(r, 1)
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: make(p)}
		r.datagram(p.addr, m.Append(nil))
		return r
	}
}

// answersChild is a row of a responder whose answer to our rekey of a CHILD SA is what make says.
func answersChild(make func(p *puppet) []message.Payload, change ...func(c *core.Config)) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r, p := upAsInitiator(t, change...)
		r.in(core.Command{Do: core.RekeyChildren})
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.note(ps)
		p.answer(h, make(p)...)
		return r
	}
}

// answersIKERekey is the same for our rekey of the IKE SA.
func answersIKERekey(make func(p *puppet) []message.Payload) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r, p := upAsInitiator(t)
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, make(p)...)
		p.deletes()
		return r
	}
}

// while is a row of a peer that asks for CREATE_CHILD_SA while our end does something else.
func while(do core.CommandKind, make func(p *puppet) []message.Payload) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r, p := settled(t, placed)
		r.events = nil
		r.in(core.Command{Do: do})
		r.datagram(p.addr, p.seal(p.header(message.ExchangeCreateChildSA, p.nextID, false), make(p)...))
		return r
	}
}

// asks is a row of a peer that has connected and asks for something else.
func asks(x message.ExchangeType, make func(p *puppet) []message.Payload, change ...func(c *core.Config)) func(t *testing.T) *rig {
	return func(t *testing.T) *rig {
		r, p := settled(t, append(change, placed)...)
		r.events = nil
		p.r.datagram(p.addr, p.seal(p.header(x, p.nextID, false), make(p)...))
		return r
	}
}

// with replaces the payload of one kind, or adds it.
func with(ps []message.Payload, x message.Payload) []message.Payload {
	if i := slices.IndexFunc(ps, func(p message.Payload) bool { return p.Type() == x.Type() }); i >= 0 {
		ps[i] = x
		return ps
	}
	return append(ps, x)
}

// lacking leaves payloads out.
func lacking(ps []message.Payload, types ...message.PayloadType) []message.Payload {
	return slices.DeleteFunc(ps, func(p message.Payload) bool { return slices.Contains(types, p.Type()) })
}

func saying(n message.NotifyType) func(p *puppet) []message.Payload {
	return func(p *puppet) []message.Payload { return []message.Payload{note(n)} }
}

// signing has both ends prove themselves by certificates.
func signing(trustA, trustB *testcert.Pair, ownA, ownB *core.Credential, more ...func(a, b *core.Config)) func(a, b *core.Config) {
	return func(a, b *core.Config) {
		sign(a, trustIn(trustA), ownA)
		sign(b, trustIn(trustB), ownB)
		for _, f := range more {
			f(a, b)
		}
	}
}

var (
	failCerts      = newCerts()
	certA, certB   = own(failCerts.root.Leaf("a", "p256", testcert.DNS("a.example"))), own(failCerts.root.Leaf("b", "p256", testcert.DNS("b.example")))
	rsaA           = own(failCerts.root.Leaf("a", "rsa-2048"))
	expiredA       = own(failCerts.root.Leaf("a", "p256", testcert.Valid(epoch.Add(-48*time.Hour), epoch.Add(-time.Hour))))
	strangeIKE     = message.Proposal{Number: 1, Protocol: 1, Transforms: []message.Transform{{Type: 1, ID: 12, KeyBits: 256}, {Type: 2, ID: 5}, {Type: 3, ID: 12}, {Type: 4, ID: 31}}}
	strangeESP     = message.Proposal{Number: 1, Protocol: 3, Transforms: []message.Transform{{Type: 1, ID: 20, KeyBits: 256}, {Type: 5, ID: 0}}}
	tsOurs, tsPeer = ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")
)

var failures = []failure{
	// --- IKE_SA_INIT ---
	{name: "encryption of the IKE SA", differ: func(a, _ *core.Config) { profileOf(a).Encrs = []*suite.Encr{suite.EncrByIKEName("aes-256")} }, lines: []string{
		`initiator no-proposal-chosen in IKE_SA_INIT: the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile default with the peer's => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "default" (a.toml:); or the peer has no connection for 192.0.2.1 at all, and answers the same then`,
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: NO_PROPOSAL_CHOSEN: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => encryption: we allow aes-128, the peer offers aes-256: add aes-256 to enc-algorithm of profile "default" (b.toml:enc-algorithm)`,
	}},
	{name: "hash of the IKE SA", differ: func(a, _ *core.Config) {
		profileOf(a).Integs, profileOf(a).PRFs = []*suite.Integ{suite.IntegByName("sha512")}, []*suite.PRF{suite.PRFByName("sha512")}
	}, lines: []string{
		`initiator no-proposal-chosen in IKE_SA_INIT: the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile default with the peer's => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "default" (a.toml:); or the peer has no connection for 192.0.2.1 at all, and answers the same then`,
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: NO_PROPOSAL_CHOSEN: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => prf: we allow sha256, the peer offers sha512: add sha512 to hash-algorithm of profile "default" (b.toml:hash-algorithm)`,
	}},
	{name: "group of the IKE SA", differ: func(a, _ *core.Config) { profileOf(a).Groups = groupNamed("ecp256") }, lines: []string{
		`initiator no-proposal-chosen in IKE_SA_INIT: the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile default with the peer's => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "default" (a.toml:); or the peer has no connection for 192.0.2.1 at all, and answers the same then`,
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: NO_PROPOSAL_CHOSEN: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => group: we allow x25519, the peer offers ecp256: add ecp256 to dh-group of profile "default" (b.toml:dh-group)`,
	}},
	{name: "an additional key exchange at the initiator", differ: func(a, _ *core.Config) { exchanges(a, "x25519+ml-kem-768") }, lines: []string{
		`initiator no-proposal-chosen in IKE_SA_INIT: the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile default with the peer's => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "default" (a.toml:); or the peer has no connection for 192.0.2.1 at all, and answers the same then`,
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: NO_PROPOSAL_CHOSEN: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => additional key exchanges: we allow none, the peer offers ml-kem-768: write the same dh-group on both sides, such as x25519+ml-kem-768, or beside it the group alone where that is enough (b.toml:dh-group)`,
	}},
	{name: "an additional key exchange at the responder", differ: func(_, b *core.Config) { exchanges(b, "x25519+ml-kem-768") }, lines: []string{
		`initiator no-proposal-chosen in IKE_SA_INIT: the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile default with the peer's => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "default" (a.toml:); or the peer has no connection for 192.0.2.1 at all, and answers the same then`,
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: NO_PROPOSAL_CHOSEN: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => additional key exchanges: we allow ml-kem-768, the peer offers none: write the same dh-group on both sides, such as x25519+ml-kem-768, or beside it the group alone where that is enough (b.toml:dh-group)`,
	}},
	{name: "another additional key exchange", differ: func(a, b *core.Config) { exchanges(a, "x25519+ml-kem-1024"); exchanges(b, "x25519+ml-kem-768") }, lines: []string{
		`initiator no-proposal-chosen in IKE_SA_INIT: the peer chose none of our proposals: compare enc-algorithm, hash-algorithm and dh-group of profile default with the peer's => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "default" (a.toml:); or the peer has no connection for 192.0.2.1 at all, and answers the same then`,
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: NO_PROPOSAL_CHOSEN: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => additional key exchanges: we allow ml-kem-768, the peer offers ml-kem-1024: write the same dh-group on both sides, such as x25519+ml-kem-768, or beside it the group alone where that is enough (b.toml:dh-group)`,
	}},
	{name: "no peer for the address", differ: func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("198.51.100.1/32") }, then: func(p *pair) {
		p.b.events = p.b.events[:1]
		p.b.dead = true
		p.run(90 * time.Second)
	}, lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: IKE_SA_INIT was sent 12 times without an answer: check that UDP 500 and 4500 reach the peer and that it is running`,
		`responder bad-message: no peer is configured for 192.0.2.1: add one whose address covers it`,
	}},
	{name: "no route", differ: func(_, _ *core.Config) {}, system: func(core.Ask) error { return errors.New("network is unreachable") }, lines: []string{
		`initiator initiation-failed: no route to 192.0.2.2: check the host's routes or set local-address`,
	}},
	{name: "no address in the DNS", differ: func(a, _ *core.Config) { a.Peers[0].Address, a.Peers[0].DNSName = netip.Prefix{}, "b.example" },
		system: func(core.Ask) error { return errors.New("no such host") }, lines: []string{
			`initiator initiation-failed: the DNS has no address for b.example: no such host`,
		}},
	{name: "UDP 4500 does not pass", differ: func(_, _ *core.Config) {}, drop: message.ExchangeIKEAuth, then: func(p *pair) { p.run(80 * time.Second) }, lines: []string{
		`initiator initiation-failed in IKE_AUTH: IKE_AUTH was sent 12 times without an answer: check that UDP 500 and 4500 reach the peer and that it is running`,
		`responder notify: the peer did not go on with IKE_AUTH within 30s: check that UDP 4500 reaches this host, and that fragments of it do`,
	}},
	{name: "childless is required, and the peer does not allow it", peer: answersInit(func(p *puppet) []message.Payload { return p.initPayloads() },
		childless(core.ChildlessRequire)), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer does not say CHILDLESS_IKEV2_SUPPORTED, and peer "b" has childless = "require": write "prefer" to do without, or have the peer allow it`,
	}},
	{name: "the peer chooses another algorithm", peer: answersInit(func(p *puppet) []message.Payload { return with(p.initPayloads(), saOf(strangeIKE)) }), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer chose a proposal that was not offered`,
	}},
	{name: "the peer's key exchange is of another group", peer: answersInit(func(p *puppet) []message.Payload {
		return with(p.initPayloads(), &message.KE{Group: 19, Data: make([]byte, 64)})
	}), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: INVALID_KE_PAYLOAD: the response has no key exchange of group x25519`,
	}},
	{name: "the peer wants another group", peer: answersInit(func(p *puppet) []message.Payload {
		return []message.Payload{&message.Notify{Kind: message.NotifyInvalidKEPayload, Data: []byte{0, 20}}}
	}), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer wants a Diffie-Hellman group that dh-group of profile "default" does not allow: compare dh-group on both sides => group: we allow x25519, the peer offers ecp384: add ecp384 to dh-group of profile "default" (us.toml:dh-group)`,
	}},
	{name: "a cookie that is none", peer: answersInit(func(p *puppet) []message.Payload {
		return []message.Payload{&message.Notify{Kind: message.NotifyCookie}}
	}), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer's cookie has 0 bytes, not 1 to 64`,
	}},
	{name: "the peer says nothing that could be used", peer: answersInit(func(p *puppet) []message.Payload { return nil }), lines: []string{
		`initiator bad-message: IKE message: Notify payload: missing in the response of IKE_SA_INIT`,
	}},
	{name: "an empty SA payload in the response to IKE_SA_INIT", peer: func(t *testing.T) *rig {
		r := answersInit(func(p *puppet) []message.Payload { return with(p.initPayloads(), saOf()) })(t)
		r.pass(80 * time.Second)
		return r
	}, lines: []string{
		`initiator bad-message: IKE message: SA payload: the body ends too early`,
		`initiator initiation-failed in IKE_SA_INIT: IKE_SA_INIT was sent 12 times without an answer that could be used: IKE message: SA payload: the body ends too early: see the log of the peer, and who else answers at its address`,
	}},
	{name: "an empty SA payload in IKE_SA_INIT", peer: asksInit(func(p *puppet) []message.Payload { return with(p.initPayloads(), saOf()) }), lines: []string{
		`responder bad-message: IKE message: SA payload: the body ends too early`,
	}},
	{name: "no NAT traversal, and ESP goes in UDP", peer: asksInit(func(p *puppet) []message.Payload { return lacking(p.initPayloads(), message.TypeNotify) },
		func(c *core.Config) { c.Encapsulation = core.EncapUDP }), lines: []string{
		`responder no-proposal-chosen in IKE_SA_INIT: refused the peer's IKE_SA_INIT: the peer does not support NAT traversal, and ESP travels in UDP here: switch NAT traversal on at the peer`,
	}},
	{name: "the peer has no NAT traversal, and ESP goes in UDP", peer: answersInit(func(p *puppet) []message.Payload { return lacking(p.initPayloads(), message.TypeNotify) },
		func(c *core.Config) { c.Encapsulation = core.EncapUDP }), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer does not support NAT traversal, and ESP travels in UDP here: switch NAT traversal on at the peer`,
	}},
	{name: "an unknown critical payload in IKE_SA_INIT", peer: asksInit(func(p *puppet) []message.Payload {
		return append(p.initPayloads(), &message.Unknown{T: 200, Critical: true})
	}), lines: []string{
		`responder notify in IKE_SA_INIT: refused the peer's IKE_SA_INIT: UNSUPPORTED_CRITICAL_PAYLOAD: in IKE_SA_INIT`,
	}},
	{name: "a public value that is none", peer: asksInit(func(p *puppet) []message.Payload {
		return with(p.initPayloads(), &message.KE{Group: 31, Data: make([]byte, 32)})
	}), lines: []string{
		`responder notify in IKE_SA_INIT: refused the peer's IKE_SA_INIT: x25519: the peer's Diffie-Hellman public value is not valid in this group`,
	}},
	{name: "a refusal without a reason that we know", peer: answersInit(saying(9999)), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: notify 9999: the peer answered so`,
	}},
	{name: "a cookie again and again", peer: func(t *testing.T) *rig {
		r := newRig(t, placed, initiates)
		p := newPuppet(r, 1)
		for i := range 6 {
			p.called()
			p.replyInit(0, &message.Notify{Kind: message.NotifyCookie, Data: []byte{byte(i), 1}})
		}
		return r
	}, lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer asked 5 times to repeat IKE_SA_INIT`,
	}},
	{name: "neither an SA nor a reason", peer: answersInit(saying(message.NotifyMOBIKESupported)), lines: []string{
		`initiator initiation-failed in IKE_SA_INIT: the peer answered IKE_SA_INIT with neither an SA nor a reason`,
	}},
	{name: "a key exchange of another group than the proposal", peer: asksInit(func(p *puppet) []message.Payload {
		return with(p.initPayloads(), &message.KE{Group: 19, Data: make([]byte, 64)})
	}), lines: []string{
		`responder asked-again in IKE_SA_INIT: refused the peer's IKE_SA_INIT: INVALID_KE_PAYLOAD: the peer's key exchange is not of group x25519`,
	}},
	{name: "another additional key exchange than agreed on", peer: func(t *testing.T) *rig {
		r := newRig(t, placed, func(c *core.Config) { exchanges(c, hybrid) })
		p := newPuppet(r, 1)
		p.initOffering(hybridIKE)
		r.datagram(p.addr, p.seal(p.header(message.ExchangeIntermediate, 1, false), p.ke()))
		return r
	}, lines: []string{
		`responder notify in IKE_INTERMEDIATE: refused the peer's IKE_INTERMEDIATE: the peer's additional key exchange is not ml-kem-768, which was agreed`,
	}},
	{name: "no additional key exchange in the response", peer: func(t *testing.T) *rig {
		r := newRig(t, placed, initiates, func(c *core.Config) { exchanges(c, hybrid) })
		p := newPuppet(r, 1)
		p.first = []message.Payload{note(message.NotifyIntermediateExchangeSupported)}
		_, ps := p.called()
		p.spir, p.nr = 0x2222222222222222, nonce(9).Data
		p.agree(ps, &p.ni)
		p.derive(mac(slices.Concat(p.ni, p.nr), p.shared))
		p.replyInit(p.spir, with(p.initPayloads(), saOf(hybridIKE))...)
		p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
		h, _ := p.asked(message.ExchangeIntermediate)
		p.answer(h, p.ke())
		return r
	}, lines: []string{
		`initiator initiation-failed in IKE_INTERMEDIATE: the peer's response to IKE_INTERMEDIATE has no key exchange ml-kem-768`,
	}},

	// --- who is who ---
	{name: "secret", differ: func(a, _ *core.Config) { identityOf(a).Secret = secret.Bytes("somethingelse") }, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of address:192.0.2.1 is wrong: compare the secret of the identity on both sides => the secrets of both sides differ: write the same one on both (b.toml:secret)`,
	}},
	{name: "remote-id", differ: func(_, b *core.Config) { identityOf(b).RemoteID = fqdnID("a.example") }, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: no identity of peer "a" fits the ID address:192.0.2.1: add one with remote-id = "address:192.0.2.1" => remote-id: the peer says it is address:192.0.2.1: set remote-id = "address:192.0.2.1" in an identity of peer "a" (b.toml:remote-id), or my-id at the peer to what remote-id has here, "fqdn:a.example"`,
	}},
	{name: "the ID that is asked for", differ: func(a, b *core.Config) {
		identityOf(a).RemoteID, identityOf(b).MyID = fqdnID("b.example"), fqdnID("other.example")
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the peer address:192.0.2.1 asks for fqdn:b.example, and no identity of peer "a" is that: write it as my-id of an identity, or have the peer ask for what we are => my-id: the peer asks for fqdn:b.example: set my-id of an identity of peer "a" to it, or the peer's remote-id to ours (b.toml:my-id)`,
	}},
	{name: "the ID that is asked for is that of an identity for others", differ: func(a, b *core.Config) {
		identityOf(a).RemoteID = fqdnID("b.example")
		identityOf(b).MyID, identityOf(b).RemoteID = fqdnID("b.example"), fqdnID("a.example")
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: no identity of peer "a" that can be fqdn:b.example, for whom the peer address:192.0.2.1 asks, has its ID: add one with remote-id = "address:192.0.2.1" => remote-id: the peer says it is address:192.0.2.1: set remote-id = "address:192.0.2.1" in an identity of peer "a" (b.toml:remote-id), or my-id at the peer to what remote-id has here, "fqdn:a.example"`,
	}},
	{name: "the responder is somebody else", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(p.childAnswer()...) },
		func(c *core.Config) { identityOf(c).RemoteID = fqdnID("b.example") }), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer says it is address:192.0.2.2, and remote-id wants fqdn:b.example: write what it is as remote-id, or what remote-id has as my-id at the peer => remote-id: the peer says it is address:192.0.2.2: set remote-id = "address:192.0.2.2" in an identity of peer "b" (us.toml:remote-id), or my-id at the peer to what remote-id has here, "fqdn:b.example"`,
	}},
	{name: "the responder's secret", peer: answersAuth(func(p *puppet) []message.Payload { p.psk = "wrong"; return p.authPayloads(p.childAnswer()...) }), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the proof of address:192.0.2.2 is wrong: compare the secret of the identity on both sides => the secrets of both sides differ: write the same one on both (us.toml:secret)`,
	}},
	{name: "both have one my-id", differ: func(a, b *core.Config) {
		identityOf(a).MyID, identityOf(b).MyID = fqdnID("x.example"), fqdnID("x.example")
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the peer says it is fqdn:x.example, which is our own my-id: give each side a my-id of its own; if they have one, somebody sends our own messages back to us`,
	}},
	{name: "an ID that is too long", peer: asksAuth(func(p *puppet) []message.Payload {
		p.id = core.ID{Type: core.IDKeyID, Data: strings.Repeat("x", 2049)}
		return p.authPayloads(p.childOffer()...)
	}), lines: []string{
		`responder authentication-failed in IKE_AUTH: the peer's ID has 2049 bytes, at most 2048 are accepted: give it a shorter my-id`,
	}},
	{name: "no ID", peer: asksAuth(func(p *puppet) []message.Payload { return lacking(p.authPayloads(p.childOffer()...), message.TypeIDi) }), lines: []string{
		`responder notify in IKE_AUTH: refused the peer's IKE_AUTH: IKE message: SA payload: not allowed in the request of IKE_AUTH`,
	}},
	{name: "EAP is wanted", peer: asksAuth(func(p *puppet) []message.Payload { return lacking(p.authPayloads(p.childOffer()...), message.TypeAUTH) }), lines: []string{
		`responder authentication-failed in IKE_AUTH: address:192.0.2.2 asks for EAP, and no identity of peer "b" has it: set auth-method at the peer to what ours has => set auth-method, or remote-auth-method where each side proves itself in its own way (us.toml:auth-method)`,
	}},
	{name: "the response has no proof", peer: answersAuth(func(p *puppet) []message.Payload {
		return lacking(p.authPayloads(p.childAnswer()...), message.TypeAUTH)
	}), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the response of address:192.0.2.2 has no proof => set auth-method, or remote-auth-method where each side proves itself in its own way (us.toml:auth-method)`,
	}},
	{name: "the response has nothing", peer: answersAuth(func(p *puppet) []message.Payload { return nil }), lines: []string{
		`initiator initiation-failed in IKE_AUTH: the response to IKE_AUTH: IKE message: Notify payload: missing in the response of IKE_AUTH`,
	}},
	{name: "the response has no ID and no reason", peer: answersAuth(saying(message.NotifyMOBIKESupported)), lines: []string{
		`initiator initiation-failed in IKE_AUTH: the peer answered IKE_AUTH without proof and without a reason`,
	}},
	{name: "an unknown critical payload in the response to IKE_AUTH", peer: answersAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(p.childAnswer()...), &message.Unknown{T: 200, Critical: true})
	}), lines: []string{
		`initiator initiation-failed in IKE_AUTH: the response to IKE_AUTH: the response has an unknown critical payload 200`,
	}},
	{name: "a certificate for a secret", differ: func(a, _ *core.Config) { sign(a, trustIn(failCerts.root), certA) }, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: fqdn:a.example proves itself by signature, and the identity wants pre-shared-key: set remote-auth-method here or the peer's method => set auth-method, or remote-auth-method where each side proves itself in its own way (b.toml:auth-method)`,
	}},
	{name: "a secret for a certificate", differ: func(_, b *core.Config) { sign(b, trustIn(failCerts.root), certB) }, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: address:192.0.2.1 proves itself by pre-shared key, and the identity wants digital-signature: set remote-auth-method here or the peer's method => set auth-method, or remote-auth-method where each side proves itself in its own way (b.toml:auth-method)`,
	}},
	{name: "an authority that is not trusted", differ: signing(failCerts.root, failCerts.other, certA, certB), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of fqdn:a.example is refused: the certificate "O=Culvert tests, CN=a" was issued by "O=Culvert tests, CN=root", which no trusted certificate leads to: add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate => add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate (b.toml:remote-certificate)`,
	}},
	{name: "an authority that the initiator does not trust", differ: signing(failCerts.other, failCerts.root, certA, certB), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the proof of fqdn:b.example is refused: the certificate "O=Culvert tests, CN=b" was issued by "O=Culvert tests, CN=root", which no trusted certificate leads to: add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate => add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate (a.toml:remote-certificate)`,
		`responder bad-message: INFORMATIONAL for an IKE SA that does not exist`,
		`responder authentication-failed in INFORMATIONAL: the peer refused our proof: see in its log what is wrong with certificate "b" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (b.toml:)`,
		`responder child-down: its IKE SA ended`,
		`responder ike-down: the peer refused our proof: see in its log what is wrong with certificate "b" for it; compare my-id and remote-id on both sides`,
	}},
	{name: "an RSA certificate that is not trusted", differ: signing(failCerts.root, failCerts.other, rsaA, certB), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature (rsa-padding of certificate "a" says how we sign, and some peers check one padding only); compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of dn:O=Culvert tests, CN=a is refused: the certificate "O=Culvert tests, CN=a" was issued by "O=Culvert tests, CN=root", which no trusted certificate leads to: add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate => add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate (b.toml:remote-certificate)`,
	}},
	{name: "an expired certificate", differ: signing(failCerts.root, failCerts.root, expiredA, certB), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of dn:O=Culvert tests, CN=a is refused: the certificate "O=Culvert tests, CN=a" expired on 2025-12-31 23:00:00: renew it; if that is not so, set this host's clock => renew it; if that is not so, set this host's clock`,
	}},
	{name: "a name that the certificate does not have", differ: signing(failCerts.root, failCerts.root, certA, certB, func(a, _ *core.Config) { identityOf(a).MyID = fqdnID("c.example") }), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the peer says it is fqdn:c.example, which its certificate does not: set my-id at the peer to one of its certificate's names, dn:O=Culvert tests, CN=a, fqdn:a.example, have the certificate issued with the name, or set remote-id = "ignore" (dangerous) => set my-id at the peer to one of its certificate's names, dn:O=Culvert tests, CN=a, fqdn:a.example, have the certificate issued with the name, or set remote-id = "ignore" (dangerous) (b.toml:remote-id)`,
	}},
	{name: "a name that the responder's certificate does not have", differ: signing(failCerts.root, failCerts.root, certA, certB, func(a, _ *core.Config) { identityOf(a).RemoteID = fqdnID("c.example") }), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the peer fqdn:a.example asks for fqdn:c.example, and no identity of peer "a" is that: write it as my-id of an identity, or have the peer ask for what we are => my-id: the peer asks for fqdn:c.example, which certificate "b" does not name: have it issued with that name, or set the peer's remote-id to one of its names, dn:O=Culvert tests, CN=b, fqdn:b.example (b.toml:my-id)`,
	}},
	{name: "remote-certificate", differ: signing(failCerts.root, failCerts.root, certA, certB, func(_, b *core.Config) { identityOf(b).RemoteCert = certB.Chain[0] }), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the peer sent another certificate than the one in remote-certificate, dn:O=Culvert tests, CN=a => name the certificate that the peer has in remote-certificate, or leave that out (b.toml:remote-certificate)`,
	}},
	{name: "no certificate", peer: asksAuth(func(p *puppet) []message.Payload {
		return with(p.authPayloads(p.childOffer()...), &message.Auth{Method: 14, Data: []byte{1, 2, 3}})
	}, func(c *core.Config) { sign(c, trustIn(failCerts.root), certA) }), lines: []string{
		`responder authentication-failed in IKE_AUTH: the peer sent no certificate: have it send one, or name its certificate in remote-certificate => have the peer send its certificate, or name that in remote-certificate (us.toml:remote-certificate)`,
	}},
	{name: "signatures that the responder does not announce", peer: answersNothing(func(c *core.Config) {
		sign(c, trustIn(failCerts.root), own(failCerts.root.Leaf("a", "ed25519")))
	}), lines: []string{
		`initiator authentication-failed in IKE_AUTH: we cannot prove ourselves: the peer has no signatures by RFC 7427, which the key of certificate "a" needs: switch them on at the peer or use a certificate with an RSA or ECDSA key => the peer has no signatures by RFC 7427, which the key of certificate "a" needs: switch them on at the peer or use a certificate with an RSA or ECDSA key`,
	}},
	{name: "ppk-secret", differ: func(a, b *core.Config) {
		identityOf(a).PPK, identityOf(b).PPK = ppk("one", "k", false), ppk("one", "l", false)
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of address:192.0.2.1 is wrong with the postquantum preshared key "one", and right without: compare ppk-secret on both sides => ppk-secret: both sides name the same ppk-id and have another secret for it: write the same one on both (b.toml:ppk-secret)`,
	}},
	{name: "ppk-secret, which the initiator requires", differ: func(a, b *core.Config) {
		identityOf(a).PPK, identityOf(b).PPK = ppk("one", "k", true), ppk("one", "l", false)
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of address:192.0.2.1 is wrong: compare secret and ppk-secret of the identity on both sides => secret or ppk-secret differs, and nothing shows which of them: write the same on both sides (b.toml:secret)`,
	}},
	{name: "secret, and the PPK is the same", differ: func(a, b *core.Config) {
		identityOf(a).PPK, identityOf(b).PPK = ppk("one", "k", false), ppk("one", "k", false)
		identityOf(a).Secret = secret.Bytes("somethingelse")
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of address:192.0.2.1 is wrong, without the postquantum preshared key too: compare the secret of the identity on both sides => the secrets of both sides differ: write the same one on both (b.toml:secret)`,
	}},
	{name: "ppk-secret with certificates", differ: signing(failCerts.root, failCerts.root, certA, certB, func(a, b *core.Config) {
		identityOf(a).PPK, identityOf(b).PPK = ppk("one", "k", false), ppk("one", "l", false)
	}), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: see in its log what is wrong with certificate "a" for it; compare my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: see whether it trusts the authority of our certificate, has the same time and can check the signature; compare my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: the proof of fqdn:a.example with the postquantum preshared key "one" is refused: compare ppk-secret on both sides; else the signature is wrong: the peer signs with a key that is not that of the certificate it sends: look at its certificate and key => ppk-secret: both sides name the same ppk-id and have another secret for it: write the same one on both (b.toml:ppk-secret)`,
	}},
	{name: "ppk-id, which the initiator requires", differ: func(a, b *core.Config) {
		identityOf(a).PPK, identityOf(b).PPK = ppk("one", "k", true), ppk("two", "k", false)
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: address:192.0.2.1 requires the postquantum preshared key "one", and its identity here has another or none => ppk-id: write the same ppk-id and ppk-secret on both sides, or leave out ppk-required where a PPK is not a must (b.toml:ppk-id)`,
	}},
	{name: "ppk-id, which the responder requires", differ: func(a, b *core.Config) {
		identityOf(a).PPK, identityOf(b).PPK = ppk("one", "k", false), ppk("two", "k", true)
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: address:192.0.2.1 does not use the postquantum preshared key "two", which ppk-required wants => ppk-id: write the same ppk-id and ppk-secret on both sides, or leave out ppk-required where a PPK is not a must (b.toml:ppk-id)`,
	}},
	{name: "a PPK that the initiator alone requires", differ: func(a, _ *core.Config) { identityOf(a).PPK = ppk("one", "k", true) }, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer uses no postquantum preshared key, and ppk-required wants one => ppk-id: write the same ppk-id and ppk-secret on both sides, or leave out ppk-required where a PPK is not a must (a.toml:ppk-id)`,
	}},
	{name: "a PPK that the responder alone requires", differ: func(_, b *core.Config) { identityOf(b).PPK = ppk("one", "k", true) }, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (a.toml:)`,
		`responder authentication-failed in IKE_AUTH: address:192.0.2.1 does not use the postquantum preshared key "one", which ppk-required wants => ppk-id: write the same ppk-id and ppk-secret on both sides, or leave out ppk-required where a PPK is not a must (b.toml:ppk-id)`,
	}},
	{name: "a responder that passes the PPK over", peer: func(t *testing.T) *rig {
		r := newRig(t, placed, initiates, func(c *core.Config) { identityOf(c).PPK = ppk("one", "k", true) })
		p := newPuppet(r, 1)
		p.first = []message.Payload{note(message.NotifyUsePPK)}
		p.acceptInit()
		h, _ := p.asked(message.ExchangeIKEAuth)
		p.answer(h, p.authPayloads(p.childAnswer()...)...)
		return r
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer does not use the postquantum preshared key "one", and ppk-required wants it => ppk-id: write the same ppk-id and ppk-secret on both sides, or leave out ppk-required where a PPK is not a must (us.toml:ppk-id)`,
	}},

	// --- the CHILD SA of IKE_AUTH ---
	{name: "encryption of the CHILD SA", differ: func(a, _ *core.Config) { proposalOf(a).Encrs = espNamed("aes-256-gcm") }, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (a.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (a.toml:tunnel)`,
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms and esn on both sides => encryption: we allow aes-128-gcm, the peer offers aes-256-gcm: add aes-256-gcm to enc-algorithms of proposal "default" (b.toml:enc-algorithms)`,
	}},
	{name: "integrity of the CHILD SA", differ: func(a, b *core.Config) {
		proposalOf(a).Encrs, proposalOf(b).Encrs = espNamed("aes-128-cbc"), espNamed("aes-128-cbc")
		proposalOf(a).Integs, proposalOf(b).Integs = []*suite.Integ{suite.IntegByName("sha512")}, []*suite.Integ{suite.IntegByName("sha256")}
	}, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (a.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (a.toml:tunnel)`,
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms and esn on both sides => integrity: we allow sha256, the peer offers sha512: add sha512 to auth-algorithms of proposal "default" (b.toml:auth-algorithms)`,
	}},
	{name: "esn, which the initiator requires", differ: func(a, b *core.Config) { proposalOf(a).ESN, proposalOf(b).ESN = []bool{true}, []bool{false} }, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (a.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (a.toml:tunnel)`,
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms and esn on both sides => esn: we allow no, the peer offers yes: set esn of proposal "default" to yes (b.toml:esn)`,
	}},
	{name: "esn, which the responder requires", differ: func(a, b *core.Config) { proposalOf(a).ESN, proposalOf(b).ESN = []bool{false}, []bool{true} }, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (a.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (a.toml:tunnel)`,
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms and esn on both sides => esn: we allow yes, the peer offers no: set esn of proposal "default" to no (b.toml:esn)`,
	}},
	{name: "esn, of which the peer says nothing", peer: asksAuth(func(p *puppet) []message.Payload {
		esp := espProposal
		esp.Transforms = esp.Transforms[:1]
		return p.authPayloads(saOf(withSPI(esp, u32(0x1007))), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16"))
	}, func(c *core.Config) { proposalOf(c).ESN = []bool{true} }), lines: []string{
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms and esn on both sides => esn: we allow yes, the peer offers no: set esn of proposal "default" to no (us.toml:esn)`,
	}},
	{name: "AH for ESP", differ: func(a, _ *core.Config) {
		a.Policies[0].Protocol = core.ProtoAH
		proposalOf(a).Integs = []*suite.Integ{suite.IntegByName("sha256")}
	}, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (a.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (a.toml:tunnel)`,
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms and esn on both sides => protocol: we allow ESP, the peer offers AH: have the peer use ESP, or change ipsec-protocols of policy 0 (b.toml:ipsec-protocols)`,
	}},
	{name: "tunnel mode for transport mode", differ: func(_, b *core.Config) { b.Policies[0].Tunnel = false }, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (a.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (a.toml:tunnel)`,
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: the peer wants tunnel mode, policy 10.2.0.0/16 => 10.1.0.0/16 is for transport mode: tunnel differs on the two sides => tunnel: set tunnel = true in policy 0, or what ours has at the peer (b.toml:tunnel)`,
	}},
	{name: "transport mode for tunnel mode", differ: func(a, _ *core.Config) { a.Policies[0].Tunnel = false }, lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the peer declined transport mode: tunnel differs on the two sides => tunnel: set tunnel = true in policy 0, or what ours has at the peer (a.toml:tunnel)`,
		`responder no-proposal-chosen in INFORMATIONAL: the peer asked for transport mode, got tunnel mode by the policy, and deleted the CHILD SA: tunnel differs on the two sides => tunnel: set tunnel = false in policy 0, or what ours has at the peer (b.toml:tunnel)`,
		`responder child-down in INFORMATIONAL: the peer deleted it`,
	}},
	{name: "transport mode that nobody asked for", peer: answersAuth(func(p *puppet) []message.Payload {
		return p.authPayloads(append(p.childAnswer(), note(message.NotifyUseTransportMode))...)
	}), lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the peer chose transport mode, which was not asked for => tunnel: set tunnel = false in policy 0, or what ours has at the peer (us.toml:tunnel)`,
	}},
	{name: "selectors", differ: func(a, _ *core.Config) {
		a.Policies[0].Pair.Remote = selector.FromPrefix(netip.MustParsePrefix("10.9.0.0/16"))
	}, lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.9.0.0/16: TS_UNACCEPTABLE: the peer answered so: compare src-address and dst-address of the policy on both sides => the peer has no policy for 10.1.0.0/16 => 10.9.0.0/16 and does not say which it has: its policy has to be ours with the sides exchanged, src-address 10.9.0.0/16 and dst-address 10.1.0.0/16 there`,
		`responder ts-unacceptable in IKE_AUTH: no CHILD SA in IKE_AUTH: TS_UNACCEPTABLE: no policy of peer "a" covers [10.9.0.0/16] => [10.1.0.0/16]: compare src-address and dst-address on both sides => src-address: policy 0 has 10.2.0.0/16, the peer asks for 10.9.0.0/16: set src-address of the policy to it, or the peer's dst-address to ours (b.toml:src-address)`,
	}},
	{name: "no policy", differ: func(_, b *core.Config) { b.Policies = nil }, lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: TS_UNACCEPTABLE: the peer answered so: compare src-address and dst-address of the policy on both sides => the peer has no policy for 10.1.0.0/16 => 10.2.0.0/16 and does not say which it has: its policy has to be ours with the sides exchanged, src-address 10.2.0.0/16 and dst-address 10.1.0.0/16 there`,
		`responder ts-unacceptable in IKE_AUTH: no CHILD SA in IKE_AUTH: TS_UNACCEPTABLE: no policy of peer "a" covers [10.2.0.0/16] => [10.1.0.0/16]: compare src-address and dst-address on both sides => no policy names peer "a": add one with peer = "a", src-address = "10.2.0.0/16" and dst-address = "10.1.0.0/16"`,
	}},
	{name: "a policy for another identity", differ: func(_, b *core.Config) {
		other := *identityOf(b)
		other.RemoteID = fqdnID("c.example")
		b.Peers[0].Identities = append(b.Peers[0].Identities, &other)
		b.Policies[0].Identity = &other
	}, lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: TS_UNACCEPTABLE: the peer answered so: compare src-address and dst-address of the policy on both sides => the peer has no policy for 10.1.0.0/16 => 10.2.0.0/16 and does not say which it has: its policy has to be ours with the sides exchanged, src-address 10.2.0.0/16 and dst-address 10.1.0.0/16 there`,
		`responder ts-unacceptable in IKE_AUTH: no CHILD SA in IKE_AUTH: TS_UNACCEPTABLE: no policy of peer "a" covers [10.2.0.0/16] => [10.1.0.0/16]: compare src-address and dst-address on both sides => identity: policy 0 is for another identity than address:192.0.2.1 proved to be (b.toml:): name that one there, or take identity out, or write a policy of its own (b.toml:identity)`,
	}},
	{name: "no template", differ: func(_, b *core.Config) {
		b.Policies = nil
		identityOf(b).Generate, identityOf(b).Group = core.GenerateStrict, "rw"
	}, lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: TS_UNACCEPTABLE: the peer answered so: compare src-address and dst-address of the policy on both sides => the peer has no policy for 10.1.0.0/16 => 10.2.0.0/16 and does not say which it has: its policy has to be ours with the sides exchanged, src-address 10.2.0.0/16 and dst-address 10.1.0.0/16 there`,
		`responder ts-unacceptable in IKE_AUTH: no CHILD SA in IKE_AUTH: TS_UNACCEPTABLE: no template of policy-group "rw" allows [10.2.0.0/16] => [10.1.0.0/16]: it has none => policy-group "rw" has no template: write a [[policy]] with template = true and group = "rw", or another policy-template-group into the identity (b.toml:policy-template-group)`,
	}},
	{name: "an address has to be asked for", differ: func(_, b *core.Config) { givesLeases(b) }, lines: []string{
		`initiator notify in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: FAILED_CP_REQUIRED: the peer answered so: the peer wants us to ask for an address: write mode-config into the identity here`,
		`responder notify in IKE_AUTH: no CHILD SA in IKE_AUTH: FAILED_CP_REQUIRED: address:192.0.2.1 asked for no address, and its identity has the mode-config "rw"`,
	}},
	{name: "the peer gives no address", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(p.childAnswer()...) }, asksLease), lines: []string{
		`initiator notify in IKE_AUTH: no CHILD SA for the policy 0.0.0.0/0 => 0.0.0.0/0: the peer's answer cannot be used: the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here`,
	}},
	{name: "an agreement that is not for the address that the peer gave", peer: answersAuth(func(p *puppet) []message.Payload {
		given := cp(2, message.Attribute{Type: 1, Value: []byte{192, 168, 77, 9}})
		return p.authPayloads(given, saOf(withSPI(espProposal, u32(0x1007))), ts(true, "10.9.0.0/16"), ts(false, "10.2.0.0/16"))
	}, asksLease), lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 0.0.0.0/0 => 0.0.0.0/0: the peer's answer cannot be used: the peer agreed to [10.9.0.0/16] => [10.2.0.0/16], which is not between the address that it gave, [192.168.77.9], and its networks`,
	}},
	{name: "the pool has no address", peer: func(t *testing.T) *rig {
		r, p := asResponder(t, givesLeases)
		p.authLeased("", p.authPayloads(append(p.offer(wholeSpace(true), wholeSpace(false)), asksAddress())...)...)
		return r
	}, lines: []string{
		`responder notify in IKE_AUTH: no CHILD SA in IKE_AUTH: INTERNAL_ADDRESS_FAILURE: no address for address:192.0.2.2 from mode-config "rw": all addresses are in use`,
	}},
	{name: "childless is required of an initiator that asks for a CHILD SA", peer: asksAuth(func(p *puppet) []message.Payload { return p.authPayloads(p.childOffer()...) },
		childless(core.ChildlessRequire)), lines: []string{
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: peer "b" has childless = "require", and the peer asks for a CHILD SA in IKE_AUTH: have it make CHILD SAs by CREATE_CHILD_SA alone`,
	}},
	{name: "no selectors", peer: asksAuth(func(p *puppet) []message.Payload {
		return lacking(p.authPayloads(p.childOffer()...), message.TypeTSi)
	}), lines: []string{
		`responder notify in IKE_AUTH: refused the peer's IKE_AUTH: IKE message: TSi payload: must come together with SA in the request of IKE_AUTH`,
	}},
	{name: "an SPI that is reserved", peer: asksAuth(func(p *puppet) []message.Payload {
		return with(p.authPayloads(p.childOffer()...), saOf(withSPI(espProposal, u32(255))))
	}), lines: []string{
		`responder no-proposal-chosen in IKE_AUTH: no CHILD SA in IKE_AUTH: NO_PROPOSAL_CHOSEN: the peer wants to receive with SPI 255, and those below 256 are reserved (RFC 4303 §2.1), which is a fault of its software: update the peer`,
	}},
	{name: "an SPI of 8 bytes", peer: asksAuth(func(p *puppet) []message.Payload {
		return with(p.authPayloads(p.childOffer()...), saOf(withSPI(espProposal, make([]byte, 8))))
	}), lines: []string{
		`responder notify in IKE_AUTH: no CHILD SA in IKE_AUTH: INVALID_SYNTAX: the SPI is not 4 bytes`,
	}},
	{name: "an empty SA payload", peer: asksAuth(func(p *puppet) []message.Payload { return with(p.authPayloads(p.childOffer()...), saOf()) }), lines: []string{
		`responder notify in IKE_AUTH: refused the peer's IKE_AUTH: IKE message: SA payload: the body ends too early`,
	}},
	{name: "an empty SA payload in the response", peer: answersAuth(func(p *puppet) []message.Payload { return with(p.authPayloads(p.childAnswer()...), saOf()) }), lines: []string{
		`initiator initiation-failed in IKE_AUTH: the response to IKE_AUTH: IKE message: SA payload: the body ends too early`,
	}},
	{name: "the peer chooses another algorithm of ESP", peer: answersAuth(func(p *puppet) []message.Payload {
		return with(p.authPayloads(p.childAnswer()...), saOf(withSPI(strangeESP, u32(0x1007))))
	}), lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the peer chose a proposal that was not offered`,
	}},
	{name: "the peer widens the selectors", peer: answersAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(saOf(withSPI(espProposal, u32(0x1007)))), ts(true, "10.0.0.0/8"), tsPeer)
	}), lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the peer widened the selector to 10.0.0.0/8`,
	}},
	{name: "the peer leaves no selectors", peer: answersAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(saOf(withSPI(espProposal, u32(0x1007)))), &message.TS{Initiator: true, Selectors: []selector.TS{}}, tsPeer)
	}), lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the peer left no selectors`,
	}},
	{name: "the peer leaves too many selectors", peer: answersAuth(func(p *puppet) []message.Payload {
		many := ts(true, slices.Repeat([]string{"10.1.0.0/16"}, 17)...)
		return append(p.authPayloads(saOf(withSPI(espProposal, u32(0x1007)))), many, tsPeer)
	}), lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the peer left more than 16 selectors`,
	}},
	{name: "selectors of no addresses", peer: asksAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(saOf(withSPI(espProposal, u32(0x1007)))), &message.TS{Initiator: true}, ts(false, "10.1.0.0/16"))
	}), lines: []string{
		`responder ts-unacceptable in IKE_AUTH: no CHILD SA in IKE_AUTH: TS_UNACCEPTABLE: no selector of addresses`,
	}},
	{name: "no CHILD SA and no reason", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads() }), lines: []string{
		`initiator notify in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer's answer cannot be used: the response has no CHILD SA and no reason`,
	}},
	{name: "FAILED_CP_REQUIRED", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(note(message.NotifyFailedCPRequired)) }), lines: []string{
		`initiator notify in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: FAILED_CP_REQUIRED: the peer answered so: the peer wants us to ask for an address: write mode-config into the identity here`,
	}},
	{name: "INTERNAL_ADDRESS_FAILURE", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(note(message.NotifyInternalAddressFailure)) }), lines: []string{
		`initiator notify in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: INTERNAL_ADDRESS_FAILURE: the peer answered so: the peer has no address for us: see its log and its pool`,
	}},
	{name: "NO_PROPOSAL_CHOSEN in IKE_AUTH", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(note(message.NotifyNoProposalChosen)) }), lines: []string{
		`initiator no-proposal-chosen in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare tunnel, and enc-algorithms, auth-algorithms and esn of proposal default on both sides => the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in proposal "default" (us.toml:); or the peer wants transport mode, which tunnel = false in policy 0 gives (us.toml:tunnel)`,
	}},
	{name: "TS_UNACCEPTABLE in IKE_AUTH", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(note(message.NotifyTSUnacceptable)) }), lines: []string{
		`initiator ts-unacceptable in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: TS_UNACCEPTABLE: the peer answered so: compare src-address and dst-address of the policy on both sides => the peer has no policy for 10.1.0.0/16 => 10.2.0.0/16 and does not say which it has: its policy has to be ours with the sides exchanged, src-address 10.2.0.0/16 and dst-address 10.1.0.0/16 there`,
	}},
	{name: "TEMPORARY_FAILURE in IKE_AUTH", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(note(message.NotifyTemporaryFailure)) }), lines: []string{
		`initiator asked-again in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: TEMPORARY_FAILURE: the peer answered so: it is asked for again a moment later`,
	}},
	{name: "a notify that nobody knows in IKE_AUTH", peer: answersAuth(func(p *puppet) []message.Payload { return p.authPayloads(note(8888)) }), lines: []string{
		`initiator notify in IKE_AUTH: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: notify 8888: the peer answered so: see the log of the peer`,
	}},
	{name: "AUTHENTICATION_FAILED", peer: answersAuth(saying(message.NotifyAuthenticationFailed)), lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (us.toml:)`,
	}},
	{name: "AUTHENTICATION_FAILED with a PPK", peer: func(t *testing.T) *rig {
		r := newRig(t, placed, initiates, func(c *core.Config) { identityOf(c).PPK = ppk("one", "k", false) })
		p := newPuppet(r, 1)
		p.first = []message.Payload{note(message.NotifyUsePPK)}
		p.acceptInit()
		h, _ := p.asked(message.ExchangeIKEAuth)
		p.answer(h, note(message.NotifyAuthenticationFailed))
		return r
	}, lines: []string{
		`initiator authentication-failed in IKE_AUTH: the peer refused our proof: compare secret, my-id and remote-id on both sides, and ppk-id and ppk-secret => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id; compare ppk-id and ppk-secret, too (us.toml:)`,
	}},

	// --- half-open IKE SAs ---
	{name: "the initiator does not go on", peer: func(t *testing.T) *rig {
		r, _ := asResponder(t)
		r.pass(31 * time.Second)
		return r
	}, lines: []string{
		`responder notify: the peer did not go on with IKE_AUTH within 30s: check that UDP 4500 reaches this host, and that fragments of it do`,
	}},
	{name: "another exchange before IKE_AUTH", peer: func(t *testing.T) *rig {
		r, p := asResponder(t)
		r.datagram(p.addr, p.seal(p.header(message.ExchangeInformational, 1, false)))
		return r
	}, lines: []string{
		`responder notify in INFORMATIONAL: refused the peer's INFORMATIONAL: a request of INFORMATIONAL is not possible in state half-open`,
	}},
	{name: "an unknown critical payload in IKE_AUTH", peer: asksAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(p.childOffer()...), &message.Unknown{T: 200, Critical: true})
	}), lines: []string{
		`responder notify in IKE_AUTH: refused the peer's IKE_AUTH: UNSUPPORTED_CRITICAL_PAYLOAD: from the peer`,
	}},
	{name: "a payload twice in IKE_AUTH", peer: asksAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(p.childOffer()...), saOf(withSPI(espProposal, u32(0x1007))))
	}), lines: []string{
		`responder notify in IKE_AUTH: refused the peer's IKE_AUTH: IKE message: SA payload: 2 times in the request of IKE_AUTH, at most 1 allowed`,
	}},
	{name: "a payload twice in the response to IKE_AUTH", peer: answersAuth(func(p *puppet) []message.Payload {
		return append(p.authPayloads(p.childAnswer()...), saOf(withSPI(espProposal, u32(0x1007))))
	}), lines: []string{
		`initiator initiation-failed in IKE_AUTH: the response to IKE_AUTH: IKE message: SA payload: 2 times in the response of IKE_AUTH, at most 1 allowed`,
	}},
	{name: "our own message comes back", peer: func(t *testing.T) *rig {
		r := newRig(t, placed, initiates)
		r.datagram(puppetAddr, r.one().Data)
		return r
	}, lines: []string{
		`responder bad-message: what we say was sent back to us: check that the peer's address is not our own, and who is on the path`,
	}},

	// --- once the IKE SA is up ---
	{name: "pfs-group at the first rekey", differ: func(a, b *core.Config) { pfs("x25519")(a); pfs("ecp256")(b) }, then: rekeysChild, lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: NO_PROPOSAL_CHOSEN: the peer answered so => group: the peer agreed to the same algorithms before, so only pfs-group can differ: set pfs-group of proposal "default" to what the peer has, or write "none" into it for a peer without PFS (a.toml:pfs-group)`,
		`responder no-proposal-chosen in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms, esn and pfs-group on both sides => group: we allow ecp256, the peer offers x25519: add x25519 to pfs-group of proposal "default" (b.toml:pfs-group)`,
	}},
	{name: "pfs-group that the responder does not have", differ: func(a, _ *core.Config) { pfs("x25519")(a) }, then: rekeysChild, lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: NO_PROPOSAL_CHOSEN: the peer answered so => group: the peer agreed to the same algorithms before, so only pfs-group can differ: set pfs-group of proposal "default" to what the peer has, or write "none" into it for a peer without PFS (a.toml:pfs-group)`,
		`responder no-proposal-chosen in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms, esn and pfs-group on both sides => group: we allow none, the peer offers x25519: set pfs-group of proposal "default" to x25519 (b.toml:pfs-group)`,
	}},
	{name: "pfs-group that the initiator does not have", differ: func(_, b *core.Config) { pfs("x25519")(b) }, then: rekeysChild, lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: NO_PROPOSAL_CHOSEN: the peer answered so => group: the peer agreed to the same algorithms before, so only pfs-group can differ: set pfs-group of proposal "default" to what the peer has, or write "none" into it for a peer without PFS (a.toml:pfs-group)`,
		`responder no-proposal-chosen in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): NO_PROPOSAL_CHOSEN: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms, esn and pfs-group on both sides => group: we allow x25519, the peer offers none: add none to pfs-group of proposal "default" (b.toml:pfs-group)`,
	}},
	{name: "NO_PROPOSAL_CHOSEN at a rekey", peer: answersChild(saying(message.NotifyNoProposalChosen), pfs("x25519")), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: NO_PROPOSAL_CHOSEN: the peer answered so => group: the peer agreed to the same algorithms before, so only pfs-group can differ: set pfs-group of proposal "default" to what the peer has, or write "none" into it for a peer without PFS (us.toml:pfs-group)`,
	}},
	{name: "NO_ADDITIONAL_SAS at a rekey", peer: answersChild(saying(message.NotifyNoAdditionalSAs)), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: NO_ADDITIONAL_SAS: the peer answered so`,
		`initiator notify: the peer does not let us replace its CHILD SA, so a new IKE SA is made: see whether the peer's pfs-group is ours, and whether it supports CREATE_CHILD_SA`,
	}},
	{name: "TS_UNACCEPTABLE at a rekey", peer: answersChild(saying(message.NotifyTSUnacceptable)), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: TS_UNACCEPTABLE: the peer answered so => the peer has no policy for 10.1.0.0/16 => 10.2.0.0/16 and does not say which it has: its policy has to be ours with the sides exchanged, src-address 10.2.0.0/16 and dst-address 10.1.0.0/16 there`,
	}},
	{name: "CHILD_SA_NOT_FOUND at a rekey", peer: answersChild(saying(message.NotifyChildSANotFound)), lines: []string{
		`initiator child-down: the peer does not know it any more`,
	}},
	{name: "the peer wants another group at a rekey", peer: answersChild(func(p *puppet) []message.Payload {
		return []message.Payload{&message.Notify{Kind: message.NotifyInvalidKEPayload, Data: []byte{0, 20}}}
	}, pfs("x25519")), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: INVALID_KE_PAYLOAD: the peer wants a Diffie-Hellman group that pfs-group of proposal "default" does not allow => group: we allow x25519, the peer offers ecp384: add ecp384 to pfs-group of proposal "default" (us.toml:pfs-group)`,
	}},
	{name: "no key exchange at a rekey", peer: answersChild(func(p *puppet) []message.Payload {
		return []message.Payload{saOf(withSPI(groupESP, u32(0x1009))), nonce(4), tsOurs, tsPeer}
	}, pfs("x25519")), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: INVALID_KE_PAYLOAD: the response has no key exchange of group x25519`,
	}},
	{name: "no nonce at a rekey", peer: answersChild(func(p *puppet) []message.Payload {
		return []message.Payload{saOf(withSPI(groupESP, u32(0x1009))), p.ke(), tsOurs, tsPeer}
	}, pfs("x25519")), lines: []string{
		`initiator child-down: its IKE SA ended`,
		`initiator ike-down: the response to CREATE_CHILD_SA (rekey of a CHILD SA): IKE message: Nonce payload: missing in the response of CREATE_CHILD_SA`,
	}},
	{name: "INVALID_SYNTAX", peer: answersChild(saying(message.NotifyInvalidSyntax)), lines: []string{
		`initiator child-down: its IKE SA ended`,
		`initiator ike-down: the peer found a fault in our CREATE_CHILD_SA (rekey of a CHILD SA) and has ended the IKE SA (INVALID_SYNTAX): its log says which`,
	}},
	{name: "NO_PROPOSAL_CHOSEN for another CHILD SA", peer: func(t *testing.T) *rig {
		r, p, h := asInitiator(t, pfs("x25519"), twoPolicies)
		p.answer(h, p.authPayloads(p.childAnswer()...)...)
		h, _ = p.asked(message.ExchangeCreateChildSA)
		p.answer(h, note(message.NotifyNoProposalChosen))
		return r
	}, lines: []string{
		`initiator no-proposal-chosen in CREATE_CHILD_SA: no CHILD SA for the policy 10.1.0.0/16 => 10.3.0.0/16: NO_PROPOSAL_CHOSEN: the peer answered so: compare pfs-group of proposal default on both sides => group: the peer agreed to the same algorithms before, so only pfs-group can differ: set pfs-group of proposal "default" to what the peer has, or write "none" into it for a peer without PFS (us.toml:pfs-group)`,
	}},
	{name: "NO_PROPOSAL_CHOSEN at a rekey of the IKE SA", peer: func(t *testing.T) *rig {
		r, p := upAsInitiator(t)
		r.in(core.Command{Do: core.RekeyIKE})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, note(message.NotifyNoProposalChosen))
		return r
	}, lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of the IKE SA): rekeying the IKE SA failed and will be tried again: NO_PROPOSAL_CHOSEN: the peer answered so => the peer agreed to the same algorithms before, so its connection was changed or removed since, or it does not let others rekey an IKE SA: see its log; nothing has to be changed here`,
	}},
	{name: "no SA and no reason at a rekey of the IKE SA", peer: answersIKERekey(saying(message.NotifyMOBIKESupported)), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of the IKE SA): rekeying the IKE SA failed and will be tried again: INVALID_SYNTAX: the response has no SA and no reason`,
	}},
	{name: "another algorithm at a rekey of the IKE SA", peer: answersIKERekey(func(p *puppet) []message.Payload {
		return p.ikeRekeyOf(strangeIKE, 0xaaaa, 3)
	}), lines: []string{
		`initiator child-down: its IKE SA ended`,
		`initiator ike-down: the peer's answer to the rekey cannot be used: INVALID_SYNTAX: the peer chose what was not offered`,
	}},
	{name: "encryption at the peer's rekey of the IKE SA", peer: asks(message.ExchangeCreateChildSA, func(p *puppet) []message.Payload { return p.ikeRekeyOf(strangeIKE, 0xaaaa, 3) }), lines: []string{
		`responder no-proposal-chosen in CREATE_CHILD_SA (rekey of the IKE SA): refused the peer's CREATE_CHILD_SA (rekey of the IKE SA): NO_PROPOSAL_CHOSEN: rekeying the IKE SA: no proposal of the peer fits profile "default" => encryption: we allow aes-128, the peer offers aes-256: add aes-256 to enc-algorithm of profile "default" (us.toml:enc-algorithm)`,
	}},
	{name: "an SPI of 4 bytes for an IKE SA", peer: asks(message.ExchangeCreateChildSA, func(p *puppet) []message.Payload {
		return with(p.ikeRekey(0xaaaa, 3), saOf(withSPI(ikeProposal, u32(0x1007))))
	}), lines: []string{
		`responder notify in CREATE_CHILD_SA (rekey of the IKE SA): refused the peer's CREATE_CHILD_SA (rekey of the IKE SA): INVALID_SYNTAX: the SPI of the new IKE SA is not 8 bytes`,
	}},
	{name: "a CHILD SA while the IKE SA is being replaced", peer: while(core.RekeyIKE, func(p *puppet) []message.Payload { return append(p.childOffer(), nonce(3)) }), lines: []string{
		`responder asked-again in CREATE_CHILD_SA: refused the peer's CREATE_CHILD_SA: TEMPORARY_FAILURE: the IKE SA is being replaced`,
	}},
	{name: "a rekey of the IKE SA while a CHILD SA is being replaced", peer: while(core.RekeyChildren, func(p *puppet) []message.Payload { return p.ikeRekey(0xaaaa, 3) }), lines: []string{
		`responder asked-again in CREATE_CHILD_SA (rekey of the IKE SA): refused the peer's CREATE_CHILD_SA (rekey of the IKE SA): TEMPORARY_FAILURE: a CHILD SA is being changed, or the IKE SA goes`,
	}},
	{name: "a rekey of a CHILD SA that is being deleted", peer: while(core.FlushSAs, func(p *puppet) []message.Payload { return p.theRekey(p.spi, 3) }), lines: []string{
		`responder asked-again in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): TEMPORARY_FAILURE: the CHILD SA is being deleted`,
	}},
	{name: "a CHILD SA that is rekeyed twice", peer: func(t *testing.T) *rig {
		r, p := settled(t, placed)
		old := p.spi
		p.request(message.ExchangeCreateChildSA, p.theRekey(old, 3)...)
		r.events = nil
		p.request(message.ExchangeCreateChildSA, p.theRekey(old, 4)...)
		return r
	}, lines: []string{
		`responder asked-again in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): TEMPORARY_FAILURE: the CHILD SA was rekeyed and waits for its Delete`,
	}},
	{name: "other selectors at a rekey", peer: asks(message.ExchangeCreateChildSA, func(p *puppet) []message.Payload {
		return append([]message.Payload{rekeySA(p.spi), nonce(3)}, saOf(withSPI(espProposal, u32(0x1007))), ts(true, "10.9.0.0/16"), ts(false, "10.1.0.0/16"))
	}), lines: []string{
		`responder ts-unacceptable in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): TS_UNACCEPTABLE: [10.1.0.0/16] => [10.9.0.0/16] is outside the policy 10.1.0.0/16 => 10.2.0.0/16 => dst-address: policy 0 has 10.2.0.0/16, the peer asks for 10.9.0.0/16: set dst-address of the policy to it, or the peer's src-address to ours (us.toml:dst-address)`,
	}},
	{name: "nothing on how to go on with additional key exchanges", peer: answersChild(func(p *puppet) []message.Payload {
		return []message.Payload{saOf(withSPI(hybridESP, u32(0x1009))), nonce(4), p.ke(), tsOurs, tsPeer}
	}, pfs(hybrid)), lines: []string{
		`initiator notify in CREATE_CHILD_SA (rekey of a CHILD SA): rekeying failed and will be tried again: INVALID_SYNTAX: the peer agreed on additional key exchanges and does not say how to go on`,
	}},
	{name: "IKE_FOLLOWUP_KE that nothing waits for", peer: asks(message.ExchangeFollowUpKE, func(p *puppet) []message.Payload {
		return []message.Payload{p.ke(), &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: []byte{1}}}
	}), lines: []string{
		`responder notify in IKE_FOLLOWUP_KE: refused the peer's IKE_FOLLOWUP_KE: STATE_NOT_FOUND: the peer goes on with what does not wait, or waited for more than 30s`,
	}},
	{name: "a rekey of what does not exist", peer: asks(message.ExchangeCreateChildSA, func(p *puppet) []message.Payload { return p.theRekey(0xbad, 3) }), lines: []string{
		`responder notify in CREATE_CHILD_SA (rekey of a CHILD SA): refused the peer's CREATE_CHILD_SA (rekey of a CHILD SA): CHILD_SA_NOT_FOUND: the peer wants to rekey a CHILD SA that does not exist`,
	}},
	{name: "an unknown exchange", peer: asks(200, func(p *puppet) []message.Payload { return nil }), lines: []string{
		`responder notify in exchange 200: refused the peer's exchange 200: INVALID_SYNTAX: exchange 200 is not known here`,
	}},
	{name: "a payload twice", peer: asks(message.ExchangeCreateChildSA, func(p *puppet) []message.Payload {
		return append(p.childOffer(), nonce(3), saOf(withSPI(espProposal, u32(0x1007))))
	}), lines: []string{
		`responder child-down: its IKE SA ended`,
		`responder ike-down: IKE message: SA payload: 2 times in the request of CREATE_CHILD_SA, at most 1 allowed`,
	}},
	{name: "AUTHENTICATION_FAILED of the initiator", peer: asks(message.ExchangeInformational, saying(message.NotifyAuthenticationFailed)), lines: []string{
		`responder authentication-failed in INFORMATIONAL: the peer refused our proof: compare secret, my-id and remote-id on both sides => the peer does not say what it refused, its log does: compare secret, my-id with its remote-id, and remote-id with its my-id (us.toml:)`,
		`responder child-down: its IKE SA ended`,
		`responder ike-down: the peer refused our proof: compare secret, my-id and remote-id on both sides`,
	}},
	{name: "TS_UNACCEPTABLE of the initiator", peer: asks(message.ExchangeInformational, func(p *puppet) []message.Payload {
		return []message.Payload{note(message.NotifyTSUnacceptable), deleteESP(p.spi)}
	}), lines: []string{
		`responder ts-unacceptable in INFORMATIONAL: the peer says TS_UNACCEPTABLE in a request of its own: see its log for why`,
		`responder child-down in INFORMATIONAL: the peer deleted it`,
	}},
	{name: "the peer deletes the CHILD SA", peer: asks(message.ExchangeInformational, func(p *puppet) []message.Payload { return []message.Payload{deleteESP(p.spi)} }), lines: []string{
		`responder child-down in INFORMATIONAL: the peer deleted it`,
	}},
	{name: "the peer deletes the IKE SA", peer: asks(message.ExchangeInformational, func(p *puppet) []message.Payload { return []message.Payload{deleteIKE()} }), lines: []string{
		`responder child-down: its IKE SA ended`,
		`responder ike-down: the peer deleted it`,
	}},
	{name: "the peer is gone", differ: func(_, _ *core.Config) {}, then: func(p *pair) {
		p.b.dead = true
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.run(78 * time.Second)
	}, lines: []string{
		`initiator peer-dead in CREATE_CHILD_SA (rekey of a CHILD SA): CREATE_CHILD_SA (rekey of a CHILD SA) was sent 12 times without an answer: check that UDP 500 and 4500 reach the peer and that it is running`,
		`initiator child-down: its IKE SA ended`,
		`initiator ike-down: CREATE_CHILD_SA (rekey of a CHILD SA) was sent 12 times without an answer: check that UDP 500 and 4500 reach the peer and that it is running`,
	}},
}

// The table of docs/troubleshooting.md says what the rows do.
func TestDocumentedFailures(t *testing.T) {
	text, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| differs | the responder says | the initiator says |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(row, "|\n"), "|")
		rows++
		name := strings.TrimSpace(cells[0])
		i := slices.IndexFunc(failures, func(f failure) bool { return f.name == name })
		if i < 0 || len(cells) != 3 {
			t.Errorf("%q is no failure of the table, or has %d cells", name, len(cells))
			continue
		}
		for k, role := range []string{"responder ", "initiator "} {
			kind, words, told := strings.Cut(strings.Trim(cells[k+1], " |"), ": `")
			words = strings.TrimSuffix(words, "`")
			says := slices.ContainsFunc(failures[i].lines, func(l string) bool {
				return strings.HasPrefix(l, role+kind) && strings.Contains(l, words)
			})
			if silent := !slices.ContainsFunc(failures[i].lines, func(l string) bool { return strings.HasPrefix(l, role) }); told && !says || !told && !silent {
				t.Errorf("%s: the %sdoes not say %q with the event %q, but %q", name, role, words, kind, failures[i].lines)
			}
		}
	}
	if rows < 15 {
		t.Errorf("%d rows", rows)
	}
}

// Every reason that the source gives for a refusal has a row above, or is named in shownElsewhere.
func TestEveryReasonHasARow(t *testing.T) {
	var said []string
	for i := range failures {
		said = append(said, failures[i].lines...)
	}
	all := strings.Join(said, "\n")
	unused := maps.Clone(shownElsewhere)
	for _, dir := range []string{"v2", "sa", "auth"} {
		for _, r := range reasonsIn(t, dir) {
			_, known := shownElsewhere[r.text]
			delete(unused, r.text)
			switch shown := formatted(r.text).MatchString(all); {
			case shown && known:
				t.Errorf("%s: %q has a row, and is in shownElsewhere", r.place, r.text)
			case !shown && !known:
				t.Errorf("%s: %q has no row", r.place, r.text)
			}
		}
	}
	for text := range unused {
		t.Errorf("%q is in shownElsewhere, and nobody says it", text)
	}
	tests := ""
	for _, pattern := range []string{"*_test.go", "auth/*_test.go"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			tests += string(b)
		}
	}
	for text, by := range shownElsewhere {
		if strings.HasPrefix(by, "Test") && !strings.Contains(tests, "func "+by+"(") {
			t.Errorf("%q is to be shown by %s, which does not exist", text, by)
		}
	}
}

// shownElsewhere are the reasons without a row, and why they have none.
var shownElsewhere = map[string]string{
	"IKE_AUTH has no ID of the initiator":                                                             "the grammar refuses it first",
	"no traffic selectors":                                                                            "the grammar refuses it first",
	"the response to CREATE_CHILD_SA has no nonce":                                                    "the grammar refuses it first",
	"there is no %s to prove ourselves by":                                                            "compile refuses an auth-method that is not in the table",
	"there is no %s by which %s could prove itself":                                                   "compile refuses an auth-method that is not in the table",
	"%s ended IKE_AUTH without a complete proof":                                                      "no method has several rounds yet",
	"%s is not through after %d rounds":                                                               "no method has several rounds yet",
	"no SPI in stock":                                                                                 "it is tried again without a word",
	"its template is gone":                                                                            "it is tried again without a word",
	"it is not wanted any more":                                                                       "it is no failure",
	"its IKE SA is being deleted":                                                                     "that the IKE SA goes is said",
	"the peer's rekey goes on, or what it replaces goes":                                              "it is no failure: the peer's successor stays",
	"the peer gave us no address, and the policy is for one":                                          "an event says that the peer gave no address",
	"%v => %v is of two address families":                                                             "TestModeConfigV1OfAnotherFamily",
	"the peer has deleted the CHILD SA already":                                                       "TestCollisions",
	"the IKE SA is being replaced or deleted":                                                         "TestDeleteChildWhileMultiKE",
	"the IKE SA is being rekeyed":                                                                     "TestBothRekeyIKEMultiKEDelayedRequest",
	"the CHILD SA is being rekeyed":                                                                   "TestBothRekeyChildMultiKEDelayedRequest",
	"what the peer goes on with waited for more than %v":                                              "TestParkedChildren",
	"%d replaced IKE SAs still wait for the peer's Delete":                                            "TestRekeysOfTheIKESAWithoutEnd",
	"the peer asked %d times for another Diffie-Hellman group":                                        "TestInvalidKEOfChildInVain",
	"the peer allows no NAT, and there is one between us":                                             "TestUpdateRefused",
	"the peer wants to go on between %v and %v: %s":                                                   "TestUpdateRefused",
	"the peer sends us to a gateway that cannot be: %x":                                               "TestRedirectThatCannotBe",
	"the peer does not take the ticket":                                                               "TestClientFallsBack",
	"the proof of %s is wrong: it does not have the keys of its ticket":                               "TestStolenTicket",
	"the ticket of %s was used a moment ago":                                                          "TestTicketPresentedTwice",
	"the peer was %s, and in the resumed IKE SA it is somebody else":                                  "TestFalseGateway",
	"the peer resumes with a ticket of %s, and says it is somebody else or asks for somebody else":    "TestStolenTicket",
	"the peer has %d CHILD SAs for single lines beside the first one of the policy %v":                "TestChildrenForCPUsHaveABound",
	"both ends make a CHILD SA for a line at once, and ours comes first, because we began the IKE SA": "TestBothAskForLinesAtOnce",
	"it does not say that it made one of several for the same traffic (RFC 9611)":                     "TestRefusedLines",
	"it narrowed the selectors to %v, and they have to be those of the first CHILD SA (RFC 9611)":     "TestRefusedLines",
	"the peer has %d CHILD SAs":                                                                       "TestChildrenWithoutEnd",
	"%s moved to %s and has not answered from there yet":                                              "TestClaimOfAnAddressThatIsNotProven",
	"%s asks for %v, outside the address that it was given, %v":                                       "TestClaimsOfWhoHasAnAddress",
	"%s asked for no address, and wants %v, which mode-config gives":                                  "TestClaimsOfWhoHasAnAddress",
	"%s is behind the same NAT as %s, and in transport mode their traffic has the same addresses: ":   "TestTwoBehindOneNATWithTheSamePorts",
	"we cannot sign with key %q: %v":                                                                  "TestRawKeyThatCannotSign",
	"the signature of %s is not by remote-key %q: import the public key that the peer has now":        "TestRawKeysRefused",
	"we cannot sign with certificate %q: %v":                                                          "TestSignatureProof",
	"the proof of %s could not be checked: %v":                                                        "TestSignatureProof",
}

type reason struct{ place, text string }

// reasonsIn are the texts of the refusals in a package: the first one in the call that makes it, or its field reason.
func reasonsIn(t *testing.T, dir string) (list []reason) {
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			var in []ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				if refuses[nameOf(n.Fun)] {
					in = n.Args
				}
			case *ast.CompositeLit:
				if refuses[nameOf(n.Type)] {
					in = n.Elts
				}
			}
			if text := firstText(in); strings.Contains(text, " ") {
				list = append(list, reason{fset.Position(n.Pos()).String(), text})
			}
			return true
		})
	}
	return list
}

// refuses are the functions and types that make a refusal.
var refuses = map[string]bool{"refuse": true, "end": true, "Refuse": true, "mismatched": true, "authFailed": true, "distrust": true, "cannotSign": true,
	"refused": true, "fatal": true}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// firstText is the first string among expressions, also inside a call such as fmt.Sprintf.
func firstText(in []ast.Expr) string {
	for _, e := range in {
		text := ""
		switch e := e.(type) {
		case *ast.BasicLit:
			if e.Kind == token.STRING {
				text, _ = strconv.Unquote(e.Value)
			}
		case *ast.BinaryExpr:
			text = firstText([]ast.Expr{e.X, e.Y})
		case *ast.KeyValueExpr:
			if nameOf(e.Key) == "reason" {
				text = firstText([]ast.Expr{e.Value})
			}
		case *ast.CallExpr:
			if nameOf(e.Fun) == "Sprintf" {
				text = firstText(e.Args)
			}
		}
		if text != "" {
			return text
		}
	}
	return ""
}

var verb = regexp.MustCompile(`%\+?[a-z]`)

// formatted matches what a format can become.
func formatted(format string) *regexp.Regexp {
	parts := verb.Split(format, -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}

// The IKE SA that another one takes over from says why, and each CHILD SA that came up has an end that is told.
func TestWhyAnIKESAIsTakenOver(t *testing.T) {
	for why, begin := range map[string]func(e *Endpoint, sa *ikesa.SA){
		"authenticated anew": func(e *Endpoint, sa *ikesa.SA) { e.Reauthenticate(sa) },
		"the peer does not let us rekey what it has, and a new IKE SA took over": func(e *Endpoint, sa *ikesa.SA) { e.Renew(sa, nil) },
	} {
		p := newPair(t, 79, goodLink, passive)
		p.up()
		p.until(5*time.Second, "both ends up", p.bothUpOrStandby)
		p.run(time.Minute)
		var sa *ikesa.SA
		for _, s := range p.a.e.bySPI {
			sa = s
		}
		begin(p.a.e, sa)
		p.a.in(core.Tick{})
		p.run(time.Minute)
		if got := p.a.reasons(core.EvIKEDown); got != why {
			t.Errorf("the old one ends with %q, not %q", got, why)
		}
	}
}

// Both ends rekey a CHILD SA at once: the one that goes has an event that says so.
func TestLoserOfACollisionIsTold(t *testing.T) {
	p := newPair(t, 80, goodLink, passive)
	p.up()
	p.until(5*time.Second, "both ends up", p.bothUpOrStandby)
	p.run(time.Minute)
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.b.in(core.Command{Do: core.RekeyChildren})
	p.run(5 * time.Minute)
	for _, s := range []*side{p.a, p.b} {
		up := map[core.ChildID]bool{}
		for _, e := range s.events {
			switch e.Kind {
			case core.EvChildUp:
				up[e.Child] = true
			case core.EvChildDown:
				delete(up, e.Child)
			case core.EvChildRekeyed:
				delete(up, e.OldC)
			}
		}
		if s.count(core.EvChildUp) != 3 || len(up) != 1 || s.count(core.EvChildDown) > 0 {
			t.Errorf("%s: %d came up, %v have no end that is told, %d ended without another: %v", s.name, s.count(core.EvChildUp), up, s.count(core.EvChildDown), s.events)
		}
	}
}
