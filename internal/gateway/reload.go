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

// reload reads the file again and puts it in force. On an error the whole old configuration stays in
// force. Peers and policies that did not change keep their SAs.
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

// reloadAndLog is reload if nobody waits for the report.
func (g *gateway) reloadAndLog() {
	r, err := g.reload()
	if err != nil {
		g.log.Error("the configuration was not reloaded; the old one stays in force", "error", err)
		return
	}
	for _, w := range r.Warnings {
		g.log.Warn("configuration: " + w)
	}
	g.log.Info("reloaded", "changes", r.Changes)
}

// report describes what a reload changed.
func report(c config.Changes, warnings []config.Warning) control.ReloadReport {
	r := control.ReloadReport{Changes: []string{}, Warnings: []string{}}
	add := func(format string, a ...any) { r.Changes = append(r.Changes, fmt.Sprintf(format, a...)) }
	for _, key := range c.Gateway {
		if slices.Contains(c.Restart, key) {
			r.Warnings = append(r.Warnings, "gateway."+key+": changed in the file, but not in force: restart the gateway")
		} else {
			add("gateway %s: changed", key)
		}
	}
	if c.Settings {
		add("settings: changed")
	}
	if c.Pools {
		add("pools: changed; addresses in use stay in use")
	}
	if c.Users {
		add("users: changed; who was removed is logged out")
	}
	if c.Trust {
		add("certificates: changed; they apply to new connections")
	}
	for _, name := range c.PeersAdded {
		add("peer %s: added", name)
	}
	for _, name := range c.PeersChanged {
		add("peer %s: changed; its SAs are established again", name)
	}
	for _, name := range c.PeersRedirected {
		add("peer %s: redirect changed; it applies to new connections", name)
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
		add("policies: order changed")
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, w.String())
	}
	return r
}
