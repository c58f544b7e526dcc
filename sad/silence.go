package sad

import (
	"net/netip"
	"time"
)

// silence is what is known of a watched SA (Params.Watched) that sends and gets nothing. It is looked at from time to time
// (Silent), by the times that both halves note anyway, so that a packet costs nothing.
type silence struct {
	sent  int64 // the last packet out, Unix ns, at the last look
	first int64 // a packet out since which nothing has come, Unix ns; 0: there is none
	looks int   // at how many looks packets had left since then
	told  int64 // Unix ns when Silent last named the SA; 0: never
}

const (
	// LookEvery is how often Silent is to be called while packets leave.
	LookEvery = 500 * time.Millisecond
	// Nothing comes if packets have left at so many looks, over so long.
	silentLooks = 2
	silentFor   = time.Second
	// SilentAgain is how often an SA is named at most.
	SilentAgain = 10 * time.Second
)

// Watching reports whether any SA is watched. It takes no lock.
func (t *Table) Watching() bool { return t.watching.Load() > 0 }

// Silent lists the watched SAs that send and get nothing, and reports whether any has sent since the last look. now is in Unix ns.
func (t *Table) Silent(now int64) (silent []uint64, busy bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.watched {
		if c.stage.Load() != stageActive {
			continue
		}
		s, out, in := &c.silence, c.out.usage.last.Load(), c.in.usage.last.Load()
		if in >= s.first {
			s.first, s.looks = 0, 0
		}
		if out > s.sent {
			s.sent, busy = out, true
			if out > in {
				s.looks++
			}
			if s.first == 0 && out > in {
				s.first = out
			}
		}
		if s.looks >= silentLooks && now-s.first >= int64(silentFor) && (s.told == 0 || now-s.told >= int64(SilentAgain)) {
			if c.companionsHeard() >= s.first {
				s.first, s.looks = 0, 0
				continue
			}
			s.told = now
			silent = append(silent, c.ID)
		}
	}
	return silent, busy
}

// companionsHeard is when something last came by one of the SAs beside c that carry the same traffic, each for a line
// of one end: what leaves by one of them may be answered by another. Unix ns; 0: never, or c has none.
func (c *Child) companionsHeard() (last int64) {
	active := c.table.policies.find(c.Policy, 0)
	for i := range active {
		if d := active[i].out.child; d != c && d.Client == c.Client && (c.Line != 0 || d.Line != 0) {
			last = max(last, d.in.usage.last.Load())
		}
	}
	return last
}

// maxBetween is among how many SAs of a path Between looks: behind one NAT there may be many.
const maxBetween = 64

// Between finds a CHILD SA between two ends that was negotiated; 0: there is none. udp: what came from remote came in UDP.
func (t *Table) Between(local netip.Addr, remote netip.AddrPort, udp bool) (child uint64) {
	t.paths.mu.RLock()
	defer t.paths.mu.RUnlock()
	p := t.paths.to[remote.Addr()]
	if local.IsValid() && !local.IsUnspecified() {
		p = t.paths.byEnds[[2]netip.Addr{local, remote.Addr()}]
	}
	if p == nil {
		return 0
	}
	for c, n := p.users, 0; c != nil && n < maxBetween; c, n = c.onPath.next, n+1 {
		if e := c.endpoint.Load(); !c.manual && (!udp || !e.UDP || e.Remote == remote) {
			return c.ID
		}
	}
	return 0
}
