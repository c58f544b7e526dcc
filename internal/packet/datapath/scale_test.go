package datapath

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// throng is a gateway with many SAs, keys and all, ten to a policy. Each SA is its own
// other end: what it seals it opens, and its packets go from an address to itself.
type throng struct {
	*gateway
	out     *outWorker
	in      *inWorker
	edge    *edge
	packets []underlay.Packet
	plain   []byte
	order   []uint32
	at      int // in order
	now     int64
	kept    [][]byte
	rounds  int
}

// edge takes packets and does nothing with them.
type edge struct {
	network
	host
	sent []underlay.Packet
	n    int
}

func (e *edge) Send(packets []underlay.Packet) (int, error) {
	e.sent = append(e.sent[:0], packets...)
	return len(packets), nil
}

func (e *edge) Write(bufs [][]byte, _ int) (int, error) {
	e.n += len(bufs)
	return len(bufs), nil
}

func (e *edge) Close() error { return nil }

const (
	throngBatch = inBatchSize
	throngRound = 8 * throngBatch // packets that are timed at once
	// What is sealed in so many rounds is opened after them: till then no cache has the SAs any more.
	throngRounds = 24
	perPolicy    = 10
)

func throngAddr(sa int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 20<<24+uint32(sa/perPolicy*16+sa%perPolicy))
	return netip.AddrFrom4(b)
}

func newThrong(tb testing.TB, sas int) *throng {
	c := &throng{edge: &edge{}, plain: udp("20.0.0.1", "20.0.0.1", 1420-28), now: start.UnixNano(), rounds: throngRounds}
	sadTable, policies := sad.NewTable(sas, 5), make([]spd.Policy, sas/perPolicy)
	all := selector.FromPrefix(netip.MustParsePrefix("20.0.0.0/8"))
	for i := range policies {
		policies[i] = spd.Policy{Ref: uint32(i + 1), Tunnel: true,
			Pair: selector.Pair{Local: all, Remote: selector.FromPrefix(netip.PrefixFrom(throngAddr(i*perPolicy), 28))}}
	}
	for i, spi := range sadTable.AllocSPIs(sas) {
		key := ciphers[0].params(spi, byte(i), false)
		key.EncKey[1] = byte(i >> 8)
		other := key
		other.EncKey = append(other.EncKey[:0:0], key.EncKey...)
		if _, err := sadTable.Install(sad.Params{ID: uint64(i + 1), Policy: policies[i/perPolicy].Ref, Protocol: sad.ProtocolESP, Tunnel: true,
			In: key, Out: other, Local: leftAddr, Remote: rightAddr, UDP: true, ReplayWindow: 128, Added: start,
			Pairs: []selector.Pair{{Local: all, Remote: selector.FromPrefix(netip.PrefixFrom(throngAddr(i), 32))}}}); err != nil {
			tb.Fatal(err)
		}
	}
	g := &gateway{log: &log{quiet: true}, sads: sadTable, pols: spd.New()}
	g.pols.Replace(policies)
	g.path = New(Config{Device: c.edge, Conn: c.edge, Policies: g.pols, SAs: g.sads, Notify: g.log, Now: func() time.Time { return start }})
	c.gateway = g
	c.out, c.in = newOutWorker(g.path, g.path.edges(), throngBatch, maxPacket), newInWorker(g.path, g.path.edges(), throngBatch)
	for range throngBatch {
		c.packets = append(c.packets, underlay.Packet{Buf: make([]byte, underlay.Headroom+2000), Local: leftAddr, Remote: rightAddr, Kind: underlay.ESP, NATT: true})
	}
	for range throngRounds * throngRound {
		c.kept = append(c.kept, make([]byte, 0, 1500))
	}
	c.order = make([]uint32, sas)
	for i, v := range rand.New(rand.NewPCG(1, 2)).Perm(sas) {
		c.order[i] = uint32(v)
	}
	return c
}

// least is of several rounds: what is more than the least is the machine's other work.
type least struct{ out, in, seal float64 }

func keep(least *float64, took time.Duration) {
	if ns := float64(took.Nanoseconds()) / throngRound; *least == 0 || ns < *least {
		*least = ns
	}
}

// measure takes packets out and in, run of each SA in a row, and adds to m.
func (c *throng) measure(tb testing.TB, run int, m *least) {
	kept := 0
	for range c.rounds {
		took := time.Duration(0)
		for n := 0; n < throngRound; n += throngBatch {
			for i := range throngBatch {
				buf := c.out.bufs[i][underlay.Headroom:]
				c.out.sizes[i] = copy(buf, c.plain)
				a := throngAddr(int(c.order[c.at/run%len(c.order)])).As4()
				copy(buf[12:], a[:])
				copy(buf[16:], a[:])
				c.at++
			}
			begin := time.Now()
			r := c.out.batch(c.now, throngBatch)
			took += time.Since(begin)
			if r != Passed || len(c.edge.sent) != throngBatch {
				tb.Fatal(r)
			}
			for i := range c.edge.sent {
				c.kept[kept] = append(c.kept[kept][:0], c.edge.sent[i].Data()...)
				kept++
			}
		}
		keep(&m.out, took)
	}
	kept = 0
	for range c.rounds {
		took := time.Duration(0)
		for n := 0; n < throngRound; n += throngBatch {
			for i := range c.packets {
				p := &c.packets[i]
				p.Off, p.Len = underlay.Headroom, copy(p.Buf[underlay.Headroom:], c.kept[kept])
				kept++
			}
			c.edge.n = 0
			begin := time.Now()
			r := c.in.batch(c.now, c.packets)
			took += time.Since(begin)
			if r != Passed || c.edge.n != throngBatch {
				tb.Fatal(r)
			}
		}
		keep(&m.in, took)
	}
	c.now += int64(time.Millisecond)
}

// bare is the transform of one SA alone.
func (c *throng) bare(m *least) {
	child := c.sads.Child(1)
	t, buf := child.Outbound().Transform(), c.out.bufs[0]
	for range throngRounds {
		begin := time.Now()
		for range throngRound {
			t.Seal(buf, underlay.Headroom, len(c.plain), 1, 4)
		}
		keep(&m.seal, time.Since(begin))
	}
}

// BenchmarkScale is the whole line with few and with many SAs and policies: ns for a
// packet of 1420 bytes of AES-256-GCM, the least of the rounds, which take turns so that
// both have the same machine. The many take 5 GB of memory, and are left out with -short.
func BenchmarkScale(b *testing.B) {
	sizes := []int{1000, 1_000_000}
	if testing.Short() {
		sizes[1] = 20_000
	}
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // while a million are made
	}
	few, many := newThrong(b, sizes[0]), newThrong(b, sizes[1])
	for _, run := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("run=%d", run), func(b *testing.B) {
			var f, m least
			for b.Loop() {
				few.bare(&f)
				few.measure(b, run, &f)
				many.measure(b, run, &m)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(f.seal, "ns-bare-seal")
			b.ReportMetric(f.out, "ns-out-few")
			b.ReportMetric(m.out, "ns-out-many")
			b.ReportMetric(m.out/f.out, "ratio-out")
			b.ReportMetric(f.in, "ns-in-few")
			b.ReportMetric(m.in, "ns-in-many")
			b.ReportMetric(m.in/f.in, "ratio-in")
		})
	}
}
