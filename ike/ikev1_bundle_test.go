package ike

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// ahWithESP has the policies of a pair want AH around ESP.
func ahWithESP(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		p := c.Policies[0]
		p.AH = true
		p.Proposal.Encrs, p.Proposal.Integs = []*suite.Encr{suite.EncrByName("aes-128-cbc")}, []*suite.Integ{suite.IntegByName("sha256"), suite.IntegByName("sha1")}
	}
}

func ahWithESPRig(c *core.Config) { inMainMode(c, c); ahWithESP(c, c) }

func withPFS(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		c.Policies[0].Proposal.PFS = []suite.KeyExchange{{Group: suite.GroupByName("ecp256")}}
	}
}

// bundled checks that what seals is AH around ESP, with four SPIs and four keys of integrity.
func (p *pair) bundled() {
	p.t.Helper()
	a, b := p.a.outbound(), p.b.outbound()
	if a.AH.Integ != suite.IntegByName("sha256") || a.Integ != suite.IntegByName("sha256") || a.AH.In.SPI == 0 || a.AH.In.SPI == a.In.SPI ||
		a.AH.Out.SPI != b.AH.In.SPI || a.AH.Out.SPI == a.Out.SPI || a.AH.Out.IntegKey.Equal(a.Out.IntegKey) || a.AH.Out.IntegKey.Equal(a.AH.In.IntegKey) {
		p.t.Fatalf("%+v\n%+v", a.Install, b.Install)
	}
	p.works()
}

// AH with ESP is negotiated, goes through rekeys of both phases by either end, and ends as one.
func TestAHWithESP(t *testing.T) {
	for name, change := range map[string]func(a, b *core.Config){"plain": func(_, _ *core.Config) {}, "PFS": withPFS} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 1, quick, inMainMode, bPassive, ahWithESP, change)
			p.b.spi = 0x2000 // else both ends take the same SPIs, and have the same keys
			p.up()
			p.until(5*time.Second, "up", p.bothUp)
			p.bundled()
			if e := p.a.event(core.EvChildUp); !strings.Contains(e.Reason, "within AH sha256, in "+fmt.Sprintf("%08x", p.a.outbound().AH.In.SPI)) {
				t.Errorf("%q", e.Reason)
			}
			for _, s := range []*side{p.a, p.b} {
				old := s.outbound()
				s.in(core.Command{Do: core.RekeyChildren})
				p.run(time.Second)
				if s.outbound().AH.In.SPI == old.AH.In.SPI || s.outbound().AH.In.IntegKey.Equal(old.AH.In.IntegKey) {
					t.Fatalf("%s: AH is not rekeyed", s.name)
				}
				p.bundled()
			}
			child := p.a.outbound().Child
			p.a.in(core.Command{Do: core.RekeyIKE})
			p.run(10 * time.Second)
			if sas := p.a.e.SAs(); len(sas) != 1 || p.a.count(core.EvIKEUp) != 2 || p.a.outbound().Child != child {
				t.Errorf("%v", sas)
			}
			p.bundled()
			p.run(3 * time.Hour)
			p.bundled()
			if n := len(p.a.children); n > 3 || len(p.a.lost)+len(p.b.lost) > 0 || p.a.count(core.EvChildDown) > 0 {
				t.Errorf("%d CHILD SAs, lost %v %v", n, p.a.lost, p.b.lost)
			}
			p.b.in(core.Command{Do: core.FlushSAs})
			p.run(100 * time.Millisecond)
			if p.a.count(core.EvChildDown) == 0 || p.b.outbound() != nil {
				t.Errorf("%+v", p.b.outbound())
			}
			p.until(time.Minute, "up again", p.bothUp)
			p.bundled()
			p.run(10 * time.Second) // what was under way when the old ones ended is opened for a while
			p.a.in(core.Command{Do: core.Shutdown})
			p.run(5 * time.Second) // what b deletes is heard for a moment
			if !p.a.e.Idle() || !p.b.e.Idle() || len(p.a.children)+len(p.b.children) > 0 {
				t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
			}
		})
	}
}

// Each message is lost, doubled or late: the same comes up.
func TestAHWithESPMessagesLostDoubledLate(t *testing.T) {
	for _, fate := range []string{"lost", "doubled", "late"} {
		for n := 6; n < 9; n++ {
			p := newPair(t, 1, quick, inMainMode, bPassive, ahWithESP)
			p.b.spi = 0x2000
			p.meets(fate, n)
			p.up()
			p.until(20*time.Second, "up", p.bothUp)
			p.run(90 * time.Second)
			p.bundled()
			if len(p.a.children) != 1 || len(p.b.children) != 1 {
				t.Errorf("%s %d: %d and %d CHILD SAs", fate, n, len(p.a.children), len(p.b.children))
			}
		}
	}
}

// One end wants both and the other one of them, or AH with another algorithm: nobody gets a CHILD SA, and it is said why.
func TestAHWithESPAtOneEnd(t *testing.T) {
	ownTable := func(c *core.Config, change func(p *core.Policy)) {
		p := *c.Policies[0]
		change(&p)
		c.Policies[0] = &p
	}
	for _, c := range []struct {
		name   string
		change func(a, b *core.Config)
		part   string
		hint   string
	}{
		{"ESP alone is wanted", func(_, b *core.Config) { ownTable(b, func(p *core.Policy) { p.AH = false }) }, "protocol", "we allow ESP, the peer offers AH with ESP"},
		{"ESP alone is offered", func(a, _ *core.Config) { ownTable(a, func(p *core.Policy) { p.AH = false }) }, "protocol", "we allow AH with ESP, the peer offers ESP"},
		{"AH alone is offered", func(a, _ *core.Config) {
			ownTable(a, func(p *core.Policy) { p.AH, p.Protocol = false, core.ProtoAH })
		}, "protocol", "we allow AH with ESP, the peer offers AH"},
		{"another integrity", func(_, b *core.Config) {
			ownTable(b, func(p *core.Policy) { p.Proposal.Integs = []*suite.Integ{suite.IntegByName("sha512")} })
		}, "integrity", "we allow sha512, the peer offers sha256"},
	} {
		p := newPair(t, 1, quick, inMainMode, bPassive, ahWithESP, c.change)
		p.up()
		p.run(5 * time.Second)
		e := p.b.event(core.EvNoProposal)
		if e.Detail == nil || e.Detail.Part != c.part || !strings.Contains(e.Detail.Hint, c.hint) || len(p.a.children)+len(p.b.children) > 0 {
			t.Errorf("%s: %+v", c.name, e.Detail)
		}
		if n := len(p.a.e.SAs()); n != 1 {
			t.Errorf("%s: %d IKE SAs", c.name, n)
		}
	}
}

// bundleOf are proposals of AH and ESP, which are to be used together.
func bundleOf(ah, esp uint32, changes ...func(ah, esp *isakmp.Phase2)) []isakmp.Proposal {
	sha, cbc := suite.IntegByName("sha256"), suite.EncrByName("aes-128-cbc")
	a := isakmp.Phase2{Encapsulation: isakmp.EncapTunnel, Auth: sha.V1.ESP, Life: isakmp.Lifetime{Seconds: 1800}}
	e := isakmp.Phase2{Encapsulation: isakmp.EncapTunnel, Auth: sha.V1.ESP, KeyBits: 128, Life: isakmp.Lifetime{Seconds: 1800}}
	for _, f := range changes {
		f(&a, &e)
	}
	return []isakmp.Proposal{
		{Number: 1, Protocol: isakmp.ProtoAH, SPI: u32(ah), Transforms: []isakmp.Transform{{Number: 1, ID: sha.V1.AH, Attributes: a.Attributes()}}},
		{Number: 1, Protocol: isakmp.ProtoESP, SPI: u32(esp), Transforms: []isakmp.Transform{{Number: 1, ID: cbc.V1.ESP, Attributes: e.Attributes()}}},
	}
}

// A peer offers AH with ESP, in either order. The answer has both as they came, the keys are those of RFC 2409 §5.5, each over
// its own protocol and SPI, and a DELETE of either ends both.
func TestAHWithESPOfAPeer(t *testing.T) {
	transportAH := func(ah, _ *isakmp.Phase2) { ah.Encapsulation = isakmp.EncapTransport }
	for _, first := range []uint8{isakmp.ProtoAH, isakmp.ProtoESP} {
		for _, deletes := range []struct {
			protocol uint8
			spi      func(k *child) uint32
		}{
			{isakmp.ProtoAH, func(*child) uint32 { return 0xc0000001 }},
			{isakmp.ProtoESP, func(*child) uint32 { return 0xc0000002 }},
			{isakmp.ProtoAH, func(k *child) uint32 { return k.AH.In.SPI }}, // ours, as Cisco says it
			{isakmp.ProtoESP, func(k *child) uint32 { return k.In.SPI }},
		} {
			r := newRig(t, ahWithESPRig)
			p := newPuppet1(r, 1)
			p.main()
			p.offers = bundleOf(0xc0000001, 0xc0000002, transportAH)
			if first == isakmp.ProtoESP {
				slices.Reverse(p.offers)
			}
			p.nextID++
			raw, iv := p.quick1(p.nextID, 0)
			m := p.ask(raw)
			again := bytes.Clone(iv)
			var chosen *isakmp.SA
			var nr []byte
			for _, x := range p.open(m, &again).Payloads {
				switch x := x.(type) {
				case *isakmp.SA:
					chosen = x
				case *isakmp.Nonce:
					nr = x.Data
				}
			}
			p.say(p.quick3(p.nextID, iv, m))
			k := r.children[1]
			if k == nil || !k.active {
				t.Fatalf("no CHILD SA: %s", r.reasons())
			}
			for i, q := range chosen.Proposals {
				want := p.offers[i]
				want.SPI = u32(k.In.SPI)
				if want.Protocol == isakmp.ProtoAH {
					want.SPI = u32(k.AH.In.SPI)
				}
				if fmt.Sprint(q) != fmt.Sprint(want) {
					t.Errorf("%v was answered with %v", want, q)
				}
			}
			key := func(protocol uint8, spi uint32, n int) []byte {
				k1 := mac(p.d, []byte{protocol}, u32(spi), p.ni, nr)
				return append(k1, mac(p.d, k1, []byte{protocol}, u32(spi), p.ni, nr)...)[:n]
			}
			espOut, espIn := key(3, 0xc0000002, 48), key(3, k.In.SPI, 48)
			for _, c := range []struct{ got, want []byte }{
				{k.AH.Out.IntegKey, key(2, 0xc0000001, 32)}, {k.AH.In.IntegKey, key(2, k.AH.In.SPI, 32)},
				{k.Out.EncKey, espOut[:16]}, {k.Out.IntegKey, espOut[16:]}, {k.In.EncKey, espIn[:16]}, {k.In.IntegKey, espIn[16:]},
			} {
				if !bytes.Equal(c.got, c.want) {
					t.Errorf("the key is %x, want %x", c.got, c.want)
				}
			}
			wrong := &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: 5 - deletes.protocol, SPIs: [][]byte{u32(deletes.spi(k))}}
			if p.inform(wrong); len(r.children) != 1 {
				t.Errorf("the SPI of protocol %d was deleted as one of the other", deletes.protocol)
			}
			right := &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: deletes.protocol, SPIs: [][]byte{u32(deletes.spi(k))}}
			if p.inform(right); len(r.children) != 0 {
				t.Errorf("%d CHILD SAs after a DELETE of protocol %d", len(r.children), deletes.protocol)
			}
		}
	}
}

// deletesSaid are those of the informational exchanges that the endpoint has begun, as "protocol SPI".
func (p *puppet1) deletesSaid() (list []string) {
	p.t.Helper()
	for _, s := range p.r.take() {
		m, err := isakmp.Parse(s.Data)
		if err != nil || m.Exchange != isakmp.ExchangeInformational {
			continue
		}
		iv := p.quickIV(m.ID)
		for _, x := range p.open(m, &iv).Payloads {
			if d, ok := x.(*isakmp.Delete); ok {
				for _, spi := range d.SPIs {
					list = append(list, fmt.Sprintf("%d %x", d.Protocol, spi))
				}
			}
		}
	}
	return list
}

// Both SAs are deleted at the peer, and of an SPI that nobody has it is not known which of both it is.
func TestAHWithESPIsDeletedAsBoth(t *testing.T) {
	r := newRig(t, ahWithESPRig)
	p := newPuppet1(r, 1)
	p.main()
	p.offers = bundleOf(0xc0000001, 0xc0000002)
	p.quick(0)
	k := r.children[1]
	if k == nil {
		t.Fatalf("no CHILD SA: %s", r.reasons())
	}
	r.take()
	r.in(core.UnknownSPI{Local: rigAddr, Remote: p.addr, SPI: 0x90000000})
	if got, want := p.deletesSaid(), []string{"3 90000000", "2 90000000"}; !slices.Equal(got, want) {
		t.Errorf("of an unknown SPI %q is said, want %q", got, want)
	}
	r.in(core.Command{Do: core.FlushSAs})
	want := []string{fmt.Sprintf("3 %08x", k.In.SPI), fmt.Sprintf("2 %08x", k.AH.In.SPI)}
	if got := p.deletesSaid(); len(got) < 2 || !slices.Equal(got[:2], want) {
		t.Errorf("%q is said at the end, want %q", got, want)
	}
}

// Both live as long as the one that is to live for less.
func TestAHWithESPLivesForTheLesser(t *testing.T) {
	for name, change := range map[string]func(ah, esp *isakmp.Phase2){
		"AH":  func(ah, _ *isakmp.Phase2) { ah.Life.Seconds = 600 },
		"ESP": func(_, esp *isakmp.Phase2) { esp.Life.Seconds = 600 },
	} {
		r := newRig(t, ahWithESPRig)
		p := newPuppet1(r, 1)
		p.main()
		p.offers = bundleOf(0xc0000001, 0xc0000002, change)
		if p.quick(0); len(r.children) != 1 {
			t.Fatalf("%s: no CHILD SA: %s", name, r.reasons())
		}
		for _, k := range r.children {
			if k.Hard != 10*time.Minute {
				t.Errorf("%s says 10 minutes, and the CHILD SA lives for %v", name, k.Hard)
			}
		}
	}
}

// Where only AH's algorithm differs, that is what is said.
func TestAHAloneDiffers(t *testing.T) {
	r := newRig(t, ahWithESPRig)
	p := newPuppet1(r, 1)
	p.main()
	sha512 := suite.IntegByName("sha512")
	p.offers = bundleOf(0xc0000001, 0xc0000002, func(ah, _ *isakmp.Phase2) { ah.Auth = sha512.V1.ESP })
	p.offers[0].Transforms[0].ID = sha512.V1.AH
	p.nextID++
	raw, _ := p.quick1(p.nextID, 0)
	p.say(raw)
	for _, e := range r.events {
		if e.Kind == core.EvNoProposal {
			d := e.Detail
			if d == nil || d.Part != "integrity" || !strings.Contains(d.Hint, "the peer offers sha512") || !slices.Contains(d.Theirs, "integrity of AH: sha512") {
				t.Errorf("%+v", d)
			}
			return
		}
	}
	t.Errorf("nothing is said: %s", r.reasons())
}

// Bundles that cannot be had are refused, and their SPIs go back.
func TestBundlesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		offers func() []isakmp.Proposal
	}{
		{"three protocols", func() []isakmp.Proposal {
			return append(bundleOf(0xc0000001, 0xc0000002), isakmp.Proposal{Number: 1, Protocol: 4, SPI: []byte{0, 2}})
		}},
		{"ESP twice", func() []isakmp.Proposal { l := bundleOf(0xc0000001, 0xc0000002); return []isakmp.Proposal{l[1], l[1]} }},
		{"AH twice", func() []isakmp.Proposal { l := bundleOf(0xc0000001, 0xc0000002); return []isakmp.Proposal{l[0], l[0]} }},
		{"an SPI of two bytes", func() []isakmp.Proposal { l := bundleOf(0xc0000001, 0xc0000002); l[0].SPI = []byte{1, 2}; return l }},
		{"a reserved SPI", func() []isakmp.Proposal { return bundleOf(255, 0xc0000002) }},
		{"AH in tunnel mode around transport mode", func() []isakmp.Proposal {
			return bundleOf(0xc0000001, 0xc0000002, func(_, esp *isakmp.Phase2) { esp.Encapsulation = isakmp.EncapTransport })
		}},
		{"AH in UDP", func() []isakmp.Proposal {
			return bundleOf(0xc0000001, 0xc0000002, func(ah, _ *isakmp.Phase2) { ah.Encapsulation = isakmp.EncapUDPTransport })
		}},
		{"another group", func() []isakmp.Proposal {
			return bundleOf(0xc0000001, 0xc0000002, func(ah, _ *isakmp.Phase2) { ah.Group = 19 })
		}},
		{"AH that says two algorithms", func() []isakmp.Proposal {
			return bundleOf(0xc0000001, 0xc0000002, func(ah, _ *isakmp.Phase2) { ah.Auth = suite.IntegByName("sha1").V1.ESP })
		}},
	} {
		r := newRig(t, ahWithESPRig)
		p := newPuppet1(r, 1)
		p.main()
		p.offers = c.offers()
		p.nextID++
		raw, _ := p.quick1(p.nextID, 0)
		if p.say(raw); len(r.children) > 0 || r.count(core.EvNoProposal) == 0 {
			t.Errorf("%s: %s", c.name, r.reasons())
		}
		p.offers = bundleOf(0xc0000001, 0xc0000002)
		if p.quick(0); len(r.children) != 1 {
			t.Errorf("%s: no CHILD SA after it: %s", c.name, r.reasons())
		}
	}
}

// As initiator both are offered under one number, and only both will do.
func TestAHWithESPAsked(t *testing.T) {
	for _, c := range []struct {
		name   string
		choose func(l []isakmp.Proposal) []isakmp.Proposal
		up     bool
	}{
		{"both", func(l []isakmp.Proposal) []isakmp.Proposal { return l }, true},
		{"both the other way round", func(l []isakmp.Proposal) []isakmp.Proposal { slices.Reverse(l); return l }, true},
		{"ESP", func(l []isakmp.Proposal) []isakmp.Proposal { return l[1:] }, false},
		{"AH", func(l []isakmp.Proposal) []isakmp.Proposal { return l[:1] }, false},
		{"as alternatives", func(l []isakmp.Proposal) []isakmp.Proposal { l[1].Number = 2; return l }, false},
		{"a reserved SPI of AH", func(l []isakmp.Proposal) []isakmp.Proposal { l[0].SPI = u32(9); return l }, false},
	} {
		p := newCallee1(t, ahWithESPRig)
		p.main()
		q := p.asked()
		var list []isakmp.Proposal
		for i, o := range q.offers() {
			if o.Number != 1 || o.Protocol != []uint8{isakmp.ProtoAH, isakmp.ProtoESP}[i] || len(o.Transforms) != 2 {
				t.Fatalf("offered: %+v", o)
			}
			o.Transforms, o.SPI = o.Transforms[:1], u32(0xc0000001+uint32(i))
			list = append(list, o)
		}
		own := len(p.r.freed)
		p.choose(0, c.choose(list), q.theIDs()...)
		if up := len(p.r.children) == 1; up != c.up {
			t.Errorf("%s: %s", c.name, p.r.reasons())
		}
		if !c.up && len(p.r.freed) != own+2 {
			t.Errorf("%s: %d SPIs are given back, not 2", c.name, len(p.r.freed)-own)
		}
	}
}
