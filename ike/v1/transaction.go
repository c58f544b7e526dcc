package v1

import (
	"encoding/binary"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// Transactions (draft-dukes-ike-mode-cfg-02 §2) carry XAuth and mode config. Either end begins one:
//
//	HDR*, HASH, ATTR(REQUEST or SET)   -->
//	                                   <--  HDR*, HASH, ATTR(REPLY or ACK)
//
// HASH and IVs are those of other exchanges of phase 2. The answer repeats the identifier of the ATTR payload, but not
// every peer's does; the message ID says what is answered. Some peers go on with a message ID in a second
// transaction: then the chain of IVs goes on as well.

// transaction is one that is under way or was a moment ago.
type transaction struct {
	asks    bool                     // the peer's request waits for an Ask
	answers func(*isakmp.Attributes) // takes the peer's answer; nil: none is expected
}

// transact begins one. answers takes the peer's answer; lost is called where none comes.
func transact(sa *SA, kind uint8, list []isakmp.Attribute, answers func(*isakmp.Attributes), lost func()) {
	x := sa.begin()
	x.trans = &transaction{answers: answers}
	sa.exchanges[x.id] = x
	a := &isakmp.Attributes{CfgType: kind, ID: binary.BigEndian.Uint16(sa.base.Env.Random(2)), List: list}
	x.on.say(sealTransaction(sa, x, a), func() {
		sa.finish(x)
		lost()
	})
}

// answerTo is the second message of a transaction of the peer.
func answerTo(sa *SA, x *exchange, a *isakmp.Attributes, list []isakmp.Attribute) {
	kind := isakmp.CfgReply
	if a.CfgType == isakmp.CfgSet {
		kind = isakmp.CfgAck
	}
	x.on.say(sealTransaction(sa, x, &isakmp.Attributes{CfgType: kind, ID: a.ID, List: list}), nil)
	sa.finish(x)
}

func sealTransaction(sa *SA, x *exchange, a *isakmp.Attributes) []byte {
	return sa.sealHashed(isakmp.ExchangeTransaction, x.id, &x.iv, func(rest []byte) secret.Bytes { return sa.keys.hash1(x.id, rest) }, a)
}

// transactionMessage handles a message of a transaction; x is nil where its message ID is new.
func transactionMessage(sa *SA, x *exchange, m *isakmp.Message, raw []byte, in core.Datagram) error {
	if x == nil {
		x = sa.newExchange(m.ID, false)
		x.trans = &transaction{}
	}
	if x.trans.asks {
		return nil
	}
	c, next, err := sa.open(m, sa.keys.enc, x.iv)
	if err != nil {
		return err
	}
	defer wipePasswords(c.Payloads)
	if err := sa.hashed(c, func(rest []byte) secret.Bytes { return sa.keys.hash1(x.id, rest) }); err != nil {
		return err
	}
	a := find[*isakmp.Attributes](c.Payloads)
	if a == nil {
		return drop("a transaction without ATTR payload")
	}
	isAnswer := a.CfgType == isakmp.CfgReply || a.CfgType == isakmp.CfgAck
	switch {
	case isAnswer && x.trans.answers == nil:
		return drop("an answer that nobody asked for")
	case !isAnswer && a.CfgType != isakmp.CfgRequest && a.CfgType != isakmp.CfgSet:
		return drop("a transaction of type %d, which is not known", a.CfgType)
	case !isAnswer && !takes(sa, a):
		return drop("mode config before XAuth is through")
	}
	sa.genuine(x, m, c, raw, next, in)
	if isAnswer {
		answers := x.trans.answers
		x.trans.answers = nil
		sa.finish(x)
		answers(a)
		return nil
	}
	if a.CfgType == isakmp.CfgSet {
		isSet(sa, x, a)
		return nil
	}
	isAsked(sa, x, a)
	return nil
}

// secretAttributes are what of XAuth must not stay in memory.
var secretAttributes = map[uint16]bool{
	isakmp.XAuthPassword: true, isakmp.XAuthPasscode: true, isakmp.XAuthNextPIN: true, isakmp.XAuthAnswer: true,
}

func wipePasswords(ps []isakmp.Payload) {
	for _, p := range ps {
		if a, ok := p.(*isakmp.Attributes); ok {
			for _, b := range a.List {
				if secretAttributes[b.Type] {
					clear(b.Value)
				}
			}
		}
	}
}
