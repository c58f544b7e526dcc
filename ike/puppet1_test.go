package ike

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"net/netip"
	"slices"
	"testing"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// A puppet1 is a puppet of IKEv1 that begins: it says whatever the test wants, under real keys. Its key derivation is
// from the words of RFC 2409 and the standard library alone. It speaks AES-128-CBC, SHA-256 and ECP-256.
type puppet1 struct {
	t          testing.TB
	r          *rig
	addr       netip.AddrPort
	spii, spir uint64
	ni, nr     []byte
	priv       *ecdh.PrivateKey
	peer       []byte // the endpoint's public value
	psk        string
	id         core.ID
	offer      isakmp.Phase1
	whole      *isakmp.ID        // who it says that it is, if not nil instead of id
	clients    []isakmp.Payload  // its client IDs, if not nil
	mode       uint16            // of quick mode; 0: tunnel mode
	commit     bool              // quick mode has the commit bit
	offers     []isakmp.Proposal // what quick mode offers, if not nil

	root, d, a, e []byte // SKEYID, and what is made of it
	iv            []byte // phase 1's chain, and at its end the base of those of phase 2
	nextID        uint32
	peerID        *isakmp.ID
}

// inMainModeRig is inMainMode for a rig.
func inMainModeRig(c *core.Config) { inMainMode(c, c) }

// fromAnywhere takes peers of any address in.
func fromAnywhere(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") }

func newPuppet1(r *rig, seed byte) *puppet1 {
	k, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{seed + 1}, 32))
	if err != nil {
		r.t.Fatal(err)
	}
	return &puppet1{t: r.t, r: r, addr: puppetAddr, spii: 0x2222222222222200 | uint64(seed), priv: k, ni: bytes.Repeat([]byte{seed, 3}, 16),
		psk: "thisisnotasecurepsk", id: core.ID{Type: core.IDIPv4, Data: string(puppetAddr.Addr().AsSlice())},
		offer:  isakmp.Phase1{Auth: isakmp.AuthPreShared, Encryption: 7, KeyBits: 128, Hash: suite.PRFByName("sha256").V1, Group: 19},
		nextID: 0x5000 + uint32(seed)<<8}
}

// twiceX is a responder with two phase 1s to come, of peers that both call themselves x.example.
func twiceX(t *testing.T) (r *rig, first, second *puppet1) {
	t.Helper()
	r = newRig(t, inMainModeRig, fromAnywhere)
	first, second = newPuppet1(r, 1), newPuppet1(r, 2)
	first.id = core.ID{Type: core.IDFQDN, Data: "x.example"}
	second.id = first.id
	return r, first, second
}

func (p *puppet1) cookies() []byte { return slices.Concat(u64(p.spii), u64(p.spir)) }

func (p *puppet1) header(x message.ExchangeType, id uint32) message.Header {
	return message.Header{SPIi: p.spii, SPIr: p.spir, Version: isakmp.Version, Exchange: x, ID: id}
}

// say hands in a message and returns the endpoint's answers.
func (p *puppet1) say(raw []byte) [][]byte {
	p.r.take()
	p.r.datagram(p.addr, raw)
	var out [][]byte
	for _, s := range p.r.take() {
		if s.Remote == p.addr {
			out = append(out, s.Data)
		}
	}
	return out
}

// ask is say where one answer is to come.
func (p *puppet1) ask(raw []byte) *isakmp.Message {
	p.t.Helper()
	out := p.say(raw)
	if len(out) != 1 {
		p.t.Fatalf("%d answers, not one: %s", len(out), p.r.reasons())
	}
	m, err := isakmp.Parse(out[0])
	if err != nil {
		p.t.Fatal(err)
	}
	p.spir = m.SPIr
	return m
}

// clear is a message in clear of an exchange of phase 1.
func (p *puppet1) clear(x message.ExchangeType, ps ...isakmp.Payload) []byte {
	return isakmp.Append(nil, p.header(x, 0), ps)
}

func (p *puppet1) sa() *isakmp.SA {
	return &isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: []isakmp.Proposal{{Number: 1, Protocol: isakmp.ProtoISAKMP,
		Transforms: []isakmp.Transform{{Number: 1, ID: isakmp.KeyIKE, Attributes: p.offer.Attributes()}}}}}
}

// ke is our public value as a group of RFC 5903 has it.
func (p *puppet1) ke() []byte { return p.priv.PublicKey().Bytes()[1:] }

func (p *puppet1) idPayload() *isakmp.ID {
	if p.whole != nil {
		return p.whole
	}
	return &isakmp.ID{IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
}

// derive is RFC 2409 §5: pre-shared keys, else signatures.
func (p *puppet1) derive(psk bool) {
	pub, err := ecdh.P256().NewPublicKey(append([]byte{4}, p.peer...))
	if err != nil {
		p.t.Fatal(err)
	}
	shared, err := p.priv.ECDH(pub)
	if err != nil {
		p.t.Fatal(err)
	}
	p.root = mac(slices.Concat(p.ni, p.nr), shared)
	if psk {
		p.root = mac([]byte(p.psk), p.ni, p.nr)
	}
	p.d = mac(p.root, shared, p.cookies(), []byte{0})
	p.a = mac(p.root, p.d, shared, p.cookies(), []byte{1})
	p.e = mac(p.root, p.a, shared, p.cookies(), []byte{2})[:16]
	iv := sha256.Sum256(slices.Concat(p.ke(), p.peer))
	p.iv = iv[:16]
}

func (p *puppet1) hashI(id *isakmp.ID) []byte {
	return mac(p.root, p.ke(), p.peer, p.cookies(), p.sa().Body(), id.Body())
}

func (p *puppet1) hashR(body []byte) []byte {
	return mac(p.root, p.peer, p.ke(), u64(p.spir), u64(p.spii), p.sa().Body(), body)
}

// seal encrypts a message; iv goes on.
func (p *puppet1) seal(x message.ExchangeType, id uint32, iv *[]byte, ps ...isakmp.Payload) []byte {
	first, plain := isakmp.AppendPayloads(nil, ps)
	plain = append(plain, make([]byte, (16-len(plain)%16)%16)...)
	b, _ := aes.NewCipher(p.e)
	stdcipher.NewCBCEncrypter(b, *iv).CryptBlocks(plain, plain)
	*iv = bytes.Clone(plain[len(plain)-16:])
	return isakmp.AppendSealed(nil, p.header(x, id), first, plain)
}

// open decrypts a message; iv goes on.
func (p *puppet1) open(m *isakmp.Message, iv *[]byte) *isakmp.Chain {
	p.t.Helper()
	plain := bytes.Clone(m.Sealed)
	b, _ := aes.NewCipher(p.e)
	stdcipher.NewCBCDecrypter(b, *iv).CryptBlocks(plain, plain)
	*iv = bytes.Clone(m.Sealed[len(m.Sealed)-16:])
	c, err := isakmp.ParsePayloads(m.Next, plain)
	if err != nil {
		p.t.Fatalf("the endpoint's message cannot be decrypted: %v", err)
	}
	return c
}

// main is main mode with a pre-shared key.
func (p *puppet1) main(more ...isakmp.Payload) {
	p.t.Helper()
	p.ask(p.clear(isakmp.ExchangeMain, append([]isakmp.Payload{p.sa()}, more...)...))
	m := p.ask(p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}))
	p.heardKeys(m.Payloads)
	p.derive(true)
	id := p.idPayload()
	m = p.ask(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Hash{Data: p.hashI(id)}))
	c := p.open(m, &p.iv)
	p.proven(c)
}

// heardKeys takes the endpoint's public value and nonce.
func (p *puppet1) heardKeys(ps []isakmp.Payload) {
	for _, x := range ps {
		switch x := x.(type) {
		case *isakmp.KE:
			p.peer = x.Data
		case *isakmp.Nonce:
			p.nr = x.Data
		}
	}
}

// proven checks HASH_R.
func (p *puppet1) proven(c *isakmp.Chain) {
	p.t.Helper()
	var body, sum []byte
	for i, x := range c.Payloads {
		switch x := x.(type) {
		case *isakmp.ID:
			p.peerID, body = x, c.Body(i)
		case *isakmp.Hash:
			sum = x.Data
		}
	}
	if body == nil || !bytes.Equal(sum, p.hashR(body)) {
		p.t.Fatalf("HASH_R is wrong: %v", c.Payloads)
	}
}

// inform says something in an informational exchange.
func (p *puppet1) inform(ps ...isakmp.Payload) [][]byte {
	p.nextID++
	return p.say(p.informing(ps...))
}

// informing is such a message, under the next message ID.
func (p *puppet1) informing(ps ...isakmp.Payload) []byte {
	_, rest := isakmp.AppendPayloads(nil, ps)
	sum := mac(p.a, u32(p.nextID), rest)
	h := sha256.Sum256(slices.Concat(p.iv, u32(p.nextID)))
	iv := h[:16]
	return p.seal(isakmp.ExchangeInformational, p.nextID, &iv, append([]isakmp.Payload{&isakmp.Hash{Data: sum}}, ps...)...)
}

// quick makes a CHILD SA for 10.2.0.0/16 at our end and 10.1.0.0/16 at the endpoint's.
func (p *puppet1) quick(spi uint32) {
	p.t.Helper()
	p.say(p.quick2(spi))
}

// quick1 is message 1 of such a quick mode, with the IV of the next.
func (p *puppet1) quick1(id, spi uint32) (raw, iv []byte) {
	h := sha256.Sum256(slices.Concat(p.iv, u32(id)))
	iv = h[:16]
	t := isakmp.Phase2{Encapsulation: isakmp.EncapTunnel, KeyBits: 128, Life: isakmp.Lifetime{Seconds: 1800}}
	if p.mode != 0 {
		t.Encapsulation = p.mode
	}
	net := func(s string) isakmp.Payload {
		q, _ := isakmp.SelectorID(selector.FromPrefix(netip.MustParsePrefix(s)))
		return q
	}
	clients := p.clients
	if clients == nil {
		clients = []isakmp.Payload{net("10.2.0.0/16"), net("10.1.0.0/16")}
	}
	offers := p.offers
	if offers == nil {
		offers = []isakmp.Proposal{{Number: 1, Protocol: isakmp.ProtoESP, SPI: u32(spi),
			Transforms: []isakmp.Transform{{Number: 1, ID: suite.EncrByName("aes-128-gcm").V1.ESP, Attributes: t.Attributes()}}}}
	}
	ps := append([]isakmp.Payload{
		&isakmp.SA{DOI: isakmp.DOIIPsec, Situation: isakmp.SituationIdentityOnly, Proposals: offers}, &isakmp.Nonce{Data: p.ni}}, clients...)
	_, rest := isakmp.AppendPayloads(nil, ps)
	raw = p.seal(isakmp.ExchangeQuick, id, &iv, append([]isakmp.Payload{&isakmp.Hash{Data: mac(p.a, u32(id), rest)}}, ps...)...)
	if p.commit {
		raw[19] |= byte(isakmp.FlagCommit)
	}
	return raw, iv
}

// quick2 is quick mode up to message 2, and returns message 3.
func (p *puppet1) quick2(spi uint32) []byte {
	p.t.Helper()
	p.nextID++
	id := p.nextID
	raw, iv := p.quick1(id, spi)
	return p.quick3(id, iv, p.ask(raw))
}

// quick3 reads message 2 and is message 3.
func (p *puppet1) quick3(id uint32, iv []byte, m *isakmp.Message) []byte {
	p.t.Helper()
	c := p.open(m, &iv)
	var nr []byte
	for _, x := range c.Payloads {
		if n, ok := x.(*isakmp.Nonce); ok {
			nr = n.Data
		}
	}
	return p.seal(isakmp.ExchangeQuick, id, &iv, &isakmp.Hash{Data: mac(p.a, []byte{0}, u32(id), p.ni, nr)})
}

// aggressive1 is the first message of aggressive mode.
func (p *puppet1) aggressive1() []byte {
	return p.clear(isakmp.ExchangeAggressive, p.sa(), &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}, p.idPayload())
}

// aggressive is aggressive mode with a pre-shared key; clear: the third message is in clear. Wrong hashes come before the
// right one.
func (p *puppet1) aggressive(clear bool, wrong ...[]byte) {
	p.t.Helper()
	m := p.ask(p.aggressive1())
	p.heardKeys(m.Payloads)
	p.derive(true)
	p.proven(&m.Chain)
	for _, sum := range append(wrong, p.hashI(p.idPayload())) {
		if h := (&isakmp.Hash{Data: sum}); clear {
			p.say(p.clear(isakmp.ExchangeAggressive, h))
		} else {
			p.say(p.seal(isakmp.ExchangeAggressive, 0, &p.iv, h))
		}
	}
}
