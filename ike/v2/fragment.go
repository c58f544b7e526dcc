package v2

import (
	"errors"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Fragmentation (RFC 7383): a message that is too long for one datagram is cut
// into fragments, each encrypted on its own, because networks drop IP fragments.
// Both ends say in IKE_SA_INIT that they can; IKE_SA_INIT itself stays whole.

// fragmentation says and hears in IKE_SA_INIT that fragments are understood.
type fragmentation struct{ noop }

func (*fragmentation) say(x *exchange) {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyIKEv2FragmentationSupported})
}

func (*fragmentation) hear(x *exchange) error {
	x.sa.sealer.fragments = x.sa.base.Peer.Profile.Fragmentation && notify(x.in, message.NotifyIKEv2FragmentationSupported) != nil
	return nil
}

func (t *fragmentation) request(x *exchange) error {
	if x.sa.base.Peer.Profile.Fragmentation {
		t.say(x)
	}
	return nil
}

func (t *fragmentation) accept(x *exchange) error { return t.hear(x) }

func (t *fragmentation) reply(x *exchange) error {
	if x.sa.sealer.fragments {
		t.say(x)
	}
	return nil
}

func (t *fragmentation) complete(x *exchange) error { return t.hear(x) }

// protect makes the datagrams of an encrypted message: one, or fragments where
// it would be too long and the peer understands them.
func (p *sealer) protect(h message.Header, ps []message.Payload) ([][]byte, error) {
	if p.fragments {
		first, plain := message.AppendPayloads(nil, ps)
		if p.sealedLen(skGeneric, len(plain)) > ikesa.LongestMessage(p.base.Host) {
			return p.cut(h, first, plain)
		}
	}
	raw, err := p.seal(h, ps)
	return [][]byte{raw}, err
}

// cut makes fragments of equal size but for the last.
func (p *sealer) cut(h message.Header, first message.PayloadType, plain []byte) ([][]byte, error) {
	size := p.room(ikesa.LongestMessage(p.base.Host) - message.HeaderLen - skfGeneric)
	total := (len(plain) + size - 1) / size
	if total > ikesa.MaxPieces {
		return nil, errors.New("the message is longer than its fragments may be together")
	}
	var out [][]byte
	for n := 1; n <= total; n++ {
		part := plain[:min(size, len(plain))]
		plain = plain[len(part):]
		raw, err := p.sealFragment(h, first, uint16(n), uint16(total), clone(part))
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
		first = message.NoNext // only the first one names it
	}
	return out, nil
}

// partial is a message of which fragments are missing. There is one for the
// peer's request and one for its response.
type partial struct {
	id    uint32
	kind  message.ExchangeType
	first message.PayloadType
	total int
	ikesa.Pieces
}

// fragment takes in one fragment (RFC 7383 §2.6). whole is set with the last
// one; inner and syntax are then as of decrypt. raw is not kept.
func (sa *SA) fragment(raw []byte, m *message.Message, skf *message.EncryptedFragment, in core.Datagram) (inner []message.Payload, whole bool, syntax, err error) {
	if !sa.sealer.fragments {
		return nil, false, nil, dropped{"a fragment, and fragmentation was not agreed"}
	}
	if skf.Total > ikesa.MaxPieces {
		return nil, false, nil, dropped{"too many fragments"}
	}
	if !sa.awaits(m.Header) {
		return nil, false, nil, lateFragment(sa, raw, m, skf, in)
	}
	if sa.partial == nil {
		sa.partial = new([2]partial)
	}
	p := &sa.partial[0]
	if m.Response() {
		p = &sa.partial[1]
	}
	other := p.id != m.ID || p.kind != m.Exchange // of another message, if it is authentic
	switch number, total := int(skf.Number), int(skf.Total); {
	case other:
	case total < p.total:
		return nil, false, nil, nil // an older and coarser cut
	case total == p.total && p.Get(number) != nil:
		return nil, false, nil, nil
	}
	plain, syntax, err := sa.sealer.unseal(raw, len(raw)-len(skf.Body))
	if err != nil || syntax != nil {
		return nil, false, nil, errors.Join(err, syntax)
	}
	if other || int(skf.Total) > p.total { // the peer cuts finer now: all anew
		*p = partial{id: m.ID, kind: m.Exchange, total: int(skf.Total)}
	}
	if !p.Put(int(skf.Number), plain) {
		*p = partial{}
		return nil, false, nil, dropped{"the fragments are too long together"}
	}
	if skf.Number == 1 {
		p.first = skf.First
	}
	all := p.Whole(p.total)
	if all == nil {
		return nil, false, nil, nil
	}
	opened(sa, m.Header, p.first, all)
	sa.read = len(all)
	inner, syntax = sa.sealer.parseInner(p.first, all)
	*p = partial{}
	return inner, true, syntax, nil
}

// awaits reports whether a message with the header is one that would be worked
// on now.
func (sa *SA) awaits(h message.Header) bool {
	if h.Response() {
		x := sa.current
		return x != nil && x.raw != nil && x.in == nil && h.ID == x.id && h.Exchange == x.kind.wire
	}
	return h.ID == sa.recvID && sa.answering == nil
}

// lateFragment answers the first fragment of a request that was answered before;
// all others are passed over (RFC 7383 §2.6.1).
func lateFragment(sa *SA, raw []byte, m *message.Message, skf *message.EncryptedFragment, in core.Datagram) error {
	if m.Response() || skf.Number != 1 || m.ID+1 != sa.recvID || sa.lastResponse == nil {
		return nil
	}
	if _, _, err := sa.sealer.unseal(raw, len(raw)-len(skf.Body)); err != nil {
		return err
	}
	sa.repeatResponse(in)
	return nil
}
