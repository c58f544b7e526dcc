package record

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/spd/selector"
)

var request = message.Header{Version: 0x20, Exchange: message.ExchangeIKEAuth, Flags: message.FlagInitiator, ID: 1}

// What a replay says of inputs. Nobody who has the line learns a secret by it.
func TestDescribeInput(t *testing.T) {
	psk := secret.Bytes("thisisnotasecurepsk")
	for _, c := range []struct {
		in   any
		want string
	}{
		{core.Datagram{Local: ap4, Remote: ap6, Data: []byte{1}}, "Datagram 192.0.2.1:500 from [fe80::1%eth0]:4500, 1 bytes that are no IKE message"},
		{core.Datagram{Local: ap4, Remote: ap4, Data: (&message.Message{Header: request}).Append(nil)}, "Datagram 192.0.2.1:500 from 192.0.2.1:500, IKE_AUTH request 1, 28 bytes"},
		{core.Acquire{Policy: 7, Flow: selector.Pair{Local: ts, Remote: ts}}, "Acquire policy-ref 7, " + selector.Pair{Local: ts, Remote: ts}.String()},
		{core.Expire{Child: 5, Hard: true}, "Expire CHILD SA 5, hard true"},
		{core.Used{Child: 6}, "Used CHILD SA 6"},
		{core.Alive{Child: 7}, "Alive CHILD SA 7"},
		{core.Moved{Child: 8, Local: ap4, Remote: ap4}, "Moved CHILD SA 8 to 192.0.2.1:500, 192.0.2.1:500"},
		{core.LocalAddrs{Addrs: []netip.Addr{ap4.Addr()}}, "LocalAddrs [192.0.2.1]"},
		{core.LocalNets{Nets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "LocalNets [192.0.2.0/24]"},
		{core.PathClaim{Child: 9, MTU: 1400}, "PathClaim CHILD SA 9, MTU 1400"},
		{core.PathUntried{Child: 9, MTU: 1400}, "PathUntried CHILD SA 9, MTU 1400"},
		{core.Answer{ID: 9, Data: psk}, "Answer 9, 19 bytes"},
		{core.Answer{ID: 9, Err: errors.New(string(psk))}, "Answer 9: it failed"},
		{core.SPIs{SPIs: []uint32{1, 2}}, "SPIs, 2 of them"},
		{Reconfigure{From: config.Snapshot{Files: make([]config.SnapshotFile, 3)}}, "Reconfigure, 3 files"},
		{core.TicketKeys{Keys: []core.TicketKey{{Secret: psk}}}, "TicketKeys, 1 of them"},
		{core.Command{Do: core.RekeyIKE, SA: 3}, "Command 4, IKE SA 3"},
		{core.Tick{}, "Tick"},
		{core.RoutesChanged{}, "RoutesChanged"},
		{core.Unanswered{Child: 9}, "Unanswered CHILD SA 9"},
		{core.Silent{Child: 9}, "Silent CHILD SA 9"},
		{core.Busy{Child: 9, Line: 3}, "Busy CHILD SA 9, line 3"},
		{core.UnknownSPI{Local: ap4, Remote: ap4, SPI: 5, Child: 9}, "UnknownSPI 00000005, 192.0.2.1:500 from 192.0.2.1:500, CHILD SA 9"},
		{core.Woke{Apart: time.Minute}, "Woke, clocks 1m0s apart"},
	} {
		if got := describeInput(c.in); got != c.want {
			t.Errorf("%T: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDescribeOutput(t *testing.T) {
	up := core.Install{Child: 1, SA: 2, Policy: 3, Peer: "a", Encr: suite.EncrByName("aes-128-gcm"), In: core.HalfSA{SPI: 5},
		Pairs: []selector.Pair{{Local: ts, Remote: ts}}, Local: ap4, Remote: ap6}
	cbc := up
	cbc.Encr, cbc.Integ = suite.EncrByName("3des"), suite.IntegByName("sha1")
	ah, both := up, cbc
	ah.Encr, ah.Integ, both.AH.Integ = nil, suite.IntegByName("sha256"), suite.IntegByName("sha512")
	behind := ", [" + up.Pairs[0].String() + "], 192.0.2.1:500 to [fe80::1%eth0]:4500"
	for _, c := range []struct {
		out  core.Output
		want string
	}{
		{core.Send{Local: ap4, Remote: ap4, Data: []byte{1}}, "Send 192.0.2.1:500 to 192.0.2.1:500, 1 bytes that are no IKE message"},
		{up, "Install CHILD SA 1 of IKE SA 2 for policy-ref 3, peer a, aes-128-gcm" + behind},
		{cbc, "Install CHILD SA 1 of IKE SA 2 for policy-ref 3, peer a, 3des/sha1" + behind},
		{ah, "Install CHILD SA 1 of IKE SA 2 for policy-ref 3, peer a, ah/sha256" + behind},
		{both, "Install CHILD SA 1 of IKE SA 2 for policy-ref 3, peer a, 3des/sha1 within ah/sha512" + behind},
		{core.Activate{Child: 1}, "Activate CHILD SA 1"},
		{core.Retire{Child: 1}, "Retire CHILD SA 1"},
		{core.Remove{Child: 1}, "Remove CHILD SA 1"},
		{core.Move{Child: 1, Local: ap4, Remote: ap4}, "Move CHILD SA 1 to 192.0.2.1:500, 192.0.2.1:500"},
		{core.NeedSPIs{N: 4}, "NeedSPIs 4"},
		{core.KeepaliveTo{Remote: ap4}, "KeepaliveTo 192.0.2.1:500"},
		{core.Ask{ID: 1, SA: 2, Work: core.KEPublic{}}, "Ask 1 of IKE SA 2: core.KEPublic"},
		{core.Withdraw{ID: 1}, "Withdraw 1"},
		{core.PathMTU{}, "PathMTU"},
		{core.FreeSPI{}, "FreeSPI"},
		// Reason may have an identity in it, and so may the lines of a mismatch of identities.
		{core.Event{Kind: core.EvIKEUp, Reason: "left.example"}, "Event ike-up"},
		{core.Event{Kind: core.EvChildUp, SA: 1, Child: 2, Policy: 3, Peer: "a\n", Exchange: "IKE_AUTH"},
			`Event child-up, IKE SA 1, CHILD SA 2, policy-ref 3, peer a\n, in IKE_AUTH`},
		{core.Event{Kind: core.EvAuthFailed, Detail: &core.Mismatch{What: "identity", Part: "id", Ours: []string{"left.example"}}},
			"Event authentication-failed, identity, they part in id"},
		{core.Event{Kind: core.EvNoProposal, Detail: &core.Mismatch{What: "ESP proposal", Ours: []string{"a", "b"}, Theirs: []string{"c"}}},
			"Event no-proposal-chosen, ESP proposal, ours [a; b], theirs [c]"},
		{core.Event{Kind: core.EvTSUnacceptable, Detail: &core.Mismatch{What: "traffic selectors", Ours: []string{"a"}}},
			"Event ts-unacceptable, traffic selectors, ours [a], theirs []"},
	} {
		if got := describeOutput(c.out); got != c.want {
			t.Errorf("%T: %q, want %q", c.out, got, c.want)
		}
	}
}

// What a replay says of messages in clear: kinds, numbers and lengths, not what stands in them.
func TestTracedText(t *testing.T) {
	response := request
	response.Flags = message.FlagResponse
	for _, c := range []struct {
		sent bool
		h    message.Header
		body []message.Payload
		want string
	}{
		{true, request, nil, "  seals: IKE_AUTH request 1 {}"},
		{false, response, []message.Payload{
			&message.SA{Proposals: []message.Proposal{
				{Number: 1, Protocol: 3, Transforms: []message.Transform{{Type: 1, ID: 12, KeyBits: 128}, {Type: 3, ID: 2}}},
				{Number: 2, Protocol: 3, Transforms: []message.Transform{{Type: 1, ID: 3}}}}},
			&message.KE{Group: 14, Data: make([]byte, 256)}, &message.KE{Group: 999, Data: make([]byte, 5)}, &message.Nonce{Data: make([]byte, 16)},
		}, "  in clear: IKE_AUTH response 1 {SA(1: protocol 3 1:12/128 3:2 | 2: protocol 3 1:3), KE(modp2048), KE(group 999, 5 bytes), Nonce(16 bytes)}"},
		{true, request, []message.Payload{
			&message.ID{Initiator: true, IDType: 2, Data: []byte("left.example")}, &message.ID{IDType: 1, Data: make([]byte, 4)},
			&message.Auth{Method: 2, Data: []byte("theproof")}, &message.Notify{Kind: message.NotifyRekeySA, Data: []byte("thedata")},
			&message.Delete{Protocol: 3, SPIs: [][]byte{{1, 2, 3, 4}, {5, 6, 7, 8}}},
			&message.TS{Initiator: true, Selectors: []selector.TS{ts}}, &message.TS{Selectors: []selector.TS{ts}},
			&message.VendorID{Data: []byte("someone")},
		}, "  seals: IKE_AUTH request 1 {IDi(type 2, 12 bytes), IDr(type 1, 4 bytes), AUTH(method 2, 8 bytes), N(REKEY_SA, 7 bytes), D(protocol 3, 2 SPIs), " +
			"TSi[" + ts.String() + "], TSr[" + ts.String() + "], Vendor ID(7 bytes)}"},
	} {
		if got := tracedText(c.sent, c.h, c.body); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// The same of IKEv1, where the attributes of XAuth do not even say how long a password is.
func TestTracedTextOfIKEv1(t *testing.T) {
	h := message.Header{Version: isakmp.Version, Exchange: isakmp.ExchangeTransaction, ID: 0xabc}
	for _, c := range []struct {
		h    message.Header
		p    message.Payload
		want string
	}{
		{message.Header{Version: isakmp.Version, Exchange: isakmp.ExchangeMain}, &isakmp.SA{Proposals: []isakmp.Proposal{{Number: 1, Protocol: 1,
			Transforms: []isakmp.Transform{{Number: 1, ID: 1, Attributes: []isakmp.Attribute{isakmp.Basic(4, 19)}}}}}}, "  seals: main mode {SA(1: protocol 1 1 4=0013)}"},
		{h, &isakmp.Attributes{CfgType: 2, List: []isakmp.Attribute{isakmp.Variable(isakmp.XAuthPassword, []byte("thesecret"))}}, "  seals: transaction 00000abc {ATTRIBUTES(kind 2 16522)}"},
		{h, &isakmp.ID{IDType: 2, Protocol: 17, Port: 500, Data: []byte("left.example")}, "  seals: transaction 00000abc {ID(type 2, protocol 17, port 500, 12 bytes)}"},
		{h, &isakmp.Notify{Kind: isakmp.NotifyInitialContact, Data: []byte("thedata")}, "  seals: transaction 00000abc {N(INITIAL-CONTACT, 7 bytes)}"},
		{h, &isakmp.Delete{Protocol: 3, SPIs: [][]byte{{1, 2, 3, 4}}}, "  seals: transaction 00000abc {D(protocol 3, 1 SPIs)}"},
		{h, &isakmp.Hash{Data: []byte("theproof")}, "  seals: transaction 00000abc {HASH(8 bytes)}"},
	} {
		if got := tracedText(true, c.h, []message.Payload{c.p}); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	raw := message.Header{SPIi: 1, SPIr: 2, Version: isakmp.Version, Exchange: isakmp.ExchangeTransaction, ID: 0xabc, Length: message.HeaderLen}
	data := isakmp.Append(nil, raw, nil)
	if got := headerText(data); got != "transaction 00000abc" {
		t.Errorf("%q", got)
	}
	raw.Exchange = isakmp.ExchangeQuick
	if got := headerText(isakmp.Append(nil, raw, nil)); got != "quick mode 00000abc, 28 bytes" {
		t.Errorf("%q", got)
	}
}

// teller is a parrot that tells each datagram as a message in clear.
type teller struct {
	parrot
	f func(sent bool, h message.Header, body []message.Payload)
	w core.Witness
}

func (p *teller) Trace(f func(sent bool, h message.Header, b []message.Payload)) { p.f = f }
func (p *teller) Witness(w core.Witness)                                         { p.w = w }
func (p *teller) Handle(now time.Time, in core.Input) {
	if d, ok := in.(core.Datagram); ok && p.f != nil {
		p.f(false, request, []message.Payload{&message.Nonce{Data: d.Data}})
	}
	p.parrot.Handle(now, in)
}

// A recording without secrets has a line of each message in clear and of each output, and a replay compares them.
func TestRedactedHasMessages(t *testing.T) {
	e := &teller{}
	r, err := New(e, Options{Dir: filepath.Join(t.TempDir(), "r"), Start: time0, Redact: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r.Handle(time0.Add(time.Duration(i)), core.Datagram{Local: ap4, Remote: ap4, Data: []byte("ab")})
		for _, ok := r.Poll(); ok; _, ok = r.Poll() {
		}
	}
	if e.w == nil {
		t.Error("the endpoint has no witness")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if e.f != nil || e.w != nil {
		t.Error("the endpoint tells on when the recording has ended")
	}
	var lines []string
	got, err := Replay(r.o.Dir, Player{New: func([32]byte) Endpoint { return &teller{} }, Line: func(_ time.Time, text string) { lines = append(lines, text) }})
	if err != nil || got.Difference != nil || got.Outputs != 6 {
		t.Fatalf("%+v, %v", got, err)
	}
	const in, clear, out = "Datagram 192.0.2.1:500 from 192.0.2.1:500, 2 bytes that are no IKE message", "  in clear: IKE_AUTH request 1 {Nonce(2 bytes)}",
		"  out Send 192.0.2.1:500 to 192.0.2.1:500, 2 bytes that are no IKE message"
	if want := []string{in, clear, out, out, in, clear, out, out}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
	// The endpoint of another version says less.
	got, err = Replay(r.o.Dir, Player{New: func([32]byte) Endpoint { return &parrot{} }})
	if d := got.Difference; err != nil || d == nil || d.Input != 1 || d.Output != 1 || d.Recorded != strings.TrimSpace(clear) || d.Replayed != strings.TrimSpace(out) {
		t.Errorf("%v, %v", d, err)
	}
}

// Where one side has more outputs than the other, the difference says what the other has in their place.
func TestDifferenceInNumber(t *testing.T) {
	path, r := recorded(t, nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		e      Endpoint
		output int
		want   string
	}{
		{&mute{left: 1}, 1, "replayed nothing"}, // of the first input
		{&mute{left: 2}, 2, "replayed nothing"}, // of the second, which has three
	} {
		p := player
		p.New = func([32]byte) Endpoint { return c.e }
		got, err := Replay(path, p)
		if err != nil || got.Difference == nil || got.Difference.Output != c.output || !strings.HasSuffix(got.Difference.String(), c.want) {
			t.Errorf("%v, %v, want output %d, %s", got.Difference, err, c.output, c.want)
		}
	}
	p := player
	p.New = func([32]byte) Endpoint { return &chatty{} }
	got, err := Replay(path, p)
	if d := got.Difference; err != nil || d == nil || d.Input != 1 || d.Output != 2 || d.Recorded != "" || !strings.HasSuffix(d.Replayed, " (NeedSPIs 9)") || !strings.Contains(d.String(), "recorded nothing") {
		t.Errorf("%v, %v", d, err)
	}
}

// mute is a parrot that falls silent after some outputs.
type mute struct {
	parrot
	left int
}

func (p *mute) Poll() (core.Output, bool) {
	if p.left == 0 {
		return nil, false
	}
	o, ok := p.parrot.Poll()
	if ok {
		p.left--
	}
	return o, ok
}

// chatty is a parrot that says more.
type chatty struct{ parrot }

func (p *chatty) Handle(now time.Time, in core.Input) {
	p.parrot.Handle(now, in)
	p.queue = append(p.queue, core.NeedSPIs{N: 9})
}
