package sad

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// fill installs n SAs in n/10 policies, all of one transform: what is measured
// is the table, and a million key schedules would need gigabytes.
func fill(tb testing.TB, n int) (*Table, []uint32) {
	tb.Helper()
	table := NewTable(n+1, 9)
	one := NewTable(1, 1)
	p := Params{Protocol: ProtocolESP, Tunnel: true, In: testHalf(one.AllocSPIs(1)[0], 1), Out: testHalf(1, 2),
		Pairs: []selector.Pair{testPair("10.1.0.0/16", "10.2.0.0/16")}, ReplayWindow: 32}
	model, err := newChild(&p)
	if err != nil {
		tb.Fatal(err)
	}
	spis := table.AllocSPIs(n)
	for i, spi := range spis {
		p.ID, p.Policy, p.In.SPI = uint64(i), uint32(i/10), spi
		if err := table.insert(makeChild(&p, model.in.transform, model.out.transform), false); err != nil {
			tb.Fatal(err)
		}
	}
	return table, spis
}

func sizes(b *testing.B) []int {
	if testing.Short() {
		return []int{1000}
	}
	return []int{1000, 1_000_000}
}

// runs are how many packets in a row traffic has of one SA: 1 is none that
// follow, each packet is of an SA that no cache has seen lately; a receive or a
// read that the kernel coalesced brings up to 64.
var runs = []int{1, 8, 32}

// each runs f with the number of a packet's SA, in an order that is nobody's,
// for the length of runs.
func each(b *testing.B, n int, f func(b *testing.B, order []uint32, run int)) {
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, run := range runs {
		b.Run(fmt.Sprintf("run=%d", run), func(b *testing.B) { f(b, order, run) })
	}
}

func BenchmarkInbound(b *testing.B) {
	for _, n := range sizes(b) {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, spis := fill(b, n)
			each(b, n, func(b *testing.B, order []uint32, run int) {
				mixed := make([]uint32, n)
				for i, at := range order {
					mixed[i] = spis[at]
				}
				b.ResetTimer()
				for i, at := 0, 0; i < b.N; at++ {
					for range run {
						if table.Inbound(mixed[at%n]) == nil {
							b.Fatal("lost")
						}
						i++
					}
				}
			})
		})
	}
}

// BenchmarkOpened is all that the table does for a packet that is opened.
func BenchmarkOpened(b *testing.B) {
	for _, n := range sizes(b) {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, spis := fill(b, n)
			each(b, n, func(b *testing.B, order []uint32, run int) {
				mixed, seqs := make([]*Inbound, n), make([]uint32, n)
				for i, at := range order {
					mixed[i] = table.Inbound(spis[at])
					seqs[i] = uint32(mixed[i].replay.top.Load())
				}
				b.ResetTimer()
				for i, at := 0, 0; i < b.N; at++ {
					for range run {
						in := table.Inbound(spis[order[at%n]])
						seqs[at%n]++
						seq, ok := in.Sequence(seqs[at%n])
						if !ok || in.Expired(1) || !in.Commit(seq) || !in.Spend(1, 1000, 1) {
							b.Fatal("refused")
						}
						i++
					}
				}
			})
		})
	}
}

func BenchmarkOutbound(b *testing.B) {
	for _, n := range sizes(b) {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, _ := fill(b, n)
			f := &wire.Flow{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 6}
			each(b, n, func(b *testing.B, order []uint32, run int) {
				for i, at := 0, 0; i < b.N; at++ {
					for range run {
						if table.Outbound(order[at%n]/10, f) == nil {
							b.Fatal("lost")
						}
						i++
					}
				}
			})
		})
	}
}

// BenchmarkInstall installs and removes one SA in a table of n, keys and all.
func BenchmarkInstall(b *testing.B) {
	for _, n := range sizes(b) {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, _ := fill(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				p := Params{ID: uint64(n + i), Policy: uint32(i % n), Protocol: ProtocolESP, Tunnel: true,
					In: testHalf(table.AllocSPIs(1)[0], 1), Out: testHalf(1, 2),
					Pairs: []selector.Pair{testPair("10.1.0.0/16", "10.2.0.0/16")}, ReplayWindow: 128}
				if _, err := table.Install(p); err != nil {
					b.Fatal(err)
				}
				table.Remove(p.ID)
			}
		})
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	table, spis := fill(t, 1000)
	w := table.Worker()
	f := testFlow("10.1.0.1", "10.2.0.1")
	seq := uint32(0)
	allocs := testing.AllocsPerRun(1000, func() {
		w.Enter()
		seq++
		in, o := table.Inbound(spis[3]), table.Outbound(0, f)
		s, ok := in.Sequence(seq)
		if !ok || in.Expired(1) || !in.Commit(s) || !in.Spend(1, 1, 1) {
			t.Fatal("inbound")
		}
		if _, ok := o.Reserve(1); !ok || !o.Spend(1, 1, 1) || o.Child().Endpoint() == nil {
			t.Fatal("outbound")
		}
		in.Child().TakeEvents()
		w.Leave()
	})
	if allocs != 0 {
		t.Fatalf("%v allocations for each packet", allocs)
	}
}
