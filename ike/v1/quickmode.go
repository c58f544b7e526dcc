package v1

import (
	"errors"
	"slices"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// Quick mode makes a CHILD SA, also one that replaces another (RFC 2409 §5.5):
//
//	HDR*, HASH(1), SA, Ni, [KE], [IDci, IDcr], [NAT-OA, NAT-OA]   1 -->
//	                     <-- 2  HDR*, HASH(2), SA, Nr, [KE], [IDci, IDcr], [NAT-OA, NAT-OA]
//	HDR*, HASH(3)                                                 3 -->
//
// The responder opens from message 2 on, and seals once message 3 shows that the initiator has its answer.

// quick is a CHILD SA while it is negotiated.
type quick struct {
	sa *SA
	x  *exchange
	// next takes the peer's next message; nil: none is expected, or an Ask is open. It calls genuine once the message counts.
	next func(c *isakmp.Chain, m *isakmp.Message, raw, iv []byte, in core.Datagram) error

	policy *core.Policy
	old    *Child // what it replaces; nil: nothing
	spis   spis   // our inbound SPIs; 0: none yet, or it is the data plane's
	ni, nr []byte
	ke     keyExchange
	agreed ikesa.Agreement
	note   string
	made   *Child
	reply  []isakmp.Payload // as responder: message 2, but for nonce and KE
	ids    []isakmp.Payload // as initiator: the client IDs that we sent
	asked  [2]selector.TS   // the same as selectors, ours first
}

func newQuick(sa *SA, x *exchange) *quick {
	q := &quick{sa: sa, x: x}
	q.ke.sa = sa
	return q
}

// end gives back what came to nothing.
func (q *quick) end() {
	q.next = nil
	q.ke.end()
	q.spis.give(q.sa.base.Env)
	if q.old != nil && q.x.mine {
		q.old.Rekeying = false
	}
}

// then goes on after an Ask.
func (q *quick) then(step func() error) func(error) {
	return func(err error) {
		if q.x.over || q.sa.base.State == Ended {
			return
		}
		if err == nil {
			err = step()
		} else {
			err = refuse(isakmp.NotifyInvalidKeyInformation, "%v", err)
		}
		if err != nil {
			q.fail(err)
		}
	}
}

// --- initiator ---

// MakeChild makes a CHILD SA for a policy.
func (sa *SA) MakeChild(p *core.Policy, _ *selector.Pair) {
	if sa.base.State != Established || sa.base.Serves(p) {
		return
	}
	sa.quickMode(sa.base.Lease.Dialed(p), nil)
}

// Making reports whether a CHILD SA for the policy is being made.
func (sa *SA) Making(p *core.Policy) bool {
	for _, x := range sa.exchanges {
		if q := x.quick; q != nil && x.mine && !x.over && q.old == nil && q.policy.Ref == p.Ref {
			return true
		}
	}
	return slices.ContainsFunc(sa.base.Wanted, func(w *core.Policy) bool { return w.Ref == p.Ref })
}

// RekeyChild makes another CHILD SA for the same. After both ends have made one at once there is a newer one
// already.
func (sa *SA) RekeyChild(c *Child) bool {
	if n := newest(sa.base, c.Policy, c.Pairs); n != nil && n.ID > c.ID {
		c.Supersede(n)
		return true
	}
	sa.quickMode(c.Policy, c)
	return true
}

func (sa *SA) quickMode(p *core.Policy, old *Child) {
	x := sa.begin()
	q := newQuick(sa, x)
	x.quick, q.policy, q.old = q, p, old
	sa.exchanges[x.id] = x
	q.ni = sa.base.Env.Random(nonceLen)
	g := q.group()
	if g == nil {
		q.then(q.send1)(nil)
		return
	}
	q.ke.offer(g, q.then(q.send1))
}

// group is the one for a key exchange of its own; nil: without.
func (q *quick) group() *suite.Group {
	p := &q.policy.Proposal
	if old := q.old; old != nil && old.Suite.Group != nil {
		return old.Suite.Group
	}
	if len(p.PFS) == 0 || p.PFS[0].Group == nil {
		return nil
	}
	for _, g := range p.Groups() {
		if g.V1 != 0 && (!p.AnyPFS || g == q.sa.base.Suite.Group) {
			return g
		}
	}
	for _, g := range p.Groups() {
		if g.V1 != 0 {
			return g
		}
	}
	return nil
}

func (q *quick) send1() error {
	sa := q.sa
	if !q.spis.take(sa.base.Env, q.policy.AH) {
		return refused{reason: "no SPI in stock", ours: true}
	}
	local, remote, err := ikesa.OnePair(sa.base, q.policy)
	var ids []isakmp.Payload
	if err == nil {
		q.asked = [2]selector.TS{local, remote}
		ids, err = clients(local, remote)
	}
	if err != nil {
		r := inNotify(err).(refused)
		r.ours = true
		return r
	}
	q.ids = ids
	out := []isakmp.Payload{phase2SA(q.policy, q.ke.group, q.spis, sa.encapsulation(q.policy)), &isakmp.Nonce{Data: q.ni}}
	if q.ke.group != nil {
		out = append(out, &isakmp.KE{Data: q.ke.own})
	}
	out = append(append(out, ids...), sa.natOA(q.policy, true)...)
	x := q.x
	raw := sa.sealHashed(isakmp.ExchangeQuick, x.id, &x.iv, func(rest []byte) secret.Bytes { return sa.keys.hash1(x.id, rest) }, out...)
	q.next = q.second
	x.on.say(raw, func() {
		q.fail(end(0, "message 2 of quick mode never came, in %d attempts: see the peer's log, and compare policy and proposal %q on both sides", core.Tries, q.policy.Proposal.Name))
	})
	return nil
}

func (q *quick) second(c *isakmp.Chain, m *isakmp.Message, raw, iv []byte, in core.Datagram) error {
	sa, x := q.sa, q.x
	if err := sa.hashed(c, func(rest []byte) secret.Bytes { return sa.keys.hash2(x.id, q.ni, rest) }); err != nil {
		return err
	}
	sap, n := find[*isakmp.SA](c.Payloads), find[*isakmp.Nonce](c.Payloads)
	if sap == nil || !nonceFits(n) {
		return drop("message 2 of quick mode without SA payload or nonce")
	}
	sa.genuine(x, m, c, raw, iv, in)
	q.nr = clone(n.Data)
	if err := q.read(c, sap); err != nil {
		return err
	}
	if q.ke.group == nil {
		return q.third()
	}
	ke := find[*isakmp.KE](c.Payloads)
	if ke == nil {
		return refuse(isakmp.NotifyInvalidKeyInformation, "the peer's answer has no key exchange of group %s", q.ke.group.Name)
	}
	q.ke.share(ke.Data, q.then(q.third))
	return nil
}

// read takes the responder's choice.
func (q *quick) read(c *isakmp.Chain, sap *isakmp.SA) error {
	sa := q.sa
	chosen := phase2Offers(sap)
	if len(chosen) != 1 {
		return inNotify(ikesa.NotOffered())
	}
	transport, udp, known := encap(chosen[0].phase2.Encapsulation)
	if !known || udp != sa.base.InUDP(q.policy) {
		return refuse(isakmp.NotifyNoProposalChosen, "the peer chose encapsulation %d, which was not offered", chosen[0].phase2.Encapsulation)
	}
	local, remote := q.answered(c)
	a := ikesa.Answer{SA: sa.base, Policy: q.policy, Local: []selector.TS{local}, Remote: []selector.TS{remote}, Transport: transport,
		KeyExchange: true, Chosen: alternatives(chosen)}
	s, err := a.Suite()
	if err != nil {
		return inNotify(err)
	}
	if s.Group != q.ke.group {
		return inNotify(ikesa.NotOffered())
	}
	p, agreed, err := a.Agree(s)
	if err == nil {
		err = chosen[0].checkSPIs()
	}
	if err != nil {
		return inNotify(err)
	}
	q.policy, q.agreed = p, agreed
	q.sealsWith(&chosen[0])
	q.lives(chosen[0].life().shorter(claimed(c.Payloads)))
	return nil
}

// answered are the selectors of the responder's client IDs. Some peers change protocol or port, say a name,
// or leave them out: what is not within what we asked for is as we asked.
func (q *quick) answered(c *isakmp.Chain) (local, remote selector.TS) {
	b := q.sa.base
	i, r, said, err := clientIDs(c, b.Local, b.Remote)
	if !said || err != nil {
		return q.asked[0], q.asked[1]
	}
	within := func(ts, asked selector.TS) selector.TS {
		if t, ok := selector.Intersect(ts, asked); ok {
			return t
		}
		return asked
	}
	return within(i, q.asked[0]), within(r, q.asked[1])
}

// third installs the CHILD SA and sends message 3.
func (q *quick) third() error {
	sa, x := q.sa, q.x
	if sa.base.State >= Closing {
		return refused{reason: "its IKE SA is being deleted", ours: true}
	}
	q.install(false)
	if q.old != nil {
		q.succeed()
	}
	sum := &isakmp.Hash{Data: sa.keys.hash3(x.id, q.ni, q.nr)}
	x.on.say(sa.seal(isakmp.ExchangeQuick, x.id, &x.iv, []isakmp.Payload{sum}), nil)
	fresh := q.old == nil
	sa.finish(x)
	if fresh {
		sa.base.Env.After(ikesa.TwinDelay, q.made.SettleTwins)
		ikesa.MakeOthers(sa.base)
	}
	return nil
}

// --- responder ---

// first takes message 1.
func (q *quick) first(c *isakmp.Chain, m *isakmp.Message, raw, iv []byte, in core.Datagram) error {
	sa, x := q.sa, q.x
	if err := sa.hashed(c, func(rest []byte) secret.Bytes { return sa.keys.hash1(x.id, rest) }); err != nil {
		return err
	}
	sap, n := find[*isakmp.SA](c.Payloads), find[*isakmp.Nonce](c.Payloads)
	if sap == nil || !nonceFits(n) {
		return drop("message 1 of quick mode without SA payload or nonce")
	}
	sa.genuine(x, m, c, raw, iv, in)
	q.ni, q.nr = clone(n.Data), sa.base.Env.Random(nonceLen)
	if err := q.choose(c, sap); err != nil {
		return err
	}
	g := q.agreed.Suite.Group
	if g == nil {
		return q.answer()
	}
	ke := find[*isakmp.KE](c.Payloads)
	if ke == nil {
		return refuse(isakmp.NotifyInvalidKeyInformation, "the peer offers a key exchange of group %s and has none", g.Name)
	}
	q.ke.answer(g, ke.Data, q.then(q.answer))
	return nil
}

// choose finds the policy and the proposal.
func (q *quick) choose(c *isakmp.Chain, sap *isakmp.SA) error {
	sa := q.sa
	b := sa.base
	theirs, ours, said, err := clientIDs(c, b.Remote, b.Local)
	if err != nil {
		return err
	}
	all := phase2Offers(sap)
	if len(all) == 0 {
		return refuse(isakmp.NotifyNoProposalChosen, "the peer offers nothing that is known here")
	}
	transport, _, _ := encap(all[0].phase2.Encapsulation)
	if find[*isakmp.KE](c.Payloads) == nil { // what wants a key exchange cannot be chosen
		all = slices.DeleteFunc(all, func(o offered) bool { return o.phase2.Group != 0 })
	}
	r := ikesa.Request{SA: b, Local: []selector.TS{ours}, Remote: []selector.TS{theirs}, Transport: transport, KeyExchange: true, Offered: alternatives(all)}
	chosen, err := r.Choose()
	if err == nil {
		err = r.Grant(chosen)
	}
	var o offered
	if err == nil {
		o = all[chosen.Answer.Number-1]
		err = o.checkSPIs()
	}
	if err != nil {
		return inNotify(err)
	}
	mode, udp, known := encap(o.phase2.Encapsulation)
	switch {
	case !known || udp != b.InUDP(chosen.Policy):
		return refuse(isakmp.NotifyNoProposalChosen, "the peer offers encapsulation %d, and ESP travels %s here: compare nat-traversal on both sides, and encapsulation of [gateway]", o.phase2.Encapsulation, carried(b.InUDP(chosen.Policy)))
	case mode == chosen.Policy.Tunnel:
		return refused{kind: isakmp.NotifyNoProposalChosen, reason: "the peer wants another mode than policy " + chosen.Policy.Pair.String() + ": tunnel differs on the two sides", detail: ikesa.Explainer{SA: b}.ModeParts(chosen.Policy)}
	}
	if !q.spis.take(b.Env, chosen.Policy.AH) {
		return refused{kind: isakmp.NotifyNoProposalChosen, reason: "no SPI in stock"}
	}
	q.policy, q.agreed, q.note = chosen.Policy, chosen.Agreement, chosen.Note
	q.sealsWith(&o)
	l, claim, err := checkLife(b.Peer.Profile.Check, &chosen.Policy.Proposal, o.life())
	if err != nil {
		return err
	}
	q.lives(l)
	q.reply = []isakmp.Payload{o.payload(q.spis)}
	if said {
		err = q.replyIDs(c, theirs, ours)
	}
	if claim {
		q.reply = append(q.reply, l.claims(uint8(q.policy.Protocol), spiBytes(q.spis.own)))
	}
	return err
}

func carried(udp bool) string {
	if udp {
		return "in UDP"
	}
	return "without UDP"
}

// replyIDs repeats the peer's client IDs, as they came, or says to what they were narrowed.
func (q *quick) replyIDs(c *isakmp.Chain, theirs, ours selector.TS) error {
	a := &q.agreed
	if !q.policy.Tunnel || len(a.Remote) == 1 && len(a.Local) == 1 && a.Remote[0] == theirs && a.Local[0] == ours {
		for _, p := range c.Payloads {
			if id, ok := p.(*isakmp.ID); ok {
				q.reply = append(q.reply, id)
			}
		}
		return nil
	}
	a.Local, a.Remote = a.Local[:1], a.Remote[:1]
	a.Pairs = selector.Pairs(a.Local, a.Remote)
	ids, err := clients(a.Remote[0], a.Local[0])
	q.reply = append(q.reply, ids...)
	return err
}

// answer installs the CHILD SA and sends message 2.
func (q *quick) answer() error {
	sa, x := q.sa, q.x
	if sa.base.State != Established {
		return refused{reason: "its IKE SA ends", ours: true}
	}
	q.old = newest(sa.base, q.policy, q.agreed.Pairs)
	q.install(true)
	out := []isakmp.Payload{q.reply[0], &isakmp.Nonce{Data: q.nr}}
	if q.ke.group != nil {
		out = append(out, &isakmp.KE{Data: q.ke.own})
	}
	out = append(append(out, q.reply[1:]...), sa.natOA(q.policy, false)...)
	raw := sa.sealHashed(isakmp.ExchangeQuick, x.id, &x.iv, func(rest []byte) secret.Bytes { return sa.keys.hash2(x.id, q.ni, rest) }, out...)
	q.next = q.confirmed
	x.on.say(raw, func() {
		sa.base.Event(core.EvNotify, "message 3 of quick mode never came, in %d attempts: the CHILD SA is taken back", core.Tries)
		made := q.made
		sa.finish(x)
		if !made.Sure {
			made.End("message 3 of quick mode never came")
		}
	})
	return nil
}

// newest is the CHILD SA for some traffic that was made last and seals: IKEv1 does not say that one replaces another.
func newest(sa *ikesa.SA, p *core.Policy, pairs []selector.Pair) (n *Child) {
	for _, c := range sa.Children {
		if c.Policy.Ref == p.Ref && slices.Equal(c.Pairs, pairs) && c.Live() && !c.Standby && (n == nil || c.ID > n.ID) {
			n = c
		}
	}
	return n
}

// confirmed takes message 3.
func (q *quick) confirmed(c *isakmp.Chain, m *isakmp.Message, raw, iv []byte, in core.Datagram) error {
	sa, x := q.sa, q.x
	sum := find[*isakmp.Hash](c.Payloads)
	if sum == nil || !sa.base.Env.Proved(sa.keys.hash3(x.id, q.ni, q.nr).Equal(sum.Data)) {
		return drop("HASH(3) of quick mode is wrong")
	}
	sa.genuine(x, m, c, raw, iv, in)
	q.made.Confirm()
	if q.old != nil {
		q.succeed()
	} else {
		sa.base.Env.After(ikesa.TwinDelay, q.made.SettleTwins)
	}
	sa.finish(x)
	return nil
}

// --- both ---

// install puts the CHILD SA into the data plane.
func (q *quick) install(standby bool) {
	sa, s := q.sa, q.agreed.Suite
	var ah core.Around
	if s.AH != nil {
		ah = core.Around{Integ: s.AH, In: q.half(core.ProtoAH, nil, s.AH, q.spis.ah), Out: q.half(core.ProtoAH, nil, s.AH, q.agreed.AHOut)}
	}
	in, out := q.half(q.policy.Protocol, s.Encr, s.Integ, q.spis.own), q.half(q.policy.Protocol, s.Encr, s.Integ, q.agreed.SPIOut)
	q.spis = spis{} // they are the data plane's now
	q.made = sa.base.Install(ikesa.NewChild{Policy: q.policy, Agreement: q.agreed, In: in, Out: out, AH: ah,
		Birth:   ikesa.Birth{Mine: q.x.mine, Begun: q.x.begun, LowNonce: lowest(q.ni, q.nr)},
		Standby: standby, Replaces: q.old != nil, Told: true, Note: q.note})
	if n := sa.base.Newest(); n.State == Established && n != sa.base { // it took over while we negotiated
		ikesa.HandOver(sa.base, n)
	}
}

// half are the keys of one SA in one direction; encr is nil with AH.
func (q *quick) half(protocol core.Protocol, encr *suite.Encr, integ *suite.Integ, spi uint32) core.HalfSA {
	n := 0
	if encr != nil {
		n = encr.MaterialLen()
	}
	m := n
	if integ != nil {
		m += integ.KeyLen
	}
	k := q.sa.keys.keymat(m, q.ke.shared, uint8(protocol), spi, q.ni, q.nr)
	defer k.Wipe()
	h := core.HalfSA{SPI: spi}
	if n > 0 {
		h.EncKey = k[:n].Clone()
	}
	if m > n {
		h.IntegKey = k[n:].Clone()
	}
	return h
}

// succeed has the new CHILD SA take over from the one that it replaces. That one opens on until
// its lifetime ends or the peer deletes it: IKEv1 has no message that says when the peer has changed over.
func (q *quick) succeed() {
	old, made := q.old, q.made
	q.old = nil
	made.Birth = old.Birth
	old.Supersede(made)
}

// lives notes how long the CHILD SA lives.
func (q *quick) lives(l life) { q.agreed.Lifetime, q.agreed.Lifebytes = l.time, l.bytes }

// fail ends a quick mode that came to nothing.
func (q *quick) fail(err error) {
	sa, x := q.sa, q.x
	if x.over {
		return
	}
	p, old := q.policy, q.old
	var r refused
	var f fatal
	isRefused, isFatal := errors.As(err, &r), errors.As(err, &f)
	if isRefused && r.kind != 0 && !r.ours {
		sa.tell(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Kind: r.kind})
	}
	sa.finish(x)
	switch {
	case !x.mine:
		kind := core.EvNotify
		if isRefused {
			kind = causeOf(r.kind).Event()
		}
		sa.base.Emit(core.Event{Kind: kind, Exchange: "quick mode", Reason: "no CHILD SA: " + err.Error(), Detail: r.detail})
	case isFatal && old == nil:
		ikesa.NoChild{Policy: p, Exchange: "quick mode", Reason: f.reason}.Report(sa.base)
	case old != nil:
		if old.Gone {
			return
		}
		sa.base.Emit(core.Event{Kind: core.EvNotify, Child: old.ID, Policy: old.Policy.Ref, Reason: "rekeying failed and will be tried again: " + err.Error(), Detail: r.detail})
		if isRefused && !r.ours {
			old.RekeyRefused(causeOf(r.kind))
		} else {
			old.RekeyLater()
		}
	default:
		n := ikesa.NoChild{Policy: p, Exchange: "quick mode", KeyExchange: true, Reason: err.Error()}
		if isRefused {
			n.Refused, n.Cause, n.Detail, n.Ours = true, causeOf(r.kind), r.detail, r.ours
		}
		n.Report(sa.base)
	}
}
