package v2

import (
	"fmt"
	"net/netip"

	"culvert/ike/message"
	"culvert/spd/selector"
)

// Transport mode (RFC 7296 §1.3.1): who wants it says so beside its offer, and
// it is agreed on where the responder says so too. A policy is for one mode, and
// the other is refused: what the two ends believe about headers must not differ.
//
// Behind a NAT each end knows another address of the same host, and transport
// mode is between the two hosts themselves. Both put, into the selectors that they
// get, the addresses that they know instead, before they do anything else with
// them (§2.23.1):
//
//	192.168.7.2 ── NAT 203.0.113.1 ── 203.0.113.2
//	TSi 192.168.7.2, TSr 203.0.113.2  -->  policy 203.0.113.2 <=> 203.0.113.1
//	     <--  TSi 203.0.113.1, TSr 203.0.113.2
//
// So each end's policy names the addresses that it sees itself.

// askTransport adds the notify to a request whose policy is for transport mode.
func (x *exchange) askTransport() {
	if !x.policy.Tunnel {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyUseTransportMode})
	}
}

// grantTransport answers a peer that asked for transport mode, or did not.
func (x *exchange) grantTransport() error {
	switch {
	case x.policy.Tunnel:
		return nil // without our notify it is tunnel mode; whether that will do is the peer's to say
	case !x.asksTransport():
		return mismatched(message.NotifyNoProposalChosen, explainer{x.sa}.modeParts(x.policy), "the peer wants tunnel mode, policy %v is for transport mode: tunnel differs on the two sides", x.policy.Pair)
	}
	x.out = append(x.out, &message.Notify{Kind: message.NotifyUseTransportMode})
	return nil
}

// checkTransport compares the responder's mode with the policy's.
func (x *exchange) checkTransport() error {
	granted := notify(x.in, message.NotifyUseTransportMode) != nil
	switch {
	case granted && x.policy.Tunnel:
		return refuse(message.NotifyNoProposalChosen, "the peer chose transport mode, which was not asked for")
	case !granted && !x.policy.Tunnel:
		return mismatched(message.NotifyNoProposalChosen, explainer{x.sa}.modeParts(x.policy), "the peer declined transport mode: tunnel differs on the two sides")
	}
	return nil
}

func (x *exchange) asksTransport() bool {
	return notify(x.in, message.NotifyUseTransportMode) != nil
}

// asksTransportThroughNAT: the selectors of the request are the peer's view.
func (x *exchange) asksTransportThroughNAT() bool {
	return x.asksTransport() && (x.sa.base.NAT.Local || x.sa.base.NAT.Remote)
}

// betweenHosts leaves of a request what transport mode can carry: the traffic of
// the two hosts themselves, as they are known here. None: nothing.
func (x *exchange) betweenHosts(local, remote []selector.TS) (l, r []selector.TS) {
	l, r = x.sa.base.NAT.Through(x.sa.base.Path, local, remote)
	return selector.Narrow(l, only(x.sa.base.Local.Addr())), selector.Narrow(r, only(x.sa.base.Remote.Addr()))
}

func only(a netip.Addr) []selector.TS {
	if a = a.Unmap().WithZone(""); !a.IsValid() || a.IsUnspecified() {
		return nil
	}
	return []selector.TS{selector.FromPrefix(netip.PrefixFrom(a, a.BitLen()))}
}

// behindNAT is the selectors of a request as seen from here, if a policy for
// transport mode wants them; for tunnel mode they stay as they are.
func (x *exchange) behindNAT(local, remote []selector.TS) (l, r []selector.TS) {
	if !x.asksTransportThroughNAT() {
		return local, remote
	}
	l, r = x.sa.base.NAT.Through(x.sa.base.Path, local, remote)
	p := x.policy
	if p == nil {
		p = choosePolicy(x.sa, l, r)
	}
	if p == nil || p.Tunnel {
		return local, remote
	}
	return l, r
}

// seenHere tells people of what behindNAT tried.
func (x *exchange) seenHere(local, remote []selector.TS) string {
	if !x.asksTransportThroughNAT() {
		return ""
	}
	l, r := x.sa.base.NAT.Through(x.sa.base.Path, local, remote)
	return fmt.Sprintf(", in transport mode through a NAT, which is %v => %v here", l, r)
}

// clash refuses a peer whose traffic in transport mode could not be told from that
// of another behind the same NAT: what goes back has one address for both. At level
// unique the data plane remembers whose each conversation is.
func (x *exchange) clash(pairs []selector.Pair) error {
	sa := x.sa
	if x.policy.Tunnel || !sa.base.NAT.Remote {
		return nil
	}
	for s := range sa.base.Others.Siblings(sa.base) {
		if s.State == Ended || s.PeerID == sa.base.PeerID || s.Remote == sa.base.Remote {
			continue
		}
		for _, c := range s.Children {
			if !c.Policy.Tunnel && c.Live() && Overlap(c.Pairs, pairs) && !(x.policy.Unique && c.Policy.Unique) {
				return refuse(message.NotifyTSUnacceptable, "%s is behind the same NAT as %s, and in transport mode their traffic has the same addresses: "+
					"give their policies or their template level = \"unique\"", sa.base.PeerID, s.PeerID)
			}
		}
	}
	return nil
}

// Overlap reports whether two lists have packets in common.
func Overlap(a, b []selector.Pair) bool {
	for _, p := range a {
		for _, q := range b {
			_, local := selector.Intersect(p.Local, q.Local)
			_, remote := selector.Intersect(p.Remote, q.Remote)
			if local && remote {
				return true
			}
		}
	}
	return false
}
