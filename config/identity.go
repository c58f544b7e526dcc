package config

import "fmt"

// A policy may be for one identity of its peer alone (identity, ours). Without it
// whoever proves to be any of the peer's identities may ask for the policy.

func (l *loader) checkPolicyIdentity(p *Policy, d *directory) {
	e := &p.Entry
	if !p.Written("identity") {
		return
	}
	switch {
	case p.Template && !e.bad["template"]:
		return // checkTemplate refuses it
	case p.Action != Encrypt && !e.bad["action"]:
		l.faultAt(e, "policy", "identity", "names the peer that a policy encrypts for, and action is %s, leave it out", p.Action)
		return
	}
	i := refer(l, e, "policy", "identity", p.IdentityName, d.identities)
	switch {
	case i == nil:
	case i.Peer != nil && !p.Written("peer"):
		l.faultAt(e, "policy", "identity", "is an identity of [[peer]] %q, write peer = %q as well", i.PeerName, i.PeerName)
	case i.Peer != nil && p.Peer != nil && i.Peer != p.Peer:
		l.faultAt(e, "policy", "identity", "[[identity]] %q is of [[peer]] %q, and the policy is of [[peer]] %q, name one of that", i.Name, i.PeerName, p.PeerName)
	case i.Disabled && !p.Disabled && (p.Peer == nil || !p.Peer.Disabled):
		l.faultAt(e, "policy", "identity", "[[identity]] %q is disabled, enable it or disable the policy", i.Name)
	default:
		p.Identity = i
	}
}

// warnAmbiguous names peers with several identities and policies that any of them
// may ask for: one warning for each peer, at its first such policy.
func (l *loader) warnAmbiguous() {
	first, more := map[*Peer]*Policy{}, map[*Peer]int{}
	for _, p := range l.config.Policies {
		switch {
		case !p.Works() || p.Action != Encrypt || p.Peer == nil || p.Peer.Disabled || p.Written("identity") || len(p.Peer.Identities) < 2:
		case first[p.Peer] == nil:
			first[p.Peer] = p
		default:
			more[p.Peer]++
		}
	}
	for _, q := range l.config.Peers {
		p := first[q]
		if p == nil {
			continue
		}
		others := ""
		if n := more[q]; n > 0 {
			others = fmt.Sprintf(" (and of %d more of the peer)", n)
		}
		l.warnAt(&p.Entry, "policy", "identity", "is missing, and [[peer]] %q has %d identities: whoever proves to be any of them gets the traffic of this policy%s; "+
			"write a name into the [[identity]] that it is meant for, and identity with that name here", q.Name, len(q.Identities), others)
	}
}

// checkUnnamed: of several secrets of a peer that may come from anywhere, the right one
// is found by the ID that the peer says (RFC 7296 §2.15), so that one of them at most can
// be for whoever says any.
func (l *loader) checkUnnamed() {
	for _, p := range l.config.Peers {
		if p.Disabled || p.OneHost() || p.bad["address"] {
			continue
		}
		var first *Identity
		for _, i := range p.Identities {
			any := i.RemoteID.Kind == IDAuto || i.RemoteID.Kind == IDIgnore
			switch {
			case !byPSK(i.RemoteAuthMethod) || !any || i.bad["remote-id"]:
			case first == nil:
				first = i
			default:
				l.faultAt(&i.Entry, "identity", "remote-id", "is %s, as that of the [[identity]] at %s: [[peer]] %q may be anybody, and the ID that a client says tells which secret it has; "+
					"write remote-id in every [[identity]] of the peer but one", i.RemoteID, first.at("remote-id"), p.Name)
			}
		}
	}
}
