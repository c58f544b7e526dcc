package sa

import (
	"fmt"
	"time"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Where the data path has several lines, each may have CHILD SAs for itself, so that no two lines share sequence numbers
// and counters (RFC 9611). The first CHILD SA is for all lines. Others for the same traffic are made beside it:
//
//	a line is busy for a second ─► its wish ─► CREATE_CHILD_SA, N(SA_RESOURCE_INFO) ─► it is for that line here, and
//	                                           at the peer for a line that wishes one, else for the lowest that has none
//
// They are made for lines that are busy, and not as soon as the first is up, because most policies of a gateway with
// thousands of tunnels need no second line. The numbers of one end's lines mean nothing to the other, so one
// CHILD SA serves a line of each. A line that has none uses the one for all, so none of them is ever
// missed: a refusal ends the wish alone, and whatever takes over from an IKE SA begins without them.
//
// Both ends may make them. If both do so at once, the one that began the IKE SA refuses the peer's request (Admit). Who
// finds at the end of its own that none of its lines wishes another one any more gives it back.

// MaxLines is how many CHILD SAs for single lines there may be beside one.
const MaxLines = 64

// lines is what an IKE SA knows of a policy. Its successor begins anew.
type lines struct {
	wished   [MaxLines + 1]bool      // by line: one is being made, or waits to be
	told     [MaxLines + 1]time.Time // when the line was last busy
	failures int                     // in a row
	until    time.Time               // nothing is tried before
	enough   bool                    // the peer makes no more of them
}

const (
	// busyWithin is within what time a line has to be busy again. It is told of each second.
	busyWithin = 3 * time.Second
	// lineBrief is how long one that we made lives at least, unless the peer does not want it.
	lineBrief = time.Minute
)

// lining is the part of an IKE SA that sees to them.
type lining struct{ sa *SA }

// of is what is known of a policy.
func (l lining) of(p *core.Policy) *lines {
	if x := l.sa.lines[p.Ref]; x != nil {
		return x
	}
	return &lines{}
}

// keep has it remembered until the policy's last CHILD SA is gone.
func (l lining) keep(p *core.Policy, x *lines) {
	if l.sa.lines == nil {
		l.sa.lines = map[core.PolicyRef]*lines{}
	}
	l.sa.lines[p.Ref] = x
}

// ours is how many lines can have CHILD SAs for themselves: from 1 to it.
func (l lining) ours() int { return min(l.sa.Host.Config().Lines-1, MaxLines) }

// lineText says for people which line a CHILD SA is for.
func lineText(line int) string {
	switch line {
	case 0:
		return ""
	case core.NoLine:
		return ", for a line of the peer alone"
	}
	return fmt.Sprintf(", for line %d", line)
}

// HasLines reports whether a policy has a CHILD SA for one line.
func HasLines(sa *SA, p *core.Policy) bool {
	for _, c := range sa.Children {
		if c.Policy.Ref == p.Ref && c.Line != 0 && c.Live() {
			return true
		}
	}
	return false
}

// SharedBy finds the CHILD SA for all lines that carries the same traffic; nil: there is none.
func SharedBy(sa *SA, p *core.Policy, pairs []selector.Pair) *Child {
	for _, c := range sa.Children {
		if c.Line == 0 && c.Live() && c.carries(p, pairs) {
			return c
		}
	}
	return nil
}

// carries reports whether it is for the very traffic of some selectors. What the policy does not cover makes no difference:
// some peers agree to more than a client asks for.
func (c *Child) carries(p *core.Policy, pairs []selector.Pair) bool {
	within := func(pairs []selector.Pair) (list []selector.Pair) {
		for _, q := range pairs {
			local, remote, _ := p.Narrow([]selector.TS{q.Local}, []selector.TS{q.Remote})
			list = append(list, selector.Pairs(local, remote)...)
		}
		return list
	}
	return c.Policy.Ref == p.Ref && covered(within(c.Pairs), pairs) && covered(within(pairs), c.Pairs)
}

// beside are those for single lines that carry the traffic of c: how many there are, and the lines here that have one.
func (l lining) beside(c *Child) (n int, taken [MaxLines + 1]bool) {
	for _, d := range l.sa.Children {
		if d.Line != 0 && d.Serving() && d.carries(c.Policy, c.Pairs) {
			if n++; d.Line > 0 && d.Line <= MaxLines {
				taken[d.Line] = true
			}
		}
	}
	return n, taken
}

// Busy says that packets of a line leave by c.
func (c *Child) Busy(line int) {
	sa := c.SA
	l := lining{sa: sa}
	p, able := sa.Protocol.(Liner)
	if !able || !c.Shared || c.Line != 0 || !c.Serving() || sa.State != Established || sa.Leaving || line < 1 || line > l.ours() {
		return
	}
	x, now := l.of(c.Policy), sa.Env.Now()
	if _, taken := l.beside(c); taken[line] || x.wished[line] || x.enough || now.Before(x.until) {
		return
	}
	l.keep(c.Policy, x)
	last := x.told[line]
	if x.told[line] = now; last.IsZero() || now.Sub(last) > busyWithin {
		return
	}
	x.wished[line] = true
	p.MakeLine(c, line)
}

// Wishes reports whether a line still wishes a CHILD SA beside c, and forgets the wish if not.
func (c *Child) Wishes(line int) bool {
	sa := c.SA
	x := lining{sa: sa}.of(c.Policy)
	x.wished[line] = x.wished[line] && sa.State == Established && !x.enough && !sa.Env.Now().Before(x.until) && SharedBy(sa, c.Policy, c.Pairs) != nil
	return x.wished[line]
}

// Admit refuses the peer another CHILD SA beside c: there are too many, or one of ours is under way (making) and comes first.
// The error is a *Refusal.
func (c *Child) Admit(making bool) error {
	n, _ := lining{sa: c.SA}.beside(c)
	switch {
	case n >= MaxLines:
		return Refuse(NoMoreLines, "the peer has %d CHILD SAs for single lines beside the first one of the policy %v", n, c.Policy.Pair)
	case making && c.SA.Birth.Mine:
		return Refuse(NotNow, "both ends make a CHILD SA for a line at once, and ours comes first, because we began the IKE SA")
	}
	return nil
}

// LineFor is the line that a new CHILD SA beside c is for: the one that is named, else another that wishes one, else, where
// the peer made it, any that has none. NoLine: it is for none.
func (c *Child) LineFor(line int, mine bool) int {
	l := lining{sa: c.SA}
	x := l.of(c.Policy)
	_, taken := l.beside(c)
	fits := func(line int, wish bool) bool {
		return line > 0 && line <= l.ours() && !taken[line] && (!wish || x.wished[line])
	}
	if fits(line, mine) {
		return line
	}
	for _, wish := range []bool{true, mine} {
		for line := 1; line <= l.ours(); line++ {
			if fits(line, wish) {
				return line
			}
		}
	}
	return core.NoLine
}

// LineMade is for the protocol: c, which is for one line, is there. mine: we made it. If no line wishes it any more,
// because the peer has made one meanwhile, it is given back.
func (c *Child) LineMade(mine bool) {
	if c.Line > 0 {
		lining{sa: c.SA}.of(c.Policy).wished[c.Line] = false
	} else if mine {
		c.Delete("each line that is busy has a CHILD SA by now")
	}
}

// LineFailed is for the protocol: no CHILD SA was made for a line beside c. Its packets go on by the one for all lines.
func (c *Child) LineFailed(line int, why Cause, reason string) {
	sa := c.SA
	x := lining{sa: sa}.of(c.Policy)
	x.wished[line] = false
	switch why {
	case NotNow:
		x.until = sa.Env.Now().Add(TwinDelay + sa.Env.Jitter(TwinDelay))
		return
	case NoMoreLines, TooMany:
		x.enough = true
	default:
		x.hold(sa.Env)
		x.enough = x.failures >= patience
	}
	sa.Emit(core.Event{Kind: core.EvNotify, Policy: c.Policy.Ref, Reason: fmt.Sprintf("line %d of the policy %v gets no CHILD SA of its own, and goes on by the one for all lines: %s",
		line, c.Policy.Pair, reason)})
}

// hold puts the next attempt off, longer after each failure.
func (x *lines) hold(env *core.Env) {
	x.until = env.Now().Add(core.RetryWait(x.failures))
	x.failures++
}

// gone is told of each CHILD SA that ends. A peer that deletes what we make as soon as it has it is not asked again at once.
func (l lining) gone(c *Child) {
	if !l.sa.Has(c.Policy.Ref) {
		delete(l.sa.lines, c.Policy.Ref)
	}
	if c.Line == 0 || !c.Birth.Mine || c.Closing || c.replaced || c.After != nil {
		return
	}
	x := l.of(c.Policy)
	if l.sa.Env.Now().Sub(c.Birth.Up) < lineBrief {
		x.hold(l.sa.Env)
		return
	}
	x.failures = 0
}
