package v2

import (
	"encoding/binary"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// What one end says about messages and packets for which it has no SA, because it was restarted, for example
// (RFC 7296 §1.5, §2.21.4). All but the first of them are in clear, so anybody can forge them:
//
//	ESP, no SA has its SPI      with an IKE SA to the sender   HDR, SK{N(INVALID_SPI: SPI)}   a request
//	                            without                        HDR(0,0), N(INVALID_SPI: SPI)  a message that nobody answers
//	a request for no IKE SA     -->  <--                       HDR, N(INVALID_IKE_SPI)        with the SPIs and the ID of the request
//
// Whoever gets one of them asks its peer whether it is there (ike/sa/hint.go).

// UnknownSPI reads the SPI of a message without an IKE SA that says INVALID_SPI.
func UnknownSPI(h message.Header, raw []byte) (spi uint32, ok bool) {
	if h.Exchange != message.ExchangeInformational || h.Response() || h.Next != message.TypeNotify {
		return 0, false
	}
	m, err := message.Parse(raw)
	if err != nil {
		return 0, false
	}
	return unknownSPIOf(m.Payloads)
}

func unknownSPIOf(ps []message.Payload) (spi uint32, ok bool) {
	n := notify(ps, message.NotifyInvalidSPI)
	if n == nil || len(n.Data) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(n.Data), true
}

func sayUnknownSPI(spi uint32) *message.Notify {
	return &message.Notify{Kind: message.NotifyInvalidSPI, Data: binary.BigEndian.AppendUint32(nil, spi)}
}

// SayUnknownSPI is such a message. Its SPIs are zero (RFC 7296 §1.5).
func SayUnknownSPI(spi uint32) []byte {
	m := message.Message{Header: message.Header{Version: 0x20, Exchange: message.ExchangeInformational, Flags: message.FlagInitiator},
		Payloads: []message.Payload{sayUnknownSPI(spi)}}
	return m.Append(nil)
}

// SayUnknownSA answers an encrypted request whose SPIs are of no IKE SA; nil: it is none, or shorter than the answer. An IKE
// SA that is not up yet has nothing to be asked about.
func SayUnknownSA(h message.Header, raw []byte) []byte {
	if h.Exchange == message.ExchangeIKEAuth || h.Exchange == message.ExchangeIntermediate || h.Response() || h.SPIi == 0 || h.SPIr == 0 || h.Next != message.TypeSK && h.Next != message.TypeSKF {
		return nil
	}
	flags := message.FlagResponse
	if !h.FromInitiator() {
		flags |= message.FlagInitiator
	}
	m := message.Message{Header: message.Header{SPIi: h.SPIi, SPIr: h.SPIr, Version: 0x20, Exchange: h.Exchange, Flags: flags, ID: h.ID},
		Payloads: []message.Payload{&message.Notify{Kind: message.NotifyInvalidIKESPI}}}
	answer := m.Append(nil)
	if len(answer) > len(raw) {
		return nil
	}
	return answer
}

// saysUnknownSA reports whether a message is the peer's answer in clear that it has no such IKE SA: from where the
// peer is, to the request that is under way.
func saysUnknownSA(sa *SA, h message.Header, raw []byte, in core.Datagram) bool {
	x := sa.current
	if !h.Response() || h.Next != message.TypeNotify || sa.base.State != Established ||
		x == nil || x.raw == nil || x.in != nil || h.ID != x.id || h.Exchange != x.kind.wire || in.Remote != sa.base.Remote {
		return false
	}
	m, err := message.Parse(raw)
	return err == nil && notify(m.Payloads, message.NotifyInvalidIKESPI) != nil
}

// invalidSPIEvery is the shortest time between two INVALID_SPI in one IKE SA, in each direction.
const invalidSPIEvery = 10 * time.Second

// invalidSPIs is when the last INVALID_SPI was sent and heeded.
type invalidSPIs struct{ told, heeded time.Time }

// TellUnknownSPI tells the peer that packets arrive whose SPI no SA has.
func (sa *SA) TellUnknownSPI(spi uint32) {
	now := sa.base.Env.Now()
	if sa.base.State != Established || sa.current != nil || !sa.invalidSPIs.told.IsZero() && now.Sub(sa.invalidSPIs.told) < invalidSPIEvery {
		return
	}
	sa.invalidSPIs.told = now
	x := newExchange(row(inform))
	*part[*invalidSPI](x) = invalidSPI{spi: spi, tells: true}
	sa.start(x)
}

// invalidSPI tells the peer of an SPI that is of no SA here, or hears it of one that is of no SA there.
type invalidSPI struct {
	noop
	spi   uint32
	tells bool
}

func (t *invalidSPI) request(x *exchange) error {
	if t.tells {
		x.out = append(x.out, sayUnknownSPI(t.spi))
	}
	return nil
}

// settle is where the peer, which is there, does not have a CHILD SA any more. That changes nothing by itself. A rekey
// asks for it: the peer answers CHILD_SA_NOT_FOUND, and another one is made.
func (t *invalidSPI) settle(x *exchange) error {
	if x.mine {
		return nil
	}
	spi, ok := unknownSPIOf(x.in)
	sa, now := x.sa, x.sa.base.Env.Now()
	if !ok || sa.base.State != Established || !sa.invalidSPIs.heeded.IsZero() && now.Sub(sa.invalidSPIs.heeded) < invalidSPIEvery {
		return nil
	}
	if c := sa.base.ChildBySPI(spi); c != nil && c.Serving() && !c.Standby {
		sa.invalidSPIs.heeded = now
		sa.base.Emit(core.Event{Kind: core.EvNotify, Child: c.ID, Policy: c.Policy.Ref, Reason: "the peer does not know the SPI of our packets (INVALID_SPI): we rekey the CHILD SA"})
		c.Rekey()
	}
	return nil
}
