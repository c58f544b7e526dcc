package sa

import (
	"fmt"
	"slices"
	"strings"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// What both sides offered when nothing came of it, for people. None of it
// decides anything.

// Explainer says to people why nothing came of something with an IKE SA.
type Explainer struct{ SA *SA }

// Place is where an entry of the configuration, or one of its properties, was written.
func (e Explainer) Place(entry any, key string) string {
	return e.SA.Host.Config().Place(entry, key)
}

func (e Explainer) profileHolder() core.Holder {
	p := &e.SA.Peer.Profile
	return core.Holder{Name: fmt.Sprintf("profile %q", p.Name), Where: func(key string) string { return e.Place(p, key) }}
}

func (e Explainer) proposalHolder(p *core.Policy) core.Holder {
	return core.Holder{Name: fmt.Sprintf("proposal %q", p.Proposal.Name), Where: func(key string) string { return e.Place(&p.Proposal, key) }}
}

// explains reports whether a refusal may be explained: always to who has proved
// itself, and where we began.
func (e Explainer) explains() bool { return e.SA.State != HalfOpen || e.SA.Env.Explains() }

// IKEParts explains why nothing in the peer's proposal for an IKE SA fits.
func (e Explainer) IKEParts(offered []core.Alternative) *core.Mismatch {
	if !e.explains() {
		return nil
	}
	return e.ikeOffer().Explain(offered, e.profileHolder())
}

// ikeOffer is what the profile allows for an IKE SA.
func (e Explainer) ikeOffer() core.Offer {
	if e.SA.Peer.Version == core.IKEv1 {
		return core.Phase1Offer(&e.SA.Peer.Profile)
	}
	return core.InitOffer(&e.SA.Peer.Profile, true)
}

// IKEUnchosen is what we offered where the peer refused it all.
func (e Explainer) IKEUnchosen() *core.Mismatch {
	m := e.ikeOffer().Unchosen(e.profileHolder())
	m.Hint += fmt.Sprintf("; or the peer has no connection for %v at all, and answers the same then", e.SA.Local.Addr())
	return m
}

// IKERekeyUnchosen is the same for the rekey of an IKE SA, whose algorithms were agreed on before.
func (e Explainer) IKERekeyUnchosen() *core.Mismatch {
	m := e.ikeOffer().Unchosen(e.profileHolder())
	m.Hint = "the peer agreed to the same algorithms before, so its connection was changed or removed since, or it does not let others rekey an IKE SA: see its log; nothing has to be changed here"
	return m
}

// ChildParts is the same for a CHILD SA.
func (e Explainer) ChildParts(p *core.Policy, withPFS bool, offered []core.Alternative) *core.Mismatch {
	m := core.ChildOffer(p, withPFS).Explain(offered, e.proposalHolder(p))
	if m.Part == "protocol" && p.Made == nil {
		m.Where = e.Place(p, "ipsec-protocols")
		m.Hint += fmt.Sprintf(", or change ipsec-protocols of policy %d%s", p.Index, core.At(m.Where))
	}
	return m
}

var modeNames = map[bool]string{true: "tunnel", false: "transport"}

// ModeParts explains that one side wants tunnel mode and the other transport mode.
func (e Explainer) ModeParts(p *core.Policy) *core.Mismatch {
	m := &core.Mismatch{What: "mode", Part: "tunnel", Ours: []string{modeNames[p.Tunnel] + " mode"}, Theirs: []string{modeNames[!p.Tunnel] + " mode"}}
	if p.Made != nil {
		m.Hint = "tunnel: write the same on both sides, or none into the template, which then leaves it to the peer"
		return m
	}
	m.Where = e.Place(p, "tunnel")
	m.Hint = fmt.Sprintf("tunnel: set tunnel = %v in policy %d, or what ours has at the peer%s", !p.Tunnel, p.Index, core.At(m.Where))
	return m
}

// ChildUnchosen is what we offered for a CHILD SA that the peer refused: its
// algorithms or its selectors, as it says. withPFS: there was room for a key exchange.
func (e Explainer) ChildUnchosen(p *core.Policy, why Cause, withPFS bool) *core.Mismatch {
	switch why {
	case NoProposal:
		m := core.ChildOffer(p, withPFS).Unchosen(e.proposalHolder(p))
		m.Ours = append(m.Ours, "mode: "+modeNames[p.Tunnel])
		if withPFS && e.agreedBefore(p) {
			e.onlyGroup(m, p)
			return m
		}
		m.Hint += fmt.Sprintf("; or the peer wants %s mode", modeNames[!p.Tunnel])
		if p.Made == nil {
			m.Hint += fmt.Sprintf(", which tunnel = %v in policy %d gives%s", !p.Tunnel, p.Index, core.At(e.Place(p, "tunnel")))
		}
		return m
	case BadSelectors:
		m := &core.Mismatch{What: selectors, Ours: []string{e.policyLine(p)}, Where: e.Place(p, "")}
		m.Hint = fmt.Sprintf("the peer has no policy for %v and does not say which it has: its policy has to be ours with the sides exchanged, src-address %s and dst-address %s there",
			p.Pair, p.Pair.Remote, p.Pair.Local)
		if p.Made != nil {
			m.Hint = "the peer has no policy or template that allows the address that it gives us, and does not say which it has: see its log, and its policy-template-group"
		}
		return m
	}
	return nil
}

// agreedBefore reports whether the peer has agreed to the proposal of a policy in an exchange that had no room for a key
// exchange: then its algorithms do not differ.
func (e Explainer) agreedBefore(p *core.Policy) bool {
	return slices.ContainsFunc(e.SA.Children, func(c *Child) bool {
		q := c.Policy
		return q.Proposal.Name == p.Proposal.Name && q.Protocol == p.Protocol && q.AH == p.AH && q.Tunnel == p.Tunnel && c.Suite.Group == nil
	})
}

// RekeyUnchosen is the same for the successor of a CHILD SA. Its algorithms were agreed on before,
// so that only the key exchange can differ.
func (e Explainer) RekeyUnchosen(p *core.Policy, why Cause) *core.Mismatch {
	m := e.ChildUnchosen(p, why, true)
	if why == NoProposal {
		e.onlyGroup(m, p)
	}
	return m
}

func (e Explainer) onlyGroup(m *core.Mismatch, p *core.Policy) {
	m.Part, m.Where = "group", e.Place(&p.Proposal, "pfs-group")
	m.Hint = fmt.Sprintf("group: the peer agreed to the same algorithms before, so only pfs-group can differ: set pfs-group of proposal %q to what the peer has, or write \"none\" into it for a peer without PFS%s",
		p.Proposal.Name, core.At(m.Where))
}

const selectors = "traffic selectors"

// policyLine is a policy for people: "policy 1 (site.toml:30): 10.1.0.0/16 => 10.2.0.0/16".
func (e Explainer) policyLine(p *core.Policy) string {
	line := fmt.Sprintf("policy %d", p.Index)
	if where := e.Place(p, ""); where != "" {
		line += " (" + where + ")"
	}
	return line + ": " + p.Pair.String()
}

// SelectorParts explains why no policy of the peer has anything in common with
// the selectors that it asks for, as they are seen from here.
func (e Explainer) SelectorParts(local, remote []selector.TS) *core.Mismatch {
	m := &core.Mismatch{What: selectors}
	for _, l := range local {
		for _, r := range remote {
			m.Theirs = append(m.Theirs, selector.Pair{Local: l, Remote: r}.String())
		}
	}
	m.Theirs = core.Lines(m.Theirs)
	var near *core.Policy // has one end in common
	end := ""
	var others *core.Policy // is for another identity, and would do
	for _, p := range e.SA.Host.Config().Policies {
		if p.Peer != e.SA.Peer {
			continue
		}
		if !e.SA.MayHave(p) {
			if _, _, ok := p.Narrow(local, remote); ok && others == nil {
				others = p
			}
			continue
		}
		m.Ours = append(m.Ours, e.policyLine(p))
		meetsLocal, meetsRemote := meets(p.Pair.Local, local), meets(p.Pair.Remote, remote)
		switch {
		case near != nil && end != "":
		case meetsRemote:
			near, end = p, "src-address"
		case meetsLocal:
			near, end = p, "dst-address"
		case near == nil:
			near = p
		}
	}
	m.Ours = core.Lines(m.Ours)
	if len(local) == 0 || len(remote) == 0 {
		m.Hint = "the peer asks for nothing"
		return m
	}
	switch {
	case others != nil:
		m.Ours = append(m.Ours, e.policyLine(others)+", for another identity"+core.At(e.Place(others.Identity, "")))
		m.Part, m.Where = "identity", e.Place(others, "identity")
		m.Hint = fmt.Sprintf("identity: policy %d is for another identity than %s proved to be%s: name that one there, or take identity out, or write a policy of its own%s",
			others.Index, e.SA.PeerID, core.At(e.Place(e.SA.Identity, "")), core.At(m.Where))
		return m
	case near == nil:
		m.Hint = fmt.Sprintf("no policy names peer %q: add one with peer = %q, src-address = %q and dst-address = %q",
			e.SA.Peer.Name, e.SA.Peer.Name, local[0], remote[0])
		return m
	case end == "src-address":
		m.Hint = fmt.Sprintf("src-address: policy %d has %s, the peer asks for %s: set src-address of the policy to it, or the peer's dst-address to ours", near.Index, near.Pair.Local, local[0])
	case end == "dst-address":
		m.Hint = fmt.Sprintf("dst-address: policy %d has %s, the peer asks for %s: set dst-address of the policy to it, or the peer's src-address to ours", near.Index, near.Pair.Remote, remote[0])
	default:
		end = "src-address"
		m.Hint = fmt.Sprintf("no policy of peer %q is for %s => %s: add one, or have the peer ask for what our policies have", e.SA.Peer.Name, local[0], remote[0])
	}
	m.Part, m.Where = end, e.Place(near, end)
	m.Hint += core.At(m.Where)
	return m
}

func meets(ours selector.TS, theirs []selector.TS) bool {
	for _, t := range theirs {
		if _, ok := selector.Intersect(ours, t); ok {
			return true
		}
	}
	return false
}

// IdentityParts explains why no identity accepts who the peer says it is;
// expected is whom it asked for, if it did.
func (e Explainer) IdentityParts(ids []*core.Identity, expected core.ID) *core.Mismatch {
	if !e.explains() {
		return nil
	}
	m := &core.Mismatch{What: "identity", Part: "remote-id", Theirs: []string{"it is " + e.SA.PeerID.String()}}
	mine := false // an identity has the my-id that the peer asked for
	for _, id := range ids {
		line := "remote-id " + id.RemoteText() + ", my-id " + id.MyID.String()
		if where := e.Place(id, ""); where != "" {
			line = "identity (" + where + "): " + line
		}
		m.Ours = append(m.Ours, line)
		mine = mine || auth.Is(id, expected)
	}
	m.Ours = core.Lines(m.Ours)
	if len(ids) > 0 {
		m.Where = e.Place(ids[0], "remote-id")
	}
	if expected.Type != core.IDNone {
		m.Theirs = append(m.Theirs, "it asks for "+expected.String())
		if !mine {
			m.Part = "my-id"
			if len(ids) > 0 {
				m.Where = e.Place(ids[0], "my-id")
			}
			m.Hint = fmt.Sprintf("my-id: the peer asks for %s: set my-id of an identity of peer %q to it, or the peer's remote-id to ours%s", expected, e.SA.Peer.Name, core.At(m.Where))
			if len(ids) > 0 && ids[0].MyID.Type == core.IDNone && ids[0].Own != nil {
				m.Hint = fmt.Sprintf("my-id: the peer asks for %s, which certificate %q does not name: have it issued with that name, or set the peer's remote-id to one of its names, %s%s",
					expected, ids[0].Own.Name, strings.Join(auth.Names(ids[0].Own.Chain[0]), ", "), core.At(m.Where))
			}
			return m
		}
	}
	m.Hint = fmt.Sprintf("remote-id: the peer says it is %s: set remote-id = %q in an identity of peer %q", e.SA.PeerID, e.SA.PeerID.String(), e.SA.Peer.Name)
	m.Hint += core.At(m.Where)
	if len(ids) == 1 && ids[0].RemoteID.Data != "" {
		m.Hint += fmt.Sprintf(", or my-id at the peer to what remote-id has here, %q", ids[0].RemoteText())
	}
	return m
}

// RefusedText says that the peer refused who we are, and what to compare.
func (e Explainer) RefusedText() string {
	if e.SA.Resumed {
		return "the peer took the ticket and does not let us resume the IKE SA: its keys of the lost one are others, or it computes AUTH in another way"
	}
	text := "the peer refused our proof: " + e.refusedMethod().Compare
	if id := e.SA.Identity; id != nil && id.PPK != nil {
		text += ", and ppk-id and ppk-secret"
	}
	return text
}

// refusedMethod is what our authentication method says where the peer refused it.
func (e Explainer) refusedMethod() auth.Refused {
	id := e.SA.Identity
	if id == nil {
		return auth.PreSharedKey.Refused(nil)
	}
	if m := auth.Of(id.Auth); m.Refused != nil {
		return m.Refused(id)
	}
	return auth.Refused{Compare: "compare auth-method, my-id and remote-id on both sides", See: "compare "}
}

// ProofRefused is what is known where the peer refused who we are.
func (e Explainer) ProofRefused() *core.Mismatch {
	m := &core.Mismatch{What: "identity", Where: e.Place(e.SA.Identity, "")}
	m.Ours = []string{"we are " + e.SA.MyID.String()}
	if id := e.SA.Identity; id != nil && id.RemoteID.Type != core.IDNone && !id.Ignore && !id.Pattern {
		m.Ours = append(m.Ours, "we ask for "+id.RemoteID.String())
	}
	if e.SA.Resumed {
		m.Hint = "nothing has to be changed: the next IKE SA is made without a ticket. If this happens each time, write resumption = false into the profile" + core.At(m.Where)
		return m
	}
	r := e.refusedMethod()
	if r.Ours != "" {
		m.Ours = append(m.Ours, r.Ours)
	}
	m.Hint = "the peer does not say what it refused, its log does: " + r.See + "my-id with its remote-id, and remote-id with its my-id"
	if id := e.SA.Identity; id != nil && id.PPK != nil {
		m.Hint += "; compare ppk-id and ppk-secret, too"
	}
	m.Hint += core.At(m.Where)
	return m
}

// ChildGroupParts explains a responder that wants a group for a CHILD SA that we
// do not allow.
func (e Explainer) ChildGroupParts(p *core.Policy, group uint16) *core.Mismatch {
	offer := core.ChildOffer(p, true)
	return offer.Explain([]core.Alternative{offer.OnlyGroup(group)}, e.proposalHolder(p))
}

// GroupParts explains a responder that wants a group that we do not allow.
func (e Explainer) GroupParts(group uint16) *core.Mismatch {
	return e.IKEParts([]core.Alternative{core.IKEOffer(&e.SA.Peer.Profile).OnlyGroup(group)})
}

// SecretParts explains a peer whose proof cannot be read with our secret, so that it is not known who it is.
func (e Explainer) SecretParts() *core.Mismatch {
	if !e.explains() {
		return nil
	}
	id := e.SA.Identity
	if id == nil {
		id = e.SA.Peer.Identities[0]
	}
	return auth.OtherSecret(e.Place(id, "secret"), e.SA.PeerID)
}

// AuthParts explains that no identity of the peer proves itself in one of the ways that the peer offers.
func (e Explainer) AuthParts(theirs []string) *core.Mismatch {
	if !e.explains() {
		return nil
	}
	m := &core.Mismatch{What: "authentication", Part: "auth-method", Theirs: core.Lines(theirs)}
	for _, id := range e.SA.Peer.Identities {
		m.Ours = append(m.Ours, auth.NameFor(id))
	}
	m.Ours, m.Where = core.Lines(m.Ours), e.Place(e.SA.Peer.Identities[0], "auth-method")
	m.Hint = "auth-method: write the same on both sides" + core.At(m.Where)
	return m
}

// MethodParts explains that the peer proves itself in another way than its identity wants.
func (e Explainer) MethodParts(theirs string) *core.Mismatch {
	m := &core.Mismatch{What: "authentication", Part: "auth-method", Ours: []string{auth.Of(e.SA.Identity.Remote()).Name}, Theirs: []string{theirs},
		Where: e.Place(e.SA.Identity, "auth-method")}
	m.Hint = "set auth-method, or remote-auth-method where each side proves itself in its own way" + core.At(m.Where)
	return m
}
