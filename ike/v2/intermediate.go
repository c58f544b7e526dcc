package v2

import (
	"encoding/binary"
	"slices"

	"culvert/crypto/kem"
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
type additionalKE struct{ noop }

func (*additionalKE) prepare(x *exchange) error { return offerKEM(x, nextKEM(x.sa)) }

func (*additionalKE) request(x *exchange) error {
	x.out = append(x.out, &message.KE{Group: nextKEM(x.sa).ID, Data: x.public})
	return nil
}

func (*additionalKE) accept(x *exchange) error { return answerKEM(x, nextKEM(x.sa)) }

func (*additionalKE) reply(x *exchange) error {
	x.out = append(x.out, &message.KE{Group: nextKEM(x.sa).ID, Data: x.public})
	return nil
}

func (*additionalKE) complete(x *exchange) error { return shareKEM(x, nextKEM(x.sa)) }

func (*additionalKE) settle(x *exchange) error { return nextKeys(x.sa, x) }

// offerKEM draws our key pair.
func offerKEM(x *exchange, k *suite.KEM) (err error) {
	x.private = x.sa.base.Env.Private(kem.SeedLen)
	x.public, err = kem.Public(k, x.private)
	return err
}

// answerKEM reads the peer's encapsulation key and makes the secret.
func answerKEM(x *exchange, k *suite.KEM) error {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != k.ID {
		return end(message.NotifyInvalidSyntax, "the peer's additional key exchange is not %s, which was agreed", k.Name)
	}
	x.compute(true, core.Encapsulate{KEM: k, Public: clone(ke.Data)}, func(both secret.Bytes) error {
		x.public, x.shared = clone(both[:k.CipherLen]), both[k.CipherLen:]
		return nil
	})
	return nil
}

// shareKEM reads the responder's ciphertext.
func shareKEM(x *exchange, k *suite.KEM) (err error) {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != k.ID {
		if n := errorNotify(x.in); n != nil {
			return peerSaid(n)
		}
		return end(0, "the peer's response to %s has no key exchange %s", x.kind.name, k.Name)
	}
	if x.shared, err = kem.Decapsulate(k, x.private, ke.Data); err != nil {
		return end(0, "%v", err)
	}
	return nil
}

// nextKeys goes over to the keys of the exchange that is through.
func nextKeys(sa *SA, x *exchange) error {
	s := &sa.init.inter
	ours, theirs := s.sent, s.got
	if !x.mine {
		ours, theirs = theirs, ours
	}
	s.i = prf.Sum(sa.base.Suite.PRF, sa.sealer.keys.pi, s.i, ours)
	s.r = prf.Sum(sa.base.Suite.PRF, sa.sealer.keys.pr, s.r, theirs)
	k, err := rederiveKeys(sa.base.Suite, sa.base.Suite.PRF, sa.sealer.keys.d, x.shared, sa.init.ni, sa.init.nr, sa.base.SPIi, sa.base.SPIr, nil)
	if err != nil {
		return end(0, "%v", err)
	}
	x.shared.Wipe()
	x.private.Wipe()
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
