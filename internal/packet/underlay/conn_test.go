package underlay

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	loop  = netip.MustParseAddr("127.0.0.1")
	loop2 = netip.MustParseAddr("127.0.0.2")
	loop6 = netip.IPv6Loopback()
)

func listen(t testing.TB, addrs ...netip.Addr) Conn {
	t.Helper()
	c, err := Listen(Options{Listen: addrs})
	if err != nil {
		t.Fatal(err)
	}
	limited(t, c)
	return c
}

// limit is for how long a test waits for what has to come, on a busy machine too.
const limit = time.Minute

// limited closes a connection after limit, so that Recv fails where too few datagrams arrive, and at the end of the test.
func limited(t testing.TB, c Conn) {
	late := time.AfterFunc(limit, func() { c.Close() })
	t.Cleanup(func() {
		late.Stop()
		c.Close()
	})
}

func at(a netip.Addr, c Conn, natt bool) netip.AddrPort {
	ike, port := c.Ports()
	if !natt {
		port = ike
	}
	return netip.AddrPortFrom(a, port)
}

// receive collects n packets, copied.
func receive(t testing.TB, c Conn, n int) []Packet {
	t.Helper()
	var out []Packet
	in := packets(32, 2000)
	for len(out) < n {
		got, err := c.Recv(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range in[:got] {
			p.Buf = bytes.Clone(p.Buf)
			out = append(out, p)
		}
	}
	return out
}

func TestSocketsCarry(t *testing.T) {
	a, b := listen(t, loop), listen(t, loop)
	message := bytes.Repeat([]byte{5}, 40)
	for _, p := range []Packet{
		outgoing(IKE, netip.AddrPort{}, at(loop, b, false), false, message),
		outgoing(IKE, netip.AddrPort{}, at(loop, b, true), true, message),
		outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, message[:20]),
		outgoing(IKE, at(loop, a, true), at(loop, b, true), false, message), // the port decides
		outgoing(Keepalive, netip.AddrPort{}, at(loop, b, true), true, []byte{0xFF}),
	} {
		if n, err := a.Send([]Packet{p}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		natt := p.NATT || p.Local.Port() != 0
		got := receive(t, b, 1)[0]
		if got.Kind != p.Kind || got.NATT != natt || got.Local != at(loop, b, natt) || got.Remote != at(loop, a, natt) || !bytes.Equal(got.Data(), p.Data()) || got.Off < Headroom {
			t.Errorf("sent %v %v, got %v %v %v %v %x", p.Kind, p.NATT, got.Kind, got.NATT, got.Local, got.Remote, got.Data())
		}
	}
}

// What a stranger sees on the wire: the marker in front of IKE on the NAT-T
// port, and nowhere else.
func TestSocketsMarker(t *testing.T) {
	a := listen(t, loop)
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	message := bytes.Repeat([]byte{5}, 40)
	buf := make([]byte, 2000)
	for _, tt := range []struct {
		kind Kind
		natt bool
		want []byte
	}{{IKE, false, message}, {IKE, true, append(make([]byte, 4), message...)}, {ESP, true, message}} {
		if n, err := a.Send([]Packet{outgoing(tt.kind, netip.AddrPort{}, to, tt.natt, message)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		n, from, err := peer.ReadFromUDPAddrPort(buf)
		if err != nil || from != at(loop, a, tt.natt) || !bytes.Equal(buf[:n], tt.want) {
			t.Errorf("%v %v: %x from %v, %v", tt.kind, tt.natt, buf[:n], from, err)
		}
	}
	// Noise is told as such, and what follows it arrives.
	for _, noise := range [][]byte{{}, {1}, {0, 0, 0, 0}, {1, 2, 3}} {
		peer.WriteToUDPAddrPort(noise, at(loop, a, true))
		if got := receive(t, a, 1)[0]; got.Kind != Runt || !bytes.Equal(got.Data(), noise) {
			t.Error(got.Kind, got.Data())
		}
	}
	peer.WriteToUDPAddrPort(message, at(loop, a, true))
	if got := receive(t, a, 1)[0]; got.Kind != ESP || !bytes.Equal(got.Data(), message) {
		t.Error(got.Kind, got.Data())
	}
}

// sizes of a batch: runs of one size, a shorter end, other sizes in between.
func batchSizes() []int {
	var out []int
	for i := range 300 {
		out = append(out, []int{1400, 1400, 1400, 1400, 700, 60, 60, 1400}[i%8])
	}
	for range 150 {
		out = append(out, 1300) // longer than one call and than one message
	}
	return out
}

func TestSocketsBatch(t *testing.T) {
	for _, addr := range []netip.Addr{loop, loop6} {
		a, err := Listen(Options{Listen: []netip.Addr{addr}})
		if errors.Is(err, ErrNoAddress) {
			t.Log("no", addr)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		b := listen(t, addr)
		var batch []Packet
		for i, n := range batchSizes() {
			kind, data := ESP, bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, n)[:n]
			if i%50 == 49 {
				kind = IKE
			}
			batch = append(batch, outgoing(kind, netip.AddrPort{}, at(addr, b, true), true, data))
		}
		n, err := a.Send(batch)
		if n != len(batch) || err != nil {
			t.Fatal(n, err)
		}
		for i, got := range receive(t, b, len(batch)) {
			if got.Kind != batch[i].Kind || !bytes.Equal(got.Data(), batch[i].Data()) || got.Remote != at(addr, a, true) || got.Local != at(addr, b, true) {
				t.Fatalf("%v: packet %d: kind %v of %d bytes, want %v of %d", addr, i, got.Kind, got.Len, batch[i].Kind, batch[i].Len)
			}
		}
	}
}

// A packet that cannot leave does not keep the others back.
func TestSocketsSkip(t *testing.T) {
	a, b := listen(t, loop), listen(t, loop)
	data := make([]byte, 40)
	bad := []Packet{
		outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(loop6, 4500), true, data),
		outgoing(ESP, netip.AddrPort{}, at(loop, b, false), false, data),
		outgoing(ESP, netip.AddrPort{}, netip.AddrPort{}, true, data),
		outgoing(ESP, netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.1:0"), true, data),
	}
	data[0] = 1
	for i, p := range bad {
		good := outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, data)
		n, err := a.Send([]Packet{good, p, good, p})
		if n != 2 || err == nil {
			t.Errorf("%d: %d left, %v", i, n, err)
		}
		receive(t, b, 2)
	}
	// Nobody listens: the refusal that comes back ends nothing.
	gone := listen(t, loop)
	to := at(loop, gone, true)
	gone.Close()
	for range 5 {
		if n, err := a.Send([]Packet{outgoing(ESP, netip.AddrPort{}, to, true, data)}); n != 1 || err != nil {
			t.Error(n, err)
		}
	}
	if n, err := b.Send([]Packet{outgoing(ESP, netip.AddrPort{}, at(loop, a, true), true, data)}); n != 1 || err != nil {
		t.Error(n, err)
	}
	receive(t, a, 1)
}

func TestSocketsCloseWakesRecv(t *testing.T) {
	c, err := Listen(Options{Listen: []netip.Addr{loop}})
	if err != nil {
		t.Fatal(err)
	}
	closeWakes(t, c)
}

func TestListenErrors(t *testing.T) {
	a := listen(t, loop)
	_, natt := a.Ports()
	if _, err := Listen(Options{NATTPort: natt, Listen: []netip.Addr{loop}}); !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), "natt-port") {
		t.Error("port in use:", err)
	}
	if _, err := Listen(Options{Listen: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}); !errors.Is(err, ErrNoAddress) || !strings.Contains(err.Error(), "192.0.2.77") {
		t.Error("no such address:", err)
	}
	for want, o := range map[string]Options{"port and natt-port are both 4500": {IKEPort: 4500, NATTPort: 4500}, "an address in listen is not valid": {Listen: []netip.Addr{loop, {}}}} {
		if _, err := Listen(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	if err := explainBind(ErrPrivilege, netip.MustParseAddrPort("0.0.0.0:500"), false, errors.New("x")); !strings.Contains(err.Error(), "cap_net_bind_service") || !strings.Contains(err.Error(), "set port") {
		t.Error(err)
	}
}
