package spd

import (
	"math/bits"

	"culvert/spd/selector"
)

// kind is which of protocol and ports a rule names as one exact value. Only
// these can be part of a hash key.
type kind uint8

const (
	exactProto kind = 1 << iota
	exactLocal
	exactRemote
	kinds
)

// kindOf leaves the ports out where they are message types, which have a
// meaning of their own in rule.matches: for typed protocols, and for any.
func kindOf(r *rule) kind {
	if r.proto == 0 {
		return 0
	}
	k := exactProto
	if selector.Typed(r.proto) {
		return k
	}
	if r.localLo == r.localHi {
		k |= exactLocal
	}
	if r.remoteLo == r.remoteHi {
		k |= exactRemote
	}
	return k
}

func (k kind) key(proto uint8, local, remote uint16) uint64 {
	key := (uint64(k) + 1) << 56
	if k&exactProto != 0 {
		key |= uint64(proto) << 32
	}
	if k&exactLocal != 0 {
		key |= uint64(local) << 16
	}
	if k&exactRemote != 0 {
		key |= uint64(remote)
	}
	return key
}

// span is the rules of a pair of prefixes, or of one kind of key within it.
type span struct {
	from, to uint32 // in snapshot.rules; of a tree: the root in snapshot.cuts, and not 0
	first    int32  // policy index of the first
	tree     bool   // the rules are under a port tree
	kinds    uint8  // not 0: there are no rules here, but in the table under keys of these kinds
}

// entry is the rules of one kind of key of a span that has many; id is the span's
// place in snapshot.spans.
type entry struct {
	sub uint64
	id  uint32
	span
}

// used: no span ends at 0.
func (e *entry) used() bool { return e.to != 0 }

// table is a hash table with linear probing, at most half full.
type table struct {
	entries []entry
	shift   uint8
}

func newTable(entries []entry) table {
	width := bits.Len(uint(2 * len(entries)))
	t := table{make([]entry, 1<<width), uint8(64 - width)}
	for _, e := range entries {
		i := t.slot(e.id, e.sub)
		for t.entries[i].used() {
			i = (i + 1) & (len(t.entries) - 1)
		}
		t.entries[i] = e
	}
	return t
}

func (t *table) slot(id uint32, sub uint64) int {
	h := (uint64(id) ^ sub*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return int((h ^ h>>32) * 0xd6e8feb86659fd93 >> t.shift)
}

func (t *table) find(id uint32, sub uint64) *span {
	for i := t.slot(id, sub); t.entries[i].used(); i = (i + 1) & (len(t.entries) - 1) {
		if e := &t.entries[i]; e.id == id && e.sub == sub {
			return &e.span
		}
	}
	return nil
}
