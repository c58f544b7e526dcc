package datapath

import (
	"time"

	"culvert/sad"
)

// Each of several lines may have CHILD SAs for itself (sad.Params.Line). Where it has none, it shares one with the others,
// and the daemon is told, which may make one.

// BusyEvery is how often the daemon is told at most that a line has no CHILD SA for itself.
const BusyEvery = time.Second

// busy is one line's memory of the CHILD SAs that it shares: when it told the daemon of each, in Unix ns.
type busy map[uint64]int64

// maxBusy is how many it remembers. If there are more, it forgets all, and tells of some of them too often.
const maxBusy = 4096

// tellBusy is called when the packets of a batch begin to leave by another SA.
func (w *outWorker) tellBusy(c *sad.Child, now int64) {
	if w.line == 0 || c.Line == w.line {
		return
	}
	if told, was := w.busy[c.ID]; was && now-told < int64(BusyEvery) {
		return
	}
	if len(w.busy) >= maxBusy {
		clear(w.busy)
	}
	if w.busy == nil {
		w.busy = busy{}
	}
	w.busy[c.ID] = now
	w.path.cfg.Notify.Busy(c.ID, w.line)
}
