package datapath

import (
	"sync"
	"sync/atomic"
	"time"
)

// AcquireAgain is after how long traffic of a policy that still has no SA asks
// the daemon again, so that no lost Acquire is lost for ever.
const AcquireAgain = time.Second

// acquires carries the daemon's Acquired calls to the workers, which keep who
// was asked themselves: a packet on its way takes no lock.
type acquires struct {
	turn atomic.Uint64 // calls so far
	mu   sync.Mutex
	log  []uint32 // the last calls; log[i] is call turn-len(log)+1+i
}

// acquireLog bounds the log. A worker that fell further behind forgets all that it asked for.
const acquireLog = 1024

func (a *acquires) done(policy uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.log) >= acquireLog {
		a.log = append(a.log[:0], a.log[len(a.log)/2:]...)
	}
	a.log = append(a.log, policy)
	a.turn.Add(1)
}

// asked is one worker's memory of the policies it asked for.
type asked struct {
	when  map[uint32]int64 // Unix ns
	turn  uint64           // of acquires, up to where it was read
	swept int64            // Unix ns
}

// begin brings the memory up to date at the start of a batch: what was answered
// or is too old is forgotten.
func (k *asked) begin(a *acquires, now int64) {
	if turn := a.turn.Load(); turn != k.turn {
		k.catchUp(a)
	}
	if len(k.when) > 0 && now-k.swept >= int64(AcquireAgain) {
		k.swept = now
		for policy, when := range k.when {
			if now-when >= int64(AcquireAgain) {
				delete(k.when, policy)
			}
		}
	}
}

func (k *asked) catchUp(a *acquires) {
	a.mu.Lock()
	defer a.mu.Unlock()
	turn := a.turn.Load()
	if behind := turn - k.turn; behind > uint64(len(a.log)) {
		clear(k.when)
	} else {
		for _, policy := range a.log[len(a.log)-int(behind):] {
			delete(k.when, policy)
		}
	}
	k.turn = turn
}

// first reports whether policy is to be asked for now, and notes that it was.
func (k *asked) first(policy uint32, now int64) bool {
	if when, was := k.when[policy]; was && now-when < int64(AcquireAgain) {
		return false
	}
	if k.when == nil {
		k.when = map[uint32]int64{}
	}
	k.when[policy] = now
	return true
}

// satisfied notes that the policy has an SA.
func (k *asked) satisfied(policy uint32) {
	if len(k.when) > 0 {
		delete(k.when, policy)
	}
}
