package underlay

import (
	"bytes"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/crypto/suite"

	"culvert/ah"
	"culvert/internal/packet/wire"
)

func listenRaw(t *testing.T, addr netip.Addr) Conn {
	t.Helper()
	c, err := Listen(Options{Listen: []netip.Addr{addr}, Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	limited(t, c)
	if !IsRaw(c) {
		t.Fatal("Raw")
	}
	return c
}

// isolateBoth is isolate with two IPv6 addresses on lo. The kernel puts addresses
// to work after it was told of them: waiting for that keeps packets from being lost.
// It tells of every packet that it cannot deliver, however many others there are.
func isolateBoth(t *testing.T, commands ...string) {
	t.Helper()
	isolate(t, append(commands, "sysctl -qw net.ipv4.icmp_ratemask=0", "sysctl -qw net.ipv6.icmp.ratemask=2", "ip link set lo up", "ip addr add fd00::1/128 dev lo nodad", "ip addr add fd00::2/128 dev lo nodad")...)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		routes, _ := exec.Command("ip", "-6", "route", "show", "table", "local").Output()
		tentative, _ := exec.Command("ip", "-6", "addr", "show", "tentative").Output()
		if strings.Contains(string(routes), "fd00::1 ") && strings.Contains(string(routes), "fd00::2 ") && len(tentative) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the addresses of lo do not come up")
}

// espPacket looks like ESP; size 8 at least.
func espPacket(size, fill int) []byte {
	return append([]byte{1, 2, 3, 4, 0, 0, 0, 1}, bytes.Repeat([]byte{byte(fill)}, size-8)...)
}

// ESP by the system's header and by its own, in batches, both families, and
// long ones in fragments.
func TestRawESP(t *testing.T) {
	isolateBoth(t, "ip link set lo mtu 1280")
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"fd00::1", "fd00::2"}} {
		from, to := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		a, b := listenRaw(t, from), listenRaw(t, to)
		var batch []Packet
		for i := range 100 {
			p := outgoing(ESP, netip.AddrPortFrom(from, 4500), netip.AddrPortFrom(to, 500), false, espPacket(8+i*14, i))
			if i%3 == 0 && p.Len < 1200 {
				front := wire.AppendIP(nil, from, to, wire.ProtoESP, p.Len)
				wire.SetHopLimit(front, 255)
				p.Off -= len(front)
				p.Len += copy(p.Buf[p.Off:], front)
				p.Header = true
			}
			batch = append(batch, p)
		}
		if n, err := a.Send(batch); n != len(batch) || err != nil {
			t.Fatal(n, err)
		}
		seen, hops := map[string]bool{}, map[uint8]int{}
		for _, got := range receive(t, b, len(batch)) {
			if got.Kind != ESP || got.NATT || got.Header || got.Remote != netip.AddrPortFrom(from, 0) || got.Local != netip.AddrPortFrom(to, 0) {
				t.Fatalf("%+v", got)
			}
			seen[string(got.Data())] = true
			hops[got.TTL]++
		}
		for i := range batch {
			if !seen[string(espPacket(8+i*14, i))] {
				t.Errorf("%v: packet %d is missing", ends, i)
			}
		}
		if hops[255] == 0 || hops[64] == 0 || hops[255]+hops[64] != len(batch) {
			t.Errorf("%v: hop limits %v, want 255 and 64", ends, hops)
		}
	}
}

// AH survives its way: the header that comes up is one that its ICV covers, with
// IPv4 options and IPv6 extension headers.
func TestRawAH(t *testing.T) {
	isolateBoth(t)
	integ := suite.IntegByName("sha1")
	tr, err := ah.New(ah.Params{SPI: 0x100, Integ: integ, IntegKey: make([]byte, integ.KeyLen)})
	if err != nil {
		t.Fatal(err)
	}
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"fd00::1", "fd00::2"}} {
		from, to := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		a, b := listenRaw(t, from), listenRaw(t, to)
		plain := wire.AppendUDPPacket(nil, netip.AddrPortFrom(from, 1), netip.AddrPortFrom(to, 2), []byte("payload"))
		shapes := [][]byte{bytes.Clone(plain)}
		if from.Is4() {
			shapes[0][4] = 7 // an identification
			with := append(append(bytes.Clone(shapes[0][:20]), 148, 4, 0, 0), plain[20:]...)
			with[0] = 0x46
			wire.SetTotal(with, len(with))
			shapes = append(shapes, with)
		} else {
			ext := []byte{60, 0, 5, 2, 0, 0, 1, 0, 43, 0, 1, 4, 0, 0, 0, 0, 17, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
			with := append(append(bytes.Clone(plain[:40]), ext[:8]...), plain[40:]...)
			with[6], with[40] = 0, 17
			wire.SetTotal(with, len(with))
			shapes = append(shapes, with)
		}
		for i, pkt := range shapes {
			buf := append(make([]byte, Headroom), pkt...)
			_, _, next, _ := wire.PathHeaders(pkt)
			start, end := tr.Seal(buf, Headroom, len(pkt), uint64(i+1), next)
			p := Packet{Buf: buf, Off: start, Len: end - start, Local: netip.AddrPortFrom(from, 0), Remote: netip.AddrPortFrom(to, 0), Kind: AH, Header: true}
			if n, err := a.Send([]Packet{p}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			got := receive(t, b, 1)[0]
			if got.Kind != AH || !got.Header {
				t.Fatalf("%+v", got)
			}
			data := got.Data()
			off, n, _, err := tr.Open(data, uint64(i+1))
			if err != nil || !bytes.HasSuffix(data[off:off+n], []byte("payload")) {
				t.Errorf("%v: packet %d: %v: %x, sent %x", ends, i, err, data, buf[start:end])
			}
		}
	}
}

func TestRestore(t *testing.T) {
	control := func(kind int32, data []byte) []byte {
		oob := make([]byte, unix.CmsgSpace(len(data)))
		to, _ := putHeader(oob, unix.IPPROTO_IPV6, kind, len(data))
		copy(to, data)
		return oob
	}
	hop, routing := []byte{43, 0, 5, 2, 0, 0, 1, 0}, append([]byte{51, 2, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)
	from, to := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	oob := append(control(unix.IPV6_PKTINFO, make([]byte, unix.SizeofInet6Pktinfo)), control(unix.IPV6_HOPOPTS, hop)...)
	oob = append(oob, control(unix.IPV6_RTHDR, routing)...)
	fresh := func() *Packet {
		p := &packets(1, 100)[0]
		p.Off, p.Len, p.Remote, p.Local = Headroom, 24, netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0)
		p.Buf[Headroom] = 17
		return p
	}
	p := fresh()
	if !p.restore(oob) {
		t.Fatal("refused")
	}
	want := append(wire.IPv6{HopLimit: 64, Next: 0, Src: from, Dst: to}.Append(nil, 8+24+24), hop...)
	want = append(append(want, routing...), append([]byte{17}, make([]byte, 23)...)...)
	if !bytes.Equal(p.Data(), want) {
		t.Errorf("%x, want %x", p.Data(), want)
	}
	for _, bad := range [][]byte{
		control(unix.IPV6_HOPOPTS, nil), control(unix.IPV6_HOPOPTS, hop[:1]), control(unix.IPV6_HOPOPTS, hop[:7]), control(unix.IPV6_RTHDR, routing[:16]),
		control(unix.IPV6_DSTOPTS, append([]byte{0, 12}, make([]byte, 102)...)), // no room for it
	} {
		if fresh().restore(bad) {
			t.Errorf("%x", bad)
		}
	}
	for i := range oob { // whatever is cut off, nothing is read behind it
		fresh().restore(oob[:i:i])
	}
}

func TestRawWithoutPrivilege(t *testing.T) {
	isolate(t, "ip link set lo up")
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(Options{Listen: []netip.Addr{loop}, Raw: true})
	if !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "cap_net_raw") {
		t.Error(err)
	}
}

func TestNoRawSocketsUnasked(t *testing.T) {
	c := listen(t, loop)
	if IsRaw(c) {
		t.Error("Raw")
	}
	if n, err := c.Send([]Packet{outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(loop, 0), false, espPacket(20, 1))}); n != 0 || !errors.Is(err, ErrNoSocket) {
		t.Error(n, err)
	}
}

// What strangers send by the protocols of ESP and AH comes up whole or not at all, and
// never is it passed over: whoever counts has to see it.
func TestRawRunts(t *testing.T) {
	isolateBoth(t)
	for _, ends := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"fd00::1", "fd00::2"}} {
		from, to := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		b := listenRaw(t, to)
		for _, proto := range []int{unix.IPPROTO_ESP, unix.IPPROTO_AH} {
			domain, sa, dest := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}})
			if from.Is6() {
				domain, sa, dest = unix.AF_INET6, &unix.SockaddrInet6{Addr: from.As16()}, &unix.SockaddrInet6{Addr: to.As16()}
			}
			fd, err := unix.Socket(domain, unix.SOCK_RAW, proto)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Bind(fd, sa); err != nil {
				t.Fatal(err)
			}
			for n := range 13 {
				if err := unix.Sendto(fd, bytes.Repeat([]byte{0xAB}, n), 0, dest); err != nil {
					t.Fatal(err)
				}
				got := receive(t, b, 1)[0]
				kind, size := ESP, n
				if proto == unix.IPPROTO_AH {
					kind, size = AH, n+wire.AppendedIPLen(from)
				}
				if got.Kind != kind || got.Len != size || got.Header != (kind == AH) || got.NATT {
					t.Errorf("%v, protocol %d, %d bytes: %+v", from, proto, n, got)
				}
			}
		}
	}
}
