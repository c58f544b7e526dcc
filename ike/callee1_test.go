package ike

import (
	"crypto/sha256"
	"slices"
	"testing"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// A callee1 is a puppet of IKEv1 that is called: the endpoint begins phase 1 and quick mode.
type callee1 struct {
	*puppet1
	sai   []byte           // the body of the endpoint's SA payload
	first *isakmp.Message  // the endpoint's first message
	says  []isakmp.Payload // vendor IDs
	natd  []isakmp.Payload // behind KE and nonce
	quick *callee1Quick    // the last quick mode
	id    *isakmp.ID       // who we say that we are
}

// callee1Quick is one quick mode of the endpoint.
type callee1Quick struct {
	id  uint32
	iv  []byte
	in  *isakmp.Chain
	ni  []byte
	nr  []byte
	ids []*isakmp.ID
}

// newCallee1 is an endpoint that begins main mode, and the puppet that it calls.
func newCallee1(t testing.TB, change ...func(c *core.Config)) *callee1 {
	r := newRig(t, append([]func(*core.Config){inMainModeRig, initiates}, change...)...)
	p := &callee1{puppet1: newPuppet1(r, 1)}
	p.nr = slices.Clone(p.ni)
	p.puppet1.ni = nil
	p.spir = 0x4444444444444444
	p.id = p.idPayload()
	return p
}

// heard is the endpoint's only message.
func (p *callee1) one() *isakmp.Message {
	p.t.Helper()
	m, err := isakmp.Parse(p.r.one().Data)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// main1 answers message 1, and main3 message 3.
func (p *callee1) main1() {
	p.t.Helper()
	m := p.one()
	p.first, p.spii = m, m.SPIi
	for i, x := range m.Payloads {
		if sa, ok := x.(*isakmp.SA); ok {
			p.sai = slices.Clone(m.Body(i))
			chosen := *sa
			chosen.Proposals = slices.Clone(sa.Proposals)
			chosen.Proposals[0].Transforms = sa.Proposals[0].Transforms[:1]
			p.r.datagram(p.addr, p.clear(isakmp.ExchangeMain, append([]isakmp.Payload{&chosen}, p.says...)...))
		}
	}
}

func (p *callee1) main3() {
	p.t.Helper()
	m := p.one()
	for _, x := range m.Payloads {
		switch x := x.(type) {
		case *isakmp.KE:
			p.peer = x.Data
		case *isakmp.Nonce:
			p.ni = x.Data
		}
	}
	p.derive(true)
	iv := sha256.Sum256(slices.Concat(p.peer, p.ke()))
	p.iv = iv[:16]
	p.r.datagram(p.addr, p.clear(isakmp.ExchangeMain, append([]isakmp.Payload{&isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.nr}}, p.natd...)...))
}

// main5 reads message 5 and returns message 6.
func (p *callee1) main5() []byte {
	p.t.Helper()
	p.open(p.one(), &p.iv)
	body := p.id.Body()
	return p.seal(isakmp.ExchangeMain, 0, &p.iv, p.id, &isakmp.Hash{Data: mac(p.root, p.ke(), p.peer, u64(p.spir), u64(p.spii), p.sai, body)})
}

// main is the whole of main mode.
func (p *callee1) main() {
	p.t.Helper()
	p.main1()
	p.main3()
	p.r.datagram(p.addr, p.main5())
}

// asked is the endpoint's message 1 of quick mode, the last thing that it said.
func (p *callee1) asked() *callee1Quick {
	p.t.Helper()
	q := &callee1Quick{nr: slices.Repeat([]byte{9}, 32)}
	sends := p.r.take()
	if len(sends) == 0 {
		p.t.Fatalf("nothing was said: %s", p.r.reasons())
	}
	m, err := isakmp.Parse(sends[len(sends)-1].Data)
	if err != nil || m.Exchange != isakmp.ExchangeQuick {
		p.t.Fatalf("the endpoint does not begin quick mode, but %v: %s", m.Exchange, p.r.reasons())
	}
	q.id = m.ID
	h := sha256.Sum256(slices.Concat(p.iv, u32(q.id)))
	q.iv = h[:16]
	q.in = p.open(m, &q.iv)
	for _, x := range q.in.Payloads {
		switch x := x.(type) {
		case *isakmp.Nonce:
			q.ni = x.Data
		case *isakmp.ID:
			q.ids = append(q.ids, x)
		}
	}
	p.quick = q
	return q
}

// answer is message 2 of quick mode with some client IDs, and the endpoint's message 3.
func (p *callee1) answer(spi uint32, flags message.Flags, ids ...isakmp.Payload) {
	p.t.Helper()
	prop := p.quick.offers()[0]
	prop.SPI, prop.Transforms = u32(spi), prop.Transforms[:1]
	p.choose(flags, []isakmp.Proposal{prop}, ids...)
}

// offers are the proposals of the endpoint's message 1.
func (q *callee1Quick) offers() []isakmp.Proposal {
	for _, x := range q.in.Payloads {
		if sa, ok := x.(*isakmp.SA); ok {
			return sa.Proposals
		}
	}
	return nil
}

// choose is message 2 with some proposals.
func (p *callee1) choose(flags message.Flags, list []isakmp.Proposal, ids ...isakmp.Payload) {
	p.t.Helper()
	q := p.quick
	chosen := &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: list}
	ps := append([]isakmp.Payload{chosen, &isakmp.Nonce{Data: q.nr}}, ids...)
	_, rest := isakmp.AppendPayloads(nil, ps)
	raw := p.seal(isakmp.ExchangeQuick, q.id, &q.iv, append([]isakmp.Payload{&isakmp.Hash{Data: mac(p.a, u32(q.id), q.ni, rest)}}, ps...)...)
	raw[19] |= byte(flags)
	p.r.datagram(p.addr, raw)
}

// third checks message 3.
func (p *callee1) third() {
	p.t.Helper()
	q := p.quick
	c := p.open(p.one(), &q.iv)
	if h, ok := c.Payloads[0].(*isakmp.Hash); !ok || !slices.Equal(h.Data, mac(p.a, []byte{0}, u32(q.id), q.ni, q.nr)) {
		p.t.Errorf("HASH(3) is wrong")
	}
}

// theIDs are the client IDs of the endpoint's message 1, as they came.
func (q *callee1Quick) theIDs() (ps []isakmp.Payload) {
	for _, id := range q.ids {
		ps = append(ps, id)
	}
	return ps
}

// clientID is a client ID of a selector.
func clientID(t testing.TB, ts selector.TS) *isakmp.ID {
	t.Helper()
	q, ok := isakmp.SelectorID(ts)
	if !ok {
		t.Fatalf("no ID for %v", ts)
	}
	return q
}
