package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// onesSum is the Internet checksum's sum (RFC 1071), not complemented.
func onesSum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return uint16(sum)
}

// created is a device in a namespace of its own, for as long as the test runs.
func created(t *testing.T) Device {
	t.Helper()
	isolate(t)
	dev, err := Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// segments sends n bytes of UDP, which the kernel hands to the device as one packet
// that is to be split into datagrams of size bytes; 0: as one datagram.
func segments(t *testing.T, to string) (send func(n, size int)) {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return func(n, size int) {
		t.Helper()
		var refused error
		if err := raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) }); err != nil {
			t.Fatal(err)
		}
		if refused != nil {
			t.Skip("this kernel has no UDP_SEGMENT, take Linux 4.18 or later:", refused)
		}
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// The kernel hands packets to the device with checksums half done and several
// segments in one: what Read returns is whole packets that are right.
func TestDeviceCompletesChecksums(t *testing.T) {
	dev := created(t)
	if mtu, err := dev.MTU(); mtu != 1400 || err != nil || dev.Name() != "culvert0" {
		t.Error(dev.Name(), mtu, err)
	}
	if f := dev.(Filer).File(); f == nil {
		t.Error("no file")
	}
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	send := segments(t, "10.3.0.2:9")
	send(10*1001+77, 1001)
	bufs, sizes := buffers(dev.BatchSize())
	for seen := 0; seen < 11; {
		n, err := dev.Read(bufs, sizes, Offset)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			pkt := bufs[i][Offset:][:sizes[i]]
			if pkt[0] != 0x45 || pkt[9] != 17 {
				continue // the kernel's own
			}
			seen++
			pseudo := append(append([]byte(nil), pkt[12:20]...), 0, 17, byte((len(pkt)-20)>>8), byte(len(pkt)-20))
			if int(binary.BigEndian.Uint16(pkt[2:])) != len(pkt) || onesSum(pkt[:20]) != 0xFFFF || onesSum(pseudo, pkt[20:]) != 0xFFFF {
				t.Fatalf("packet %d of %d bytes is wrong: %x", seen, len(pkt), pkt[:28])
			}
		}
	}
}

// Several segments of TCP behind an extension header are split as well.
func TestDeviceSplitsBehindExtensionHeaders(t *testing.T) {
	dev := created(t)
	run(t, "ip -6 addr add fd03::1/64 dev culvert0 nodad")
	peer := netip.MustParseAddrPort("[fd03::2]:9")
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	options := string([]byte{0, 0, 1, 4, 0, 0, 0, 0}) // hop-by-hop, nothing but padding
	if err := unix.SetsockoptString(socket, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, options); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(socket, &unix.SockaddrInet6{Addr: peer.Addr().As16(), Port: int(peer.Port())}); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	const amount = 20000
	left := make([]byte, amount)
	bufs, sizes := buffers(dev.BatchSize())
	for got := 0; got < amount; {
		n, err := dev.Read(bufs, sizes, Offset)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			var f wire.Flow
			pkt := bufs[i][Offset:][:sizes[i]]
			info, ok := wire.ParseFlow(pkt, &f)
			if !ok || info.Proto != wire.ProtoTCP {
				continue // the kernel's own
			}
			if info.Total != len(pkt) || !wire.VerifyChecksum(pkt, info) || pkt[6] != wire.ProtoHopByHop {
				t.Fatalf("of %d bytes %d are the packet: %x", len(pkt), info.Total, pkt[:60])
			}
			tcp := pkt[info.Payload:]
			data := len(tcp) - int(tcp[12]>>4)*4
			got += data
			h := wire.TCP{Seq: 1001, Ack: binary.BigEndian.Uint32(tcp[4:]) + uint32(data), Flags: 0x10, Window: 65535}
			if tcp[13]&2 != 0 { // its SYN
				h.Seq, h.Ack, h.Flags = 1000, h.Ack+1, 0x12
			}
			answer := wire.AppendTCPPacket(make([]byte, Offset), h, peer, netip.AddrPortFrom(f.Src, f.SrcPort), nil)
			if _, err := dev.Write([][]byte{answer}, Offset); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := unix.Write(socket, left); n > 0 {
			left = left[n:]
		} else if len(left) > 0 && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOTCONN) {
			t.Fatal(err)
		}
	}
}

func TestDeviceCloseWakesRead(t *testing.T) {
	isolate(t)
	dev, err := Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		bufs, sizes := [][]byte{make([]byte, 2000)}, []int{0}
		for {
			if _, err := dev.Read(bufs, sizes, Offset); err != nil {
				done <- err
				return
			}
		}
	}()
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Fatal("Read still waits")
	}
}

// A packet that the kernel refuses does not keep the others of a batch back.
func TestDeviceWriteCounts(t *testing.T) {
	dev := created(t)
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	good := make([]byte, Offset+20)
	copy(good[Offset:], []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 3, 0, 2, 10, 3, 0, 1})
	bad := append([]byte(nil), good...)
	bad[Offset] = 0xF5 // no IP version
	if n, err := dev.Write([][]byte{good, bad, good}, Offset); n != 2 || err == nil {
		t.Error(n, err)
	}
	if n, err := dev.Write(nil, Offset); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// A device that is down refuses all packets, also those that are written as one;
// up again, it takes them.
func TestDeviceDown(t *testing.T) {
	dev := created(t)
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	train := func() (list [][]byte) {
		for i := range 6 {
			pkt := wire.AppendTCPPacket(nil, wire.TCP{Seq: uint32(1 + 100*i), Flags: 0x10}, netip.MustParseAddrPort("10.3.0.2:80"), netip.MustParseAddrPort("10.3.0.1:81"), make([]byte, 100))
			pkt[6] |= 0x40
			wire.FillIPv4Checksum(pkt)
			list = append(list, append(append(make([]byte, 0, 65536), make([]byte, Offset)...), pkt...))
		}
		return list
	}
	written := func() string {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(b), "culvert0:")
		return strings.Fields(line)[1]
	}
	list := train()
	if n, err := dev.Write(list, Offset); n != 6 || err != nil {
		t.Fatal(n, err)
	}
	if written() == "6" {
		t.Error("nothing was joined, so that this test shows less than it should")
	}
	run(t, "ip link set culvert0 down")
	if n, err := dev.Write(train(), Offset); n != 0 || !errors.Is(err, unix.EIO) {
		t.Errorf("down: %d, %v", n, err)
	}
	run(t, "ip link set culvert0 up")
	odd := append(make([]byte, Offset), bytes.Repeat([]byte{0xF5}, 40)...)
	if n, err := dev.Write(append(train(), odd), Offset); n != 6 || !errors.Is(err, unix.EINVAL) {
		t.Errorf("up: %d, %v", n, err)
	}
}

// What stands for more packets than there are buffers comes in several reads, and nothing of
// it is lost.
func TestDeviceReadsOn(t *testing.T) {
	dev := created(t)
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	send := segments(t, "10.3.0.2:9")
	bufs, sizes := buffers(2)
	send(50, 10)
	send(50, 0)
	var seen []int
	for len(seen) < 6 {
		n, err := dev.Read(bufs, sizes, Offset)
		if n < 1 || err != nil {
			t.Fatalf("after %v: %d, %v", seen, n, err)
		}
		for i := range n {
			if bufs[i][Offset+9] == 17 { // else the kernel's own
				seen = append(seen, sizes[i]-28)
			}
		}
	}
	if want := []int{10, 10, 10, 10, 10, 50}; !slices.Equal(seen, want) {
		t.Errorf("datagrams of %v bytes, want %v", seen, want)
	}
}

// One read takes all packets that are there.
func TestDeviceReadsAll(t *testing.T) {
	dev := created(t)
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	send := segments(t, "10.3.0.2:9")
	for range 20 {
		send(50, 0)
	}
	bufs, sizes := buffers(128)
	n, err := dev.Read(bufs, sizes, Offset)
	if n < 20 || err != nil {
		t.Errorf("%d packets, %v", n, err)
	}
}
