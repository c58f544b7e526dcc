package ike

import (
	"bytes"
	"crypto/mlkem"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
	"culvert/internal/testing/simnet"
)

const hybrid = "x25519+ml-kem-768"

// extraKE adds an additional key exchange to a proposal.
func extraKE(p message.Proposal, ids ...uint16) message.Proposal {
	p.Transforms = append([]message.Transform{}, p.Transforms...)
	for i, id := range ids {
		p.Transforms = append(p.Transforms, message.Transform{Type: suite.TypeAddKE1 + suite.TransformType(i), ID: id})
	}
	return p
}

var (
	groupESP  = withGroup(espProposal, 31)
	hybridESP = extraKE(groupESP, 36)
)

// kemKey is the puppet's key pair of ML-KEM 768.
func kemKey(t testing.TB) *mlkem.DecapsulationKey768 {
	t.Helper()
	d, err := mlkem.NewDecapsulationKey768(bytes.Repeat([]byte{7}, 64))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (p *puppet) ke() *message.KE { return &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()} }

func (p *puppet) kemOffer() *message.KE {
	return &message.KE{Group: 36, Data: kemKey(p.t).EncapsulationKey().Bytes()}
}

// kemAnswer is the answer to the endpoint's additional key exchange.
func (p *puppet) kemAnswer(in []message.Payload) *message.KE {
	p.t.Helper()
	e, err := mlkem.NewEncapsulationKey768(findPayload[*message.KE](in).Data)
	if err != nil {
		p.t.Fatal(err)
	}
	_, c := e.Encapsulate()
	return &message.KE{Group: 36, Data: c}
}

func link(b ...byte) *message.Notify {
	return &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: b}
}

func linkOf(t testing.TB, in []message.Payload) *message.Notify {
	t.Helper()
	n := findNotify(in, message.NotifyAdditionalKeyExchange)
	if n == nil {
		t.Fatalf("no link in %q", describe(in))
	}
	return link(bytes.Clone(n.Data)...)
}

// pfsOffer is our CREATE_CHILD_SA request with a key exchange of its own; old, if
// not 0, is what it replaces.
func (p *puppet) pfsOffer(prop message.Proposal, old uint32, n byte) []message.Payload {
	p.spi++
	ps := []message.Payload{saOf(withSPI(prop, u32(p.spi))), nonce(n), p.ke(), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")}
	if old != 0 {
		ps = append([]message.Payload{rekeySA(old)}, ps...)
	}
	return ps
}

// pfsAnswer is our answer to such a request of the endpoint.
func (p *puppet) pfsAnswer(prop message.Proposal, n byte, more ...message.Payload) []message.Payload {
	p.spi++
	return append([]message.Payload{saOf(withSPI(prop, u32(p.spi))), nonce(n), p.ke(), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")}, more...)
}

// parked is how much of the peer's waits for IKE_FOLLOWUP_KE.
func parked(r *rig) (n int) {
	for _, sa := range r.e.bySPI {
		n += sa.Protocol.(*v2.SA).Waiting()
	}
	return n
}

const (
	singleAnswer = "SA Nonce KE TSi TSr"
	multiAnswer  = "SA Nonce KE TSi TSr N(ADDITIONAL_KEY_EXCHANGE)"
	multiRekey   = "N(REKEY_SA) SA Nonce KE TSi TSr"
	followUp     = "KE N(ADDITIONAL_KEY_EXCHANGE)"
)

// What two proposals agree on for CHILD SAs that are made and rekeyed in
// CREATE_CHILD_SA: the number of IKE_FOLLOWUP_KE of each, or -1 where nothing fits.
func TestChildKeyExchanges(t *testing.T) {
	both := "x25519+ml-kem-768+ml-kem-1024"
	for i, c := range []struct {
		a, b []string
		n    int
	}{
		{[]string{hybrid}, []string{hybrid}, 1},
		{[]string{"modp2048+ml-kem-1024"}, []string{"modp2048+ml-kem-1024"}, 1},
		{[]string{both}, []string{both}, 2},
		{[]string{hybrid, "x25519"}, []string{"x25519"}, 0},
		{[]string{"x25519"}, []string{hybrid, "x25519"}, 0},
		{[]string{hybrid, "ecp256"}, []string{"ecp256"}, 0}, // INVALID_KE_PAYLOAD, and again
		{[]string{"modp2048", "ecp256", hybrid}, []string{hybrid}, 1},
		{[]string{"x25519", "ecp256"}, []string{"ecp256", "x25519"}, 0},
		{nil, nil, 0},
		{[]string{hybrid}, []string{"x25519"}, -1},
		{[]string{"x25519"}, []string{hybrid}, -1},
		{[]string{hybrid}, nil, -1},
		{[]string{"x25519"}, []string{"ecp256"}, -1},
	} {
		t.Run(strings.Join(c.a, ",")+"/"+strings.Join(c.b, ","), func(t *testing.T) {
			p := newPair(t, uint64(500+i), simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
				pfs(c.a...)(a)
				pfs(c.b...)(b)
				b.Peers[0].Passive = true
			})
			p.askDelay = 3 * time.Millisecond
			p.up()
			p.until(2*time.Second, "up", p.bothUp)
			p.run(time.Second)
			p.a.in(core.Command{Do: core.RekeyChildren}) // the first CHILD SA has no key exchange of its own
			p.run(time.Second)
			if c.n < 0 {
				if p.a.count(core.EvChildRekeyed) != 0 || p.b.count(core.EvNoProposal) == 0 {
					t.Fatalf("a: %v, b: %v", p.a.events, p.b.events)
				}
				for _, e := range p.b.events {
					if e.Kind == core.EvNoProposal && (e.Detail == nil || !strings.Contains(e.Detail.Hint, "pfs-group") || len(e.Detail.Ours) == 0 || len(e.Detail.Theirs) == 0) {
						t.Errorf("the detail is %+v", e.Detail)
					}
				}
				return
			}
			p.b.in(core.Command{Do: core.RekeyChildren})
			p.run(time.Second)
			p.a.in(core.Command{Do: core.FlushSAs})
			p.until(10*time.Second, "up again", p.bothUp)
			p.run(6 * time.Second)
			p.a.esp()
			p.b.esp()
			p.run(time.Second)
			if p.a.opened != 1 || p.b.opened != 1 || len(p.a.lost)+len(p.b.lost) > 0 || len(p.a.children) != 1 {
				t.Errorf("opened %d and %d, %d CHILD SAs: %v %v", p.a.opened, p.b.opened, len(p.a.children), p.a.lost, p.b.lost)
			}
			n := 0
			for _, s := range []*side{p.a, p.b} {
				for _, h := range s.sent {
					if h.Exchange == message.ExchangeFollowUpKE && !h.Response() {
						n++
					}
				}
				if s.count(core.EvChildRekeyed) != 2 {
					t.Errorf("%s: %d rekeys", s.name, s.count(core.EvChildRekeyed))
				}
			}
			if n != 3*c.n {
				t.Errorf("%d IKE_FOLLOWUP_KE, not %d", n, 3*c.n)
			}
		})
	}
}

// Every message of a rekey with two additional key exchanges is lost once.
func TestChildFollowUpLosses(t *testing.T) {
	total := 0
	for lose := 0; lose == 0 || lose < total; lose++ {
		p := newPair(t, 600, simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
			for _, c := range []*core.Config{a, b} {
				pfs("x25519+ml-kem-768+ml-kem-1024")(c)
			}
			b.Peers[0].Passive = true
		})
		p.askDelay = 3 * time.Millisecond
		p.up()
		p.until(2*time.Second, "up", p.bothUp)
		p.run(time.Second)
		n := 0
		p.drop = func(from *side, h message.Header) bool {
			n++
			return n-1 == lose
		}
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.run(20 * time.Second)
		if p.a.count(core.EvChildRekeyed) != 1 || p.b.count(core.EvChildRekeyed) != 1 || len(p.a.children) != 1 || len(p.b.children) != 1 {
			t.Fatalf("message %d lost: a %v, b %v", lose, p.a.events, p.b.events)
		}
		p.a.esp()
		p.b.esp()
		p.run(time.Second)
		if p.a.opened != 1 || p.b.opened != 1 {
			t.Errorf("message %d lost: opened %d and %d", lose, p.a.opened, p.b.opened)
		}
		if lose == 0 {
			total = n
		}
	}
	if total < 8 {
		t.Errorf("only %d messages", total)
	}
}

// A CHILD SA with an additional key exchange whose keys are from the words of
// RFC 9370 §2.2.4:
//
//	KEYMAT = prf+(SK_d, SK(0) | Ni | Nr | SK(1))
func TestChildFollowUpOfTheRFC(t *testing.T) {
	r, p := settled(t, pfs(hybrid))
	// SA Ni KEi TSi TSr -->  <-- SA Nr KEr TSi TSr N(ADDITIONAL_KEY_EXCHANGE)
	in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, p.spi, 3)...)
	says(t, in, multiAnswer)
	if len(r.children) != 1 {
		t.Fatalf("%d CHILD SAs before the last key exchange", len(r.children))
	}
	made := p.peerSPI
	var nr []byte
	p.agree(in, &nr)
	// KEi(1) N(ADDITIONAL_KEY_EXCHANGE) -->  <-- KEr(1)
	again := linkOf(t, in)
	in = p.request(message.ExchangeFollowUpKE, p.kemOffer(), again)
	says(t, in, "KE")
	extra, err := kemKey(t).Decapsulate(findPayload[*message.KE](in).Data)
	if err != nil {
		t.Fatal(err)
	}
	k := r.kidIn(made)
	if k == nil {
		t.Fatal("no CHILD SA")
	}
	want := prfPlus(p.d, 40, p.shared, nonce(3).Data, nr, extra)
	if !bytes.Equal(k.In.EncKey, want[:20]) || !bytes.Equal(k.Out.EncKey, want[20:]) {
		t.Error("the keys are not the RFC's")
	}
	// The link is used up.
	says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), again), "N(STATE_NOT_FOUND)")
}

// A new CHILD SA with several key exchanges, made by the peer and by the endpoint.
func TestCreateChildMultiKE(t *testing.T) {
	t.Run("the peer", func(t *testing.T) {
		r := newRig(t, pfs("x25519+ml-kem-768+ml-kem-1024"))
		p := newPuppet(r, 1)
		p.init()
		says(t, p.auth(p.authPayloads()...), "IDr AUTH")
		in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(extraKE(groupESP, 36, 37), 0, 1)...)
		says(t, in, multiAnswer)
		first := linkOf(t, in)
		in = p.request(message.ExchangeFollowUpKE, p.kemOffer(), first)
		says(t, in, followUp)
		if bytes.Equal(linkOf(t, in).Data, first.Data) || len(r.children) != 0 {
			t.Error("the second key exchange has the link of the first, or none is needed")
		}
		key, err := mlkem.NewDecapsulationKey1024(bytes.Repeat([]byte{7}, 64))
		if err != nil {
			t.Fatal(err)
		}
		offer := &message.KE{Group: 37, Data: key.EncapsulationKey().Bytes()}
		says(t, p.request(message.ExchangeFollowUpKE, offer, linkOf(t, in)), "KE")
		says(t, p.request(message.ExchangeInformational), "")
		r.states(t, "made", map[uint32]string{p.peerSPI: "seals"})
	})
	t.Run("the endpoint", func(t *testing.T) {
		r, p := settled(t, initiates, pfs(hybrid))
		r.in(core.Command{Do: core.FlushSAs})
		h, _ := p.asked(message.ExchangeInformational)
		p.answer(h, deleteESP(p.spi))
		r.pass(2 * time.Second)
		h, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, "SA Nonce KE TSi TSr")
		p.note(ps)
		p.answer(h, p.pfsAnswer(hybridESP, 2, link(1, 2, 3))...)
		h, ps = p.asked(message.ExchangeFollowUpKE)
		says(t, ps, followUp)
		if l := linkOf(t, ps); !bytes.Equal(l.Data, []byte{1, 2, 3}) {
			t.Errorf("the link is %x", l.Data)
		}
		if r.kidIn(p.peerSPI) != nil {
			t.Error("the CHILD SA is there before its last key exchange")
		}
		p.answer(h, p.kemAnswer(ps))
		r.states(t, "made", map[uint32]string{p.peerSPI: "seals"})
		if !strings.Contains(r.event(core.EvChildUp).Reason, "/x25519+ml-kem-768") {
			t.Errorf("the event says %q", r.event(core.EvChildUp).Reason)
		}
	})
}

// The rekeys of strongSwan's test_regular_multi_ke, both ways.
func TestRekeyChildMultiKE(t *testing.T) {
	t.Run("the peer", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		oldOurs, old := p.spi, p.peerSPI
		in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, oldOurs, 1)...)
		says(t, in, multiAnswer)
		made := p.peerSPI
		r.states(t, "parked", map[uint32]string{old: "seals", made: "gone"})
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
		r.states(t, "made", map[uint32]string{old: "seals", made: "opens"})
		says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		r.pass(6 * time.Second)
		r.states(t, "later", map[uint32]string{old: "gone", made: "seals"})
	})
	t.Run("the endpoint", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		oldOurs, old := p.spi, p.peerSPI
		r.in(core.Expire{Child: 1})
		h, ps := p.asked(message.ExchangeCreateChildSA)
		says(t, ps, multiRekey)
		p.note(ps)
		p.answer(h, p.pfsAnswer(hybridESP, 2, link(9))...)
		h, ps = p.asked(message.ExchangeFollowUpKE)
		p.answer(h, p.kemAnswer(ps))
		r.states(t, "rekeyed", map[uint32]string{old: "opens", p.peerSPI: "seals"})
		h, ps = p.asked(message.ExchangeInformational)
		says(t, ps, "Delete")
		p.answer(h, deleteESP(oldOurs))
		r.pass(6 * time.Second)
		r.states(t, "later", map[uint32]string{old: "gone", p.peerSPI: "seals"})
	})
}

// The endpoint's rekey comes to nothing in the middle: refused, or the answer is
// without its link. It is tried again, and nothing is left of the first try.
func TestChildFollowUpRefused(t *testing.T) {
	for _, kind := range []message.NotifyType{message.NotifyStateNotFound, message.NotifyTemporaryFailure, 0} {
		r, p := settled(t, pfs("x25519+ml-kem-768+ml-kem-1024"))
		old := p.peerSPI
		r.in(core.Expire{Child: 1})
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.note(ps)
		made := p.peerSPI
		p.answer(h, p.pfsAnswer(extraKE(groupESP, 36, 37), 2, link(9))...)
		h, ps = p.asked(message.ExchangeFollowUpKE)
		if kind != 0 {
			p.answer(h, note(kind))
		} else {
			p.answer(h, p.kemAnswer(ps)) // and no link, although one more is to come: the peer has made the SA
			h, ps = p.asked(message.ExchangeInformational)
			if d := findPayload[*message.Delete](ps); d == nil || !bytes.Equal(d.SPIs[0], u32(made)) {
				t.Errorf("the peer is told %s, not to delete it", describe(ps))
			}
			p.answer(h)
		}
		if !r.freed[made] {
			t.Errorf("%v: the SPI is not given back", kind)
		}
		r.states(t, "refused", map[uint32]string{old: "seals"})
		r.pass(4 * time.Second)
		_, ps = p.asked(message.ExchangeCreateChildSA)
		says(t, ps, multiRekey)
	}
	// No link in the first answer.
	r, p := settled(t, pfs(hybrid))
	r.in(core.Expire{Child: 1})
	h, _ := p.asked(message.ExchangeCreateChildSA)
	p.answer(h, p.pfsAnswer(hybridESP, 2)...)
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	r.pass(4 * time.Second)
	p.asked(message.ExchangeCreateChildSA)
}

// What the peer begins and does not go on with is forgotten: a link that is wrong,
// missing, too old, or one of too many.
func TestParkedChildren(t *testing.T) {
	begin := func(p *puppet, old uint32) *message.Notify {
		in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, old, 1)...)
		says(t, in, multiAnswer)
		return linkOf(t, in)
	}
	goOn := func(p *puppet, l *message.Notify) string {
		return describe(p.request(message.ExchangeFollowUpKE, p.kemOffer(), l))
	}
	const lost = "N(STATE_NOT_FOUND)"
	t.Run("wrong", func(t *testing.T) {
		_, p := settled(t, pfs(hybrid))
		l := begin(p, 0)
		if got := goOn(p, link(1)); got != lost {
			t.Errorf("a wrong link: %s", got)
		}
		if got := goOn(p, l); got != "KE" {
			t.Errorf("the right link: %s", got)
		}
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer()), lost)
	})
	t.Run("expired", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		l := begin(p, p.spi)
		made := p.peerSPI
		r.pass(29 * time.Second)
		if parked(r) != 1 || r.freed[made] {
			t.Error("forgotten before its time")
		}
		r.pass(2 * time.Second)
		if parked(r) != 0 || !r.freed[made] {
			t.Error("it is kept")
		}
		if got := goOn(p, l); got != lost {
			t.Errorf("an old link: %s", got)
		}
		begin(p, p.spi-1) // and the CHILD SA can be rekeyed
	})
	t.Run("one of too many", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		var links []*message.Notify
		for range 7 {
			links = append(links, begin(p, 0))
		}
		if n := parked(r); n != 4 {
			t.Errorf("%d are kept", n)
		}
		for i, want := range map[int]string{0: lost, 2: lost, 3: "KE", 6: "KE"} {
			if got := goOn(p, links[i]); got != want {
				t.Errorf("link %d: %s", i, got)
			}
		}
		old := p.spi - 7
		begin(p, old)
		begin(p, old)
		if n := parked(r); n != 3 { // two of before, and the second rekey in the place of the first
			t.Errorf("%d are kept after two rekeys of the same", n)
		}
	})
	t.Run("the answer is on its way", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		l := begin(p, 0)
		r.hold = true
		id := p.nextID
		p.nextID++
		r.datagram(p.addr, p.seal(p.header(message.ExchangeFollowUpKE, id, false), p.kemOffer(), l))
		r.pass(31 * time.Second)
		for _, a := range r.asks {
			r.answer(a)
		}
		says(t, p.response(message.ExchangeFollowUpKE, id), lost)
		if len(r.children) != 1 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	})
}

// Both rekey the CHILD SA with several key exchanges at once: all four nonces are
// known after CREATE_CHILD_SA, and only the winner goes on.
func TestBothRekeyChildMultiKE(t *testing.T) {
	for _, weWin := range []bool{true, false} {
		for _, goesOn := range []bool{true, false} {
			r, p := settled(t, pfs(hybrid))
			oldOurs, old := p.spi, p.peerSPI
			low, high := byte(0), byte(255)
			if !weWin {
				low, high = high, low
			}
			r.in(core.Expire{Child: 1})
			h, ps := p.asked(message.ExchangeCreateChildSA)
			says(t, ps, multiRekey)
			in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, oldOurs, low)...)
			says(t, in, multiAnswer)
			theirsOurs, theirs := p.spi, p.peerSPI
			p.answer(h, p.pfsAnswer(hybridESP, high, link(4))...)
			mineOurs := p.spi
			p.note(ps)
			mine := p.peerSPI
			switch {
			case weWin:
				h, ps = p.asked(message.ExchangeFollowUpKE)
				if goesOn { // although it should know better: the usual collision
					says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
				}
				p.answer(h, p.kemAnswer(ps))
				h, ps = p.asked(message.ExchangeInformational)
				if d := findPayload[*message.Delete](ps); d == nil || !bytes.Equal(d.SPIs[0], u32(old)) {
					t.Errorf("the endpoint deletes %s, not the old one", describe(ps))
				}
				if !goesOn {
					says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
				}
				p.answer(h, deleteESP(oldOurs))
				if goesOn {
					says(t, p.request(message.ExchangeInformational, deleteESP(theirsOurs)), "Delete")
				}
				r.pass(6 * time.Second)
				r.states(t, "we win", map[uint32]string{old: "gone", theirs: "gone", mine: "seals"})
				if parked(r) != 0 {
					t.Error("what the peer began is kept")
				}
				p.spi = mineOurs
			case goesOn:
				r.silent("a collision that the peer wins")
				if !r.freed[mine] {
					t.Error("the SPI of ours is not given back")
				}
				says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
				says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
				r.pass(6 * time.Second)
				r.silent("the end of it")
				r.states(t, "the peer wins", map[uint32]string{old: "gone", theirs: "seals", mine: "gone"})
			default: // the peer wins, and is not heard of again
				r.pass(28 * time.Second)
				r.silent("the wait for the winner")
				r.pass(8 * time.Second)
				_, ps = p.asked(message.ExchangeCreateChildSA)
				says(t, ps, multiRekey)
				r.states(t, "the peer left it", map[uint32]string{old: "seals"})
			}
		}
	}
}

// Both rekey at once, and only one of them with several key exchanges.
func TestBothRekeyChildMixed(t *testing.T) {
	either := pfs(hybrid, "x25519")
	for _, weWin := range []bool{true, false} {
		low, high := byte(0), byte(255)
		if !weWin {
			low, high = high, low
		}
		t.Run("ours has several", func(t *testing.T) {
			r, p := settled(t, either)
			oldOurs, old := p.spi, p.peerSPI
			r.in(core.Expire{Child: 1})
			h, ps := p.asked(message.ExchangeCreateChildSA)
			says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(groupESP, oldOurs, low)...), singleAnswer)
			theirsOurs, theirs := p.spi, p.peerSPI
			p.answer(h, p.pfsAnswer(hybridESP, high, link(4))...)
			p.note(ps)
			mine := p.peerSPI
			if weWin { // the peer deletes what it made; we go on
				h, ps = p.asked(message.ExchangeFollowUpKE)
				says(t, p.request(message.ExchangeInformational, deleteESP(theirsOurs)), "Delete")
				p.answer(h, p.kemAnswer(ps))
				h, _ = p.asked(message.ExchangeInformational)
				p.answer(h, deleteESP(oldOurs))
				r.pass(6 * time.Second)
				r.states(t, "we win", map[uint32]string{old: "gone", theirs: "gone", mine: "seals"})
				return
			}
			r.silent("a collision that the peer wins")
			says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
			r.pass(6 * time.Second)
			r.silent("the end of it")
			r.states(t, "the peer wins", map[uint32]string{old: "gone", theirs: "seals", mine: "gone"})
		})
		t.Run("the peer's has several", func(t *testing.T) {
			r, p := settled(t, either)
			oldOurs, old := p.spi, p.peerSPI
			r.in(core.Expire{Child: 1})
			h, ps := p.asked(message.ExchangeCreateChildSA)
			in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, oldOurs, low)...)
			says(t, in, multiAnswer)
			theirs := p.peerSPI
			p.answer(h, p.pfsAnswer(groupESP, high)...)
			mineOurs := p.spi
			p.note(ps)
			mine := p.peerSPI
			h, ps = p.asked(message.ExchangeInformational)
			d := findPayload[*message.Delete](ps)
			if weWin { // the endpoint deletes the old one
				if d == nil || !bytes.Equal(d.SPIs[0], u32(old)) {
					t.Fatalf("the endpoint says %s", describe(ps))
				}
				says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
				p.answer(h, deleteESP(oldOurs))
				r.pass(6 * time.Second)
				r.states(t, "we win", map[uint32]string{old: "gone", theirs: "gone", mine: "seals"})
				return
			}
			if d == nil || !bytes.Equal(d.SPIs[0], u32(mine)) { // what it made; the old one serves on
				t.Fatalf("the endpoint says %s", describe(ps))
			}
			p.answer(h, deleteESP(mineOurs))
			r.states(t, "the peer goes on", map[uint32]string{old: "seals"})
			says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
			says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
			r.pass(10 * time.Second)
			r.silent("the end of it")
			r.states(t, "the peer wins", map[uint32]string{old: "gone", theirs: "seals", mine: "gone"})
		})
	}
}

// A collision that the peer wins, whose answer to ours comes late: after its
// IKE_FOLLOWUP_KE, or after it has deleted the old one.
func TestBothRekeyChildMultiKEDelayedResponse(t *testing.T) {
	for _, afterDelete := range []bool{false, true} {
		r, p := settled(t, pfs(hybrid))
		oldOurs, old := p.spi, p.peerSPI
		r.in(core.Expire{Child: 1})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, oldOurs, 255)...)
		theirs := p.peerSPI
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
		late := func() {
			p.answer(h, p.pfsAnswer(hybridESP, 0, link(4))...)
			r.silent("a collision that the peer wins")
		}
		if !afterDelete {
			late()
		}
		says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		if afterDelete {
			late()
		}
		r.pass(10 * time.Second)
		r.silent("the end of it")
		r.states(t, "the peer wins", map[uint32]string{old: "gone", theirs: "seals"})
		if len(r.children) != 1 || parked(r) != 0 {
			t.Errorf("%d CHILD SAs, %d parked", len(r.children), parked(r))
		}
	}
}

// One end does not notice the collision, because a request is late.
func TestBothRekeyChildMultiKEDelayedRequest(t *testing.T) {
	t.Run("the peer's", func(t *testing.T) { // it comes while our IKE_FOLLOWUP_KE is under way
		r, p := settled(t, pfs(hybrid))
		oldOurs, old := p.spi, p.peerSPI
		r.in(core.Expire{Child: 1})
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.note(ps)
		mine := p.peerSPI
		p.answer(h, p.pfsAnswer(hybridESP, 0, link(4))...)
		h, ps = p.asked(message.ExchangeFollowUpKE)
		says(t, p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, oldOurs, 255)...), "N(TEMPORARY_FAILURE)")
		p.answer(h, p.kemAnswer(ps))
		h, _ = p.asked(message.ExchangeInformational)
		p.answer(h, deleteESP(oldOurs))
		r.pass(6 * time.Second)
		r.states(t, "rekeyed", map[uint32]string{old: "gone", mine: "seals"})
	})
	for _, afterDelete := range []bool{false, true} {
		t.Run("ours", func(t *testing.T) { // the peer refuses it, since its own goes on
			r, p := settled(t, pfs(hybrid))
			oldOurs, old := p.spi, p.peerSPI
			r.in(core.Expire{Child: 1})
			h, _ := p.asked(message.ExchangeCreateChildSA)
			in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, oldOurs, 1)...)
			theirs := p.peerSPI
			if !afterDelete {
				p.answer(h, note(message.NotifyTemporaryFailure))
			}
			says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "KE")
			says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
			if afterDelete {
				p.answer(h, note(message.NotifyTemporaryFailure))
			}
			r.pass(10 * time.Second)
			r.silent("the end of it")
			r.states(t, "the peer's", map[uint32]string{old: "gone", theirs: "seals"})
		})
	}
	t.Run("ours is due while the peer's lacks a key exchange", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, p.spi, 1)...)
		r.in(core.Expire{Child: 1})
		r.pass(28 * time.Second)
		r.silent("the wait for the peer")
		r.pass(8 * time.Second)
		p.asked(message.ExchangeCreateChildSA)
	})
}

// One end deletes the CHILD SA, or the IKE SA, while the other rekeys it with
// several key exchanges.
func TestDeleteChildWhileMultiKE(t *testing.T) {
	t.Run("we delete it", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, p.spi, 1)...)
		made := p.peerSPI
		r.in(core.Command{Do: core.FlushSAs})
		h, _ := p.asked(message.ExchangeInformational)
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
		p.answer(h, deleteESP(p.spi-1))
		if len(r.children) != 0 || parked(r) != 0 || !r.freed[made] {
			t.Errorf("%d CHILD SAs, %d parked", len(r.children), parked(r))
		}
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(STATE_NOT_FOUND)")
	})
	t.Run("the peer deletes it", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		oldOurs := p.spi
		r.in(core.Expire{Child: 1})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, p.pfsAnswer(hybridESP, 2, link(4))...)
		h, _ = p.asked(message.ExchangeFollowUpKE)
		says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		p.answer(h, note(message.NotifyTemporaryFailure))
		r.pass(10 * time.Second)
		r.silent("the end of it")
		if len(r.children) != 0 {
			t.Errorf("%d CHILD SAs", len(r.children))
		}
	})
	t.Run("the IKE SA goes", func(t *testing.T) {
		r, p := settled(t, pfs(hybrid))
		in := p.request(message.ExchangeCreateChildSA, p.pfsOffer(hybridESP, p.spi, 1)...)
		r.in(core.Command{Do: core.KillAll})
		h, _ := p.asked(message.ExchangeInformational)
		says(t, p.request(message.ExchangeFollowUpKE, p.kemOffer(), linkOf(t, in)), "N(TEMPORARY_FAILURE)")
		p.answer(h)
		if len(r.children) != 0 || len(r.e.SAs()) != 0 {
			t.Errorf("left: %v", r.e.SAs())
		}
	})
	t.Run("the IKE SA is rekeyed", func(t *testing.T) { // refused while ours lacks a key exchange (RFC 7296 §2.25.2)
		r, p := settled(t, pfs(hybrid))
		r.in(core.Expire{Child: 1})
		h, _ := p.asked(message.ExchangeCreateChildSA)
		p.answer(h, p.pfsAnswer(hybridESP, 2, link(4))...)
		says(t, p.request(message.ExchangeCreateChildSA, saOf(withSPI(ikeProposal, u64(3))), nonce(3), p.ke()), "N(TEMPORARY_FAILURE)")
	})
}
