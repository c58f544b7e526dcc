package gateway

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// What the gateway has set up on the host (rules, routes, addresses, the device's link,
// the guard) is a desired state. When the system reports a change, the gateway compares, and repairs
// what differs. Two programs that each repair their own state could do so
// for ever, so there are pauses, and the log lines become rarer.
// The pauses stay below a second, because plaintext may leave meanwhile.

// watcher is an edge to the machine that reports changes: tun.Watcher.
type watcher interface {
	Changed() <-chan struct{}
	Differences() ([]string, error)
	Restore() (restored, by []string, err error)
}

const (
	// gatherChanges is how long changes gather: they seldom come alone.
	gatherChanges = 20 * time.Millisecond
	// The pause between two comparisons. It doubles with each that finds the same thing
	// to restore shortly after the last one, and is restoreShare times as long as a
	// comparison took, so that thousands of rules leave time for everything else.
	shortestPause = 50 * time.Millisecond
	longestPause  = 500 * time.Millisecond
	restoreShare  = 4
	// fightGap: the same thing that has to be restored again within this time is a fight.
	fightGap = 10 * time.Second
	// fightAfter is how many times it is restored, each within fightGap of the
	// last, before it is called so.
	fightAfter = 5
	// The shortest time between two lines about a fight, which doubles.
	firstQuiet, longestQuiet = 2 * time.Second, 10 * time.Minute
	// What could not be put right is tried again after this, which doubles.
	firstRetry, longestRetry = time.Second, time.Minute
)

// layer is one edge with what was reported of it.
type layer struct {
	watcher
	reported bool // and not compared since
}

// restorer compares and restores. It belongs to one goroutine.
type restorer struct {
	log    *slog.Logger
	now    func() time.Time
	layers []*layer            // in the order in which they are put right
	after  func(restored bool) // each comparison

	due   time.Time // of the next comparison; zero: nothing was reported
	ended time.Time // the last comparison
	pause time.Duration

	last   time.Time // something was restored
	what   []string
	streak int // how many times the same, each shortly after the last

	quiet  time.Duration // of the fight
	spoken time.Time     // the last line of the log
	silent int           // how many times something was restored without one since
	by     []string      // who may have caused that

	failure string // what could not be put right last
	retry   time.Duration
}

// add adds an edge where it reports changes; nil: it does not.
func (r *restorer) add(edge any) *layer {
	w, ok := edge.(watcher)
	if !ok {
		return nil
	}
	l := &layer{watcher: w}
	r.layers = append(r.layers, l)
	return l
}

// reports is what a layer, or none, reports by.
func (l *layer) reports() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.Changed()
}

// changed notes that something of a layer was reported.
func (r *restorer) changed(l *layer) {
	l.reported = true
	at := r.now().Add(gatherChanges)
	if next := r.ended.Add(r.pause); at.Before(next) {
		at = next
	}
	if r.due.IsZero() || at.Before(r.due) {
		r.due = at
	}
}

// work compares and restores if it is time, and says when it will be. Zero: when
// something is reported.
func (r *restorer) work() time.Time {
	start := r.now()
	if r.due.IsZero() || start.Before(r.due) {
		return r.due
	}
	r.due = time.Time{}
	var restored, failed []string
	for _, l := range r.layers {
		if !l.reported {
			continue
		}
		what, by, err := l.Restore()
		l.reported = err != nil
		restored = append(restored, what...)
		for _, name := range by {
			if !slices.Contains(r.by, name) {
				r.by = append(r.by, name)
			}
		}
		if err != nil {
			failed = append(failed, err.Error())
		}
	}
	r.ended = r.now()
	r.pause = max(shortestPause, restoreShare*r.ended.Sub(start))
	if len(restored) > 0 {
		r.restored(restored)
	} else if len(failed) == 0 && r.silent == 0 {
		r.by = nil // they changed something that is nobody's business
	}
	r.failed(strings.Join(failed, "; "))
	r.after(len(restored) > 0)
	return r.due
}

func (r *restorer) restored(what []string) {
	now := r.ended
	again := slices.ContainsFunc(what, func(text string) bool { return slices.Contains(r.what, text) })
	if !again || now.Sub(r.last) > fightGap {
		r.streak, r.quiet, r.silent = 0, firstQuiet, 0
	}
	r.last, r.what = now, what
	r.streak++
	r.pause = max(r.pause, min(shortestPause<<min(r.streak-1, 10), longestPause))
	fight := r.streak > fightAfter
	if fight && now.Sub(r.spoken) < r.quiet {
		r.silent++
		return
	}
	by := strings.Join(r.by, ", ")
	if fight {
		if by == "" {
			by = "not known: run `ip monitor rule route address link` and `nft monitor` to find it"
		}
		r.log.Warn("another program keeps changing what the gateway has set up on this host: the gateway repairs it each time, but traffic is lost meanwhile",
			"restored", strings.Join(what, "; "), "by", by, "unlogged", r.silent)
		r.quiet = min(2*r.quiet, longestQuiet)
	} else {
		args := []any{"restored", strings.Join(what, "; ")}
		if by != "" {
			args = append(args, "by", by)
		}
		r.log.Warn("another program changed what the gateway has set up on this host, and the gateway repaired it", args...)
	}
	r.spoken, r.silent, r.by = now, 0, nil
}

// failed notes what could not be put right, "" for nothing, and has it tried again.
func (r *restorer) failed(why string) {
	if why == "" {
		if r.failure != "" {
			r.log.Info("the rules, routes and addresses of this host are as the gateway has set them up again")
		}
		r.failure, r.retry = "", 0
		return
	}
	if why != r.failure {
		r.retry = firstRetry
		r.log.Error("what the gateway has set up on this host was changed and could not be repaired", "error", why)
	} else {
		r.retry = min(2*r.retry, longestRetry)
	}
	r.failure = why
	if at := r.ended.Add(r.retry); r.due.IsZero() || at.Before(r.due) {
		r.due = at
	}
}

// differences is what differs now, for people who ask.
func (r *restorer) differences() (list []string) {
	for _, l := range r.layers {
		d, err := l.Differences()
		list = append(list, d...)
		if err != nil {
			list = append(list, fmt.Sprintf("it cannot be compared with the gateway's plan: %v", err))
		}
	}
	return list
}
