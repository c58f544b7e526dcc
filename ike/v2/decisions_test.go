package v2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Each cause of a refusal is read as it is said.
func TestCauses(t *testing.T) {
	for c, kind := range causes {
		if got := causeOf(kind); got != c {
			t.Errorf("%v is said as %v and read as %v", c, kind, got)
		}
	}
	if got := causeOf(message.NotifyInvalidSyntax); got != ikesa.AnotherCause {
		t.Errorf("another one is read as %v", got)
	}
	theirs, ours := refused{kind: message.NotifyTSUnacceptable}, refused{kind: message.NotifyTSUnacceptable, ours: true}
	if c, ok := causeIn(theirs); !ok || c != ikesa.BadSelectors {
		t.Error(c, ok)
	}
	for _, err := range []error{ours, errors.New("no answer")} {
		if c, ok := causeIn(err); ok || c != ikesa.NotNow {
			t.Errorf("%v: %v, %v", err, c, ok)
		}
	}
}

// A CHILD SA is asked for with the group that it had, or that the peer wants; without one where none is the
// first that is allowed.
func TestFirstGroupOfAChild(t *testing.T) {
	x25519, modp := suite.GroupByName("x25519"), suite.GroupByName("modp2048")
	none := suite.KeyExchange{}
	for _, c := range []struct {
		name          string
		pfs           []suite.KeyExchange
		wants, before *suite.Group
		want          *suite.Group
	}{
		{"no PFS", nil, nil, nil, nil}, {"one group", []suite.KeyExchange{{Group: modp}}, nil, nil, modp}, {"none first", []suite.KeyExchange{none, {Group: modp}}, nil, nil, nil},
		{"none last", []suite.KeyExchange{{Group: modp}, none}, nil, nil, modp}, {"none first, and the peer wants one", []suite.KeyExchange{none, {Group: modp}}, modp, nil, modp},
		{"none first, and it had one", []suite.KeyExchange{none, {Group: x25519}, {Group: modp}}, nil, modp, modp}, {"it had another", []suite.KeyExchange{{Group: x25519}}, nil, modp, x25519},
	} {
		n := &childNegotiation{ke: &keyExchange{wants: c.wants}, child: &pendingChild{policy: &core.Policy{Proposal: core.Proposal{PFS: c.pfs}}}}
		if c.before != nil {
			n.child.old = &Child{}
			n.child.old.Suite.Group = c.before
		}
		x := newExchange(&kind{})
		x.sa = bareSA()
		if err := n.prepare(x); err != nil || n.ke.group != c.want || len(x.ni) != nonceLen {
			t.Errorf("%s: %v, %v, want %v", c.name, n.ke.group, err, c.want)
		}
	}
}

// What is being deleted or was rekeyed by the peer is not replaced.
func TestStillReplaceable(t *testing.T) {
	for _, c := range []struct {
		name string
		old  Child
		ok   bool
	}{
		{"live", Child{}, true}, {"closing", Child{Closing: true}, false}, {"gone", Child{Gone: true}, false},
		{"rekeyed by the peer", Child{Theirs: &Child{}}, false}, {"whose successor is gone", Child{Theirs: &Child{Gone: true}}, true},
	} {
		if err := stillReplaceable(&c.old); (err == nil) != c.ok || err != nil && !isRefused(err, message.NotifyTemporaryFailure) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The nonce that settles a collision is that of the peer's rekey, of the same kind and of the same CHILD SA.
func TestRival(t *testing.T) {
	low, high := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	old := &Child{}
	mine := func(id kindID, of *Child) *exchange {
		x := &exchange{kind: &kind{id: id}, tasks: []task{&pendingChild{old: of}}, sa: bareSA()}
		return x
	}
	parkedIn := func(x *exchange, p *exchange) *exchange {
		p.ni, p.nr = high, low
		x.sa.parked.theirs = []*exchange{p}
		return x
	}
	through := mine(rekeyChild, &Child{Theirs: &Child{LowNonce: low, Gone: true}})
	whole := mine(rekeyIKE, nil)
	whole.sa.successor = withKeys(&ikesa.SA{State: Established}, keys{})
	whole.sa.successor.lowNonce = low
	ended := mine(rekeyIKE, nil)
	ended.sa.successor = withKeys(&ikesa.SA{State: Ended}, keys{})
	ended.sa.successor.lowNonce = low
	for _, c := range []struct {
		name string
		x    *exchange
		want []byte
	}{
		{"none", mine(rekeyChild, old), nil}, {"it is through", through, low}, {"it lacks key exchanges", parkedIn(mine(rekeyChild, old), mine(rekeyChild, old)), low},
		{"of another CHILD SA", parkedIn(mine(rekeyChild, old), mine(rekeyChild, &Child{})), nil}, {"of another kind", parkedIn(mine(rekeyIKE, nil), mine(rekeyChild, nil)), nil},
		{"of the IKE SA", whole, low}, {"of an IKE SA whose successor has ended", ended, nil}, {"a new CHILD SA has none", parkedIn(mine(createChild, old), mine(createChild, old)), nil},
	} {
		if got := rival(c.x); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", c.name, got, c.want)
		}
	}
}

// What only we can have drawn is known again wherever in a request it stands.
func TestReflected(t *testing.T) {
	env := core.NewEnv([32]byte{1})
	nonce, ke, spi := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32), bytes.Repeat([]byte{9}, 8)
	for _, v := range [][]byte{nonce, ke, spi, spi[:4]} {
		env.Own.Add(string(v))
	}
	other := make([]byte, 32)
	proposals := func(spis ...[]byte) message.Payload {
		p := &message.SA{}
		for _, s := range spis {
			p.Proposals = append(p.Proposals, message.Proposal{SPI: s})
		}
		return p
	}
	for _, c := range []struct {
		name string
		in   []message.Payload
		ours bool
	}{
		{"nothing", []message.Payload{&message.Nonce{Data: other}, &message.KE{Data: other}, proposals(other[:8])}, false},
		{"the nonce", []message.Payload{&message.KE{Data: other}, &message.Nonce{Data: nonce}}, true}, {"the public value", []message.Payload{&message.Nonce{Data: other}, &message.KE{Data: ke}}, true},
		{"the SPI", []message.Payload{proposals(spi)}, true}, {"the SPI of the second proposal", []message.Payload{proposals(other[:8], spi)}, true},
		{"the SPI of a CHILD SA", []message.Payload{proposals(spi[:4])}, false},
	} {
		if err := reflected(env, c.in); errors.Is(err, ikesa.ErrReflected) != c.ours || (err != nil) != c.ours {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The addresses that a peer says it has are those that packets can go to, each once, and not more than there
// is room for.
func TestReadAddresses(t *testing.T) {
	say := func(addrs ...string) (in []message.Payload) {
		for _, s := range addrs {
			a := netip.MustParseAddr(s)
			kind := message.NotifyAdditionalIP4Address
			if a.Is6() {
				kind = message.NotifyAdditionalIP6Address
			}
			in = append(in, &message.Notify{Kind: kind, Data: a.AsSlice()})
		}
		return in
	}
	var many []string
	for i := range maxAddresses + 2 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String())
	}
	for _, c := range []struct {
		name string
		in   []message.Payload
		told bool
		want []string
	}{
		{"nothing", []message.Payload{&message.Nonce{}, &message.Notify{Kind: message.NotifyCookie2}}, false, []string{"198.51.100.9"}},
		{"none", []message.Payload{&message.Notify{Kind: message.NotifyNoAdditionalAddresses}}, true, nil},
		{"two", say("192.0.2.7", "2001:db8::7"), true, []string{"192.0.2.7", "2001:db8::7"}}, {"one twice", say("192.0.2.7", "192.0.2.7"), true, []string{"192.0.2.7"}},
		{"what nobody can send to", say("127.0.0.1", "fe80::1", "224.0.0.1", "0.0.0.0", "192.0.2.7"), true, []string{"192.0.2.7"}}, {"too many", say(many...), true, many[:maxAddresses]},
		{"no address", []message.Payload{&message.Notify{Kind: message.NotifyAdditionalIP4Address, Data: []byte{1, 2, 3}}}, true, nil},
	} {
		x := newExchange(&kind{})
		x.sa, x.in = bareSA(), c.in
		x.sa.mob.peers = []netip.Addr{netip.MustParseAddr("198.51.100.9")}
		told := readAddresses(x)
		var got []string
		for _, a := range x.sa.mob.peers {
			got = append(got, a.String())
		}
		if told != c.told || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, told, got, c.want)
		}
	}
}

// Which names are fit for the DNS.
func TestHostName(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "a": true, "a.example": true, "A-1.example": true, "9": true, "-a": false, ".a": false, "a b": false, "a_b": false, "a@b": false, "a[b": false, "a`b": false, "a{b": false, "a/b": false, "a:b": false,
		strings.Repeat("a", 253): true, strings.Repeat("a", 254): false,
	} {
		if got := hostName([]byte(name)); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// The SPI of the IKE SA to come stands in the proposal that was chosen, and is not zero.
func TestIKESPI(t *testing.T) {
	eight := []byte{0, 0, 0, 0, 0, 0, 0, 5}
	for _, c := range []struct {
		name string
		ps   []message.Proposal
		spi  uint64
	}{
		{"none", nil, 0}, {"one", []message.Proposal{{Number: 1, SPI: eight}}, 5}, {"the second", []message.Proposal{{Number: 2, SPI: make([]byte, 8)}, {Number: 1, SPI: eight}}, 5},
		{"zero", []message.Proposal{{Number: 1, SPI: make([]byte, 8)}}, 0}, {"of a CHILD SA", []message.Proposal{{Number: 1, SPI: eight[4:]}}, 0}, {"of another proposal", []message.Proposal{{Number: 2, SPI: eight}}, 0},
	} {
		if spi, ok := ikeSPIOf(c.ps, 1); spi != c.spi || ok != (c.spi != 0) {
			t.Errorf("%s: %d, %v", c.name, spi, ok)
		}
	}
}

// A response to our rekey has to name what was offered, an SPI, and how to go on where it agrees on more than
// one key exchange.
func TestRekeyResponse(t *testing.T) {
	x25519, mlkem := suite.GroupByName("x25519"), suite.KEMByName("ml-kem-768")
	base := core.Suite{Encr: suite.EncrByName("aes-128-gcm"), PRF: suite.PRFByName("sha256"), Group: x25519}
	hybrid := base
	hybrid.Additional = []*suite.KEM{mlkem}
	link := &message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: []byte{1}}
	for _, c := range []struct {
		name   string
		suite  core.Suite
		spi    uint64
		nonce  bool
		link   *message.Notify
		want   string // of the error; "": none
		lacks  int
		offers *suite.Group
	}{
		{"one key exchange", base, 5, true, nil, "", 0, x25519}, {"an SPI of zero", base, 0, true, nil, "what was not offered", 0, x25519}, {"no nonce", base, 5, false, nil, "what was not offered", 0, x25519},
		{"another group", base, 5, true, nil, "what was not offered", 0, suite.GroupByName("modp2048")},
		{"two", hybrid, 5, true, link, "", 1, x25519}, {"two, and no way to go on", hybrid, 5, true, nil, "does not say how to go on", 0, x25519},
	} {
		sa := bareSA()
		sa.base.Peer.Profile = core.Profile{Encrs: []*suite.Encr{base.Encr}, PRFs: []*suite.PRF{base.PRF}, Groups: []*suite.Group{x25519}}
		if c.suite.Additional != nil {
			sa.base.Peer.Profile.KeyExchanges = []suite.KeyExchange{{Group: x25519, Additional: hybrid.Additional}}
		}
		sa.base.Suite = c.suite
		x := newExchange(row(rekeyIKE))
		x.sa, x.mine = sa, true
		n := part[*ikeNegotiation](x)
		if err := n.ke.draw(x, c.offers); err != nil {
			t.Fatal(err)
		}
		x.in = []message.Payload{proposing(binary.BigEndian.AppendUint64(nil, c.spi), c.suite.Chosen())}
		if c.nonce {
			x.in = append(x.in, &message.Nonce{Data: make([]byte, 32)})
		}
		if c.link != nil {
			x.in = append(x.in, c.link)
		}
		err := n.complete(x)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || len(n.more.lacks) != 0 {
				t.Errorf("%s: %v, lacks %d", c.name, err, len(n.more.lacks))
			}
			continue
		}
		// There is no KE payload, which is asked for last.
		if err == nil || strings.Contains(err.Error(), "offered") || len(n.more.lacks) != c.lacks || n.next.peerSPI != c.spi {
			t.Errorf("%s: %v, lacks %d, SPI %d", c.name, err, len(n.more.lacks), n.next.peerSPI)
		}
	}
}

// A ticket whose key is right and whose content is not does not count.
func TestTicketOfAnotherFormat(t *testing.T) {
	env, jar := ticketEnv(1), &TicketJar{}
	want := someTickets()[0]
	raw, _, err := jar.seal(env, want)
	if err != nil {
		t.Fatal(err)
	}
	head := raw[:ticketHead]
	odd := gcm(jar.keys[0].Secret).Seal(bytes.Clone(head), raw[9:ticketHead], []byte("something else"), head)
	if got, _, err := jar.open(env, odd); got != nil || err == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// A peer may ask for another group of ours a few times.
func TestWhoAsksForAnotherGroup(t *testing.T) {
	x25519, modp := suite.GroupByName("x25519"), suite.GroupByName("modp2048")
	ask := func(g *suite.Group) *message.Notify {
		return &message.Notify{Kind: message.NotifyInvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, g.ID)}
	}
	k := &keyExchange{group: x25519, private: secret.Bytes{1}}
	for range maxRepeats {
		var a again
		if err := k.otherGroup(ask(modp), []*suite.Group{x25519, modp}, "the profile", nil); !errors.As(err, &a) || k.wants != modp {
			t.Fatalf("%v, wants %v", err, k.wants)
		}
	}
	if err := k.otherGroup(ask(modp), []*suite.Group{x25519, modp}, "the profile", nil); !isRefused(err, message.NotifyInvalidKEPayload) || !strings.Contains(err.Error(), "times for another") {
		t.Errorf("without end: %v", err)
	}
	k = &keyExchange{group: x25519}
	if err := k.otherGroup(ask(modp), []*suite.Group{x25519}, "the profile", nil); !isRefused(err, message.NotifyInvalidKEPayload) || !strings.Contains(err.Error(), "does not allow") || k.repeats != 0 {
		t.Errorf("a group that is not ours: %v, %d repeats", err, k.repeats)
	}
}
