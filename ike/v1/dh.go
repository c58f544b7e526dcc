package v1

import (
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
)

// keyExchange is one Diffie-Hellman exchange:
//
//	initiator   offer ─► own ─► share
//	responder   answer ─► own
//
// What is slow is an Ask, and then goes on; after end nothing goes on.
type keyExchange struct {
	sa              *SA
	group           *suite.Group // nil: there is none
	private, shared secret.Bytes
	own, peer       []byte // the public values
	ask             core.AskID
	asking, over    bool
}

// offer draws our private value and computes the public one.
func (k *keyExchange) offer(g *suite.Group, then func(error)) {
	if err := k.draw(g); err != nil {
		then(err)
		return
	}
	k.work(core.KEPublic{Group: g, Private: k.private}, func(b secret.Bytes, err error) {
		k.own = b
		then(err)
	})
}

// share computes the secret with the responder's public value, which it keeps.
func (k *keyExchange) share(peer []byte, then func(error)) {
	k.peer = clone(peer)
	k.work(core.KEShared{Group: k.group, Private: k.private, Peer: k.peer}, func(b secret.Bytes, err error) {
		k.shared = b
		then(err)
	})
}

// answer draws our own value and computes the secret: the responder's side.
func (k *keyExchange) answer(g *suite.Group, peer []byte, then func(error)) {
	if err := k.draw(g); err != nil {
		then(err)
		return
	}
	k.peer = clone(peer)
	w := core.KEBoth{KEShared: core.KEShared{Group: g, Private: k.private, Peer: k.peer}}
	k.work(w, func(b secret.Bytes, err error) {
		if err == nil {
			k.own, k.shared = w.Split(b)
		}
		then(err)
	})
}

func (k *keyExchange) draw(g *suite.Group) error {
	p, err := core.DrawPrivate(k.sa.base.Env, g)
	k.group, k.private = g, p
	return err
}

func (k *keyExchange) work(w core.Work, done func(secret.Bytes, error)) {
	if !k.group.Slow {
		done(w.Do())
		return
	}
	k.asking = true
	k.ask = k.sa.base.Env.Ask(k.sa.base.ID, w, func(b secret.Bytes, err error) {
		if k.asking = false; k.over {
			b.Wipe()
			k.end()
			return
		}
		done(b, err)
	})
}

// end wipes the secrets, once nobody computes with them.
func (k *keyExchange) end() {
	if k.asking {
		if !k.over {
			k.over = true
			k.sa.base.Env.Withdraw(k.ask)
		}
		return
	}
	k.over = true
	k.private.Wipe()
	k.shared.Wipe()
}
