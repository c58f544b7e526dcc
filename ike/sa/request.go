package sa

import (
	"fmt"
	"net/netip"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Request is what the peer asks for in a CHILD SA, as its version of IKE says it in a
// message. Choose finds what it gets:
//
//	selectors ─► within its lease ─► policy of the table, else of a template ─► narrowed ─► proposal
//
// template.go makes policies from templates, entitled.go says what a peer may have by one.
type Request struct {
	SA            *SA
	Policy        *core.Policy  // at a rekey that of the CHILD SA to replace; nil: to be found
	Local, Remote []selector.TS // our end and its own, as it says them
	Transport     bool          // it asks for transport mode
	KeyExchange   bool          // the exchange has room for one
	Offered       []core.Alternative

	denied []denial // what of Remote the peer has not got from templates
}

// Choice is what a Request gets: an Agreement that lacks the peer's SPI.
type Choice struct {
	Policy *core.Policy
	Agreement
	Answer   core.Alternative // of the proposals the one that was chosen
	Note     string           // for people: what the peer does not get, and why
	Declined bool             // it asked for transport mode, and the policy is for tunnel mode
	More     bool             // it may have more by another CHILD SA (ADDITIONAL_TS_POSSIBLE in IKEv2)

	sa *SA
}

// Choose finds the policy for a request, what the two have in common, and the proposal.
// The error is a *Refusal.
func (r *Request) Choose() (*Choice, error) {
	sa := r.SA
	if full(sa) {
		return nil, Refuse(TooMany, "the peer has %d CHILD SAs", len(sa.Children))
	}
	if len(r.Local) == 0 || len(r.Remote) == 0 { // of no type that is known here
		return nil, Refuse(BadSelectors, "no selector of addresses")
	}
	p := r.Policy
	ours, theirs := r.behindNAT(r.Local, withinLease(sa, r.Remote))
	if p == nil {
		p = PolicyFor(sa, ours, theirs)
	}
	if p == nil {
		var err error
		if p, ours, theirs, err = r.generate(ours, theirs); err != nil {
			return nil, err
		}
		if p == nil {
			return nil, mismatched(BadSelectors, Explainer{sa}.SelectorParts(r.Local, r.Remote),
				"no policy of peer %q covers %v => %v%s: compare src-address and dst-address on both sides", sa.Peer.Name, r.Local, r.Remote, r.seenHere(r.Local, r.Remote))
		}
	}
	local, remote, ok := p.Narrow(ours, theirs)
	if !ok {
		return nil, mismatched(BadSelectors, Explainer{sa}.SelectorParts(r.Local, r.Remote), "%v => %v is outside the policy %v", r.Local, r.Remote, p.Pair)
	}
	remote, err := unlessGiven(sa, remote)
	if err != nil {
		return nil, err
	}
	local, remote = bounded(local), bounded(remote)
	s, answer, ok := core.ChildOffer(p, r.KeyExchange).Select(r.Offered)
	if !ok {
		return nil, mismatched(NoProposal, Explainer{sa}.ChildParts(p, r.KeyExchange, r.Offered),
			"no proposal of the peer fits proposal %q: compare %s on both sides", p.Proposal.Name, childKeys(r.KeyExchange))
	}
	c := &Choice{Policy: p, Answer: answer, sa: sa,
		Agreement: Agreement{Suite: s, Local: local, Remote: remote, Pairs: selector.Pairs(local, remote)}}
	c.Note = r.narrowed(c)
	if by := r.more(c, ours, theirs); by != "" {
		c.More = true
		c.Note += fmt.Sprintf("; it asked for more, and one CHILD SA is for one policy: it may have another by %s (ADDITIONAL_TS_POSSIBLE)", by)
	}
	return c, nil
}

// more is the policy or template, for people, that allows the peer some of what it asks for and does not
// get by a choice; "": there is none.
func (r *Request) more(c *Choice, ours, theirs []selector.TS) string {
	sa := r.SA
	if r.Policy != nil {
		return "" // a rekey
	}
	lacks := func(local, remote []selector.TS, ok bool) bool {
		if remote, err := unlessGiven(sa, remote); ok && err == nil {
			return !covered(selector.Pairs(local, remote), c.Pairs)
		}
		return false
	}
	for _, p := range sa.Host.Config().Policies {
		if p != c.Policy && p.Peer == sa.Peer && sa.MayHave(p) && p.Tunnel == c.Policy.Tunnel && lacks(p.Narrow(ours, theirs)) {
			return Explainer{sa}.policyLine(p)
		}
	}
	if c.Policy.Made == nil || !c.Policy.Tunnel {
		return ""
	}
	for _, t := range core.ForTunnels(r.ofOfferedProtocol(sa.Host.Config().TemplatesOf(sa.Identity.Group))) {
		if mine, rest := r.entitled(t, ours, theirs); lacks(t.Narrow(mine, rest)) {
			return templateLine(sa, t)
		}
	}
	return ""
}

// Grant refuses a choice that would clash with what another peer has, or that is not in
// the mode that was asked for. The peer is told that it gets transport mode, where the
// policy is for that.
func (r *Request) Grant(c *Choice) error {
	if err := c.clash(); err != nil {
		return err
	}
	if !c.Policy.Tunnel && !r.Transport {
		return mismatched(NoProposal, Explainer{r.SA}.ModeParts(c.Policy), "the peer wants tunnel mode, policy %v is for transport mode: tunnel differs on the two sides", c.Policy.Pair)
	}
	c.Declined = c.Policy.Tunnel && r.Transport
	return nil // a policy for tunnel mode is answered with that; whether it will do is the peer's to say
}

// PolicyFor finds the policy of the table that a peer's selectors ask for: the first
// that covers the first selector (of the packet that asked), else the first that has
// anything in common.
func PolicyFor(sa *SA, local, remote []selector.TS) *core.Policy {
	var any *core.Policy
	for _, p := range sa.Host.Config().Policies {
		if p.Peer != sa.Peer || !sa.MayHave(p) || len(local) == 0 || len(remote) == 0 {
			continue
		}
		if p.Pair.Local.Covers(local[0]) && p.Pair.Remote.Covers(remote[0]) {
			return p
		}
		if _, _, ok := selector.NarrowPair(local, remote, p.Pair); ok && any == nil {
			any = p
		}
	}
	return any
}

// withinLease leaves of the peer's selectors what the address that it was given
// allows, if it asks for that at all: clients ask for everything and expect the
// responder to narrow it.
func withinLease(sa *SA, remote []selector.TS) []selector.TS {
	if sa.Lease == nil || sa.Lease.Asked {
		return remote
	}
	remote = sa.Lease.dynamic(remote)
	if list := selector.Narrow(remote, sa.Lease.Selectors()); len(list) > 0 {
		return list
	}
	return remote
}

func bounded(list []selector.TS) []selector.TS { return list[:min(len(list), MaxSelectors)] }

// --- transport mode ---

// Behind a NAT each end knows another address of the same host, and transport mode is
// between the two hosts themselves. Both put, into the selectors that they get, the
// addresses that they know instead, before they do anything else with them (RFC 7296
// §2.23.1; in IKEv1 NAT-OA says the other ones, RFC 3947 §5.2):
//
//	192.168.7.2 ── NAT 203.0.113.1 ── 203.0.113.2
//	192.168.7.2, 203.0.113.2  -->  policy 203.0.113.2 <=> 203.0.113.1
//	     <--  203.0.113.1, 203.0.113.2
//
// So each end's policy names the addresses that it sees itself.

// throughNAT: the selectors of the request are the peer's view.
func (r *Request) throughNAT() bool { return r.Transport && (r.SA.NAT.Local || r.SA.NAT.Remote) }

// betweenHosts leaves of a request what transport mode can carry: the traffic of
// the two hosts themselves, as they are known here. None: nothing.
func (r *Request) betweenHosts(local, remote []selector.TS) (ours, theirs []selector.TS) {
	ours, theirs = r.SA.NAT.Through(r.SA.Path, local, remote)
	return selector.Narrow(ours, only(r.SA.Local.Addr())), selector.Narrow(theirs, only(r.SA.Remote.Addr()))
}

func only(a netip.Addr) []selector.TS {
	if a = a.Unmap().WithZone(""); !a.IsValid() || a.IsUnspecified() {
		return nil
	}
	return []selector.TS{selector.FromPrefix(netip.PrefixFrom(a, a.BitLen()))}
}

// behindNAT is the selectors of a request as seen from here, if a policy for
// transport mode wants them; for tunnel mode they stay as they are.
func (r *Request) behindNAT(local, remote []selector.TS) (ours, theirs []selector.TS) {
	if !r.throughNAT() {
		return local, remote
	}
	ours, theirs = r.SA.NAT.Through(r.SA.Path, local, remote)
	p := r.Policy
	if p == nil {
		p = PolicyFor(r.SA, ours, theirs)
	}
	if p == nil || p.Tunnel {
		return local, remote
	}
	return ours, theirs
}

// seenHere tells people of what behindNAT tried.
func (r *Request) seenHere(local, remote []selector.TS) string {
	if !r.throughNAT() {
		return ""
	}
	ours, theirs := r.SA.NAT.Through(r.SA.Path, local, remote)
	return fmt.Sprintf(", in transport mode through a NAT, which is %v => %v here", ours, theirs)
}

// clash refuses a peer whose traffic in transport mode could not be told from that
// of another behind the same NAT: what goes back has one address for both. At level
// unique the data plane remembers whose each flow is.
func (c *Choice) clash() error {
	sa := c.sa
	if c.Policy.Tunnel || !sa.NAT.Remote {
		return nil
	}
	for s := range sa.Others.Siblings(sa) {
		if s.State == Ended || s.PeerID == sa.PeerID || s.Remote == sa.Remote {
			continue
		}
		for _, d := range s.Children {
			if !d.Policy.Tunnel && d.Live() && selector.Overlap(d.Pairs, c.Pairs) && !(c.Policy.Unique && d.Policy.Unique) {
				return Refuse(BadSelectors, "%s is behind the same NAT as %s, and in transport mode their traffic has the same addresses: "+
					"give their policies or their template level = \"unique\"", sa.PeerID, s.PeerID)
			}
		}
	}
	return nil
}
