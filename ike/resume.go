package ike

import (
	"bytes"
	"net/netip"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/ike/v2"
)

// Session resumption (RFC 5723), what of it outlives an IKE SA: the sessions that a
// client has lost and may resume, and the refusal of tickets.

// Tickets are the keys of session tickets and the tickets that were used.
func (e *Endpoint) Tickets() *v2.TicketJar { return &e.tickets }

// Interrupted keeps the session of a lost IKE SA for the next one.
func (e *Endpoint) Interrupted(sa *ikesa.SA, s *v2.Session) { e.sessions.keep(sa.Peer.Name, s) }

// sessions are those of peers whose IKE SA was lost, by the peer's name.
type sessions map[string]*v2.Session

func (l sessions) keep(peer string, s *v2.Session) {
	l.drop(peer)
	l[peer] = s
}

func (l sessions) drop(peer string) {
	l[peer].Wipe()
	delete(l, peer)
}

// take takes the session that an IKE SA with a peer at an address can resume, as a
// certain identity unless that is nil; nil: none. It is presented once (RFC 5723 §4.3.1).
func (l sessions) take(now time.Time, jar *v2.TicketJar, peer *core.Peer, remote netip.Addr, as *core.Identity) *v2.Session {
	s := l[peer.Name]
	if s == nil {
		return nil
	}
	if !s.Usable(now, jar, peer, remote) {
		l.drop(peer.Name)
		return nil
	}
	if as != nil && s.Identity(jar, peer) != as {
		return nil
	}
	delete(l, peer.Name)
	return s
}

// NotResumed makes anew the IKE SA that was not resumed, at once, unless the peer has
// connected to us while we waited: both ends would keep both. A session that
// nothing answered waits for the attempt after that; if the peer answers this
// one, it is forgotten with Established.
func (e *Endpoint) NotResumed(sa *ikesa.SA, s *v2.Session, wanted []*core.Policy) {
	peer := sa.Peer
	need := !e.down
	if need {
		wanted, need = e.needed(peer, wanted)
	}
	if !need {
		s.Wipe()
		return
	}
	e.initiate(peer, []way{{sa.Local.Addr(), sa.Remote.Addr()}}, wanted)
	if s != nil {
		e.sessions.keep(peer.Name, s)
	}
}

// acceptResume takes in somebody with a ticket, or answers TICKET_NACK and keeps nothing.
func acceptResume(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram) error {
	refused, err := v2.AcceptResume(e.env, e.common(), e, peer, bytes.Clone(d.Data), d)
	if err != nil || refused == nil {
		return err
	}
	e.strangers.gaveUp(e.env.Now())
	e.env.Emit(core.Event{Kind: core.EvNotify, Peer: peer.Name, Local: d.Local, Remote: d.Remote, Exchange: h.Exchange.String(),
		Reason: "a session is not resumed, the peer has to connect anew: " + refused.Error()})
	nack := message.Message{
		Header:   message.Header{SPIi: h.SPIi, Version: 0x20, Exchange: h.Exchange, Flags: message.FlagResponse},
		Payloads: []message.Payload{&message.Notify{Kind: message.NotifyTicketNack}},
	}
	e.env.Emit(core.Send{Local: d.Local, Remote: d.Remote, NATT: d.NATT, Data: nack.Append(nil)})
	return nil
}
