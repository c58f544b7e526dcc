package ike

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// CHILD SAs for single lines of the data path (RFC 9611).

func withLines(n int) func(c *core.Config) { return func(c *core.Config) { c.Lines = n } }

// info is the notify of one of the puppet's resources; none: it names none.
func info(resource ...uint32) *message.Notify {
	n := note(message.NotifySAResourceInfo)
	for _, r := range resource {
		n.Data = u32(r)
	}
	return n
}

// sharing is an endpoint with a CHILD SA that a peer like strongSwan 6 with per_cpu_sas began: it says so behind
// everything else, in IKE_AUTH too.
func sharing(t testing.TB, change ...func(c *core.Config)) (*rig, *puppet) {
	t.Helper()
	r := newRig(t, change...)
	p := newPuppet(r, 1)
	p.init()
	in := p.auth(p.authPayloads(append(p.childOffer(), info())...)...)
	says(t, in, "IDr AUTH N(SA_RESOURCE_INFO) SA TSi TSr")
	if n := findNotify(in, message.NotifySAResourceInfo); len(n.Data) > 0 {
		t.Errorf("the one for all lines names resource %x", n.Data)
	}
	p.request(message.ExchangeInformational)
	r.take()
	return r, p
}

// asksLine is the puppet's request for a CHILD SA for one of its resources.
func (p *puppet) asksLine(resource uint32) []message.Payload {
	return append(p.childOffer(), nonce(byte(resource)), info(resource))
}

// linesOf are the lines of the CHILD SAs that are there, sorted.
func (r *rig) lines() (list []int) {
	for _, k := range r.children {
		list = append(list, k.Line)
	}
	slices.Sort(list)
	return list
}

func wantLines(t *testing.T, when string, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: CHILD SAs for the lines %v, want %v", when, got, want)
	}
}

// A peer with five CPUs makes a CHILD SA for each beside the first. The bytes are those of strongSwan 6, as its source
// makes them: the notify stands behind TSr and has the number of the CPU. Each is for another line here, as long as there are lines.
//
//	SA Ni TSi TSr N(SA_RESOURCE_INFO) -->  <-- N(SA_RESOURCE_INFO) SA Nr TSi TSr
func TestPeerMakesChildrenForItsCPUs(t *testing.T) {
	for _, lines := range []int{0, 1, 3, 100} {
		t.Run(fmt.Sprint(lines, " lines here"), func(t *testing.T) {
			r, p := sharing(t, withLines(lines))
			shared := p.peerSPI
			want := map[uint32]string{shared: "seals"}
			wantAll := []int{0}
			for cpu := range uint32(5) {
				spi := 0xc1000000 + cpu
				plain, err := hex.DecodeString(strings.ReplaceAll(fmt.Sprintf(""+
					"28000024 00000020 01030402 %08x 0300000c 01000014 800e0080 00000008 05000000"+ // SA: AES-GCM-16-128, no ESN
					"2c000024 %s"+ // Ni
					"2d000018 01000000 07000010 0000ffff 0a020000 0a02ffff"+ // TSi
					"29000018 01000000 07000010 0000ffff 0a010000 0a01ffff"+ // TSr
					"0000000c 0000403c %08x", spi, strings.Repeat("55", 32), cpu), " ", ""))
				if err != nil {
					t.Fatal(err)
				}
				id := p.nextID
				p.nextID++
				r.datagram(p.addr, p.sealRaw(p.header(message.ExchangeCreateChildSA, id, false), nil, message.TypeSA, plain))
				in := p.response(message.ExchangeCreateChildSA, id)
				says(t, in, "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
				line := int(cpu) + 1
				notify := fmt.Sprintf("0000000c0000403c%08x", line)
				if line >= lines {
					line, notify = core.NoLine, "000000080000403c"
				}
				if _, b := message.AppendPayloads(nil, in[:1]); hex.EncodeToString(b) != notify {
					t.Errorf("CPU %d: the answer says %x, want %s", cpu, b, notify)
				}
				k := r.kidIn(p.peerSPI)
				if k == nil || k.Line != line || k.Out.SPI != spi || k.Pairs[0].Remote.String() != "10.2.0.0/16" {
					t.Fatalf("CPU %d: installed %+v, want line %d", cpu, k, line)
				}
				want[p.peerSPI] = "seals" // as soon as the next request shows that the peer has it
				wantAll = append(wantAll, line)
			}
			r.states(t, "the last is made", map[uint32]string{shared: "seals", p.peerSPI: "opens"})
			p.request(message.ExchangeInformational)
			r.states(t, "confirmed", want)
			r.take()
			r.pass(110 * time.Second) // no twin goes
			r.silent("CHILD SAs for CPUs")
			r.states(t, "later", want)
			slices.Sort(wantAll)
			wantLines(t, "later", r.lines(), wantAll...)
			if r.count(core.EvChildDown)+r.count(core.EvChildRekeyed) > 0 {
				t.Errorf("events %s", r.reasons())
			}
		})
	}
}

// There are no more of them than MaxLines: TS_MAX_QUEUE refuses the next one alone, until another is deleted.
func TestChildrenForCPUsHaveABound(t *testing.T) {
	r, p := sharing(t, withLines(2))
	for i := range uint32(ikesa.MaxLines) {
		says(t, p.request(message.ExchangeCreateChildSA, p.asksLine(i)...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	}
	last := p.spi
	for range 2 {
		in := p.request(message.ExchangeCreateChildSA, p.asksLine(99)...)
		says(t, in, "N(TS_MAX_QUEUE)")
		if _, b := message.AppendPayloads(nil, in); hex.EncodeToString(b) != "0000000800000030" {
			t.Errorf("the refusal is %x", b)
		}
	}
	if n := len(r.children); n != ikesa.MaxLines+1 || r.established() != 1 {
		t.Errorf("%d CHILD SAs", n)
	}
	if len(r.freed) != 0 { // it was not taken
		t.Errorf("SPIs %v were given back", r.freed)
	}
	says(t, p.request(message.ExchangeInformational, deleteESP(last)), "Delete")
	says(t, p.request(message.ExchangeCreateChildSA, p.asksLine(99)...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
}

// What has other selectors is the first of others: it is for all lines, and one with its selectors is made beside it.
func TestChildForACPUWithOtherSelectors(t *testing.T) {
	r, p := sharing(t, withLines(3))
	part := func(resource uint32) []message.Payload {
		ps := p.asksLine(resource)
		ps[1] = ts(true, "10.2.1.0/24")
		return ps
	}
	in := p.request(message.ExchangeCreateChildSA, part(1)...)
	if n := findNotify(in, message.NotifySAResourceInfo); n == nil || len(n.Data) > 0 {
		t.Errorf("the answer says %s, %v", describe(in), n)
	}
	wantLines(t, "the first of others", r.lines(), 0, 0)
	p.request(message.ExchangeCreateChildSA, part(2)...)
	if k := r.kidIn(p.peerSPI); k.Line != 1 || k.Pairs[0].Remote.String() != "10.2.1.0/24" {
		t.Errorf("line %d, %v", k.Line, k.Pairs)
	}
	p.request(message.ExchangeCreateChildSA, p.asksLine(1)...)
	if k := r.kidIn(p.peerSPI); k.Line != 1 || k.Pairs[0].Remote.String() != "10.2.0.0/16" {
		t.Errorf("line %d, %v", k.Line, k.Pairs)
	}
}

// The peer and the endpoint rekey such a CHILD SA: its successor is for the same line. strongSwan says no
// SA_RESOURCE_INFO at a rekey, others may.
func TestChildForALineIsRekeyed(t *testing.T) {
	r, p := sharing(t, withLines(3))
	p.request(message.ExchangeCreateChildSA, p.asksLine(0)...)
	p.request(message.ExchangeCreateChildSA, p.asksLine(1)...)
	p.request(message.ExchangeInformational)
	for _, says1 := range []bool{false, true} {
		old, oldOurs := p.peerSPI, p.spi
		ask, want := p.theRekey(oldOurs, 7), "SA Nonce TSi TSr"
		if says1 {
			ask, want = append(ask, info(1)), "N(SA_RESOURCE_INFO) "+want
		}
		says(t, p.request(message.ExchangeCreateChildSA, ask...), want)
		wantLines(t, "the peer rekeys", r.lines(), 0, 1, 2, 2)
		r.states(t, "the peer rekeys", map[uint32]string{old: "seals", p.peerSPI: "opens"})
		says(t, p.request(message.ExchangeInformational, deleteESP(oldOurs)), "Delete")
		r.states(t, "the old one deleted", map[uint32]string{old: "opens", p.peerSPI: "seals"})
		r.pass(6 * time.Second)
		wantLines(t, "rekeyed", r.lines(), 0, 1, 2)
	}
	old, oldOurs := r.kidIn(p.peerSPI), p.spi
	r.in(core.Expire{Child: old.Child})
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "N(REKEY_SA) N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	if n := findNotify(ps, message.NotifySAResourceInfo); !bytes.Equal(n.Data, u32(2)) {
		t.Errorf("it names %x", n.Data)
	}
	p.note(ps)
	p.answer(h, append(p.childAnswer(), nonce(9))...)
	r.states(t, "we rekey", map[uint32]string{old.In.SPI: "opens", p.peerSPI: "seals"})
	if k := r.kidIn(p.peerSPI); k.Line != 2 {
		t.Errorf("the successor is for line %d", k.Line)
	}
	h, ps = p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h, deleteESP(oldOurs))
	r.pass(6 * time.Second)
	wantLines(t, "rekeyed by us", r.lines(), 0, 1, 2)
	r.in(core.Expire{Child: r.kidIn(p.peerSPI).Child})
	for range 4 { // whoever refuses that loses no more than the CHILD SA
		h, _ = p.asked(message.ExchangeCreateChildSA)
		p.answer(h, note(message.NotifyNoAdditionalSAs))
		r.pass(10 * time.Second)
	}
	if strings.Contains(r.reasons(), "new IKE SA") || r.established() != 1 {
		t.Errorf("a refusal of a line's rekey: %s", r.reasons())
	}
}

// The peer deletes a CHILD SA for a CPU, and then the one for all: the others go on, and another one for all is made, though
// no packet asks for it, because the others carry them.
func TestTheSharedChildGoesBeforeTheOthers(t *testing.T) {
	r, p := sharing(t, withLines(3))
	sharedOurs, shared := p.spi, p.peerSPI
	p.request(message.ExchangeCreateChildSA, p.asksLine(0)...)
	firstOurs, first := p.spi, p.peerSPI
	p.request(message.ExchangeCreateChildSA, p.asksLine(1)...)
	second := p.peerSPI
	p.request(message.ExchangeInformational)
	says(t, p.request(message.ExchangeInformational, deleteESP(firstOurs)), "Delete")
	r.states(t, "one is deleted", map[uint32]string{shared: "seals", first: "opens", second: "seals"})
	if e := r.event(core.EvChildDown); e.Reason != "the peer deleted it, for line 1" || e.Child != r.kidIn(first).Child {
		t.Errorf("child-down: %s", e.Reason)
	}
	r.pass(6 * time.Second)
	says(t, p.request(message.ExchangeInformational, deleteESP(sharedOurs)), "Delete")
	r.states(t, "the one for all is deleted", map[uint32]string{shared: "gone", first: "gone", second: "seals"})
	r.take()
	r.pass(20 * time.Second)
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "SA Nonce TSi TSr")
	p.note(ps)
	p.answer(h, append(p.childAnswer(), nonce(9))...)
	r.states(t, "another for all", map[uint32]string{p.peerSPI: "seals", second: "seals"})
	wantLines(t, "another for all", r.lines(), 0, 2)
}

// --- as initiator ---

var ourVendor = &message.VendorID{Data: []byte("Culvert UDP\x01")}

// kin is an endpoint that connects to a peer of its kind, which knows CHILD SAs for lines (or not), with three lines.
func kin(t testing.TB, knows bool, change ...func(c *core.Config)) (*rig, *puppet) {
	t.Helper()
	r := newRig(t, append(change, initiates, withLines(3), func(c *core.Config) { c.Encapsulation = core.EncapDetect; c.Peers[0].Profile.DPD = 0 })...)
	p := newPuppet(r, 1)
	p.first = []message.Payload{ourVendor}
	p.acceptInit()
	h, ps := p.asked(message.ExchangeIKEAuth)
	if n := findNotify(ps, message.NotifySAResourceInfo); n == nil || len(n.Data) > 0 {
		t.Errorf("the endpoint says %s", describe(ps))
	}
	p.note(ps)
	answer := p.childAnswer()
	if knows {
		answer = append(answer, info())
	}
	p.answer(h, p.authPayloads(answer...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	r.take()
	return r, p
}

// busy says for some seconds that a line shares the CHILD SA.
func (r *rig) busy(seconds, line int) {
	for range seconds {
		for _, k := range r.children {
			if k.Line == 0 && k.active && !k.retired {
				r.in(core.Busy{Child: k.Child, Line: line})
				break
			}
		}
		r.pass(time.Second)
	}
}

// A line that is busy for more than a moment gets a CHILD SA for itself, and at once, because we made it:
//
//	N(SA_RESOURCE_INFO) SA Ni TSi TSr -->  <-- SA Nr TSi TSr N(SA_RESOURCE_INFO)
func TestBusyLineGetsAChild(t *testing.T) {
	r, p := kin(t, true)
	shared := p.peerSPI
	r.busy(1, 2)
	r.pass(10 * time.Second)
	r.busy(1, 2)
	r.silent("a line that is busy now and then")
	for _, line := range []int{-1, 0, 3, 64, 65, 1 << 30} {
		r.busy(3, line)
	}
	r.silent("lines that are not there")
	r.busy(5, 2)
	h, ps := p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	if _, b := message.AppendPayloads(nil, ps[:1]); hex.EncodeToString(b) != "0000000c0000403c00000002" {
		t.Errorf("the notify is %x", b)
	}
	if got := fmt.Sprint(ps[3].(*message.TS).Selectors, ps[4].(*message.TS).Selectors); got != "[10.1.0.0/16] [10.2.0.0/16]" {
		t.Errorf("selectors %s", got)
	}
	p.note(ps)
	p.answer(h, append(p.childAnswer(), nonce(9), info(77))...)
	r.states(t, "made", map[uint32]string{shared: "seals", p.peerSPI: "seals"})
	if k := r.kidIn(p.peerSPI); k.Line != 2 {
		t.Errorf("it is for line %d", k.Line)
	}
	h, ps = p.asked(message.ExchangeInformational) // which tells the peer that we have it
	says(t, ps, "")
	p.answer(h)
	r.busy(5, 2)
	r.silent("a line that has one")
	r.busy(5, 1)
	_, ps = p.asked(message.ExchangeCreateChildSA)
	if n := findNotify(ps, message.NotifySAResourceInfo); n == nil || !bytes.Equal(n.Data, u32(1)) {
		t.Errorf("the other line: %s", describe(ps))
	}
}

// Nobody is asked who does not know them: a peer of another kind is not told of them, and one that does not answer in
// IKE_AUTH is asked for none.
func TestLinesOfPeersThatDoNotKnowThem(t *testing.T) {
	r, _ := kin(t, false)
	r.busy(20, 1)
	r.silent("a peer that does not know them")
	r = newRig(t, initiates, withLines(3), func(c *core.Config) { c.Encapsulation, c.Peers[0].Profile.DPD = core.EncapDetect, 0 })
	p := newPuppet(r, 1)
	p.acceptInit()
	h, ps := p.asked(message.ExchangeIKEAuth)
	if findNotify(ps, message.NotifySAResourceInfo) != nil {
		t.Errorf("a peer of another kind is told %s", describe(ps))
	}
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	r.busy(20, 1)
	r.silent("a peer of another kind")
	// One of another kind that says it itself, as initiator, is asked as well.
	r, p = sharing(t, withLines(3))
	r.busy(5, 1)
	_, ps = p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
}

// Whatever the peer answers, the one for all lines and the IKE SA stay, and what the peer made and we cannot use is deleted.
func TestRefusedLines(t *testing.T) {
	narrowed := func(p *puppet) []message.Payload {
		ps := append(p.childAnswer(), nonce(9), info())
		ps[1] = ts(true, "10.1.1.0/24")
		return ps
	}
	refusal := func(k message.NotifyType) func(*puppet) []message.Payload {
		return func(*puppet) []message.Payload { return []message.Payload{note(k)} }
	}
	for _, c := range []struct {
		name   string
		answer func(p *puppet) []message.Payload
		again  time.Duration // within what time the line may be asked for again; 0: not within an hour
		says   string        // to people
		takes  bool          // what the peer made is deleted
	}{
		{"TS_MAX_QUEUE", refusal(message.NotifyTSMaxQueue), 0, "goes on by the one for all lines: TS_MAX_QUEUE", false},
		{"NO_ADDITIONAL_SAS", refusal(message.NotifyNoAdditionalSAs), 0, "goes on by the one for all lines: NO_ADDITIONAL_SAS", false},
		{"TEMPORARY_FAILURE", refusal(message.NotifyTemporaryFailure), 10 * time.Second, "", false},
		{"NO_PROPOSAL_CHOSEN", refusal(message.NotifyNoProposalChosen), time.Minute, "goes on by the one for all lines: NO_PROPOSAL_CHOSEN", false},
		{"TS_UNACCEPTABLE", refusal(message.NotifyTSUnacceptable), time.Minute, "goes on by the one for all lines: TS_UNACCEPTABLE", false},
		{"nothing of RFC 9611", func(p *puppet) []message.Payload { return append(p.childAnswer(), nonce(9)) }, 0,
			"TS_MAX_QUEUE: it does not say that it made one of several for the same traffic (RFC 9611)", true},
		{"narrowed", narrowed, time.Minute, "TS_UNACCEPTABLE: it narrowed the selectors to", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, p := kin(t, true, func(c *core.Config) { c.Policies[0].Proposal.Lifetime = 24 * time.Hour })
			shared := p.peerSPI
			r.busy(3, 1)
			h, ps := p.asked(message.ExchangeCreateChildSA)
			p.note(ps)
			p.answer(h, c.answer(p)...)
			if c.takes {
				h, ps = p.asked(message.ExchangeInformational)
				if d := findPayload[*message.Delete](ps); d == nil || !bytes.Equal(d.SPIs[0], u32(p.peerSPI)) {
					t.Errorf("what the peer made is not deleted: %s", describe(ps))
				}
				p.answer(h, deleteESP(p.spi))
			}
			r.silent("a refusal")
			if text := r.reasons(); c.says != "" && !strings.Contains(text, c.says) || c.says == "" && strings.Contains(text, "line 1") {
				t.Errorf("people are told %s", text)
			}
			asked := time.Duration(0)
			for asked = time.Second; asked < time.Hour && len(r.sends) == 0; asked += time.Second {
				r.busy(1, 1)
			}
			if c.again == 0 && asked < time.Hour || c.again > 0 && asked > c.again {
				t.Errorf("asked again after %v, want %v", asked, c.again)
			}
			r.states(t, "in the end", map[uint32]string{shared: "seals"})
			wantLines(t, "in the end", r.lines(), 0)
			if r.established() != 1 || r.count(core.EvIKEDown)+r.count(core.EvChildDown) > 0 {
				t.Errorf("events %s", r.reasons())
			}
		})
	}
}

// A peer that deletes what we made as soon as it has it is asked less and less often.
func TestLineThatThePeerTakesBack(t *testing.T) {
	r, p := kin(t, true)
	made := 0
	for end := r.now.Add(10 * time.Minute); r.now.Before(end); {
		r.busy(1, 1)
		for len(r.sends) > 0 {
			switch h, ps := p.open(r.sends[0].Data); h.Exchange {
			case message.ExchangeCreateChildSA:
				h, _ = p.asked(h.Exchange)
				made++
				p.note(ps)
				p.answer(h, append(p.childAnswer(), nonce(9), info())...)
				p.nextID = uint32(made - 1)
				p.request(message.ExchangeInformational, deleteESP(p.spi))
			default:
				h, _ = p.asked(h.Exchange)
				p.answer(h)
			}
		}
	}
	if made < 2 || made > 20 { // and not one each three seconds
		t.Errorf("%d were made in ten minutes", made)
	}
}

// Nothing is kept of a policy whose CHILD SAs are gone: a peer could have any number of policies made.
func TestLinesAreForgotten(t *testing.T) {
	kept := func(r *rig) (n int) {
		for _, sa := range r.e.bySPI {
			n += reflect.ValueOf(sa).Elem().FieldByName("lines").Len()
		}
		return n
	}
	r, p := sharing(t, withLines(3))
	shared := p.spi
	says(t, p.request(message.ExchangeCreateChildSA, p.asksLine(1)...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	if n := kept(r); n != 0 {
		t.Errorf("%d policies are kept for lines that wish nothing", n)
	}
	p.request(message.ExchangeInformational)
	r.take()
	r.busy(3, 2)
	h, _ := p.asked(message.ExchangeCreateChildSA)
	if n := kept(r); n != 1 {
		t.Errorf("%d policies are kept, and a line of one wishes a CHILD SA", n)
	}
	p.request(message.ExchangeInformational, deleteESP(shared, p.spi))
	p.answer(h, note(message.NotifyNoProposalChosen))
	if n := kept(r); n != 0 {
		t.Errorf("%d policies are kept after the end", n)
	}
}

// Both ends ask at once. The one that began the IKE SA refuses, and the other takes what it gets, for the line that
// it wished one for. Its own request is refused, and that is all.
func TestBothAskForLinesAtOnce(t *testing.T) {
	t.Run("we began", func(t *testing.T) {
		r, p := kin(t, true)
		r.busy(3, 2)
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.nextID = 0
		says(t, p.request(message.ExchangeCreateChildSA, p.asksLine(0)...), "N(TEMPORARY_FAILURE)")
		p.note(ps)
		p.answer(h, append(p.childAnswer(), nonce(9), info())...)
		wantLines(t, "ours", r.lines(), 0, 2)
		h, _ = p.asked(message.ExchangeInformational)
		p.answer(h)
		says(t, p.request(message.ExchangeCreateChildSA, p.asksLine(0)...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
		wantLines(t, "another one of the peer", r.lines(), 0, 1, 2)
	})
	t.Run("the peer began", func(t *testing.T) {
		r, p := sharing(t, withLines(3))
		r.busy(3, 2)
		h, _ := p.asked(message.ExchangeCreateChildSA)
		says(t, p.request(message.ExchangeCreateChildSA, p.asksLine(0)...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
		wantLines(t, "the peer's", r.lines(), 0, 2)
		p.answer(h, note(message.NotifyTemporaryFailure))
		r.pass(30 * time.Second)
		r.silent("a wish that is fulfilled")
		wantLines(t, "later", r.lines(), 0, 2)
	})
	t.Run("and both get it", func(t *testing.T) {
		r, p := sharing(t, withLines(3))
		r.busy(3, 2)
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.note(ps)
		ours := p.peerSPI
		p.request(message.ExchangeCreateChildSA, p.asksLine(0)...)
		p.answer(h, append(p.childAnswer(), nonce(9), info())...)
		// Line 2 has the peer's, and no other wishes one: ours goes.
		for h, ps = p.asked(message.ExchangeInformational); findPayload[*message.Delete](ps) == nil; h, ps = p.asked(message.ExchangeInformational) {
			p.answer(h)
		}
		if d := findPayload[*message.Delete](ps); !bytes.Equal(d.SPIs[0], u32(ours)) {
			t.Errorf("the endpoint deletes %x, not %08x", d.SPIs, ours)
		}
		p.answer(h, deleteESP(p.spi))
		r.pass(6 * time.Second)
		wantLines(t, "later", r.lines(), 0, 2)
	})
	t.Run("another line wishes one", func(t *testing.T) {
		r, p := sharing(t, withLines(3))
		r.busy(2, 2)
		r.busy(2, 1) // waits for the window
		h, ps := p.asked(message.ExchangeCreateChildSA)
		p.note(ps)
		p.request(message.ExchangeCreateChildSA, p.asksLine(0)...) // for the lowest that wishes one
		p.answer(h, append(p.childAnswer(), nonce(9), info())...)
		wantLines(t, "both", r.lines(), 0, 1, 2)
		r.pass(30 * time.Second)
		for _, s := range r.take() {
			if h, _ := p.open(s.Data); h.Exchange == message.ExchangeCreateChildSA {
				t.Error("the wish of a line that has one goes on")
			}
		}
	})
}

// --- other kinds of policies ---

// Transport mode, also through NATs: the selectors that count are those that are seen here, in both roles.
func TestLinesInTransportMode(t *testing.T) {
	for name, c := range natCases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, hostToHost, withLines(3))
			p := newPuppet(r, 1)
			c.apply(p)
			p.init()
			says(t, p.auth(p.authPayloads(append(p.transportOffer(c.itself(), c.other()), info())...)...), "IDr AUTH N(USE_TRANSPORT_MODE) N(SA_RESOURCE_INFO) SA TSi TSr")
			in := p.request(message.ExchangeCreateChildSA, append(p.transportOffer(c.itself(), c.other()), nonce(4), info(1))...)
			says(t, in, "N(USE_TRANSPORT_MODE) N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
			tsi, tsr := selectorsOf(in)
			r.transports(in, tsr, tsi)
			p.request(message.ExchangeInformational)
			r.take()
			r.busy(3, 2)
			h, ps := p.asked(message.ExchangeCreateChildSA)
			says(t, ps, "N(USE_TRANSPORT_MODE) N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
			tsi, tsr = selectorsOf(ps)
			r.transports(ps, tsi, tsr)
			p.spi++
			p.answer(h, note(message.NotifyUseTransportMode), saOf(withSPI(espProposal, u32(p.spi))), nonce(5), ts(true, c.other()), ts(false, c.itself()), info())
			r.hostChildren(3)
			wantLines(t, "in the end", r.lines(), 0, 1, 2)
		})
	}
}

// Two clients at level unique behind one NAT: each has its own lines, under its own number.
func TestLinesOfTwoClients(t *testing.T) {
	for name, server := range map[string]func(*core.Config){"of the table": hostToHost, "of a template": l2tpServer} {
		r := newRig(t, server, unique, withLines(2))
		var clients []*puppet
		for i := range byte(2) {
			p := r.hidden(i+1, fqdn(string(rune('a'+i))), 40001+uint16(i))
			clients = append(clients, p)
			says(t, p.joins(info()), "IDr AUTH N(USE_TRANSPORT_MODE) N(SA_RESOURCE_INFO) SA TSi TSr")
		}
		was := r.clients()
		for i, p := range clients {
			ask := append(p.l2tpOffer(natCase{puppet: true}), nonce(byte(i)), info(uint32(i)))
			says(t, p.request(message.ExchangeCreateChildSA, ask...), "N(USE_TRANSPORT_MODE) N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
		}
		wantLines(t, name, r.lines(), 0, 0, 1, 1)
		if now := r.clients(); len(now) != 2 || now[40001] != was[40001] || now[40002] != was[40002] {
			t.Errorf("%s: clients %x, were %x", name, now, was)
		}
	}
}

// A client with an address of a pool, and we as such a client: policies that were made at run time.
func TestLinesOfRoadWarriors(t *testing.T) {
	r := newRig(t, givesLeases, withLines(3))
	p := newPuppet(r, 1)
	p.init()
	p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress(), info()}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...)
	says(t, p.request(message.ExchangeCreateChildSA, append(p.offer(wholeSpace(true), wholeSpace(false)), nonce(3), info(1))...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	p.request(message.ExchangeInformational)
	r.take()
	r.busy(3, 2)
	h, ps := p.asked(message.ExchangeCreateChildSA)
	p.spi++
	p.answer(h, saOf(withSPI(espProposal, u32(p.spi))), nonce(5), ps[3], ps[4], info())
	wantLines(t, "of the pool", r.lines(), 0, 1, 2)
	if added := seen[core.AddPolicy](r); len(added) != 1 {
		t.Errorf("policies %+v", added)
	}
	p.request(message.ExchangeInformational, deleteIKE())
	if dropped := seen[core.DropPolicy](r); len(dropped) != 1 || len(r.children) > 0 {
		t.Errorf("dropped %v, %d CHILD SAs", dropped, len(r.children))
	}

	r = newRig(t, asksLease, withLines(2), func(c *core.Config) { c.Encapsulation = core.EncapDetect })
	p = newPuppet(r, 1)
	p.first = []message.Payload{ourVendor}
	p.acceptInit()
	h, _ = p.asked(message.ExchangeIKEAuth)
	p.spi++
	p.answer(h, p.authPayloads(cp(2, message.Attribute{Type: 1, Value: []byte{192, 168, 77, 254}}, subnet(10, 5, 8, 24)), info(),
		saOf(withSPI(espProposal, u32(p.spi))), wholeSpace(true), ts(false, "10.5.0.0/16"))...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
	r.busy(3, 1)
	h, ps = p.asked(message.ExchangeCreateChildSA)
	says(t, ps, "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	p.spi++
	p.answer(h, saOf(withSPI(espProposal, u32(p.spi))), nonce(5), ps[3], ps[4], info())
	wantLines(t, "as a client", r.lines(), 0, 1)
	if added := seen[core.AddPolicy](r); len(added) != 1 {
		t.Errorf("policies %+v", added)
	}
}

// A peer that puts the packet that asked into its selectors, another one each time, means the same traffic.
func TestLinesAskedForByAPacket(t *testing.T) {
	r, p := sharing(t, withLines(3))
	for i, packet := range []string{"10.2.0.5/32", "10.2.0.6/32"} {
		ask := p.asksLine(uint32(i))
		ask[1] = ts(true, packet, "10.2.0.0/16")
		says(t, p.request(message.ExchangeCreateChildSA, ask...), "N(SA_RESOURCE_INFO) SA Nonce TSi TSr")
	}
	wantLines(t, "asked for by packets", r.lines(), 0, 1, 2)
}
