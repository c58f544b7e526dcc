package spd

import (
	"slices"
	"testing"

	"culvert/internal/packet/wire"
)

// ranges is rules of one protocol whose ports are ranges at both ends, some of them of no port
// (OPAQUE), some of all.
func ranges(w world, n int) (rules []rule) {
	for i := range n {
		r := rule{index: int32(i), proto: 6, localHi: 65535, remoteHi: 65535, ranges: w.IntN(4) == 0}
		for _, end := range [][2]*uint16{{&r.localLo, &r.localHi}, {&r.remoteLo, &r.remoteHi}} {
			switch w.IntN(12) {
			case 0:
				*end[0], *end[1] = 65535, 0
			case 1:
			case 2:
				*end[0] = uint16(w.Uint32())
				*end[1] = *end[0]
			default:
				*end[0] = uint16(w.Uint32())
				*end[1] = uint16(min(65535, uint32(*end[0])+w.Uint32N(9000)))
			}
		}
		rules = append(rules, r)
	}
	return rules
}

// meets says whether the rule has ports of the box, and takesAll whether it has all of them.
func (r *rule) meets(in *box) bool {
	return max(r.localLo, in.localLo) <= min(r.localHi, in.localHi) && max(r.remoteLo, in.remoteLo) <= min(r.remoteHi, in.remoteHi) &&
		r.localLo <= r.localHi && r.remoteLo <= r.remoteHi
}

func (r *rule) takesAll(in *box) bool {
	return !r.ranges && max(r.localLo, in.localLo) == in.localLo && min(r.localHi, in.localHi) == in.localHi &&
		max(r.remoteLo, in.remoteLo) == in.remoteLo && min(r.remoteHi, in.remoteHi) == in.remoteHi
}

// Every leaf has exactly the rules of its ports, up to one that takes all of them; the leaves
// divide the ports between them, are short, and have together few rules more than there were.
func TestPortTrees(t *testing.T) {
	trees := 0
	for seed := range uint64(60) {
		w := newWorld(seed)
		rules := ranges(w, 1+w.IntN(300))
		if seed%3 == 0 { // the ports of one end alone tell them apart
			for i := range rules {
				if rules[i].localLo <= rules[i].localHi {
					rules[i].localLo, rules[i].localHi = 0, 65535
				}
			}
		}
		s := &snapshot{rules: slices.Clone(rules)}
		e := span{to: uint32(len(rules))}
		s.addTree(&e)
		if !e.tree {
			if e.from != 0 || int(e.to) != len(rules) || len(s.cuts) != 0 || len(s.rules) != len(rules) {
				t.Fatalf("seed %d: without a tree, something of one is left", seed)
			}
			continue
		}
		trees++
		if e.from != 0 || e.to != 1 || s.cuts[1] != (cut{to: uint32(len(rules))}) {
			t.Fatalf("seed %d: span %+v, what cannot be told by ports %+v", seed, e, s.cuts[1])
		}
		together := 0
		var walk func(at uint32, in box, depth int)
		walk = func(at uint32, in box, depth int) {
			c := s.cuts[at]
			if c.end != cutNone {
				low, high := in, in
				if c.end == cutLocal {
					low.localHi, high.localLo = c.at-1, c.at
				} else {
					low.remoteHi, high.remoteLo = c.at-1, c.at
				}
				if low.localLo > low.localHi || low.remoteLo > low.remoteHi {
					t.Fatalf("seed %d: a cut of %+v at %d leaves nothing", seed, in, c.at)
				}
				walk(c.from, low, depth+1)
				walk(c.to, high, depth+1)
				return
			}
			var want []rule
			for _, r := range rules {
				if r.meets(&in) {
					want = append(want, r)
					if r.takesAll(&in) {
						break
					}
				}
			}
			if got := s.rules[c.from:c.to]; !slices.Equal(got, want) {
				t.Fatalf("seed %d: %+v has %d rules, want %d", seed, in, len(got), len(want))
			}
			for _, port := range [][2]uint16{{in.localLo, in.remoteLo}, {in.localHi, in.remoteHi}} {
				if from, to := s.leaf(0, &view{local: port[0], remote: port[1]}); from != c.from || to != c.to {
					t.Fatalf("seed %d: ports %v are not led to %+v", seed, port, in)
				}
			}
			together += len(want)
		}
		walk(0, box{0, 65535, 0, 65535}, 0)
		if most := 2 * growth * len(rules); together > most {
			t.Errorf("seed %d: %d rules became %d", seed, len(rules), together)
		}
	}
	if trees < 30 {
		t.Errorf("%d trees", trees)
	}
}

// Where cutting does not tell rules apart, there is no tree, or one that has not much more than
// the rules.
func TestPortsThatTellLittle(t *testing.T) {
	const n = 300
	var same, around []rule
	for i := range int32(n) {
		same = append(same, rule{index: i, proto: 6, localHi: 65535, remoteHi: 65535, ranges: true})
		around = append(around, rule{index: i, proto: 6, localHi: 65535, remoteLo: uint16(1 + i), remoteHi: uint16(65000 - i)})
	}
	for name, rules := range map[string][]rule{"the same ports": same, "each around the next": around} {
		s := &snapshot{rules: slices.Clone(rules)}
		e := span{to: n}
		if s.addTree(&e); e.tree != (name != "the same ports") {
			t.Errorf("%s: a tree: %v", name, e.tree)
		}
		if len(s.rules) > n+2*growth*n || len(s.cuts) > 2*n {
			t.Errorf("%s: %d rules became %d under %d cuts", name, n, len(s.rules)-n, len(s.cuts))
		}
	}
}

// A tree is made where it helps, and a lookup then asks few rules.
func TestManyPortsAskFewRules(t *testing.T) {
	policies := ports(1000)
	s := compile(policies)
	if len(s.cuts) == 0 {
		t.Fatal("there is no tree")
	}
	root := slices.IndexFunc(s.table.entries, func(e entry) bool { return e.tree })
	if root < 0 {
		t.Fatal("no span has a tree")
	}
	for port := range 65536 {
		from, to := s.leaf(s.table.entries[root].from, &view{remote: uint16(port)})
		if to-from >= 2*manyRules {
			t.Fatalf("port %d asks %d rules", port, to-from)
		}
	}
	db := New()
	db.Replace(policies)
	for _, p := range policies {
		for _, port := range []uint16{p.Pair.Remote.PortLo - 1, p.Pair.Remote.PortLo, p.Pair.Remote.PortHi, p.Pair.Remote.PortHi + 1} {
			f := wire.Flow{Src: p.Pair.Local.Lo, Dst: p.Pair.Remote.Lo, Proto: 6, DstPort: port}
			if got, want := index(db.Lookup(&f)), naive(policies, f, false); got != want {
				t.Fatalf("port %d: %d, want %d", port, got, want)
			}
		}
	}
}

func TestBestCut(t *testing.T) {
	all := box{0, 65535, 0, 65535}
	local := func(lo, hi uint16) rule { return rule{localLo: lo, localHi: hi, remoteHi: 65535} }
	remote := func(lo, hi uint16) rule { return rule{localHi: 65535, remoteLo: lo, remoteHi: hi} }
	for _, c := range []struct {
		name  string
		in    box
		rules []rule
		end   cutEnd
		at    uint16
	}{
		{"nothing to cut", all, []rule{local(0, 65535), remote(0, 65535)}, cutNone, 0},
		{"apart at the local end", all, []rule{local(1, 9), local(20, 29)}, cutLocal, 20},
		{"apart at the remote end", all, []rule{remote(1, 9), remote(20, 29)}, cutRemote, 20},
		{"the end that cuts fewer", all, []rule{
			{localLo: 1, localHi: 30, remoteLo: 1, remoteHi: 9}, {localLo: 2, localHi: 31, remoteLo: 20, remoteHi: 29}}, cutRemote, 20},
		{"of two alike the local end", all, []rule{
			{localLo: 1, localHi: 9, remoteLo: 1, remoteHi: 9}, {localLo: 20, localHi: 29, remoteLo: 20, remoteHi: 29}}, cutLocal, 20},
		{"the end that cuts fewer, all on one side", all, []rule{
			{localLo: 100, localHi: 65535, remoteLo: 1, remoteHi: 9}, {localLo: 200, localHi: 65535, remoteLo: 11, remoteHi: 19},
			{localLo: 300, localHi: 65535, remoteLo: 21, remoteHi: 29}, {localLo: 0, localHi: 65535, remoteLo: 31, remoteHi: 39}}, cutRemote, 21},
		{"both on both sides", all, []rule{local(1, 9), local(1, 9)}, cutLocal, 10},
		{"the bounds of the box are none", box{10, 20, 0, 65535}, []rule{local(10, 20), local(5, 30)}, cutNone, 0},
		{"the first port behind a rule", box{10, 20, 0, 65535}, []rule{local(10, 14), local(15, 20)}, cutLocal, 15},
		{"the last port of all", all, []rule{local(65535, 65535), local(0, 65534)}, cutLocal, 65535},
	} {
		if end, at := c.in.bestCut(c.rules); end != c.end || end != cutNone && at != c.at {
			t.Errorf("%s: end %d at %d, want %d at %d", c.name, end, at, c.end, c.at)
		}
	}
}

// A rule's kind is what it names as one value; ports of protocols with types are none.
func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		r    rule
		want kind
	}{
		{rule{proto: 0, localLo: 7, localHi: 7, remoteLo: 8, remoteHi: 8}, 0},
		{rule{proto: 6, localHi: 65535, remoteHi: 65535}, exactProto},
		{rule{proto: 6, localLo: 7, localHi: 7, remoteHi: 65535}, exactProto | exactLocal},
		{rule{proto: 6, localHi: 65535, remoteLo: 7, remoteHi: 7}, exactProto | exactRemote},
		{rule{proto: 17, localLo: 9, localHi: 9, remoteLo: 7, remoteHi: 7}, exactProto | exactLocal | exactRemote},
		{rule{proto: 1, localLo: 9, localHi: 9, remoteLo: 7, remoteHi: 7}, exactProto},
		{rule{proto: 6, localLo: 9, localHi: 10, remoteLo: 7, remoteHi: 8}, exactProto},
	} {
		if got := kindOf(&c.r); got != c.want {
			t.Errorf("%+v: %d, want %d", c.r, got, c.want)
		}
	}
}

// What differs in what a kind asks for has another key, and nothing else has.
func TestKeys(t *testing.T) {
	seen := map[uint64]string{}
	for k := kind(0); k < kinds; k++ {
		base := k.key(1, 1, 1)
		for _, c := range []struct {
			part kind
			key  uint64
		}{{exactProto, k.key(2, 1, 1)}, {exactLocal, k.key(1, 2, 1)}, {exactRemote, k.key(1, 1, 2)}} {
			if (c.key != base) != (k&c.part != 0) {
				t.Errorf("kind %d: part %d counts: %v", k, c.part, c.key != base)
			}
		}
		if was := seen[base]; was != "" {
			t.Errorf("kind %d has the key of %s", k, was)
		}
		seen[base] = "another kind"
	}
}
