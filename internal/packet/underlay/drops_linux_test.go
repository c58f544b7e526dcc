package underlay

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What a socket has no room for is counted: of all that is sent, what does not arrive.
func TestDrops(t *testing.T) {
	isolate(t, "ip link set lo up")
	for name, raw := range map[string]bool{"UDP": false, "raw": true} {
		o := Options{Listen: []netip.Addr{loop}, Raw: raw}
		from, err := Listen(o)
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		o.Listen, o.Buffer = []netip.Addr{loop2}, 20_000
		to, err := Listen(o)
		if err != nil {
			t.Fatal(err)
		}
		limited(t, to)
		if n := to.(Dropper).Drops(); n != 0 {
			t.Errorf("%s: %d at the start", name, n)
		}
		const sent = 500
		var batch []Packet
		local := netip.AddrPort{}
		if raw {
			local = netip.AddrPortFrom(loop, 4500)
		}
		for range sent {
			batch = append(batch, outgoing(ESP, local, at(loop2, to, true), !raw, espPacket(1400, 7)))
		}
		if n, err := from.Send(batch); n != sent || err != nil {
			t.Fatal(n, err)
		}
		dropped := to.(Dropper).Drops()
		if dropped == 0 || dropped >= sent {
			t.Fatalf("%s: %d of %d dropped", name, dropped, sent)
		}
		for _, p := range receive(t, to, sent-int(dropped)) {
			if !bytes.Equal(p.Data(), espPacket(1400, 7)) {
				t.Fatal("another packet")
			}
		}
		if n := to.(Dropper).Drops(); n != dropped {
			t.Errorf("%s: %d, then %d", name, dropped, n)
		}
		if err := to.Close(); err != nil {
			t.Error(err)
		}
		if n := to.(Dropper).Drops(); n != dropped {
			t.Errorf("%s: %d once closed", name, n)
		}
	}
}

// The system's number has 32 bits.
func TestDropsWrap(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c := &conn{queue: &queue{sockets: []*socket{{fd: fd, dropped: 1<<32 - 5}}}, drops: 1<<32 - 5}
	if n := c.Drops(); n != 1<<32 {
		t.Errorf("%d", n)
	}
}
