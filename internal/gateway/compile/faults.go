package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"culvert/config"
)

// What is wrong in a configuration that loads: what the planes do not have, and what cannot be
// in force together. Start, reload, replay and `culvert check` refuse it with the same text.

// known refuses a value that is not in the table of values, which would otherwise silently become the zero value.
func known[K ~string, V any](n *Result, e *config.Entry, table, key string, value K, in map[K]V) {
	if _, ok := in[value]; !ok {
		var names []string
		for _, k := range slices.Sorted(maps.Keys(in)) {
			names = append(names, fmt.Sprintf("%q", k))
		}
		n.fault(e, table, key, "%q is not in this build, accepted: %s", value, strings.Join(names, ", "))
	}
}

// fault notes what is wrong with a key, or where it is not written, with its entry.
func (n *Result) fault(e *config.Entry, table, key, format string, args ...any) {
	n.faults = append(n.faults, e.Fault(table, key, format, args...))
}

// values compares what the entries in force say with the tables of the planes.
func (n *Result) values(c *config.Config) {
	known(n, &c.Gateway.Entry, "gateway", "encapsulation", c.Gateway.Encapsulation, encapsulations)
	methods := authMethods()
	for _, p := range c.Peers {
		if p.Disabled {
			continue
		}
		known(n, &p.Entry, "peer", "childless", p.Childless, childless)
		for _, i := range p.Identities {
			known(n, &i.Entry, "identity", "auth-method", i.AuthMethod, methods)
			if i.RemoteAuthMethod != i.AuthMethod {
				known(n, &i.Entry, "identity", "remote-auth-method", i.RemoteAuthMethod, methods)
			}
			known(n, &i.Entry, "identity", "generate-policy", i.GeneratePolicy, generates)
		}
	}
	for _, p := range c.Policies {
		if !p.Disabled && !p.Invalid {
			known(n, &p.Entry, "policy", "action", p.Action, actions)
			known(n, &p.Entry, "policy", "level", p.Level, levels)
		}
	}
}

// sizes refuses IPv6 on a device whose MTU is too small for it: the system disables IPv6 on
// such a device, and no route can be added, not even for policies that let their traffic pass.
func (n *Result) sizes(c *config.Config) {
	if c.Gateway.MTU == 0 || c.Gateway.MTU >= leastMTU {
		return
	}
	for _, r := range n.routes {
		row, is6 := n.Rows[r.ref], r.Remote.Addr().Is6()
		if t := r.template; t != nil {
			row = t.Row
			for _, made := range t.routesTo() {
				is6 = is6 || made.Remote.Addr().Is6()
			}
		}
		if is6 {
			where := row.Place("")
			if where == "" {
				where = "its own template"
			} else {
				where = "the policy at " + where
			}
			n.fault(&c.Gateway.Entry, "gateway", "mtu", "%d is too small for IPv6, which %s needs, write %d or more, or leave it out", c.Gateway.MTU, where, leastMTU)
			return
		}
	}
}
