package v1

import (
	"net/netip"

	"culvert/ike/core"
	"culvert/ike/isakmp"
)

// Load balancing of Cisco Unity: the gateway that answers for a cluster says after phase 1, in UNITY_LOAD_BALANCE, which member the
// client is to connect to. It is a redirect like that of RFC 5685, and followed within the same bounds.

// redirects reports whether we let the peer send us elsewhere: it has proved who it is, we connected, and have told it that we
// know Unity.
func redirects(sa *SA) bool { return sa.base.Initiator && saysUnity(sa) }

// sentElsewhere takes UNITY_LOAD_BALANCE. Of an SA that is up another one takes over; else it ends.
func sentElsewhere(sa *SA, n *isakmp.Notify) {
	b := sa.base
	addr, ok := netip.AddrFromSlice(n.Data)
	switch to := (core.Gateway{Addr: addr.Unmap()}); {
	case !ok || addr.IsUnspecified() || addr.IsMulticast():
		b.Event(core.EvNotify, "the peer sends us to a gateway that cannot be: %x", n.Data)
	case !redirects(sa):
		b.Event(core.EvNotify, "the peer sends us to %v, which only a client with mode-config goes to: left as it is", to)
	case sa.setup == nil:
		sa.owner.Redirected(b, to, b.MainPolicy())
	default:
		sa.inform(sa.deleteOfPhase1())
		sa.owner.Redirected(b, to, b.Wanted)
		b.End(false, "the peer sends us to %v", to)
	}
}
