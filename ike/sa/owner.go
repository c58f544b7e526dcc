package sa

import (
	"iter"
	"net/netip"

	"culvert/ike/core"
)

// Owner is what IKE SAs ask of the endpoint that they live in, in parts: each part of an
// SA uses one of them.
type Owner struct {
	Host     Host
	Others   Others
	Keeper   Keeper
	Policies Policies
	Guesses  *Guesses
}

// Host is the configuration and the host that it is for.
type Host interface {
	Config() *core.Config
	// Addrs are the addresses that this host has and may use.
	Addrs() []netip.Addr
	// Nets are this host's networks and addresses (core.LocalNets).
	Nets() []netip.Prefix
}

// Others knows the other IKE SAs.
type Others interface {
	// Siblings are the other SAs with the same peer, to be looked at only;
	// Namesakes those whose ID is the same too.
	Siblings(sa *SA) iter.Seq[*SA]
	Namesakes(sa *SA) []*SA
	// SharesSecret reports whether the secret of an identity is also for other IDs than
	// its remote-id, so that it does not say which of them has proved itself.
	SharesSecret(id *core.Identity) bool
	// Named says that the peer's ID became known or, from was, another one.
	Named(sa *SA, was core.ID)
	// Moves makes an SA, which has no ID and does not serve yet, one of another peer.
	Moves(sa *SA, to *core.Peer)
	// Serves says that an SA began to serve its peer or ceased to: it is
	// established, and the peer was not sent elsewhere.
	Serves(sa *SA, yes bool)
}

// Keeper keeps up what the configuration wants.
type Keeper interface {
	// Established says that an SA came up; Ended that it is gone, and whether a
	// fault ended it.
	Established(sa *SA)
	Ended(sa *SA, fault bool)
	// Reauthenticate begins an IKE SA that is to take over from sa.
	Reauthenticate(sa *SA)
	// Renew begins one because the peer does not let us replace what sa has. It makes the
	// CHILD SA of p first; nil: of what sa has. False: that is under way already.
	Renew(sa *SA, p *core.Policy) bool
	// Redial begins an IKE SA that is to take over from sa, which is Lost.
	Redial(sa *SA)
	// ChildMade and ChildGone tell which CHILD SAs there are; ChildEnded that a
	// policy lost its last one, ChildFailed that an attempt to make one came to
	// nothing; asked: the peer had a part in it.
	ChildMade(c *Child)
	ChildGone(c *Child)
	ChildEnded(sa *SA, p *core.Policy)
	ChildFailed(sa *SA, p *core.Policy, asked bool)
	// InUDP has an IKE SA made that takes over from sa and carries ESP in UDP (SA.ForceUDP).
	// False: that cannot be.
	InUDP(sa *SA) bool
}

// Policies has the policies that are made at run time.
type Policies interface {
	// Generate gives a policy made for sa its Ref, or finds the one that there is
	// already for the same; a *Refusal says that another peer has it.
	Generate(sa *SA, p core.Policy) (*core.Policy, error)
	// Taken says what another peer has of a policy; "": nothing.
	Taken(sa *SA, p *core.Policy) string
	// Use puts a policy in force, if it was made at run time, before a CHILD SA for it
	// is installed.
	Use(p *core.Policy)
}
