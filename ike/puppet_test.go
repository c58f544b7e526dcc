package ike

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// A puppet is a peer that says whatever the test wants, under real keys. It has
// its own key derivation, from the words of RFC 7296 and the standard library
// alone, so that an endpoint that understands it derives what the RFC says. It
// speaks AES-128-CBC, HMAC-SHA-256, PRF-HMAC-SHA-256 and Curve25519.
type puppet struct {
	t          testing.TB
	r          *rig
	addr       netip.AddrPort
	initiator  bool
	spii, spir uint64
	ni, nr     []byte
	priv       *ecdh.PrivateKey
	shared     []byte

	sent, got []byte // our and the endpoint's IKE_SA_INIT message
	d         []byte
	a, e, p   [2][]byte // SK_a, SK_e, SK_p of the initiator and of the responder
	nextID    uint32    // of our requests
	psk       string
	id, idr   core.ID
	natted    bool              // we say that we are behind a NAT
	sees      netip.AddrPort    // where we see the endpoint; not valid: where it is
	first     []message.Payload // goes into IKE_SA_INIT before everything else
	spi       uint32            // last ESP SPI that we gave out
	peerSPI   uint32            // the endpoint's ESP SPI of the last answer
}

// spiSeed tells puppets' SPIs apart.
func newPuppet(r *rig, spiSeed byte) *puppet {
	k, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{spiSeed + 1}, 32))
	if err != nil {
		r.t.Fatal(err)
	}
	return &puppet{t: r.t, r: r, addr: puppetAddr, initiator: true, spii: 0x1111111111111100 | uint64(spiSeed), priv: k,
		ni: bytes.Repeat([]byte{spiSeed, 2}, 16), psk: "thisisnotasecurepsk", spi: 0xc0000000 + uint32(spiSeed)<<16,
		id: core.ID{Type: core.IDIPv4, Data: string(puppetAddr.Addr().AsSlice())}}
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// prfPlus is RFC 7296 §2.13.
func prfPlus(key []byte, n int, seed ...[]byte) []byte {
	var out, t []byte
	for i := byte(1); len(out) < n; i++ {
		t = mac(key, t, bytes.Join(seed, nil), []byte{i})
		out = append(out, t...)
	}
	return out[:n]
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// derive is RFC 7296 §2.14; seed is SKEYSEED.
func (p *puppet) derive(seed []byte) {
	k := prfPlus(seed, 32+2*32+2*16+2*32, p.ni, p.nr, u64(p.spii), u64(p.spir))
	cut := func(n int) []byte { c := k[:n]; k = k[n:]; return c }
	p.d = cut(32)
	p.a = [2][]byte{cut(32), cut(32)}
	p.e = [2][]byte{cut(16), cut(16)}
	p.p = [2][]byte{cut(32), cut(32)}
}

// side is 0 for what the original initiator uses.
func side01(initiator bool) int {
	if initiator {
		return 0
	}
	return 1
}

// header is that of a request of ours.
func (p *puppet) header(x message.ExchangeType, id uint32, response bool) message.Header {
	h := message.Header{SPIi: p.spii, SPIr: p.spir, Version: 0x20, Exchange: x, ID: id}
	if p.initiator {
		h.Flags |= message.FlagInitiator
	}
	if response {
		h.Flags |= message.FlagResponse
	}
	return h
}

// seal is RFC 7296 §3.14 over payloads.
func (p *puppet) seal(h message.Header, ps ...message.Payload) []byte {
	first, plain := message.AppendPayloads(nil, ps)
	return p.sealRaw(h, nil, first, plain)
}

// sealRaw seals bytes that need not be payloads, after clear payloads.
func (p *puppet) sealRaw(h message.Header, clear []message.Payload, first message.PayloadType, plain []byte) []byte {
	plain = bytes.Clone(plain)
	pad := (16 - (len(plain)+1)%16) % 16
	plain = append(append(plain, make([]byte, pad)...), byte(pad))
	iv := mac(u64(uint64(h.ID)), plain)[:16]
	b, _ := aes.NewCipher(p.e[side01(p.initiator)])
	stdcipher.NewCBCEncrypter(b, iv).CryptBlocks(plain, plain)
	body := append(append(iv, plain...), make([]byte, 16)...)
	m := message.Message{Header: h, Payloads: append(clear, &message.Encrypted{First: first, Body: body})}
	raw := m.Append(nil)
	copy(raw[len(raw)-16:], mac(p.a[side01(p.initiator)], raw[:len(raw)-16]))
	return raw
}

// open reads a message of the endpoint.
func (p *puppet) open(raw []byte) (message.Header, []message.Payload) {
	p.t.Helper()
	m, err := message.Parse(raw)
	if err != nil {
		p.t.Fatalf("the endpoint sent what cannot be read: %v", err)
	}
	sk, ok := m.Payloads[len(m.Payloads)-1].(*message.Encrypted)
	if !ok {
		return m.Header, m.Payloads
	}
	k := side01(!p.initiator)
	if !bytes.Equal(mac(p.a[k], raw[:len(raw)-16])[:16], raw[len(raw)-16:]) {
		p.t.Fatalf("the ICV of the endpoint's %v is wrong", m.Exchange)
	}
	b, _ := aes.NewCipher(p.e[k])
	plain := bytes.Clone(sk.Body[16 : len(sk.Body)-16])
	stdcipher.NewCBCDecrypter(b, sk.Body[:16]).CryptBlocks(plain, plain)
	ps, err := message.ParsePayloads(sk.First, plain[:len(plain)-1-int(plain[len(plain)-1])])
	if err != nil {
		p.t.Fatalf("inside the endpoint's %v: %v", m.Exchange, err)
	}
	return m.Header, ps
}

// natHash is RFC 7296 §2.23.
func natHash(spii, spir uint64, a netip.AddrPort) []byte {
	h := sha1.New()
	h.Write(u64(spii))
	h.Write(u64(spir))
	h.Write(a.Addr().AsSlice())
	h.Write(binary.BigEndian.AppendUint16(nil, a.Port()))
	return h.Sum(nil)
}

var (
	ikeProposal = message.Proposal{Number: 1, Protocol: 1, Transforms: []message.Transform{
		{Type: 1, ID: 12, KeyBits: 128}, {Type: 2, ID: 5}, {Type: 3, ID: 12}, {Type: 4, ID: 31}}}
	espProposal = message.Proposal{Number: 1, Protocol: 3, Transforms: []message.Transform{
		{Type: 1, ID: 20, KeyBits: 128}, {Type: 5, ID: 0}}}
)

func withSPI(p message.Proposal, spi []byte) message.Proposal {
	p.SPI = spi
	return p
}

func saOf(ps ...message.Proposal) *message.SA { return &message.SA{Proposals: ps} }

// initPayloads are those of our IKE_SA_INIT message.
func (p *puppet) initPayloads() []message.Payload {
	n := p.ni
	if !p.initiator {
		n = p.nr
	}
	source := p.addr
	if p.natted {
		source = netip.MustParseAddrPort("10.255.0.1:500")
	}
	sees := p.r.local
	if p.sees.IsValid() {
		sees = p.sees
	}
	return append(append([]message.Payload{}, p.first...),
		saOf(ikeProposal), &message.KE{Group: 31, Data: p.priv.PublicKey().Bytes()}, &message.Nonce{Data: n},
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: natHash(p.spii, p.spir, source)},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: natHash(p.spii, p.spir, sees)})
}

// initRequest is our IKE_SA_INIT request.
func (p *puppet) initRequest() []byte {
	m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: p.initPayloads()}
	p.sent = m.Append(nil)
	return p.sent
}

// connect runs IKE_SA_INIT and IKE_AUTH as initiator, with a CHILD SA.
func (p *puppet) connect() []message.Payload {
	p.t.Helper()
	p.init()
	return p.auth(p.authPayloads(p.childOffer()...)...)
}

// init runs IKE_SA_INIT as initiator.
func (p *puppet) init() {
	p.t.Helper()
	p.r.take()
	p.r.datagram(p.addr, p.initRequest())
	p.initResponse(p.r.one().Data)
}

func (p *puppet) initResponse(raw []byte) {
	p.t.Helper()
	p.got = raw
	h, ps := p.open(raw)
	p.spir = h.SPIr
	p.agree(ps, &p.nr)
	p.derive(mac(append(bytes.Clone(p.ni), p.nr...), p.shared))
	p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
	p.nextID = 1
}

// agree reads KE and nonce of the endpoint.
func (p *puppet) agree(ps []message.Payload, nonce *[]byte) {
	p.t.Helper()
	ke, n := findPayload[*message.KE](ps), findPayload[*message.Nonce](ps)
	if ke == nil || n == nil {
		p.t.Fatalf("no key exchange or nonce in the endpoint's message: %s", describe(ps))
	}
	pub, err := ecdh.X25519().NewPublicKey(ke.Data)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.shared, err = p.priv.ECDH(pub); err != nil {
		p.t.Fatal(err)
	}
	*nonce = bytes.Clone(n.Data)
}

// proof is the AUTH payload for an ID (RFC 7296 §2.15).
func (p *puppet) proof(id *message.ID) *message.Auth {
	nonce := p.nr
	if !p.initiator {
		nonce = p.ni
	}
	octets := bytes.Join([][]byte{p.sent, nonce, mac(p.p[side01(p.initiator)], id.AppendBody(nil))}, nil)
	return &message.Auth{Method: 2, Data: mac(mac([]byte(p.psk), []byte("Key Pad for IKEv2")), octets)}
}

// authPayloads are ID, AUTH and more.
func (p *puppet) authPayloads(more ...message.Payload) []message.Payload {
	id := &message.ID{Initiator: p.initiator, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
	ps := []message.Payload{id}
	if p.idr.Type != 0 {
		ps = append(ps, &message.ID{IDType: uint8(p.idr.Type), Data: []byte(p.idr.Data)})
	}
	return append(append(ps, p.proof(id)), more...)
}

// childOffer are SA, TSi and TSr for what the policy of the rig covers, with a
// new SPI.
func (p *puppet) childOffer() []message.Payload {
	p.spi++
	return []message.Payload{saOf(withSPI(espProposal, u32(p.spi))), ts(true, "10.2.0.0/16"), ts(false, "10.1.0.0/16")}
}

func ts(initiator bool, prefixes ...string) *message.TS {
	t := &message.TS{Initiator: initiator}
	for _, s := range prefixes {
		t.Selectors = append(t.Selectors, selector.FromPrefix(netip.MustParsePrefix(s)))
	}
	return t
}

// auth sends IKE_AUTH and reads the response.
func (p *puppet) auth(ps ...message.Payload) []message.Payload {
	p.t.Helper()
	return p.request(message.ExchangeIKEAuth, ps...)
}

// request sends one request of ours and reads the response to it. Requests of
// the endpoint that come along stay in the rig.
func (p *puppet) request(x message.ExchangeType, ps ...message.Payload) []message.Payload {
	p.t.Helper()
	id := p.nextID
	p.nextID++
	p.r.datagram(p.addr, p.seal(p.header(x, id, false), ps...))
	return p.response(x, id)
}

func (p *puppet) response(x message.ExchangeType, id uint32) []message.Payload {
	p.t.Helper()
	for i, s := range p.r.sends {
		h, err := message.ParseHeader(s.Data)
		if err == nil && h.Response() && h.ID == id && h.SPIi == p.spii && h.SPIr == p.spir {
			p.r.sends = append(p.r.sends[:i:i], p.r.sends[i+1:]...)
			h, in := p.open(s.Data)
			if h.Exchange != x {
				p.t.Fatalf("%v was answered as %v", x, h.Exchange)
			}
			if sa := findPayload[*message.SA](in); sa != nil && len(sa.Proposals[0].SPI) == 4 {
				p.peerSPI = binary.BigEndian.Uint32(sa.Proposals[0].SPI)
			}
			return in
		}
	}
	p.t.Fatalf("%v id %d was not answered; events %s", x, id, p.r.reasons())
	return nil
}

// asked is the next request of the endpoint under our keys; repetitions of it are
// taken away too.
func (p *puppet) asked(x message.ExchangeType) (message.Header, []message.Payload) {
	p.t.Helper()
	for _, s := range p.r.sends {
		h, err := message.ParseHeader(s.Data)
		if err == nil && !h.Response() && h.SPIi == p.spii && h.SPIr == p.spir {
			p.r.sends = slices.DeleteFunc(slices.Clone(p.r.sends), func(o core.Send) bool { return bytes.Equal(o.Data, s.Data) })
			h, in := p.open(s.Data)
			if h.Exchange != x {
				p.t.Fatalf("the endpoint asks %v %s, not %v", h.Exchange, describe(in), x)
			}
			return h, in
		}
	}
	p.t.Fatalf("the endpoint asks nothing, not %v; events %s", x, p.r.reasons())
	return message.Header{}, nil
}

// answer answers a request of the endpoint.
func (p *puppet) answer(h message.Header, ps ...message.Payload) {
	p.r.datagram(p.addr, p.seal(p.header(h.Exchange, h.ID, true), ps...))
}

// --- payloads ---

func findPayload[T message.Payload](ps []message.Payload) (t T) {
	for _, p := range ps {
		if x, ok := p.(T); ok {
			return x
		}
	}
	return t
}

func findNotify(ps []message.Payload, k message.NotifyType) *message.Notify {
	for _, p := range ps {
		if n, ok := p.(*message.Notify); ok && n.Kind == k {
			return n
		}
	}
	return nil
}

// describe writes payloads as their names: "IDr AUTH N(TS_UNACCEPTABLE)".
func describe(ps []message.Payload) (s string) {
	for i, p := range ps {
		if i > 0 {
			s += " "
		}
		if n, ok := p.(*message.Notify); ok {
			s += "N(" + n.Kind.String() + ")"
		} else {
			s += p.Type().String()
		}
	}
	return s
}

// says fails the test if the payloads are not what describe says of them.
func says(t testing.TB, ps []message.Payload, want string) {
	t.Helper()
	if got := describe(ps); got != want {
		t.Errorf("the endpoint says %q, not %q", got, want)
	}
}

func note(k message.NotifyType) *message.Notify { return &message.Notify{Kind: k} }
func deleteESP(spis ...uint32) *message.Delete {
	d := &message.Delete{Protocol: 3}
	for _, s := range spis {
		d.SPIs = append(d.SPIs, u32(s))
	}
	return d
}
func deleteIKE() *message.Delete { return &message.Delete{Protocol: 1} }

// --- as responder ---

// called is the IKE_SA_INIT request that the endpoint sends as initiator.
func (p *puppet) called() (message.Header, []message.Payload) {
	p.t.Helper()
	p.initiator = false
	s := p.r.one()
	p.got = s.Data
	h, ps := p.open(s.Data)
	if h.Exchange != message.ExchangeIKESAInit || h.Response() || h.SPIr != 0 {
		p.t.Fatalf("the endpoint sends %v, not an IKE_SA_INIT request", h.Exchange)
	}
	p.spii = h.SPIi
	p.addr = netip.AddrPortFrom(p.addr.Addr(), s.Remote.Port())
	return h, ps
}

// replyInit answers the IKE_SA_INIT request of called with whatever we like.
func (p *puppet) replyInit(spir uint64, ps ...message.Payload) {
	m := message.Message{Header: message.Header{SPIi: p.spii, SPIr: spir, Version: 0x20,
		Exchange: message.ExchangeIKESAInit, Flags: message.FlagResponse}, Payloads: ps}
	p.sent = m.Append(nil)
	p.r.datagram(p.addr, p.sent)
}

// acceptInit answers the endpoint's IKE_SA_INIT request and derives the keys.
func (p *puppet) acceptInit() {
	p.t.Helper()
	_, ps := p.called()
	p.spir, p.nr = 0x2222222222222222, bytes.Repeat([]byte{9}, 32)
	p.agree(ps, &p.ni)
	p.derive(mac(append(bytes.Clone(p.ni), p.nr...), p.shared))
	p.replyInit(p.spir, p.initPayloads()...)
	p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
}

// childAnswer are SA, TSi and TSr as responder.
func (p *puppet) childAnswer() []message.Payload {
	p.spi++
	return []message.Payload{saOf(withSPI(espProposal, u32(p.spi))), ts(true, "10.1.0.0/16"), ts(false, "10.2.0.0/16")}
}

// accept takes the endpoint in as responder, with a CHILD SA. The empty request
// that tells us that the endpoint has it is answered too.
func (p *puppet) accept() {
	p.t.Helper()
	p.acceptInit()
	h, ps := p.asked(message.ExchangeIKEAuth)
	p.note(ps)
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	h, _ = p.asked(message.ExchangeInformational)
	p.answer(h)
}

// note remembers the endpoint's ESP SPI of a message.
func (p *puppet) note(ps []message.Payload) {
	if sa := findPayload[*message.SA](ps); sa != nil && len(sa.Proposals[0].SPI) == 4 {
		p.peerSPI = binary.BigEndian.Uint32(sa.Proposals[0].SPI)
	}
}

// nonce is a fresh Nonce payload; b tells it from others.
func nonce(b byte) *message.Nonce { return &message.Nonce{Data: bytes.Repeat([]byte{b}, 32)} }

// rekeySA is the notify that names the CHILD SA that we receive with spi on.
func rekeySA(spi uint32) *message.Notify {
	return &message.Notify{Kind: message.NotifyRekeySA, Protocol: 3, SPI: u32(spi)}
}

// successor makes a puppet for the IKE SA that a rekey made.
func (p *puppet) successor(initiator bool, spii, spir uint64, ni, nr []byte) *puppet {
	q := *p
	q.initiator, q.spii, q.spir, q.ni, q.nr, q.nextID = initiator, spii, spir, ni, nr, 0
	q.derive(mac(p.d, p.shared, ni, nr))
	return &q
}
