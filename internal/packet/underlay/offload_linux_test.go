package underlay

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// What is said of each socket, by what the system has.
func TestOffloads(t *testing.T) {
	any4, six := netip.IPv4Unspecified(), netip.MustParseAddr("2001:db8::1")
	lost := &socket{local: six, port: 4500, natt: true, cuts: true, joins: true}
	lost.refused.Store(true)
	c := &conn{queue: &queue{sockets: []*socket{{local: any4, port: 500}, {local: any4, port: 4500, natt: true, cuts: true, joins: true}, {local: any4, port: 4501, natt: true}, lost}}}
	c.raw[0][0] = []*socket{{local: any4, proto: unix.IPPROTO_ESP}}
	c.raw[1][1] = []*socket{{local: six, proto: unix.IPPROTO_AH}}
	want := []struct {
		o      wire.Offload
		detail string
	}{
		{wire.Offload{Place: "0.0.0.0:4500", Name: "send-udp-joined", InUse: true}, "(UDP_SEGMENT)"},
		{wire.Offload{Place: "0.0.0.0:4500", Name: "receive-udp-joined", InUse: true}, "(UDP_GRO)"},
		{wire.Offload{Place: "0.0.0.0:4501", Name: "send-udp-joined"}, "no UDP_SEGMENT"},
		{wire.Offload{Place: "0.0.0.0:4501", Name: "receive-udp-joined"}, "no UDP_GRO"},
		{wire.Offload{Place: "[2001:db8::1]:4500", Name: "send-udp-joined"}, "(EIO)"},
		{wire.Offload{Place: "[2001:db8::1]:4500", Name: "receive-udp-joined", InUse: true}, "(UDP_GRO)"},
		{wire.Offload{Place: "0.0.0.0", Name: "send-esp-joined"}, "no segmentation"},
		{wire.Offload{Place: "2001:db8::1", Name: "send-ah-joined"}, "no segmentation"},
	}
	got := c.Offloads()
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		detail := got[i].Detail
		if got[i].Detail = ""; got[i] != w.o || !strings.Contains(detail, w.detail) {
			t.Errorf("%+v, %q; want %+v, %q", got[i], detail, w.o, w.detail)
		}
	}
}

// Of sockets that are open the system is asked, and each address has its lines.
func TestOffloadsOfListen(t *testing.T) {
	for _, join := range []bool{true, false} {
		c, err := Listen(Options{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Join: join})
		if err != nil {
			t.Fatal(err)
		}
		list := c.(Offloader).Offloads()
		c.Close()
		if len(list) != 2 || !list[0].InUse || list[1].InUse != join || !strings.HasPrefix(list[0].Place, "127.0.0.1:") {
			t.Errorf("joined %v: %+v", join, list)
		}
	}
}
