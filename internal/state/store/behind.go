package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A gateway lives in its memory. The disk is behind it: one goroutine writes what
// changed, so that a disk that is full, read-only, slow or gone holds nobody up. What it
// did not take is kept, changes of one key as one, and tried again.

// disk is what a behind writes to. It is used by one goroutine at a time.
type disk interface {
	// write makes changes durable, all of them or none. all is everything, for a disk
	// that has to begin anew.
	write(c changes, all func() changes) error
	close() error
}

const (
	// ackWait is how long Update waits for the disk, so that what was answered is
	// mostly durable. It waits once: not again before the disk has caught up.
	ackWait = time.Second
	// closeWait is how long Close waits for it.
	closeWait = 5 * time.Second
	// A disk that refused is tried again after a pause, which doubles up to the longest.
	shortestPause = 2 * time.Second
	longestPause  = time.Minute
)

// behind is memory with a disk behind it.
type behind struct {
	Memory
	disk  disk
	log   *slog.Logger
	after func(time.Duration) <-chan time.Time

	more    chan struct{} // has room for one: there is something to write
	closing chan struct{}
	stopped chan struct{} // closed when the writer has ended

	state   sync.Mutex // of what follows; taken inside Memory.mu, never around it
	pending changes
	put     uint64        // transactions so far
	durable uint64        // of which the disk has so many
	step    chan struct{} // closed and replaced when durable or late changes
	late    bool          // the disk refused, or Update has waited in vain
	slow    bool          // that Update has waited in vain was told
	failed  error         // why, as told; nil: it did not refuse
}

// newBehind makes a store of what the disk had, and starts its writer.
func newBehind(had changes, d disk, log *slog.Logger, after func(time.Duration) <-chan time.Time) *behind {
	if after == nil {
		after = time.After
	}
	b := &behind{disk: d, log: log, after: after, more: make(chan struct{}, 1), closing: make(chan struct{}),
		stopped: make(chan struct{}), step: make(chan struct{}), pending: changes{}}
	b.buckets = had
	b.Memory.changed = b.changed
	go b.run()
	return b
}

// changed is called by the memory after each transaction.
func (b *behind) changed(c changes) {
	b.state.Lock()
	defer b.state.Unlock()
	b.put++
	for bucket, keys := range c {
		for key, value := range keys {
			b.pending.set(bucket, key, value)
		}
	}
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// Update is Store.Update. It waits for the disk for a second at most, and not at all
// while the disk is known to be late.
func (b *behind) Update(f func(Tx) error) error {
	if err := b.Memory.Update(f); err != nil {
		return err
	}
	b.state.Lock()
	mine := b.put // later ones may be among them, which are durable after mine
	b.state.Unlock()
	var limit <-chan time.Time
	for {
		b.state.Lock()
		settled, step := b.durable >= mine || b.late, b.step
		b.state.Unlock()
		if settled {
			return nil
		}
		if limit == nil {
			limit = b.after(ackWait)
		}
		select {
		case <-step: // also when Close has what is pending written
		case <-limit:
			b.waited(mine)
		}
	}
}

// waited notes that a transaction was waited for in vain, if the disk does not have it by now.
func (b *behind) waited(mine uint64) {
	first := false
	b.set(func() {
		if b.durable < mine {
			first = !b.slow
			b.late, b.slow = true, true
		}
	})
	if first {
		b.log.Warn("the disk with the state is slow, the gateway does not wait for it (said once)")
	}
}

// set changes the state and wakes those who wait for it.
func (b *behind) set(f func()) {
	b.state.Lock()
	defer b.state.Unlock()
	f()
	close(b.step)
	b.step = make(chan struct{})
}

// run writes until the store is closed and, if the disk takes it, nothing is pending.
func (b *behind) run() {
	defer close(b.stopped)
	pause := shortestPause
	for closing := false; ; {
		if b.write() {
			pause = shortestPause
			if closing {
				return
			}
			select {
			case <-b.more:
			case <-b.closing:
				closing = true // once more: something may have come in between
			}
			continue
		}
		if closing {
			return
		}
		select {
		case <-b.after(pause):
			pause = min(2*pause, longestPause)
		case <-b.closing:
			closing = true
		}
	}
}

// write writes what is pending; false where the disk refused.
func (b *behind) write() bool {
	b.state.Lock()
	batch, upTo := b.pending, b.put
	b.pending = changes{}
	b.state.Unlock()
	if len(batch) == 0 {
		return true
	}
	err := b.disk.write(batch, b.Memory.all)
	if err != nil {
		b.refused(batch, err)
		return false
	}
	var was error
	b.set(func() { was, b.failed, b.durable, b.late = b.failed, nil, upTo, false })
	if was != nil {
		b.log.Info("the state is on the disk again")
	}
	return true
}

// refused keeps a batch for the next time, below what changed since, and says so once.
func (b *behind) refused(batch changes, err error) {
	var first bool
	b.set(func() {
		for bucket, keys := range b.pending {
			for key, value := range keys {
				batch.set(bucket, key, value)
			}
		}
		b.pending, first = batch, b.failed == nil
		b.failed, b.late = err, true
	})
	if first {
		b.log.Error("the state cannot be written and is kept in memory: the gateway tries again; if it is restarted before that, it does not know which client has which address", "error", err)
	}
}

// Close waits some seconds for what is pending and closes the disk. The error says what
// was not written.
func (b *behind) Close() error {
	if errors.Is(b.View(func(Tx) error { return nil }), ErrClosed) {
		return nil
	}
	_ = b.Memory.Close()
	close(b.closing)
	select {
	case <-b.stopped:
	case <-b.after(closeWait):
		return notWritten(errors.New("the disk does not answer"))
	}
	failed := b.failed // the writer has ended, and nobody else sets it
	if failed != nil {
		failed = notWritten(failed)
	}
	return errors.Join(failed, b.disk.close())
}

// notWritten is the error of a state that is lost with the process.
func notWritten(cause error) error {
	return fmt.Errorf("the state could not be written: after a restart the gateway does not know which client has which address: %w", cause)
}
