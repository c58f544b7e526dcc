package v2

import (
	"fmt"
	"slices"

	"culvert/crypto/kem"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// keyExchange is one key exchange, from the private value that we draw to the secret
// that both ends have then. It belongs to one exchange, whose tasks share it:
//
//	initiator   offer ─► payload ─► share
//	responder   answer ─► payload
//
// offerKEM, answerKEM and shareKEM are the same for the methods of RFC 9370.
type keyExchange struct {
	noop
	group   *suite.Group // nil: none yet, or a KEM
	wants   *suite.Group // the responder asked for it; nil: it did not
	repeats int          // how often it asked
	method  uint16       // of the group or KEM, in a KE payload
	private secret.Bytes
	asking  int // open Asks that use private
	public  []byte
	shared  secret.Bytes
}

func (k *keyExchange) end(*exchange) { k.wipe() }

// wipe overwrites the secrets, once the keys are made or never will be.
func (k *keyExchange) wipe() {
	if k.asking > 0 {
		return // somebody computes with them; the answer wipes them
	}
	k.private.Wipe()
	k.shared.Wipe()
}

// compute has work done, elsewhere if it is slow, and then calls done with the
// result; the next stage waits for it.
func (k *keyExchange) compute(x *exchange, slow bool, w core.Work, done func(secret.Bytes) error) {
	x.waiting++
	answer := func(b secret.Bytes, err error) {
		if x.over {
			b.Wipe()
			k.wipe()
			return
		}
		x.waiting--
		if err == nil {
			err = done(b)
		}
		if err != nil {
			x.fail(err)
			return
		}
		x.proceed()
	}
	if slow {
		k.asking++
		x.ask(w, func(b secret.Bytes, err error) {
			k.asking--
			answer(b, err)
		})
		return
	}
	b, err := w.Do()
	x.waiting--
	if err == nil {
		err = done(b)
	}
	if err != nil {
		// Reported by the stage that is running.
		x.waiting++
		answer(nil, err)
	}
}

const nonceLen = 32

// offer draws our private value and computes the public one, for an exchange of ours.
func (k *keyExchange) offer(x *exchange, g *suite.Group) error {
	if err := k.draw(x, g); err != nil {
		return err
	}
	k.compute(x, g.Slow, core.KEPublic{Group: g, Private: k.private}, func(pub secret.Bytes) error {
		k.public = pub
		return nil
	})
	return nil
}

func (k *keyExchange) draw(x *exchange, g *suite.Group) error {
	k.private.Wipe()
	p, err := core.DrawPrivate(x.sa.base.Env, g)
	k.group, k.method, k.private = g, g.ID, p
	return err
}

// answer reads the peer's KE payload, which must be of group g, draws our own value and
// computes the shared secret: the responder's side.
func (k *keyExchange) answer(x *exchange, g *suite.Group) error {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != g.ID {
		return refused{kind: message.NotifyInvalidKEPayload, data: []byte{byte(g.ID >> 8), byte(g.ID)},
			reason: "the peer's key exchange is not of group " + g.Name}
	}
	if err := k.draw(x, g); err != nil {
		return err
	}
	w := core.KEBoth{KEShared: core.KEShared{Group: g, Private: k.private, Peer: ke.Data}}
	k.compute(x, g.Slow, w, func(both secret.Bytes) error {
		k.public, k.shared = w.Split(both)
		return nil
	})
	return nil
}

// share reads the responder's KE payload and computes the shared secret.
func (k *keyExchange) share(x *exchange) error {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != k.group.ID {
		return refuse(message.NotifyInvalidKEPayload, "the response has no key exchange of group %s", k.group.Name)
	}
	w := core.KEShared{Group: k.group, Private: k.private, Peer: ke.Data}
	k.compute(x, k.group.Slow, w, func(s secret.Bytes) error {
		k.shared = s
		return nil
	})
	return nil
}

// payload is our KE payload.
func (k *keyExchange) payload() *message.KE { return &message.KE{Group: k.method, Data: k.public} }

// firstGroup is the group to begin with: what the responder asked for, else what
// was agreed on before, else the first of ours; nil: we have none.
func (k *keyExchange) firstGroup(before *suite.Group, ours []*suite.Group) *suite.Group {
	for _, g := range []*suite.Group{k.wants, before} {
		if g != nil && slices.Contains(ours, g) {
			return g
		}
	}
	if len(ours) == 0 {
		return nil
	}
	return ours[0]
}

// notOurGroup says that the peer wants a group that we do not allow; what is where ours come from.
func notOurGroup(what string) string {
	return "the peer wants a Diffie-Hellman group that " + what + " does not allow"
}

func profileGroups(sa *SA) string {
	return fmt.Sprintf("dh-group of profile %q", sa.base.Peer.Profile.Name)
}

// errOtherGroup: the peer's proposal and its KE payload name different groups.
const errOtherGroup = "the peer chose another group than it used"

// otherGroup begins anew with the group that an INVALID_KE_PAYLOAD asks for (RFC
// 7296 §1.3). what is where ours come from, for people.
func (k *keyExchange) otherGroup(n *message.Notify, ours []*suite.Group, what string, d *core.Mismatch) error {
	g := k.wantedGroup(n, ours)
	switch {
	case g == nil:
		return refused{kind: n.Kind, data: clone(n.Data), detail: d, reason: notOurGroup(what)}
	case k.repeats == maxRepeats:
		return refused{kind: n.Kind, data: clone(n.Data), detail: d, reason: fmt.Sprintf("the peer asked %d times for another Diffie-Hellman group", maxRepeats)}
	}
	k.repeats++
	k.wants = g
	return again{"group"}
}

// wantedGroup is the group that an INVALID_KE_PAYLOAD notify asks for, if it is
// one of ours and not the one that we used.
func (k *keyExchange) wantedGroup(n *message.Notify, ours []*suite.Group) *suite.Group {
	if len(n.Data) != 2 {
		return nil
	}
	id := uint16(n.Data[0])<<8 | uint16(n.Data[1])
	for _, g := range ours {
		if g.ID == id && g != k.group {
			return g
		}
	}
	return nil
}

// offerKEM draws our key pair.
func (k *keyExchange) offerKEM(x *exchange, m *suite.KEM) (err error) {
	k.method, k.private = m.ID, x.sa.base.Env.Private(kem.SeedLen)
	k.public, err = kem.Public(m, k.private)
	return err
}

// answerKEM reads the peer's encapsulation key and makes the secret.
func (k *keyExchange) answerKEM(x *exchange, m *suite.KEM) error {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != m.ID {
		return end(message.NotifyInvalidSyntax, "the peer's additional key exchange is not %s, which was agreed", m.Name)
	}
	k.method = m.ID
	k.compute(x, true, core.Encapsulate{KEM: m, Public: clone(ke.Data)}, func(both secret.Bytes) error {
		k.public, k.shared = clone(both[:m.CipherLen]), both[m.CipherLen:]
		return nil
	})
	return nil
}

// shareKEM reads the responder's ciphertext.
func (k *keyExchange) shareKEM(x *exchange, m *suite.KEM) (err error) {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != m.ID {
		if n := errorNotify(x.in); n != nil {
			return peerSaid(n)
		}
		return end(0, "the peer's response to %s has no key exchange %s", x.kind.name, m.Name)
	}
	if k.shared, err = kem.Decapsulate(m, k.private, ke.Data); err != nil {
		return end(0, "%v", err)
	}
	return nil
}
