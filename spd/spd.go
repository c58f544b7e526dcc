package spd

import (
	"slices"
	"sync/atomic"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// Action is what a policy does with the packets that it matches.
type Action uint8

const (
	Encrypt Action = iota // protect, by an SA
	Discard               // drop
	None                  // pass as they are
)

// String is the manual's name.
func (a Action) String() string {
	switch a {
	case Encrypt:
		return "encrypt"
	case Discard:
		return "discard"
	case None:
		return "none"
	}
	return "unknown"
}

// Level is what happens while there is no SA for a policy that encrypts.
type Level uint8

const (
	Require Level = iota // drop and acquire an SA
	Unique               // the same, and the SA is for this policy alone
	Use                  // do not drop and do not acquire
)

// String is the manual's name.
func (l Level) String() string {
	switch l {
	case Require:
		return "require"
	case Unique:
		return "unique"
	case Use:
		return "use"
	}
	return "unknown"
}

// Policy is one row of the database. Policies that a lookup returned belong to
// the database and must not be changed; they stay valid after a Replace.
type Policy struct {
	// Ref is the caller's name for the policy, which SAs refer to. The database
	// does not look at it.
	Ref    uint32
	Action Action
	Level  Level
	Tunnel bool // tunnel mode, otherwise transport mode
	// Dead: it encrypts, and nobody can have an SA for it (its peer is disabled).
	// What it matches is still its own, so that it goes no other way.
	Dead bool
	// Index is the place in the order, from 0. Replace sets it.
	Index int
	Pair  selector.Pair // behind the rest, which a packet asks for
}

// MatchesOut says whether a packet that leaves is the policy's.
func (p *Policy) MatchesOut(f *wire.Flow) bool {
	if f.Opaque {
		return p.Pair.MatchesOpaque(f.Src, f.Dst, f.Proto)
	}
	return p.Pair.MatchesOut(f.Src, f.Dst, f.Proto, f.SrcPort, f.DstPort)
}

// MatchesIn says whether a packet that arrives is the policy's.
func (p *Policy) MatchesIn(f *wire.Flow) bool {
	if f.Opaque {
		return p.Pair.MatchesOpaque(f.Dst, f.Src, f.Proto)
	}
	return p.Pair.MatchesIn(f.Dst, f.Src, f.Proto, f.DstPort, f.SrcPort)
}

func (p *Policy) matches(f *wire.Flow, in bool) bool {
	if in {
		return p.MatchesIn(f)
	}
	return p.MatchesOut(f)
}

// Database holds the policies in force. Lookups may run while one writer
// changes them: each sees the old order or the new, whole.
type Database struct {
	whole atomic.Pointer[whole]

	// The writer's own.
	rows   map[uint32][]uint16 // made policies by Ref: the snapshots that their rows are in
	serial uint64              // of the last row that was made
}

// New is a database without policies.
func New() *Database {
	d := &Database{}
	d.whole.Store(&whole{table: compile(nil)})
	return d
}

// Replace puts policies in force; their order is their precedence. The slice is
// copied. A policy whose pair no packet can match (ends of two address families
// or two protocols, bounds out of order) stays listed and matches nothing.
// The policies made at run time are replaced, too: those in force afterwards are
// made, in the order in which they stand in equal places.
func (d *Database) Replace(policies []Policy, made ...Made) {
	d.whole.Store(&whole{compile(slices.Clone(policies)), d.rebuild(made)})
}

// Policies is the table that is in force, in order, without made ones. It must not be changed.
func (d *Database) Policies() []Policy { return d.whole.Load().table.policies }

// Lookup is the first policy that matches a packet that leaves: f.Src is
// Local. nil: no policy. Flows whose ports cannot be seen match policies with
// any or OPAQUE ports only.
func (d *Database) Lookup(f *wire.Flow) *Policy { return d.whole.Load().lookup(f, false, false) }

// LookupIn is the first policy that matches a packet that arrives, f as it
// arrived: f.Dst is Local. nil: no policy.
func (d *Database) LookupIn(f *wire.Flow) *Policy { return d.whole.Load().lookup(f, true, false) }
