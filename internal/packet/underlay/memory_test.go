package underlay

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"culvert/internal/packet/wire"
)

func packets(n, size int) []Packet {
	out := make([]Packet, n)
	for i := range out {
		out[i].Buf = make([]byte, Headroom+size)
	}
	return out
}

func outgoing(kind Kind, local, remote netip.AddrPort, natt bool, data []byte) Packet {
	buf := append(bytes.Repeat([]byte{0xEE}, Headroom), data...)
	return Packet{Buf: buf, Off: Headroom, Len: len(data), Local: local, Remote: remote, Kind: kind, NATT: natt}
}

// twins are two gateways' attachments with a wire between them.
func twins() (a, b *Memory) {
	carry := func(to **Memory) func(Packet) {
		return func(p Packet) { (*to).Deliver(p.Local, p.Remote, p.Data()) }
	}
	a = NewMemory(netip.MustParseAddr("192.0.2.1"), 500, 4500, carry(&b))
	b = NewMemory(netip.MustParseAddr("192.0.2.2"), 500, 4500, carry(&a))
	return a, b
}

func TestMemoryCarries(t *testing.T) {
	a, b := twins()
	message := bytes.Repeat([]byte{5}, 40)
	to := netip.MustParseAddrPort
	n, err := a.Send([]Packet{
		outgoing(IKE, netip.AddrPort{}, to("192.0.2.2:500"), false, message),
		outgoing(IKE, netip.AddrPort{}, to("192.0.2.2:4500"), true, message),
		outgoing(ESP, to("192.0.2.1:4500"), to("192.0.2.2:4500"), true, message[:20]),
		outgoing(Keepalive, netip.AddrPort{}, to("192.0.2.2:4500"), true, []byte{0xFF}),
	})
	if n != 4 || err != nil {
		t.Fatal(n, err)
	}
	in := packets(8, 2000)
	if n, err = b.Recv(in); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	want := []struct {
		kind          Kind
		natt          bool
		local, remote string
		n             int
	}{
		{IKE, false, "192.0.2.2:500", "192.0.2.1:500", 40}, {IKE, true, "192.0.2.2:4500", "192.0.2.1:4500", 40},
		{ESP, true, "192.0.2.2:4500", "192.0.2.1:4500", 20}, {Keepalive, true, "192.0.2.2:4500", "192.0.2.1:4500", 1},
	}
	for i, w := range want {
		p := in[i]
		if p.Kind != w.kind || p.NATT != w.natt || p.Local != to(w.local) || p.Remote != to(w.remote) || p.Len != w.n || p.Kind != Keepalive && p.Data()[0] != 5 {
			t.Errorf("packet %d: %v %v %v %v %d", i, p.Kind, p.NATT, p.Local, p.Remote, p.Len)
		}
	}
}

func TestMemoryRefuses(t *testing.T) {
	a, b := twins()
	to := netip.MustParseAddrPort
	data := make([]byte, 40)
	for name, p := range map[string]Packet{
		"a source that is not ours": outgoing(ESP, to("192.0.2.9:4500"), to("192.0.2.2:4500"), true, data),
		"a port that is not ours":   outgoing(ESP, to("192.0.2.1:77"), to("192.0.2.2:4500"), true, data),
		"the other family":          outgoing(ESP, netip.AddrPort{}, to("[2001:db8::1]:4500"), true, data),
		"ESP on the IKE port":       outgoing(ESP, netip.AddrPort{}, to("192.0.2.2:500"), false, data),
	} {
		good := outgoing(IKE, netip.AddrPort{}, to("192.0.2.2:500"), false, data)
		if n, err := a.Send([]Packet{p, good}); n != 1 || err == nil {
			t.Error(name, n, err)
		}
	}
	if b.Deliver(to("192.0.2.1:500"), to("192.0.2.2:501"), data) || b.Deliver(to("192.0.2.1:500"), to("192.0.2.2:500"), make([]byte, MaxDatagram+1)) {
		t.Error("a datagram for nobody, or too long, was taken")
	}
	for range memoryQueue - 4 { // the four good ones are waiting
		if !b.Deliver(to("192.0.2.1:500"), to("192.0.2.2:500"), data) {
			t.Fatal("dropped before the queue is full")
		}
	}
	if b.Deliver(to("192.0.2.1:500"), to("192.0.2.2:500"), data) {
		t.Error("the queue has no end")
	}
}

func TestMemoryCloseWakesRecv(t *testing.T) {
	a, _ := twins()
	closeWakes(t, a)
}

func closeWakes(t *testing.T, c Conn) {
	t.Helper()
	done := make(chan error)
	go func() {
		_, err := c.Recv(packets(1, 2000))
		done <- err
	}()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error("a second Close:", err)
	}
	if err := <-done; err != net.ErrClosed {
		t.Error(err)
	}
	if _, err := c.Recv(packets(1, 2000)); err != net.ErrClosed {
		t.Error(err)
	}
	p := outgoing(IKE, netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:9"), false, make([]byte, 40))
	if _, err := c.Send([]Packet{p}); err != net.ErrClosed {
		t.Error(err)
	}
}

func TestMemoryCarriesRaw(t *testing.T) {
	var b *Memory
	a := NewMemory(netip.MustParseAddr("192.0.2.1"), 500, 4500, func(p Packet) {
		b.DeliverRaw(p.Kind, p.Local.Addr(), p.Remote.Addr(), p.Data())
	}).WithRaw()
	b = NewMemory(netip.MustParseAddr("192.0.2.2"), 500, 4500, nil).WithRaw()
	to := netip.MustParseAddrPort("192.0.2.2:4500")
	esp := bytes.Repeat([]byte{5}, 40)
	header := wire.AppendIP(nil, a.addr, b.addr, wire.ProtoESP, len(esp))
	own := outgoing(ESP, netip.AddrPort{}, to, false, append(header, esp...))
	own.Header = true
	authenticated := outgoing(AH, netip.AddrPort{}, to, false, append(wire.AppendIP(nil, a.addr, b.addr, wire.ProtoAH, 40), make([]byte, 40)...))
	headless := authenticated
	authenticated.Header = true
	n, err := a.Send([]Packet{outgoing(ESP, netip.AddrPort{}, to, false, esp), own, headless, authenticated})
	if n != 3 || err != ErrFrame {
		t.Fatal(n, err)
	}
	in := packets(8, 2000)
	if n, err := b.Recv(in); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for i, want := range [][]byte{esp, esp, authenticated.Data()} {
		p := in[i]
		if !bytes.Equal(p.Data(), want) || p.NATT || (p.Kind == AH) != (i == 2) || p.Header != (i == 2) || p.Remote != netip.AddrPortFrom(a.addr, 0) {
			t.Errorf("%d: %+v", i, p)
		}
	}
	if IsRaw(struct{ Conn }{a}) { // of a kind that does not say
		t.Error("raw")
	}
	plain, _ := twins()
	if n, err := plain.Send([]Packet{own}); n != 0 || err != ErrNoSocket || IsRaw(plain) || !IsRaw(a) {
		t.Error(n, err)
	}
}

// What stands in for sockets carries the type of service: what was asked for, or
// the one of the packet's own header.
func TestMemoryCarriesTOS(t *testing.T) {
	var b *Memory
	a := NewMemory(netip.MustParseAddr("192.0.2.1"), 500, 4500, func(p Packet) { b.DeliverPacket(p) }).WithRaw()
	b = NewMemory(netip.MustParseAddr("192.0.2.2"), 500, 4500, nil).WithRaw()
	to := netip.MustParseAddrPort("192.0.2.2:4500")
	data := bytes.Repeat([]byte{5}, 40)
	own := wire.AppendIP(nil, netip.MustParseAddr("192.0.2.1"), to.Addr(), wire.ProtoESP, len(data))
	wire.SetTOS(own, 0x2c)
	own = append(own, data...)
	for i, p := range []Packet{
		outgoing(ESP, netip.AddrPort{}, to, true, data), outgoing(IKE, netip.AddrPort{}, to, true, data),
		outgoing(ESP, netip.AddrPort{}, to, false, data), outgoing(ESP, netip.AddrPort{}, to, false, own), outgoing(AH, netip.AddrPort{}, to, false, own),
	} {
		want := uint8(0x28 + i)
		p.TOS = want
		if i >= 3 {
			p.Header, want = true, 0x2c
		}
		if n, err := a.Send([]Packet{p}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		in := packets(1, 200)
		in[0].TOS = 0xff
		if n, err := b.Recv(in); n != 1 || err != nil || in[0].TOS != want || in[0].Kind != p.Kind {
			t.Errorf("packet %d: %d, %v, kind %v, TOS %#x, want %#x", i, n, err, in[0].Kind, in[0].TOS, want)
		}
	}
}

// What a system without raw sockets for it would not carry, or only cut.
func TestMemoryRefusesRaw(t *testing.T) {
	us, they, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	var left []Packet
	a := NewMemory(us, 500, 4500, func(p Packet) { left = append(left, p) }).WithRaw()
	raw := func(local, remote string, change func(*Packet)) Packet {
		p := outgoing(ESP, netip.AddrPort{}, netip.MustParseAddrPort(remote), false, bytes.Repeat([]byte{5}, 40))
		if local != "" {
			p.Local = netip.MustParseAddrPort(local)
		}
		change(&p)
		return p
	}
	same := func(*Packet) {}
	for _, c := range []struct {
		name string
		p    Packet
		want error
	}{
		{"ours", raw("192.0.2.1:4500", "192.0.2.2:4500", same), nil},
		{"by any", raw("", "192.0.2.2:4500", same), nil},
		{"another source", raw("192.0.2.3:4500", "192.0.2.2:4500", same), ErrNoSocket},
		{"the other family", raw("", "[2001:db8::1]:4500", same), ErrNoSocket},
		{"beyond the buffer", raw("", "192.0.2.2:4500", func(p *Packet) { p.Len++ }), ErrFrame},
		{"a header that is none", raw("", "192.0.2.2:4500", func(p *Packet) { p.Header = true }), ErrFrame},
	} {
		left = nil
		n, err := a.Send([]Packet{c.p})
		if err != c.want || n != len(left) || (n == 1) != (c.want == nil) {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
		for _, p := range left {
			if p.Local != netip.AddrPortFrom(us, 0) || p.Remote != netip.AddrPortFrom(they, 0) || p.TTL != 64 || p.Kind != ESP || p.Header || p.Len != 40 {
				t.Errorf("%s: %+v", c.name, p)
			}
		}
	}
	esp := bytes.Repeat([]byte{5}, 40)
	for _, c := range []struct {
		name string
		m    *Memory
		to   netip.Addr
		data []byte
		want bool
	}{
		{"to us", a, us, esp, true}, {"the longest", a, us, make([]byte, maxIP), true}, {"longer", a, us, make([]byte, maxIP+1), false},
		{"to another", a, other, esp, false}, {"without raw sockets", NewMemory(us, 500, 4500, nil), us, esp, false},
	} {
		if got := c.m.DeliverRaw(ESP, they, c.to, c.data); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	in := packets(4, maxIP)
	if n, err := a.Recv(in); n != 2 || err != nil || in[1].Len != maxIP {
		t.Error(n, err)
	}
}

// Refuse has packets stay, until there is no rule any more.
func TestMemoryRefuse(t *testing.T) {
	a, b := twins()
	to := netip.MustParseAddrPort("192.0.2.2:500")
	batch := []Packet{outgoing(IKE, netip.AddrPort{}, to, false, make([]byte, 40)), outgoing(IKE, netip.AddrPort{}, to, false, make([]byte, 50))}
	a.Refuse(func(p Packet) error {
		if p.Len == 40 {
			return ErrPrivilege
		}
		return nil
	})
	if n, err := a.Send(batch); n != 1 || err != ErrPrivilege {
		t.Error(n, err)
	}
	a.Refuse(nil)
	if n, err := a.Send(batch); n != 2 || err != nil {
		t.Error(n, err)
	}
	in := packets(3, 100)
	if n, err := b.Recv(in); n != 3 || err != nil || in[0].Len != 50 || in[1].Len != 40 {
		t.Error(n, err)
	}
}

// Recv takes no more than fits, leaves the rest for the next call, and drops what is too long for its buffer.
func TestMemoryRecvFits(t *testing.T) {
	_, b := twins()
	to := netip.MustParseAddrPort
	for _, n := range []int{28, 101, 100, 30} {
		if !b.Deliver(to("192.0.2.1:500"), to("192.0.2.2:500"), make([]byte, n)) {
			t.Fatal("dropped")
		}
	}
	if n, err := b.Recv(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
	in := packets(2, 100)
	if n, err := b.Recv(in); n != 2 || err != nil || in[0].Len != 28 || in[1].Len != 100 {
		t.Error(n, err, in[0].Len, in[1].Len)
	}
	if n, err := b.Recv(in); n != 1 || err != nil || in[0].Len != 30 {
		t.Error(n, err, in[0].Len)
	}
	if ike, natt := b.Ports(); ike != 500 || natt != 4500 {
		t.Error(ike, natt)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Deliver(to("192.0.2.1:500"), to("192.0.2.2:500"), make([]byte, 40)) {
		t.Error("delivered after Close")
	}
}
