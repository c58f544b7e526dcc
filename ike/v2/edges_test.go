package v2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// texts are what the SA's host was told, taken out of it.
func texts(sa *SA) (list []string) {
	for o, ok := sa.base.Env.Poll(); ok; o, ok = sa.base.Env.Poll() {
		if e, ok := o.(core.Event); ok {
			list = append(list, e.Reason)
		}
	}
	return list
}

// talking is an SA that can tell its host something.
func talking() *SA {
	sa := bareSA()
	sa.tickets.sa, sa.away.sa, sa.base.Protocol = sa, sa, sa
	return sa
}

// A response with a part of a CHILD SA and no reason is refused, whichever part is missing.
func TestPartOfAChild(t *testing.T) {
	all := []message.Payload{&message.SA{}, &message.TS{Initiator: true}, &message.TS{}}
	for i := range all {
		x := newExchange(&kind{})
		x.sa = bareSA()
		x.in = slices.Delete(slices.Clone(all), i, i+1)
		if err := (&pendingChild{policy: &core.Policy{}}).read(x, nil); !isRefused(err, message.NotifyInvalidSyntax) || !strings.Contains(err.Error(), "no CHILD SA and no reason") {
			t.Errorf("without part %d: %v", i, err)
		}
	}
}

// A REDIRECT that leads somewhere is followed without a word about one that does not.
func TestReadProtectedRedirect(t *testing.T) {
	here := core.Gateway{Addr: netip.MustParseAddr("192.0.2.3")}
	for _, c := range []struct {
		name string
		in   []message.Payload
		to   bool
		told int
	}{
		{"none", nil, false, 0}, {"to a gateway", []message.Payload{&message.Notify{Kind: message.NotifyRedirect, Data: bytesOf(here, nil)}}, true, 0},
		{"to nothing", []message.Payload{&message.Notify{Kind: message.NotifyRedirect, Data: []byte{1, 4, 0, 0}}}, false, 1},
	} {
		x := newExchange(&kind{})
		x.sa, x.in = talking(), c.in
		task := &redirectedAuth{}
		task.read(x)
		if told := texts(x.sa); (task.to != nil) != c.to || c.to && *task.to != here || len(told) != c.told || c.told > 0 && !strings.Contains(told[0], "a gateway that cannot be") {
			t.Errorf("%s: %v, told %q", c.name, task.to, told)
		}
	}
}

// The successor of an IKE SA waits for its client to go, and what it was waits no longer.
func TestAwayIsInherited(t *testing.T) {
	old, n := talking(), talking()
	n.base.Env = old.base.Env
	to, until := core.Gateway{Name: "other.example"}, time.Unix(1000, 0)
	old.away.to, old.away.until = to, until
	old.away.watch()
	n.away.inherit(old)
	env := old.base.Env
	if at := old.away.timer.Time(); !at.IsZero() {
		t.Errorf("the former one still waits until %v", at)
	}
	if n.away.sa != n || n.away.to != to || !n.base.Leaving || n.away.timer == nil || !n.away.timer.Time().Equal(until) {
		t.Errorf("the successor: %+v, leaving %v", n.away, n.base.Leaving)
	}
	n.away.end()
	if at, ok := env.Timers.Next(); ok {
		t.Errorf("then something still waits until %v", at)
	}
}

// What the peer uses of the successor that it made settles a collision once, and not where the predecessor is gone
// already.
func TestClaimIsOfALivePredecessor(t *testing.T) {
	for _, state := range []ikesa.State{HalfOpen, Replaced, Closing, Ended} {
		old, n := talking(), talking()
		n.base.Env, n.inherits, old.successor, old.base.State = old.base.Env, old, n, state
		waits := newExchange(row(inform))
		waits.sa = old
		old.queue = []*exchange{waits}
		if n.claim(nil); n.inherits != old || old.successor != n || len(old.queue) != 1 || len(n.queue) != 0 || waits.sa != old {
			t.Errorf("%v: it was replaced: successor %v, inherits %v", state, old.successor, n.inherits)
		}
	}
}

// A ticket of an IKE SA that is deleted is gone at once: nothing asks for another, and nothing can be resumed.
func TestDeletedIsNotResumed(t *testing.T) {
	sa := talking()
	s := &Session{ticket: []byte("ticket"), d: secret.Bytes("key")}
	d := s.d
	asked := false
	sa.tickets.session = s
	sa.tickets.timer = sa.base.Env.After(time.Hour, func() { asked = true })
	sa.tickets.deleted()
	if sa.base.Env.Timers.Run(sa.base.Env.Now().Add(2 * time.Hour)); asked {
		t.Error("another ticket is asked for")
	}
	if sa.tickets.session != nil || slices.ContainsFunc(d, func(b byte) bool { return b != 0 }) {
		t.Errorf("the session is %+v, its key % x", sa.tickets.session, []byte(d))
	}
}

// What MOBIKE has to say waits before everything else, once, and is said only as long as the IKE SA lives.
func TestMOBIKEWaitsForALiveSA(t *testing.T) {
	sa := talking()
	other := newExchange(row(inform))
	other.sa = sa
	sa.base.State, sa.current, sa.queue = Established, newExchange(row(inform)), []*exchange{other}
	w := roaming{sa: sa}
	for range 2 {
		w.update()
		w.tell()
	}
	if len(sa.queue) != 3 || sa.queue[2] != other {
		t.Fatalf("%d wait", len(sa.queue))
	}
	for _, x := range sa.queue[:2] {
		for _, state := range []ikesa.State{Established, Replaced, Closing, Ended} {
			if sa.base.State = state; x.still == nil || x.still() != (state == Established) {
				t.Errorf("%v: it is still to be said", state)
			}
		}
	}
}
