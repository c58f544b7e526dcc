package spd

import (
	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// Hidden says whether a fragment has to wait for the rest of its packet: a
// policy before the one that matches it, or matches none, asks for ports, which
// only the whole packet shows (RFC 4301 §7). f is the flow of any fragment of the
// packet; in: as it arrived, f.Dst is Local.
func (d *Database) Hidden(f *wire.Flow, in bool) bool {
	opaque := f.Blind()
	w := d.whole.Load()
	return w.lookup(&opaque, in, false) != w.lookup(&opaque, in, true)
}

// ported is the policies that ask for ports, without them: what it finds for an
// opaque flow may match the whole packet. (One that asks for a port at one end and
// OPAQUE at the other is among them, and matches packets of typed protocols alone.)
type ported struct {
	*snapshot
	indices []int32 // of its policies in the snapshot that they are from
}

func compilePorted(policies []Policy) *ported {
	p := &ported{}
	var list []Policy
	for i, row := range policies {
		pair, ok := selector.IntersectPair(row.Pair, row.Pair)
		if !ok || fragmentOK(pair.Local) && fragmentOK(pair.Remote) {
			continue
		}
		for _, t := range []*selector.TS{&row.Pair.Local, &row.Pair.Remote} {
			t.PortLo, t.PortHi = 0, 65535
		}
		list = append(list, row)
		p.indices = append(p.indices, int32(i))
	}
	if len(list) == 0 {
		return nil
	}
	p.snapshot = compile(list)
	return p
}
