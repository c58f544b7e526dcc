package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// fragmented makes both ends cut messages small, so that every protected one but
// the empty ones travels in several fragments.
func fragmented(a, b *core.Config) {
	for _, c := range []*core.Config{a, b} {
		c.Peers[0].Profile.Fragmentation = true
		c.MaxDatagram = 160
	}
}

// longest is the longest message of an exchange that a side sent, and how many
// datagrams with a fragment it sent.
func (s *side) longest(x message.ExchangeType) (long uint32, fragments int) {
	for _, h := range s.sent {
		if h.Exchange == x {
			long = max(long, h.Length)
			if h.Next == message.TypeSKF {
				fragments++
			}
		}
	}
	return long, fragments
}

func TestFragmentsBothWays(t *testing.T) {
	for _, encr := range []string{"aes-128", "aes-256-gcm"} {
		t.Run(encr, func(t *testing.T) {
			p := newPair(t, 3, goodLink, passive, fragmented, func(a, b *core.Config) {
				for _, c := range []*core.Config{a, b} {
					c.Peers[0].Profile.Encrs = []*suite.Encr{suite.EncrByIKEName(encr)}
				}
			})
			p.up()
			p.until(time.Second, "both ends up", p.bothUpOrStandby)
			for _, s := range []*side{p.a, p.b} {
				if long, n := s.longest(message.ExchangeIKEAuth); long > 160-52 || n < 2 {
					t.Errorf("%s sent IKE_AUTH in %d fragments, the longest message %d bytes", s.name, n, long)
				}
				if _, n := s.longest(message.ExchangeIKESAInit); n != 0 {
					t.Errorf("%s sent IKE_SA_INIT in fragments", s.name)
				}
			}
		})
	}
}

// Who does not understand fragments gets none, and takes none.
func TestFragmentsOnlyWhereBothSaySo(t *testing.T) {
	for i := range 2 {
		p := newPair(t, 4, goodLink, passive, fragmented, func(a, b *core.Config) {
			[]*core.Config{a, b}[i].Peers[0].Profile.Fragmentation = false
		})
		p.up()
		p.until(time.Second, "both ends up", p.bothUpOrStandby)
		for _, s := range []*side{p.a, p.b} {
			if _, n := s.longest(message.ExchangeIKEAuth); n != 0 {
				t.Errorf("%s sent fragments, and only one end said that it understands them", s.name)
			}
		}
	}
}

// A fragment that is lost: the request is repeated as a whole, and all of the
// response comes again for its first fragment.
func TestLostFragments(t *testing.T) {
	for _, x := range []message.ExchangeType{message.ExchangeIKEAuth, message.ExchangeCreateChildSA} {
		for _, response := range []bool{false, true} {
			for nth := range 3 {
				t.Run(fmt.Sprintf("%v response %v fragment %d", x, response, nth), func(t *testing.T) {
					p := newPair(t, 5, goodLink, passive, fragmented)
					seen := 0
					p.drop = func(_ *side, h message.Header) bool {
						if h.Exchange != x || h.Response() != response || h.Next != message.TypeSKF {
							return false
						}
						seen++
						return seen == nth+1
					}
					p.up()
					p.until(5*time.Second, "both ends up", p.bothUpOrStandby)
					p.a.in(core.Command{Do: core.RekeyChildren})
					p.until(5*time.Second, "rekeyed", func() bool { return p.a.count(core.EvChildRekeyed) == 1 && p.b.count(core.EvChildRekeyed) == 1 })
					if seen < nth+1 {
						t.Fatalf("only %d fragments were sent", seen)
					}
				})
			}
		}
	}
}

// skf cuts the payloads of a message of the puppet into fragments of size bytes.
func (p *puppet) skf(h message.Header, size int, ps ...message.Payload) (out [][]byte) {
	first, plain := message.AppendPayloads(nil, ps)
	total := (len(plain) + size - 1) / size
	for n := 1; len(plain) > 0; n++ {
		part := plain[:min(size, len(plain))]
		plain = plain[len(part):]
		out = append(out, p.sealFragment(h, first, n, total, part))
		first = 0
	}
	return out
}

// sealFragment is RFC 7383 §2.5.
func (p *puppet) sealFragment(h message.Header, first message.PayloadType, number, total int, plain []byte) []byte {
	body := p.sealRaw(h, nil, first, plain)
	iv := body[message.HeaderLen+4:][:16]
	cipher := body[message.HeaderLen+4+16 : len(body)-16]
	m := message.Message{Header: h, Payloads: []message.Payload{&message.EncryptedFragment{First: first,
		Number: uint16(number), Total: uint16(total), Body: slices.Concat(iv, cipher, make([]byte, 16))}}}
	raw := m.Append(nil)
	copy(raw[len(raw)-16:], mac(p.a[side01(p.initiator)], raw[:len(raw)-16]))
	return raw
}

// fragmentPuppet has an IKE SA with a rig that understands fragments.
func fragmentPuppet(t *testing.T) (*rig, *puppet) {
	r := newRig(t, func(c *core.Config) { c.Peers[0].Profile.Fragmentation = true })
	p := newPuppet(r, 1)
	p.first = []message.Payload{note(message.NotifyIKEv2FragmentationSupported)}
	says(t, p.connect(), "IDr AUTH SA TSi TSr")
	r.take()
	return r, p
}

// filler makes a message of the puppet long.
func filler(n int) *message.VendorID { return &message.VendorID{Data: bytes.Repeat([]byte{'x'}, n)} }

func TestReassembly(t *testing.T) {
	r, p := fragmentPuppet(t)
	give := func(parts ...[]byte) {
		for _, b := range parts {
			r.datagram(p.addr, b)
		}
	}
	answered := func(what string) {
		t.Helper()
		if h, _ := p.open(r.one().Data); !h.Response() || h.ID != p.nextID {
			t.Fatalf("%s: answered with id %d", what, h.ID)
		}
		p.nextID++
	}
	header := func() message.Header { return p.header(message.ExchangeInformational, p.nextID, false) }

	f := p.skf(header(), 50, filler(180))
	give(f[2], f[0], f[0], f[3])
	r.silent("a message with a gap")
	give(f[1])
	answered("out of order, one twice")

	// Again: only the first fragment brings the response back.
	give(f[1], f[2], f[3])
	r.silent("later fragments of an old request")
	forged := bytes.Clone(f[0])
	forged[len(forged)-1] ^= 1
	give(forged)
	r.silent("a forged first fragment of an old request")
	give(f[0])
	p.nextID--
	answered("the first fragment of an old request")

	// One that is wrong does not take the place of one that is right, and its
	// Total counts for nothing.
	f = p.skf(header(), 50, filler(180))
	bad := bytes.Clone(f[1])
	bad[len(bad)-1] ^= 1
	more := bytes.Clone(f[2])
	binary.BigEndian.PutUint16(more[message.HeaderLen+6:], 60)
	give(f[0], bad, more, f[2], f[1], f[3])
	answered("forged fragments in between")

	// A finer cut begins anew, a coarser one is late (RFC 7383 §2.6).
	coarse, fine := p.skf(header(), 100, filler(180)), p.skf(header(), 50, filler(180))
	give(coarse[0], fine[0], coarse[1], fine[1], fine[2])
	r.silent("two cuts mixed")
	give(fine[3])
	answered("the finer cut")

	// A whole message in between does what fragments began.
	f = p.skf(header(), 50, filler(180))
	give(f[0], f[1], p.seal(header(), filler(180)))
	answered("a whole message after some fragments")
	give(f[2], f[3])
	r.silent("the rest of what was answered")

	// The message before the next, the one after the next.
	h := header()
	h.ID++
	give(p.skf(h, 50, filler(180))...)
	r.silent("a message beyond the window")
	give(p.skf(header(), 50, filler(180))...)
	answered("the message of the window")
}

// The Delete of the IKE SA in fragments, and again, because the answer was lost:
// one answer each time.
func TestFragmentsForTheDead(t *testing.T) {
	r, p := fragmentPuppet(t)
	f := p.skf(p.header(message.ExchangeInformational, p.nextID, false), 50, deleteIKE(), filler(180))
	for range 2 {
		for _, b := range f {
			r.datagram(p.addr, b)
		}
		if h, _ := p.open(r.one().Data); !h.Response() || h.ID != p.nextID {
			t.Fatalf("answered with id %d", h.ID)
		}
	}
}

func TestReassemblyIsBounded(t *testing.T) {
	r, p := fragmentPuppet(t)
	h := p.header(message.ExchangeInformational, p.nextID, false)
	for n := range 70 {
		r.datagram(p.addr, p.sealFragment(h, message.TypeVendorID, n+1, 70, make([]byte, 50)))
	}
	r.silent("70 fragments")
	before := r.count(core.EvBadMessage)
	for n := range 40 { // of 2000 bytes: more than 64 KiB before the last
		r.datagram(p.addr, p.sealFragment(h, message.TypeVendorID, n+1, 40, make([]byte, 2000)))
	}
	r.silent("80000 bytes")
	if r.count(core.EvBadMessage) == before {
		t.Error("nobody was told why")
	}
	r.datagram(p.addr, p.seal(h, filler(180)))
	if len(r.take()) != 1 {
		t.Error("what was too much stands in the way of what is not")
	}
}

// Fragments inside which there is no message: the IKE SA ends as for a whole one
// (RFC 7296 §2.21.3).
func TestFragmentsOfNonsense(t *testing.T) {
	r, p := fragmentPuppet(t)
	h := p.header(message.ExchangeInformational, p.nextID, false)
	r.datagram(p.addr, p.sealFragment(h, message.TypeNotify, 1, 2, []byte{0, 0, 0}))
	r.datagram(p.addr, p.sealFragment(h, 0, 2, 2, []byte{3, 1}))
	_, in := p.open(r.one().Data)
	says(t, in, "N(INVALID_SYNTAX)")
	if r.established() != 0 {
		t.Error("the IKE SA lives on")
	}
}

func TestNoFragmentsUnasked(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.first = []message.Payload{note(message.NotifyIKEv2FragmentationSupported)}
	p.connect()
	r.take()
	for _, b := range p.skf(p.header(message.ExchangeInformational, p.nextID, false), 50, filler(180)) {
		r.datagram(p.addr, b)
	}
	r.silent("fragments that were not agreed on")
}
