package compile

import (
	"culvert/config"
	"culvert/ike/core"
)

// places maps the endpoint's entries to file and line. An entry that a reload did not change keeps
// its pointer, although its line may differ.
type places map[any]*config.Entry

// peer notes a peer with its profile and identities. Where content is equal,
// identities come in the same order.
func (w places) peer(is *core.Peer, from *config.Peer) {
	w[is], w[&is.Profile] = &from.Entry, &from.Profile.Entry
	for i, id := range is.Identities {
		w[id] = &from.Identities[i].Entry
	}
}

func (w places) policy(is *core.Policy, from *config.Policy) {
	w[is], w[&is.Proposal] = &from.Entry, &from.Proposal.Entry
}

// where is core.Config's Where.
func (w places) where(entry any, key string) string {
	if e := w[entry]; e != nil {
		return e.Place(key)
	}
	return ""
}
