package ike

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// Peers as they are: what implementations say that differs from the RFCs, or that RFCs allow and nobody expects. Each
// message is made byte for byte by a puppet.

// sealPlain encrypts a plaintext that has whole blocks.
func (p *puppet1) sealPlain(x message.ExchangeType, id uint32, iv *[]byte, first isakmp.PayloadType, plain []byte) []byte {
	plain = slices.Clone(plain)
	b, _ := aes.NewCipher(p.e)
	stdcipher.NewCBCEncrypter(b, *iv).CryptBlocks(plain, plain)
	*iv = bytes.Clone(plain[len(plain)-16:])
	return isakmp.AppendSealed(nil, p.header(x, id), first, plain)
}

// quickIV is the IV of the first message of an exchange of phase 2: a hash, cut to the block of the cipher.
func (p *puppet1) quickIV(id uint32) []byte {
	h := sha256.Sum256(slices.Concat(p.iv, u32(id)))
	return h[:16]
}

func connected(spi uint32) *isakmp.Notify {
	return &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPI: u32(spi), Kind: isakmp.NotifyConnected}
}

func deleteESPv1(spis ...uint32) *isakmp.Delete {
	d := &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP}
	for _, s := range spis {
		d.SPIs = append(d.SPIs, u32(s))
	}
	return d
}

// Windows as responder sets the commit bit and says CONNECTED in a fourth message; others say it in an informational
// exchange. Nobody has to wait for it, and nobody has to say it.
func TestFourthMessageOfQuickMode(t *testing.T) {
	for _, own := range []bool{false, true} {
		p := newCallee1(t)
		p.main()
		q := p.asked()
		p.answer(0xc0000001, isakmp.FlagCommit, q.theIDs()...)
		p.third()
		bad := p.r.count(core.EvBadMessage)
		n := connected(0xc0000001)
		if own {
			p.inform(n)
		} else {
			_, rest := isakmp.AppendPayloads(nil, []isakmp.Payload{n})
			p.say(p.seal(isakmp.ExchangeQuick, q.id, &q.iv, &isakmp.Hash{Data: mac(p.a, u32(q.id), rest)}, n))
		}
		if len(p.r.children) != 1 || p.r.count(core.EvBadMessage) != bad || p.r.count(core.EvNotify) != 0 {
			t.Errorf("in an exchange of its own %v: %d CHILD SAs: %s", own, len(p.r.children), p.r.reasons())
		}
	}
	// As initiator with the commit bit it does not wait for CONNECTED either.
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	p.commit = true
	p.quick(0xc0000002)
	if len(r.children) != 1 || !r.children[1].active {
		t.Errorf("%d CHILD SAs: %s", len(r.children), r.reasons())
	}
}

// A message of phase 2 that overtakes the last one of phase 1 is kept until that is there: nobody sends INITIAL-CONTACT twice.
func TestPhase2OvertakesPhase1(t *testing.T) {
	contact := &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact}
	there := &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyRUThere, Data: u32(7)}
	t.Run("main mode, called", func(t *testing.T) {
		p := newCallee1(t)
		p.main1()
		p.main3()
		six := p.main5()
		for range 3 { // said again does not take the place of others
			p.nextID = 0x6000
			p.inform(contact)
		}
		p.inform(there)
		p.r.take()
		p.r.datagram(p.addr, six)
		if p.r.established() != 1 || p.r.count(core.EvBadMessage) != 0 {
			t.Errorf("%d established: %s", p.r.established(), p.r.reasons())
		}
		informs := 0
		for _, s := range p.r.take() {
			if h, _ := message.ParseHeader(s.Data); h.Exchange == isakmp.ExchangeInformational {
				informs++
			}
		}
		if informs != 1 {
			t.Errorf("R-U-THERE is answered %d times", informs)
		}
	})
	t.Run("main mode, XAuth", func(t *testing.T) {
		p := newCallee1(t, func(c *core.Config) {
			c.Peers[0].Identities[0].XAuth = &core.XAuth{Name: "anna", Password: []byte("correct horse")}
		})
		p.main1()
		p.main3()
		six := p.main5()
		ask := p.dialog(0x7001)
		if ask.say(isakmp.CfgRequest, 1, isakmp.Variable(isakmp.XAuthUserName, nil), isakmp.Variable(isakmp.XAuthPassword, nil)); ask.last != nil {
			t.Fatal("an answer before phase 1 is through")
		}
		out := p.say(six)
		if len(out) != 1 {
			t.Fatalf("%d messages: %s", len(out), p.r.reasons())
		}
		m, _ := isakmp.Parse(out[0])
		ask.hear(m)
		if n, _ := ask.last.Find(isakmp.XAuthUserName); string(n.Value) != "anna" {
			t.Errorf("%v", ask.last)
		}
	})
	t.Run("aggressive mode", func(t *testing.T) {
		r := newRig(t, inAggressiveModeRig)
		p := newPuppet1(r, 1)
		m := p.ask(p.aggressive1())
		p.heardKeys(m.Payloads)
		p.derive(true)
		three := p.seal(isakmp.ExchangeAggressive, 0, &p.iv, &isakmp.Hash{Data: p.hashI(p.idPayload())})
		p.inform(contact)
		if out := p.inform(there); len(out) != 0 {
			t.Error("an answer before phase 1 is through")
		}
		if out := p.say(three); len(out) != 1 || r.established() != 1 || r.count(core.EvBadMessage) != 0 {
			t.Errorf("%d messages, %d established: %s", len(out), r.established(), r.reasons())
		}
	})
	t.Run("a flood", func(t *testing.T) {
		r := newRig(t, inAggressiveModeRig)
		p := newPuppet1(r, 1)
		p.heardKeys(p.ask(p.aggressive1()).Payloads)
		p.derive(true)
		before := r.e.strangers.bytes
		for n := range 100 {
			p.say(isakmp.AppendSealed(nil, p.header(isakmp.ExchangeInformational, uint32(n+1)), isakmp.TypeHash, make([]byte, 16000)))
		}
		if kept := r.e.strangers.bytes - before; kept < 16000 || kept > 100<<10 {
			t.Errorf("%d bytes are kept", kept)
		}
		p.aggressiveProof()
		if r.established() != 1 {
			t.Error(r.reasons())
		}
	})
}

// aggressiveProof is the third message of aggressive mode.
func (p *puppet1) aggressiveProof() {
	p.say(p.seal(isakmp.ExchangeAggressive, 0, &p.iv, &isakmp.Hash{Data: p.hashI(p.idPayload())}))
}

// Deletes: for other cookies, which are nobody's; with our SPI instead of the peer's (Cisco); with one cookie; of a CHILD SA
// whose third message of quick mode has not come. A DELETE of phase 1 leaves the CHILD SAs that the peer is known to have.
func TestDeletesOfPeers(t *testing.T) {
	other := slices.Concat(u64(1), u64(2))
	phase1 := func(spis ...[]byte) *isakmp.Delete {
		return &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: spis}
	}
	for _, c := range []struct {
		name          string
		of            func(p *puppet1, ours uint32) *isakmp.Delete
		sas, children int
	}{
		{"other cookies", func(*puppet1, uint32) *isakmp.Delete { return phase1(other) }, 1, 1},
		{"no cookies", func(*puppet1, uint32) *isakmp.Delete { return phase1() }, 1, 1},
		{"cookies that are cut", func(p *puppet1, _ uint32) *isakmp.Delete { return phase1(p.cookies()[:15]) }, 1, 1},
		{"other cookies before its own", func(p *puppet1, _ uint32) *isakmp.Delete { return phase1(other, p.cookies()) }, 0, 1},
		{"one cookie", func(p *puppet1, _ uint32) *isakmp.Delete { return phase1(u64(p.spii)) }, 0, 1},
		{"the peer's SPI", func(*puppet1, uint32) *isakmp.Delete { return deleteESPv1(0xc0000001) }, 1, 0},
		{"our SPI", func(_ *puppet1, ours uint32) *isakmp.Delete { return deleteESPv1(ours) }, 1, 0},
		{"both SPIs", func(_ *puppet1, ours uint32) *isakmp.Delete { return deleteESPv1(ours, 0xc0000001) }, 1, 0},
		{"an SPI of nobody", func(*puppet1, uint32) *isakmp.Delete { return deleteESPv1(0xc0000009) }, 1, 1},
		{"of AH", func(*puppet1, uint32) *isakmp.Delete {
			return &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoAH, SPIs: [][]byte{u32(0xc0000001)}}
		}, 1, 1},
	} {
		r := newRig(t, inMainModeRig)
		p := newPuppet1(r, 1)
		p.main()
		p.quick(0xc0000001)
		p.inform(c.of(p, r.children[1].In.SPI))
		if r.established() != c.sas || len(r.children) != c.children {
			t.Errorf("%s: %d IKE SAs and %d CHILD SAs are left: %s", c.name, r.established(), len(r.children), r.reasons())
		}
	}
	for _, which := range []string{"the CHILD SA", "the IKE SA"} {
		r := newRig(t, inMainModeRig)
		p := newPuppet1(r, 1)
		p.main()
		third := p.quick2(0xc0000001)
		if len(r.children) != 1 {
			t.Fatal(r.reasons())
		}
		if which == "the CHILD SA" {
			p.inform(deleteESPv1(0xc0000001))
		} else {
			p.inform(phase1(p.cookies()))
		}
		if p.say(third); len(r.children) != 0 || r.count(core.EvChildUp) != r.count(core.EvChildDown) {
			t.Errorf("%s is deleted before message 3: %d CHILD SAs: %s", which, len(r.children), r.reasons())
		}
		r.pass(5 * time.Minute)
		if which == "the CHILD SA" {
			p.quick(0xc0000002)
			if len(r.children) != 1 {
				t.Errorf("no further quick mode: %s", r.reasons())
			}
		}
	}
}

// The responder's client IDs may be others than ours, and may be missing: what is not within what we asked for is as we asked,
// what is narrower counts.
func TestClientIDsInTheAnswer(t *testing.T) {
	net := func(s string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(s)) }
	port := func(ts selector.TS, proto uint8, port uint16) selector.TS {
		ts.Proto, ts.PortLo, ts.PortHi = proto, port, port
		return ts
	}
	ours, theirs := net("10.1.0.0/16"), net("10.2.0.0/16")
	for _, c := range []struct {
		name         string
		ids          []isakmp.Payload
		ours, theirs selector.TS
	}{
		{"as they were", []isakmp.Payload{clientID(t, ours), clientID(t, theirs)}, ours, theirs},
		{"none", nil, ours, theirs},
		{"one", []isakmp.Payload{clientID(t, ours)}, ours, theirs},
		{"three", []isakmp.Payload{clientID(t, ours), clientID(t, theirs), clientID(t, theirs)}, ours, theirs},
		{"other networks", []isakmp.Payload{clientID(t, net("172.16.0.0/16")), clientID(t, net("172.17.0.0/16"))}, ours, theirs},
		{"everything", []isakmp.Payload{clientID(t, net("0.0.0.0/0")), clientID(t, net("0.0.0.0/0"))}, ours, theirs},
		{"a part", []isakmp.Payload{clientID(t, net("10.1.0.0/24")), clientID(t, net("10.2.3.0/24"))}, net("10.1.0.0/24"), net("10.2.3.0/24")},
		{"a host", []isakmp.Payload{clientID(t, net("10.1.0.1/32")), clientID(t, theirs)}, net("10.1.0.1/32"), theirs},
		{"a port", []isakmp.Payload{clientID(t, port(ours, 17, 1701)), clientID(t, port(theirs, 17, 1701))}, port(ours, 17, 1701), port(theirs, 17, 1701)},
		{"a name", []isakmp.Payload{&isakmp.ID{IDType: isakmp.IDFQDN, Data: []byte("win7")}, clientID(t, theirs)}, ours, theirs},
		{"an address that is cut", []isakmp.Payload{&isakmp.ID{IDType: isakmp.IDIPv4, Data: []byte{10, 1}}, clientID(t, theirs)}, ours, theirs},
		{"another family", []isakmp.Payload{clientID(t, net("2001:db8::/32")), clientID(t, theirs)}, ours, theirs},
	} {
		p := newCallee1(t)
		p.main()
		p.asked()
		p.answer(0xc0000001, 0, c.ids...)
		p.third()
		if k := p.r.children[1]; k == nil || len(k.Pairs) != 1 || k.Pairs[0].Local != c.ours || k.Pairs[0].Remote != c.theirs {
			t.Errorf("%s: %+v: %s", c.name, k, p.r.reasons())
		}
	}
}

// Windows behind a NAT says its name as client ID. It stands for where the peer is.
func TestNameAsClientID(t *testing.T) {
	for _, kind := range []uint8{isakmp.IDFQDN, isakmp.IDUserFQDN, isakmp.IDKeyID} {
		r := newRig(t, inMainModeRig, func(c *core.Config) {
			pol := c.Policies[0]
			pol.Tunnel = false
			pol.Pair = selector.Pair{Local: selector.FromPrefix(netip.PrefixFrom(rigAddr.Addr(), 32)), Remote: selector.FromPrefix(netip.PrefixFrom(puppetAddr.Addr(), 32))}
			pol.Pair.Local.Proto, pol.Pair.Remote.Proto = 17, 17
			pol.Pair.Local.PortLo, pol.Pair.Local.PortHi = 1701, 1701
		})
		p := newPuppet1(r, 1)
		p.main()
		p.mode = isakmp.EncapTransport
		p.clients = []isakmp.Payload{
			&isakmp.ID{IDType: kind, Protocol: 17, Port: 1701, Data: []byte("win7")},
			&isakmp.ID{IDType: isakmp.IDIPv4, Protocol: 17, Port: 1701, Data: rigAddr.Addr().AsSlice()}}
		p.quick(0xc0000001)
		if k := r.children[1]; k == nil || k.Pairs[0].Remote.Lo != puppetAddr.Addr() || k.Pairs[0].Remote.PortLo != 1701 || k.Tunnel {
			t.Errorf("type %d: %+v: %s", kind, k, r.reasons())
		}
	}
}

// Phase 1 IDs have protocol and port, which are to be 0/0 or 17/500 (RFC 2407 §4.6.2) and are what the peer likes. The hash takes
// them as they came, and they are nobody's name.
func TestPhase1IDsWithPorts(t *testing.T) {
	for _, c := range []struct {
		proto uint8
		port  uint16
	}{{17, 500}, {17, 0}, {17, 4500}, {0, 500}, {6, 65535}, {255, 1}} {
		id := &isakmp.ID{IDType: isakmp.IDIPv4, Protocol: c.proto, Port: c.port, Data: puppetAddr.Addr().AsSlice()}
		r := newRig(t, inMainModeRig)
		q := newPuppet1(r, 1)
		q.whole = id
		if q.main(); r.established() != 1 {
			t.Errorf("%+v: %s", c, r.reasons())
		}
		r = newRig(t, inAggressiveModeRig)
		q = newPuppet1(r, 1)
		q.whole = id
		if q.aggressive(false); r.established() != 1 {
			t.Errorf("%+v, aggressive mode: %s", c, r.reasons())
		}
		p := newCallee1(t)
		p.id = id
		if p.main(); p.r.established() != 1 {
			t.Errorf("%+v, called: %s", c, p.r.reasons())
		}
	}
}

// Padding may be as long as 255 bytes and anything, since RFC 2408 has no rule for it; what is not zero in reserved bytes is
// hashed as it came (racoon, old Cisco, Android 4).
func TestPaddingAndReservedBytes(t *testing.T) {
	fill := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	counted := func(n int) []byte { return append(fill(0x5a, n-1), byte(n-1)) } // RFC 2408 had it so in a draft
	for _, c := range []struct {
		name     string
		pad      func(n int) []byte
		reserved byte
	}{
		{"no more than it takes", func(n int) []byte { return make([]byte, n%16) }, 0},
		{"a block more", func(n int) []byte { return make([]byte, n) }, 0},
		{"as much as a byte can say", func(n int) []byte { return make([]byte, n+224) }, 0},
		{"random bytes", func(n int) []byte { return fill(0xa7, n+112) }, 0},
		{"its length at the end", func(n int) []byte { return counted(n + 32) }, 0},
		{"reserved bytes", func(n int) []byte { return make([]byte, n%16) }, 0x2a},
		{"reserved bytes, random padding", func(n int) []byte { return fill(0xff, n+16) }, 0xff},
	} {
		r := newRig(t, inMainModeRig)
		p := newPuppet1(r, 1)
		sealOdd := func(x message.ExchangeType, id uint32, iv *[]byte, sum func(rest []byte) []byte, ps ...isakmp.Payload) []byte {
			var rest []byte
			first, plain := isakmp.AppendPayloads(nil, ps)
			oddly(plain, c.reserved)
			if sum != nil {
				rest = plain
				h := &isakmp.Hash{Data: sum(rest)}
				_, plain = isakmp.AppendPayloads(nil, []isakmp.Payload{h})
				plain[0], plain[1] = byte(first), c.reserved
				first, plain = isakmp.TypeHash, append(plain, rest...)
			}
			plain = append(plain, c.pad(16-len(plain)%16)...)
			return p.sealPlain(x, id, iv, first, plain)
		}
		clear := func(ps ...isakmp.Payload) []byte {
			raw := p.clear(isakmp.ExchangeMain, ps...)
			oddly(raw[message.HeaderLen:], c.reserved)
			return raw
		}
		p.ask(clear(p.sa()))
		p.heardKeys(p.ask(clear(&isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni})).Payloads)
		p.derive(true)
		id := p.idPayload()
		m := p.ask(sealOdd(isakmp.ExchangeMain, 0, &p.iv, nil, id, &isakmp.Hash{Data: p.hashI(id)}))
		p.proven(p.open(m, &p.iv))
		gone := &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{p.cookies()}}
		if r.established() != 1 {
			t.Errorf("%s: not up: %s", c.name, r.reasons())
		}
		iv := p.quickIV(0x7001)
		p.say(sealOdd(isakmp.ExchangeInformational, 0x7001, &iv, func(rest []byte) []byte { return mac(p.a, u32(0x7001), rest) }, gone))
		if r.established() != 0 {
			t.Errorf("%s: the DELETE does not count: %s", c.name, r.reasons())
		}
	}
}

// oddly sets the reserved byte of each payload of a chain.
func oddly(chain []byte, b byte) {
	for at := 0; at+4 <= len(chain); {
		chain[at+1] = b
		at += int(chain[at+2])<<8 | int(chain[at+3])
	}
}

// Messages in clear may be padded to four bytes, and some peers drop ones that are: ours end with the last payload, and an
// encrypted one has less than a block of zeros.
func TestOurPadding(t *testing.T) {
	for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode} {
		p := newPair(t, 1, quick, mode, bPassive, func(a, b *core.Config) {
			a.Peers[0].Identities[0].MyID, b.Peers[0].Identities[0].MyID = fqdn("abcde"), fqdn("abcdefg") // of odd lengths
		})
		seen := 0
		p.tap = func(_ *side, o core.Output) {
			s, ok := o.(core.Send)
			if !ok {
				return
			}
			m, err := isakmp.Parse(s.Data)
			if err != nil {
				t.Fatal(err)
			}
			if m.Sealed == nil && m.Odd != (isakmp.Odd{}) {
				t.Errorf("%v: %+v", m.Exchange, m.Odd)
			}
			seen++
		}
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		if seen < 6 {
			t.Errorf("%d messages", seen)
		}
	}
	// A puppet reads what ours has encrypted.
	p := newCallee1(t)
	p.main()
	if q := p.asked(); q.in.Odd.Trailing >= 16 || q.in.Odd.Reserved {
		t.Errorf("%+v", q.in.Odd)
	}
	// What is padded to four bytes is taken.
	r := newRig(t, inMainModeRig)
	c := newPuppet1(r, 1)
	raw := append(c.clear(isakmp.ExchangeMain, c.sa(), &isakmp.VendorID{Data: []byte{1}}), 0, 0, 0)
	copy(raw[24:], u32(uint32(len(raw))))
	if c.ask(raw); r.count(core.EvBadMessage) != 0 {
		t.Error(r.reasons())
	}
}

// NAT-D come under the number of RFC 3947, under that of its drafts, or under both; which of them say that there is a NAT
// does not depend on it.
func TestNATDOfBothNumbers(t *testing.T) {
	vendors := map[string][]isakmp.Payload{
		"RFC":    {&isakmp.VendorID{Data: isakmp.VendorNATT.Bytes()}},
		"draft":  {&isakmp.VendorID{Data: isakmp.VendorNATTDraft02LF.Bytes()}},
		"draft3": {&isakmp.VendorID{Data: isakmp.VendorNATTDraft03.Bytes()}},
		"both":   {&isakmp.VendorID{Data: isakmp.VendorNATT.Bytes()}, &isakmp.VendorID{Data: isakmp.VendorNATTDraft03.Bytes()}},
	}
	for name, vids := range vendors {
		for _, numbers := range []string{"RFC", "draft", "both"} {
			for _, nat := range []bool{false, true} {
				r := newRig(t, inMainModeRig, fromAnywhere)
				p := newPuppet1(r, 1)
				p.ask(p.clear(isakmp.ExchangeMain, append([]isakmp.Payload{p.sa()}, vids...)...))
				from := p.addr
				if nat {
					from = netip.MustParseAddrPort("10.0.0.7:500")
				}
				hash := func(a netip.AddrPort) []byte {
					ip := a.Addr().AsSlice()
					h := sha256.Sum256(slices.Concat(p.cookies(), ip, []byte{byte(a.Port() >> 8), byte(a.Port())}))
					return h[:]
				}
				ps := []isakmp.Payload{&isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}}
				for _, draft := range []bool{false, true} {
					if numbers == "both" || draft == (numbers == "draft") {
						ps = append(ps, &isakmp.NATD{Draft: draft, Data: hash(rigAddr)}, &isakmp.NATD{Draft: draft, Data: hash(from)})
					}
				}
				m := p.ask(p.clear(isakmp.ExchangeMain, ps...))
				p.heardKeys(m.Payloads)
				p.derive(true)
				id := p.idPayload()
				p.ask(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Hash{Data: p.hashI(id)}))
				if sas := r.e.SAs(); len(sas) != 1 || sas[0].NAT != nat {
					t.Errorf("vendor %s, NAT-D %s, NAT %v: %+v %s", name, numbers, nat, sas, r.reasons())
				}
			}
		}
	}
}

// Some peers ask R-U-THERE with a number again, or with a lower one: the message is new, so that they are answered.
func TestRepeatedDPDNumbers(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	for i, seq := range []uint32{7, 7, 6, 0, 0xffffffff} {
		out := p.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: p.cookies(), Kind: isakmp.NotifyRUThere, Data: u32(seq)})
		if len(out) != 1 {
			t.Fatalf("question %d: %d answers", i, len(out))
		}
		m, err := isakmp.Parse(out[0])
		if err != nil {
			t.Fatal(err)
		}
		iv := p.quickIV(m.ID)
		n, ok := p.open(m, &iv).Payloads[1].(*isakmp.Notify)
		if !ok || n.Kind != isakmp.NotifyRUThereAck || !bytes.Equal(n.Data, u32(seq)) || !bytes.Equal(n.SPI, p.cookies()) {
			t.Errorf("question %d: %+v", i, n)
		}
	}
	for _, data := range [][]byte{nil, {1, 2, 3}, {1, 2, 3, 4, 5}} {
		if out := p.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: p.cookies(), Kind: isakmp.NotifyRUThere, Data: data}); len(out) != 0 {
			t.Errorf("%x is answered", data)
		}
	}
}

// A gateway asks twice: for the password, then for what a token shows or its message says.
func TestXAuthInTwoRounds(t *testing.T) {
	p := newCallee1(t, func(c *core.Config) {
		c.Peers[0].Identities[0].XAuth = &core.XAuth{Name: "anna", Password: []byte("correct horse")}
	})
	p.main()
	p.r.take()
	one := p.dialog(0x7001)
	one.say(isakmp.CfgRequest, 1, isakmp.Basic(isakmp.XAuthType, isakmp.XAuthGeneric), isakmp.Variable(isakmp.XAuthUserName, nil), isakmp.Variable(isakmp.XAuthPassword, nil))
	if a, ok := one.last.Find(isakmp.XAuthPassword); !ok || string(a.Value) != "correct horse" {
		t.Fatalf("%v: %s", one.last, p.r.reasons())
	}
	two := p.dialog(0x7002)
	two.say(isakmp.CfgRequest, 2, isakmp.Variable(isakmp.XAuthMessage, []byte("Enter the number of your token")), isakmp.Variable(isakmp.XAuthPasscode, nil))
	if _, ok := two.last.Find(isakmp.XAuthUserName); ok || two.last.ID != 2 || len(two.last.List) != 1 {
		t.Fatalf("%v", two.last)
	}
	if e := p.r.event(core.EvNotify); !strings.Contains(e.Reason, "Enter the number of your token") {
		t.Errorf("%q", e.Reason)
	}
	set := p.dialog(0x7003)
	set.say(isakmp.CfgSet, 3, isakmp.Basic(isakmp.XAuthStatus, 1))
	if set.last == nil || set.last.CfgType != isakmp.CfgAck || p.r.established() != 1 {
		t.Errorf("%v: %s", set.last, p.r.reasons())
	}
}

// Windows offers its groups with 20 first. The one of the profile is taken, wherever it stands.
func TestOfferOfWindows(t *testing.T) {
	offer := func(ts ...isakmp.Phase1) *isakmp.SA {
		prop := isakmp.Proposal{Number: 1, Protocol: isakmp.ProtoISAKMP}
		for i, x := range ts {
			x.Auth, x.Life = isakmp.AuthPreShared, isakmp.Lifetime{Seconds: 28800}
			prop.Transforms = append(prop.Transforms, isakmp.Transform{Number: uint8(i + 1), ID: isakmp.KeyIKE, Attributes: x.Attributes()})
		}
		return &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{prop}}
	}
	sa := offer(isakmp.Phase1{Encryption: 7, KeyBits: 256, Hash: 2, Group: 20}, isakmp.Phase1{Encryption: 7, KeyBits: 128, Hash: 2, Group: 19},
		isakmp.Phase1{Encryption: 7, KeyBits: 256, Hash: 2, Group: 14}, isakmp.Phase1{Encryption: 5, Hash: 2, Group: 14}, isakmp.Phase1{Encryption: 5, Hash: 2, Group: 2})
	vids := []isakmp.Payload{&isakmp.VendorID{Data: unhexed("01528bbbc00696121849ab9a1c5b2a5100000001")}, &isakmp.VendorID{Data: unhexed("1e2b516905991c7d7c96fcbfb587e46100000009")},
		&isakmp.VendorID{Data: isakmp.VendorNATT.Bytes()}, &isakmp.VendorID{Data: isakmp.VendorNATTDraft02LF.Bytes()}, &isakmp.VendorID{Data: isakmp.VendorFragmentation.Bytes()},
		&isakmp.VendorID{Data: unhexed("fb1de3cdf341b7ea16b7e5be0855f120")}, &isakmp.VendorID{Data: unhexed("e3a5966a76379fe707228231e5ce8652")}}
	for _, c := range []struct {
		group, encr string
		number      uint8
	}{{"ecp384", "aes-256", 1}, {"ecp256", "aes-128", 2}, {"modp2048", "aes-256", 3}, {"modp2048", "3des", 4}, {"modp1024", "3des", 5}} {
		r := newRig(t, inMainModeRig, func(cfg *core.Config) {
			p := &cfg.Peers[0].Profile
			p.Groups, p.Encrs = groupNamed(c.group), []*suite.Encr{suite.EncrByIKEName(c.encr)}
			p.PRFs, p.Integs = []*suite.PRF{suite.PRFByName("sha1")}, []*suite.Integ{suite.IntegByName("sha1")}
		})
		p := newPuppet1(r, 1)
		m := p.ask(p.clear(isakmp.ExchangeMain, append([]isakmp.Payload{sa}, vids...)...))
		if a, ok := m.Payloads[0].(*isakmp.SA); !ok || len(a.Proposals[0].Transforms) != 1 || a.Proposals[0].Transforms[0].Number != c.number {
			t.Errorf("%s with %s: %+v", c.group, c.encr, m.Payloads[0])
		}
	}
}

func unhexed(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// A gateway that answers for others says UNITY_LOAD_BALANCE once phase 1 is through, or later: a client goes there, and takes
// what it has along. Who is no client stays, and so does a client that is sent to no address.
func TestUnityLoadBalance(t *testing.T) {
	client := func(c *core.Config) { c.Peers[0].Identities[0].Mode = &core.ModeConfig{} }
	withXAuth := func(c *core.Config) {
		c.Peers[0].Identities[0].XAuth = &core.XAuth{Name: "anna", Password: []byte("x")}
	}
	elsewhere := &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyUnityLoadBalance, Data: []byte{192, 0, 2, 9}}
	called := func(r *rig) (to []netip.Addr) {
		for _, s := range r.take() {
			if h, _ := message.ParseHeader(s.Data); h.Exchange == isakmp.ExchangeMain && h.SPIr == 0 {
				to = append(to, s.Remote.Addr())
			}
		}
		return to
	}
	member := []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	for _, c := range []struct {
		name   string
		change []func(*core.Config)
		notify *isakmp.Notify
		to     []netip.Addr
	}{
		{"before XAuth", []func(*core.Config){client, withXAuth}, elsewhere, member},
		{"before mode config", []func(*core.Config){client}, elsewhere, member},
		{"a site", nil, elsewhere, nil},
		{"nowhere", []func(*core.Config){client}, &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyUnityLoadBalance, Data: []byte{1, 2, 3}}, nil},
		{"to 0.0.0.0", []func(*core.Config){client}, &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyUnityLoadBalance, Data: make([]byte, 4)}, nil},
		{"to itself", []func(*core.Config){client}, &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyUnityLoadBalance, Data: puppetAddr.Addr().AsSlice()}, nil},
	} {
		p := newCallee1(t, c.change...)
		p.main()
		p.r.take()
		p.nextID++
		p.r.datagram(p.addr, p.informing(c.notify))
		if to := called(p.r); !slices.Equal(to, c.to) || (c.to != nil) != (p.r.count(core.EvRedirected) == 1) {
			t.Errorf("%s: called %v: %s", c.name, to, p.r.reasons())
		}
		if c.to != nil && len(p.r.e.SAs()) != 1 {
			t.Errorf("%s: %v", c.name, p.r.e.SAs())
		}
	}
	// A stranger in clear sends nobody anywhere.
	p := newCallee1(t, client)
	p.main1()
	p.r.take()
	p.r.datagram(p.addr, p.clear(isakmp.ExchangeInformational, elsewhere))
	if to := called(p.r); to != nil || p.r.count(core.EvRedirected) != 0 {
		t.Errorf("a stranger sends us to %v", to)
	}
	// As gateway we are not sent anywhere.
	r := newRig(t, inMainModeRig, initiates)
	r.take()
	q := newPuppet1(r, 1)
	q.main()
	q.inform(elsewhere)
	if r.count(core.EvRedirected) != 0 || r.established() != 1 {
		t.Error(r.reasons())
	}
}

// Old kernels cut the ICV of HMAC-SHA-256 to 96 bits and have no number of their own for that. With sha256-96 we offer the number of
// sha256, and compute as such a kernel does.
func TestSHA256CutTo96Bits(t *testing.T) {
	for _, v := range []func(a, b *core.Config){inMainMode, func(_, _ *core.Config) {}} {
		for _, protocol := range []core.Protocol{core.ProtoESP, core.ProtoAH} {
			p := newPair(t, 1, quick, v, bPassive, func(a, b *core.Config) {
				for i, c := range []*core.Config{a, b} {
					pol := c.Policies[0]
					pol.Protocol = protocol
					pol.Proposal.Encrs = []*suite.Encr{suite.EncrByName("aes-128-cbc")}
					if protocol == core.ProtoAH {
						pol.Proposal.Encrs = nil
					}
					pol.Proposal.Integs = []*suite.Integ{suite.IntegByName([]string{"sha256-96", "sha256"}[i])}
				}
			})
			p.up()
			p.until(5*time.Second, "up", p.bothUp)
			a, b := p.a.outbound(), p.b.outbound()
			if a.Integ.ICVLen != 12 || b.Integ.ICVLen != 16 || !a.Out.IntegKey.Equal(b.In.IntegKey) || len(a.Out.IntegKey) != 32 {
				t.Errorf("%v: %+v, %+v", protocol, a.Integ, b.Integ)
			}
			if r := p.a.event(core.EvChildUp).Reason; !strings.Contains(r, "sha256-96") {
				t.Errorf("%q", r)
			}
		}
	}
}
