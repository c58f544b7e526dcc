package guard

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// A list of thousands of policies must not be walked for each packet: the
// remote address leads to the flows that are possible for it. Prefixes nest or
// are apart, so each prefix that a flow names has one chain: the flows of its
// own and of all wider prefixes, in order. The spans say which chain an address
// has, by its longest prefix; they ascend and do not overlap. In a chain the
// remote prefix no longer counts, so that tunnels of one network to thousands
// of others share one.

type family struct {
	chains [][]Flow
	spans  []span
}

type span struct {
	from, to netip.Addr // both included
	chain    int
}

// compile sorts the flows of one address family.
func compile(flows []Flow, v6 bool) family {
	var f family
	remotes := map[netip.Prefix]int{} // chain of each
	var order []netip.Prefix
	for _, w := range widened(flows, v6) {
		if _, ok := remotes[w.Remote]; !ok {
			remotes[w.Remote] = 0
			order = append(order, w.Remote)
		}
	}
	slices.SortFunc(order, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for i, p := range order {
		remotes[p] = i
	}
	f.chains = make([][]Flow, len(order))
	around := parents(order)
	// Flows come in order, so each chain is in order too; a chain gets what its
	// prefix and the wider ones have.
	inside := make([][]int, len(order)) // prefixes in a prefix, itself included
	for i := range order {
		for p := i; p >= 0; p = around[p] {
			inside[p] = append(inside[p], i)
		}
	}
	for _, w := range widened(flows, v6) {
		for _, i := range inside[remotes[w.Remote]] {
			f.chains[i] = append(f.chains[i], w)
		}
	}
	f.spans = spans(order, around)
	f.share()
	return f
}

// share leaves one of the chains that are the same.
func (f *family) share() {
	var kept [][]Flow
	at := map[string]int{}
	for i := range f.spans {
		var c []Flow
		for _, w := range f.chains[f.spans[i].chain] {
			w.Remote = netip.Prefix{}
			c = append(c, w)
			if w.Local.Bits() == 0 && w.Proto == 0 && !w.Own {
				break // nothing gets past it
			}
		}
		key := fmt.Sprint(c)
		n, ok := at[key]
		if !ok {
			n = len(kept)
			at[key], kept = n, append(kept, c)
		}
		f.spans[i].chain = n
	}
	f.chains = kept
}

// widened are the flows of a family, each with what keeps a network that talks
// to itself out of it: a remote prefix around the local one does not mean the
// local one (tun leads such packets past the device as well).
func widened(flows []Flow, v6 bool) []Flow {
	var out []Flow
	for _, w := range flows {
		if w.Local.Addr().Is4() == v6 {
			continue
		}
		w.Local, w.Remote = w.Local.Masked(), w.Remote.Masked()
		if !w.Pass && w.Remote.Bits() < w.Local.Bits() && w.Remote.Contains(w.Local.Addr()) {
			out = append(out, Flow{Local: w.Local, Remote: w.Local, Pass: true})
		}
		out = append(out, w)
	}
	return out
}

// parents are the indices of the next wider prefix of each, -1 for none.
func parents(order []netip.Prefix) []int {
	around := make([]int, len(order))
	var open []int
	for i, p := range order {
		for len(open) > 0 && !order[open[len(open)-1]].Contains(p.Addr()) {
			open = open[:len(open)-1]
		}
		around[i] = -1
		if len(open) > 0 {
			around[i] = open[len(open)-1]
		}
		open = append(open, i)
	}
	return around
}

// spans cuts the addresses at the prefixes' ends.
func spans(order []netip.Prefix, around []int) []span {
	var out []span
	add := func(from, to netip.Addr, chain int) {
		if from.IsValid() && from.Compare(to) <= 0 {
			out = append(out, span{from, to, chain})
		}
	}
	var open []int
	var at netip.Addr // the first address of the innermost open prefix that has no span
	closeTo := func(next *netip.Prefix) {
		for len(open) > 0 {
			i := open[len(open)-1]
			if next != nil && order[i].Contains(next.Addr()) {
				add(at, next.Addr().Prev(), i)
				return
			}
			end := last(order[i])
			add(at, end, i)
			at = end.Next() // invalid behind the last address of all
			open = open[:len(open)-1]
		}
	}
	for i, p := range order {
		closeTo(&p)
		at = p.Addr()
		open = append(open, i)
	}
	closeTo(nil)
	return out
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
