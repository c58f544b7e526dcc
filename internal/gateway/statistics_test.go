package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"culvert/config"
	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/operate/control"
	"culvert/internal/packet/reassembly"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
)

const statisticsConfig = `[[peer]]
name = "asleep"
address = "192.0.2.9/32"
exchange-mode = "ike2"
disabled = true
[[policy]]
peer = "asleep"
src-address = "10.1.0.0/16"
dst-address = "10.2.99.0/24"
tunnel = true
[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.2.0.0/16"
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.2"
tunnel = true
[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.3.0.0/16"
action = "discard"
[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.4.0.0/16"
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.3"
tunnel = true
[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.5.0.0/16"
protocol = "udp"
dst-port = 2000
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.2"
tunnel = true
[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.6.0.0/16"
action = "none"
`

// gatewayAndPeer is a whole gateway with SAs by hand, and what seals as its peer.
type gatewayAndPeer struct {
	*process
	wire *underlay.Memory
	out  *esp.Transform // to the SA of policy 2
	port *esp.Transform // to the SA of policy 5
	seq  uint64
}

func launchWithPeer(t *testing.T) *gatewayAndPeer {
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	g := &gatewayAndPeer{}
	g.process = launch(t, c, "west", westAddr, statisticsConfig, func(o *Options) {
		edges := o.Edges
		o.Edges = func(cfg *config.Gateway) (Edges, error) {
			e, err := edges(cfg)
			e.Conn = c.ends[westAddr].WithRaw()
			return e, err
		}
	})
	ctx := context.Background()
	eventually(t, "a gateway", func() bool { _, err := g.client().Policies(ctx); return err == nil })
	g.wire = c.ends[westAddr]
	for policy, to := range map[int]**esp.Transform{2: &g.out, 5: &g.port} {
		spi := uint32(0x1000 * policy)
		_, err := g.client().AddSA(ctx, control.ManualSA{Policy: policy, UDP: true, ReplayWindow: 128, ESP: &control.ManualKeys{SPIIn: spi, SPIOut: spi + 1,
			EncAlgorithm: "aes-128-gcm", EncKeyIn: strings.Repeat("01", 20), EncKeyOut: strings.Repeat("02", 20)}})
		if err != nil {
			t.Fatal(err)
		}
		if *to, err = esp.New(esp.Params{SPI: spi, Encr: suite.EncrByName("aes-128-gcm"), EncKey: bytes.Repeat([]byte{1}, 20)}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *gatewayAndPeer) statistics() map[string]uint64 {
	list, err := g.client().Statistics(context.Background())
	if err != nil {
		g.t.Fatal(err)
	}
	m := map[string]uint64{}
	for _, s := range list {
		m[s.Name] = s.Value
	}
	return m
}

// sealed is payload as the peer sends it.
func (g *gatewayAndPeer) sealed(tr *esp.Transform, payload []byte, next uint8) []byte {
	g.seq++
	buf := append(make([]byte, 64), append(bytes.Clone(payload), make([]byte, 64)...)...)
	from, to := tr.Seal(buf, 64, len(payload), g.seq, next)
	return buf[from:to]
}

func (g *gatewayAndPeer) arrive(data []byte) {
	g.wire.Deliver(netip.AddrPortFrom(eastAddr, 4500), netip.AddrPortFrom(westAddr, 4500), data)
}

func (g *gatewayAndPeer) leave(pkt []byte) {
	if err := g.device.Inject(pkt); err != nil {
		g.t.Fatal(err)
	}
}

// What comes out of the device and what comes from the network moves the counter
// that it should, in the gateway that `culvert run` runs, and no other.
func TestStatisticsOfAWholeGateway(t *testing.T) {
	g := launchWithPeer(t)
	packet := func(src, dst string) []byte {
		return wire.AppendUDPPacket(nil, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), []byte("statistics"))
	}
	good := packet("10.2.0.1:1", "10.1.0.1:2")
	replayed := g.sealed(g.out, good, 4)
	id := uint16(0)
	piece := func(src, dst string) []byte { // of another packet each time
		id++
		h := wire.IPv4{TTL: 1, Proto: wire.ProtoUDP, ID: id, More: true, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)}
		return append(h.Append(nil, 8), make([]byte, 8)...)
	}
	size := uint64(len(good))
	for _, c := range []struct {
		counter string
		first   func()            // before it is counted
		do      func()            // three times
		also    map[string]uint64 // counters that are no drops
	}{
		{"rx-packets", nil, func() { g.arrive(g.sealed(g.out, good, 4)) }, map[string]uint64{"rx-bytes": 3 * size}},
		{"tx-packets", nil, func() { g.leave(packet("10.1.0.1:2", "10.2.0.1:1")) }, map[string]uint64{"tx-bytes": 3 * size}},
		{"out-errors", nil, func() { g.leave([]byte{0x45, 0, 0}) }, nil},
		{"out-policy-errors", nil, func() { g.leave(packet("10.1.0.1:1", "10.9.0.1:2")) }, nil},
		{"out-policy-blocked", nil, func() { g.leave(packet("10.1.0.1:1", "10.3.0.1:2")) }, nil},
		{"out-no-states", nil, func() { g.leave(packet("10.1.0.1:1", "10.4.0.1:2")) }, nil},
		{"out-unprotected", nil, func() { g.leave(packet("10.1.0.1:1", "10.6.0.1:2")) }, nil},
		{"out-policy-dead", nil, func() { g.leave(packet("10.1.0.1:1", "10.2.99.1:2")) }, nil},
		{"out-buffer-errors", func() {
			for range reassembly.BuffersPerSender {
				g.leave(piece("10.1.0.1", "10.5.0.1"))
			}
		}, func() { g.leave(piece("10.1.0.1", "10.5.0.1")) }, nil},
		{"in-errors", nil, func() { g.arrive([]byte{1, 2, 3}) }, nil},
		{"in-buffer-errors", func() {
			for range reassembly.BuffersPerSender {
				g.arrive(g.sealed(g.port, piece("10.5.0.1", "10.1.0.1"), 4))
			}
		}, func() { g.arrive(g.sealed(g.port, piece("10.5.0.1", "10.1.0.1"), 4)) }, nil},
		{"in-header-errors", nil, func() { g.arrive(g.sealed(g.out, good[:20], 4)) }, nil},
		{"in-no-states", nil, func() { g.arrive(append(binary.BigEndian.AppendUint32(nil, 0x7777), make([]byte, 60)...)) }, nil},
		{"in-state-protocol-errors", nil, func() {
			pkt := g.sealed(g.out, good, 4)
			pkt[len(pkt)-1] ^= 1
			g.arrive(pkt)
		}, nil},
		{"in-state-mode-errors", nil, func() { g.arrive(g.sealed(g.out, good, wire.ProtoTCP)) }, nil},
		{"in-state-sequence-errors", func() { g.arrive(replayed) }, func() { g.arrive(replayed) }, map[string]uint64{}},
		{"in-state-mismatches", nil, func() {
			g.wire.DeliverRaw(underlay.ESP, eastAddr, westAddr, g.sealed(g.out, good, 4))
		}, nil},
		{"in-template-mismatches", nil, func() { g.arrive(g.sealed(g.out, packet("10.7.0.1:1", "10.1.0.1:2"), 4)) }, nil},
		{"in-policy-errors", nil, func() { g.arrive(g.sealed(g.out, packet("10.2.99.1:1", "10.1.0.1:2"), 4)) }, nil},
		{"in-fragment-errors", nil, func() {
			id = 50 // one of those that in-buffer-errors left
			g.arrive(g.sealed(g.port, piece("10.5.0.1", "10.1.0.1"), 4))
		}, nil},
	} {
		before := g.statistics()
		if c.first != nil {
			c.first()
			g.arrive([]byte{0xff}) // all of first is through when this is counted
			g.leave([]byte{0x45})
			eventually(t, c.counter+": at rest", func() bool {
				now := g.statistics()
				return now["rx-keepalives"] > before["rx-keepalives"] && now["out-errors"] > before["out-errors"]
			})
			before = g.statistics()
		}
		for range 3 {
			c.do()
		}
		eventually(t, c.counter, func() bool { return g.statistics()[c.counter] >= before[c.counter]+3 })
		moved := map[string]uint64{}
		for name, v := range g.statistics() {
			if v != before[name] {
				moved[name] = v - before[name]
			}
		}
		want := map[string]uint64{c.counter: 3}
		maps.Copy(want, c.also)
		if !maps.Equal(moved, want) {
			t.Errorf("%s: moved %v, want %v", c.counter, moved, want)
		}
	}
}
