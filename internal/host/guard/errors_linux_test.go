package guard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

// icmp is an ICMP message of a type that quotes a UDP packet.
func icmp(kind byte, src, dst string, sport, dport uint16) []byte {
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	b := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	if from.Is4() {
		b = append(b, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0)
	} else {
		b = append(b, 0x60, 0, 0, 0, 0, 8, 17, 64)
	}
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, sport), dport)
	b = append(b, 0, 8, 0, 0)
	var sum uint32 // the kernel writes that of ICMPv6 itself
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum&0xffff+sum>>16))
	return b
}

// tell sends an ICMP message to the other side and reports whether it arrives there.
func (w *wire) tell(from, to string, message []byte, wait time.Duration) bool {
	network := "ip4:icmp"
	if netip.MustParseAddr(to).Is6() {
		network = "ip6:ipv6-icmp"
	}
	raw := func(at string) *net.IPConn {
		c, err := net.ListenIP(network, &net.IPAddr{IP: net.ParseIP(at)})
		if err != nil {
			panic(err)
		}
		return c
	}
	var l *net.IPConn
	w.there(func() { l = raw(to) })
	defer l.Close()
	c := raw(from)
	defer c.Close()
	_, _ = c.WriteTo(message, &net.IPAddr{IP: net.ParseIP(to)})
	_ = l.SetReadDeadline(time.Now().Add(wait))
	for b := make([]byte, 200); ; {
		n, _, err := l.ReadFrom(b)
		if err != nil {
			return false
		}
		if n == len(message) && b[0] == message[0] { // not one of a neighbour
			return true
		}
	}
}

// No ICMP error that quotes a packet of a protected flow leaves in clear, whatever its
// own addresses are, and all others do.
func TestErrorsThatQuoteProtectedPackets(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	defer g.Close()
	v4, v6 := flow("10.1.0.0/24", "10.2.0.0/24"), flow("fd01::/64", "fd02::/64")
	one := v4
	one.Proto, one.LocalPort, one.RemotePort = 17, 80, 7000
	here, there, here6, there6 := "10.9.0.1", "10.2.0.1", "fd09::1", "fd02::1"
	for _, c := range []struct {
		name     string
		flows    []Flow
		from, to string
		message  []byte
		want     bool
	}{
		{"unreachable", []Flow{v4, v6}, here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"source quench", []Flow{v4, v6}, here, there, icmp(4, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"redirect", []Flow{v4, v6}, here, there, icmp(5, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"time exceeded", []Flow{v4, v6}, here, there, icmp(11, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"parameter problem", []Flow{v4, v6}, here, there, icmp(12, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"no error", []Flow{v4, v6}, here, there, icmp(8, "10.2.0.1", "10.1.0.7", 7000, 80), true},
		{"to somebody else", []Flow{v4, v6}, here, "10.9.0.2", icmp(3, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"another source", []Flow{v4, v6}, here, there, icmp(3, "10.3.0.1", "10.1.0.7", 7000, 80), true},
		{"another destination", []Flow{v4, v6}, here, there, icmp(3, "10.2.0.1", "10.4.0.7", 7000, 80), true},
		{"about what we sent", []Flow{v4, v6}, here, there, icmp(3, "10.1.0.7", "10.2.0.1", 80, 7000), true},
		{"ports", []Flow{one}, here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7000, 80), false},
		{"another remote port", []Flow{one}, here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7001, 80), true},
		{"another local port", []Flow{one}, here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7000, 81), true},
		{"none above", []Flow{udpPass(v4, 80, 0), v4}, here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7000, 80), true},
		{"none above, another port", []Flow{udpPass(v4, 80, 0), v4}, here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7000, 81), false},
		{"everything, about the LAN itself", []Flow{flow("10.1.0.0/24", "0.0.0.0/0")}, here, there, icmp(3, "10.1.0.1", "10.1.0.7", 7000, 80), true},
		{"everything", []Flow{flow("10.1.0.0/24", "0.0.0.0/0")}, here, there, icmp(3, "192.0.2.1", "10.1.0.7", 7000, 80), false},
		{"unreachable, IPv6", []Flow{v4, v6}, here6, there6, icmp(1, "fd02::1", "fd01::7", 7000, 80), false},
		{"too big, IPv6", []Flow{v4, v6}, here6, there6, icmp(2, "fd02::1", "fd01::7", 7000, 80), false},
		{"time exceeded, IPv6", []Flow{v4, v6}, here6, there6, icmp(3, "fd02::1", "fd01::7", 7000, 80), false},
		{"parameter problem, IPv6", []Flow{v4, v6}, here6, there6, icmp(4, "fd02::1", "fd01::7", 7000, 80), false},
		{"no error, IPv6", []Flow{v4, v6}, here6, there6, icmp(128, "fd02::1", "fd01::7", 7000, 80), true},
		{"another destination, IPv6", []Flow{v4, v6}, here6, there6, icmp(1, "fd02::1", "fd04::7", 7000, 80), true},
	} {
		apply(t, g, plan(c.flows...))
		same(t, g, c.name)
		send := func(wait time.Duration) bool { return w.tell(c.from, c.to, c.message, wait) }
		if c.want {
			before := counts(t, g)
			if !send(soon) {
				t.Errorf("%s: did not arrive", c.name)
			}
			if after := counts(t, g); after != before {
				t.Errorf("%s: counted %+v, before %+v", c.name, after, before)
			}
		} else if n := w.blocks(g, c.name, func() bool { return send(not) }); n != (Counts{Out: 1}) {
			t.Errorf("%s: counted %+v", c.name, n)
		}
	}
	without := plan(v4)
	without.Errors = 0
	apply(t, g, without)
	same(t, g, "errors are not looked at")
	if !w.tell(here, there, icmp(3, "10.2.0.1", "10.1.0.7", 7000, 80), soon) {
		t.Error("errors are looked at without a mark for them")
	}
}
