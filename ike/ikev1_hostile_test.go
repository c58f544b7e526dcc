package ike

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// A message ID stands for one exchange. Whoever begins another quick mode with it, in the middle of the first, behind it or long
// after, gets nothing, and the first goes on.
func TestQuickModeRestarts(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	const id = 0x7001
	one, iv := p.quick1(id, 0xc0000001)
	two, _ := p.quick1(id, 0xc0000002)
	answer := p.say(one)
	if len(answer) != 1 {
		t.Fatal(r.reasons())
	}
	m, err := isakmp.Parse(answer[0])
	if err != nil {
		t.Fatal(err)
	}
	if out := p.say(two); len(out) != 0 || len(r.children) != 1 {
		t.Errorf("another message 1 is answered %d times, %d CHILD SAs", len(out), len(r.children))
	}
	if out := p.say(one); len(out) != 1 || !bytes.Equal(out[0], answer[0]) {
		t.Errorf("message 1 said again has %d answers", len(out))
	}
	p.say(p.quick3(id, iv, m))
	if len(r.children) != 1 || !r.children[1].active {
		t.Fatalf("the first one does not go on: %s", r.reasons())
	}
	for _, late := range []time.Duration{0, time.Minute, 10 * time.Minute} {
		r.pass(late)
		for _, raw := range [][]byte{one, two} {
			if out := p.say(raw); len(out) != 0 || len(r.children) != 1 {
				t.Errorf("%v later: %d answers, %d CHILD SAs: %s", late, len(out), len(r.children), r.reasons())
			}
		}
	}
	p.alive(t, 1)
}

// Quick modes that are begun and not finished are bounded, and what they took is given back.
func TestQuickModesThatAreNotFinished(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	answers := 0
	for n := range uint32(100) {
		raw, _ := p.quick1(0x7000+n, 0xc0000000+n)
		answers += len(p.say(raw))
	}
	if answers != 8 || len(r.children) != 8 {
		t.Errorf("%d of 100 are answered, %d CHILD SAs", answers, len(r.children))
	}
	for _, k := range r.children {
		if k.active {
			t.Error("one seals before message 3")
		}
	}
	if r.pass(80 * time.Second); len(r.children) != 0 {
		t.Errorf("%d CHILD SAs are left", len(r.children))
	}
	p.quick(0xc1000000)
	p.alive(t, 1)
}

// Some peers make another transaction under the message ID of the last one, and the chain of IVs goes on. Each is answered; one that
// is said again out of its place is not.
func TestTransactionsUnderOneMessageID(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	d := p.dialog(0x7001)
	var raws [][]byte
	for n := range uint16(5) {
		a := &isakmp.Attributes{CfgType: isakmp.CfgSet, ID: n, List: []isakmp.Attribute{isakmp.Variable(isakmp.UnityBanner, []byte{'a' + byte(n)})}}
		_, rest := isakmp.AppendPayloads(nil, []isakmp.Payload{a})
		raw := p.seal(isakmp.ExchangeTransaction, d.id, &d.iv, &isakmp.Hash{Data: mac(p.a, u32(d.id), rest)}, a)
		raws = append(raws, raw)
		out := p.say(raw)
		if len(out) != 1 {
			t.Fatalf("transaction %d has %d answers: %s", n, len(out), r.reasons())
		}
		m, err := isakmp.Parse(out[0])
		if err != nil {
			t.Fatal(err)
		}
		d.hear(m)
		if d.last.CfgType != isakmp.CfgAck || d.last.ID != n {
			t.Errorf("transaction %d: %v", n, d.last)
		}
	}
	for n, raw := range raws[:4] {
		if out := p.say(raw); len(out) != 0 {
			t.Errorf("transaction %d said again is answered", n)
		}
	}
	if out := p.say(raws[4]); len(out) != 1 {
		t.Errorf("the last one said again has %d answers", len(out))
	}
	// The same message ID for another exchange is nothing.
	for _, x := range []message.ExchangeType{isakmp.ExchangeQuick, isakmp.ExchangeMain} {
		if out := p.say(isakmp.AppendSealed(nil, p.header(x, d.id), isakmp.TypeHash, make([]byte, 64))); len(out) != 0 {
			t.Errorf("exchange %d is answered", x)
		}
	}
	p.quick(0xc0000001)
	p.alive(t, 1)
}

// A stranger who knows the cookies says whatever is possible, in clear and as if it were encrypted, with message IDs that are in use and
// others: nothing is kept for it, nothing ends, and nobody is answered.
func TestStrangersInSAs(t *testing.T) {
	for _, mode := range []func(*core.Config){inMainModeRig, inAggressiveModeRig} {
		r, p := settled1(t, mode)
		raw, iv := p.quick1(0x7001, 0xc0000002)
		m := p.ask(raw)
		third := p.quick3(0x7001, iv, m)
		exchanges := []message.ExchangeType{isakmp.ExchangeMain, isakmp.ExchangeAggressive, isakmp.ExchangeQuick, isakmp.ExchangeInformational, isakmp.ExchangeTransaction, 3, 33, 240}
		said := []isakmp.Payload{
			&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{p.cookies()}}, deleteESPv1(0xc0000001), deleteESPv1(r.children[1].In.SPI),
			&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact, SPI: p.cookies()},
			&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyRUThere, Data: u32(1)},
			&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, Kind: isakmp.NotifyNoProposalChosen},
			&isakmp.Attributes{CfgType: isakmp.CfgSet, List: []isakmp.Attribute{isakmp.Basic(isakmp.XAuthStatus, 0)}},
			&isakmp.Hash{Data: make([]byte, 32)}, p.sa(),
		}
		other := third500
		for _, x := range exchanges {
			for _, id := range []uint32{0, 0x7001, p.nextID, 0x9999} {
				for _, one := range said {
					for _, b := range [][]byte{isakmp.Append(nil, p.header(x, id), []isakmp.Payload{&isakmp.Hash{Data: make([]byte, 32)}, one}), isakmp.Append(nil, p.header(x, id), []isakmp.Payload{one}),
						isakmp.AppendSealed(nil, p.header(x, id), isakmp.TypeHash, bytes.Repeat([]byte{byte(x)}, 64))} {
						r.take()
						r.datagram(other, b)
						r.datagram(p.addr, b)
						if n := len(r.take()); n > 0 {
							t.Fatalf("exchange %d, message ID %x: %d answers to %x", x, id, n, b)
						}
					}
				}
			}
		}
		p.say(third)
		p.alive(t, 2)
		if sas := r.e.SAs(); len(sas) != 1 || sas[0].Remote != p.addr {
			t.Errorf("%+v", sas)
		}
	}
}

// Notifications in clear that refuse what we ask for are told and end nothing: the true answer counts when it comes.
func TestRefusalsInClear(t *testing.T) {
	p := newCallee1(t)
	refusal := func(kind isakmp.NotifyType) []byte {
		return p.clear(isakmp.ExchangeInformational, &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: kind})
	}
	first := p.one()
	p.spii = first.SPIi
	kinds := []isakmp.NotifyType{isakmp.NotifyNoProposalChosen, isakmp.NotifyInvalidKeyInformation, isakmp.NotifyAuthenticationFailed, isakmp.NotifyInvalidIDInformation, 8191}
	for _, k := range kinds {
		p.r.datagram(p.addr, refusal(k))
	}
	if sas := p.r.e.SAs(); len(sas) != 1 || !strings.Contains(p.r.reasons(), "NO-PROPOSAL-CHOSEN") {
		t.Fatalf("%v: %s", sas, p.r.reasons())
	}
	p.r.sends = []core.Send{{Data: isakmp.Append(nil, first.Header, first.Payloads)}}
	p.main1()
	p.r.datagram(p.addr, refusal(isakmp.NotifyNoProposalChosen))
	p.main3()
	six := p.main5()
	for _, k := range slices.Backward(kinds) {
		p.r.datagram(p.addr, refusal(k))
	}
	if p.r.datagram(p.addr, six); p.r.established() != 1 {
		t.Error(p.r.reasons())
	}
}
