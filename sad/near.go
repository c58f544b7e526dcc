package sad

// With very many SAs a packet's is in no cache near the core: its slot, the SA, its
// replay window, selectors and keys, each of which says where the next one is.
// A worker that has a batch for many SAs looks all of them up before it begins, then calls
// Near for all and then Nearer: what each of these reads does not depend on the
// others, so the CPU waits for the memory of many at once. What they return means
// nothing, and is to be kept somewhere, so that the compiler leaves the reads in.

// crowded is from how many SAs on that pays.
const crowded = 4096

// Crowded reports whether there are so many SAs that Near and Nearer pay.
func (t *Table) Crowded() bool { return t.crowded.Load() }

// Near reads the cache lines of the SA itself.
func (in *Inbound) Near() uint64 {
	return in.child.near() + in.replay.top.Load() + in.usage.bytes.Load()
}

// Nearer reads those that the SA's own lead to.
func (in *Inbound) Nearer() uint64 {
	r := &in.replay
	return r.ring[r.top.Load()>>blockShift&r.mask].Load() + in.child.nearer() + uint64(in.transform.Near())
}

// Near is Inbound.Near.
func (o *Outbound) Near() uint64 { return o.child.near() + o.sequence.Load() }

// Nearer is Inbound.Nearer.
func (o *Outbound) Nearer() uint64 { return o.child.nearer() + uint64(o.transform.Near()) }

func (c *Child) near() uint64 {
	return uint64(c.Protocol) + c.HardBytes + uint64(c.hardAt) + uint64(c.raised.Load())
}

func (c *Child) nearer() uint64 {
	n := uint64(c.endpoint.Load().Remote.Port())
	if p := c.path.Load(); p != nil {
		n += p.near()
	}
	if len(c.areas) > 0 {
		n += c.areas[0].remote.hi.lo
	}
	return n
}
