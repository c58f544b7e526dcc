package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// reflect sends everything that the endpoint says back to it, from where it was
// said to, for as long as it takes to connect.
func (r *rig) reflect() {
	r.t.Helper()
	for range 40 {
		out := r.take()
		for _, s := range out {
			r.in(core.Datagram{Local: s.Local, Remote: s.Remote, NATT: s.NATT, Data: bytes.Clone(s.Data)})
		}
		if len(out) == 0 {
			r.pass(300 * time.Millisecond)
		}
		if r.established() > 0 {
			r.t.Errorf("the endpoint is connected with itself: %s", r.reasons())
			return
		}
		for _, sa := range r.e.SAs() {
			if !sa.Initiator {
				r.t.Errorf("the endpoint answers itself: %+v", sa)
				return
			}
		}
	}
	if !strings.Contains(r.reasons(), "was sent back") {
		r.t.Errorf("events %s", r.reasons())
	}
}

// With a pre-shared key, whoever returns to us what we say would let us prove to
// ourselves who the peer is. Our own request is taken for nobody's, also
// where newcomers are sent elsewhere and where a ticket is presented.
func TestReflection(t *testing.T) {
	wide := selector.FromPrefix(netip.MustParsePrefix("10.0.0.0/8"))
	for name, change := range map[string]func(*core.Config){
		"two networks": func(*core.Config) {},
		"one network":  func(c *core.Config) { c.Policies[0].Pair = selector.Pair{Local: wide, Remote: wide} },
		"redirect": func(c *core.Config) {
			c.Redirects = map[string]core.Redirect{"b": {To: core.Gateway{Addr: netip.MustParseAddr("192.0.2.9")}}}
		},
	} {
		t.Run(name, func(t *testing.T) { newRig(t, initiates, change).reflect() })
	}
	t.Run("a ticket", func(t *testing.T) {
		r, p := clientOf(t, lifeTicket(86400, "ticket"))
		p.dies()
		r.reflect()
	})
}

// On the way back the header was changed, or only the nonce or the key exchange is
// ours. Nothing is kept and nothing is said.
func TestReflectionOfAPart(t *testing.T) {
	for name, change := range map[string]func(p *puppet, ours []message.Payload) (uint64, []message.Payload){
		"SPI": func(p *puppet, ours []message.Payload) (uint64, []message.Payload) { return p.spii, nil },
		"nonce": func(p *puppet, ours []message.Payload) (uint64, []message.Payload) {
			return 7, []message.Payload{findPayload[*message.Nonce](ours)}
		},
		"key exchange": func(p *puppet, ours []message.Payload) (uint64, []message.Payload) {
			return 7, []message.Payload{findPayload[*message.KE](ours)}
		},
		"nothing": func(p *puppet, ours []message.Payload) (uint64, []message.Payload) { return 7, nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, initiates)
			p := newPuppet(r, 1)
			_, ours := p.called()
			spi, parts := change(p, ours)
			ps := []message.Payload{saOf(ikeProposal), &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()}, nonce(3)}
			for _, x := range parts {
				for i := range ps {
					if ps[i].Type() == x.Type() {
						ps[i] = x
					}
				}
			}
			m := message.Message{Header: message.Header{SPIi: spi, Version: 0x20, Exchange: message.ExchangeIKESAInit, Flags: message.FlagInitiator}, Payloads: ps}
			r.datagram(puppetAddr, m.Append(nil))
			if name == "nothing" { // of ours: somebody else's
				r.one()
				return
			}
			r.silent("our own " + name)
			if n := len(r.e.SAs()); n != 1 || !strings.Contains(r.event(core.EvBadMessage).Reason, "was sent back") {
				t.Errorf("%d IKE SAs; %s", n, r.reasons())
			}
			// The peer itself is heard all the same.
			p.spir, p.nr = 0x2222222222222222, bytes.Repeat([]byte{9}, 32)
			p.agree(ours, &p.ni)
			p.derive(mac(append(bytes.Clone(p.ni), p.nr...), p.shared))
			p.replyInit(p.spir, p.initPayloads()...)
			p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
			h, _ := p.asked(message.ExchangeIKEAuth)
			p.answer(h, p.authPayloads(p.childAnswer()...)...)
			if r.established() != 1 {
				t.Errorf("%d IKE SAs up; %s", r.established(), r.reasons())
			}
		})
	}
}

// The same of a request that presents a ticket.
func TestReflectionOfAResumption(t *testing.T) {
	r, p := clientOf(t, lifeTicket(86400, "ticket"))
	p.dies()
	p.r.sends = p.r.sends[:min(1, len(p.r.sends))]
	_, ours := p.open(r.one().Data)
	for _, n := range []*message.Nonce{findPayload[*message.Nonce](ours), nonce(3)} {
		m := message.Message{Header: message.Header{SPIi: 7, Version: 0x20, Exchange: message.ExchangeSessionResume, Flags: message.FlagInitiator},
			Payloads: []message.Payload{n, ticketNotify([]byte("ticket"))}}
		r.datagram(puppetAddr, m.Append(nil))
		if n.Data[0] == 3 { // somebody else's
			r.one()
			continue
		}
		r.silent("our own nonce")
		if e := r.event(core.EvBadMessage); !strings.Contains(e.Reason, "was sent back") {
			t.Errorf("the event says %q", e.Reason)
		}
	}
}

// A peer that has proved who it is begins something with the SPI, the nonce or the
// key exchange of what we are beginning: it is refused, and ours goes on.
func TestRekeyWithWhatIsOurs(t *testing.T) {
	x25519 := *suite.KeyExchangeByName("x25519")
	pfs := func(c *core.Config) { c.Policies[0].Proposal.PFS = []suite.KeyExchange{x25519} }
	for _, do := range []core.CommandKind{core.RekeyIKE, core.RekeyChildren} {
		for _, part := range []string{"nothing", "nonce", "key exchange", "SPI"} {
			if part == "SPI" && do == core.RekeyChildren { // those of CHILD SAs are each end's own
				continue
			}
			t.Run(fmt.Sprint(do, " ", part), func(t *testing.T) {
				r, p := settled(t, pfs)
				r.in(core.Command{Do: do})
				h, ours := p.asked(message.ExchangeCreateChildSA)
				var n, ke message.Payload = nonce(3), p.ke()
				spi := u64(0xaaaa)
				switch part {
				case "nonce":
					n = findPayload[*message.Nonce](ours)
				case "key exchange":
					ke = findPayload[*message.KE](ours)
				case "SPI":
					spi = findPayload[*message.SA](ours).Proposals[0].SPI
				}
				esp := withSPI(espProposal, u32(0xc0ffee00))
				esp.Transforms = append([]message.Transform{{Type: 4, ID: 31}}, esp.Transforms...)
				theirs := []message.Payload{saOf(withSPI(ikeProposal, spi)), n, ke}
				answer := []message.Payload{saOf(withSPI(ikeProposal, u64(0xbbbb))), nonce(4), p.ke()}
				if do == core.RekeyChildren {
					theirs = []message.Payload{rekeySA(p.spi), saOf(esp), n, ke, ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")}
					answer = []message.Payload{saOf(esp), nonce(4), p.ke(), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")}
				}
				in := p.request(message.ExchangeCreateChildSA, theirs...)
				if part == "nothing" { // a collision like any other
					if findPayload[*message.SA](in) == nil {
						t.Errorf("the endpoint says %q; %s", describe(in), r.reasons())
					}
					return
				}
				says(t, in, "N(INVALID_SYNTAX)")
				if e := r.event(core.EvNotify); !strings.Contains(e.Reason, "was sent back") {
					t.Errorf("the event says %q", e.Reason)
				}
				p.answer(h, answer...)
				if r.count(core.EvIKERekeyed)+r.count(core.EvChildRekeyed) != 1 {
					t.Errorf("our own rekey came to nothing: %s", r.reasons())
				}
			})
		}
	}
}

// What is ours is forgotten with the answer, and with the IKE SA.
func TestNothingOfOursIsKept(t *testing.T) {
	r, p := settled(t)
	r.in(core.Command{Do: core.RekeyIKE})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	if n := len(r.e.env.Own); n != 3 {
		t.Errorf("%d things are ours while a rekey is under way, not SPI, nonce and key exchange", n)
	}
	p.answer(h, note(message.NotifyTemporaryFailure))
	if n := len(r.e.env.Own); n != 0 {
		t.Errorf("%d things are ours after the answer", n)
	}
	r = newRig(t, initiates)
	if n := len(r.e.env.Own); n != 2 {
		t.Errorf("%d things are ours while we connect, not nonce and key exchange", n)
	}
	r.in(core.Command{Do: core.KillAll})
	if n := len(r.e.env.Own); n != 0 || !r.e.Idle() {
		t.Errorf("%d things are ours after the end", n)
	}
}

// Whoever says that it is who we are, and proves it by the secret that we have, may
// be ourselves. Both roles refuse it where my-id is written and is not an address:
// behind NATs two sites may have the same one.
func TestWhoSaysThatItIsUs(t *testing.T) {
	us, key := fqdn("gw.example.net"), core.ID{Type: core.IDKeyID, Data: "branch"}
	address := core.ID{Type: core.IDIPv4, Data: string(netip.MustParseAddr("192.168.1.1").AsSlice())}
	for name, c := range map[string]struct {
		my, id  core.ID
		refused bool
	}{
		"the name that is written":    {us, us, true},
		"… in other letters":          {us, fqdn("GW.example.NET"), true},
		"another name":                {us, fqdn("b.example.net"), false},
		"the key-id that is written":  {key, key, true},
		"the address that is written": {address, address, false},
		"the address that is not":     {core.ID{}, core.ID{Type: core.IDIPv4, Data: string(rigAddr.Addr().AsSlice())}, false},
	} {
		t.Run(name, func(t *testing.T) {
			judge := func(r *rig) {
				t.Helper()
				if up := r.established() == 1; up == c.refused {
					t.Errorf("it is up: %v; %s", up, r.reasons())
				}
				if c.refused && !strings.Contains(r.event(core.EvAuthFailed).Reason, "our own my-id") {
					t.Errorf("the event says %q", r.event(core.EvAuthFailed).Reason)
				}
			}
			my := func(cfg *core.Config) { cfg.Peers[0].Identities[0].MyID = c.my }
			r := newRig(t, my)
			p := newPuppet(r, 1)
			p.id = c.id
			p.connect()
			judge(r)

			r = newRig(t, my, initiates)
			p = newPuppet(r, 1)
			p.id = c.id
			p.acceptInit()
			h, _ := p.asked(message.ExchangeIKEAuth)
			p.answer(h, p.authPayloads(p.childAnswer()...)...)
			judge(r)
		})
	}
}
