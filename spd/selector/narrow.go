package selector

// Narrow is the part of offered that allowed permits, in the order of offered
// (RFC 7296 §2.9): the first offered selector, which an initiator takes from
// the packet that triggered it, stays included where allowed permits it. What
// another result covers is left out. Empty means that nothing is acceptable
// (TS_UNACCEPTABLE).
func Narrow(offered, allowed []TS) []TS {
	var out []TS
	for _, o := range offered {
		for _, a := range allowed {
			if t, ok := Intersect(o, a); ok {
				out = addMaximal(out, t)
			}
		}
	}
	return out
}

// addMaximal appends t unless a member covers it, and puts it in the place of
// the first member that it covers.
func addMaximal(set []TS, t TS) []TS {
	for _, s := range set {
		if s.Covers(t) {
			return set
		}
	}
	kept, placed := set[:0], false
	for _, s := range set {
		switch {
		case !t.Covers(s):
			kept = append(kept, s)
		case !placed:
			kept, placed = append(kept, t), true
		}
	}
	if !placed {
		kept = append(kept, t)
	}
	return kept
}

// NarrowPair narrows what a peer offered for the two ends of a CHILD SA to
// policy, as seen from here: the initiator's TSi is offeredRemote. Selectors
// that no selector of the other end can go with (another protocol, another
// address family) are left out; not ok means TS_UNACCEPTABLE.
func NarrowPair(offeredLocal, offeredRemote []TS, policy Pair) (local, remote []TS, ok bool) {
	policy, _ = unifyProto(policy.Local, policy.Remote) // else no packet is in it, and nothing in what it permits
	return NarrowSets(offeredLocal, offeredRemote, []TS{policy.Local}, []TS{policy.Remote})
}

// NarrowSets is NarrowPair for what covers each of the local selectors with each
// of the remote ones.
func NarrowSets(offeredLocal, offeredRemote, allowedLocal, allowedRemote []TS) (local, remote []TS, ok bool) {
	l := Narrow(offeredLocal, allowedLocal)
	r := Narrow(offeredRemote, allowedRemote)
	local, remote = withPartner(l, r), withPartner(r, l)
	return local, remote, len(local) > 0 // and then of remote, too: partners go both ways
}

func withPartner(set, others []TS) []TS {
	var out []TS
	for _, t := range set {
		for _, o := range others {
			if _, ok := unifyProto(t, o); ok {
				out = append(out, t)
				break
			}
		}
	}
	return out
}

// Pairs is the rectangles that negotiated selectors stand for: each local with
// each remote of the same protocol and address family.
func Pairs(local, remote []TS) []Pair {
	var out []Pair
	for _, l := range local {
		for _, r := range remote {
			if p, ok := unifyProto(l, r); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

// Overlap reports whether two lists have packets in common.
func Overlap(a, b []Pair) bool {
	for _, p := range a {
		for _, q := range b {
			_, local := Intersect(p.Local, q.Local)
			_, remote := Intersect(p.Remote, q.Remote)
			if local && remote {
				return true
			}
		}
	}
	return false
}
