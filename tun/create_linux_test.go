package tun

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// The kernel hands packets to the device with checksums half done and several
// segments in one: what Read returns is whole packets that are right.
func TestDeviceCompletesChecksums(t *testing.T) {
	isolate(t)
	dev, err := Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if mtu, err := dev.MTU(); mtu != 1400 || err != nil || dev.Name() != "culvert0" {
		t.Error(dev.Name(), mtu, err)
	}
	if f := dev.(Filer).File(); f == nil {
		t.Error("no file")
	}
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	c, err := net.Dial("udp", "10.3.0.2:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1001) })
	if err != nil {
		t.Skip("kernel without UDP_SEGMENT:", err)
	}
	if _, err := c.Write(make([]byte, 10*1001+77)); err != nil {
		t.Fatal(err)
	}
	n := dev.BatchSize()
	bufs, sizes := make([][]byte, n), make([]int, n)
	for i := range bufs {
		bufs[i] = make([]byte, Offset+2000)
	}
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
	case <-time.After(5 * time.Second):
		t.Fatal("Read still waits")
	}
}

// A packet that the kernel refuses does not keep the others of a batch back.
func TestDeviceWriteCounts(t *testing.T) {
	isolate(t)
	dev, err := Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
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
