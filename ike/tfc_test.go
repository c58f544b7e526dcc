package ike

import (
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

func padded(c *core.Config) { c.Policies[0].Proposal.TFC = 1200 }

// newest is the CHILD SA that was installed last.
func (r *rig) newest() (k *child) {
	for _, x := range r.children {
		if k == nil || x.Child > k.Child {
			k = x
		}
	}
	return k
}

// ESP_TFC_PADDING_NOT_SUPPORTED (RFC 7296 §1.3.1), in the request or the response,
// is of the CHILD SA beside it: we pad nothing on that one, and on others we do.
// We never say it.
func TestTFCPaddingNotSupported(t *testing.T) {
	unpadded := note(message.NotifyESPTFCPaddingNotSupported)
	for name, c := range map[string]struct {
		said []message.Payload
		want int
	}{
		"said":     {[]message.Payload{unpadded}, 0},
		"not said": {nil, 1200},
	} {
		t.Run(name+" in our IKE_AUTH's response", func(t *testing.T) {
			r := newRig(t, initiates, padded)
			p := newPuppet(r, 1)
			p.acceptInit()
			h, ps := p.asked(message.ExchangeIKEAuth)
			says(t, ps, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr")
			p.answer(h, p.authPayloads(append(c.said, p.childAnswer()...)...)...)
			if k := r.newest(); k == nil || k.TFC != c.want {
				t.Errorf("%+v", k)
			}
		})
		t.Run(name+" in the peer's IKE_AUTH", func(t *testing.T) {
			r := newRig(t, padded)
			p := newPuppet(r, 1)
			p.init()
			says(t, p.auth(p.authPayloads(append(c.said, p.childOffer()...)...)...), "IDr AUTH SA TSi TSr")
			if k := r.newest(); k == nil || k.TFC != c.want {
				t.Errorf("%+v", k)
			}
			// In CREATE_CHILD_SA it is asked anew.
			for _, again := range []bool{true, false} {
				offer, want := append(p.childOffer(), nonce(7)), 1200
				if again {
					offer, want = append(offer, unpadded), 0
				}
				says(t, p.request(message.ExchangeCreateChildSA, offer...), "SA Nonce TSi TSr")
				if k := r.newest(); k.TFC != want {
					t.Errorf("again %v: %+v", again, k)
				}
			}
		})
		t.Run(name+" in the response to our rekey", func(t *testing.T) {
			r, p := settled(t, initiates, padded)
			r.in(core.Command{Do: core.FlushSAs})
			h, _ := p.asked(message.ExchangeInformational)
			p.answer(h, deleteESP(p.spi))
			r.pass(2 * time.Second)
			h, ps := p.asked(message.ExchangeCreateChildSA)
			says(t, ps, "SA Nonce TSi TSr")
			p.answer(h, append(append(p.childAnswer(), nonce(7)), c.said...)...)
			if k := r.newest(); k == nil || k.TFC != c.want {
				t.Errorf("%+v", k)
			}
		})
	}
}

// With several key exchanges the CHILD SA is made a message later than it is agreed on.
func TestTFCPaddingNotSupportedMultiKE(t *testing.T) {
	r := newRig(t, pfs("x25519+ml-kem-768"), padded)
	p := newPuppet(r, 1)
	p.init()
	says(t, p.auth(p.authPayloads()...), "IDr AUTH")
	offer := append(p.pfsOffer(extraKE(groupESP, 36), 0, 1), note(message.NotifyESPTFCPaddingNotSupported))
	in := p.request(message.ExchangeCreateChildSA, offer...)
	says(t, in, multiAnswer)
	says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
	if k := r.newest(); k == nil || k.TFC != 0 {
		t.Errorf("%+v", k)
	}
}

// Padding is for tunnels of ESP: transport mode and AH have none. One side may pad
// and the other not.
func TestTFCOnlyInESPTunnels(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*core.Policy)
		want   int
	}{
		"tunnel":    {func(*core.Policy) {}, 1200},
		"transport": {func(p *core.Policy) { p.Tunnel = false }, 0},
		"AH": {func(p *core.Policy) {
			p.Protocol, p.Proposal.Integs = core.ProtoAH, []*suite.Integ{suite.IntegByName("sha256")}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 1, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				c.change(a.Policies[0])
				c.change(b.Policies[0])
				padded(a)
			})
			p.up()
			p.clock.Run(p.clock.Now().Add(5 * time.Second))
			for side, want := range map[*side]int{p.a: c.want, p.b: 0} {
				if len(side.children) == 0 {
					t.Fatalf("%s has no CHILD SA", side.name)
				}
				for _, k := range side.children {
					if k.TFC != want {
						t.Errorf("%s pads to %d, want %d", side.name, k.TFC, want)
					}
				}
			}
		})
	}
}
