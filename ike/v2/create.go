package v2

import (
	"slices"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// CHILD SAs are negotiated in IKE_AUTH, without a key exchange of their own,
// and in CREATE_CHILD_SA (RFC 7296 §1.2, §1.3.1, §2.17):
//
//	HDR, SK{[N(REKEY_SA)], SA, Ni, [KEi], TSi, TSr}  -->
//	                   <--  HDR, SK{SA, Nr, [KEr], TSi, TSr}

// errNoSPI: the stock is empty; it is being filled.
var errNoSPI error = refused{kind: message.NotifyTemporaryFailure, reason: "no SPI in stock", ours: true}

// MakeChild makes a CHILD SA for a policy; flow is the packet that asked for
// it, nil if none did.
func (sa *SA) MakeChild(p *core.Policy, flow *selector.Pair) {
	x := newExchange(row(createChild))
	c := part[*pendingChild](x)
	c.policy, c.flow = sa.base.Lease.Dialed(p), flow
	x.still = func() bool { return x.sa.base.State == Established && !x.sa.base.Serves(p) } // a rekey may have brought one
	sa.start(x)
}

// Making reports whether a CHILD SA for the policy is being made.
func (sa *SA) Making(p *core.Policy) bool {
	is := func(x *exchange) bool {
		if x == nil || x.kind.id != createChild && x.kind.id != authenticate {
			return false
		}
		c := part[*pendingChild](x)
		return c.policy != nil && c.beside == nil && c.policy.Ref == p.Ref
	}
	return is(sa.current) || is(sa.parked.mine) || slices.ContainsFunc(sa.queue, is) ||
		slices.ContainsFunc(sa.base.Wanted, func(w *core.Policy) bool { return w.Ref == p.Ref })
}

// firstChild is the CHILD SA of IKE_AUTH. What goes wrong with it is said
// beside the proof and does not touch the IKE SA (RFC 7296 §1.2).
type firstChild struct {
	noop
	child *pendingChild
}

func (t *firstChild) request(x *exchange) error {
	x.ni, x.nr = x.sa.init.ni, x.sa.init.nr
	if t.child.policy == nil {
		return nil
	}
	return t.child.offer(x, false)
}

func (t *firstChild) accept(x *exchange) error {
	x.ni, x.nr = x.sa.init.ni, x.sa.init.nr
	return nil
}

func (t *firstChild) reply(x *exchange) error {
	if t.child.refuse == nil && find[*message.SA](x.in) != nil {
		if t.child.refuse = onlyChildless(x.sa); t.child.refuse == nil {
			t.child.refuse = t.child.choose(x, false)
		}
	}
	if r, ok := t.child.refuse.(refused); ok {
		x.sa.base.Emit(core.Event{Kind: causeOf(r.kind).Event(), Reason: "no CHILD SA in IKE_AUTH: " + r.Error(), Detail: r.detail})
		x.out = append(x.out, r.notify())
		return nil
	}
	if t.child.policy == nil {
		return nil
	}
	t.child.answer(x)
	return t.child.install(x, true, nil, nil)
}

func (t *firstChild) complete(x *exchange) error {
	if t.child.policy == nil || t.child.refuse != nil {
		return nil
	}
	t.child.refuse = t.child.read(x, nil)
	return nil
}

func (t *firstChild) settle(x *exchange) error {
	if !x.mine || t.child.policy == nil || t.child.refuse != nil {
		return nil
	}
	if err := t.child.install(x, false, nil, nil); err != nil {
		return err
	}
	ikesa.MakeOthers(x.sa.base)
	confirm(x.sa)
	return nil
}

// confirm sends an empty request after a new CHILD SA of ours, unless another
// request follows anyhow: it tells a responder with traffic of its own that we
// have the SA, so that it can begin to seal (RFC 7296 §2.8 leaves it to guess).
func confirm(sa *SA) {
	x := newExchange(row(inform))
	x.still = func() bool { return sa.base.State == Established && len(sa.queue) == 0 }
	sa.start(x)
}

// childNegotiation agrees on algorithms, key exchange and selectors.
type childNegotiation struct {
	noop
	ke    *keyExchange
	more  *followUps
	child *pendingChild
}

func (t *childNegotiation) prepare(x *exchange) error {
	x.ni = x.sa.base.Env.Random(nonceLen)
	p := &t.child.policy.Proposal
	var before *suite.Group
	if t.child.old != nil {
		before = t.child.old.Suite.Group
	}
	if before == nil && p.AnyPFS {
		before = x.sa.base.Suite.Group
	}
	g := t.ke.firstGroup(before, p.Groups())
	if t.ke.wants == nil && before == nil && len(p.PFS) > 0 && p.PFS[0].Group == nil || g == nil {
		return nil // without a key exchange; if the peer wants one, it says so
	}
	return t.ke.offer(x, g)
}

func (t *childNegotiation) request(x *exchange) error {
	if err := t.child.offer(x, true); err != nil {
		return err
	}
	x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(&message.Nonce{Data: x.ni}))
	if t.ke.group != nil {
		x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(t.ke.payload()))
	}
	return nil
}

func (t *childNegotiation) accept(x *exchange) error {
	x.ni = clone(find[*message.Nonce](x.in).Data)
	x.nr = x.sa.base.Env.Random(nonceLen)
	if err := t.child.choose(x, true); err != nil {
		return err
	}
	t.more.lacks = t.child.agreed.Suite.Additional
	if g := t.child.agreed.Suite.Group; g != nil {
		return t.ke.answer(x, g)
	}
	return nil
}

func (t *childNegotiation) reply(x *exchange) error {
	if err := t.child.admitted(x.sa); err != nil {
		return err
	}
	t.child.answer(x)
	x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(&message.Nonce{Data: x.nr}))
	if t.ke.group != nil {
		x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(t.ke.payload()))
	}
	if len(t.more.lacks) > 0 {
		t.more.addLink(x)
		return nil
	}
	return t.child.install(x, true, t.ke.shared, nil)
}

func (t *childNegotiation) complete(x *exchange) error {
	err := t.child.read(x, t.ke)
	if t.more.lacks = t.child.agreed.Suite.Additional; err != nil {
		return err
	}
	n := find[*message.Nonce](x.in)
	if n == nil {
		return end(0, "the response to CREATE_CHILD_SA has no nonce")
	}
	x.nr = clone(n.Data)
	g := t.child.agreed.Suite.Group
	if g != nil && g != t.ke.group {
		return refuse(message.NotifyInvalidKEPayload, errOtherGroup)
	}
	if len(t.more.lacks) > 0 {
		if err := t.more.readLink(x.in); err != nil {
			t.more.lacks = nil // the peer waits for nothing more
			return err
		}
	}
	if g != nil {
		return t.ke.share(x)
	}
	return nil
}

// childUp installs what our own exchange made.
type childUp struct {
	noop
	ke    *keyExchange
	more  *followUps
	child *pendingChild
}

func (t *childUp) settle(x *exchange) error {
	defer t.ke.wipe()
	if x.mine {
		if x.sa.base.State >= Closing {
			return refuse(message.NotifyTemporaryFailure, "its IKE SA is being deleted")
		}
		if t.child.takenBack() {
			return refuse(message.NotifyTemporaryFailure, "the peer has deleted the CHILD SA already")
		}
		if err := t.child.install(x, t.child.old != nil, t.ke.shared, t.more.secrets); err != nil {
			return err
		}
	}
	if t.child.beside != nil {
		t.child.made.LineMade(x.mine)
	}
	if t.child.old == nil {
		x.sa.base.Env.After(ikesa.TwinDelay, t.child.made.SettleTwins)
		if x.mine {
			ikesa.MakeOthers(x.sa.base)
			confirm(x.sa)
		}
	}
	return nil
}

// notWhileRekeying refuses the peer's CREATE_CHILD_SA while the IKE SA is being
// replaced or closed (RFC 7296 §2.25.2).
type notWhileRekeying struct{ noop }

func (*notWhileRekeying) check(x *exchange) error {
	sa := x.sa
	if sa.base.State != Established || rekeyingIKE(sa) {
		return refuse(message.NotifyTemporaryFailure, "the IKE SA is being replaced")
	}
	return nil
}

func (t *notWhileRekeying) accept(x *exchange) error { return t.check(x) }

func (t *notWhileRekeying) reply(x *exchange) error { return t.check(x) }

func newChildFailed(x *exchange, fault error) {
	if c := part[*pendingChild](x); c.beside != nil {
		c.lineFailed(fault)
		return
	}
	childRefused(x, part[*pendingChild](x).policy, fault)
}

// childRefused reports that a CHILD SA for a policy came to nothing.
func childRefused(x *exchange, p *core.Policy, err error) {
	n := ikesa.NoChild{Policy: p, Exchange: x.kind.name, KeyExchange: x.kind.id != authenticate, Reason: err.Error()}
	if r, ok := err.(refused); ok {
		n.Refused, n.Cause, n.Detail, n.Ours, n.Said = true, causeOf(r.kind), r.detail, r.ours, r.said
		if !r.said && !r.ours {
			n.Reason = "the peer's answer cannot be used: " + r.reason
		}
	}
	n.Report(x.sa.base)
}
