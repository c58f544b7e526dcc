package ike

import (
	"bytes"
	"encoding/binary"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/ike/v2"
)

// ikev2 is the row of IKEv2.
func ikev2() *version {
	return &version{
		number: core.IKEv2,
		initiate: func(e *Endpoint, peer *core.Peer, p ikesa.Path, wanted []*core.Policy) *ikesa.SA {
			return v2.Initiate(e.env, e.common(), e, peer, p, wanted).Base()
		},
		resume: func(e *Endpoint, sa *ikesa.SA) {
			if s := e.sessions.take(e.env.Now(), &e.tickets, sa.Peer, sa.Remote.Addr(), sa.Identity); s != nil {
				sa.Protocol.(*v2.SA).Resume(s)
			}
		},
		first: func(h message.Header) bool {
			return (h.Exchange == message.ExchangeIKESAInit || h.Exchange == message.ExchangeSessionResume) && !h.Response() && h.SPIr == 0
		},
		impossible: func(h message.Header) bool { return h.SPIi == 0 || h.ID != 0 || !h.FromInitiator() },
		peer: func(e *Endpoint, _ message.Header, d core.Datagram) *core.Peer {
			return e.peers.find(core.IKEv2, d.Local.Addr(), d.Remote.Addr())
		},
		spare: func(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram, away, pressed bool) bool {
			skimmed, err := message.Skim(h, d.Data)
			if err != nil {
				e.bad(d, "%v", err)
				return true
			}
			return away && sendAway(e, peer, h, skimmed, d) || pressed && !cookieOK(e, h, skimmed, d)
		},
		accept: func(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram) error {
			if h.Exchange == message.ExchangeSessionResume {
				return acceptResume(e, peer, h, d)
			}
			return v2.Accept(e.env, e.common(), e, peer, bytes.Clone(d.Data), d)
		},
		ours: func(_ *Endpoint, h message.Header) uint64 {
			if h.FromInitiator() {
				return h.SPIr
			}
			return h.SPIi
		},
		unknownSPI:    v2.UnknownSPI,
		sayUnknownSPI: v2.SayUnknownSPI,
		sayUnknownSA:  v2.SayUnknownSA,
		repeats: func(h message.Header, raw []byte) (same, answered bool) {
			// The first fragment brings the whole answer (RFC 7383 §2.6.1).
			return !h.Response(), h.Next != message.TypeSKF || firstFragment(raw)
		},
	}
}

// firstFragment looks at the fragment number of a message whose first payload is
// SKF (RFC 7383 §2.5).
func firstFragment(raw []byte) bool {
	const at = message.HeaderLen + 4
	return len(raw) >= at+2 && binary.BigEndian.Uint16(raw[at:]) == 1
}
