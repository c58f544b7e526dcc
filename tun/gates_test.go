package tun

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// question is a packet as rules see it. from is not valid where the source is not chosen yet.
type question struct {
	from, to     netip.Addr
	own          bool
	proto        uint8
	sport, dport uint16
}

// matches is the kernel's match of one rule, without its mark.
func (r rule) matches(q question) bool {
	from := q.from
	if !from.IsValid() && !r.v6 {
		from = netip.IPv4Unspecified()
	}
	return (!r.from.IsValid() || from.IsValid() && r.from.Contains(from)) && (!r.to.IsValid() || r.to.Contains(q.to)) && (!r.own || q.own) &&
		(r.proto == 0 || r.proto == q.proto) && (r.sport == 0 || r.sport == q.sport) && (r.dport == 0 || r.dport == q.dport)
}

// decide walks the rules of one family as the kernel does: what the first that matches
// does, and how many were asked. A gate whose target is not there is passed over.
func decide(rules []placed, q question) (act action, asked int) {
	for i := 0; i < len(rules); {
		r := rules[i]
		asked++
		i++
		switch {
		case r.act == gate:
			if at, there := place(rules, r.past); !r.matches(q) && (there || r.past == testEnd) {
				i = at
			}
		case r.matches(q):
			return r.act, asked
		}
	}
	return toEnd, asked
}

// place is where the first rule stands whose preference is at least pref.
func place(rules []placed, pref int) (int, bool) {
	return slices.BinarySearchFunc(rules, pref, func(p placed, pref int) int { return cmp.Compare(p.pref, pref) })
}

const (
	testFirst = 10_000
	testEnd   = testFirst + PrefSpan
)

// placedOf are the rules of one family of a plan with their places, without head and tail, and in the order of the policies.
func placedOf(t *testing.T, p Plan, own []netip.Addr, current []placed, v6 bool) (rules []placed, order []placed) {
	t.Helper()
	w, err := compile(p, 7, own, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.head, w.tail = nil, nil
	all, err := w.places(current, testFirst)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.v6 == v6 {
			rules = append(rules, r)
		}
	}
	for i, r := range w.body {
		if r.v6 == v6 {
			order = append(order, placed{rule: r, pref: i})
		}
	}
	return rules, order
}

func randomAddr(rng *rand.Rand, v6 bool) netip.Addr {
	if v6 {
		a := netip.MustParseAddr("2001:db8::").As16()
		a[5], a[7], a[15] = byte(rng.IntN(3)), byte(rng.IntN(200)), byte(rng.IntN(4))
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, byte(rng.IntN(3)), byte(rng.IntN(200)), byte(rng.IntN(4))})
}

func randomNet(rng *rand.Rand, v6 bool) netip.Prefix {
	lengths := []int{32, 32, 31, 24, 24, 16, 8, 0}
	if v6 {
		lengths = []int{128, 128, 127, 64, 64, 48, 32, 0}
	}
	return netip.PrefixFrom(randomAddr(rng, v6), lengths[rng.IntN(len(lengths))]).Masked()
}

func randomPlan(rng *rand.Rand, n int, v6, passes bool) Plan {
	var p Plan
	for range n {
		r := Route{Local: randomNet(rng, v6), Remote: randomNet(rng, v6)}
		if !passes && r.aroundLocal() {
			continue // it passes as well
		}
		if passes {
			r.Pass = rng.IntN(6) == 0
			if rng.IntN(5) == 0 {
				r.Proto, r.RemotePort = 17, uint16(rng.IntN(3))
			}
		}
		p.Routes = append(p.Routes, r)
	}
	return p
}

func randomQuestion(rng *rand.Rand, v6 bool) question {
	q := question{from: randomAddr(rng, v6), to: randomAddr(rng, v6), own: rng.IntN(3) == 0, proto: []uint8{6, 17}[rng.IntN(2)], sport: 9, dport: uint16(rng.IntN(4))}
	if q.own && rng.IntN(2) == 0 {
		q.from = netip.Addr{}
	}
	return q
}

// Gates and sorting change no decision, whatever the policies are and however they change.
func TestGatesDecideNothing(t *testing.T) {
	gated := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		v6 := seed%2 == 1
		own := []netip.Addr{randomAddr(rng, v6), randomAddr(rng, v6)}
		p := randomPlan(rng, 20+rng.IntN(600), v6, seed%3 > 0)
		var rules []placed
		for range 4 {
			var order []placed
			rules, order = placedOf(t, p, own, rules, v6)
			if !slices.IsSortedFunc(rules, func(a, b placed) int { return a.pref - b.pref }) {
				t.Fatalf("seed %d: not in order", seed)
			}
			if slices.ContainsFunc(rules, func(r placed) bool { return r.act == gate }) {
				gated++
			}
			for range 400 {
				q := randomQuestion(rng, v6)
				got, _ := decide(rules, q)
				if want, _ := decide(order, q); got != want {
					t.Fatalf("seed %d: %+v: %d, want %d", seed, q, got, want)
				}
			}
			// Some policies go, others come.
			p.Routes = append(p.Routes[:rng.IntN(len(p.Routes))+1:len(p.Routes)], randomPlan(rng, rng.IntN(60), v6, seed%3 > 0).Routes...)
		}
	}
	if gated < 40 {
		t.Errorf("only %d lists had gates", gated)
	}
}

// While one list of rules becomes another, what both protect is protected at every step.
func TestGatesDuringAChange(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := randomPlan(rng, 100+rng.IntN(200), false, false)
		old, _ := placedOf(t, p, nil, nil, false)
		rng.Shuffle(len(p.Routes), func(i, j int) { p.Routes[i], p.Routes[j] = p.Routes[j], p.Routes[i] })
		p.Routes = append(p.Routes[rng.IntN(80):], randomPlan(rng, rng.IntN(300), false, false).Routes...)
		current := old
		if rng.IntN(2) == 0 {
			current = nil // all rules get new places
		}
		next, _ := placedOf(t, p, nil, current, false)
		var questions []question
		for range 60 {
			q := randomQuestion(rng, false)
			before, _ := decide(old, q)
			if after, _ := decide(next, q); before == toTable && after == toTable {
				questions = append(questions, q)
			}
		}
		now := slices.Clone(old)
		step := func(p placed, comes bool) {
			i, _ := place(now, p.pref)
			if comes {
				now = slices.Insert(now, i, p)
			} else {
				now = slices.DeleteFunc(now, func(x placed) bool { return x == p })
			}
			for _, q := range questions {
				if got, _ := decide(now, q); got != toTable {
					t.Fatalf("seed %d: %+v is led past the device when %v comes (%v) or goes", seed, q, p, comes)
				}
			}
		}
		gone, added, gates := gateSteps(old, next)
		for _, g := range gone {
			step(g, false)
		}
		for _, r := range added {
			step(r, true)
		}
		keep := set(next)
		for _, r := range old {
			if !keep[r] && r.act != gate {
				step(r, false)
			}
		}
		for _, g := range gates {
			step(g, true)
		}
		if !slices.Equal(now, next) {
			t.Fatalf("seed %d: %d rules at the end, want %d", seed, len(now), len(next))
		}
	}
}

// Of ten thousand pairs of hosts, in any order, a packet meets few rules: both what a
// policy protects and what none knows.
func TestTenThousandPolicies(t *testing.T) {
	t.Parallel()
	const n = 10_000
	pair := func(i int) (a, b netip.Addr) {
		return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
	}
	var p Plan
	for _, i := range rand.New(rand.NewPCG(1, 3)).Perm(n) {
		a, b := pair(i)
		p.Routes = append(p.Routes, Route{Local: netip.PrefixFrom(a, 32), Remote: netip.PrefixFrom(b, 32)})
	}
	rules, _ := placedOf(t, p, nil, nil, false)
	most := 0
	for i := range n {
		a, b := pair(i)
		for q, want := range map[question]action{{from: a, to: b}: toTable, {from: b, to: a}: toEnd, {to: a, own: true}: toEnd} {
			got, asked := decide(rules, q)
			if got != want {
				t.Fatalf("%+v: %d, want %d", q, got, want)
			}
			most = max(most, asked)
		}
	}
	if most > 100 {
		t.Errorf("a packet meets %d rules", most)
	}
	// One more policy touches the gates around it alone.
	p.Routes = append(p.Routes, Route{Local: pfx("10.1.20.7/32"), Remote: pfx("10.2.200.1/32")})
	more, _ := placedOf(t, p, nil, rules, false)
	gone, added, gates := gateSteps(rules, more)
	if len(added) != 1 || len(gone) > 16 || len(gates) > 16 {
		t.Errorf("one policy more: %d gates go, %d rules come, %d gates come", len(gone), len(added), len(gates))
	}
}

// From how many rules on there are gates, how many a block has, and where gates lead.
func TestGatesWhereTheyPay(t *testing.T) {
	list := func(n int) (rules []rule) {
		for i := range n {
			rules = append(rules, numberedRule(i))
		}
		return rules
	}
	count := func(rules []rule) (gates, most int) {
		l := gated(rules)
		row := 0
		for i, r := range l.rules {
			if row++; r.act == gate {
				gates++
				row = 0
			}
			most = max(most, row)
			if (l.stops[i] != 0) != (r.act == gate) {
				t.Fatalf("rule %d of %d stops at %d", i, len(l.rules), l.stops[i])
			}
		}
		return gates, most
	}
	for _, c := range []struct{ n, gates, most int }{
		{worthGate - 1, 0, worthGate - 1}, {worthGate, 1, worthGate}, {2 * worthGate, 2, 2 * worthGate}, {64, 1 + 2, 32}, {256, 1 + 2 + 4 + 8, 32},
	} {
		if gates, most := count(list(c.n)); gates != c.gates || most > c.most {
			t.Errorf("%d rules: %d gates, %d rules in a row, want %d and at most %d", c.n, gates, most, c.gates, c.most)
		}
	}
	// Around rules for everything no gate stands, and between different actions neither.
	var open, alternate []rule
	for i, r := range list(64) {
		open = append(open, rule{dport: uint16(i)})
		r.act = []action{toTable, toEnd}[i%2]
		alternate = append(alternate, r)
	}
	for name, rules := range map[string][]rule{"rules for everything": open, "rules that alternate": alternate} {
		if gates, _ := count(rules); gates > 0 {
			t.Errorf("%s: %d gates", name, gates)
		}
	}

	all := list(manyRules)
	few, err := placeFamily(all[1:], nil, false, 100, 20_000)
	if err != nil || len(few) != manyRules-1 {
		t.Error(len(few), err)
	}
	many, err := placeFamily(all, nil, false, 100, 20_000)
	if err != nil || len(many) != manyRules+3 {
		t.Fatal(len(many), err)
	}
	second := 1 + 1 + 32
	if many[0].past != 20_000 || many[1].past != many[second].pref || many[second].past != 20_000 {
		t.Errorf("gates lead to %d, %d and %d", many[0].past, many[1].past, many[second].past)
	}
	// Where there is room for the rules alone, they do without gates.
	if tight, err := placeFamily(all, nil, false, 100, 100+manyRules); err != nil || len(tight) != manyRules {
		t.Error(len(tight), err)
	}
	if _, err := placeFamily(all, nil, false, 100, 99+manyRules); !errors.Is(err, ErrTooManyRules) {
		t.Error("no room:", err)
	}
}

func TestCover(t *testing.T) {
	for _, c := range [][3]string{
		{"10.1.0.0/24", "10.1.1.0/24", "10.1.0.0/23"}, {"10.1.0.7/32", "10.1.0.7/32", "10.1.0.7/32"}, {"10.1.0.0/16", "10.1.3.0/24", "10.1.0.0/16"},
		{"10.1.3.0/24", "10.1.0.0/16", "10.1.0.0/16"}, {"10.0.0.0/8", "192.0.2.0/24", ""}, {"", "10.0.0.0/8", ""}, {"10.0.0.0/8", "", ""},
		{"2001:db8:1::/64", "2001:db8:1:1::/64", "2001:db8:1::/63"}, {"0.0.0.0/32", "10.1.0.0/16", "0.0.0.0/4"},
	} {
		if got := cover(pfx(c[0]), pfx(c[1])); got != pfx(c[2]) {
			t.Errorf("%s and %s: %v, want %s", c[0], c[1], got, c[2])
		}
	}
}

// What the host itself sends by IPv6 from either of two networks that have policies to one remote network.
func TestTwoNetworksToOne(t *testing.T) {
	a, b, other, far := netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:2::1"), netip.MustParseAddr("2001:db8:9::1"), netip.MustParseAddr("2001:db8:5::5")
	p := Plan{Routes: []Route{{Local: pfx("2001:db8:1::/64"), Remote: pfx("2001:db8:5::/64")}, {Local: pfx("2001:db8:2::/64"), Remote: pfx("2001:db8:5::/64")}}}
	rules, _ := placedOf(t, p, []netip.Addr{a, b, other}, nil, true)
	for from, want := range map[netip.Addr]action{a: toTable, b: toTable, other: toEnd, {}: toTable} {
		if got, _ := decide(rules, question{from: from, to: far, own: true}); got != want {
			t.Errorf("from %v: %d, want %d", from, got, want)
		}
	}
}
