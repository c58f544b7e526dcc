package underlay

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// A packet of a host behind the gateway leaves with its own source, past a rule
// that leads everything without the mark to nowhere.
func TestClearKeepsThePacket(t *testing.T) {
	isolateBoth(t, "ip link set lo up", "ip rule add pref 10 fwmark 0x77 goto 30",
		"ip rule add pref 30 nop",
		"ip -6 rule add pref 10 fwmark 0x77 goto 30", "ip -6 rule add pref 30 nop")
	c, err := OpenClear(0x77)
	if err != nil {
		t.Fatal(err)
	}
	for _, ends := range [][2]string{{"127.0.0.7", "127.0.0.9"}, {"fd00::1", "fd00::2"}} {
		src, dst := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 4000)))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := c.Send(wire.AppendUDPPacket(nil, netip.AddrPortFrom(src, 1234), netip.AddrPortFrom(dst, 4000), []byte("in clear"))); err != nil {
			t.Fatal(err)
		}
		if err := l.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, from, err := l.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != "in clear" || from != netip.AddrPortFrom(src, 1234) {
			t.Fatalf("%q from %v: %v", buf[:n], from, err)
		}
	}
	if err := c.Send([]byte{0x45}); err == nil {
		t.Error("a stump was sent")
	}
	s := c.(*clearSockets)
	opened := []int{s.fd[0], s.fd[1], s.mtu}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range opened {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
			t.Errorf("socket %d of %v: %v", fd, opened, err)
		}
	}
	if err := c.Send(make([]byte, 100)); err == nil {
		t.Error("sent after Close")
	}
}

// What is too long for the way is cut where the packet allows it, and refused where it does not.
func TestClearCutsWhatMayBeCut(t *testing.T) {
	isolateBoth(t, "ip link set lo mtu 1300 up")
	c, err := OpenClear(0x77)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, dst := netip.MustParseAddrPort("127.0.0.7:1234"), netip.MustParseAddrPort("127.0.0.9:4000")
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(dst))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	body := bytes.Repeat([]byte("some text"), 1000)
	for _, id := range []uint16{5, 0} {
		h := wire.IPv4{TTL: 64, ID: id, Proto: wire.ProtoUDP, Src: src.Addr(), Dst: dst.Addr()}
		pkt := wire.AppendUDP(h.Append(nil, wire.UDPHeaderLen+len(body)), src, dst, body)
		if err := c.Send(pkt); err != nil {
			t.Fatal(err)
		}
		if err := l.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10000)
		n, from, err := l.ReadFromUDPAddrPort(buf)
		if err != nil || !bytes.Equal(buf[:n], body) || from != src {
			t.Fatalf("%d bytes from %v: %v", n, from, err)
		}
	}
	if err := c.Send(wire.AppendUDPPacket(nil, src, dst, body)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("one that must not be cut: %v", err)
	}
}

// A signal that comes while a packet waits for room does not cost the packet.
func TestClearIsInterrupted(t *testing.T) {
	var errs []error
	c := &clearSockets{fd: [2]int{1, 2}, mtu: -1, call: func(int, []byte, int, unix.Sockaddr) (err error) {
		err, errs = errs[0], errs[1:]
		return err
	}}
	pkt := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("10.1.0.1:1"), netip.MustParseAddrPort("10.2.0.1:2"), []byte("in clear"))
	for _, last := range []error{nil, unix.EAGAIN} {
		errs = []error{unix.EINTR, unix.EINTR, last}
		if err := c.Send(pkt); !errors.Is(err, last) || len(errs) != 0 {
			t.Errorf("%v, with %v left", err, errs)
		}
	}
}
