package gateway

import (
	"slices"

	"culvert/config"
)

// lockedOut refuses a configuration whose policies would cut this host off from a network that
// it is in. Nothing is refused if the networks cannot be read.
func (g *gateway) lockedOut(c *config.Config) error {
	if faults := g.lockouts(c); len(faults) > 0 {
		return faults
	}
	return nil
}

func (g *gateway) lockouts(c *config.Config) config.Faults {
	if g.edges.Networks == nil {
		return nil
	}
	own, err := g.edges.Networks()
	if err != nil {
		g.log.Warn("the networks of this host cannot be read: the policies were not compared with them", "error", err)
		return nil
	}
	return c.Lockouts(own)
}

// warnLockouts warns, once each, of networks that this host has joined since the configuration was
// accepted and that policies cover. The configuration stays in force.
func (g *gateway) warnLockouts() {
	now := []string{}
	for _, f := range g.lockouts(g.cfg) {
		now = append(now, f.String())
		if !slices.Contains(g.lost, f.String()) {
			g.log.Warn("configuration: " + f.String())
		}
	}
	g.lost = now
}
