package gateway

import (
	"net"
	"net/netip"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/internal/host/resolver"
)

// names answers what only the system knows: the addresses of DNS names, and which local
// address leads to a peer.
type names struct {
	workers *workers
	source  func(netip.Addr) (netip.Addr, error)
	past    *net.Resolver // asks past the policies; nil: nobody does
}

func newNames(env serviceEnv) service {
	return &names{env.workers, env.edges.Source, env.edges.Resolver}
}

func (n *names) takes() []any { return []any{core.SourceFor{}, core.Resolve{}} }
func (n *names) part() part   { return part{} }
func (n *names) close()       {}

func (n *names) take(out core.Output) {
	ask := out.(core.Ask)
	n.workers.do(ask.ID, func() (secret.Bytes, error) {
		var addr netip.Addr
		var err error
		switch w := ask.Work.(type) {
		case core.SourceFor:
			addr, err = n.source(w.Remote)
		case core.Resolve:
			addr, err = resolver.Resolve(w.Name, n.past)
		}
		if err != nil {
			return nil, err
		}
		return secret.Bytes(addr.AsSlice()), nil
	})
}
