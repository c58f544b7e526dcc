package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/simnet/sweep"
)

// lined is the model of a data path with several lines: which CHILD SA seals for which.
type lined struct {
	*side
	n      int
	silent map[int]bool // lines that have no packets
}

// outboundOn is what sad.Table.OutboundOn finds.
func (l *lined) outboundOn(line int) (best *child) {
	rank := func(k *child) int {
		switch k.Line {
		case line:
			return 2
		case 0:
			return 1
		}
		return 0
	}
	for _, id := range l.order {
		if k := l.children[id]; k.active && !k.retired && (best == nil || rank(k) >= rank(best)) {
			best = k
		}
	}
	return best
}

// step sends a packet of each line; once in a second the daemon is told which lines share a CHILD SA.
func (l *lined) step(t *testing.T, tell bool) {
	t.Helper()
	for line := range l.n {
		if l.silent[line] {
			continue
		}
		k := l.outboundOn(line)
		if k == nil {
			t.Fatalf("%v: line %d of %s has no SA to seal with", l.clock.Now().Sub(epoch), line, l.name)
		}
		l.sealWith(k)
		if tell && line > 0 && k.Line != line {
			l.in(core.Busy{Child: k.Child, Line: line})
		}
	}
}

// ownLines counts the lines that have a CHILD SA for themselves.
func (l *lined) ownLines() (n int) {
	for line := 1; line < l.n; line++ {
		if k := l.outboundOn(line); k != nil && k.Line == line {
			n++
		}
	}
	return n
}

// linedPair are two ends of our kind, with so many lines each.
func linedPair(t *testing.T, seed uint64, link simnet.Link, la, lb int, change ...func(a, b *core.Config)) (*pair, [2]*lined) {
	p := newPair(t, seed, link, append(change, func(a, b *core.Config) {
		a.Lines, b.Lines = la, lb
		a.Encapsulation, b.Encapsulation = core.EncapDetect, core.EncapDetect
	})...)
	p.log = testing.Verbose()
	return p, [2]*lined{{side: p.a, n: la}, {side: p.b, n: lb}}
}

// drive sends packets of all lines for a while, four times in a second.
func drive(t *testing.T, p *pair, ends [2]*lined, d time.Duration) {
	t.Helper()
	for i := range int(d / (250 * time.Millisecond)) {
		p.run(250 * time.Millisecond)
		for k, l := range ends {
			l.step(t, i%4 == k) // not at the same time
		}
	}
}

// check looks at what is left after things have settled: one IKE SA, one CHILD SA for all lines, and one for each
// line of the end that has more of them. Nothing that arrived could not be opened.
func checkLines(t *testing.T, p *pair, ends [2]*lined, more int) {
	t.Helper()
	for _, l := range ends {
		if l.established() != 1 || l.ownLines() != l.n-1 || len(l.children) != 1+more {
			t.Errorf("%s has %d IKE SAs, %d CHILD SAs, and %d of %d lines have one for themselves: %v", l.name, l.established(), len(l.children), l.ownLines(), l.n-1, l.e.SAs())
			for _, id := range l.order {
				t.Logf("%s: CHILD SA %d for line %d, retired %v", l.name, id, l.children[id].Line, l.children[id].retired)
			}
		}
		if len(l.lost) > 0 {
			t.Errorf("%s could not open %d packets, e.g. %s", l.name, len(l.lost), l.lost[0])
		}
		if n := l.count(core.EvPeerDead); n > 0 {
			t.Errorf("%s took the peer for dead %d times", l.name, n)
		}
	}
}

// Two ends of our kind with several lines each: both make CHILD SAs for busy lines, on a network that loses,
// doubles and reorders, and there are never more than the end with more lines needs.
func TestLinesOfBothEnds(t *testing.T) {
	sweep.Run(t, 24, func(t *testing.T, seed uint64) sweep.Tally {
		la, lb := 1+int(seed%4), 1+int(seed/4%4)
		p, ends := linedPair(t, seed, badLink, la, lb)
		p.askDelay = time.Duration(seed%3) * 20 * time.Millisecond
		p.up()
		p.until(5*time.Minute, "both ends up", p.bothUp)
		p.run(time.Minute)
		most := 0
		for range 180 {
			drive(t, p, ends, time.Second)
			most = max(most, len(p.a.children), len(p.b.children))
		}
		p.run(30 * time.Second)
		checkLines(t, p, ends, max(la, lb)-1)
		if limit := max(la, lb) + 3; most > limit { // with one that is given back, and one that lingers
			t.Errorf("%d CHILD SAs at a time, want %d at most", most, limit)
		}
		tally := sweep.Tally{"CHILD SAs up": p.a.count(core.EvChildUp), "given back": p.a.count(core.EvChildDown) + p.b.count(core.EvChildDown)}
		if p.a.count(core.EvNotify)+p.b.count(core.EvNotify) > 0 {
			t.Error("an end says that a line gets none")
		}
		return tally
	})
}

// With encapsulation = "udp" and "raw", too, ends with several lines know each other. One with a single line is known by what it
// says with "detect" alone.
func TestLinesWithEachEncapsulation(t *testing.T) {
	for _, c := range []struct {
		a, b core.Encapsulation
		lb   int
		want int
	}{
		{core.EncapUDP, core.EncapUDP, 2, 2}, {core.EncapRaw, core.EncapRaw, 3, 2}, {core.EncapUDP, core.EncapDetect, 1, 2},
		{core.EncapDetect, core.EncapRaw, 2, 2}, {core.EncapDetect, core.EncapDetect, 1, 2}, {core.EncapUDP, core.EncapUDP, 1, 0},
	} {
		p, ends := linedPair(t, 6, goodLink, 3, c.lb, passive)
		p.a.cfg.Encapsulation, p.b.cfg.Encapsulation = c.a, c.b
		p.up()
		p.until(time.Minute, "both ends up", p.bothUpOrStandby)
		drive(t, p, ends, time.Minute)
		if got := ends[0].ownLines(); got != c.want {
			t.Errorf("%v: %d lines have CHILD SAs for themselves", c, got)
		}
	}
}

// Only lines that are busy get one: nobody has traffic on the others.
func TestLinesThatAreNotBusyGetNone(t *testing.T) {
	p, ends := linedPair(t, 5, goodLink, 4, 4, passive)
	ends[0].silent = map[int]bool{1: true, 3: true}
	ends[1].silent = map[int]bool{1: true, 2: true, 3: true}
	p.up()
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
	drive(t, p, ends, time.Minute)
	if n := len(p.a.children); n != 2 || ends[0].outboundOn(2).Line != 2 {
		t.Errorf("%d CHILD SAs, and line 2 has the one of line %d", n, ends[0].outboundOn(2).Line)
	}
	// What a made for its line 2 serves a line of b: the one that is busy, and not line 1.
	p.b.in(core.Command{Do: core.FlushSAs})
	p.run(10 * time.Second)
	ends[1].silent = map[int]bool{1: true, 2: true}
	drive(t, p, ends, 30*time.Second)
	if k := ends[1].outboundOn(3); k.Line != 3 && k.Line != 1 {
		t.Errorf("line 3 of b shares one")
	}
	if n := len(p.a.children); n > 3 {
		t.Errorf("%d CHILD SAs", n)
	}
}

// CHILD SAs for lines are rekeyed like others, by both ends, on a network that loses messages; the IKE SA too.
func TestLinesAreRekeyedOnABadNetwork(t *testing.T) {
	sweep.Run(t, 12, func(t *testing.T, seed uint64) sweep.Tally {
		p, ends := linedPair(t, seed, badLink, 3, 3, short, func(a, b *core.Config) {
			if seed%2 == 1 {
				pfs("x25519")(a)
				pfs("x25519")(b)
			}
		})
		p.askDelay = 50 * time.Millisecond
		p.up()
		p.until(5*time.Minute, "both ends up", p.bothUp)
		p.run(time.Minute)
		drive(t, p, ends, time.Hour)
		for range 300 { // until no rekey is under way
			drive(t, p, ends, time.Second)
			if len(p.a.children) == 3 && len(p.b.children) == 3 && ends[0].ownLines() == 2 && ends[1].ownLines() == 2 {
				break
			}
		}
		checkLines(t, p, ends, 2)
		if n := p.a.count(core.EvChildRekeyed); n < 30 {
			t.Errorf("%d rekeys", n)
		}
		if n := p.a.count(core.EvChildUp) - p.a.count(core.EvChildRekeyed); n > 40 {
			t.Errorf("%d CHILD SAs were made that replace none", n)
		}
		return sweep.Tally{"rekeys": p.a.count(core.EvChildRekeyed), "of the IKE SA": p.a.count(core.EvIKERekeyed), "CHILD SAs up": p.a.count(core.EvChildUp)}
	})
}

// What takes over from an IKE SA begins without them, and no packet is lost over it: a reauthentication, the end of one
// of two IKE SAs that were begun at once, and a peer that was restarted.
func TestLinesAndWhatTakesOver(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		do     func(p *pair)
	}{
		"reauthentication": {func(a, b *core.Config) {
			passive(a, b)
			a.Peers[0].Profile.Reauth = 10 * time.Minute
		}, func(*pair) {}},
		"the CHILD SAs are deleted": {passive, func(p *pair) { p.a.in(core.Command{Do: core.FlushSAs}) }},
		"both began at once":        {func(_, _ *core.Config) {}, func(*pair) {}},
		"the IKE SA is deleted":     {passive, func(p *pair) { p.a.in(core.Command{Do: core.KillAll}) }},
		"a session is resumed": {func(a, b *core.Config) {
			passive(a, b)
			a.Peers[0].Profile.Resumption, b.Peers[0].Profile.Resumption = true, true
		}, func(p *pair) {
			p.drop = func(*side, message.Header) bool { return true }
			p.a.in(core.Command{Do: core.RekeyChildren})
			p.until(2*time.Minute, "a gives up", func() bool { return p.a.count(core.EvPeerDead) > 0 })
			p.drop = nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, ends := linedPair(t, 11, simnet.Link{Loss: 0.05, Delay: 20 * time.Millisecond}, 3, 2, c.change)
			p.up()
			p.until(time.Minute, "both ends up", p.bothUp)
			p.run(time.Minute)
			drive(t, p, ends, time.Minute)
			checkLines(t, p, ends, 2)
			c.do(p)
			p.until(5*time.Minute, "both ends up", p.bothUp)
			p.run(10 * time.Second)
			if name == "a session is resumed" && !p.a.e.SAs()[0].Resumed {
				t.Error("the session was not resumed")
			}
			p.a.lost, p.b.lost = nil, nil
			for _, s := range []*side{p.a, p.b} {
				s.events = nil
			}
			drive(t, p, ends, 30*time.Minute)
			p.run(time.Minute)
			drive(t, p, ends, time.Minute)
			checkLines(t, p, ends, 2)
		})
	}
}

// A reload that changes how many lines there are changes no SA, and the new ones get theirs. Shutdown leaves nothing.
func TestLinesChangeByReload(t *testing.T) {
	p, ends := linedPair(t, 3, goodLink, 2, 1, passive)
	p.up()
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
	drive(t, p, ends, 20*time.Second)
	checkLines(t, p, ends, 1)
	more := *p.a.cfg
	more.Lines, ends[0].n = 4, 4
	p.a.in(core.Reconfigure{Config: &more})
	drive(t, p, ends, time.Minute)
	p.run(10 * time.Second)
	checkLines(t, p, ends, 3)
	if p.a.count(core.EvChildDown) > 0 {
		t.Error("a CHILD SA ended")
	}
	p.a.in(core.Command{Do: core.Shutdown})
	p.run(10 * time.Second)
	if len(p.a.children)+len(p.b.children)+len(p.a.e.children)+len(p.b.e.children) > 0 {
		t.Errorf("%d and %d CHILD SAs are left", len(p.a.children), len(p.b.children))
	}
}

// The peer is gone: dead peer detection ends all of it.
func TestLinesOfADeadPeer(t *testing.T) {
	p, ends := linedPair(t, 4, goodLink, 3, 3, passive)
	p.up()
	p.until(time.Minute, "both ends up", p.bothUpOrStandby)
	drive(t, p, ends, 20*time.Second)
	checkLines(t, p, ends, 2)
	p.b.dead = true
	p.run(10 * time.Minute)
	if len(p.a.children) > 0 || p.a.count(core.EvPeerDead) == 0 || p.a.count(core.EvChildDown) != 3 {
		t.Errorf("%d CHILD SAs are left, %d ended", len(p.a.children), p.a.count(core.EvChildDown))
	}
}
