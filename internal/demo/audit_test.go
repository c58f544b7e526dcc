package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

// outer is where the gateway of an office receives ESP.
func outer(i int) netip.AddrPort { return netip.AddrPortFrom(offices[i].gateway, nattPort) }

// plainPacket is an IPv4 packet from the first host to the second, as it comes
// out of the LAN; checksums are left out.
func plainPacket(data []byte) []byte {
	b := make([]byte, 20, 20+len(data))
	b[0], b[8], b[9] = 0x45, 64, 253
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	copy(b[12:], offices[0].host.AsSlice())
	copy(b[16:], offices[1].host.AsSlice())
	return append(b, data...)
}

// Policy off: plain routers in the place of the gateways. The same file comes
// over, and of all datagrams the auditor lets none pass.
func TestAuditorWithoutGateways(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := newPayload()
	a := &Auditor{NATTPort: nattPort, Secrets: secretsOf(p, offices), Installed: func(netip.Addr) ([]uint32, error) { return nil, nil }}
	net := newNetwork(1, delay, func(d simnet.Delivery) { a.Look(d.From, d.To, d.Data) })
	ctx, stop := context.WithCancel(limited(t))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var hosts [2]*host
	for i, o := range offices {
		device := tun.NewMemory("plain", deviceMTU)
		net.join(o.gateway, func(_, _ netip.AddrPort, b []byte) bool {
			_, err := device.Write([][]byte{b}, 0)
			return err == nil
		})
		running.Go(func() { route(device, func(b []byte) { net.send(outer(i), outer(1-i), b) }) })
		defer device.Close()
		var err error
		if hosts[i], err = newHost(o.host, device); err != nil {
			t.Fatal(err)
		}
		defer hosts[i].close()
	}
	running.Go(func() { net.run(ctx) })
	x := &transfer{payload: p, size: 1 << 20}
	if err := x.run(ctx, hosts[0], hosts[1]); err != nil {
		t.Fatal(err)
	}
	r := a.Report()
	if r.Err() == nil || r.Plaintext < 1<<20/deviceMTU || r.Plaintext != r.Total() {
		t.Errorf("%v: %v", r, r.Err())
	}
}

// route sends what comes out of a device.
func route(device *tun.Memory, send func([]byte)) {
	bufs, sizes := make([][]byte, device.BatchSize()), make([]int, device.BatchSize())
	for i := range bufs {
		bufs[i] = make([]byte, deviceMTU)
	}
	for {
		n, err := device.Read(bufs, sizes, 0)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		for i := range n {
			send(bufs[i][:sizes[i]])
		}
	}
}

const goodSPI = 0x12345678

func testAuditor(p *payload) *Auditor {
	return &Auditor{NATTPort: nattPort, Secrets: secretsOf(p, offices), Installed: func(gateway netip.Addr) ([]uint32, error) {
		switch gateway {
		case offices[1].gateway:
			return []uint32{7, goodSPI}, nil
		case offices[0].gateway:
			return []uint32{9}, nil
		}
		return nil, errors.New("no such gateway")
	}}
}

func espPacket(spi uint32, rest ...[]byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, spi)
	return append(binary.BigEndian.AppendUint32(b, 1), bytes.Join(rest, nil)...)
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func ikeMessage(x message.ExchangeType, payloads ...message.Payload) []byte {
	m := message.Message{Header: message.Header{SPIi: 1, SPIr: 2, Version: 0x20, Exchange: x}, Payloads: payloads}
	return m.Append(nil)
}

func TestAuditorClasses(t *testing.T) {
	p := newPayload()
	nonce := &message.Nonce{Data: noise(1, 32)}
	init := ikeMessage(message.ExchangeIKESAInit, nonce)
	clear := ikeMessage(message.ExchangeInformational, nonce)
	sealed := ikeMessage(message.ExchangeInformational, &message.Encrypted{Body: noise(2, 80)})
	ike, natt := netip.AddrPortFrom(offices[1].gateway, ikePort), outer(1)
	marked := func(b []byte) []byte { return append(make([]byte, 4), b...) }
	for _, c := range []struct {
		what string
		to   netip.AddrPort
		data []byte
		want Report
		find string
	}{
		{"IKE", ike, init, Report{IKE: 1}, ""},
		{"IKE, sealed", ike, sealed, Report{IKE: 1}, ""},
		{"IKE with marker", natt, marked(sealed), Report{IKE: 1}, ""},
		{"ESP", natt, espPacket(goodSPI, noise(3, 1400)), Report{ESP: 1}, ""},
		{"keepalive", natt, []byte{0xFF}, Report{Keepalives: 1}, ""},

		{"IKE in clear", ike, clear, Report{Plaintext: 1}, "IKE in clear"},
		{"IKE with something behind", ike, append(init[:len(init):len(init)], 1), Report{Plaintext: 1}, "neither IKE nor ESP"},
		{"IKE that ends early", ike, init[:len(init)-1], Report{Plaintext: 1}, "neither IKE nor ESP"},
		{"something on the IKE port", ike, noise(4, 300), Report{Plaintext: 1}, "neither IKE nor ESP"},
		{"nothing", natt, nil, Report{Plaintext: 1}, "too short"},
		{"ESP without sequence number", natt, espPacket(goodSPI)[:7], Report{Plaintext: 1}, "too short"},
		{"ESP of the other direction", natt, espPacket(9, noise(5, 100)), Report{Plaintext: 1}, "none with SPI 0x00000009"},
		{"ESP to nobody", netip.MustParseAddrPort("192.0.2.1:4500"), espPacket(goodSPI), Report{Plaintext: 1}, "no such gateway"},
		{"a plain packet", natt, plainPacket(nil), Report{Plaintext: 1}, "host to host"},
		{"a plain packet on the IKE port", ike, plainPacket(nil), Report{Plaintext: 1}, "host to host"},
		{"a plain packet of others", natt, append([]byte{0x45}, noise(6, 50)...), Report{Plaintext: 1}, "no ESP"},
		{"ESP that does not encrypt", natt, espPacket(goodSPI, plainPacket(nil)), Report{Plaintext: 1}, "host to host"},
		{"HTTP in ESP", natt, espPacket(goodSPI, []byte("GET /random HTTP/1.1\r\n")), Report{Plaintext: 1}, "HTTP"},
		{"the file in ESP", natt, espPacket(goodSPI, noise(7, 99), p.mark[:]), Report{Plaintext: 1}, "piece of the file"},
		{"the file in IKE", ike, ikeMessage(message.ExchangeIKESAInit, &message.Nonce{Data: bytes.Repeat(p.mark[:], 4)}), Report{Plaintext: 1}, "piece of the file"},
	} {
		a := testAuditor(p)
		a.Look(outer(0), c.to, c.data)
		got := a.Report()
		findings := strings.Join(got.Findings, ";")
		if got.Bytes != int64(len(c.data)) || (c.find == "") != (findings == "") || !strings.Contains(findings, c.find) {
			t.Errorf("%s: %d bytes, %q", c.what, got.Bytes, findings)
		}
		got.Bytes, got.Findings = 0, nil
		if got.Total() != 1 || got.IKE != c.want.IKE || got.ESP != c.want.ESP || got.Keepalives != c.want.Keepalives || got.Plaintext != c.want.Plaintext {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

// An SPI that is installed later is asked for; one that was is remembered.
func TestAuditorAsksForNewSPIs(t *testing.T) {
	asked, installed := 0, []uint32{300}
	a := &Auditor{NATTPort: nattPort, Installed: func(netip.Addr) ([]uint32, error) {
		asked++
		return installed, nil
	}}
	for _, spi := range []uint32{300, 300, 301, 300} {
		installed = []uint32{spi}
		a.Look(outer(0), outer(1), espPacket(spi))
	}
	if r := a.Report(); r.ESP != 4 || asked != 2 {
		t.Errorf("%v, asked %d times", r, asked)
	}
}

func TestReportErr(t *testing.T) {
	for _, c := range []struct {
		r    Report
		fine bool
	}{
		{Report{IKE: 4, ESP: 9}, true},
		{Report{IKE: 4, ESP: 9, Keepalives: 1}, true},
		{Report{IKE: 4, ESP: 9, Plaintext: 1}, false},
		{Report{IKE: 4}, false},
		{Report{ESP: 4}, false},
		{Report{}, false},
	} {
		if err := c.r.Err(); (err == nil) != c.fine {
			t.Errorf("%v: %v", c.r, err)
		}
	}
}

// Wherever 39 bytes are cut out of the payload, the mark is among them; the
// same seed gives the same payload, of any length.
func TestPayload(t *testing.T) {
	p := newPayload()
	read := func(size int64) (all []byte) {
		if err := p.stream(size, func(b []byte) error { all = append(all, b...); return nil }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	const size = 200_001
	all := read(size)
	if len(all) != size || !bytes.Equal(all[:70_000], read(70_000)) {
		t.Fatal("the payload is not the same each time")
	}
	const least = markEvery + markLen - 1
	for i := range size - least {
		if !bytes.Contains(all[i:i+least], p.mark[:]) {
			t.Fatalf("no mark in the %d bytes from %d on", least, i)
		}
	}
	if bytes.Equal(all[markLen:markEvery], all[markEvery+markLen:2*markEvery]) {
		t.Error("the payload repeats itself")
	}
	failure := errors.New("full")
	if err := p.stream(1, func([]byte) error { return failure }); err != failure {
		t.Error(err)
	}
}
