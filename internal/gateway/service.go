package gateway

import (
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"culvert/ike/core"
)

// service answers Asks of the endpoint, and handles other outputs that the plane does not.
// To add one, write one file with its constructor, and add a row to serviceTable.
type service interface {
	// takes lists what the service takes: the Work of Asks, and other outputs, each as a zero
	// value. No two services take the same.
	takes() []any
	// take handles one output. It is called in the gateway's goroutine and must not wait. The
	// Answer to an Ask may come from any goroutine, also from within take.
	take(out core.Output)
	// part is how the service changes to another configuration. The zero part does nothing.
	part() part
	// close waits for what the service has begun. take is not called after close.
	close()
}

// serviceTable has one row for each service. The workers compute the Work that no service takes.
var serviceTable = []func(serviceEnv) service{
	newNames,
	newFetches,
	newLeaseService,
	newTickets,
}

// serviceEnv is what a service may use.
type serviceEnv struct {
	log     *slog.Logger
	edges   *Edges
	state   *state
	workers *workers
	now     func() time.Time
	answer  func(core.Answer) // from any goroutine
	// input hands the endpoint an input, in the gateway's goroutine.
	input func(core.Input)
}

// services are those of a gateway.
type services struct {
	list    []service
	by      map[reflect.Type]service
	workers *workers
}

// newServices makes the services of a table.
func newServices(env serviceEnv, table []func(serviceEnv) service) *services {
	env.workers = newWorkers(env.answer)
	s := &services{by: map[reflect.Type]service{}, workers: env.workers}
	for _, newService := range table {
		x := newService(env)
		s.list = append(s.list, x)
		for _, v := range x.takes() {
			t := reflect.TypeOf(v)
			if s.by[t] != nil {
				panic(fmt.Sprintf("gateway: two services take %v", t))
			}
			s.by[t] = x
		}
	}
	return s
}

// take hands an output to the service that takes it.
func (s *services) take(out core.Output) {
	key := any(out)
	ask, isAsk := out.(core.Ask)
	if isAsk {
		key = ask.Work
	}
	x := s.by[reflect.TypeOf(key)]
	withdraw, isWithdraw := out.(core.Withdraw)
	switch {
	case x != nil:
		x.take(out)
	case isAsk:
		s.workers.do(ask.ID, ask.Work.Do)
	case isWithdraw:
		s.workers.withdraw(withdraw.ID)
	default:
		panic(fmt.Sprintf("gateway: the endpoint put out a %T, which no service takes", out))
	}
}

// find is the service of type T; the zero value if there is none.
func find[T service](s *services) (x T) {
	for _, y := range s.list {
		if y, ok := y.(T); ok {
			return y
		}
	}
	return x
}

func (s *services) close() {
	for _, x := range s.list {
		x.close()
	}
	s.workers.close()
}
