package ike

import (
	"strings"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// parrot is a version of IKE for tests: its messages are headers, and an SA is up with the
// first answer. What it knows nothing of does not happen.
type parrot struct {
	ikesa.Protocol // nil
	sa             *ikesa.SA
}

const parrotVersion core.Version = 3

// say sends a header, of exchange 1 as initiator.
func (y *parrot) say(exchange message.ExchangeType) {
	m := message.Message{Header: message.Header{SPIi: y.sa.SPIi, SPIr: y.sa.SPIr, Version: uint8(parrotVersion) << 4, Exchange: exchange}}
	y.sa.Transmit(y.sa.Path, [][]byte{m.Append(nil)})
}

func (y *parrot) Begin()                                 { y.say(1) }
func (y *parrot) Again(core.Datagram)                    { y.say(2) }
func (y *parrot) Doing() string                          { return "" }
func (y *parrot) Making(*core.Policy) bool               { return true }
func (y *parrot) MakeChild(*core.Policy, *selector.Pair) {}
func (y *parrot) Probe(bool)                             {}
func (y *parrot) Stop()                                  {}
func (y *parrot) Close(string, bool)                     { y.say(3) }
func (y *parrot) Datagram(raw []byte, in core.Datagram) {
	h, _ := message.ParseHeader(raw)
	y.sa.Fresh(in)
	if y.sa.SPIr == 0 {
		y.sa.SPIr = h.SPIr
	}
	if h.Exchange == 4 { // the peer deletes it
		y.say(5)
		y.sa.Keeper.(ikesa.Newcomers).KeepFinal(y.sa.SPI(), ikesa.Final{Exchange: 4, Response: [][]byte{{5}}, Path: y.sa.Path})
		y.sa.End(false, "deleted")
		return
	}
	y.sa.Name(core.ID{Type: core.IDFQDN, Data: "parrot"})
	y.sa.Identity = y.sa.Peer.Identities[0]
	y.sa.Up()
	y.sa.Proved(true)
	y.sa.Keeper.Established(y.sa)
}

// parrots is the row of that version.
func parrots() *version {
	speak := func(sa *ikesa.SA) *ikesa.SA {
		sa.Protocol = &parrot{sa: sa}
		return sa
	}
	return &version{
		number: parrotVersion,
		initiate: func(e *Endpoint, peer *core.Peer, p ikesa.Path, wanted []*core.Policy) *ikesa.SA {
			return speak(ikesa.Initiate(e.env, e.common(), peer, p, wanted))
		},
		first:      func(h message.Header) bool { return h.SPIr == 0 },
		impossible: func(h message.Header) bool { return h.SPIi == 0 },
		peer: func(e *Endpoint, h message.Header, d core.Datagram) *core.Peer {
			for p := range e.peers.of(parrotVersion, d.Local.Addr(), d.Remote.Addr()) {
				if strings.HasPrefix(p.Name, "parrot") {
					return p
				}
			}
			return nil
		},
		accept: func(e *Endpoint, peer *core.Peer, h message.Header, d core.Datagram) error {
			sa := speak(ikesa.Accept(e.env, e.common(), peer, h.SPIi, d, 30*1e9, "the next"))
			e.Adopt(sa)
			sa.Protocol.Again(d)
			return nil
		},
		ours: func(e *Endpoint, h message.Header) uint64 {
			if sa := e.bySPI[h.SPIi]; sa != nil && sa.Initiator {
				return h.SPIi
			}
			return h.SPIr
		},
		repeats: func(message.Header, []byte) (same, answered bool) { return true, true },
	}
}

// Another version of IKE is one row and a Protocol: the endpoint begins its IKE SAs, takes in
// those of strangers, tells its peers and messages from those of IKEv2, authenticates anew and
// repeats the last answer.
func TestAnotherVersionIsARow(t *testing.T) {
	r := newRig(t)
	r.e.versions.rows = append(r.e.versions.rows, parrots())
	cfg, _ := pairConfigs()
	cfg.Peers[0].Passive = true
	other := *cfg.Peers[0]
	other.Name, other.Version = "not by address alone", parrotVersion
	mine := other
	mine.Name, mine.Passive = "parrot", false
	mine.Profile.Reauth = 3600 * 1e9
	cfg.Peers = append(cfg.Peers, &other, &mine)
	policy := *cfg.Policies[0]
	policy.Ref, policy.Peer = 77, &mine
	cfg.Policies = append(cfg.Policies, &policy)
	r.in(core.Reconfigure{Config: cfg})

	said := func() message.Header {
		t.Helper()
		if len(r.sends) == 0 {
			t.Fatal("nothing was said")
		}
		h, err := message.ParseHeader(r.sends[len(r.sends)-1].Data)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	hear := func(v core.Version, spii, spir uint64, exchange message.ExchangeType) {
		m := message.Message{Header: message.Header{SPIi: spii, SPIr: spir, Version: uint8(v) << 4, Exchange: exchange}}
		r.in(core.Datagram{Local: rigAddr, Remote: puppetAddr, Data: m.Append(nil)})
	}
	h := said()
	if h.Major() != uint8(parrotVersion) || h.Exchange != 1 {
		t.Fatalf("we begin with %+v", h)
	}
	hear(parrotVersion, h.SPIi, 9, 2)
	sa := r.e.bySPI[h.SPIi]
	if sa == nil || sa.State != ikesa.Established || sa.Peer != &mine {
		t.Fatalf("not up: %v", sa)
	}
	n := len(r.sends)
	hear(core.IKEv2, h.SPIi, 9, message.ExchangeInformational)
	if got := r.events[len(r.events)-1].Reason; len(r.sends) != n || !strings.Contains(got, "version") {
		t.Errorf("a message of IKEv2 for it: %q", got)
	}

	r.pass(3300 * 1e9)
	again := said()
	if again.Exchange != 1 || again.SPIi == h.SPIi {
		t.Fatalf("not authenticated anew: %+v", again)
	}

	hear(parrotVersion, 5, 0, 1) // a stranger
	half := said()
	if got := r.e.bySPI[half.SPIr]; half.Exchange != 2 || got == nil || got.State != ikesa.HalfOpen || got.Peer != &mine {
		t.Fatalf("a stranger gets %+v", half)
	}
	hear(parrotVersion, 5, half.SPIr, 4)
	if said().Exchange != 5 || r.e.bySPI[half.SPIr] != nil {
		t.Fatal("not deleted")
	}
	n = len(r.sends)
	hear(parrotVersion, 5, half.SPIr, 4)
	if len(r.sends) != n+1 || string(r.sends[n].Data) != "\x05" {
		t.Error("the last answer is not repeated")
	}
	hear(1, 5, 0, 2) // older than all: no answer
	hear(4, 5, 0, 2)
	if len(r.sends) != n+2 || said().Major() != uint8(parrotVersion) {
		t.Errorf("a newer version gets %+v", said())
	}
}
