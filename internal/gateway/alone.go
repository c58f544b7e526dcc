package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/host/guard"
	"culvert/tun"
)

// The guard without a gateway: before its start and after its end.

// startWait is how long a start waits until another gateway releases its table, or until the
// system has released what a killed gateway had.
const startWait = 5 * time.Second

// GuardOn sets up the guard as the gateway would before it has any SA, and leaves it in place. It
// returns how many flows are guarded, and the warnings of the configuration. The error is
// ErrEnvironment if a gateway runs, which has its own guard, or if a privilege is missing, and
// config.Faults if the configuration has faults.
func GuardOn(path string) (flows int, warnings []config.Warning, err error) {
	c, warnings, err := config.Load(path)
	if err != nil {
		return 0, warnings, err
	}
	if !c.Gateway.Guard {
		return 0, warnings, fmt.Errorf("%s has guard = false in [gateway]: remove the line", path)
	}
	plan, err := guardBefore(c)
	if err != nil {
		return 0, warnings, err
	}
	err = withGuard(int(c.Gateway.Table), func(g guard.Guard) error { return g.Apply(plan) })
	return len(plan.Flows), warnings, err
}

// guardBefore is the guard's plan of a configuration before the gateway has started.
// It covers clients as guard-always does, because no client has an address yet.
func guardBefore(c *config.Config) (guard.Plan, error) {
	g := *c
	g.Gateway.GuardAlways = true
	r, err := compile.Compile(&g, [2]uint16{c.Gateway.Port, c.Gateway.NATTPort}, nil)
	if err != nil {
		return guard.Plan{}, err
	}
	p := r.Plan(func(core.PolicyRef) bool { return false })
	e := Edges{LANs: func() ([]netip.Prefix, error) { return tun.LANs(c.Gateway.Tun) }}
	lans, err := e.lans(p, true)
	if err != nil {
		return guard.Plan{}, err
	}
	return guardPlan(p, &g, c.Gateway.Tun, lans, func(string) bool { return false }), nil
}

// GuardOff removes the guard that a gateway with the configuration in path has left, or, if path
// is empty, the guards of all gateways that do not run. It returns their routing tables.
func GuardOff(path string) (tables []int, err error) {
	left, err := guard.Tables()
	if err != nil {
		return nil, environment(err)
	}
	if path != "" {
		c, _, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		if left = only(left, int(c.Gateway.Table)); len(left) == 0 {
			return nil, nil
		}
	}
	var errs []error
	for _, t := range left {
		if err := withGuard(t, func(g guard.Guard) error { return g.Apply(guard.Plan{}) }); err != nil {
			errs = append(errs, err)
			continue
		}
		tables = append(tables, t)
	}
	return tables, errors.Join(errs...)
}

func only(tables []int, table int) []int {
	for _, t := range tables {
		if t == table {
			return []int{t}
		}
	}
	return nil
}

// withGuard runs f with the guard of a routing table that no running gateway uses.
func withGuard(table int, f func(guard.Guard) error) error {
	lock, err := tun.Lock(tun.Options{Table: table})
	if errors.Is(err, tun.ErrTableInUse) {
		return environment(fmt.Errorf("a gateway with table %d is running and has its own guard: stop it first, or set guard in its [gateway] and run \"culvert reload\" (%w)", table, err))
	}
	if err != nil {
		return environment(err)
	}
	defer lock.Close()
	g, err := guard.New(guard.Options{Table: table})
	if err != nil {
		return environment(err)
	}
	return errors.Join(f(g), g.Leave())
}
