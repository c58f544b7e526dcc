package underlay

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// On all addresses: the address that was asked answers, and another source can
// be chosen.
func TestLocalAddress(t *testing.T) {
	a, b := listen(t), listen(t)
	data := make([]byte, 40)
	data[0] = 1
	tests := [][2]netip.Addr{{loop, loop2}, {loop2, loop}}
	if len(b.(*conn).by[1][1]) > 0 {
		tests = append(tests, [2]netip.Addr{loop6, loop6})
	}
	for _, tt := range tests {
		p := outgoing(ESP, netip.AddrPortFrom(tt[0], 0), at(tt[1], b, true), true, data)
		if n, err := a.Send([]Packet{p, p, p}); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		for _, got := range receive(t, b, 3) {
			if got.Remote != at(tt[0], a, true) || got.Local != at(tt[1], b, true) {
				t.Errorf("%v: from %v to %v", tt, got.Remote, got.Local)
			}
		}
	}
}

func TestSocketOptions(t *testing.T) {
	mark := uint32(0)
	if os.Getuid() == 0 {
		mark = 0xC0150
	}
	c, err := Listen(Options{Listen: []netip.Addr{loop}, Mark: mark})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, s := range c.(*conn).sockets {
		for _, o := range []struct{ level, name, want int }{
			{unix.SOL_SOCKET, unix.SO_MARK, int(mark)}, {unix.SOL_SOCKET, unix.SO_REUSEADDR, 0}, {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT}, {unix.IPPROTO_IP, unix.IP_RECVERR, 1},
		} {
			if v, err := unix.GetsockoptInt(s.fd, o.level, o.name); v != o.want || err != nil {
				t.Errorf("option %d/%d is %d, %v", o.level, o.name, v, err)
			}
		}
		if v, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil || os.Getuid() == 0 && v < defaultBuffer {
			t.Error("receive buffer", v, err)
		}
	}
}

// A datagram longer than its buffer is left out; one of the largest size
// arrives, in fragments if need be.
func TestLargeDatagrams(t *testing.T) {
	a, b := listen(t, loop), listen(t, loop)
	long, short := make([]byte, MaxDatagram), make([]byte, 40)
	long[0], short[0] = 1, 2
	send := func(data []byte) {
		t.Helper()
		if n, err := a.Send([]Packet{outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, data)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	send(long)
	send(short)
	if got := receive(t, b, 1); got[0].Len != 40 {
		t.Error(got[0].Len)
	}
	send(long)
	in := packets(1, MaxDatagram)
	if n, err := b.Recv(in); n != 1 || err != nil || in[0].Len != MaxDatagram {
		t.Error(n, err, in[0].Len)
	}
}

// Recv waits where nothing is ready, and Close wakes it then; what is closed can be opened again.
func TestRecvWaits(t *testing.T) {
	c := listen(t, loop).(*conn)
	done := make(chan error)
	go func() {
		_, err := c.Recv(packets(1, 2000))
		done <- err
	}()
	for c.rmu.TryLock() { // until Recv has begun
		c.rmu.Unlock()
		runtime.Gosched()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	again, err := Listen(Options{IKEPort: c.ike, NATTPort: c.natt, Listen: []netip.Addr{loop}})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// Between calls nothing points into the caller's buffers.
func TestBuffersAreNotKept(t *testing.T) {
	a, b := listen(t, loop).(*conn), listen(t, loop).(*conn)
	out := outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, espPacket(100, 1))
	if n, err := a.Send([]Packet{out, out, out}); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	receive(t, b, 3)
	b.rx.troubles(b.sockets[0], packets(2, 100))
	for _, batch := range []*batch{a.tx, b.rx} {
		for i := range batch.iovs {
			if batch.iovs[i].Base != nil || batch.packets[i] != nil {
				t.Errorf("the %d-th is kept", i)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	a, b := listen(t, loop), listen(t, loop)
	data := make([]byte, 1400)
	data[0] = 1
	var out []Packet
	for range 8 {
		out = append(out, outgoing(ESP, at(loop, a, true), at(loop, b, true), true, data))
	}
	in := packets(8, 2000)
	allocs := testing.AllocsPerRun(200, func() {
		if n, err := a.Send(out); n != 8 || err != nil {
			t.Fatal(n, err)
		}
		for n := 0; n < 8; {
			got, err := b.Recv(in)
			if err != nil {
				t.Fatal(err)
			}
			n += got
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a batch sent and received", allocs)
	}
}

// Datagrams of one size to one peer leave as one message that the kernel cuts.
func TestSegmentation(t *testing.T) {
	a, b := listen(t, loop), listen(t, loop)
	c := a.(*conn)
	if !c.by[1][0][0].gso {
		t.Skip("this kernel has no UDP_SEGMENT, take Linux 4.18 or later")
	}
	data := bytes.Repeat([]byte{1}, 100)
	var out []Packet
	for _, n := range []int{100, 100, 100, 40, 100, 100, 0} { // a shorter one ends a message
		out = append(out, outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, data[:n]))
	}
	out[6] = outgoing(IKE, netip.AddrPort{}, at(loop, b, true), true, data[:96])
	if n, err := a.Send(out); n != len(out) || err != nil {
		t.Fatal(n, err)
	}
	if c.tx.m != 3 {
		t.Errorf("%d messages", c.tx.m)
	}
	for i, got := range receive(t, b, len(out)) {
		if got.Len != out[i].Len {
			t.Errorf("packet %d has %d bytes", i, got.Len)
		}
	}
	if _, err := a.Recv([]Packet{{Buf: make([]byte, Headroom)}}); err == nil {
		t.Error("received into no room")
	}
}

func BenchmarkBatch(b *testing.B) {
	x, y := listen(b, loop), listen(b, loop)
	data := make([]byte, 1400)
	data[0] = 1
	var out []Packet
	for range 32 {
		out = append(out, outgoing(ESP, netip.AddrPort{}, at(loop, y, true), true, data))
	}
	in := packets(32, 2000)
	b.SetBytes(32 * 1400)
	for b.Loop() {
		x.Send(out)
		for n := 0; n < 32; {
			got, err := y.Recv(in)
			if err != nil {
				b.Fatal(err)
			}
			n += got
		}
	}
}

// Datagrams of one flow come joined, and are the same once they are cut; what is of another size,
// kind or flow comes apart.
func TestJoinedDatagrams(t *testing.T) {
	a := listen(t, loop)
	b, err := Listen(Options{Listen: []netip.Addr{loop}, Join: true})
	if err != nil {
		t.Fatal(err)
	}
	limited(t, b)
	var out []Packet
	var want [][]byte
	for i, n := range []int{1000, 1000, 1000, 700, 900, 900, 28, 8} {
		data := bytes.Repeat([]byte{byte(i + 1)}, n)
		kind := ESP
		if n == 28 {
			kind = IKE
		}
		out = append(out, outgoing(kind, netip.AddrPort{}, at(loop, b, true), true, data))
		want = append(want, data)
	}
	if n, err := a.Send(out); n != len(out) || err != nil {
		t.Fatal(n, err)
	}
	joined := 0
	var got [][]byte
	for len(got) < len(want) {
		in := packets(16, MaxDatagram)
		n, err := b.Recv(in)
		if err != nil {
			t.Fatal(err)
		}
		for i := range in[:n] {
			one := in[i]
			if one.Segment > 0 {
				joined++
				in[i].Cut(&one)
			}
			for more := true; more; more = in[i].Segment > 0 && in[i].Cut(&one) {
				if (one.Kind == IKE) != (one.Len == 28) || !one.NATT || one.Remote != at(loop, a, true) {
					t.Errorf("%+v", one)
				}
				if len(one.Buf) < one.Off+one.Len || in[i].Segment > 0 && cap(one.Data()) != one.Len {
					t.Errorf("a datagram of %d bytes may be written behind: %d", one.Len, cap(one.Data()))
				}
				got = append(got, bytes.Clone(one.Data()))
			}
		}
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("datagram %d is % x, want % x", i, got[i], want[i])
		}
	}
	if joined == 0 {
		t.Error("nothing was joined, so that this test shows less than it should")
	}
}
