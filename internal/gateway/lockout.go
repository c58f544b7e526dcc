package gateway

import (
	"slices"

	"culvert/config"
)

// lockedOut refuses a configuration by whose policies this host would lose a network
// that it is in, before anything is changed. Where the networks cannot be read, nothing
// is refused.
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
		g.log.Warn("the networks of this host cannot be read, and no policy was compared with them", "error", err)
		return nil
	}
	return c.Lockouts(own)
}

// warnLockouts tells of networks that this host joined since the configuration was
// accepted, each once: what runs goes on.
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
