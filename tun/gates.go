package tun

import (
	"math/bits"
	"net/netip"
	"slices"
)

// The kernel asks policy rules one by one, for every packet that it routes. With ten
// thousand policies that costs more than everything that the gateway does itself. So
// where a family has many rules, gates stand among them: rules that lead a packet past
// a block of rules none of which can match it.
//
//	not from D to C goto P    D and C cover the sources and destinations of the block; P is what stands behind it
//
// A gate changes nothing but the time: each rule of its block is inside (D, C). Blocks are
// the nodes of a binary trie of the destinations, and of the sources where the destinations are
// the same, so that a packet meets about two gates for each doubling of the policies. Which gates
// there are depends on the rules alone, and so a policy that comes or goes changes those around it.

const (
	// manyRules is from how many rules of a family on there are gates. Fewer stand in the
	// order of the policies, without anything between them, as people expect to read them.
	manyRules = 64
	// worthGate is how many rules a block has at least.
	worthGate = 20
)

// laidOut is the rules of one family in order, with gates.
type laidOut struct {
	rules []rule
	stops []int // of a gate: the index behind its block; 0: it is none
}

// gated lays out the rules of one family.
func gated(rules []rule) laidOut {
	var l laidOut
	for i := 0; i < len(rules); {
		end := i
		for end < len(rules) && sortable(rules[end]) {
			end++
		}
		if run, mixed, ok := sorted(rules[i:end]); ok {
			l.split(run, mixed, block{})
		} else {
			l.plain(rules[i:end])
		}
		if i = end; i < len(rules) {
			l.plain(rules[i : i+1])
			i++
		}
	}
	return l
}

// sortable reports whether a rule may stand in a run that is sorted: it leads to the
// device, or keeps one of the host's own addresses out of a rule that follows for the same destination.
func sortable(r rule) bool {
	return r.act == toTable || r.act == toEnd && r.v6 && r.own && r.from.IsValid()
}

// sorted is a run of rules in the order of their destinations. Of rules that all lead to the
// device it makes no difference which decides. If others are among them (mixed), the order
// of those for one destination stays, and it is ok only if no destination is inside another one.
func sorted(rules []rule) (run []rule, mixed, ok bool) {
	mixed = slices.ContainsFunc(rules, func(r rule) bool { return r.act != toTable })
	run = slices.Clone(rules)
	slices.SortStableFunc(run, func(a, b rule) int {
		n := comparePrefix(a.to, b.to)
		if n == 0 && !mixed {
			n = comparePrefix(a.from, b.from)
		}
		return n
	})
	for i := 1; mixed && i < len(run); i++ {
		if a, b := run[i-1].to, run[i].to; a != b && (!a.IsValid() || covers(a, b)) {
			return nil, mixed, false
		}
	}
	return run, mixed, true
}

func (l *laidOut) plain(rules []rule) {
	l.rules = append(l.rules, rules...)
	l.stops = append(l.stops, make([]int, len(rules))...)
}

// block is what the rules of a block cover.
type block struct{ from, to netip.Prefix }

// split lays out sorted rules: a gate in front of them where they are enough and cover less
// than around, then those for all of what they cover, then either half of the rest.
func (l *laidOut) split(rules []rule, mixed bool, around block) {
	if len(rules) < worthGate {
		l.plain(rules)
		return
	}
	b := block{rules[0].from, rules[0].to}
	for _, r := range rules[1:] {
		b.from, b.to = cover(b.from, r.from), cover(b.to, r.to)
	}
	if b != around {
		at := len(l.rules)
		l.plain([]rule{{v6: rules[0].v6, act: gate, from: b.from, to: b.to}})
		defer func() { l.stops[at] = len(l.rules) }()
	}
	whole, end := b.to, rule.destination
	if rules[0].to == rules[len(rules)-1].to { // of all
		whole, end = b.from, rule.source
		if mixed {
			l.plain(rules)
			return
		}
	}
	n := 0
	for n < len(rules) && end(rules[n]) == whole {
		n++
	}
	if n == len(rules) { // they differ in ports alone
		l.plain(rules)
		return
	}
	l.split(rules[:n], mixed, b)
	rest := rules[n:]
	half, _ := slices.BinarySearchFunc(rest, true, func(r rule, _ bool) int {
		if bitAt(end(r).Addr(), max(0, whole.Bits())) {
			return 1
		}
		return -1
	})
	l.split(rest[:half], mixed, b)
	l.split(rest[half:], mixed, b)
}

func (r rule) destination() netip.Prefix { return r.to }
func (r rule) source() netip.Prefix      { return r.from }

// bitAt is a bit of an address, of which the first is 0.
func bitAt(a netip.Addr, n int) bool { return a.AsSlice()[n/8]>>(7-n%8)&1 == 1 }

// cover is the smallest prefix around both; the zero Prefix stands for all addresses.
func cover(a, b netip.Prefix) netip.Prefix {
	if !a.IsValid() || !b.IsValid() {
		return netip.Prefix{}
	}
	x, y := a.Addr().AsSlice(), b.Addr().AsSlice()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			n += bits.LeadingZeros8(d)
			break
		}
		n += 8
	}
	return orNone(netip.PrefixFrom(a.Addr(), min(n, a.Bits(), b.Bits())).Masked())
}

// gateSteps says how one list of rules becomes the other: which gates go first, which
// rules are added then, from the end of the list on, and, when what is old has gone, which gates come last.
func gateSteps(from, to []placed) (old, added, gates []placed) {
	have, keep := set(from), set(to)
	for _, p := range from {
		if p.act == gate && !keep[p] {
			old = append(old, p)
		}
	}
	for _, p := range slices.Backward(to) {
		switch {
		case have[p]:
		case p.act == gate:
			gates = append(gates, p)
		default:
			added = append(added, p)
		}
	}
	return old, added, gates
}

func set(rules []placed) map[placed]bool {
	m := make(map[placed]bool, len(rules))
	for _, p := range rules {
		m[p] = true
	}
	return m
}
