package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/host/guard"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

// enemy is a restorer on virtual time, and a host that others change.
type enemy struct {
	clock *simnet.Clock
	host  *tun.MemoryHost
	log   *buffer
	r     *restorer
	layer *layer
	times []time.Duration // of the restores that found something, since the start
	takes time.Duration   // a comparison
	timer *simnet.Timer
}

// slow is a host whose comparison takes its time.
type slow struct {
	*tun.MemoryHost
	e *enemy
}

func (s slow) Restore() (restored, by []string, err error) {
	restored, by, err = s.MemoryHost.Restore()
	s.e.clock.Run(s.e.clock.Now().Add(s.e.takes))
	return restored, by, err
}

func newEnemy() *enemy {
	e := &enemy{clock: simnet.NewClock(start), host: &tun.MemoryHost{}, log: &buffer{}}
	e.r = &restorer{log: newLogger(e.log, config.LogText, nil), now: e.clock.Now}
	e.r.after = func(restored bool) {
		if restored {
			e.times = append(e.times, e.clock.Now().Sub(start))
		}
	}
	e.layer = e.r.add(slow{e.host, e})
	return e
}

// disturb is somebody who removes a rule.
func (e *enemy) disturb(by string) {
	e.host.Disturb(by, "rule 10000 was removed")
	e.poll()
}

// poll is what the gateway's loop does.
func (e *enemy) poll() {
	select {
	case <-e.layer.reports():
		e.r.changed(e.layer)
	default:
	}
	at := e.r.work()
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if !at.IsZero() {
		e.timer = e.clock.At(at, e.poll)
	}
}

func (e *enemy) run(d time.Duration) { e.clock.Run(e.clock.Now().Add(d)) }

func (e *enemy) lines() []string {
	var list []string
	for l := range strings.Lines(e.log.String()) {
		list = append(list, strings.TrimSpace(l))
	}
	return list
}

// One change is put right at once and is one line, which says what and by whom.
func TestRestoreOnce(t *testing.T) {
	e := newEnemy()
	e.disturb("firewalld (process 7)")
	e.run(gatherChanges)
	if list, _ := e.host.Differences(); len(list) > 0 || len(e.times) != 1 {
		t.Errorf("%q is not restored after %v", list, gatherChanges)
	}
	e.run(time.Hour)
	if lines := e.lines(); len(lines) != 1 || !strings.Contains(lines[0], "rule 10000 was removed") || !strings.Contains(lines[0], "firewalld (process 7)") || e.host.Restores() != 1 {
		t.Errorf("%d comparisons, log:\n%s", e.host.Restores(), e.log)
	}
}

// What is reported and is no difference is no line.
func TestRestoreNothing(t *testing.T) {
	e := newEnemy()
	e.host.Disturb("dhclient (process 9)")
	e.poll()
	e.run(time.Hour)
	e.disturb("")
	e.run(time.Hour)
	if lines := e.lines(); len(lines) != 1 || strings.Contains(lines[0], "dhclient") || e.host.Restores() != 2 {
		t.Errorf("%d comparisons, log:\n%s", e.host.Restores(), e.log)
	}
}

// Somebody who removes again each time at once is answered less and less often, yet
// never later than a second; the log has fewer and fewer lines and says who.
func TestRestoreFight(t *testing.T) {
	e := newEnemy()
	after := e.r.after
	e.r.after = func(restored bool) {
		after(restored)
		e.clock.At(e.clock.Now().Add(time.Millisecond), func() { e.disturb("other-vpn (process 66)") })
	}
	e.disturb("other-vpn (process 66)")
	e.run(time.Hour)
	if len(e.times) < 3600 || len(e.times) > 7210 {
		t.Errorf("%d restores in an hour", len(e.times))
	}
	for i := range e.times[1:] {
		if gap := e.times[i+1] - e.times[i]; gap > time.Second-gatherChanges || i > 10 && gap < longestPause {
			t.Fatalf("restore %d comes %v after the last one", i+1, gap)
		}
	}
	lines := e.lines()
	if len(lines) < fightAfter+5 || len(lines) > fightAfter+20 {
		t.Errorf("%d lines of log in an hour", len(lines))
	}
	for i, l := range lines {
		if !strings.Contains(l, "other-vpn (process 66)") || strings.Contains(l, "keeps changing") != (i >= fightAfter) {
			t.Errorf("line %d: %s", i, l)
		}
	}

	// Once it is over, the next change is answered at once again, and told.
	e.r.after = after
	e.run(time.Minute)
	logged, restored := len(e.lines()), len(e.times)
	e.disturb("firewalld (process 7)")
	e.run(gatherChanges)
	if lines := e.lines(); len(e.times) != restored+1 || len(lines) != logged+1 || strings.Contains(lines[logged], "keeps changing") {
		t.Errorf("after the fight: %d restores, log:\n%s", len(e.times)-restored, strings.Join(lines[logged:], "\n"))
	}
}

// Only what was reported is compared, the guard first.
func TestRestoreLayers(t *testing.T) {
	e := newEnemy()
	shield := &guard.Memory{}
	var order []string
	l := e.r.add(ordered{shield, &order})
	e.r.layers[0], e.r.layers[1] = e.r.layers[1], e.r.layers[0]
	shield.Disturb("nft (process 5)", "the guard's table was removed")
	<-l.reports()
	e.r.changed(l)
	e.disturb("")
	e.run(time.Minute)
	if lines := e.lines(); len(lines) != 1 || !strings.Contains(lines[0], "the guard's table was removed; rule 10000 was removed") || len(order) != 1 {
		t.Errorf("%q, log:\n%s", order, e.log)
	}
	e.disturb("")
	e.run(time.Minute)
	if len(order) != 1 || e.host.Restores() != 2 {
		t.Errorf("the guard was compared %d times, the host %d times", len(order), e.host.Restores())
	}
	if e.r.add(nil).reports() != nil || e.r.add(struct{}{}).reports() != nil {
		t.Error("what reports nothing is watched")
	}
}

type ordered struct {
	*guard.Memory
	order *[]string
}

func (o ordered) Restore() (restored, by []string, err error) {
	*o.order = append(*o.order, "guard")
	return o.Memory.Restore()
}

// Different things one after the other are no fight: each has its line at once.
func TestRestoreManyThings(t *testing.T) {
	e := newEnemy()
	for i := range 50 {
		e.host.Disturb("", fmt.Sprintf("rule %d was removed", i))
		e.poll()
		e.run(shortestPause + gatherChanges)
		if list, _ := e.host.Differences(); len(list) > 0 || len(e.lines()) != i+1 {
			t.Fatalf("after %d: %q is not restored, or not told:\n%s", i, list, e.log)
		}
	}
}

// Who changes things every other second is no reason to wait: each is put right at once.
func TestRestoreOften(t *testing.T) {
	e := newEnemy()
	for range 100 {
		e.disturb("chaos")
		e.run(gatherChanges)
		if list, _ := e.host.Differences(); len(list) > 0 {
			t.Fatalf("after %d: not restored", len(e.times))
		}
		e.run(2 * time.Second)
	}
}

// A comparison of thousands of rules takes its time, and then leaves time for the rest.
func TestRestoreSlowly(t *testing.T) {
	e := newEnemy()
	e.takes = time.Second
	e.disturb("")
	e.run(gatherChanges)
	for range 100 {
		e.host.Disturb("") // reports without a difference
		e.poll()
		e.run(100 * time.Millisecond)
	}
	if n := e.host.Restores(); n > 4 {
		t.Errorf("%d comparisons of a second each in %v", n, e.clock.Now().Sub(start))
	}
}

// What cannot be put right is tried again without a report, at growing intervals, and
// one line says so; another says that it is over.
func TestRestoreFails(t *testing.T) {
	e := newEnemy()
	e.host.Fail(errors.New("IPv6 is disabled"))
	e.disturb("")
	e.run(time.Hour)
	if n := e.host.Restores(); n < 60 || n > 70 {
		t.Errorf("%d tries in an hour", n)
	}
	if lines := e.lines(); len(lines) != 1 || !strings.Contains(lines[0], "IPv6 is disabled") {
		t.Errorf("log:\n%s", e.log)
	}
	e.host.Fail(nil)
	e.run(longestRetry)
	if lines := e.lines(); len(lines) != 3 || !strings.Contains(lines[1], "rule 10000") || !strings.Contains(lines[2], "set them up again") {
		t.Errorf("log:\n%s", e.log)
	}
	tries := e.host.Restores()
	e.run(time.Hour)
	if e.host.Restores() != tries {
		t.Error("it goes on although all is well")
	}
}

// What has to be restored again within ten seconds is a fight, at ten seconds to the dot, too; what
// takes longer never is.
func TestRestoreFightGap(t *testing.T) {
	for gap, want := range map[time.Duration]bool{fightGap: true, fightGap + 1: false} {
		e := newEnemy()
		for range 2 * fightAfter {
			e.disturb("chaos")
			e.run(gap)
		}
		if fight := strings.Contains(e.log.String(), "keeps changing"); fight != want || len(e.times) != 2*fightAfter {
			t.Errorf("%d restores, one each %v, are a fight: %v", len(e.times), gap, fight)
		}
	}
}
