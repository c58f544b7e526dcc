package ike

import (
	"bytes"
	"fmt"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/ike/v1"
)

// ikev1 is the row of IKEv1. A first message says its exchange mode and an address; what it proves itself by, and
// in main mode who it is, comes later.
func ikev1() *version {
	return &version{
		number: core.IKEv1,
		initiate: func(e *Endpoint, peer *core.Peer, p ikesa.Path, wanted []*core.Policy) *ikesa.SA {
			return v1.Initiate(e.env, e.common(), e, peer, p, wanted).Base()
		},
		first: func(h message.Header) bool {
			_, ok := modes[h.Exchange]
			return ok && h.SPIr == 0
		},
		impossible: func(h message.Header) bool { return h.SPIi == 0 || h.ID != 0 || h.Flags&isakmp.FlagEncryption != 0 },
		peer: func(e *Endpoint, h message.Header, d core.Datagram) *core.Peer {
			if list := ofMode(e, h, d); len(list) > 0 {
				return list[0]
			}
			return nil
		},
		accept: func(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram) error {
			if h.Exchange == isakmp.ExchangeAggressive && !e.strangers.affords(e.env.Now()) {
				return fmt.Errorf("more than %d peers begin aggressive mode in a second: it may come again", maxAggressive)
			}
			return v1.Accept(e.env, e.common(), e, ofMode(e, h, d), bytes.Clone(d.Data), d)
		},
		ours: func(e *Endpoint, h message.Header) uint64 {
			if sa := e.bySPI[h.SPIi]; sa != nil && sa.Initiator {
				return h.SPIi
			}
			return h.SPIr
		},
		repeats: func(message.Header, []byte) (same, answered bool) { return false, false },
	}
}

// modes are the exchanges that phase 1 goes by.
var modes = func() map[message.ExchangeType]core.Mode {
	m := map[message.ExchangeType]core.Mode{}
	for mode, exchange := range v1.Exchanges {
		m[exchange] = mode
	}
	return m
}()

// maxAggressive bounds how many first messages of aggressive mode are answered in a second: the answer takes a key exchange
// and, with certificates, a signature, before the peer has shown that it receives at its address.
const maxAggressive = 100

// maxCandidates bounds how many peers of one address a newcomer is compared with.
const maxCandidates = 64

// ofMode are the peers that a first message may be from, the one to prefer first.
func ofMode(e *Endpoint, h message.Header, d core.Datagram) (list []*core.Peer) {
	for p := range e.peers.of(core.IKEv1, d.Local.Addr(), d.Remote.Addr()) {
		if p.Mode == modes[h.Exchange] && len(list) < maxCandidates {
			list = append(list, p)
		}
	}
	return list
}
