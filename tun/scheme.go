package tun

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// How a Plan becomes policy routing. One list of rules for each family, in
// this order; the first that leads somewhere decides:
//
//	fwmark Mark                          goto end    our own sockets
//	fwmark ErrorMark(Mark)               lookup T    ICMP errors that quote protected packets; the guard marks them
//	iif lo ipproto udp sport P           goto end    … and answers to them, see below
//	iif lo ipproto esp|ah                goto end    … without UDP
//	from Local to Local                  goto end    Remote covers Local: the LAN talks to itself
//	from Local to Remote [proto, ports]  lookup T    the policy
//	from 0.0.0.0 to Remote …             lookup T    the host itself, source not chosen yet
//	end: ipproto udp                     nop         and on with the system's own rules
//
// Where there are many policies, gates stand among their rules (gates.go).
//
// In front of a policy for everywhere stands what every link needs, and what
// LANBypass lets past it (see Near):
//
//	iif lo ipproto udp sport 68 dport 67 goto end    DHCP renewal (IPv6: 546, 547)
//	iif lo to 224.0.0.0/4                goto end    multicast and broadcast (IPv6: link-local addresses)
//	from 0.0.0.0 to KEPT                 lookup T    a network in LAN that another policy protects
//	from 0.0.0.0 to LAN                  lookup L    a private network on one of the links
//
// The main table is not asked, whatever is in it: a DHCP server or a router
// advertisement may have put it there (CVE-2024-3661, "TunnelVision"). Table L,
// nearBit above T, has copies of those of the main table's routes that the kernel
// made itself for addresses on the links, and none of them leads to a router.
//
// Table T has a default route to the device, and one for each Remote that
// gives the host's own packets the source address inside Local. They go with
// the device: when it is set down, or the gateway is killed. Behind them stands
// a default route of the last metric that leads nowhere (unreachable), so that
// then, too, nothing that a policy protects leaves in clear by the main table.
//
// Strict reverse-path filtering (rp_filter=1) looks up the way back of a
// packet without its mark, but with "iif lo" if it is for this host: so the
// rule by source port lets answers in, and does not let the same port of a
// host behind the gateway past its policy. The kernel dissects ports on input
// only if some rule without "iif lo" asks for them; the last rule does.
//
// Ports of a fragment that is not the first are unknown to rules: such
// fragments follow the first rule that needs no ports.

type action uint8

const (
	toTable action = iota // lookup our table
	toEnd                 // goto the end of our rules
	toNear                // lookup the table of the private networks on the links
	nop                   // the end itself
	toMain                // lookup main without its default route; earlier versions made it
	gate                  // what it does not match goes past a block of rules (gates.go)
)

// rule is one rule without its place. It is comparable; identical rules are one.
type rule struct {
	v6           bool
	act          action
	from, to     netip.Prefix
	own          bool // iif lo: made by this host
	proto        uint8
	sport, dport uint16
	mark         uint32
}

type placed struct {
	rule
	pref int
	past int // of a gate: where to go on
}

// link is where a private network is, and the host's address in it.
type link struct {
	index int
	src   netip.Addr
}

// nearBit makes of the number of our table that of table L.
const nearBit = 1 << 30

// state is what the kernel is wanted to hold, or holds.
type state struct {
	addrs  []netip.Prefix
	routes map[netip.Prefix]netip.Addr // destination → preferred source, or none
	near   map[netip.Prefix]link       // routes of table L
	fences [2]bool                     // the unreachable default route, IPv4 and IPv6
	rules  []placed                    // ascending in pref for each family
}

// want is the plan in order, before it has its places.
type want struct {
	addrs  []netip.Prefix
	routes map[netip.Prefix]netip.Addr
	near   map[netip.Prefix]link
	fences [2]bool
	head   []rule // fixed places from Pref on
	body   []rule
	tail   []rule // at Pref+PrefSpan
}

// maxBypass is how many ports and protocols fit in front of the policies.
const maxBypass = 98

// headSpan is how many preferences the bypass rules have.
const headSpan = 100

// compile turns a plan into rules and routes. own are the host's addresses,
// the preferred first; lans are the private networks on its links.
func compile(p Plan, mark uint32, own []netip.Addr, lans map[netip.Prefix]link) (want, error) {
	w := want{routes: map[netip.Prefix]netip.Addr{}, near: map[netip.Prefix]link{}}
	if n := len(p.Bypass) + len(p.Protocols); n > maxBypass {
		return w, fmt.Errorf("%d ports and protocols of the gateway itself: at most %d", n, maxBypass)
	}
	for _, a := range p.Addresses {
		if !a.IsValid() {
			return w, fmt.Errorf("address %v is not valid", a)
		}
		if !slices.Contains(w.addrs, a) {
			w.addrs = append(w.addrs, a)
		}
		own = slices.Insert(slices.Clone(own), 0, a.Addr())
	}
	var used [2]bool
	claimed := p.claimed(own)
	near := [2]Near{p.Near(slices.Collect(maps.Keys(lans)), false), p.Near(slices.Collect(maps.Keys(lans)), true)}
	seen := map[rule]bool{}
	for i, r := range p.Routes {
		if !r.Local.IsValid() || !r.Remote.IsValid() || r.Local.Addr().Is4() != r.Remote.Addr().Is4() {
			return w, fmt.Errorf("route %d, %v to %v: write two prefixes of one address family", i, r.Local, r.Remote)
		}
		r.Local, r.Remote = r.Local.Masked(), r.Remote.Masked()
		used[index(r.Remote.Addr().Is6())] = true
		for _, x := range policyRules(p, r, own, claimed, near[index(r.Remote.Addr().Is6())], w.routes) {
			x.from, x.to = orNone(x.from), orNone(x.to)
			if x.act == toNear {
				w.near[x.to] = lans[x.to]
			}
			if !seen[x] {
				seen[x] = true
				w.body = append(w.body, x)
			}
		}
	}
	for _, v6 := range []bool{false, true} {
		if !used[index(v6)] {
			continue
		}
		w.head = append(w.head, rule{v6: v6, act: toEnd, mark: mark}, rule{v6: v6, act: toTable, mark: ErrorMark(mark)})
		for _, port := range p.Bypass {
			if b := (rule{v6: v6, act: toEnd, own: true, proto: 17, sport: port}); !slices.Contains(w.head, b) {
				w.head = append(w.head, b)
			}
		}
		for _, proto := range p.Protocols {
			if b := (rule{v6: v6, act: toEnd, own: true, proto: proto}); !slices.Contains(w.head, b) {
				w.head = append(w.head, b)
			}
		}
		w.tail = append(w.tail, rule{v6: v6, act: nop, proto: 17})
		w.fences[index(v6)] = true
		if def := anyPrefix(v6); !w.routes[def].IsValid() {
			w.routes[def] = netip.Addr{}
		}
	}
	return w, nil
}

// orNone: the kernel does not tell a prefix that covers everything from none.
func orNone(p netip.Prefix) netip.Prefix {
	if p.Bits() == 0 {
		return netip.Prefix{}
	}
	return p
}

func index(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

func anyPrefix(v6 bool) netip.Prefix {
	if v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// policyRules are the rules of one route of the plan, and enters the source
// address of the host's own packets in routes.
func policyRules(p Plan, r Route, own []netip.Addr, claimed map[claim]bool, near Near, routes map[netip.Prefix]netip.Addr) []rule {
	v6 := r.Remote.Addr().Is6()
	policy := ruleOf(r)
	if r.Pass {
		return append([]rule{policy}, passOwn(r, policy, own)...)
	}
	var out []rule
	if r.Everywhere() {
		out = append(out, linkRules(v6)...)
	}
	if r.aroundLocal() {
		out = append(out, rule{v6: v6, act: toEnd, from: r.Local, to: r.Local})
	}
	for _, x := range near.Around(p, r) {
		beside := ruleOf(x)
		if x.Pass {
			beside.act = toNear
		}
		out = append(out, beside)
	}
	out = append(out, policy)
	return append(out, ownRules(r, policy, own, claimed, near, routes)...)
}

// aroundLocal reports whether Remote covers a network, Local, that talks to itself.
func (r Route) aroundLocal() bool {
	return r.Remote.Bits() < r.Local.Bits() && r.Remote.Contains(r.Local.Addr()) && !r.Local.IsSingleIP()
}

// ruleOf is the rule of a route by itself.
func ruleOf(r Route) rule {
	x := rule{v6: r.Remote.Addr().Is6(), from: r.Local, to: r.Remote, proto: r.Proto}
	if r.Pass {
		x.act = toEnd
	}
	if HasPorts(r.Proto) {
		x.sport, x.dport = r.LocalPort, r.RemotePort
	}
	return x
}

// linkRules are what every link needs, whatever is protected.
func linkRules(v6 bool) []rule {
	if v6 {
		return []rule{
			{v6: true, act: toEnd, own: true, proto: protoUDP, sport: 546, dport: 547},
			{v6: true, act: toEnd, own: true, to: netip.MustParsePrefix("fe80::/10")},
		}
	}
	return []rule{
		{act: toEnd, own: true, proto: protoUDP, sport: 68, dport: 67},
		{act: toEnd, own: true, to: netip.MustParsePrefix("224.0.0.0/4")},
		{act: toEnd, own: true, to: netip.MustParsePrefix("255.255.255.255/32")},
	}
}

// HasPorts reports whether the kernel's rules know ports of a protocol. A policy
// for one type of ICMP leads the whole protocol to the device, where policies are exact.
func HasPorts(proto uint8) bool {
	switch proto {
	case 0, 6, 17, 33, 132, 136:
		return true
	}
	return false
}

// inside is the first of the host's addresses in p.
func inside(p netip.Prefix, own []netip.Addr) (netip.Addr, bool) {
	i := slices.IndexFunc(own, p.Contains)
	if i < 0 {
		return netip.Addr{}, false
	}
	return own[i], true
}

// bound reports whether who sends by a rule has an address already: it asks for a local
// port, which a server has, and its connections have both. Servers of UDP often answer
// from a socket that has the port alone.
func bound(policy rule) bool { return policy.sport != 0 && policy.proto != protoUDP }

const protoUDP = 17

// ownRules lead what the host sends itself, before it has a source address,
// the same way. What has chosen another source goes the system's way, and the
// guard knows whether it may.
func ownRules(r Route, policy rule, own []netip.Addr, claimed map[claim]bool, near Near, routes map[netip.Prefix]netip.Addr) []rule {
	src, ok := inside(r.Local, own)
	if !ok || bound(policy) || r.Local.Bits() == 0 {
		return nil
	}
	if !routes[r.Remote].IsValid() {
		routes[r.Remote] = src
	}
	base := policy
	base.from, base.own = netip.Prefix{}, true
	var out []rule
	if !policy.v6 {
		base.from = netip.PrefixFrom(netip.IPv4Unspecified(), 32)
	} else {
		// A rule with a source never matches an IPv6 look-up without one: so the
		// host's other addresses are led past a rule for any source, unless another
		// policy protects what they send there, whose rule may stand below.
		for _, a := range own {
			if a.Is6() && !r.Local.Contains(a) && !claimed[claim{a, r.Remote}] {
				other := base
				other.from, other.act = netip.PrefixFrom(a, 128), toEnd
				out = append(out, other)
			}
		}
	}
	if r.Remote.Bits() == 0 {
		for _, x := range near.Routes(r) {
			beside := base
			beside.to, beside.dport = x.Remote, 0
			if x.Pass {
				beside.act, beside.proto = toNear, keptProto(base)
			}
			out = append(out, beside)
		}
	}
	if r.aroundLocal() {
		lan := base
		lan.act, lan.proto, lan.dport, lan.to = toEnd, keptProto(base), 0, r.Local
		out = append(out, lan)
	}
	return append(out, base)
}

// claim is one of the host's own addresses whose packets to a network a policy protects.
type claim struct {
	own    netip.Addr
	remote netip.Prefix
}

// claimed are the claims of all policies for every protocol, of IPv6.
func (p Plan) claimed(own []netip.Addr) map[claim]bool {
	m := map[claim]bool{}
	for _, a := range own {
		for _, r := range p.Routes {
			if a.Is6() && !r.Pass && r.Proto == 0 && r.Local.Contains(a) {
				m[claim{a, r.Remote.Masked()}] = true
			}
		}
	}
	return m
}

// keptProto: a rule for a port is for its protocol.
func keptProto(base rule) uint8 {
	if base.sport != 0 {
		return base.proto
	}
	return 0
}

// passOwn keeps the host's own traffic out as well.
func passOwn(r Route, policy rule, own []netip.Addr) []rule {
	if _, ok := inside(r.Local, own); !ok || bound(policy) || policy.v6 {
		return nil
	}
	policy.from, policy.own = netip.PrefixFrom(netip.IPv4Unspecified(), 32), true
	return []rule{policy}
}

// places gives every rule its preference. Rules that are in the kernel already
// and whose order stays keep theirs, so that nothing of them is touched.
func (w want) places(current []placed, first int) ([]placed, error) {
	var out []placed
	for _, v6 := range []bool{false, true} {
		n := 0
		for _, r := range w.head {
			if r.v6 == v6 {
				out = append(out, placed{rule: r, pref: first + n})
				n++
			}
		}
		body, err := placeFamily(w.body, current, v6, first+headSpan, first+PrefSpan)
		if err != nil {
			return nil, err
		}
		out = append(out, body...)
		for _, r := range w.tail {
			if r.v6 == v6 {
				out = append(out, placed{rule: r, pref: first + PrefSpan})
			}
		}
	}
	return out, nil
}

// placeFamily places the policies of one family in [lo, end), with gates among them where they
// are many; end is the preference of the end of our rules.
func placeFamily(all []rule, current []placed, v6 bool, lo, end int) ([]placed, error) {
	var rules []rule
	for _, r := range all {
		if r.v6 == v6 {
			rules = append(rules, r)
		}
	}
	var l laidOut
	if len(rules) >= manyRules {
		l = gated(rules)
	}
	if len(l.rules) == 0 || len(l.rules) > end-lo { // without gates there may be room
		return placeBody(rules, current, v6, lo, end)
	}
	out, err := placeBody(l.rules, current, v6, lo, end)
	if err != nil {
		return nil, err
	}
	for i, stop := range l.stops {
		switch {
		case stop == len(out):
			out[i].past = end
		case stop > 0:
			out[i].past = out[stop].pref
		}
	}
	return out, nil
}

// step is the room left between rules where there is plenty.
const step = 32

// placeBody places the rules of one family in [lo, hi).
func placeBody(all []rule, current []placed, v6 bool, lo, hi int) ([]placed, error) {
	var out []placed
	for _, r := range all {
		if r.v6 == v6 {
			out = append(out, placed{rule: r})
		}
	}
	if len(out) > hi-lo {
		return nil, fmt.Errorf("%w: %d for policies, and there is room for %d: merge policies whose prefixes are neighbours", ErrTooManyRules, len(out), hi-lo)
	}
	at := map[rule]int{}
	for _, c := range current {
		if c.v6 == v6 && c.pref >= lo && c.pref < hi {
			at[c.rule] = c.pref
		}
	}
	for _, i := range longestAscending(out, at) {
		out[i].pref = at[out[i].rule]
	}
	fill(out, lo, hi)
	return out, nil
}

// fill gives a place in [lo, hi) to each run of rules without one, between its neighbours. Where a
// gap is too small, the rules next to it move as well, as few as make room. All of them fit.
func fill(rules []placed, lo, hi int) {
	for i := 0; i < len(rules); {
		if rules[i].pref != 0 {
			i++
			continue
		}
		end := i
		for end < len(rules) && rules[end].pref == 0 {
			end++
		}
		first := i
		var prev, next int
		for wider := 1; ; wider *= 2 {
			if prev = lo - 1; first > 0 {
				prev = rules[first-1].pref
			}
			if next = hi; end < len(rules) {
				next = rules[end].pref
			}
			// A little more room than that: the next rule is often a neighbour.
			if n, room := end-first, next-prev-1; room >= n+min(n/8, 8) || first == 0 && end == len(rules) {
				break
			}
			first, end = max(0, first-wider), min(len(rules), end+wider)
			for end < len(rules) && rules[end].pref == 0 {
				end++
			}
		}
		run := end - first
		if end == len(rules) {
			next = min(next, prev+(run+1)*step)
		}
		for k := range run {
			rules[first+k].pref = prev + (k+1)*(next-prev)/(run+1)
		}
		i = end
	}
}

// longestAscending are the indices of the longest run of known rules (with
// gaps) whose places ascend, the last first.
func longestAscending(rules []placed, at map[rule]int) []int {
	var tails []int // tails[k]: index of the smallest last rule of a run of k+1
	before := make([]int, len(rules))
	for i, r := range rules {
		pref, ok := at[r.rule]
		if !ok {
			continue
		}
		k, _ := slices.BinarySearchFunc(tails, pref, func(t, pref int) int { return cmp.Compare(at[rules[t].rule], pref) })
		before[i] = -1
		if k > 0 {
			before[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	var out []int
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = before[i] {
			out = append(out, i)
		}
	}
	return out
}
