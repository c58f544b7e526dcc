package spd

import "slices"

// Policies that no packet meets are left out of a snapshot: all that they could
// match is matched before them, by policies that ask for addresses alone. Where
// networks lie within each other, these are most.

// reached is the pieces that may decide about a packet, as far as the walls that
// are kept say. Pieces are in order.
func reached(pieces []piece, locals, remotes []prefix) []piece {
	_, lasts := nest(locals)
	around, _ := nest(remotes)
	above := make([]walls, len(remotes)) // of a remote prefix and those around it
	out := pieces[:0]
	for i, p := range pieces {
		if i == 0 || p.r != pieces[i-1].r {
			if a := around[p.r].around; a != none {
				above[p.r] = above[a]
			}
		}
		w := above[p.r]
		if w.lowest(p.l) < p.rule.index {
			continue
		}
		out = append(out, p)
		if p.rule.wall() {
			above[p.r] = w.with(wall{p.l, lasts[p.l], p.rule.index})
		}
	}
	return out
}

// walls is where rules that match whatever has the addresses make an end, for the
// local prefixes from l to end. It is never changed.
type walls []wall

type wall struct{ l, end, index int32 }

// manyWalls bounds how many are kept: those that take most prefixes.
const manyWalls = 12

// lowest is the lowest index of those around the local prefix l.
func (w walls) lowest(l int32) int32 {
	lowest := int32(maxIndex)
	for i := range w {
		if w[i].l <= l && l <= w[i].end {
			lowest = min(lowest, w[i].index)
		}
	}
	return lowest
}

// with is w and n, without those that n makes superfluous.
func (w walls) with(n wall) walls {
	out := append(make(walls, 0, len(w)+1), n)
	for _, o := range w {
		if o.l < n.l || o.end > n.end || o.index < n.index {
			out = append(out, o)
		}
	}
	if len(out) > manyWalls {
		least := 0
		for i, o := range out {
			if o.end-o.l < out[least].end-out[least].l {
				least = i
			}
		}
		out = slices.Delete(out, least, least+1)
	}
	return out
}
