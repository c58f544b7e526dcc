package ike

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/state/lease"
	"culvert/internal/state/store"
	"culvert/internal/testing/simnet"
)

// Who is who: what an ID is worth, who gets whose address, and whom INITIAL_CONTACT
// is about.

// anywhere lets the peer come from any address, as road warriors do.
func anywhere(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") }

func warriors(c *core.Config) { givesLeases(c); anywhere(c) }

// behind is a client behind a NAT, where the NAT's address and port are given.
func (r *rig) behind(seed byte, id core.ID, from string) *puppet {
	p := newPuppet(r, seed)
	p.natted, p.id = true, id
	p.addr = netip.AddrPortFrom(netip.MustParseAddrPort(from).Addr(), 500)
	p.init()
	p.addr = netip.MustParseAddrPort(from)
	return p
}

// asks sends IKE_AUTH, with a wish for an address. Questions wait in r.asks.
func (p *puppet) asks(more ...message.Payload) (id uint32) {
	id = p.nextID
	p.nextID++
	p.r.hold = true
	ps := append(append(p.authPayloads(asksAddress()), more...), p.offer(wholeSpace(true), wholeSpace(false))...)
	p.r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, id, false), ps...))
	return id
}

// lease is the question for an address that waits; the test fails if there is none.
func (r *rig) lease() (core.Lease, core.Ask) {
	r.t.Helper()
	for _, a := range r.asks {
		if l, ok := a.Work.(core.Lease); ok {
			return l, a
		}
	}
	r.t.Fatalf("nobody asks for an address; events %s", r.reasons())
	return core.Lease{}, core.Ask{}
}

// gets answers the question for an address and reads the response to p.
func (p *puppet) gets(id uint32, addr string) core.Lease {
	p.t.Helper()
	l, a := p.r.lease()
	p.r.hold, p.r.asks = false, nil
	p.r.in(core.Answer{ID: a.ID, Data: core.AppendLease(nil, []netip.Addr{netip.MustParseAddr(addr)}, nil)})
	says(p.t, p.response(message.ExchangeIKEAuth, id), "IDr AUTH CP SA TSi TSr")
	return l
}

// joinsLeased connects with an address, which nobody has.
func (p *puppet) joinsLeased(addr string, more ...message.Payload) core.Lease {
	p.t.Helper()
	return p.gets(p.asks(more...), addr)
}

// askedAlive reports whether the endpoint has asked a peer, since the last take.
func (r *rig) askedAlive(p *puppet) bool {
	return slices.ContainsFunc(r.sends, func(s core.Send) bool {
		h, err := message.ParseHeader(s.Data)
		return err == nil && !h.Response() && h.SPIi == p.spii && h.SPIr == p.spir && h.Exchange == message.ExchangeInformational
	})
}

const homeA, homeB = "198.51.100.7:41000", "203.0.113.8:42000"

// Two telephones without an ID of their own, with one secret and, each in its own home, with the
// same private address. Neither is the other one.
func TestSamePrivateAddressInTwoHomes(t *testing.T) {
	contact := note(message.NotifyInitialContact)
	r := newRig(t, warriors)
	one := r.behind(1, privateID, homeA)
	first := one.joinsLeased("192.168.77.9", contact)
	r.pass(time.Minute)
	r.take()
	second := r.behind(2, privateID, homeB).joinsLeased("192.168.77.10", contact)
	if first.Owner == second.Owner || len(second.Same) != 0 {
		t.Errorf("the first is %q and the second %q, which shares with %v", first.Owner, second.Owner, second.Same)
	}
	r.pass(10 * time.Second)
	if r.established() != 2 || r.count(core.EvIKEDown) != 0 || r.askedAlive(one) {
		t.Errorf("%d IKE SAs; %s", r.established(), r.reasons())
	}

	// The same under a policy of the table, without addresses.
	r = newRig(t, anywhere)
	for i, home := range []string{homeA, homeB} {
		p := r.behind(byte(i+1), privateID, home)
		says(t, p.auth(p.authPayloads(append(p.childOffer(), contact)...)...), "IDr AUTH SA TSi TSr")
		r.pass(time.Minute)
	}
	if r.established() != 2 {
		t.Errorf("%d IKE SAs; %s", r.established(), r.reasons())
	}
}

// What an ID is worth. The second of two with the same ID comes from elsewhere and makes initial
// contact: the first one's IKE SA ends, with a Delete, where the ID names somebody, and the
// second gets the first one's address.
func TestWhatAnIDIsWorth(t *testing.T) {
	name, key := fqdn("phone.example.net"), core.ID{Type: core.IDKeyID, Data: "phones"}
	user := core.ID{Type: core.IDUser, Data: "anna@example.net"}
	own := func(id core.ID) func(*core.Config) {
		return func(c *core.Config) { c.Peers[0].Identities[0].RemoteID = id }
	}
	// another identity with the same secret: it does not say which of the two proved itself
	shared := func(id core.ID) func(*core.Config) {
		return func(c *core.Config) {
			own(id)(c)
			other := *c.Peers[0].Identities[0]
			other.RemoteID = fqdn("other.example.net")
			c.Peers[0].Identities = append(c.Peers[0].Identities, &other)
		}
	}
	for what, c := range map[string]struct {
		change func(*core.Config)
		id     core.ID
		names  bool
	}{
		"a name":                                {own(core.ID{}), name, true},
		"a user":                                {own(core.ID{}), user, true},
		"an address":                            {own(core.ID{}), privateID, false},
		"a key-id":                              {own(core.ID{}), key, false},
		"of no type that is known":              {own(core.ID{}), core.ID{Type: 201, Data: "x"}, false},
		"a name, remote-id = ignore":            {func(c *core.Config) { c.Peers[0].Identities[0].Ignore = true }, name, false},
		"an address with a secret of its own":   {own(privateID), privateID, true},
		"a key-id with a secret of its own":     {own(key), key, true},
		"an address, the secret is others' too": {shared(privateID), privateID, false},
		"a key-id, the secret is others' too":   {shared(key), key, false},
		"a name, the secret is others' too":     {shared(name), name, true},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, warriors, c.change)
			one := r.behind(1, c.id, homeA)
			first := one.joinsLeased("192.168.77.9")
			r.pass(time.Minute)
			r.take()
			second := r.behind(2, c.id, homeB).joinsLeased("192.168.77.10", note(message.NotifyInitialContact))
			if !c.names {
				if r.established() != 2 || first.Owner == second.Owner || len(second.Same) != 0 {
					t.Errorf("%d IKE SAs, owners %q and %q, shared with %v; %s", r.established(), first.Owner, second.Owner, second.Same, r.reasons())
				}
				return
			}
			if r.established() != 1 || first.Owner != second.Owner || len(second.Same) != 1 {
				t.Errorf("%d IKE SAs, owners %q and %q, shared with %v; %s", r.established(), first.Owner, second.Owner, second.Same, r.reasons())
			}
			_, ps := one.asked(message.ExchangeInformational)
			says(t, ps, "Delete")
		})
	}
}

// Who claims the name of somebody that proves it, under another identity of the peer, is neither
// that one's replacement nor its end.
func TestClaimOfAProvenName(t *testing.T) {
	anna := fqdn("anna.example.net")
	r := newRig(t, warriors, func(c *core.Config) {
		all := c.Peers[0].Identities[0]
		hers := *all
		hers.RemoteID, hers.Secret = anna, secret.Bytes("of anna alone")
		c.Peers[0].Identities = []*core.Identity{&hers, all}
		all.MyID = fqdn("b.example.net") // who asks for that gets this identity
	})
	proven := r.behind(1, anna, homeA)
	proven.psk = "of anna alone"
	first := proven.joinsLeased("192.168.77.9")
	r.pass(time.Minute)
	r.take()
	claims := r.behind(2, anna, homeB)
	claims.idr = fqdn("b.example.net")
	// Match prefers the identity that names the ID; one that cannot be meant is passed over.
	r.cfg.Peers[0].Identities[0].MyID = fqdn("a.example.net")
	second := claims.joinsLeased("192.168.77.10", note(message.NotifyInitialContact))
	if first.Owner == second.Owner || len(second.Same) != 0 || r.established() != 2 || r.askedAlive(proven) {
		t.Errorf("owners %q and %q, shared with %v, %d IKE SAs; %s", first.Owner, second.Owner, second.Same, r.established(), r.reasons())
	}
}

// Nor does who connects again and again under such a claim use up what somebody who proves the
// name may have.
func TestCrowdOfClaims(t *testing.T) {
	anna := fqdn("anna.example.net")
	r := newRig(t, func(c *core.Config) {
		all := c.Peers[0].Identities[0]
		hers := *all
		hers.RemoteID, hers.Secret, hers.MyID = anna, secret.Bytes("of anna alone"), fqdn("a.example.net")
		all.MyID = fqdn("b.example.net") // who asks for that gets this identity
		c.Peers[0].Identities = []*core.Identity{&hers, all}
	})
	up := func(seed byte, asks, psk string) {
		p := newPuppet(r, seed)
		p.id, p.idr, p.psk = anna, fqdn(asks), psk
		p.init()
		says(t, p.auth(p.authPayloads()...), "IDr AUTH")
		r.pass(time.Second)
	}
	up(1, "a.example.net", "of anna alone")
	for n := range byte(20) {
		up(10+n, "b.example.net", "thisisnotasecurepsk")
	}
	if r.established() != 1+8 || r.e.SAs()[0].ID != 1 {
		t.Errorf("%d IKE SAs, the first %d; %s", r.established(), r.e.SAs()[0].ID, r.reasons())
	}
}

// The same device keeps its address, whatever its ID is worth: when it authenticates anew, beside
// the old IKE SA or after it forgot that; also after a rekey and after its NAT moved it, and when
// it resumes from elsewhere, even at a gateway that was restarted meanwhile.
func TestTheSameDevice(t *testing.T) {
	natAt := netip.MustParseAddrPort("198.51.100.99:47000")
	for _, id := range []core.ID{privateID, fqdn("phone.example.net")} {
		for what, c := range map[string]struct {
			before func(p *puppet) *puppet
			more   []message.Payload
			stays  int
		}{
			"authenticates anew": {func(p *puppet) *puppet { return p }, nil, 2},
			"has forgotten all":  {func(p *puppet) *puppet { return p }, []message.Payload{note(message.NotifyInitialContact)}, 1},
			"after a rekey": {func(p *puppet) *puppet {
				q := p.rekeyed(true, 0xaaaa, 3, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...))
				p.request(message.ExchangeInformational, deleteIKE())
				return q
			}, nil, 2},
			"after its NAT moved it": {func(p *puppet) *puppet {
				p.addr = natAt
				p.request(message.ExchangeInformational)
				return p
			}, nil, 2},
			"after both": {func(p *puppet) *puppet {
				p.addr = natAt
				q := p.rekeyed(true, 0xaaaa, 3, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xaaaa, 3)...))
				q.addr = p.addr
				p.request(message.ExchangeInformational, deleteIKE())
				q.request(message.ExchangeInformational)
				return q
			}, []message.Payload{note(message.NotifyInitialContact)}, 1},
		} {
			t.Run(fmt.Sprint(id, " ", what), func(t *testing.T) {
				r := newRig(t, warriors)
				p := r.behind(1, id, homeA)
				first := p.joinsLeased("192.168.77.9")
				r.pass(time.Minute)
				p = c.before(p)
				r.pass(time.Minute)
				r.take()
				second := r.behind(2, id, p.addr.String()).joinsLeased("192.168.77.9", c.more...)
				if first.Owner != second.Owner || len(second.Same) != 1 || r.established() != c.stays || r.askedAlive(p) {
					t.Errorf("owners %q and %q, shared with %v, %d IKE SAs; %s", first.Owner, second.Owner, second.Same, r.established(), r.reasons())
				}
			})
		}
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(id, " resumes ", restarted), func(t *testing.T) {
				r := newRig(t, warriors, resumes)
				p := r.behind(1, id, homeA)
				n := p.asks(note(message.NotifyTicketRequest))
				first, a := r.lease()
				r.hold, r.asks = false, nil
				r.in(core.Answer{ID: a.ID, Data: core.AppendLease(nil, []netip.Addr{netip.MustParseAddr("192.168.77.9")}, nil)})
				ticket := granted(t, p.response(message.ExchangeIKEAuth, n))
				r.pass(time.Minute)
				if restarted {
					keys := ticketKeys(seen[core.KeepTicketKeys](r)[0].Keys)
					s := newRig(t, warriors, resumes)
					s.now = r.now
					s.in(core.TicketKeys{Keys: keys})
					p.r, r = s, s
				}
				q := p.again(2)
				q.addr = netip.MustParseAddrPort("203.0.113.8:500")
				q.resume(ticket)
				q.addr = netip.MustParseAddrPort(homeB)
				id := q.nextID
				q.nextID++
				r.hold = true
				r.datagram(q.addr, q.seal(q.header(message.ExchangeIKEAuth, id, false),
					q.resumedPayloads(append([]message.Payload{asksAddress()}, q.offer(wholeSpace(true), wholeSpace(false))...)...)...))
				second := q.gets(id, "192.168.77.9")
				if first.Owner != second.Owner || r.established() != 1 || len(second.Same) == 0 != restarted {
					t.Errorf("owners %q and %q, shared with %v, %d IKE SAs; %s", first.Owner, second.Owner, second.Same, r.established(), r.reasons())
				}
			})
		}
	}
}

// Somebody asks for an address that another IKE SA has, which may be an older one of its own:
// the one that has it is asked whether it is there. If it says anything the other gets another
// address; if it says nothing for 3.5 s it ends, with a Delete, before the address is given.
func TestClaimedAddress(t *testing.T) {
	name := fqdn("phone.example.net")
	ignores := func(c *core.Config) { c.Peers[0].Identities[0].IgnoreContact = true }
	only := func(c *core.Config) {
		c.Peers[0].Identities[0].Mode.Pool, c.Peers[0].Identities[0].Mode.Address = "", netip.MustParseAddr("192.168.77.9")
	}
	for what, c := range map[string]struct {
		change func(*core.Config)
		ids    [2]core.ID
		from   [2]string
		more   []message.Payload
	}{
		"a name":                             {func(*core.Config) {}, [2]core.ID{name, name}, [2]string{homeA, homeB}, nil},
		"a name, at the same NAT":            {func(*core.Config) {}, [2]core.ID{name, name}, [2]string{homeA, "198.51.100.7:41001"}, nil},
		"a private address, at the same NAT": {func(*core.Config) {}, [2]core.ID{privateID, privateID}, [2]string{homeA, "198.51.100.7:41001"}, []message.Payload{note(message.NotifyInitialContact)}},
		"a name, ignore-initial-contact":     {ignores, [2]core.ID{name, name}, [2]string{homeA, homeB}, []message.Payload{note(message.NotifyInitialContact)}},
		"the only address":                   {only, [2]core.ID{privateID, name}, [2]string{homeA, homeB}, nil},
	} {
		for how, answers := range map[string]func(r *rig, p *puppet){
			"nothing": nil,
			"the answer": func(r *rig, p *puppet) {
				h, ps := p.asked(message.ExchangeInformational)
				says(r.t, ps, "")
				p.answer(h)
			},
			"a request": func(r *rig, p *puppet) { p.request(message.ExchangeInformational) },
			"a packet": func(r *rig, p *puppet) {
				for id, k := range r.children {
					if k.Remote == p.addr {
						r.in(core.Alive{Child: id})
					}
				}
			},
			"a Delete": func(r *rig, p *puppet) { p.request(message.ExchangeInformational, deleteIKE()) },
		} {
			t.Run(what+", it says "+how, func(t *testing.T) {
				r := newRig(t, warriors, c.change)
				one := r.behind(1, c.ids[0], c.from[0])
				first := one.joinsLeased("192.168.77.9")
				holder := r.e.SAs()[0].ID
				r.pass(time.Minute)
				r.take()
				two := r.behind(2, c.ids[1], c.from[1])
				id := two.asks(c.more...)
				if len(r.asks) != 0 || !r.askedAlive(one) {
					t.Fatalf("%d questions; %s", len(r.asks), r.reasons())
				}
				if answers != nil {
					r.pass(3400 * time.Millisecond)
					answers(r, one)
				} else {
					r.take()
					r.pass(3400 * time.Millisecond)
					if n := len(r.sends); n != 2 { // at 0.5 and 1.5 s
						t.Errorf("it is asked %d times more", n)
					}
					if len(r.asks) != 0 || r.established() != 1 {
						t.Errorf("%d questions, %d IKE SAs before the time is up", len(r.asks), r.established())
					}
					r.take()
					r.pass(200 * time.Millisecond)
					if _, ps := one.asked(message.ExchangeInformational); describe(ps) != "Delete" {
						t.Errorf("it is told %q", describe(ps))
					}
				}
				gone := answers == nil || how == "a Delete"
				if rel := seen[core.Release](r); gone && (len(rel) != 1 || rel[0].Holder != holder) || !gone && len(rel) != 0 {
					t.Errorf("released %v before the question", rel)
				}
				second := two.gets(id, "192.168.77.10")
				if len(second.Same) != 0 || c.ids[0] == c.ids[1] && first.Owner != second.Owner {
					t.Errorf("owners %q and %q, shared with %v", first.Owner, second.Owner, second.Same)
				}
				if n := r.established(); gone && n != 1 || !gone && n != 2 {
					t.Errorf("%d IKE SAs; %s", n, r.reasons())
				}
				r.pass(10 * time.Second)
				if n := r.established(); gone && n != 1 || !gone && n != 2 {
					t.Errorf("later %d IKE SAs; %s", n, r.reasons())
				}
			})
		}
	}
}

// Two claim one address at once, and the first of them goes away while the holder is asked: the
// other one goes on, and nothing is left of the first.
func TestTwoClaimOneAddress(t *testing.T) {
	name := fqdn("phone.example.net")
	r := newRig(t, warriors)
	r.behind(1, name, homeA).joinsLeased("192.168.77.9")
	r.pass(time.Minute)
	two, three := r.behind(2, name, homeB), r.behind(3, name, "203.0.113.9:43000")
	two.asks()
	third := three.asks()
	r.in(core.Command{Do: core.KillSA, SA: 2})
	r.take()
	r.pass(4 * time.Second)
	if len(r.asks) != 1 {
		t.Fatalf("%d questions", len(r.asks))
	}
	three.gets(third, "192.168.77.9")
	if r.established() != 1 || len(r.e.SAs()) != 1 {
		t.Errorf("%v; %s", r.e.SAs(), r.reasons())
	}
}

// A request of ours is under way, late in its repetitions, when the address is claimed: it
// is repeated at once, and the answer to it counts.
func TestClaimDuringARequest(t *testing.T) {
	name := fqdn("phone.example.net")
	r := newRig(t, warriors)
	one := r.behind(1, name, homeA)
	one.joinsLeased("192.168.77.9")
	r.in(core.Command{Do: core.RekeyChildren})
	r.pass(40 * time.Second) // now it is sent every 8 s
	r.take()
	two := r.behind(2, name, homeB)
	id := two.asks()
	h, _ := one.asked(message.ExchangeCreateChildSA)
	r.hold = true
	one.answer(h, note(message.NotifyTemporaryFailure))
	two.gets(id, "192.168.77.10")
	if r.established() != 2 {
		t.Errorf("%d IKE SAs; %s", r.established(), r.reasons())
	}
}

// Without addresses of ours, two clients whose ID names nobody ask for the same inner address:
// the second gets no policy for it while the first lives, and the next time if that is gone.
func TestClaimedPolicy(t *testing.T) {
	r := newRig(t, warriors, func(c *core.Config) { c.Peers[0].Identities[0].Mode = nil })
	join := func(seed byte, from string) (*puppet, string) {
		p := r.behind(seed, privateID, from)
		return p, describe(p.auth(p.authPayloads(p.offer(ts(true, "192.168.77.9/32"), wholeSpace(false))...)...))
	}
	one, got := join(1, homeA)
	if got != "IDr AUTH SA TSi TSr" {
		t.Fatal(got)
	}
	if _, got := join(2, homeB); got != "IDr AUTH N(TS_UNACCEPTABLE)" || r.askedAlive(one) {
		t.Errorf("from another home: %s; %s", got, r.reasons())
	}
	if _, got := join(3, homeA); got != "IDr AUTH SA TSi TSr" || len(seen[core.AddPolicy](r)) != 1 {
		t.Errorf("the same device anew: %s; %s", got, r.reasons())
	}
	r.take()
	if _, got := join(4, "198.51.100.7:41001"); got != "IDr AUTH N(TS_UNACCEPTABLE)" {
		t.Errorf("from the same home: %s; %s", got, r.reasons())
	}
	r.pass(4 * time.Second) // both are silent
	if _, got := join(5, "198.51.100.7:41001"); got != "IDr AUTH SA TSi TSr" {
		t.Errorf("once both are gone: %s; %s", got, r.reasons())
	}
}

// A client that rekeys over and over and never deletes does not use up what others may: of
// several with one ID each has its own bound.
func TestRekeysOfAnotherWithTheSameID(t *testing.T) {
	r := newRig(t, anywhere)
	up := func(seed byte, from string) *puppet {
		p := r.behind(seed, privateID, from)
		says(t, p.auth(p.authPayloads()...), "IDr AUTH")
		return p
	}
	p, q := up(1, homeA), up(2, homeB)
	for i := range byte(8) {
		spi := 0xaaa0 + uint64(i)
		was := p.addr
		p = p.rekeyed(true, spi, i, p.request(message.ExchangeCreateChildSA, p.ikeRekey(spi, i)...))
		p.addr = was
	}
	says(t, p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xbbbb, 9)...), "N(TEMPORARY_FAILURE)")
	says(t, q.request(message.ExchangeCreateChildSA, q.ikeRekey(0xcccc, 9)...), "SA Nonce KE")
}

// A secret is an identity's own while it stands beside no other remote-id, of whichever peer.
func TestSharedSecrets(t *testing.T) {
	id := func(s, remote string) *core.Identity {
		i := &core.Identity{Auth: core.AuthPSK, Secret: secret.Bytes(s)}
		if remote != "" {
			i.RemoteID = fqdn(remote)
		}
		return i
	}
	ignore := id("7", "g")
	ignore.Ignore = true
	a := []*core.Identity{id("1", "a"), id("2", "b"), id("3", ""), id("4", "d"), id("6", "f"), ignore, {Auth: core.AuthSignature}}
	b := []*core.Identity{id("1", "A"), id("2", "c"), id("4", ""), id("5", "e"), {Auth: core.AuthSignature}}
	got := sharedSecrets(&core.Config{Peers: []*core.Peer{{Name: "a", Identities: a}, {Name: "b", Identities: b}}})
	want := map[*core.Identity]bool{a[1]: true, b[1]: true, a[2]: true, a[3]: true, b[2]: true, ignore: true}
	for _, i := range append(a, b...) {
		if got[i] != want[i] {
			t.Errorf("secret %s of %v is shared: %v", i.Secret.Reveal(), i.RemoteID, got[i])
		}
	}
}

// Devices of people in many homes, half of whom have the same private address as ID, connect,
// restart, die, move and come back in an order that the seed draws. Never have two that live the
// same address, and the gateway and its book of leases agree with them.
func TestStormOfRoadWarriors(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { stormOfRoadWarriors(t, seed) })
	}
}

func stormOfRoadWarriors(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	r := newRig(t, warriors, func(c *core.Config) { c.Templates[0].Unique = true; c.Peers[0].Profile.DPD = time.Minute })
	book, err := lease.Open(&store.Memory{}, r.now)
	if err != nil {
		t.Fatal(err)
	}
	book.SetPools([]lease.Pool{{Name: "pool", Ranges: []lease.Range{{From: netip.MustParseAddr("192.168.77.2"), To: netip.MustParseAddr("192.168.77.254")}}}})
	type device struct {
		id   core.ID
		from netip.AddrPort
		sa   *puppet // nil: it is not connected, as far as it knows
		addr netip.Addr
		auth uint32 // the IKE_AUTH that is not answered
	}
	var devices []*device
	for i := range 8 {
		d := &device{id: privateID, from: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i / 2)}), uint16(41000+i))}
		if i >= 4 {
			d.id = fqdn(fmt.Sprint("phone", i/2)) // two devices of one person, in one home
		}
		devices = append(devices, d)
	}
	spi := byte(0)
	// The book has questions and what is given back in the order in which they come.
	var answers []core.Answer
	r.takes = func(o core.Output) bool {
		switch o := o.(type) {
		case core.Release:
			book.Release(r.now, uint64(o.Holder))
			return true
		case core.Ask:
			l, ok := o.Work.(core.Lease)
			if !ok {
				return false
			}
			q := lease.Request{Pool: l.Pool, Owner: l.Owner, Holder: uint64(o.SA), V4: l.V4}
			for _, s := range l.Same {
				q.Same = append(q.Same, uint64(s))
			}
			got, err := book.Take(r.now, q)
			answers = append(answers, core.Answer{ID: o.ID, Data: core.AppendLease(nil, got, nil), Err: err})
			return true
		}
		return false
	}
	// settle lets all that live answer, and the book, until nothing is left to say.
	settle := func() {
		for range 50 {
			for len(answers) > 0 {
				a := answers[0]
				answers = answers[1:]
				r.in(a)
			}
			sends := r.take()
			if len(sends) == 0 {
				return
			}
			for _, s := range sends {
				h, _ := message.ParseHeader(s.Data)
				for _, d := range devices {
					p := d.sa
					if p == nil || h.SPIi != p.spii || h.SPIr != p.spir || s.Remote != d.from {
						continue
					}
					h, in := p.open(s.Data)
					switch {
					case h.Response() && h.Exchange == message.ExchangeIKEAuth && h.ID == d.auth:
						c := findPayload[*message.Config](in)
						if c == nil {
							t.Fatalf("no address: %s; %s", describe(in), r.reasons())
						}
						d.addr, _ = netip.AddrFromSlice(c.Attributes[0].Value)
					case h.Response():
					case findPayload[*message.Delete](in) != nil && findPayload[*message.Delete](in).Protocol == 1:
						p.answer(h)
						d.sa, d.addr = nil, netip.Addr{}
					case h.Exchange == message.ExchangeInformational:
						p.answer(h)
					default:
						p.answer(h, note(message.NotifyTemporaryFailure))
					}
				}
			}
		}
		t.Fatal("it does not settle")
	}
	connect := func(d *device, more ...message.Payload) {
		spi++
		settle()
		p := newPuppet(r, spi)
		p.spii, p.natted, p.id = uint64(seed)<<32|uint64(spi)|1<<62, true, d.id
		p.addr = netip.AddrPortFrom(d.from.Addr(), 500)
		p.init()
		p.addr = d.from
		d.sa, d.addr = p, netip.Addr{}
		d.auth = p.asks(more...)
		settle()
	}
	wait := func(seconds int) {
		for range seconds {
			r.pass(time.Second)
			settle()
		}
	}
	for range 150 {
		d := devices[rng.IntN(len(devices))]
		switch rng.IntN(6) {
		case 0, 1:
			var more []message.Payload
			if d.id == privateID || rng.IntN(2) == 0 {
				more = append(more, note(message.NotifyInitialContact))
			}
			connect(d, more...)
		case 2: // its battery is empty
			d.sa, d.addr = nil, netip.Addr{}
		case 3: // it goes in order
			if d.sa != nil && d.addr.IsValid() {
				p := d.sa
				d.sa, d.addr = nil, netip.Addr{}
				id := p.nextID
				p.nextID++
				r.datagram(d.from, p.seal(p.header(message.ExchangeInformational, id, false), deleteIKE()))
			}
		case 4: // its NAT gives it another port, and it says something
			d.from = netip.AddrPortFrom(d.from.Addr(), uint16(41000+rng.IntN(20000)))
			if p := d.sa; p != nil && d.addr.IsValid() {
				p.addr = d.from
				id := p.nextID
				p.nextID++
				r.datagram(d.from, p.seal(p.header(message.ExchangeInformational, id, false)))
			} else if p != nil {
				d.sa = nil // it was connecting, and gives up
			}
		}
		settle()
		wait(rng.IntN(8))
		has := map[netip.Addr]*device{}
		for _, d := range devices {
			if d.addr.IsValid() {
				if other := has[d.addr]; other != nil {
					t.Fatalf("%v at %v and %v at %v both have %v; %s", d.id, d.from, other.id, other.from, d.addr, r.reasons())
				}
				has[d.addr] = d
				if !slices.ContainsFunc(r.e.SAs(), func(i core.SAInfo) bool {
					return i.SPIr == d.sa.spir && i.State == "established" && slices.Contains(i.Leased, d.addr)
				}) {
					t.Fatalf("%v at %v has %v, and the gateway does not know; %s", d.id, d.from, d.addr, r.reasons())
				}
			}
		}
	}
	// Who still lives connects once more, in its place, and keeps its address.
	wait(300)
	for _, d := range devices {
		was := d.addr
		if d.sa == nil {
			continue
		}
		connect(d)
		if was.IsValid() && d.addr != was {
			t.Errorf("%v at %v had %v and has %v", d.id, d.from, was, d.addr)
		}
	}
	if inUse, _ := book.Count("pool"); inUse > r.established() {
		t.Errorf("%d addresses are in use, and %d IKE SAs are there", inUse, r.established())
	}
}

// A gateway that has an address of its own in the configuration is one, wherever MOBIKE has taken
// it: when it starts anew at home, what it had elsewhere is a leftover, and its CHILD SAs are
// those of the same client. Else conversations would go on, or be refused as somebody else's,
// until the old IKE SA is given up for dead.
func TestAGatewayThatMovedAndStartsAnew(t *testing.T) {
	for _, level := range []string{"require", "unique"} {
		t.Run(level, func(t *testing.T) {
			p := mobilePair(t, 1, simnet.Link{Delay: 20 * time.Millisecond}, func(a, b *core.Config) {
				a.Policies[0].Unique, b.Policies[0].Unique = level == "unique", level == "unique"
			})
			client := p.b.outbound().Client
			p.a.have("198.51.100.1")
			p.until(time.Minute, "a moved", p.both("198.51.100.1", "192.0.2.2"))
			p.a.boot(99)
			p.a.have("192.0.2.1")
			p.a.in(core.Reconfigure{Config: p.a.cfg})
			p.until(time.Minute, "a is back where it was", func() bool {
				k := p.b.outbound()
				return k != nil && k.Remote.Addr() == p.a.addr && p.a.outbound() != nil
			})
			if n := p.b.established(); n != 1 {
				t.Errorf("b has %d IKE SAs with one peer", n)
			}
			if now := p.b.outbound().Client; now != client {
				t.Errorf("b takes the peer for another client: %x, was %x", now, client)
			}
		})
	}
}
