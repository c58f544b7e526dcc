package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whole gateways, between them a wire that loses, delays, doubles and reorders: many transfers at once, TCP and UDP, IPv4 and
// IPv6, of all sizes, arrive as they were sent. Each datagram that arrives does so once. What is long comes joined from the
// hosts' stacks and goes joined to them, by one line and by several, by ciphers that are sealed on the line and apart from it.
func TestTransfersOnABadWire(t *testing.T) {
	Need(t)
	for _, c := range []struct {
		name, gateway, algorithm string
		wire                     int // MTU of the wire
	}{
		{"one line", "", "aes-256-gcm", 1500},
		{"raw", `encapsulation = "raw"`, "aes-256-gcm", 1500},
		{"four lines", "workers = 4", "aes-256-gcm", 1500},
		{"four lines, a slow cipher, IPv6 below", "workers = 4", "aes-256-cbc", 1500},
		{"long frames", "mtu = 9000", "aes-256-gcm", 9200},
		{"long frames, four lines, raw", "mtu = 9000\nworkers = 4\nencapsulation = \"raw\"", "aes-128-cbc", 9200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			l := New(t)
			east, west := l.Node("east"), l.Node("west")
			outer := [2]string{"10.9.0.1/24", "10.9.0.2/24"}
			if strings.Contains(c.name, "IPv6 below") {
				outer = [2]string{"2001:db8::1/64", "2001:db8::2/64"}
			}
			wire := l.BadWire(End{east, "eth0", netip.MustParsePrefix(outer[0])}, End{west, "eth0", netip.MustParsePrefix(outer[1])}, 1)
			wire.MTU(c.wire)
			conf := func(us, them string, remote string) string {
				return fmt.Sprintf(`
[[peer]]
name = "p"
address = %q
exchange-mode = "ike2"
[[identity]]
peer = "p"
secret = "correct horse battery staple"
[[proposal]]
name = "default"
enc-algorithms = [%q]
auth-algorithms = ["sha256"]
pfs-group = "none"
[[policy]]
src-address = "10.%[3]s.0.0/24"
dst-address = "10.%[4]s.0.0/24"
peer = "p"
tunnel = true
[[policy]]
src-address = "fd0%[3]s::/64"
dst-address = "fd0%[4]s::/64"
peer = "p"
tunnel = true
`, remote, c.algorithm, us, them)
			}
			ends := [2][2]netip.Addr{
				{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")},
				{netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd02::1")},
			}
			for _, e := range ends {
				east.Inner(e[0])
				west.Inner(e[1])
			}
			far := west.Culvert(ctx, c.gateway, passive(conf("2", "1", strings.Split(outer[0], "/")[0])))
			near := east.Culvert(ctx, c.gateway, conf("1", "2", strings.Split(outer[1], "/")[0]))
			for _, e := range ends {
				if err := Until(ctx, func() error {
					_, err := east.Try("ping", "-c", "1", "-W", "2", "-I", e[0].String(), e[1].String())
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			wire.Impair(Impairment{Loss: 0.002, Duplicate: 0.01, Reorder: 0.05, Delay: 2 * time.Millisecond, Jitter: time.Millisecond})
			var all sync.WaitGroup
			for _, e := range ends {
				for _, size := range []int64{1, 1000, 50_000, 3_000_000} {
					all.Go(func() {
						if err := east.Transfer(ctx, e[0], west, e[1], size); err != nil {
							t.Error(err)
						}
					})
				}
				all.Go(func() { datagrams(t, east, west, e[0], e[1]) })
			}
			all.Wait()
			if c.wire > 1500 {
				// A packet of the device's MTU fits through, and one of a byte more does not leave its host.
				for _, e := range ends {
					head := 28
					if e[0].Is6() {
						head = 48
					}
					wire.Impair(Impairment{})
					east.Run("ping", "-c", "1", "-W", "5", "-M", "do", "-s", fmt.Sprint(9000-head), "-I", e[0].String(), e[1].String())
				}
			}
			if strings.Contains(c.gateway, "workers") {
				if err := Until(ctx, func() error { // a line gets SAs for itself once it was busy for a second
					rows, err := near.Print(ctx, "installed-sa")
					if err != nil || slices.ContainsFunc(rows, func(r Row) bool { return r.Text("line") != "" }) {
						return err
					}
					datagrams(t, east, west, ends[0][0], ends[0][1])
					return errors.New("no line has an SA for itself")
				}); err != nil {
					t.Error(err)
				}
			}
			for _, g := range []*Culvert{near, far} {
				for _, name := range []string{"in-template-mismatches", "in-header-errors", "out-errors", "in-errors"} {
					if n := g.Counter(ctx, name); n != 0 {
						t.Errorf("%s is %d", name, n)
					}
				}
			}
		})
	}
}

// datagrams sends many of all sizes, and looks at what arrives: each once, as it was sent, and most of them.
func datagrams(t *testing.T, from, to *Node, local, remote netip.Addr) {
	var source, sink *net.UDPConn
	err := from.Inside(func() (err error) {
		source, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, 7100)))
		return err
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer source.Close()
	if err := to.Inside(func() (err error) {
		sink, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, 7100)))
		return err
	}); err != nil {
		t.Error(err)
		return
	}
	defer sink.Close()
	const count = 2000
	content := func(n uint32) []byte {
		r := rand.New(rand.NewPCG(uint64(n), 7))
		b := binary.BigEndian.AppendUint32(nil, n)
		for range r.IntN(350) * (1 + r.IntN(8)) { // up to 11 kB, fragments of the hosts' among them
			b = binary.BigEndian.AppendUint32(b, r.Uint32())
		}
		return b
	}
	var sent sync.WaitGroup
	sent.Go(func() {
		for n := range uint32(count) {
			_, err := source.Write(content(n))
			if errors.Is(err, unix.EMSGSIZE) { // what the host has just learned of the path; it cuts the next ones
				_, err = source.Write(content(n))
			}
			if err != nil {
				t.Errorf("datagram %d: %v", n, err)
				return
			}
			time.Sleep(500 * time.Microsecond)
		}
	})
	defer sent.Wait()
	seen, buf := map[uint32]bool{}, make([]byte, 65536)
	for len(seen) < count {
		if err := sink.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Error(err)
			return
		}
		n, err := sink.Read(buf)
		if err != nil {
			break // what was lost does not come any more
		}
		k := binary.BigEndian.Uint32(buf)
		if !bytes.Equal(buf[:n], content(k)) {
			t.Errorf("datagram %d arrived as another one, of %d bytes", k, n)
		}
		if seen[k] {
			t.Errorf("datagram %d arrived twice", k)
		}
		if seen[k] = true; k == count-1 {
			break
		}
	}
	if len(seen) < count/2 {
		t.Errorf("%d of %d datagrams arrived", len(seen), count)
	}
}
