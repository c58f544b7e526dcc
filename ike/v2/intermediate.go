package v2

import (
	"encoding/binary"
	"slices"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Additional key exchanges (RFC 9370), one IKE_INTERMEDIATE each (RFC 9242),
// between IKE_SA_INIT and IKE_AUTH:
//
//	HDR, SK{KEi(n)}  -->  <--  HDR, SK{KEr(n)}
//
// The keys change after each:
//
//	SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr)
//
// and what was said in them is part of what IKE_AUTH proves (RFC 9242 §3.3.2):
//
//	IntAuth_i(n) = prf(SK_pi(n-1), IntAuth_i(n-1) | header and plaintext of the request)
//	IntAuth_r(n) = prf(SK_pr(n-1), IntAuth_r(n-1) | header and plaintext of the response)
//	IntAuth      = IntAuth_i(N) | IntAuth_r(N) | message ID of IKE_AUTH

// intermediates is the state between IKE_SA_INIT and IKE_AUTH.
type intermediates struct {
	done      int          // exchanges that are through
	got, sent []byte       // what the one that is under way proves
	i, r      secret.Bytes // IntAuth_i, IntAuth_r so far
	old       keys         // before the last exchange: its request may come again
}

func (s *intermediates) wipe() {
	s.i.Wipe()
	s.r.Wipe()
	s.old.wipe()
	*s = intermediates{}
}

// octets is IntAuth.
func (s *intermediates) octets() []byte {
	if s.done == 0 {
		return nil
	}
	b := append(slices.Clone([]byte(s.i)), s.r...)
	return binary.BigEndian.AppendUint32(b, uint32(s.done)+1)
}

// intermediateSupport says in IKE_SA_INIT that we can do IKE_INTERMEDIATE, where
// we want it.
type intermediateSupport struct{ noop }

func (*intermediateSupport) say(x *exchange) {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyIntermediateExchangeSupported})
}

func (t *intermediateSupport) request(x *exchange) error {
	if x.sa.base.Peer.Profile.Additional() {
		t.say(x)
	}
	return nil
}

func (t *intermediateSupport) reply(x *exchange) error {
	if saysIntermediate(x) {
		t.say(x)
	}
	return nil
}

// saysIntermediate reports whether both ends can do IKE_INTERMEDIATE.
func saysIntermediate(x *exchange) bool {
	return x.sa.base.Peer.Profile.Additional() && notify(x.in, message.NotifyIntermediateExchangeSupported) != nil
}

// afterInit is what an initiator does next: an additional key exchange, or IKE_AUTH.
func afterInit(sa *SA) *exchange {
	if sa.resumed == nil && sa.init.inter.done < len(sa.base.Suite.Additional) {
		return newExchange(row(intermediate))
	}
	return newAuth(sa)
}

// nextKEM is the additional key exchange that comes now.
func nextKEM(sa *SA) *suite.KEM { return sa.base.Suite.Additional[sa.init.inter.done] }

// additionalKE runs one additional key exchange.
type additionalKE struct {
	noop
	ke *keyExchange
}

func (t *additionalKE) prepare(x *exchange) error { return t.ke.offerKEM(x, nextKEM(x.sa)) }

func (t *additionalKE) request(x *exchange) error {
	x.out = append(x.out, t.ke.payload())
	return nil
}

func (t *additionalKE) accept(x *exchange) error { return t.ke.answerKEM(x, nextKEM(x.sa)) }

func (t *additionalKE) reply(x *exchange) error {
	x.out = append(x.out, t.ke.payload())
	return nil
}

func (t *additionalKE) complete(x *exchange) error { return t.ke.shareKEM(x, nextKEM(x.sa)) }

// settle goes over to the keys of the exchange that is through.
func (t *additionalKE) settle(x *exchange) error {
	sa, s := x.sa, &x.sa.init.inter
	ours, theirs := s.sent, s.got
	if !x.mine {
		ours, theirs = theirs, ours
	}
	s.i = prf.Sum(sa.base.Suite.PRF, sa.sealer.keys.pi, s.i, ours)
	s.r = prf.Sum(sa.base.Suite.PRF, sa.sealer.keys.pr, s.r, theirs)
	k, err := rederiveKeys(sa.base.Suite, sa.base.Suite.PRF, sa.sealer.keys.d, t.ke.shared, sa.init.ni, sa.init.nr, sa.base.SPIi, sa.base.SPIr, nil)
	if err != nil {
		return end(0, "%v", err)
	}
	t.ke.wipe()
	s.old.wipe()
	s.old, sa.sealer.keys = sa.sealer.keys, k
	s.got, s.sent = nil, nil
	s.done++
	if x.mine {
		sa.start(afterInit(sa))
	}
	return nil
}

// provable is what of a message goes into IntAuth: the message as it would be
// without encryption and fragmentation, its lengths too (RFC 9242 §3.3.2).
func provable(h message.Header, first message.PayloadType, plain []byte) []byte {
	n := skGeneric + len(plain)
	h.Next, h.Length = message.TypeSK, uint32(message.HeaderLen+n)
	b := append(h.Append(nil), byte(first), 0, byte(n>>8), byte(n))
	return append(b, plain...)
}

// opened notes what of a message that came goes into IntAuth.
func opened(sa *SA, h message.Header, first message.PayloadType, plain []byte) {
	if h.Exchange == message.ExchangeIntermediate && sa.base.State < Established && sa.awaits(h) {
		sa.init.inter.got = provable(h, first, plain)
	}
}

// noteSealed notes what of a message of ours goes into IntAuth.
func noteSealed(sa *SA, h message.Header, ps []message.Payload) {
	if h.Exchange == message.ExchangeIntermediate && sa.init != nil { // else a refusal: the SA is up
		first, plain := message.AppendPayloads(nil, ps)
		sa.init.inter.sent = provable(h, first, plain)
	}
}

// lateIntermediate answers a request that comes again after the keys changed.
func lateIntermediate(sa *SA, raw []byte, m *message.Message, in core.Datagram) bool {
	if m.Exchange != message.ExchangeIntermediate || m.Response() || sa.base.State != HalfOpen ||
		m.ID+1 != sa.recvID || sa.init.inter.old.d == nil || sa.lastResponse == nil {
		return false
	}
	now := sa.sealer.keys
	sa.sealer.keys = sa.init.inter.old
	_, whole, syntax, err := sa.decrypt(raw, m, in)
	sa.sealer.keys = now
	switch {
	case err != nil:
		sa.bad(in, "%v", err)
	case whole && syntax == nil:
		sa.repeatResponse(in)
	}
	return true
}
