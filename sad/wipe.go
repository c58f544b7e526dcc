package sad

import "sync/atomic"

// Worker is one reader of the table that holds what it found for the length of
// a batch. Between Enter and Leave no key of an SA that it can hold is wiped,
// even if the SA is removed meanwhile.
type Worker struct {
	table *Table
	epoch atomic.Uint64 // that of the table at Enter; 0: holds nothing
	_     [48]byte      // a worker's epoch is written at every batch
}

// Worker makes a reader. A worker is used by one goroutine at a time; Close it
// when its goroutine ends.
func (t *Table) Worker() *Worker {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &Worker{table: t}
	t.workers = append(t.workers, w)
	return w
}

// Enter begins a batch. Look-ups come after it.
func (w *Worker) Enter() { w.epoch.Store(w.table.epoch.Load()) }

// Leave ends the batch: nothing that was looked up in it may be used any more.
// It wipes what this worker was the last to hold, without waiting for anybody.
func (w *Worker) Leave() {
	w.epoch.Store(0)
	if t := w.table; t.waiting.Load() != 0 && t.mu.TryLock() {
		t.wipe(wipeBatch)
		t.mu.Unlock()
	}
}

// Close takes the worker out of the table's books.
func (w *Worker) Close() {
	t := w.table
	t.mu.Lock()
	defer t.mu.Unlock()
	w.epoch.Store(0)
	for i, v := range t.workers {
		if v == w {
			t.workers = append(t.workers[:i], t.workers[i+1:]...)
			break
		}
	}
	t.wipe(len(t.doomed))
}

// wipeBatch bounds what one worker does for others between two batches.
const wipeBatch = 64

type doomed struct {
	child *Child
	epoch uint64
}

// doom queues c, which no look-up finds any more, to be wiped when each worker
// has begun a batch since, or is in none.
func (t *Table) doom(c *Child) {
	t.doomed = append(t.doomed, doomed{c, t.epoch.Add(1)})
	t.waiting.Store(int64(len(t.doomed)))
	t.wipe(wipeBatch)
}

// wipe overwrites the keys of up to n SAs that no worker can hold. A worker
// that entered before an SA left the table has an older epoch than the SA's.
func (t *Table) wipe(n int) {
	if len(t.doomed) == 0 {
		return
	}
	oldest := ^uint64(0)
	for _, w := range t.workers {
		if e := w.epoch.Load(); e != 0 {
			oldest = min(oldest, e)
		}
	}
	done := 0
	for done < min(n, len(t.doomed)) && t.doomed[done].epoch <= oldest {
		t.doomed[done].child.wipeKeys()
		t.doomed[done].child = nil
		done++
	}
	t.doomed = t.doomed[done:]
	if len(t.doomed) == 0 {
		t.doomed = nil
	}
	t.waiting.Store(int64(len(t.doomed)))
}

// Unwiped is how many removed SAs still have their keys because a worker may hold them.
func (t *Table) Unwiped() int { return int(t.waiting.Load()) }
