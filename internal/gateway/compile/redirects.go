package compile

import (
	"culvert/config"
	"culvert/ike/core"
)

// redirect notes where the newcomers of a peer are sent, and who of its
// identities is. Where content is equal, identities come in the same order.
func (n *Result) redirect(is *core.Peer, from *config.Peer) {
	if from.Redirect.IsSet() {
		if n.IKE.Redirects == nil {
			n.IKE.Redirects = map[string]core.Redirect{}
		}
		n.IKE.Redirects[is.Name] = core.Redirect{To: core.Gateway(from.Redirect), Above: from.RedirectAbove}
	}
	for i, id := range from.Identities {
		if id.Redirect.IsSet() {
			if n.IKE.IdentityRedirects == nil {
				n.IKE.IdentityRedirects = map[*core.Identity]core.Gateway{}
			}
			n.IKE.IdentityRedirects[is.Identities[i]] = core.Gateway(id.Redirect)
		}
	}
}
