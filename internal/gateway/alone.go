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

// The guard without a gateway: before one has started, and after one has ended.

// startWait is for how long a start waits for a gateway that has its table, or has
// something that a killed one had: the system takes a moment to end a process.
const startWait = 5 * time.Second

// GuardOn sets up the guard as the gateway will have it before it has any SA, and
// leaves it. It returns how many flows it guards, and the warnings of the
// configuration. ErrEnvironment where a gateway runs, which has its own guard, or
// the machine lacks something; config.Faults where the configuration has faults.
func GuardOn(path string) (flows int, warnings []config.Warning, err error) {
	c, warnings, err := config.Load(path)
	if err != nil {
		return 0, warnings, err
	}
	if !c.Gateway.Guard {
		return 0, warnings, fmt.Errorf("%s says guard = false in [gateway]: take it out", path)
	}
	plan, err := guardBefore(c)
	if err != nil {
		return 0, warnings, err
	}
	err = withGuard(int(c.Gateway.Table), func(g guard.Guard) error { return g.Apply(plan) })
	return len(plan.Flows), warnings, err
}

// guardBefore is the guard's plan of a configuration before the gateway has started.
// Clients count as if guard-always were written: who asks for a guard before the
// gateway runs does not want to wait for addresses.
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

// GuardOff takes away the guard that a gateway with a configuration left, or with
// an empty path those of all gateways that do not run. It returns their routing tables.
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

// withGuard runs f with the guard of a routing table, while no gateway has that.
func withGuard(table int, f func(guard.Guard) error) error {
	lock, err := tun.Lock(tun.Options{Table: table})
	if errors.Is(err, tun.ErrTableInUse) {
		return environment(fmt.Errorf("a gateway with table %d runs and keeps its own guard: stop it first, or write guard into its [gateway] and run \"culvert reload\" (%w)", table, err))
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
