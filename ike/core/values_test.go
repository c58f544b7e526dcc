package core

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/message"
)

// TestPeersBegin checks which side initiates, and from which address and port, for each kind of peer.
func TestPeersBegin(t *testing.T) {
	one, net := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.0/24")
	for _, c := range []struct {
		name           string
		p              Peer
		initiates, up  bool
		natt, startsAt uint16
	}{
		{"one address", Peer{Address: one, Port: 500}, true, true, 4500, 500},
		{"a network", Peer{Address: net, Port: 500}, false, false, 4500, 500},
		{"a name", Peer{DNSName: "gw.example", Port: 500}, true, true, 4500, 500},
		{"passive", Peer{Address: one, Passive: true, Port: 500}, false, false, 4500, 500},
		{"on demand", Peer{Address: one, OnDemand: true, Port: 500}, true, false, 4500, 500},
		{"one port for both", Peer{Address: one, Port: 1500, NATTPort: 1500}, true, true, 1500, 4500},
		{"the standard's port for both", Peer{Address: one, Port: 4500}, true, true, 4500, 4500},
		{"other ports", Peer{Address: one, Port: 1500, NATTPort: 1600}, true, true, 1600, 500},
	} {
		cfg := Config{IKEPort: 500, NATTPort: 4500}
		if c.p.Initiates() != c.initiates || c.p.KeptUp() != c.up || c.p.NATT() != c.natt || cfg.StartsAt(&c.p) != c.startsAt {
			t.Errorf("%s: initiates %v, kept up %v, NAT-T port %d, from %d", c.name, c.p.Initiates(), c.p.KeptUp(), c.p.NATT(), cfg.StartsAt(&c.p))
		}
	}
	if (&Peer{Identities: []*Identity{{}, {}}}).HasPPK() || !(&Peer{Identities: []*Identity{{}, {PPK: &PPK{}}}}).HasPPK() {
		t.Error("HasPPK")
	}
	if (&Profile{}).Additional() || (&Profile{KeyExchanges: exchangesOf("x25519 ecp256")}).Additional() || !(&Profile{KeyExchanges: exchangesOf("x25519 ecp256+ml-kem-768")}).Additional() {
		t.Error("Additional")
	}
	if (&Identity{Auth: AuthPSK}).Remote() != AuthPSK || (&Identity{Auth: AuthPSK, RemoteAuth: AuthSignature}).Remote() != AuthSignature {
		t.Error("Remote")
	}
	for g, want := range map[Gateway]string{{Name: "gw.example"}: "gw.example", {Addr: one.Addr()}: "192.0.2.1", {Name: "gw.example", Addr: one.Addr()}: "gw.example"} {
		if g.String() != want || !g.Valid() {
			t.Errorf("%+v is %q", g, g)
		}
	}
	if (Gateway{}).Valid() {
		t.Error("nowhere is somewhere")
	}
	p := Proposal{PFS: append(exchangesOf("x25519+ml-kem-768 ecp256 x25519"), suite.KeyExchange{})}
	if got := p.Groups(); !slices.Equal(got, []*suite.Group{suite.GroupByName("x25519"), suite.GroupByName("ecp256")}) {
		t.Errorf("%v", got)
	}
}

// The hash of NAT detection is over SPIs, address and port, the address as IPv4 where it is one.
func TestNATHash(t *testing.T) {
	for _, c := range []struct{ addr, over string }{
		{"192.0.2.1:500", "01020304050607081112131415161718" + "c0000201" + "01f4"},
		{"[::ffff:192.0.2.1]:500", "01020304050607081112131415161718" + "c0000201" + "01f4"},
		{"[2001:db8::1]:4500", "01020304050607081112131415161718" + "20010db8000000000000000000000001" + "1194"},
	} {
		b, err := hex.DecodeString(c.over)
		if err != nil {
			t.Fatal(err)
		}
		want1, want256 := sha1.Sum(b), sha256.Sum256(b)
		a := netip.MustParseAddrPort(c.addr)
		if got := NATHash(sha1.New, 0x0102030405060708, 0x1112131415161718, a); !bytes.Equal(got, want1[:]) {
			t.Errorf("%s: %x", c.addr, got)
		}
		if got := NATHash(sha256.New, 0x0102030405060708, 0x1112131415161718, a); !bytes.Equal(got, want256[:]) {
			t.Errorf("%s by SHA-256: %x", c.addr, got)
		}
	}
}

// A value is ours as long as one of our requests carries it.
func TestOwn(t *testing.T) {
	o := Own{}
	o.Add("a")
	o.Add("a")
	for i, want := range []bool{true, true, false, false} {
		if o.Has([]byte("a")) != want || o.Has([]byte("b")) {
			t.Errorf("after %d drops: %v", i, o)
		}
		if o.Drop("a"); i == 1 && len(o) != 0 {
			t.Errorf("what no request carries is kept: %v", o)
		}
	}
	if len(o) != 0 {
		t.Errorf("%v is left", o)
	}
}

// The answer to a Resolve is read as it was made; one of an earlier version is an IPv4 address.
func TestPackAddrs(t *testing.T) {
	list := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}
	if got := UnpackAddrs(PackAddrs(list)); !slices.Equal(got, list) {
		t.Errorf("%v", got)
	}
	if got := UnpackAddrs(secret.Bytes{192, 0, 2, 1}); !slices.Equal(got, list[1:]) {
		t.Errorf("%v", got)
	}
	for _, n := range []int{0, 3, 5, 15, 17, 31} {
		if got := UnpackAddrs(make(secret.Bytes, n)); got != nil {
			t.Errorf("%d bytes are %v", n, got)
		}
	}
}

// What a key exchange computes: both ends come to the same secret, and a responder has its public value in front of it.
func TestKeyExchangeWorks(t *testing.T) {
	for _, name := range []string{"x25519", "ecp256"} {
		g := suite.GroupByName(name)
		a, b := secret.Bytes(bytes.Repeat([]byte{1}, 32)), secret.Bytes(bytes.Repeat([]byte{2}, 32))
		public, err := KEPublic{g, a}.Do()
		if err != nil || len(public) != g.PublicLen {
			t.Fatalf("%s: %d bytes, %v", name, len(public), err)
		}
		both, err := KEBoth{KEShared{g, b, public}}.Do()
		if err != nil {
			t.Fatal(err)
		}
		shared, err := KEShared{g, a, both[:g.PublicLen]}.Do()
		if err != nil || !shared.Equal(both[g.PublicLen:]) {
			t.Errorf("%s: %d and %d bytes, %v", name, len(shared), len(both)-g.PublicLen, err)
		}
		if _, err := (KEBoth{KEShared{g, b, public[1:]}}).Do(); err == nil {
			t.Errorf("%s: a public value that is cut is taken", name)
		}
	}
	for i := range suite.KEMs {
		k := &suite.KEMs[i]
		if got, err := (Encapsulate{KEM: k, Public: make([]byte, k.PublicLen-1)}).Do(); err == nil || got != nil {
			t.Errorf("%s: a key that is cut is taken", k.Name)
		}
	}
	for _, text := range []string{"192.0.2.1", "2001:db8::1"} {
		for _, strays := range []bool{false, true} {
			want := netip.MustParseAddr(text)
			if got, s := UnpackSource(PackSource(want, strays)); got != want || s != strays {
				t.Errorf("%v, %v: %v, %v", want, strays, got, s)
			}
		}
	}
	if got, strays := UnpackSource(nil); got.IsValid() || strays {
		t.Errorf("nothing leads there: %v, %v", got, strays)
	}
	for _, w := range []Work{Resolve{}, SourceFor{}, Lease{}} {
		if _, err := w.Do(); err != ErrSystem {
			t.Errorf("%T: %v", w, err)
		}
	}
}

// noted is a Witness that notes what it sees, and says otherwise.
type noted struct{ seen []string }

func (n *noted) Drew(b []byte)                          { n.seen = append(n.seen, "drew"); clear(b) }
func (n *noted) Opened(o Opening, k int) (Opening, int) { return o, k }
func (n *noted) Read(t message.PayloadType, b []byte) (message.PayloadType, []byte) {
	return t, b
}
func (n *noted) Unsealed(b []byte) []byte { return b }
func (n *noted) Proved(ok bool) bool      { n.seen = append(n.seen, "proved"); return !ok }

// A Witness sees what others may see and has the last word; what becomes a key it does not see.
func TestWitness(t *testing.T) {
	a, b := NewEnv([32]byte{1}), NewEnv([32]byte{1})
	w := &noted{}
	b.Witness = w
	if x, y := a.Private(16), b.Private(16); !bytes.Equal(x, y) || bytes.Equal(x, make([]byte, 16)) || len(w.seen) != 0 {
		t.Errorf("%x, %x, seen %q", x, y, w.seen)
	}
	if x, y := a.Random(16), b.Random(16); bytes.Equal(x, make([]byte, 16)) || !bytes.Equal(y, make([]byte, 16)) {
		t.Errorf("%x, %x", x, y)
	}
	if !a.Proved(true) || a.Proved(false) || b.Proved(true) || !b.Proved(false) || !slices.Equal(w.seen, []string{"drew", "proved", "proved"}) {
		t.Errorf("seen %q", w.seen)
	}
}

// Some refusals of strangers are explained in a second, and then no more of them.
func TestExplains(t *testing.T) {
	e := NewEnv([32]byte{1})
	e.SetNow(start)
	count := func() (n int) {
		for range 3 * maxExplained {
			if e.Explains() {
				n++
			}
		}
		return n
	}
	if n := count(); n != 10 || maxExplained != 10 {
		t.Errorf("%d are explained", n)
	}
	e.SetNow(start.Add(time.Second - 1))
	if n := count(); n != 0 {
		t.Errorf("%d more are explained within the second", n)
	}
	e.SetNow(start.Add(time.Second))
	if n := count(); n != maxExplained {
		t.Errorf("%d are explained in the next second", n)
	}
}

// A question that is not open is not withdrawn; numbers are given out once.
func TestAsksAndNumbers(t *testing.T) {
	e := NewEnv([32]byte{1})
	id := e.Ask(7, SourceFor{}, func(secret.Bytes, error) {})
	e.Withdraw(id + 1)
	e.Withdraw(id)
	e.Answered(Answer{ID: id})
	e.Withdraw(id)
	e.GiveSPI(300)
	var got []Output
	for o, ok := e.Poll(); ok; o, ok = e.Poll() {
		got = append(got, o)
	}
	if len(got) != 3 || got[0] != (Ask{ID: id, SA: 7, Work: SourceFor{}}) || got[1] != (Withdraw{id}) || got[2] != (FreeSPI{300}) {
		t.Errorf("%+v", got)
	}
	if a, b := e.NewSAID(), e.NewSAID(); a != 1 || b != 2 {
		t.Error(a, b)
	}
	if a, b := e.NewChildID(), e.NewChildID(); a != 1 || b != 2 {
		t.Error(a, b)
	}
	ran := false
	e.SetNow(start)
	e.After(time.Second, func() { ran = true })
	if e.Timers.Run(start.Add(time.Second - 1)); ran {
		t.Error("it ran too early")
	}
	if e.Timers.Run(start.Add(time.Second)); !ran {
		t.Error("it did not run")
	}
	e.Traced(true, message.Header{}, nil) // nobody watches
	traced := 0
	e.Trace = func(sent bool, h message.Header, body []message.Payload) {
		if sent && h.ID == 9 && len(body) == 1 {
			traced++
		}
	}
	if e.Traced(true, message.Header{ID: 9}, []message.Payload{&message.Nonce{}}); traced != 1 {
		t.Error("nobody was told")
	}
}

// What is shown of lists is bounded, and says how much more there is.
func TestLines(t *testing.T) {
	many := make([]string, maxLines+3)
	for i := range many {
		many[i] = string(rune('a' + i))
	}
	for n, want := range map[int]string{0: "", 1: "a", maxLines: "p", maxLines + 1: "and 1 more", maxLines + 3: "and 3 more"} {
		got := Lines(many[:n])
		if len(got) != min(n, maxLines+1) || n > 0 && got[len(got)-1] != want {
			t.Errorf("of %d: %q", n, got)
		}
	}
	if At("") != "" || At("x:1") != " (x:1)" {
		t.Error(At(""), At("x:1"))
	}
}

// What is known of a peer that says only that another group would do, or nothing.
func TestLittleIsKnown(t *testing.T) {
	o := InitOffer(profileOf("x25519 ecp256"), false)
	p := o.OnlyGroup(14)
	m := o.Explain([]Alternative{p}, holder)
	if m.Part != "group" || !slices.Contains(m.Theirs, "group: modp2048") {
		t.Errorf("%+v", m)
	}
	if got := (Offer{Protocol: ProtoESP}).OnlyGroup(14); len(got.Transforms) != 0 || got.Protocol != ProtoESP || got.Number != 1 {
		t.Errorf("%+v", got)
	}
	if got := o.Alternatives()[0]; len(got.Transforms) != len(p.Transforms)+1 {
		t.Errorf("the offer was changed: %+v", got)
	}
	m = o.Unchosen(holder)
	if m.What != "IKE proposal" || !slices.Equal(m.Ours, []string{"encryption: aes-128", "prf: sha256", "integrity: sha256", "group: x25519, ecp256"}) || m.Where != "site.toml:" || m.Part != "" ||
		m.Hint != `the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in profile "x" (site.toml:)` {
		t.Errorf("%+v", m)
	}
}

// TestChildOffer checks the transforms that are offered for a CHILD SA. AH has no encryption, and IKE_AUTH has no key exchange.
func TestChildOffer(t *testing.T) {
	sha, gcm, cbc := suite.IntegByName("sha256"), suite.EncrByName("aes-128-gcm"), suite.EncrByName("aes-256-cbc")
	p := Policy{Protocol: ProtoESP, Proposal: Proposal{Encrs: []*suite.Encr{gcm, cbc}, Integs: []*suite.Integ{sha}, PFS: exchangesOf("x25519 ecp256"), ESN: []bool{true, false}}}
	for _, c := range []struct {
		protocol    Protocol
		with        bool
		encrs, alts int
		groups      []string
	}{
		{ProtoESP, true, 2, 2, []string{"x25519", "ecp256"}}, {ProtoESP, false, 2, 2, nil}, {ProtoAH, true, 0, 1, []string{"x25519", "ecp256"}}, {ProtoAH, false, 0, 1, nil},
	} {
		p.Protocol = c.protocol
		o := ChildOffer(&p, c.with)
		var groups []string
		for _, g := range o.Groups {
			groups = append(groups, g.Name)
		}
		if len(o.Encrs) != c.encrs || len(o.Alternatives()) != c.alts || !slices.Equal(groups, c.groups) {
			t.Errorf("%v, PFS %v: %+v", c.protocol, c.with, o)
		}
		s, answer, ok := o.Select(o.Alternatives())
		if !ok || (s.Encr == nil) != (c.protocol == ProtoAH) || !s.ESN || (s.Group == nil) == c.with || answer.Protocol != c.protocol {
			t.Errorf("%v, PFS %v: %+v, %v", c.protocol, c.with, s, ok)
		}
		if c.protocol == ProtoAH && s.Integ != sha {
			t.Errorf("AH by %v", s.Integ)
		}
	}
	p.Protocol = ProtoAH
	o := ChildOffer(&p, false)
	o.Integs = []*suite.Integ{suite.IntegByName("sha1")}
	if s, _, ok := o.Select(ChildOffer(&p, false).Alternatives()); ok {
		t.Errorf("AH without integrity in common: %+v", s)
	}
	p.Protocol, p.Proposal.Integs = ProtoESP, nil // a cipher without integrity is not offered
	if alts := ChildOffer(&p, false).Alternatives(); len(alts) != 1 || len(alts[0].Transforms) != 3 {
		t.Errorf("%+v", alts)
	}
}

func TestSuiteTexts(t *testing.T) {
	encr, prf, integ, group := suite.EncrByName("aes-256-cbc"), suite.PRFByName("sha256"), suite.IntegByName("sha256"), suite.GroupByName("x25519")
	for _, c := range []struct {
		s          Suite
		ke, inFull string
	}{
		{Suite{}, "", ""},
		{Suite{Encr: encr, PRF: prf, Integ: integ, Group: group}, "x25519", "aes-256/sha256, prf sha256, x25519"},
		{Suite{Encr: suite.EncrByName("aes-128-gcm"), PRF: prf, Group: group, Additional: exchangesOf("x25519+ml-kem-768+ml-kem-1024")[0].Additional},
			"x25519+ml-kem-768+ml-kem-1024", "aes-128-gcm, prf sha256, x25519+ml-kem-768+ml-kem-1024"},
		{Suite{Encr: suite.EncrByName("null"), Integ: integ}, "", "null/sha256"},
	} {
		if c.s.KeyExchange() != c.ke || c.s.IKEText() != c.inFull {
			t.Errorf("%q, %q, want %q", c.s.KeyExchange(), c.s.IKEText(), c.inFull)
		}
	}
	var ts Timers
	tm := ts.At(start, func() {})
	if !tm.Time().Equal(start) {
		t.Error(tm.Time())
	}
	if ts.Stop(tm); !tm.Time().IsZero() {
		t.Error(tm.Time())
	}
}
