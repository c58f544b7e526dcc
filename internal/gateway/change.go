package gateway

import (
	"slices"
	"time"

	"culvert/config"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/underlay"
)

// change is a transaction from the configuration in force to another one. A start is the
// same transaction as a reload, with nothing in force before.
type change struct {
	now      time.Time
	was      *compile.Result // nil at the start
	next     *config.Config
	result   *compile.Result  // of next
	snapshot *config.Snapshot // of the files, for the recorder; nil: there is none
}

// part is one thing that depends on the configuration. Any of its functions may be nil.
//
//	all parts prepare ─► all try ─► all commit
//	        └──────────────┴─ one fails: all revert, in reverse order
type part struct {
	name string
	// prepare reads, opens and checks what is needed. It makes no visible change.
	prepare func(*change) error
	// try puts in force what can fail.
	try func(*change) error
	// commit puts in force what cannot fail.
	commit func(*change)
	// revert undoes prepare and try, also if they failed half-way or were not called.
	revert func(*change)
}

// transact runs a change through its parts. On an error all parts are as before.
func transact(parts []part, c *change) error {
	revert := func(list []part) {
		for _, p := range slices.Backward(list) {
			if p.revert != nil {
				p.revert(c)
			}
		}
	}
	for i, p := range parts {
		if p.prepare == nil {
			continue
		}
		if err := p.prepare(c); err != nil {
			revert(parts[:i+1])
			return err
		}
	}
	for _, p := range parts {
		if p.try == nil {
			continue
		}
		if err := p.try(c); err != nil {
			revert(parts)
			return err
		}
	}
	for _, p := range parts {
		if p.commit != nil {
			p.commit(c)
		}
	}
	return nil
}

// takeOver puts a configuration in force, at the start and at each reload.
func (g *gateway) takeOver(now time.Time, next *config.Config, snapshot *config.Snapshot) error {
	ike, natt := g.edges.Conn.Ports()
	c := &change{now: now, was: g.compiled, next: next, snapshot: snapshot}
	var err error
	if c.result, err = compile.Compile(next, [2]uint16{ike, natt}, g.compiled); err != nil {
		wipeSnapshot(c)
		return err
	}
	c.result.MTU = g.deviceMTU(next)
	g.changing = true
	err = transact(g.parts(c), c)
	g.changing = false
	g.plane.Settle(now)
	return err
}

// parts are all parts of a change, in their order. Parts that can fail come before those that
// cannot. The policies come before the host, so that packets that the host routes to the device
// find the new policies. A new guard is set up before the routes, and an old one is removed after them.
func (g *gateway) parts(c *change) []part {
	list := []part{g.networksPart(), g.state.part()}
	for _, s := range g.services.list {
		list = append(list, s.part())
	}
	plane := g.plane.Switch(c.result)
	return append(list,
		part{name: "policies", try: func(*change) error { plane.Policies(); return nil }, revert: func(*change) { plane.Revert() }},
		g.guardPart(), g.hostPart(), g.noGuardPart(),
		part{name: "recording", commit: g.recordChange, revert: wipeSnapshot},
		part{name: "endpoint", commit: func(c *change) { plane.Commit(c.now) }},
		part{name: "configuration", commit: func(c *change) { g.cfg, g.compiled = c.next, c.result }},
		part{name: "SAs by hand", commit: func(*change) { g.dropManual(false) }},
		part{name: "attempts", commit: func(c *change) { g.attempts.Configured(c.result) }},
		part{name: "log level", commit: g.logLevel},
	)
}

// networksPart refuses a configuration whose policies would cut this host off from a network that it is in.
func (g *gateway) networksPart() part {
	return part{name: "networks of the host", prepare: func(c *change) error { return g.lockedOut(c.next) }}
}

// hostPart sets routes, rules and addresses of the host. If it fails at the start, they are removed when
// the edges are closed.
func (g *gateway) hostPart() part {
	tried := false
	return part{
		name: "routes, rules and addresses",
		try: func(c *change) error {
			tried = true
			return g.applyHost(g.plane.Plan(c.result))
		},
		revert: func(c *change) {
			if !tried || c.was == nil {
				return
			}
			if err := g.applyHost(g.plane.Plan(c.was)); err != nil {
				g.log.Error(hostNotAsWanted, "error", err)
			}
		},
	}
}

func (g *gateway) logLevel(c *change) {
	if g.o.LogLevel == "" {
		g.level.Set(c.next.Gateway.LogLevel)
	}
}

// recordChange gives the recorder the files from which the next Reconfigure was compiled.
func (g *gateway) recordChange(c *change) {
	if g.recorder != nil && c.snapshot != nil {
		g.recorder.From(c.snapshot, c.result.Ports, underlay.IsRaw(g.edges.Conn))
	}
}

// wipeSnapshot wipes the secrets of a configuration that was refused.
func wipeSnapshot(c *change) {
	if c.snapshot != nil {
		for _, f := range c.snapshot.Files {
			clear(f.Data)
		}
	}
}
