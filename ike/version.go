package ike

import (
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// A version of IKE is a package that implements ikesa.Protocol, and a row here, which says
// what the endpoint has to know of it before there is an IKE SA, and after.
//
//	initiator   initiate ─► resume ─► Adopt ─► Protocol.Begin
//	responder   first ─► impossible ─► peer ─► spare ─► (bounds) ─► accept
//	later       ours ─► Protocol.Datagram
//	at the end  repeats ─► the last response once more
type version struct {
	number core.Version
	// initiate makes an IKE SA as initiator (ikesa.Initiate), whose Protocol has not begun yet.
	initiate func(e *Endpoint, peer *core.Peer, p ikesa.Path, wanted []*core.Policy) *ikesa.SA
	// resume has such an SA go on with what a lost one has left, if it can; nil: the version
	// has nothing of that kind.
	resume func(e *Endpoint, sa *ikesa.SA)
	// first reports whether a message is one that an IKE SA begins with; impossible, whether
	// the header of such a message cannot be.
	first, impossible func(h message.Header) bool
	// peer is whom such a message is from, as far as it says; nil: nobody is configured.
	peer func(e *Endpoint, h message.Header, d core.Datagram) *core.Peer
	// spare deals with a newcomer without keeping anything, if it can: away: its peer's
	// newcomers are to go to another gateway; pressed: it has to show that it receives at
	// its address. True: that is all that it gets. nil: the version has no means.
	spare func(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram, away, pressed bool) bool
	// accept makes the half-open IKE SA of such a message and answers. The error is for people.
	accept func(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram) error
	// ours is the one of a header's two SPIs that is ours.
	ours func(e *Endpoint, h message.Header) uint64
	// repeats: the exchange and ID of a message are those of the request that an IKE SA ended
	// with. Whether it is that request, and whether it is answered or passed over.
	repeats func(h message.Header, raw []byte) (same, answered bool)
	// unknownSPI reads the SPI of a message without an IKE SA which says that packets with it arrived and no SA
	// opened them; not ok: it is no such message. sayUnknownSPI writes one. nil: the version has none.
	unknownSPI    func(h message.Header, raw []byte) (spi uint32, ok bool)
	sayUnknownSPI func(spi uint32) []byte
	// sayUnknownSA answers a message for an IKE SA that does not exist, where it asks for an answer; it is not longer
	// than the message. The answer or the function is nil: nothing is answered.
	sayUnknownSA func(h message.Header, raw []byte) []byte
}

// versions are those that the endpoint speaks, the newest last.
type versions struct {
	rows []*version

	since time.Time // how many answers to other versions there were in the second that began then
	n     int
}

// of is the row of a version; nil: it is not spoken here.
func (t *versions) of(v core.Version) *version {
	for _, row := range t.rows {
		if row.number == v {
			return row
		}
	}
	return nil
}

// maxVersionAnswers bounds how many messages of a newer version are answered in a
// second: anybody can send them, with any address.
const maxVersionAnswers = 10

// otherVersion answers a newer version with the newest that we speak (RFC 7296
// §2.5); an older one is left without answer.
func otherVersion(e *Endpoint, h message.Header, d core.Datagram) {
	e.bad(d, "IKE version %d is not spoken here", h.Major())
	t := &e.versions
	newest := uint8(t.rows[len(t.rows)-1].number)
	if h.Major() < newest || h.Response() {
		return
	}
	if now := e.env.Now(); now.Sub(t.since) >= time.Second {
		t.since, t.n = now, 0
	}
	if t.n++; t.n > maxVersionAnswers {
		return
	}
	m := message.Message{
		Header:   message.Header{SPIi: h.SPIi, SPIr: h.SPIr, Version: newest << 4, Exchange: h.Exchange, Flags: message.FlagResponse, ID: h.ID},
		Payloads: []message.Payload{&message.Notify{Kind: message.NotifyInvalidMajorVersion}},
	}
	e.env.Emit(core.Send{Local: d.Local, Remote: d.Remote, NATT: d.NATT, Data: m.Append(nil)})
}
