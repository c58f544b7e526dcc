package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// What strangers cost: memory while they are half-open, and the work that a
// message of theirs causes. benchmarks/README.md has the figures.

// anyone lets everybody begin, and everybody use fragments.
func anyone(c *core.Config) {
	c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0")
	c.Peers[0].Profile.Fragmentation = true
}

// heap is what is alive, in bytes.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// stranger is number n of many, each at an address and with an SPI of its own.
func stranger(r *rig, n int) *puppet {
	p := newPuppet(r, byte(n))
	p.spii = 0x4444000000000000 + uint64(n)
	p.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n), byte(n >> 8), byte(n >> 16)}), 500)
	return p
}

// enter sends IKE_SA_INIT, again with the cookie where one is asked for, and
// reports whether there is a half-open IKE SA now.
func (p *puppet) enter() bool {
	for range 2 {
		p.r.take()
		p.r.datagram(p.addr, p.initRequest())
		out := p.r.take()
		if len(out) == 0 {
			return false
		}
		if h, _ := message.ParseHeader(out[0].Data); h.SPIr != 0 {
			p.initResponse(out[0].Data)
			return true
		}
		_, ps := p.open(out[0].Data)
		c := findNotify(ps, message.NotifyCookie)
		if c == nil {
			return false
		}
		p.first = append([]message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: bytes.Clone(c.Data)}}, p.first...)
	}
	return false
}

// clearFragment is a fragment of an IKE_AUTH request behind payloads in clear.
func (p *puppet) clearFragment(clear []message.Payload, number, total int, plain []byte) []byte {
	h := p.header(message.ExchangeIKEAuth, 1, false)
	sealed := p.sealRaw(h, nil, message.TypeVendorID, plain)
	body := sealed[message.HeaderLen+4:]
	m := message.Message{Header: h, Payloads: append(slices.Clone(clear), &message.EncryptedFragment{First: message.TypeVendorID,
		Number: uint16(number), Total: uint16(total), Body: bytes.Clone(body)})}
	raw := m.Append(nil)
	copy(raw[len(raw)-16:], mac(p.a[side01(p.initiator)], raw[:len(raw)-16]))
	return raw
}

func BenchmarkStrangersMemory(b *testing.B) {
	fill := func(n int) message.Payload { return &message.VendorID{Data: bytes.Repeat([]byte{'x'}, n)} }
	for _, c := range []struct {
		name string
		n    int
		do   func(r *rig, n int)
	}{
		{"240 half-open, 63 fragments each behind 60 kB in clear", 240, func(r *rig, n int) {
			p := stranger(r, n)
			p.first = []message.Payload{note(message.NotifyIKEv2FragmentationSupported)}
			if p.enter() {
				for k := range 63 {
					r.datagram(p.addr, p.clearFragment([]message.Payload{fill(60000)}, k+1, 64, []byte{1}))
				}
			}
		}},
		{"1000 half-open, 60 of 61 fragments of 1 kB each", 1000, func(r *rig, n int) {
			p := stranger(r, n)
			p.first = []message.Payload{note(message.NotifyIKEv2FragmentationSupported)}
			if p.enter() {
				for k := range 60 {
					r.datagram(p.addr, p.clearFragment(nil, k+1, 61, make([]byte, 1000)))
				}
			}
		}},
		{"1000 half-open by requests of 64 kB", 1000, func(r *rig, n int) {
			p := stranger(r, n)
			p.first = []message.Payload{fill(64000)}
			p.enter()
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r := newRig(b, anyone)
				before := heap()
				for n := range c.n {
					c.do(r, n)
					r.take()
					r.events = nil
				}
				after := heap()
				b.ReportMetric(float64(before)/1e6, "MB-before")
				b.ReportMetric(float64(after)/1e6, "MB-after")
				b.ReportMetric(float64(len(r.e.strangers.half)), "half-open")
				runtime.KeepAlive(r)
			}
		})
	}
}

// BenchmarkStrangersMessage is what one message of a stranger costs who has
// shown no cookie.
func BenchmarkStrangersMessage(b *testing.B) {
	proposals := func(n, transforms int) *message.SA {
		var ps []message.Proposal
		for i := range n {
			q := message.Proposal{Number: uint8(i + 1), Protocol: 1}
			for k := range transforms {
				q.Transforms = append(q.Transforms, message.Transform{Type: 1, ID: uint16(1000 + k), KeyBits: uint16(k + 1)})
			}
			ps = append(ps, q)
		}
		return saOf(ps...)
	}
	with := func(p *puppet, sa *message.SA) []byte {
		ps := p.initPayloads()
		for i := range ps {
			if _, ok := ps[i].(*message.SA); ok && sa != nil {
				ps[i] = sa
			}
		}
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: ps}
		return m.Append(nil)
	}
	pressed := func(c *core.Config) { c.CookieThreshold = 1 }
	manyPeers := func(c *core.Config) {
		for i := range 10000 {
			p := *c.Peers[0]
			p.Name = fmt.Sprint("site", i)
			p.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), 32)
			c.Peers = append(c.Peers, &p)
		}
	}
	for _, c := range []struct {
		name    string
		change  []func(c *core.Config)
		many    int // IKE SAs of the peer
		away    bool
		request func(p *puppet) []byte
	}{
		{name: "asked for a cookie", change: []func(*core.Config){pressed}, many: 1},
		{name: "asked for a cookie, 64 proposals of 10", change: []func(*core.Config){pressed}, many: 1, request: func(p *puppet) []byte { return with(p, proposals(64, 10)) }},
		{name: "asked for a cookie, 64 proposals of 80", change: []func(*core.Config){pressed}, many: 1, request: func(p *puppet) []byte { return with(p, proposals(64, 80)) }},
		{name: "asked for a cookie, 10,000 peers", change: []func(*core.Config){pressed, manyPeers}, many: 1},
		{name: "redirected, 20,000 IKE SAs", many: 20000, away: true, request: func(p *puppet) []byte {
			p.first = []message.Payload{note(message.NotifyRedirectSupported)}
			return with(p, nil)
		}},
		{name: "not redirected, 20,000 IKE SAs", change: []func(*core.Config){pressed}, many: 20000, away: true},
		{name: "refused, 1 proposal of 4", request: func(p *puppet) []byte { return with(p, proposals(1, 4)) }},
		{name: "refused, 64 proposals of 10", request: func(p *puppet) []byte { return with(p, proposals(64, 10)) }},
		{name: "refused, 64 proposals of 80", request: func(p *puppet) []byte { return with(p, proposals(64, 80)) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, append([]func(*core.Config){anyone, func(c *core.Config) {
				c.MaxHalfOpen, c.CookieThreshold = 1<<20, 1<<20
			}}, c.change...)...)
			threshold := r.e.cfg.CookieThreshold
			r.e.cfg.CookieThreshold = 1 << 20
			for n := range c.many {
				p := stranger(r, n)
				if !c.away {
					p.enter()
					continue
				}
				p.spi += uint32(n) << 1
				p.enter()
				p.auth(p.authPayloads()...)
				r.take()
				r.events = nil
			}
			r.e.cfg.CookieThreshold = threshold
			if c.away {
				cfg := *r.e.cfg
				above := c.many
				if c.request == nil {
					above++
				}
				cfg.Redirects = map[string]core.Redirect{cfg.Peers[0].Name: {To: core.Gateway{Name: "gw2.example"}, Above: above}}
				newPuppet(r, 3).enter() // a half-open one, for pressure
				r.in(core.Reconfigure{Config: &cfg})
			}
			p := newPuppet(r, 2)
			p.addr = netip.MustParseAddrPort("203.0.113.9:500")
			raw := p.initRequest()
			if c.request != nil {
				raw = c.request(p)
			}
			r.take()
			r.events = nil
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				if n%1000 == 0 {
					r.now = r.now.Add(100 * time.Millisecond) // ten thousand a second
				}
				binary.BigEndian.PutUint64(raw, uint64(n)<<8|0x99)
				r.in(core.Datagram{Local: rigAddr, Remote: p.addr, Data: raw})
				if len(r.sends) != 1 {
					b.Fatalf("%d answers: %s", len(r.sends), r.reasons())
				}
				r.sends, r.events = r.sends[:0], r.events[:0]
			}
			b.ReportMetric(float64(len(raw)), "bytes")
		})
	}
}

// BenchmarkStrangersLockOut is how long a newcomer takes, in virtual time, while
// others complete cookies at 400 messages a second.
func BenchmarkStrangersLockOut(b *testing.B) {
	for _, c := range []struct {
		name string
		from func(n int) netip.Addr
	}{
		{"4 addresses", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + n%4)}) }},
		{"a 64", func(n int) netip.Addr {
			a := netip.MustParseAddr("2001:db8:1:2::").As16()
			binary.BigEndian.PutUint64(a[8:], uint64(n)*0x9e3779b97f4a7c15)
			return netip.AddrFrom16(a)
		}},
		{"any address", func(n int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(n), byte(n >> 8), byte(n >> 16)}) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r := newRig(b, anyone, func(c *core.Config) {
					six := *c.Peers[0]
					six.Name, six.Address = "six", netip.MustParsePrefix("::/0")
					c.Peers = append(c.Peers, &six)
				})
				n := 0
				attack := func(d time.Duration) { // two messages each
					for range int(d / (5 * time.Millisecond)) {
						p := stranger(r, n)
						p.addr = netip.AddrPortFrom(c.from(n), 500)
						n++
						p.enter()
						r.take()
						r.events = nil
						r.pass(5 * time.Millisecond)
					}
				}
				attack(20 * time.Second)
				begun, in := r.now, -1.0
				for k := range 20 {
					p := stranger(r, 1<<20+k)
					p.addr = netip.MustParseAddrPort("198.51.100.7:500")
					if p.enter() {
						attack(50 * time.Millisecond) // the way there and back
						id := p.nextID
						r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, id, false), p.authPayloads()...))
						r.pass(0)
						if r.established() == 1 {
							in = r.now.Sub(begun).Seconds()
							break
						}
					}
					attack(500 * time.Millisecond)
				}
				b.ReportMetric(in, "s-until-in")
				b.ReportMetric(float64(len(r.e.strangers.half)), "half-open")
			}
		})
	}
}
