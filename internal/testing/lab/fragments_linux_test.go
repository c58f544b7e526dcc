package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A policy asks for a port, and the host sends datagrams that its kernel cuts
// before they reach the device: only the first piece shows the port, and all of
// them are protected and arrive.
func TestFragmentsMeetAPolicyWithPorts(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	a, b := l.Node("a"), l.Node("b")
	l.Wire(End{a, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{b, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	a.Inner(netip.MustParseAddr("10.1.0.1"))
	b.Inner(netip.MustParseAddr("10.2.0.1"))
	var gates [2]*Culvert
	for i, c := range []struct {
		node          *Node
		src, dst      string
		from, to, end string
	}{{a, "10.1.0.1", "10.2.0.1", "10.9.0.1", "10.9.0.2", "dst-port"}, {b, "10.2.0.1", "10.1.0.1", "10.9.0.2", "10.9.0.1", "src-port"}} {
		gates[i] = c.node.Culvert(ctx, "", fmt.Sprintf(`[[policy]]
src-address = "%s/32"
dst-address = "%s/32"
protocol = "udp"
%s = 4000
sa-src-address = %q
sa-dst-address = %q
tunnel = true
`, c.src, c.dst, c.end, c.from, c.to))
		if _, err := gates[i].Command(ctx, "sa", "add", "--policy", "1", "--udp", "--enc-algorithm", "aes-128-gcm",
			"--spi-in", fmt.Sprint(0x1001+i), "--enc-key-in", strings.Repeat(fmt.Sprintf("%02x", 1+i), 20),
			"--spi-out", fmt.Sprint(0x1002-i), "--enc-key-out", strings.Repeat(fmt.Sprintf("%02x", 2-i), 20)); err != nil {
			t.Fatal(err)
		}
	}
	var in, out *net.UDPConn
	for _, s := range []struct {
		node *Node
		open func() error
	}{
		{b, func() (err error) {
			in, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 2, 0, 1), Port: 4000})
			return err
		}},
		{a, func() (err error) {
			out, err = net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1)}, &net.UDPAddr{IP: net.IPv4(10, 2, 0, 1), Port: 4000})
			return err
		}},
	} {
		if err := s.node.Inside(s.open); err != nil {
			t.Fatal(err)
		}
	}
	defer in.Close()
	defer out.Close()
	const datagrams = 20
	buf := make([]byte, 10000)
	for i := range datagrams {
		sent := bytes.Repeat([]byte{byte(i), 2, 3, 4, 5}, 1000)
		if _, err := out.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := in.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		n, err := in.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], sent) {
			t.Fatalf("datagram %d: %d bytes, %v", i, n, err)
		}
	}
	for i, want := range []string{"tx-packets", "rx-packets"} {
		grows(t, ctx, gates[i], want, 0, datagrams)
	}
	if n := gates[0].Counter(ctx, "tx-fragments"); n < 3*datagrams {
		t.Errorf("tx-fragments is %d, want at least %d", n, 3*datagrams)
	}
}
