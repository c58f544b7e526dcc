package v2

import (
	"slices"
	"testing"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// ending is a task that notes that it ended.
type ending struct {
	noop
	name string
	log  *[]string
}

func (t *ending) end(*exchange) { *t.log = append(*t.log, t.name) }

func bareSA() *SA {
	return withKeys(&ikesa.SA{Env: core.NewEnv([32]byte{}), Peer: &core.Peer{}}, keys{})
}

// However an exchange comes to its end, and if more than one thing ends it, each task ends
// once, in reverse order.
func TestTasksEndOnce(t *testing.T) {
	for name, ends := range map[string]func(x *exchange){
		"abandoned":           (*exchange).abandon,
		"over":                (*exchange).conclude,
		"over, abandoned":     func(x *exchange) { x.conclude(); x.abandon() },
		"abandoned, over":     func(x *exchange) { x.abandon(); x.conclude() },
		"over twice":          func(x *exchange) { x.conclude(); x.conclude() },
		"waiting in a queue":  func(x *exchange) { x.sa.queue = []*exchange{x}; x.sa.dropQueue(); x.sa.dropQueue() },
		"parked and dropped":  func(x *exchange) { x.sa.parked.theirs = []*exchange{x}; x.sa.parked.end(); x.sa.parked.end() },
		"parked and replaced": func(x *exchange) { x.sa.parked.mine = x; x.sa.parked.end(); x.abandon() },
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			x := newExchange(&kind{tasks: func() []task {
				return []task{&ending{name: "first", log: &log}, noop{}, &ending{name: "second", log: &log}}
			}})
			x.sa = bareSA()
			if ends(x); !slices.Equal(log, []string{"second", "first"}) || !x.over {
				t.Errorf("ended: %v, over: %v", log, x.over)
			}
		})
	}
}

// Tasks belong to one exchange alone.
func TestTasksAreFresh(t *testing.T) {
	for id := initial; id <= inform; id++ {
		a, b := newExchange(row(id)), newExchange(row(id))
		if len(a.tasks) == 0 || len(a.tasks) != len(b.tasks) {
			t.Fatalf("%s has %d and %d tasks", a.kind.name, len(a.tasks), len(b.tasks))
		}
	}
	a, b := newExchange(row(inform)), newExchange(row(inform))
	part[*deletion](a).closes = true
	if closes(b) || !closes(a) || part[*proof](a) != nil {
		t.Error("two exchanges share a task")
	}
}

func TestRoundsAreBounded(t *testing.T) {
	x := newExchange(row(authenticate))
	x.sa = bareSA()
	for i := 1; i < maxRounds; i++ {
		if x.more = true; x.anotherRound() != nil || x.more {
			t.Fatalf("after %d rounds there is no other", i)
		}
	}
	if x.anotherRound() == nil {
		t.Errorf("more than %d rounds are begun", maxRounds)
	}
}

// What waits between two rounds counts as what a half-open IKE SA keeps.
func TestWeightBetweenRounds(t *testing.T) {
	sa := bareSA()
	before := sa.Weight()
	sa.between = &exchange{sa: sa, held: 1000}
	if got := sa.Weight() - before; got != 1000*perRead {
		t.Errorf("1000 bytes of the first round weigh %d", got)
	}
	sa.between, sa.answering = nil, sa.between
	if got := sa.Weight() - before; got != 1000*perRead {
		t.Errorf("1000 bytes of the first round weigh %d while a later one is answered", got)
	}
}
