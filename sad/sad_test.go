package sad

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

var start = time.Unix(1_700_000_000, 0)

func testPair(local, remote string) selector.Pair {
	return selector.Pair{
		Local:  selector.FromPrefix(netip.MustParsePrefix(local)),
		Remote: selector.FromPrefix(netip.MustParsePrefix(remote)),
	}
}

func testFlow(src, dst string) *wire.Flow {
	return &wire.Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: 6, SrcPort: 1, DstPort: 2}
}

func testHalf(spi uint32, fill byte) esp.Params {
	e := suite.EncrByName("aes-128-gcm")
	return esp.Params{SPI: spi, Encr: e, EncKey: bytes.Repeat([]byte{fill}, e.MaterialLen())}
}

// params is a CHILD SA of policy 1 between 10.1/16 and 10.2/16.
func params(t testing.TB, table *Table, id uint64) Params {
	t.Helper()
	spis := table.AllocSPIs(1)
	if len(spis) != 1 {
		t.Fatal("no SPI")
	}
	return Params{
		ID: id, Policy: 1, Peer: "peer", Protocol: ProtocolESP, Tunnel: true,
		In: testHalf(spis[0], 1), Out: testHalf(0x1000+uint32(id), 2),
		Pairs: []selector.Pair{testPair("10.1.0.0/16", "10.2.0.0/16")},
		Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("192.0.2.2:4500"),
		UDP: true, ReplayWindow: 128, Added: start,
	}
}

func install(t testing.TB, table *Table, p Params) *Child {
	t.Helper()
	c, err := table.Install(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestScrambleIsAPermutation(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for seed := range uint64(50) {
		var s scramble
		s.init(seed)
		for range 1000 {
			if v := rng.Uint32(); s.undo(s.do(v)) != v || s.do(s.undo(v)) != v {
				t.Fatalf("seed %d: %#x does not come back", seed, v)
			}
		}
	}
}

func TestSPIs(t *testing.T) {
	table := NewTable(3000, 7)
	spis := table.AllocSPIs(5000)
	if len(spis) != 3000 {
		t.Fatalf("%d SPIs of a table for 3000", len(spis))
	}
	seen := map[uint32]bool{}
	for round := range 200 { // generations of the same slots
		for i, spi := range spis {
			if spi < minSPI || seen[spi] {
				t.Fatalf("round %d: SPI %#x reserved by the RFC or given out twice", round, spi)
			}
			seen[spi] = true
			if round%2 == i%2 {
				table.FreeSPI(spi)
				table.FreeSPI(spi) // the second time it is not reserved any more
				spis[i] = 0
			}
		}
		spis = slices.DeleteFunc(spis, func(spi uint32) bool { return spi == 0 })
		fresh := table.AllocSPIs(5000)
		if len(spis)+len(fresh) != 3000 {
			t.Fatalf("round %d: %d kept and %d new, not 3000", round, len(spis), len(fresh))
		}
		for _, spi := range spis {
			delete(seen, spi)
		}
		spis = append(spis, fresh...)
	}
}

func TestSPIsOfSmallValueAreSkipped(t *testing.T) {
	// Look for a seed whose very first SPI would be reserved.
	for seed := range uint64(1 << 27) {
		var s scramble
		s.init(seed)
		if s.do(1<<16) < minSPI {
			spi := NewTable(1, seed).AllocSPIs(1)[0]
			if spi < minSPI || s.undo(spi) != 2<<16 {
				t.Fatalf("seed %d: SPI %#x is not the next generation's", seed, spi)
			}
			return
		}
	}
	t.Fatal("no such seed found")
}

func TestSlotsAreUsedOldestFirst(t *testing.T) {
	table := NewTable(4, 1)
	index := func(spi uint32) uint32 { return table.slots.scramble.undo(spi) & 0xffff }
	spis := table.AllocSPIs(4)
	for _, i := range []int{2, 0, 3} {
		table.FreeSPI(spis[i])
	}
	for _, i := range []int{2, 0, 3} {
		if got := table.AllocSPIs(1)[0]; index(got) != index(spis[i]) || got == spis[i] {
			t.Fatalf("slot %d comes after slot %d, as %#x after %#x", index(got), index(spis[i]), got, spis[i])
		}
	}
}

func TestInstallRemove(t *testing.T) {
	table := NewTable(4, 3)
	p := params(t, table, 1)
	spi := p.In.SPI
	if table.Inbound(spi) != nil {
		t.Fatal("a reservation is found")
	}
	c := install(t, table, p)
	if in := table.Inbound(spi); in != c.Inbound() || in.Child() != c || in.SPI() != spi {
		t.Fatal("not found by SPI")
	}
	if o := table.Outbound(1, testFlow("10.1.0.1", "10.2.0.1")); o != c.Outbound() {
		t.Fatal("not found by policy")
	}
	for _, f := range []*wire.Flow{testFlow("10.1.0.1", "10.3.0.1"), testFlow("10.2.0.1", "10.1.0.1")} {
		if table.Outbound(1, f) != nil {
			t.Fatalf("%v is not the SA's", f)
		}
	}
	if !c.Inbound().Covers(testFlow("10.2.0.1", "10.1.0.1")) || c.Inbound().Covers(testFlow("10.1.0.1", "10.2.0.1")) {
		t.Fatal("inbound selectors are seen from the wrong side")
	}
	if table.Outbound(2, testFlow("10.1.0.1", "10.2.0.1")) != nil {
		t.Fatal("another policy's SA")
	}
	table.FreeSPI(spi) // installed, so not to be freed
	if table.Inbound(spi) == nil {
		t.Fatal("freed while installed")
	}
	if !table.Remove(1) || table.Remove(1) || table.Len() != 0 {
		t.Fatal("Remove")
	}
	if table.Inbound(spi) != nil || table.Outbound(1, testFlow("10.1.0.1", "10.2.0.1")) != nil {
		t.Fatal("found after Remove")
	}
	// The slot's next SAs are not found by the SPI of the first.
	for id := range uint64(12) {
		install(t, table, params(t, table, id+2))
		if table.Inbound(spi) != nil {
			t.Fatal("a stale SPI finds a later SA")
		}
		table.Remove(id + 2)
	}
}

func TestInstallErrors(t *testing.T) {
	table := NewTable(8, 3)
	install(t, table, params(t, table, 1))
	for name, c := range map[string]struct {
		change func(*Params)
		want   error
	}{
		"duplicate": {func(p *Params) { p.ID = 1 }, ErrDuplicate},
		"spi":       {func(p *Params) { p.In.SPI ^= 1 << 20 }, ErrSPI},
		"protocol":  {func(p *Params) { p.Protocol = 4 }, ErrProtocol},
		"pairs":     {func(p *Params) { p.Pairs = nil }, ErrPairs},
		"key":       {func(p *Params) { p.Out.EncKey = p.Out.EncKey[:5] }, nil},
	} {
		p := params(t, table, 2)
		c.change(&p)
		_, err := table.Install(p)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if !wiped(p.In.EncKey) || !wiped(p.Out.EncKey) {
			t.Errorf("%s: keys are left", name)
		}
		if table.Len() != 1 {
			t.Errorf("%s: installed", name)
		}
	}
}

func wiped(key secret.Bytes) bool {
	return !slices.ContainsFunc(key, func(b byte) bool { return b != 0 })
}

func TestOutboundPicksNewestActive(t *testing.T) {
	table := NewTable(16, 3)
	f := testFlow("10.1.0.1", "10.2.0.1")
	want := func(id uint64) {
		t.Helper()
		o := table.Outbound(1, f)
		switch {
		case o == nil && id != 0:
			t.Fatalf("none, want %d", id)
		case o != nil && o.Child().ID != id:
			t.Fatalf("%d, want %d", o.Child().ID, id)
		}
	}
	install(t, table, params(t, table, 1))
	want(1)
	standby := params(t, table, 2)
	standby.Standby = true
	c := install(t, table, standby)
	want(1)
	if c.State(start) != StateLarval {
		t.Fatal(c.State(start))
	}
	install(t, table, params(t, table, 3))
	want(3)
	// 2 was installed before 3 and does not come in front of it.
	if !table.Activate(2) || table.Activate(2) || table.Activate(99) {
		t.Fatal("Activate")
	}
	want(3)
	if !table.Retire(3) || table.Retire(3) || table.Activate(3) {
		t.Fatal("Retire")
	}
	want(2)
	if table.Inbound(table.Child(3).Inbound().SPI()) == nil || table.Child(3).State(start) != StateDying {
		t.Fatal("a retired SA does not open any more")
	}
	// A newer SA that does not cover the flow leaves it to the older.
	other := params(t, table, 4)
	other.Pairs = []selector.Pair{testPair("10.9.0.0/16", "10.2.0.0/16"), testPair("10.1.0.9/32", "10.2.0.0/16")}
	install(t, table, other)
	want(2)
	f = testFlow("10.1.0.9", "10.2.0.1")
	want(4)
	table.Remove(2)
	table.Remove(4)
	want(1)
	table.Remove(1)
	want(0)
	if ids := childIDs(table); !slices.Equal(ids, []uint64{3}) {
		t.Fatal(ids)
	}
	table.Close()
	if table.Len() != 0 || table.Unwiped() != 0 {
		t.Fatal("Close")
	}
}

func childIDs(table *Table) (ids []uint64) {
	for _, c := range table.Children() {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestFragmentsNeedOpenPorts(t *testing.T) {
	table := NewTable(4, 3)
	p := params(t, table, 1)
	p.Pairs[0].Remote.Proto, p.Pairs[0].Remote.PortLo, p.Pairs[0].Remote.PortHi = 6, 2, 2
	c := install(t, table, p)
	f := testFlow("10.1.0.1", "10.2.0.1")
	back := f.Reverse()
	if !c.Outbound().Covers(f) || !c.Inbound().Covers(&back) {
		t.Fatal("port 2")
	}
	f.Opaque, f.SrcPort, f.DstPort = true, 0, 0
	back = f.Reverse()
	if c.Outbound().Covers(f) || c.Inbound().Covers(&back) {
		t.Fatal("a fragment in a selector with a port")
	}
}

// Two clients of one policy with the same selectors, one of them rekeyed: each has its
// newest SA, and there is a sole one only while the other has none that seals.
func TestOutboundOfClients(t *testing.T) {
	table := NewTable(100, 1)
	f := testFlow("10.1.0.1", "10.2.0.1")
	var children []*Child
	for id, client := range []uint64{7, 8, 7} {
		p := params(t, table, uint64(id+1))
		p.Policy, p.Client, p.Standby = 1, client, id == 1
		children = append(children, install(t, table, p))
	}
	if out, several := table.OutboundSole(0, 1, f); several || out != children[2].Outbound() {
		t.Errorf("with one that stands by: %v, %v", out, several)
	}
	table.Activate(2)
	if out, several := table.OutboundSole(0, 1, f); !several || out != nil {
		t.Errorf("with two: %v, %v", out, several)
	}
	if _, several := table.OutboundSole(0, 1, testFlow("10.1.0.1", "10.9.0.1")); several {
		t.Error("selectors that do not cover the packet count")
	}
	for client, want := range map[uint64]*Outbound{7: children[2].Outbound(), 8: children[1].Outbound(), 9: nil} {
		if got := table.OutboundOf(0, 1, client, f); got != want {
			t.Errorf("client %d: %v", client, got)
		}
	}
	table.Retire(3)
	if got := table.OutboundOf(0, 1, 7, f); got != children[0].Outbound() {
		t.Error("after the newest has retired")
	}
	table.Remove(1)
	if got := table.OutboundOf(0, 1, 7, f); got != nil || !table.HasClient(7) {
		t.Errorf("with a retired one alone: %v", got)
	}
	table.Remove(3)
	if table.HasClient(7) || !table.HasClient(8) || table.HasClient(0) {
		t.Error("who is there")
	}
	if out, several := table.OutboundSole(0, 1, f); several || out != children[1].Outbound() {
		t.Errorf("alone again: %v, %v", out, several)
	}
}

func TestMove(t *testing.T) {
	table := NewTable(4, 3)
	c := install(t, table, params(t, table, 1))
	before := c.Endpoint()
	local, remote := netip.MustParseAddrPort("192.0.2.9:500"), netip.MustParseAddrPort("198.51.100.1:1024")
	if !table.Move(1, local, remote, false) || table.Move(2, local, remote, false) {
		t.Fatal("Move")
	}
	if got := c.Endpoint(); *got != (Endpoint{local, remote, false}) || before.Remote == remote {
		t.Fatal(got)
	}
}

func outs(active []sealer) (list []*Outbound) {
	for _, s := range active {
		list = append(list, s.out)
	}
	return list
}

// The policy index against a map, through growth and removal.
func TestPolicyIndexAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var x policyIndex
	x.init()
	oracle := map[uint32][]*Outbound{}
	serial := uint64(0)
	for range 30000 {
		policy := rng.Uint32N(3000)
		if rng.IntN(2) == 0 {
			policy *= 0x01000193
		}
		if list := oracle[policy]; len(list) > 0 && rng.IntN(3) == 0 {
			i := rng.IntN(len(list))
			x.remove(policy, list[i])
			oracle[policy] = slices.Delete(slices.Clone(list), i, i+1)
		} else {
			serial++
			o := &Outbound{child: &Child{serial: serial}}
			x.add(policy, o)
			oracle[policy] = append([]*Outbound{o}, list...)
		}
		if !slices.Equal(outs(x.find(policy, 0)), oracle[policy]) {
			t.Fatal("differs after a change")
		}
	}
	entries := 0
	for policy, want := range oracle {
		if !slices.Equal(outs(x.find(policy, 0)), want) {
			t.Fatal("differs in the end")
		}
		if len(want) > 0 {
			entries++
		}
	}
	if x.entries != entries {
		t.Fatalf("%d entries, want %d", x.entries, entries)
	}
}

func TestKeysAreWipedWhenNobodyHoldsThem(t *testing.T) {
	table := NewTable(8, 3)
	busy, other := table.Worker(), table.Worker()
	p := params(t, table, 1)
	c := install(t, table, p)
	busy.Enter()
	o := table.Outbound(1, testFlow("10.1.0.1", "10.2.0.1"))
	table.Remove(1)
	if wiped(p.In.EncKey) || table.Unwiped() != 1 {
		t.Fatal("wiped in a worker's hands")
	}
	o.Transform().Seal(make([]byte, 256), 64, 64, 1, 4)
	// A batch that began after the removal cannot hold the SA and wipes nothing of others.
	other.Enter()
	other.Leave()
	if wiped(p.In.EncKey) {
		t.Fatal("wiped by another worker's end")
	}
	if rows := c.Rows(start, true); len(rows[0].EncKey) == 0 {
		t.Fatal("keys are not there to print")
	}
	busy.Leave()
	if !wiped(p.In.EncKey) || !wiped(p.Out.EncKey) || table.Unwiped() != 0 {
		t.Fatal("not wiped after the worker's end")
	}
	if rows := c.Rows(start, true); rows[0].EncKey != nil || rows[0].SPI != p.In.SPI {
		t.Fatal("wiped keys are printed")
	}
	// Nobody in a batch: at once.
	p = params(t, table, 2)
	install(t, table, p)
	other.Enter()
	other.Close()
	table.Remove(2)
	if !wiped(p.In.EncKey) {
		t.Fatal("not wiped at once")
	}
}

// Workers look up, seal and open while SAs come and go: what they hold always works.
func TestInstallsBesideWorkers(t *testing.T) {
	table := NewTable(64, 3)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	sealed := make([]int, 3)
	for i := range sealed {
		w := table.Worker()
		wg.Go(func() {
			defer w.Close()
			f := testFlow("10.1.0.1", "10.2.0.1")
			buf := make([]byte, 256)
			for {
				select {
				case <-stop:
					return
				default:
				}
				w.Enter()
				if o := table.OutboundOn(i, 1, f); o != nil {
					seq, ok := o.Reserve(1)
					in := table.Inbound(o.Child().Inbound().SPI())
					if ok && in != nil {
						// Both halves have one key and SPI here, so that a packet can be opened.
						from, to := o.Transform().Seal(buf, 64, 64, seq, 4)
						if _, _, _, err := in.Transform().Open(buf[from:to], seq); err != nil {
							t.Error(err)
						}
						sealed[i]++
					}
				}
				w.Leave()
			}
		})
	}
	for id := range uint64(3000) {
		p := params(t, table, id)
		p.Line = int(id%4) - 1 // lines come and go as well
		p.Out = p.In
		p.Out.EncKey = p.In.EncKey.Clone()
		install(t, table, p)
		if id >= 8 {
			table.Retire(id - 4)
			table.Remove(id - 8)
		}
	}
	close(stop)
	wg.Wait()
	table.Close()
	if table.Unwiped() != 0 {
		t.Fatalf("%d SAs keep their keys", table.Unwiped())
	}
	if sealed[0]+sealed[1]+sealed[2] == 0 {
		t.Fatal("nothing was sealed")
	}
}
