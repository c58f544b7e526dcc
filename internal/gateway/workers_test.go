package gateway

import (
	"errors"
	"runtime"
	"testing"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

// held is work that waits.
type held struct{ begun, release chan struct{} }

func (w held) Do() (secret.Bytes, error) {
	w.begun <- struct{}{}
	<-w.release
	return secret.Bytes("done"), nil
}

// A question that is taken back is answered at once if nobody works on it, and leaves
// the queue; one that is worked on is answered as ever.
func TestWithdraw(t *testing.T) {
	answers := make(chan core.Answer, 10)
	p := newWorkers(func(a core.Answer) { answers <- a })
	work := held{make(chan struct{}, 10), make(chan struct{})}
	const all = 10 // more than there are workers
	for id := range core.AskID(all) {
		p.do(id, work.Do)
	}
	<-work.begun
	p.withdraw(0)
	p.withdraw(all - 1)
	p.withdraw(all - 1)
	p.withdraw(1000)
	if a := <-answers; a.ID != all-1 || !errors.Is(a.Err, core.ErrWithdrawn) {
		t.Errorf("answer %d: %v", a.ID, a.Err)
	}
	p.mu.Lock()
	for _, a := range p.queue {
		if a.id == all-1 {
			t.Error("it still waits")
		}
	}
	p.mu.Unlock()
	close(work.release)
	got := map[core.AskID]bool{}
	for range all - 1 {
		a := <-answers
		if a.Err != nil || string(a.Data) != "done" || got[a.ID] {
			t.Errorf("answer %d: %v", a.ID, a.Err)
		}
		got[a.ID] = true
	}
	p.close()
	if len(answers) != 0 || !got[0] {
		t.Errorf("%d answers too many, the one begun was answered: %v", len(answers), got[0])
	}
}

// As many questions are worked on at once as there are processors, up to four.
func TestWorkersWorkAtOnce(t *testing.T) {
	answers := make(chan core.Answer, 10)
	p := newWorkers(func(a core.Answer) { answers <- a })
	work := held{make(chan struct{}), make(chan struct{})}
	all := min(4, runtime.NumCPU())
	for id := range core.AskID(all) {
		p.do(id, work.Do)
	}
	for range all {
		<-work.begun // none has ended yet
	}
	close(work.release)
	p.close()
	if len(answers) != all {
		t.Errorf("%d answers to %d questions", len(answers), all)
	}
}
