package reassembly

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"culvert/internal/packet/wire"
)

// naive is the specification: it keeps the pieces themselves, has no bounds and
// compares each with each.
type naive struct {
	open map[naiveKey]*naiveDatagram
}

type naiveKey struct {
	owner uint64
	ends  [2]netip.Addr
	id    uint32
	proto uint8
}

type naiveDatagram struct {
	pieces   [][]byte
	bad      bool
	deadline int64
}

// expire returns how many pieces waited for too long.
func (n *naive) expire(now int64) (late int) {
	for k, d := range n.open {
		if now >= d.deadline {
			late += len(d.pieces)
			delete(n.open, k)
		}
	}
	return late
}

func (n *naive) add(owner uint64, pkt []byte, now int64) (v Verdict, pieces int, whole []byte) {
	var f wire.Flow
	info, _ := wire.ParseFlow(pkt, &f)
	x, ok := wire.FragmentOf(pkt, info)
	if !ok {
		return Malformed, 1, nil
	}
	k := naiveKey{owner, [2]netip.Addr{f.Src, f.Dst}, x.ID, 0}
	wait := int64(60e9)
	if info.Version == 4 {
		k.proto, wait = pkt[9], 30e9
	}
	if n.open[k] == nil {
		n.open[k] = &naiveDatagram{deadline: now + wait}
	}
	d := n.open[k]
	if d.bad {
		return Malformed, 1, nil
	}
	for _, p := range d.pieces {
		y := part(p)
		if y.Offset == x.Offset && y.Len() == x.Len() && y.More == x.More && bytes.Equal(p[y.Data:], pkt[x.Data:info.Total]) {
			return Duplicate, 1, nil
		}
	}
	d.pieces = append(d.pieces, bytes.Clone(pkt[:info.Total]))
	if !d.fits() {
		held := len(d.pieces)
		*d = naiveDatagram{bad: true, deadline: d.deadline}
		return Malformed, held, nil
	}
	whole, ok = d.whole()
	if !ok {
		return Held, 0, nil
	}
	held := len(d.pieces)
	delete(n.open, k)
	if len(whole) > 65535 {
		return Malformed, held, nil
	}
	return Whole, held, whole
}

func part(p []byte) wire.Fragment {
	var f wire.Flow
	info, _ := wire.ParseFlow(p, &f)
	x, _ := wire.FragmentOf(p, info)
	return x
}

// fits compares each piece with each other one.
func (d *naiveDatagram) fits() bool {
	var marks [4]bool
	for i, p := range d.pieces {
		x := part(p)
		if x.Len() == 0 || x.More && x.Len()%8 != 0 || x.Head > maxHead || x.Head+x.Offset+x.Len() > 65535 {
			return false
		}
		marks[codepoint(p)] = true
		for _, q := range d.pieces[i+1:] {
			y := part(q)
			if x.Offset < y.Offset+y.Len() && y.Offset < x.Offset+x.Len() {
				return false
			}
			if !x.More && (!y.More || y.Offset > x.Offset) || !y.More && x.Offset > y.Offset {
				return false
			}
		}
	}
	return !marks[0] || !marks[3]
}

func (d *naiveDatagram) whole() ([]byte, bool) {
	sorted := slices.SortedFunc(slices.Values(d.pieces), func(a, b []byte) int { return cmp.Compare(part(a).Offset, part(b).Offset) })
	first, last := part(sorted[0]), part(sorted[len(sorted)-1])
	whole := bytes.Clone(sorted[0][:first.Head])
	congested := false
	for _, p := range sorted {
		x := part(p)
		if x.Offset != len(whole)-first.Head {
			return nil, false
		}
		whole = append(whole, p[x.Data:]...)
		congested = congested || codepoint(p) == 3
	}
	if last.More {
		return nil, false
	}
	if len(whole) > 65535 {
		return whole, true
	}
	if whole[0]>>4 == 4 {
		binary.BigEndian.PutUint16(whole[2:], uint16(len(whole)))
		whole[6] &= 0xc0
		whole[7] = 0
		if congested {
			whole[1] |= 3
		}
		wire.FillIPv4Checksum(whole[:first.Head])
		return whole, true
	}
	whole[first.At] = first.Next
	binary.BigEndian.PutUint16(whole[4:], uint16(len(whole)-40))
	if congested {
		whole[1] |= 0x30
	}
	return whole, true
}
