package underlay

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// sniff opens a packet socket on lo; its function counts the types of service of
// IP packets to an address on the wire, segments of one message each by itself.
func sniff(t *testing.T) func(to netip.Addr, n int) map[uint8]int {
	t.Helper()
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20); err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	wait := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	return func(to netip.Addr, n int) map[uint8]int {
		t.Helper()
		seen, buf := map[uint8]int{}, make([]byte, 70000)
		for n > 0 {
			size, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				t.Fatal(err, seen)
			}
			var f wire.Flow
			info, ok := wire.ParseFlow(buf[:size], &f)
			ll, isLink := from.(*unix.SockaddrLinklayer)
			if !ok || f.Dst != to || !isLink || ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			// lo is not made to cut a message: it stands for as many datagrams as it has.
			count := max(1, (info.PayloadLen()-wire.UDPHeaderLen+tosPayload-1)/tosPayload)
			seen[wire.TOS(buf)] += count
			n -= count
		}
		return seen
	}
}

const tosPayload = 400

// Each packet leaves with its own type of service, in UDP and without, in both
// families, and the other side is told; those of one kind still leave together.
func TestTOSOnTheWire(t *testing.T) {
	isolateBoth(t)
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"fd00::1", "fd00::2"}} {
		from, to := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		a, b := listenRaw(t, from), listenRaw(t, to)
		for _, natt := range []bool{true, false} {
			var batch []Packet
			want := map[uint8]int{}
			for i := range 96 {
				tos := uint8(i / 8 * 23) // 0, and runs of eight with each ECN field
				p := outgoing(ESP, netip.AddrPort{}, at(to, b, natt), natt, espPacket(tosPayload, i))
				p.TOS = tos
				batch = append(batch, p)
				want[tos]++
			}
			onWire := sniff(t)
			if n, err := a.Send(batch); n != len(batch) || err != nil {
				t.Fatal(n, err)
			}
			if m := a.(*conn).tx.m; natt && m != len(want) && a.(*conn).tx.socket.gso {
				t.Errorf("%d messages for %d types of service", m, len(want))
			}
			if seen := onWire(to, len(batch)); !maps.Equal(seen, want) {
				t.Errorf("%v natt %v: on the wire %v, want %v", ends, natt, seen, want)
			}
			for _, got := range receive(t, b, len(batch)) {
				i := int(got.Data()[8])
				if got.TOS != batch[i].TOS || !bytes.Equal(got.Data(), batch[i].Data()) {
					t.Errorf("%v natt %v: packet %d has %#x, want %#x", ends, natt, i, got.TOS, batch[i].TOS)
				}
			}
		}
	}
}

// With its own header a packet keeps what stands there, whatever TOS says.
func TestTOSOfItsOwnHeader(t *testing.T) {
	isolateBoth(t)
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"fd00::1", "fd00::2"}} {
		from, to := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		a, b := listenRaw(t, from), listenRaw(t, to)
		for _, kind := range []Kind{ESP, AH} {
			proto, body := uint8(wire.ProtoESP), espPacket(tosPayload, 7)
			if kind == AH {
				proto = wire.ProtoAH
				body[1] = 4 // its length in words, less two
			}
			pkt := wire.AppendIP(nil, from, to, proto, len(body))
			wire.SetTOS(pkt, 0xb9)
			p := outgoing(kind, netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0), false, append(pkt, body...))
			p.Header, p.TOS = true, 0x04
			onWire := sniff(t)
			if n, err := a.Send([]Packet{p}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			if seen := onWire(to, 1); seen[0xb9] != 1 {
				t.Errorf("%v kind %d: on the wire %v", ends, kind, seen)
			}
			got := receive(t, b, 1)[0]
			if got.TOS != 0xb9 || kind == AH && wire.TOS(got.Data()) != 0xb9 {
				t.Errorf("%v kind %d: TOS %#x, header %x", ends, kind, got.TOS, got.Data()[:4])
			}
		}
	}
}
