package tun

import (
	"errors"
	"fmt"
	"time"
)

// Options of NewHost. Zero values take the defaults.
type Options struct {
	// Device is the name of the TUN device that Create made.
	Device string
	// Table is the routing table that is ours alone (DefaultTable). It is also
	// the instance's identity: two gateways on one host need two tables.
	Table int
	// Mark is what the gateway's own sockets carry as SO_MARK (DefaultMark).
	Mark uint32
	// Pref is the first preference of our rules (DefaultPref); they end at
	// Pref+PrefSpan. The system's own main table is looked up at 32766.
	Pref int
	// LockDir holds one lock file per table (/run/culvert).
	LockDir string
	// LockWait is for how long NewHost waits for another gateway that has the table:
	// one that was killed may not be gone yet. 0: not at all.
	LockWait time.Duration
}

// The defaults of [gateway], and what is always ours.
const (
	DefaultTable = 50500
	DefaultMark  = 0xC0150
	DefaultPref  = 10000
	// PrefSpan is how many rule preferences an instance has for each address
	// family, and so about how many policies fit.
	PrefSpan = 20000
	// Protocol is the rtnetlink protocol number of everything we add.
	Protocol = 0xC6
)

// ErrorMark is the mark of ICMP errors that quote protected packets, of an instance
// whose own sockets have mark. They go to the device whatever their addresses are.
func ErrorMark(mark uint32) uint32 { return mark ^ 1<<30 }

func (o Options) withDefaults() (Options, error) {
	if o.Table == 0 {
		o.Table = DefaultTable
	}
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	if o.Pref == 0 {
		o.Pref = DefaultPref
	}
	if o.LockDir == "" {
		o.LockDir = "/run/culvert"
	}
	switch {
	case o.Device == "":
		return o, errors.New("NewHost without the name of a device")
	case o.Table < 1 || o.Table >= 253 && o.Table <= 255 || o.Table >= nearBit:
		return o, fmt.Errorf("%d is a routing table of the system: choose another number (key table in [gateway])", o.Table)
	case o.Pref < 1 || o.Pref+PrefSpan >= 32766:
		return o, fmt.Errorf("rule preference %d: choose one from 1 to %d", o.Pref, 32765-PrefSpan)
	}
	return o, nil
}

// Warner is what a Host may have beside: things that will not work as the
// machine stands, found by the last Apply, each with what to do. Nothing of
// the kind is changed silently.
type Warner interface {
	Warnings() []string
}

// Watcher is what a Host has beside where the system reports changes. What the last
// Apply made is the desired state; others may change it.
type Watcher interface {
	// Changed delivers when the system has reported a change of something that
	// Apply made or depends on, whoever made it. A report may be of our own change,
	// and one may stand for many.
	Changed() <-chan struct{}
	// Differences says how the system differs from the desired state, a phrase for
	// each difference, and changes nothing.
	Differences() ([]string, error)
	// Restore removes the differences and says which there were. It goes on behind
	// what cannot be put right; the error is of that. It also follows the host's
	// addresses, which is no difference. by names who may have caused the
	// differences, if that is known.
	Restore() (restored, by []string, err error)
}

var (
	// ErrTableInUse: another gateway on this host has this routing table.
	ErrTableInUse = errors.New("routing table in use")
	// ErrTooManyRules: the plan needs more rules than PrefSpan holds.
	ErrTooManyRules = errors.New("too many rules")
)
