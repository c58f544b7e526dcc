package gateway

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/config"
	"culvert/internal/gateway/compile"
	"culvert/internal/operate/control"
	"culvert/internal/packet/underlay"
)

// reload goes over to the configuration as the file has it now. On an error the
// old one stays in force, whole. What did not change keeps its SAs.
func (g *gateway) reload() (control.ReloadReport, error) {
	next, warnings, snapshot, err := g.o.load()
	if err != nil {
		return control.ReloadReport{}, err
	}
	compile.CarriedBy(next, underlay.IsRaw(g.edges.Conn))
	changes := config.Diff(g.cfg, next)
	if err := g.takeOver(time.Now(), compile.Running(g.cfg, next), snapshot); err != nil {
		if !errors.As(err, new(config.Faults)) {
			err = fmt.Errorf("nothing was changed: %w", err)
		}
		return control.ReloadReport{}, err
	}
	return report(changes, append(warnings, g.compiled.Warnings...)), nil
}

// reloadAndLog is reload where nobody waits for the answer.
func (g *gateway) reloadAndLog() {
	r, err := g.reload()
	if err != nil {
		g.log.Error("the configuration was not reloaded, the old one stays in force", "error", err)
		return
	}
	for _, w := range r.Warnings {
		g.log.Warn("configuration: " + w)
	}
	g.log.Info("reloaded", "changes", r.Changes)
}

// report tells people what a reload did.
func report(c config.Changes, warnings []config.Warning) control.ReloadReport {
	r := control.ReloadReport{Changes: []string{}, Warnings: []string{}}
	add := func(format string, a ...any) { r.Changes = append(r.Changes, fmt.Sprintf(format, a...)) }
	for _, key := range c.Gateway {
		if slices.Contains(c.Restart, key) {
			r.Warnings = append(r.Warnings, "gateway."+key+": changed in the file but not in force: restart the gateway")
		} else {
			add("gateway %s: changed", key)
		}
	}
	if c.Settings {
		add("settings: changed")
	}
	if c.Pools {
		add("pools: changed; addresses that are in use stay in use")
	}
	if c.Trust {
		add("certificates: changed, who connects from now on is checked against them")
	}
	for _, name := range c.PeersAdded {
		add("peer %s: added", name)
	}
	for _, name := range c.PeersChanged {
		add("peer %s: changed, its SAs are made anew", name)
	}
	for _, name := range c.PeersRedirected {
		add("peer %s: redirect changed, for who connects from now on", name)
	}
	for _, name := range c.PeersRemoved {
		add("peer %s: removed", name)
	}
	for _, p := range c.PoliciesAdded {
		add("policy %d, %v => %v: added", p.Index, p.SrcAddress, p.DstAddress)
	}
	for _, p := range c.PoliciesRemoved {
		add("policy %d, %v => %v: removed", p.Index, p.SrcAddress, p.DstAddress)
	}
	if c.Reordered {
		add("policies: in another order")
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, w.String())
	}
	return r
}
