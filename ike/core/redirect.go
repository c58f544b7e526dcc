package core

import "net/netip"

// Gateway is where a client is sent (RFC 5685): an address, or a name to look
// up. The zero value is nowhere. Comparable.
type Gateway struct {
	Addr netip.Addr
	Name string // empty: Addr counts
}

func (g Gateway) String() string {
	if g.Name != "" {
		return g.Name
	}
	return g.Addr.String()
}

// Valid reports whether there is somewhere to go.
func (g Gateway) Valid() bool { return g.Name != "" || g.Addr.IsValid() }

// Redirect sends newcomers of a peer to another gateway.
type Redirect struct {
	To Gateway
	// Above is how many established IKE SAs the peer may have here before
	// newcomers are sent away; 0: all of them are.
	Above int
}
