package v2

import (
	"bytes"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
)

var ticketTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func ticketEnv(seed byte) *core.Env {
	env := core.NewEnv([32]byte{seed})
	env.SetNow(ticketTime)
	return env
}

// someTickets are of every cipher that profiles have, and of a hybrid key exchange.
func someTickets() (all []*ticket) {
	for i, s := range suites() {
		s.Group = suite.GroupByName("x25519")
		t := &ticket{expires: ticketTime.Add(time.Hour), proven: ticketTime, origin: [32]byte{1, 2}, peer: "road",
			id: core.ID{Type: core.IDFQDN, Data: "client.example"}, our: core.ID{Type: core.IDIPv4, Data: "\xc0\x00\x02\x01"},
			d: secret.Bytes(bytes.Repeat([]byte{byte(i + 1)}, s.PRF.Len))}
		if i%2 == 1 {
			t.until = ticketTime.Add(365 * 24 * time.Hour)
			s.Additional = []*suite.KEM{suite.KEMByName("ml-kem-768")}
		}
		if i%3 == 1 {
			t.home = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}[i%2]
		}
		t.chosen = s.Chosen()
		all = append(all, t)
	}
	return all
}

// What is sealed opens to the same, under the key that sealed it and no other.
func TestTicket(t *testing.T) {
	env, jar, other := ticketEnv(1), &TicketJar{}, &TicketJar{}
	other.draw(ticketEnv(2))
	for _, want := range someTickets() {
		raw, name, err := jar.seal(env, want)
		if err != nil {
			t.Fatal(err)
		}
		got, again, err := jar.open(env, raw)
		if err != nil || again != name {
			t.Fatalf("%v, name %x and then %x", err, name, again)
		}
		a, _ := got.append()
		b, _ := want.append()
		if !bytes.Equal(a, b) {
			t.Errorf("%+v\nis opened as\n%+v", want, got)
		}
		if bytes.Contains(raw, want.d) || bytes.Contains(raw, []byte(want.id.Data)) {
			t.Error("it can be read without the key")
		}
		if _, _, err := other.open(env, raw); err == nil {
			t.Error("another gateway opens it")
		}
	}
	if _, ok := core.InitOffer(&core.Profile{}, true).Accepts(nil); ok {
		t.Error("a profile of nothing accepts nothing")
	}
}

// A ticket cut at any byte, or with any bit changed, does not open.
func TestTicketDamaged(t *testing.T) {
	env, jar := ticketEnv(1), &TicketJar{}
	raw, _, err := jar.seal(env, someTickets()[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		if _, _, err := jar.open(env, raw[:i]); err == nil {
			t.Errorf("it opens, cut at %d", i)
		}
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if _, _, err := jar.open(env, raw); err == nil {
				t.Errorf("it opens with bit %d of byte %d changed", bit, i)
			}
			raw[i] ^= 1 << bit
		}
	}
	if _, _, err := jar.open(env, append(raw, 0)); err == nil {
		t.Error("it opens with a byte more")
	}
}

func TestParseTicketCut(t *testing.T) {
	for _, x := range someTickets() {
		state, err := x.append()
		if err != nil {
			t.Fatal(err)
		}
		for i := range state {
			if _, err := parseTicket(state[:i]); err == nil {
				t.Fatalf("read, cut at %d of %d", i, len(state))
			}
		}
		if _, err := parseTicket(append(state, 0)); err == nil {
			t.Error("read with a byte more")
		}
	}
}

func FuzzParseTicket(f *testing.F) {
	for _, x := range someTickets()[:6] {
		state, err := x.append()
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(state))
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		x, err := parseTicket(state)
		if err != nil {
			return
		}
		once, err := x.append()
		if err != nil {
			t.Fatalf("%x was read, and cannot be written: %v", state, err)
		}
		y, err := parseTicket(once)
		if err != nil {
			t.Fatalf("%x is written as %x, which cannot be read: %v", state, once, err)
		}
		if twice, _ := y.append(); !bytes.Equal(once, twice) {
			t.Errorf("%x, and then %x", once, twice)
		}
	})
}

// One that is too long is not given.
func TestTicketTooLong(t *testing.T) {
	env, jar := ticketEnv(1), &TicketJar{}
	for _, n := range []int{maxTicket, 70000} {
		x := someTickets()[0]
		x.id.Data = strings.Repeat("a", n)
		if raw, _, err := jar.seal(env, x); err == nil {
			t.Errorf("an ID of %d bytes makes a ticket of %d", n, len(raw))
		}
	}
}

// Tickets count until they expire and until they are used; keys are drawn anew
// every eight hours, and open what they sealed as long as that counts.
func TestTicketJar(t *testing.T) {
	env, jar := ticketEnv(1), &TicketJar{}
	give := func(life time.Duration) []byte {
		t.Helper()
		x := someTickets()[0]
		x.expires = env.Now().Add(life)
		raw, _, err := jar.seal(env, x)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	counts := func(raw []byte) bool {
		_, _, err := jar.open(env, raw)
		return err == nil
	}
	long, brief := give(maxTicketLife), give(time.Hour)
	env.SetNow(ticketTime.Add(time.Hour))
	if !counts(long) || counts(brief) {
		t.Error("after an hour")
	}
	kept := 0
	for i := range 20 {
		env.SetNow(ticketTime.Add(time.Duration(i) * 4 * time.Hour))
		give(time.Hour)
		if want := env.Now().Before(ticketTime.Add(maxTicketLife)); counts(long) != want && i > 0 {
			t.Errorf("after %d hours it counts: %v", i*4, !want)
		}
		for o, ok := env.Poll(); ok; o, ok = env.Poll() {
			if k, ok := o.(core.KeepTicketKeys); ok {
				kept++
				if len(k.Keys) > maxKeys || len(k.Keys) != len(jar.keys) {
					t.Errorf("%d keys", len(k.Keys))
				}
			}
		}
	}
	if kept != 10 || len(jar.keys) > 5 {
		t.Errorf("keys were drawn %d times in 80 hours, %d are there", kept, len(jar.keys))
	}

	// Nobody asks any more: the keys go by themselves, the last ones too.
	env.Timers.Run(env.Now())
	alone := &TicketJar{}
	alone.Take(env, []core.TicketKey{{Secret: make(secret.Bytes, core.TicketKeyLen), Since: env.Now().Unix() - 3600},
		{Secret: make(secret.Bytes, core.TicketKeyLen), Since: env.Now().Add(-keyLife - maxTicketLife).Unix()}})
	if len(alone.keys) != 1 {
		t.Errorf("%d keys of an earlier life count", len(alone.keys))
	}
	end := env.Now().Add(keyLife + maxTicketLife - time.Hour)
	env.SetNow(end.Add(-time.Second))
	if env.Timers.Run(env.Now()); len(alone.keys) != 1 {
		t.Error("a key went before its time")
	}
	env.SetNow(end)
	if env.Timers.Run(env.Now()); len(alone.keys) != 0 || alone.timer != nil {
		t.Errorf("%d keys are left", len(alone.keys))
	}

	next := &TicketJar{}
	raw := give(time.Hour)
	next.Take(env, []core.TicketKey{{Secret: secret.Bytes{1}}})
	if _, _, err := next.open(env, raw); err == nil {
		t.Error("another life opens it without the key")
	}
	next.Take(env, jar.keys)
	x, name, err := next.open(env, raw)
	if err != nil {
		t.Fatalf("the next life does not open it: %v", err)
	}
	next.spend(env, name, x.expires)
	if _, _, err := next.open(env, raw); err == nil {
		t.Error("it counts twice")
	}
}

// When no more used tickets can be remembered, all are void, and new ones count.
func TestTicketJarFull(t *testing.T) {
	env, jar := ticketEnv(1), &TicketJar{}
	old, _, err := jar.seal(env, someTickets()[0])
	if err != nil {
		t.Fatal(err)
	}
	spend := func(n int, until time.Time) {
		for range n {
			jar.spend(env, ticketName(env.Random(12)), until)
		}
	}
	spend(maxSpent, ticketTime.Add(time.Minute))
	env.SetNow(ticketTime.Add(2 * time.Minute))
	spend(maxSpent, ticketTime.Add(time.Hour))
	if _, _, err := jar.open(env, old); err != nil || len(jar.spent) != maxSpent {
		t.Fatalf("what expired was not forgotten: %d, %v", len(jar.spent), err)
	}
	spend(1, ticketTime.Add(time.Hour))
	if _, _, err := jar.open(env, old); err == nil || len(jar.spent) != 0 {
		t.Errorf("%d are remembered", len(jar.spent))
	}
	fresh, _, err := jar.seal(env, someTickets()[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := jar.open(env, fresh); err != nil {
		t.Error(err)
	}
}

// Whatever the proof of a peer depends on changes the origin of its tickets.
func TestTicketOrigin(t *testing.T) {
	cert := func(b byte) *x509.Certificate { return &x509.Certificate{Raw: []byte{b}} }
	identity := func() *core.Identity {
		return &core.Identity{Auth: core.AuthPSK, Secret: secret.Bytes("one"), MyID: core.ID{Type: core.IDFQDN, Data: "a"}}
	}
	peer := &core.Peer{Name: "p"}
	jar := &TicketJar{}
	jar.Trusting(nil)
	first := jar.origin(peer, identity())
	if jar.origin(peer, identity()) != first {
		t.Fatal("equal ones differ")
	}
	for name, change := range map[string]func(i *core.Identity){
		"secret":             func(i *core.Identity) { i.Secret = secret.Bytes("two") },
		"my-id":              func(i *core.Identity) { i.MyID.Data = "b" },
		"type of my-id":      func(i *core.Identity) { i.MyID.Type = core.IDKeyID },
		"remote-id":          func(i *core.Identity) { i.RemoteID = core.ID{Type: core.IDFQDN, Data: "c"} },
		"ignore":             func(i *core.Identity) { i.Ignore = true },
		"auth-method":        func(i *core.Identity) { i.Auth, i.RemoteAuth = core.AuthSignature, core.AuthPSK },
		"remote-auth-method": func(i *core.Identity) { i.RemoteAuth = core.AuthSignature },
		"certificate":        func(i *core.Identity) { i.Own = &core.Credential{Chain: []*x509.Certificate{cert(1)}} },
		"remote-certificate": func(i *core.Identity) { i.RemoteCert = cert(1) },
		"match-by":           func(i *core.Identity) { i.MatchCert = true },
		"ppk":                func(i *core.Identity) { i.PPK = &core.PPK{ID: "x", Secret: secret.Bytes("y")} },
	} {
		i := identity()
		if change(i); jar.origin(peer, i) == first {
			t.Errorf("%s changes nothing", name)
		}
	}
	if jar.origin(&core.Peer{Name: "q"}, identity()) == first {
		t.Error("another peer is the same")
	}

	signs := identity()
	signs.RemoteAuth = core.AuthSignature
	seen := map[[32]byte]string{}
	for name, trust := range map[string]*core.Trust{
		"nothing":   nil,
		"authority": {Authorities: []*core.Authority{{Cert: cert(1)}}},
		"another":   {Authorities: []*core.Authority{{Cert: cert(2)}}},
		"a CRL":     {Authorities: []*core.Authority{{Cert: cert(1)}}, CRLs: []*x509.RevocationList{{Raw: []byte{3}}}},
	} {
		jar.Trusting(trust)
		if jar.origin(peer, identity()) != first {
			t.Errorf("%s: what certificates are checked against changes a shared key", name)
		}
		if was, ok := seen[jar.origin(peer, signs)]; ok {
			t.Errorf("%s is the same as %s", name, was)
		}
		seen[jar.origin(peer, signs)] = name
	}
}

// What a gateway does for a ticket before it keeps anything.
func BenchmarkTicketOpen(b *testing.B) {
	env, jar := ticketEnv(1), &TicketJar{}
	jar.Trusting(nil)
	raw, _, err := jar.seal(env, someTickets()[0])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := jar.open(env, raw); err != nil {
			b.Fatal(err)
		}
	}
}
