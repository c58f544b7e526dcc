package ike

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

func inBaseMode(a, b *core.Config) {
	inMainMode(a, b)
	for _, c := range []*core.Config{a, b} {
		c.Peers[0].Mode = core.ModeBase
	}
}

func inBaseModeRig(c *core.Config) { inBaseMode(c, c) }

// Base mode is four messages in clear, with every method.
func TestBaseMode(t *testing.T) {
	k := newCerts()
	rsa := func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "rsa-2048")))
		sign(b, trustIn(k.root), own(k.mid.Leaf("b", "rsa-2048"), k.mid))
	}
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		want   string
	}{
		"secret": {func(a, b *core.Config) {}, `
			a: base SA 192.0.2.1/32 N
			b: base SA 192.0.2.2/32 N
			a: base KE HASH
			b: base KE HASH`},
		"certificates": {rsa, `
			a: base SA ID N
			b: base SA ID N
			a: base KE *isakmp.Cert *isakmp.Sig
			b: base KE *isakmp.Cert *isakmp.Cert *isakmp.Sig`},
		"RSA keys": {byRawKeys, `
			a: base SA 192.0.2.1/32 N
			b: base SA 192.0.2.2/32 N
			a: base KE *isakmp.Sig
			b: base KE *isakmp.Sig`},
		"XAuth": {xauth, `
			a: base SA 192.0.2.1/32 N
			b: base SA 192.0.2.2/32 N
			a: base KE HASH
			b: base KE HASH
			b: config HASH REQUEST user password`},
		"hybrid": {inHybrid(k), `
			a: base SA 192.0.2.1/32 N
			b: base SA ID N
			a: base KE HASH
			b: base KE *isakmp.Cert *isakmp.Sig
			b: config HASH REQUEST user password`},
	} {
		for _, encap := range []core.Encapsulation{core.EncapDetect, core.EncapUDP} {
			p := newPair(t, 1, quick, inBaseMode, bPassive, c.change, func(a, b *core.Config) { a.Encapsulation, b.Encapsulation = encap, encap })
			p.askDelay = 10 * time.Millisecond
			talk := p.talks()
			p.up()
			p.until(5*time.Second, name+" up", p.bothUp)
			if got := talk.said(); !strings.HasPrefix(got, script(c.want)) {
				t.Errorf("%s: said\n%s\n\nwant\n%s", name, got, script(c.want))
			}
			p.works()
			if udp := encap == core.EncapUDP; p.a.outbound().UDP != udp || p.b.outbound().UDP != udp || (p.a.outbound().Remote.Port() == 4500) != udp {
				t.Errorf("%s: %+v", name, p.a.outbound().Install)
			}
		}
	}
}

// Each message is lost once, or comes twice, or a second later: the same SAs come up, and no more.
func TestBaseModeMessagesLostDoubledLate(t *testing.T) {
	for name, change := range map[string]func(a, b *core.Config){"secret": func(a, b *core.Config) {}, "RSA keys": byRawKeys} {
		for _, fate := range []string{"lost", "doubled", "late"} {
			for n := range 7 {
				p := newPair(t, 1, quick, inBaseMode, bPassive, change)
				p.askDelay = 10 * time.Millisecond
				p.meets(fate, n)
				p.up()
				p.until(20*time.Second, fmt.Sprintf("up, %s, %s %d", name, fate, n+1), p.bothUp)
				p.run(90 * time.Second)
				p.works()
				if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
					t.Errorf("%s, %s %d: %d and %d CHILD SAs, %d and %d IKE SAs", name, fate, n+1, len(p.a.children), len(p.b.children), len(p.a.e.SAs()), len(p.b.e.SAs()))
				}
			}
		}
	}
}

// Through a NAT both ends go on at port 4500.
func TestBaseModeThroughNAT(t *testing.T) {
	public := netip.MustParseAddr("203.0.113.1")
	p := newPair(t, 1, quick, inBaseMode, bPassive, func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("203.0.113.0/24") })
	p.net.Behind(netip.PrefixFrom(p.a.addr, 32), simnet.NewNAT(public))
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	a, b := p.a.e.SAs()[0], p.b.e.SAs()[0]
	if !a.NATT || !a.NAT || !b.NATT || !b.NAT || !p.a.outbound().UDP || !p.b.outbound().UDP || b.Remote.Addr() != public {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// INITIAL-CONTACT comes under the keys, behind message 4.
func TestBaseModeInitialContact(t *testing.T) {
	p := newPair(t, 1, quick, inBaseMode, bPassive, func(a, _ *core.Config) { a.Peers[0].InitialContact = true })
	talk := p.talks()
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	if said := talk.said(); !strings.Contains(said, "b: base KE HASH\na: inform HASH INITIAL-CONTACT") {
		t.Errorf("said\n%s", said)
	}
}

// Each end proves what it should: another secret, key or name is refused, and the one that is refused says what may be the reason.
func TestBaseModeRefused(t *testing.T) {
	k := newCerts()
	certs := func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "rsa-2048")))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "rsa-2048")))
	}
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		by     string
		says   string
		other  string // what the other one says in the end
	}{
		"secret": {func(a, _ *core.Config) { a.Peers[0].Identities[0].Secret = secret.Bytes("another") }, "b", "compare the secret", "compare secret, my-id and remote-id"},
		"initiator's key": {func(a, b *core.Config) {
			byRawKeys(a, b)
			a.Peers[0].Identities[0].OwnKey = rawKeys()[2]
		}, "b", "is not by remote-key", "message 4 of base mode, the peer's proof never came"},
		"responder's key": {func(a, b *core.Config) {
			byRawKeys(a, b)
			b.Peers[0].Identities[0].OwnKey = rawKeys()[2]
		}, "a", "is not by remote-key", ""},
		"initiator's authority": {func(a, b *core.Config) {
			certs(a, b)
			a.Peers[0].Identities[0].Own = own(k.other.Leaf("a", "rsa-2048"))
		}, "b", "authority", ""},
		"the responder's ID": {func(a, _ *core.Config) {
			a.Peers[0].Identities[0].RemoteID = core.ID{Type: core.IDFQDN, Data: "x"}
		}, "a", "remote-id wants fqdn:x", ""},
		"responder's authority": {func(a, b *core.Config) {
			certs(a, b)
			b.Peers[0].Identities[0].Own = own(k.other.Leaf("b", "rsa-2048"))
		}, "a", "authority", ""},
		"ID": {func(_, b *core.Config) { b.Peers[0].Identities[0].RemoteID = core.ID{Type: core.IDFQDN, Data: "x"} }, "b", "no identity of peer", ""},
	} {
		p := newPair(t, 1, quick, inBaseMode, bPassive, c.change)
		p.up()
		p.run(2 * time.Second)
		sides := map[string]*side{"a": p.a, "b": p.b}
		if r := sides[c.by].reasons(core.EvAuthFailed); !strings.Contains(r, c.says) {
			t.Errorf("%s: %s says %q", name, c.by, r)
		}
		p.run(100 * time.Second)
		if p.a.established()+len(p.a.children)+len(p.b.children) > 0 || c.by == "b" && p.b.established() > 0 {
			t.Errorf("%s: up", name)
		}
		if r := p.a.reasons(core.EvInitFailed); c.other != "" && !strings.Contains(r, c.other) {
			t.Errorf("%s: the initiator says %q", name, r)
		}
		if c.by == "a" && name != "the responder's ID" && !strings.Contains(p.a.reasons(core.EvInitFailed), "a message came whose proof was refused") {
			t.Errorf("%s: the initiator says %q", name, p.a.reasons(core.EvInitFailed))
		}
	}
}

// base is what a puppet sends and gets by the words of the draft, with a pre-shared key.
func (p *puppet1) base(wrong ...[]byte) {
	p.t.Helper()
	m := p.ask(p.clear(isakmp.ExchangeBase, p.sa(), p.idPayload(), &isakmp.Nonce{Data: p.ni}))
	p.heardKeys(m.Payloads)
	var body []byte
	for i, x := range m.Payloads {
		if id, ok := x.(*isakmp.ID); ok {
			p.peerID, body = id, bytes.Clone(m.Body(i))
		}
	}
	p.root = mac([]byte(p.psk), p.ni, p.nr)
	sum := mac(p.root, p.ke(), p.cookies(), p.sa().Body(), p.idPayload().Body())
	for _, w := range wrong {
		if out := p.say(p.clear(isakmp.ExchangeBase, &isakmp.KE{Data: p.ke()}, &isakmp.Hash{Data: w})); len(out) > 0 {
			p.t.Error("an answer to a wrong proof")
		}
	}
	m = p.ask(p.clear(isakmp.ExchangeBase, &isakmp.KE{Data: p.ke()}, &isakmp.Hash{Data: sum}))
	p.heardKeys(m.Payloads)
	p.derive(true)
	for _, x := range m.Payloads {
		if h, ok := x.(*isakmp.Hash); ok && bytes.Equal(h.Data, p.hashR(body)) {
			return
		}
	}
	p.t.Fatalf("HASH_R is wrong: %v", m.Payloads)
}

// The hashes are those of the draft, and the peer is found by its ID. Wrong proofs end nothing.
func TestBaseModeByTheDraft(t *testing.T) {
	r := newRig(t, inBaseModeRig, fromAnywhere, func(c *core.Config) {
		other := *c.Peers[0]
		other.Name = "other"
		other.Identities = []*core.Identity{{Auth: core.AuthPSK, Secret: secret.Bytes("of another"), RemoteID: core.ID{Type: core.IDFQDN, Data: "other.example"}}}
		c.Peers = append([]*core.Peer{&other}, c.Peers...)
	})
	p := newPuppet1(r, 1)
	p.base(make([]byte, 32), []byte("short"))
	p.quick(0xc0000001)
	if sas := r.e.SAs(); r.established() != 1 || len(r.children) != 1 || sas[0].Peer == "other" {
		t.Fatalf("%v %s", r.e.SAs(), r.reasons())
	}
	q := newPuppet1(r, 2)
	q.addr, q.id, q.psk = other500, core.ID{Type: core.IDFQDN, Data: "other.example"}, "of another"
	q.base()
	if r.established() != 2 || !slices.ContainsFunc(r.e.SAs(), func(i core.SAInfo) bool { return i.Peer == "other" && i.State == "established" }) {
		t.Errorf("%v %s", r.e.SAs(), r.reasons())
	}
}

// With signatures the hash is keyed with the nonces' hash, and the responder signs over the initiator's ID.
func TestBaseModeSignedByTheDraft(t *testing.T) {
	k := rawKeys()
	r := newRig(t, inBaseModeRig, fromAnywhere, func(c *core.Config) {
		c.Peers[0].Identities[0] = &core.Identity{Auth: core.AuthRawKey, OwnKey: k[0], RemoteKey: publicOf(k[1])}
	})
	p := newPuppet1(r, 1)
	p.offer.Auth = isakmp.AuthRSASignatures
	m := p.ask(p.clear(isakmp.ExchangeBase, p.sa(), p.idPayload(), &isakmp.Nonce{Data: p.ni}))
	p.heardKeys(m.Payloads)
	seed := sha256.Sum256(slices.Concat(p.ni, p.nr))
	i := mac(seed[:], p.ke(), p.cookies(), p.sa().Body(), p.idPayload().Body())
	for _, key := range []int{2, 1} { // one that is not the peer's first
		out := p.say(p.clear(isakmp.ExchangeBase, &isakmp.KE{Data: p.ke()}, &isakmp.Sig{Data: signed(t, k[key], i)}))
		if key == 2 {
			if len(out) > 0 || r.count(core.EvAuthFailed) == 0 || len(r.e.SAs()) != 1 {
				t.Fatalf("another key: %d answers, %s", len(out), r.reasons())
			}
			continue
		}
		if len(out) != 1 {
			t.Fatalf("%d answers: %s", len(out), r.reasons())
		}
		var err error
		if m, err = isakmp.Parse(out[0]); err != nil {
			t.Fatal(err)
		}
	}
	p.heardKeys(m.Payloads)
	want := mac(seed[:], p.ke(), p.peer, p.cookies(), p.sa().Body(), p.idPayload().Body())
	for _, x := range m.Payloads {
		if s, ok := x.(*isakmp.Sig); ok && bytes.Equal(s.Data, signed(t, k[0], want)) { // PKCS #1 v1.5 is always the same
			return
		}
	}
	t.Errorf("SIG_R is wrong: %v", m.Payloads)
}

// A flood of first messages costs no key exchange, and stays within the bytes of strangers. No answer is sent twice.
func TestBaseModeFlood(t *testing.T) {
	r := newRig(t, inBaseModeRig, fromAnywhere, func(c *core.Config) { c.StrangerBytes = 100 << 10 })
	p := newPuppet1(r, 1)
	first := func() []byte {
		return p.clear(isakmp.ExchangeBase, p.sa(), p.idPayload(), &isakmp.Nonce{Data: p.ni})
	}
	for n := range 1000 {
		p.spii = 0x3333000000000000 | uint64(n)
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0b000000+uint32(n)<<12)))
		r.datagram(netip.AddrPortFrom(addr, 500), first())
		if r.e.strangers.bytes > 100<<10 {
			t.Fatalf("%d bytes", r.e.strangers.bytes)
		}
	}
	for _, s := range r.take() {
		if h, _ := message.ParseHeader(s.Data); h.Exchange == isakmp.ExchangeBase && len(s.Data) > 4*len(first()) {
			t.Errorf("an answer of %d bytes to %d", len(s.Data), len(first()))
		}
	}
	r.pass(time.Minute)
	r.silent("the flood")
	if len(r.e.SAs()) != 0 {
		t.Errorf("%d IKE SAs are left", len(r.e.SAs()))
	}
	q := newPuppet1(r, 2)
	q.base()
	if r.established() != 1 {
		t.Errorf("%v", r.e.SAs())
	}
}

// Base mode and the others are told apart at one address.
func TestBaseModeBesideMainMode(t *testing.T) {
	for _, mode := range []core.Mode{core.ModeMain, core.ModeBase} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
			a.Peers[0].Mode = mode
			other := *b.Peers[0]
			other.Name, other.Mode = "base", core.ModeBase
			b.Peers = append([]*core.Peer{&other}, b.Peers...)
		})
		p.up()
		p.run(5 * time.Second)
		want := map[core.Mode]string{core.ModeMain: "a", core.ModeBase: "base"}[mode]
		if sas := p.b.e.SAs(); len(sas) != 1 || sas[0].Peer != want || sas[0].State != "established" {
			t.Errorf("%v: %v", mode, sas)
		}
	}
}
