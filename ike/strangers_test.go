package ike

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/testcert"
)

func long(n int) message.Payload { return &message.VendorID{Data: bytes.Repeat([]byte{'x'}, n)} }

func fragmenting(p *puppet) {
	p.first = append(p.first, note(message.NotifyIKEv2FragmentationSupported))
}

// shapes are ways in which strangers make the endpoint keep something.
var shapes = []struct {
	name   string
	n      int
	change func(c *core.Config)
	hold   bool // Asks wait
	do     func(p *puppet)
}{
	{name: "half-open", n: 600, do: func(p *puppet) { p.enter() }},
	{name: "requests of 64 kB", n: 200, do: func(p *puppet) {
		p.first = append(p.first, long(64000))
		p.enter()
	}},
	{name: "fragments of a byte", n: 200, do: func(p *puppet) {
		fragmenting(p)
		p.enter()
		for k := range 63 {
			p.r.datagram(p.addr, p.sealFragment(p.header(message.ExchangeIKEAuth, 1, false), message.TypeVendorID, k+1, 64, []byte{1}))
		}
	}},
	{name: "fragments of 1 kB", n: 200, do: func(p *puppet) {
		fragmenting(p)
		p.enter()
		for k := range 60 {
			p.r.datagram(p.addr, p.sealFragment(p.header(message.ExchangeIKEAuth, 1, false), message.TypeVendorID, k+1, 61, make([]byte, 1000)))
		}
	}},
	{name: "fragments behind 60 kB in clear", n: 20, do: func(p *puppet) {
		fragmenting(p)
		p.enter()
		for k := range 63 {
			p.r.datagram(p.addr, p.clearFragment([]message.Payload{long(60000)}, k+1, 64, []byte{1}))
		}
	}},
	{name: "IKE_INTERMEDIATE of 60 kB", n: 100, hold: true, change: func(c *core.Config) { exchanges(c, "x25519+ml-kem-768") }, do: func(p *puppet) {
		q := ikeProposal
		q.Transforms = append(append([]message.Transform{}, q.Transforms...), message.Transform{Type: 6, ID: 36})
		p.initOffering(q)
		p.r.datagram(p.addr, p.seal(p.header(message.ExchangeIntermediate, 1, false), &message.KE{Group: 36, Data: make([]byte, 1184)}, long(60000)))
	}},
	{name: "a certificate with 5000 names", n: 50, hold: true, change: func(c *core.Config) {
		k := newCerts()
		sign(c, trustIn(k.root), own(k.root.Leaf("a", "p256"))).Ignore = true
	}, do: func(p *puppet) {
		id := &message.ID{Initiator: true, IDType: uint8(core.IDFQDN), Data: []byte("b")}
		ps := []message.Payload{id, &message.Cert{Encoding: 4, Data: manyNames()}, &message.Auth{Method: 14, Data: make([]byte, 64)}}
		p.enter()
		p.r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, 1, false), ps...))
		if len(p.r.asks) == 0 {
			p.t.Fatalf("nobody is asked to check it: %s", p.r.reasons())
		}
	}},
	{name: "a slow group, 64 kB of transforms", n: 100, hold: true, change: func(c *core.Config) {
		c.Peers[0].Profile.Groups = []*suite.Group{suite.GroupByName("modp2048")}
	}, do: func(p *puppet) {
		ps := p.initPayloads()
		var many []message.Proposal
		for i := range 60 {
			q := ikeProposal
			q.Number = uint8(i + 1)
			q.Transforms = append([]message.Transform{}, q.Transforms[:3]...)
			for range 120 {
				q.Transforms = append(q.Transforms, message.Transform{Type: 4, ID: 14})
			}
			many = append(many, q)
		}
		ps[0], ps[1] = saOf(many...), &message.KE{Group: 14, Data: bytes.Repeat([]byte{7}, 256)}
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: ps}
		p.r.datagram(p.addr, m.Append(nil))
	}},
	{name: "a slow group, 60 notifies of 1 kB", n: 100, hold: true, change: func(c *core.Config) {
		c.Peers[0].Profile.Groups = []*suite.Group{suite.GroupByName("modp2048")}
	}, do: func(p *puppet) {
		ps := p.initPayloads()
		q := ikeProposal
		q.Transforms = append(append([]message.Transform{}, q.Transforms[:3]...), message.Transform{Type: 4, ID: 14})
		ps[0], ps[1] = saOf(q), &message.KE{Group: 14, Data: bytes.Repeat([]byte{7}, 256)}
		for len(ps) < 60 {
			ps = append(ps, &message.Notify{Kind: 40000, Data: make([]byte, 1000)})
		}
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: ps}
		p.r.datagram(p.addr, m.Append(nil))
	}},
	{name: "refused proofs", n: 600, do: func(p *puppet) {
		p.psk = "wrong"
		p.enter()
		p.r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, 1, false), p.authPayloads()...))
	}},
}

// manyNames is a certificate that is much longer read than written.
var manyNames = sync.OnceValue(func() []byte {
	var names []string
	for i := range 5000 {
		names = append(names, string(rune('a'+i%26)))
	}
	return testcert.Root("nobody", "p256").Leaf("b", "p256", testcert.DNS(names...)).Cert.Raw
})

// What is counted is what is kept: for each way to make the endpoint keep something
// the heap does not grow by more than the count.
func TestWeight(t *testing.T) {
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			change := []func(*core.Config){anyone, func(c *core.Config) {
				c.StrangerBytes, c.MaxHalfOpen, c.CookieThreshold = 1<<40, 1<<20, 1<<20
			}}
			if c.change != nil {
				change = append(change, c.change)
			}
			r := newRig(t, change...)
			r.hold = c.hold
			run := func(from, n int) {
				for i := range n {
					c.do(stranger(r, from+i))
					r.sends, r.events, r.others, r.asks = nil, nil, nil, nil
				}
			}
			run(0, 10) // what is made once
			before, counted := heap(), r.e.strangers.bytes
			run(100, c.n)
			grown, counted := heap()-before, r.e.strangers.bytes-counted
			t.Logf("%d half-open; the heap grew by %d bytes each, %d are counted", len(r.e.strangers.half), grown/c.n, counted/c.n)
			if grown > counted {
				t.Errorf("the heap grew by %d bytes, and %d are counted", grown, counted)
			}
			runtime.KeepAlive(r)
		})
	}
}

// Nothing in clear is taken before SK or SKF: not as part of a message, nor to be
// kept with a fragment.
func TestClearBeforeSK(t *testing.T) {
	for name, clear := range map[string]message.Payload{"Vendor ID": long(60000), "Notify": note(message.NotifyMOBIKESupported),
		"unknown": &message.Unknown{T: 123, Body: []byte("?")}, "critical": &message.Unknown{T: 123, Critical: true}, "Delete": deleteIKE()} {
		r := newRig(t, anyone)
		p := newPuppet(r, 1)
		fragmenting(p)
		p.init()
		half := r.e.strangers.bytes
		h := p.header(message.ExchangeIKEAuth, 1, false)
		first, plain := message.AppendPayloads(nil, p.authPayloads(p.childOffer()...))
		refused := func(what string, raw []byte) {
			t.Helper()
			before := r.count(core.EvBadMessage)
			r.datagram(p.addr, raw)
			r.silent(what + " behind " + name)
			if r.count(core.EvBadMessage) != before+1 || r.e.strangers.bytes != half {
				t.Errorf("%s behind %s: %d bytes are kept, not %d: %s", what, name, r.e.strangers.bytes, half, r.reasons())
			}
		}
		refused("SK", p.sealRaw(h, []message.Payload{clear}, first, plain))
		for k := range 4 {
			refused("SKF", p.clearFragment([]message.Payload{clear}, k+1, 5, []byte{1}))
		}
		if strings.Contains(name, "Vendor") { // what the first payload is is known before the message is read
			if e := r.event(core.EvBadMessage); !strings.Contains(e.Reason, "begins with a payload in clear, Vendor ID") {
				t.Error(e.Reason)
			}
		}
		says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH SA TSi TSr")
		in := p.nextID
		h = p.header(message.ExchangeInformational, in, false)
		r.datagram(p.addr, p.sealRaw(h, []message.Payload{clear}, message.NoNext, nil))
		r.silent("INFORMATIONAL behind " + name)
		says(t, p.request(message.ExchangeInformational), "")
	}
}

// What all strangers together make the endpoint keep stays below StrangerBytes,
// whatever it is; who comes then still gets in.
func TestStrangerBytes(t *testing.T) {
	const most = 1 << 20
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			change := []func(*core.Config){anyone, func(c *core.Config) { c.StrangerBytes = most }}
			if c.change != nil {
				change = append(change, c.change)
			}
			r := newRig(t, change...)
			r.hold = c.hold
			high := 0
			for i := range 60 {
				func() {
					defer func() { // a puppet that is asked for a cookie, and does not know what that is
						if e := recover(); e != nil && !c.hold {
							panic(e)
						}
					}()
					c.do(stranger(r, i))
				}()
				r.sends, r.events, r.others = nil, nil, nil
				high = max(high, r.e.strangers.bytes)
				if r.e.strangers.bytes > most {
					t.Fatalf("%d bytes are kept", r.e.strangers.bytes)
				}
			}
			_ = high
		})
	}
}

// settle brings the strangers' books and the SAs together.
func (r *rig) audit() {
	r.t.Helper()
	sum, prefixes := 0, 0
	for key, sa := range r.e.strangers.half {
		sum += sa.Protocol.(*v2.SA).Weight()
		if r.e.strangers.weight[sa] != sa.Protocol.(*v2.SA).Weight() {
			r.t.Errorf("%v weighs %d, and %d are counted", key, sa.Protocol.(*v2.SA).Weight(), r.e.strangers.weight[sa])
		}
	}
	for _, g := range r.e.finals {
		if g.Stranger {
			sum += finalWeight(g.Final)
		}
	}
	for _, list := range r.e.strangers.from {
		prefixes += len(list)
	}
	if n := len(r.e.strangers.half); r.e.strangers.bytes != sum || n != len(r.e.strangers.order) || n != len(r.e.strangers.weight) || prefixes != 2*n {
		r.t.Errorf("%d half-open: %d bytes counted, %d kept; %d in order, %d weighed, %d by prefix", n, r.e.strangers.bytes, sum, len(r.e.strangers.order), len(r.e.strangers.weight), prefixes)
	}
}

// The books stay right whatever becomes of a half-open SA.
func TestStrangersAreCounted(t *testing.T) {
	r := newRig(t, anyone)
	var ps []*puppet
	for i := range 6 {
		p := stranger(r, i)
		fragmenting(p)
		p.init()
		ps = append(ps, p)
		r.audit()
	}
	for k := range 5 {
		r.datagram(ps[0].addr, ps[0].sealFragment(ps[0].header(message.ExchangeIKEAuth, 1, false), message.TypeVendorID, k+1, 6, make([]byte, 500)))
		r.audit()
	}
	if r.e.strangers.weight[r.e.strangers.order[0]] < 2500 {
		t.Errorf("fragments of 2500 bytes weigh nothing: %d", r.e.strangers.weight[r.e.strangers.order[0]])
	}
	says(t, ps[1].auth(ps[1].authPayloads(ps[1].childOffer()...)...), "IDr AUTH SA TSi TSr")
	r.audit()
	ps[2].psk = "wrong"
	says(t, ps[2].auth(ps[2].authPayloads()...), "N(AUTHENTICATION_FAILED)")
	r.audit()
	ps[3].datagramOf(message.ExchangeIKEAuth) // nonsense: INVALID_SYNTAX
	r.audit()
	if len(r.e.strangers.half) != 3 || r.e.strangers.bytes == 0 {
		t.Fatalf("%d half-open, %d bytes", len(r.e.strangers.half), r.e.strangers.bytes)
	}
	r.pass(31 * time.Second)
	r.audit()
	r.pass(2 * time.Minute)
	if r.audit(); r.e.strangers.bytes != 0 || len(r.e.strangers.half) != 0 || len(r.e.strangers.from) != 0 {
		t.Errorf("%d bytes are left of %d", r.e.strangers.bytes, len(r.e.strangers.half))
	}
}

// datagramOf sends an empty request.
func (p *puppet) datagramOf(x message.ExchangeType) {
	p.r.datagram(p.addr, p.seal(p.header(x, p.nextID, false)))
}

// Under pressure an address may have few half-open SAs, its network a multiple of
// them, in IPv6 the /64 and the /48; others have their own.
func TestShares(t *testing.T) {
	for _, c := range []struct {
		name             string
		from             func(n int) netip.Addr
		together, apart  int
		neighbour, other string // of the same network; of another
	}{
		{"an address", func(int) netip.Addr { return netip.MustParseAddr("203.0.113.1") }, 8, 8, "203.0.113.2", "203.0.114.1"},
		{"a /24", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}) }, 128, 128, "", "203.0.114.1"},
		{"a /64", func(n int) netip.Addr { return v6(0x20010db800010002, uint64(n)) }, 8, 8, "2001:db8:1:3::1", "2001:db8:2::1"},
		{"a /48", func(n int) netip.Addr { return v6(0x20010db800010000|uint64(n), 1) }, 128, 128, "", "2001:db8:2::1"},
	} {
		r := newRig(t, anyone, alsoIPv6, func(c *core.Config) { c.CookieThreshold = 1 })
		newPuppet(r, 99).init()
		enter := func(n int, a netip.Addr) bool {
			p := stranger(r, n)
			p.addr = netip.AddrPortFrom(a, 500)
			return p.enter()
		}
		for n := range 300 {
			enter(n, c.from(n))
			r.pass(time.Millisecond)
		}
		if n := len(r.e.strangers.half) - 1; n != c.together {
			t.Errorf("%s: %d half-open SAs, not %d", c.name, n, c.together)
		}
		oldest := r.e.strangers.order[1]
		if c.neighbour != "" && !enter(1000, netip.MustParseAddr(c.neighbour)) || !enter(1001, netip.MustParseAddr(c.other)) {
			t.Errorf("%s: others do not get in", c.name)
		}
		r.pass(young)
		if before := len(r.e.strangers.half); !enter(1002, c.from(1002)) || len(r.e.strangers.half) != before || slices.Contains(r.e.strangers.order, oldest) {
			t.Errorf("%s: one more does not take the place of the oldest", c.name)
		}
		r.audit()
	}
}

func v6(network, host uint64) netip.Addr {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], network)
	binary.BigEndian.PutUint64(a[8:], host)
	return netip.AddrFrom16(a)
}

func alsoIPv6(c *core.Config) {
	six := *c.Peers[0]
	six.Name, six.Address = "six", netip.MustParsePrefix("::/0")
	c.Peers = append(c.Peers, &six)
}

// Several honest clients at one address do not end each other's handshakes: those
// who come while too many others are at it come again a moment later.
func TestCrowdBehindOneAddress(t *testing.T) {
	r := newRig(t, anyone, func(c *core.Config) { c.CookieThreshold = 1 })
	stranger(r, 99).init()
	var ps []*puppet
	refused := 0
	for n := range 20 {
		p := stranger(r, n)
		p.addr = netip.AddrPortFrom(puppetAddr.Addr(), 41000+uint16(n))
		p.spi += uint32(n) << 8
		if p.enter() {
			ps = append(ps, p)
		} else {
			refused++
		}
	}
	if len(ps) != 8 || refused != 12 {
		t.Fatalf("%d are in, %d refused", len(ps), refused)
	}
	for _, p := range ps {
		if findPayload[*message.Auth](p.auth(p.authPayloads()...)) == nil {
			t.Error("one that was let in is refused")
		}
	}
	if p := stranger(r, 30); !p.enter() {
		t.Error("nobody else gets in when they are through")
	}
}

// Whose requests are refused one after the other keeps nothing, and costs all the
// more: from CookieThreshold such on it has to show a COOKIE, until the second is over.
func TestFailuresArePressure(t *testing.T) {
	r := newRig(t, anyone)
	try := func(n int) string {
		p := stranger(r, n)
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: p.initPayloads()}
		m.Payloads[0] = saOf(message.Proposal{Number: 1, Protocol: 1, Transforms: []message.Transform{{Type: 1, ID: 2}}})
		r.take()
		r.datagram(p.addr, m.Append(nil))
		_, ps := p.open(r.one().Data)
		return describe(ps)
	}
	answers := map[string]int{}
	for n := range 100 {
		answers[try(n)]++
	}
	if answers["N(NO_PROPOSAL_CHOSEN)"] != 64 || answers["N(COOKIE)"] != 36 {
		t.Error(answers)
	}
	r.pass(time.Second)
	if got := try(200); got != "N(NO_PROPOSAL_CHOSEN)" {
		t.Error(got)
	}
}

// Refusals are explained to people a bounded number of times in a second, and at a
// bounded length.
func TestExplainedIsBounded(t *testing.T) {
	r := newRig(t, anyone, func(c *core.Config) { c.CookieThreshold = 1 << 20 })
	refuse := func(n int) *core.Mismatch {
		p := stranger(r, n)
		ps := p.initPayloads()
		var many []message.Proposal
		for i := range 64 {
			q := message.Proposal{Number: uint8(i + 1), Protocol: 1}
			for k := range 100 {
				q.Transforms = append(q.Transforms, message.Transform{Type: 1, ID: uint16(1000 + k)})
			}
			many = append(many, q)
		}
		ps[0] = saOf(many...)
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: ps}
		r.events = nil
		r.datagram(p.addr, m.Append(nil))
		return r.event(core.EvNoProposal).Detail
	}
	explained := 0
	for n := range 50 {
		if d := refuse(n); d != nil {
			explained++
			if len(d.Theirs) != 17 || d.Theirs[16] != "and 48 more" || strings.Count(d.Theirs[0], ",") != 1+24 {
				t.Fatalf("%q", d.Theirs)
			}
		}
	}
	if explained != 10 {
		t.Errorf("%d refusals were explained", explained)
	}
	r.pass(time.Second)
	if refuse(100) == nil {
		t.Error("a second later none is")
	}
}

// An Ask of an SA that gave way is taken back; its answer wipes what it was made of.
func TestWithdrawn(t *testing.T) {
	r := newRig(t, anyone, func(c *core.Config) {
		c.MaxHalfOpen = 3
		c.Peers[0].Profile.Groups = []*suite.Group{suite.GroupByName("modp2048")}
	})
	r.hold = true
	slow := shapes[slices.IndexFunc(shapes, func(s struct {
		name   string
		n      int
		change func(c *core.Config)
		hold   bool
		do     func(p *puppet)
	}) bool {
		return s.name == "a slow group, 60 notifies of 1 kB"
	})].do
	for n := range 5 {
		slow(stranger(r, n))
	}
	if len(r.asks) != 5 || len(r.e.strangers.half) != 3 {
		t.Fatalf("%d Asks, %d half-open", len(r.asks), len(r.e.strangers.half))
	}
	back := seen[core.Withdraw](r)
	if len(back) != 2 || back[0].ID != r.asks[0].ID || back[1].ID != r.asks[1].ID {
		t.Fatalf("%v are taken back", back)
	}
	private := r.asks[0].Work.(core.KEBoth).Private
	r.in(core.Answer{ID: back[0].ID, Err: core.ErrWithdrawn})
	if !bytes.Equal(private, make([]byte, len(private))) || !errors.Is(core.ErrWithdrawn, core.ErrWithdrawn) {
		t.Error("the private value is still there")
	}
	r.audit()
}

// attack begins IKE SAs at the gateway b from addresses that somebody has, so that
// cookies are shown, and does not go on: two messages each, every so often.
func (p *pair) attack(every time.Duration, from func(n int) netip.Addr) {
	bench := &rig{t: p.t, local: netip.AddrPortFrom(p.b.addr, 500)}
	open := map[netip.AddrPort]*puppet{}
	send := func(q *puppet) {
		p.b.in(core.Datagram{Local: bench.local, Remote: q.addr, Data: bytes.Clone(q.initRequest())})
	}
	tap := p.tap
	p.tap = func(s *side, o core.Output) {
		if tap != nil {
			tap(s, o)
		}
		answer, ok := o.(core.Send)
		q := open[answer.Remote]
		if !ok || s != p.b || q == nil {
			return
		}
		delete(open, answer.Remote)
		_, ps := q.open(answer.Data)
		if c := findNotify(ps, message.NotifyCookie); c != nil {
			q.first = []message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: bytes.Clone(c.Data)}}
			p.clock.After(10*time.Millisecond, func() { send(q) })
		}
	}
	n := 0
	var next func()
	next = func() {
		q := newPuppet(bench, byte(n))
		q.spii = 0x5000000000000000 + uint64(n)
		q.addr = netip.AddrPortFrom(from(n), 1024+uint16(n%60000))
		open[q.addr] = q
		n++
		send(q)
		p.clock.After(every, next)
	}
	next()
}

// An honest client that comes while others complete cookies, 400 messages a second,
// is in within two seconds, with what messages get lost on its way.
func TestNewcomerUnderAttack(t *testing.T) {
	for _, c := range []struct {
		name string
		from func(n int) netip.Addr
	}{
		{"nobody attacks", nil},
		{"4 addresses", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(n % 4)}) }},
		{"4 addresses next to it", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + n%4)}) }},
		{"its /24", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + n%200)}) }},
		{"a /64", func(n int) netip.Addr { return v6(0x20010db800010002, uint64(n)*0x9e3779b97f4a7c15) }},
		{"a /48", func(n int) netip.Addr { return v6(0x20010db800010000|uint64(n)&0xffff, uint64(n)) }},
		{"many addresses", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(n), byte(n >> 8), 1}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			slowest := time.Duration(0)
			for seed := range uint64(2) {
				p := newPair(t, 700+seed, simnet.Link{Delay: 25 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05}, func(a, b *core.Config) {
					anyone(b)
					alsoIPv6(b)
					b.Peers[0].Passive, b.Peers[1].Passive = true, true
				})
				p.b.in(core.Reconfigure{Config: p.b.cfg})
				if c.from != nil {
					p.attack(5*time.Millisecond, c.from)
				}
				p.run(5500 * time.Millisecond)
				begun := p.clock.Now()
				p.a.in(core.Reconfigure{Config: p.a.cfg})
				p.until(2*time.Second, fmt.Sprintf("seed %d: up", seed), p.bothUp)
				slowest = max(slowest, p.clock.Now().Sub(begun))
				if n := len(p.b.e.strangers.half); n > 1000 {
					t.Errorf("%d half-open", n)
				}
			}
			t.Logf("up after %v at most", slowest)
		})
	}
}
