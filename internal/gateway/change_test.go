package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/gateway/view"
	"culvert/internal/host/guard"
	"culvert/internal/state/store"
	"culvert/internal/testing/simnet"
)

// watched is an endpoint that notes the inputs that it gets.
type watched struct {
	*ike.Endpoint
	inputs []string
}

func (e *watched) Handle(now time.Time, in core.Input) {
	e.inputs = append(e.inputs, fmt.Sprintf("%T", in))
	e.Endpoint.Handle(now, in)
}

// changing is a gateway on virtual time whose changes can be made to fail. It is the east of
// a world.
type changing struct {
	*gateway
	w        *world
	endpoint *watched
	guard    *guard.Memory
	memory   *store.Memory
	log      *buffer
}

// parts of a configuration and of another one that differs in all that parts decide about.
func changeConfigs(t *testing.T) (first, second string) {
	first = passive(site(westAddr, "102", "101")) + strings.NewReplacer(`exchange-mode = "ike2"`, `exchange-mode = "ike2"`, `"ike2"`, `"warriors"`).Replace(warriorServer)
	second = resuming(first)
	for _, r := range [][2]string{
		{"192.168.77.2-192.168.77.254", "192.168.78.2-192.168.78.9"},
		{`"ike2-pool"`, `"other-pool"`},
		{`dst-address = "10.1.101.0/24"`, `dst-address = "10.1.99.0/24"`},
		{"template = true", "template = true\ndisabled = true"},
	} {
		if !strings.Contains(second, r[0]) {
			t.Fatalf("no %q", r[0])
		}
		second = strings.ReplaceAll(second, r[0], r[1])
	}
	return first, "[gateway]\nlog-level = \"error\"\nguard-always = true\n" + second
}

func newChanging(t *testing.T) *changing {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	n := w.east
	c := &changing{w: w, endpoint: &watched{Endpoint: ike.New([32]byte{9})}, guard: &guard.Memory{}, memory: withLease(t), log: &buffer{}}
	g := &gateway{cfg: parse(t, ""), level: new(slog.LevelVar), attempts: view.NewAttempts(), edges: Edges{
		Host: n.host, Conn: n.conn, Device: n.device, Guard: c.guard,
		Store: func(string) (store.Store, error) { return kept{c.memory}, nil },
	}}
	g.log = newLogger(c.log, config.LogText, g.level)
	g.events = &events{log: g.log}
	g.state = &state{log: g.log, open: g.openStore}
	c.gateway = g
	g.assemble(c.endpoint, w.clock.Now, serviceTable)
	n.plane = g.plane
	t.Cleanup(g.services.close)
	return c
}

func (c *changing) change(t *testing.T, text string, alter func([]part) []part) error {
	next := parse(t, text)
	result, err := compile.Compile(next, [2]uint16{500, 4500}, c.compiled)
	if err != nil {
		return err
	}
	x := &change{now: c.w.clock.Now(), was: c.compiled, next: next, result: result}
	list := c.parts(x)
	if alter != nil {
		list = alter(list)
	}
	err = transact(list, x)
	c.w.east.settle()
	return err
}

// everything is all that a change may touch, as text.
func (c *changing) everything() map[string]string {
	last := func(plans []guard.Plan) string {
		if len(plans) == 0 || len(plans[len(plans)-1].Flows) == 0 {
			return "none"
		}
		return fmt.Sprint(plans[len(plans)-1])
	}
	routes := "none"
	if plans := c.w.east.host.Plans(); len(plans) > 0 {
		routes = fmt.Sprint(plans[len(plans)-1])
	}
	pools := ""
	for _, name := range []string{"ike2-pool", "other-pool"} {
		inUse, kept := find[*leases](c.services).count(name)
		pools += fmt.Sprintln(name, inUse, kept)
	}
	at, ok := c.plane.Deadline()
	return map[string]string{
		"pools":     pools,
		"tickets":   fmt.Sprint(find[*tickets](c.services).loaded),
		"state":     fmt.Sprint(c.state.isOpen()),
		"guard":     last(c.guard.Plans()),
		"routes":    routes,
		"policies":  fmt.Sprint(c.plane.Policies.Policies()),
		"uses":      fmt.Sprint(c.plane.Uses, c.plane.Replan),
		"templates": fmt.Sprint(slices.Sorted(maps.Keys(c.plane.Templates))),
		"timers":    fmt.Sprint(at, ok),
		"sessions":  fmt.Sprintf("%+v", c.endpoint.SAs()),
		"inputs":    fmt.Sprint(c.endpoint.inputs),
		"attempts":  fmt.Sprintf("%+v", c.attempts),
		"strangers": fmt.Sprint(c.plane.Inbox.Most.Load()),
		"log level": c.level.Level().String(),
		"in force":  fmt.Sprintf("%p %p", c.cfg, c.compiled),
	}
}

func (c *changing) same(t *testing.T, before map[string]string) {
	t.Helper()
	for name, is := range c.everything() {
		if was := before[name]; is != was {
			t.Errorf("%s:\nbefore %s\nafter  %s", name, was, is)
		}
	}
}

var errInjected = errors.New("injected")

// failures are all ways in which a change of so many parts can fail: in prepare or try of one,
// before it has done anything or after.
func failures(list []part) map[string]func([]part) []part {
	all := map[string]func([]part) []part{}
	for i, p := range list {
		fail := func(f func(*change) error, first bool) func(*change) error {
			return func(c *change) error {
				if f != nil && !first {
					if err := f(c); err != nil {
						return err
					}
				}
				return errInjected
			}
		}
		for _, first := range []bool{true, false} {
			when := map[bool]string{true: " before", false: " after"}[first]
			all[p.name+": prepare"+when] = func(list []part) []part {
				list[i].prepare = fail(list[i].prepare, first)
				return list
			}
			if p.try != nil {
				all[p.name+": try"+when] = func(list []part) []part {
					list[i].try = fail(list[i].try, first)
					return list
				}
			}
		}
	}
	return all
}

// Whichever part of a start fails, nothing is left of it, and the next start succeeds.
func TestStartIsATransaction(t *testing.T) {
	first, _ := changeConfigs(t)
	c := newChanging(t)
	probe := c.parts(&change{next: c.cfg, result: &compile.Result{}})
	for name, alter := range failures(probe) {
		before := c.everything()
		if err := c.change(t, first, alter); !errors.Is(err, errInjected) {
			t.Fatalf("%s: %v", name, err)
		}
		// What the host was given is taken back when the edges are closed.
		c.w.east.host.ForgetPlans()
		c.same(t, before)
		if t.Failed() {
			t.Fatalf("after the failure %q", name)
		}
	}
	if err := c.change(t, resuming(first), nil); err != nil {
		t.Fatal(err)
	}
	after := c.everything()
	if after["tickets"] != "true" || after["state"] != "true" || after["guard"] == "none" || after["routes"] == "none" || !strings.HasPrefix(after["pools"], "ike2-pool 0 1") {
		t.Errorf("started: %v", after)
	}
}

// A start that fails does not take away the guard that a killed run had left.
func TestFailedStartKeepsALeftGuard(t *testing.T) {
	first, _ := changeConfigs(t)
	c := newChanging(t)
	c.guard.Leftover = true
	c.w.east.host.Fail(errInjected)
	if err := c.change(t, first, nil); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	if plans := c.guard.Plans(); len(plans) != 1 || len(plans[0].Flows) == 0 {
		t.Errorf("plans of the guard: %v", plans)
	}
	if err := c.change(t, "[gateway]\nguard = false\n"+first, nil); !errors.Is(err, errInjected) || len(c.guard.Plans()) != 1 {
		t.Errorf("%v; a guard that is not wanted went before the host followed: %v", err, c.guard.Plans())
	}
}

// Whichever part of a reload fails, all is as it was, with an SA that is up, and the next
// reload succeeds.
func TestReloadIsATransaction(t *testing.T) {
	first, second := changeConfigs(t)
	c := newChanging(t)
	if err := c.change(t, first, nil); err != nil {
		t.Fatal(err)
	}
	c.w.west.mustConfigure(site(eastAddr, "101", "102"))
	c.w.until("up", func() bool { return c.w.west.sealing() == 2 && c.plane.SAs.Len() == 2 })
	c.w.run(10 * time.Second)
	c.attempts.Note(c.w.clock.Now(), core.Event{Kind: core.EvAuthFailed, Peer: "warriors"})
	c.plane.Replan = true
	gone := strings.Replace(second, "[[peer]]\nname = \"warriors\"", "[[peer]]\ndisabled = true\nname = \"warriors\"", 1)
	probe := c.parts(&change{was: c.compiled, next: c.cfg, result: c.compiled})
	for _, next := range []string{gone, strings.Replace(gone, "guard-always = true", "guard = false", 1)} {
		for name, alter := range failures(probe) {
			before := c.everything()
			if err := c.change(t, next, alter); !errors.Is(err, errInjected) {
				t.Fatalf("%s: %v", name, err)
			}
			c.same(t, before)
			if t.Failed() {
				t.Fatalf("after the failure %q", name)
			}
		}
	}
	before := c.everything()
	if err := c.change(t, second, nil); err != nil {
		t.Fatal(err)
	}
	after := c.everything()
	for name, was := range before {
		if is := after[name]; is == was && !slices.Contains([]string{"state", "strangers", "uses", "attempts"}, name) {
			t.Errorf("%s did not change: the test cannot see it fail: %s", name, is)
		}
	}
}
