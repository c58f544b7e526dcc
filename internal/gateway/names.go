package gateway

import (
	"context"
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
	strays  func(local, remote netip.Addr) bool
	dns     *resolver.Resolver
}

func newNames(env serviceEnv) service {
	return &names{env.workers, env.edges.Source, env.edges.Strays, env.edges.Resolver}
}

func (n *names) takes() []any { return []any{core.SourceFor{}, core.Resolve{}} }
func (n *names) part() part   { return part{} }
func (n *names) close()       {}

func (n *names) take(out core.Output) {
	ask := out.(core.Ask)
	n.workers.do(ask.ID, func() (secret.Bytes, error) {
		if w, ok := ask.Work.(core.Resolve); ok {
			list, err := n.dns.LookUp(context.Background(), w.Name)
			return core.PackAddrs(list), err
		}
		return n.sourceFor(ask.Work.(core.SourceFor))
	})
}

// sourceFor answers a question for the local address.
func (n *names) sourceFor(q core.SourceFor) (secret.Bytes, error) {
	addr, err := n.source(q.Remote)
	if err != nil {
		return nil, err
	}
	return core.PackSource(addr, q.Own.IsValid() && addr != q.Own && n.strays != nil && n.strays(q.Own, q.Remote)), nil
}
