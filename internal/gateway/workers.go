package gateway

import (
	"runtime"
	"slices"
	"sync"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

// workers compute slow work in goroutines of their own. The queue needs no
// bound: the endpoint bounds its open questions, and withdraws those
// that it no longer needs.
type workers struct {
	mu      sync.Mutex
	ready   *sync.Cond
	queue   []job
	closed  bool
	running sync.WaitGroup
	answer  func(core.Answer)
}

// job is an Ask that waits, and how it is answered.
type job struct {
	id core.AskID
	do func() (secret.Bytes, error)
}

// newWorkers starts them. answer is called from their goroutines.
func newWorkers(answer func(core.Answer)) *workers {
	w := &workers{answer: answer}
	w.ready = sync.NewCond(&w.mu)
	for range min(4, runtime.NumCPU()) {
		w.running.Go(func() {
			for j, ok := w.next(); ok; j, ok = w.next() {
				data, err := j.do()
				answer(core.Answer{ID: j.id, Data: data, Err: err})
			}
		})
	}
	return w
}

// do queues a question.
func (w *workers) do(id core.AskID, f func() (secret.Bytes, error)) {
	w.mu.Lock()
	w.queue = append(w.queue, job{id, f})
	w.mu.Unlock()
	w.ready.Signal()
}

// withdraw answers a question at once if no worker has begun it, because its answer is no
// longer needed.
func (w *workers) withdraw(id core.AskID) {
	w.mu.Lock()
	i := slices.IndexFunc(w.queue, func(j job) bool { return j.id == id })
	if i >= 0 {
		w.queue = slices.Delete(w.queue, i, i+1)
	}
	w.mu.Unlock()
	if i >= 0 {
		w.answer(core.Answer{ID: id, Err: core.ErrWithdrawn})
	}
}

// next waits for a question; false after close.
func (w *workers) next() (job, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && !w.closed {
		w.ready.Wait()
	}
	if w.closed {
		return job{}, false
	}
	j := w.queue[0]
	w.queue[0] = job{}
	w.queue = w.queue[1:]
	return j, true
}

// close drops the queue and waits for what has begun.
func (w *workers) close() {
	w.mu.Lock()
	w.closed, w.queue = true, nil
	w.mu.Unlock()
	w.ready.Broadcast()
	w.running.Wait()
}
