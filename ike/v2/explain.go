package v2

import (
	"fmt"
	"strings"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// What both sides offered when nothing came of it, for people. None of it
// decides anything.

// explainer says to people why nothing came of something.
type explainer struct{ sa *SA }

// mismatched is refuse with the two sides beside each other.
func mismatched(kind message.NotifyType, d *core.Mismatch, format string, a ...any) error {
	return refused{kind: kind, reason: fmt.Sprintf(format, a...), detail: d}
}

// detailOf finds what an error has to say about both sides.
func detailOf(err error) *core.Mismatch {
	switch e := err.(type) {
	case refused:
		return e.detail
	case fatal:
		return e.detail
	}
	return nil
}

func (e explainer) place(entry any, key string) string {
	return e.sa.base.Host.Config().Place(entry, key)
}

// at is the end of a hint that names a line.
func at(where string) string {
	if where == "" {
		return ""
	}
	return " (" + where + ")"
}

func (e explainer) profileHolder() core.Holder {
	p := &e.sa.base.Peer.Profile
	return core.Holder{Name: fmt.Sprintf("profile %q", p.Name), Where: func(key string) string { return e.place(p, key) }}
}

func (e explainer) proposalHolder(p *core.Policy) core.Holder {
	return core.Holder{Name: fmt.Sprintf("proposal %q", p.Proposal.Name), Where: func(key string) string { return e.place(&p.Proposal, key) }}
}

// explains reports whether a refusal may be explained: always to who has proved
// itself, and where we began.
func (e explainer) explains() bool { return e.sa.base.State != HalfOpen || e.sa.base.Env.Explains() }

// ikeParts explains why nothing in the peer's proposal for an IKE SA fits.
func (e explainer) ikeParts(offered []core.Alternative) *core.Mismatch {
	if !e.explains() {
		return nil
	}
	return core.InitOffer(&e.sa.base.Peer.Profile, true).Explain(offered, e.profileHolder())
}

// ikeUnchosen is what we offered where the peer refused it all.
func (e explainer) ikeUnchosen() *core.Mismatch {
	return core.IKEOffer(&e.sa.base.Peer.Profile).Unchosen(e.profileHolder())
}

// childParts is the same for a CHILD SA.
func (e explainer) childParts(p *core.Policy, withPFS bool, offered []core.Alternative) *core.Mismatch {
	m := core.ChildOffer(p, withPFS).Explain(offered, e.proposalHolder(p))
	if m.Part == "protocol" && p.Made == nil {
		m.Where = e.place(p, "ipsec-protocols")
		m.Hint += fmt.Sprintf(", or change ipsec-protocols of policy %d%s", p.Index, at(m.Where))
	}
	return m
}

// modeParts explains that one side wants tunnel mode and the other transport mode.
func (e explainer) modeParts(p *core.Policy) *core.Mismatch {
	names := map[bool]string{true: "tunnel", false: "transport"}
	m := &core.Mismatch{What: "mode", Part: "tunnel", Ours: []string{names[p.Tunnel] + " mode"}, Theirs: []string{names[!p.Tunnel] + " mode"}}
	if p.Made != nil {
		m.Hint = "tunnel: write the same on both sides, or none into the template, which then leaves it to the peer"
		return m
	}
	m.Where = e.place(p, "tunnel")
	m.Hint = fmt.Sprintf("tunnel: set tunnel = %v in policy %d, or what ours has at the peer%s", !p.Tunnel, p.Index, at(m.Where))
	return m
}

// childUnchosen is what we offered for a CHILD SA that the peer refused: its
// algorithms or its selectors, as the notify says.
func (e explainer) childUnchosen(p *core.Policy, kind message.NotifyType) *core.Mismatch {
	switch kind {
	case message.NotifyNoProposalChosen:
		return core.ChildOffer(p, true).Unchosen(e.proposalHolder(p))
	case message.NotifyTSUnacceptable:
		m := &core.Mismatch{What: selectors, Ours: []string{e.policyLine(p)}, Where: e.place(p, "")}
		m.Hint = fmt.Sprintf("the peer has no policy for %v and does not say which it has: its policy has to be ours with the sides exchanged, src-address %s and dst-address %s there",
			p.Pair, p.Pair.Remote, p.Pair.Local)
		if p.Made != nil {
			m.Hint = "the peer has no policy or template that allows the address that it gives us, and does not say which it has: see its log, and its policy-template-group"
		}
		return m
	}
	return nil
}

// rekeyParts is the same for a rekey.
func (x *exchange) rekeyParts(fault error) *core.Mismatch {
	if d := detailOf(fault); d != nil {
		return d
	}
	if r, ok := fault.(refused); ok {
		return explainer{x.sa}.childUnchosen(x.policy, r.kind)
	}
	return nil
}

const selectors = "traffic selectors"

// policyLine is a policy for people: "policy 1 (site.toml:30): 10.1.0.0/16 => 10.2.0.0/16".
func (e explainer) policyLine(p *core.Policy) string {
	line := fmt.Sprintf("policy %d", p.Index)
	if where := e.place(p, ""); where != "" {
		line += " (" + where + ")"
	}
	return line + ": " + p.Pair.String()
}

// selectorParts explains why no policy of the peer has anything in common with
// the selectors that it asks for, as they are seen from here.
func (e explainer) selectorParts(local, remote []selector.TS) *core.Mismatch {
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
	for _, p := range e.sa.base.Host.Config().Policies {
		if p.Peer != e.sa.base.Peer {
			continue
		}
		if !e.sa.base.MayHave(p) {
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
		m.Ours = append(m.Ours, e.policyLine(others)+", for another identity"+at(e.place(others.Identity, "")))
		m.Part, m.Where = "identity", e.place(others, "identity")
		m.Hint = fmt.Sprintf("identity: policy %d is for another identity than %s proved to be%s: name that one there, or take identity out, or write a policy of its own%s",
			others.Index, e.sa.base.PeerID, at(e.place(e.sa.base.Identity, "")), at(m.Where))
		return m
	case near == nil:
		m.Hint = fmt.Sprintf("no policy names peer %q: add one with peer = %q, src-address = %q and dst-address = %q",
			e.sa.base.Peer.Name, e.sa.base.Peer.Name, local[0], remote[0])
		return m
	case end == "src-address":
		m.Hint = fmt.Sprintf("src-address: policy %d has %s, the peer asks for %s: set src-address of the policy to it, or the peer's dst-address to ours", near.Index, near.Pair.Local, local[0])
	case end == "dst-address":
		m.Hint = fmt.Sprintf("dst-address: policy %d has %s, the peer asks for %s: set dst-address of the policy to it, or the peer's src-address to ours", near.Index, near.Pair.Remote, remote[0])
	default:
		end = "src-address"
		m.Hint = fmt.Sprintf("no policy of peer %q is for %s => %s: add one, or have the peer ask for what our policies have", e.sa.base.Peer.Name, local[0], remote[0])
	}
	m.Part, m.Where = end, e.place(near, end)
	m.Hint += at(m.Where)
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

// identityParts explains why no identity accepts who the peer says it is;
// expected is whom it asked for, if it did.
func (e explainer) identityParts(ids []*core.Identity, expected core.ID) *core.Mismatch {
	if !e.explains() {
		return nil
	}
	m := &core.Mismatch{What: "identity", Part: "remote-id", Theirs: []string{"it is " + e.sa.base.PeerID.String()}}
	mine := false // an identity has the my-id that the peer asked for
	for _, id := range ids {
		line := "remote-id " + remoteID(id) + ", my-id " + id.MyID.String()
		if where := e.place(id, ""); where != "" {
			line = "identity (" + where + "): " + line
		}
		m.Ours = append(m.Ours, line)
		mine = mine || auth.Is(id, expected)
	}
	m.Ours = core.Lines(m.Ours)
	if len(ids) > 0 {
		m.Where = e.place(ids[0], "remote-id")
	}
	if expected.Type != core.IDNone {
		m.Theirs = append(m.Theirs, "it asks for "+expected.String())
		if !mine {
			m.Part = "my-id"
			if len(ids) > 0 {
				m.Where = e.place(ids[0], "my-id")
			}
			m.Hint = fmt.Sprintf("my-id: the peer asks for %s: set my-id of an identity of peer %q to it, or the peer's remote-id to ours%s", expected, e.sa.base.Peer.Name, at(m.Where))
			if len(ids) > 0 && ids[0].MyID.Type == core.IDNone && ids[0].Own != nil {
				m.Hint = fmt.Sprintf("my-id: the peer asks for %s, which certificate %q does not name: have it issued with that name, or set the peer's remote-id to one of its names, %s%s",
					expected, ids[0].Own.Name, strings.Join(auth.Names(ids[0].Own.Chain[0]), ", "), at(m.Where))
			}
			return m
		}
	}
	m.Hint = fmt.Sprintf("remote-id: the peer says it is %s: set remote-id = %q in an identity of peer %q", e.sa.base.PeerID, e.sa.base.PeerID.String(), e.sa.base.Peer.Name)
	m.Hint += at(m.Where)
	return m
}

func remoteID(id *core.Identity) string {
	if id.Ignore {
		return "ignore"
	}
	return id.RemoteID.String()
}

// refusedText says that the peer refused who we are, and what to compare.
func (e explainer) refusedText() string {
	return "the peer refused our proof: " + e.refusedMethod().Compare
}

// refusedMethod is what our authentication method says where the peer refused it.
func (e explainer) refusedMethod() auth.Refused {
	id := e.sa.base.Identity
	if id == nil {
		return auth.PreSharedKey.Refused(nil)
	}
	if m := auth.Of(id.Auth); m.Refused != nil {
		return m.Refused(id)
	}
	return auth.Refused{Compare: "compare auth-method, my-id and remote-id on both sides", See: "compare "}
}

// proofRefused is what is known where the peer refused who we are.
func (e explainer) proofRefused() *core.Mismatch {
	m := &core.Mismatch{What: "identity", Where: e.place(e.sa.base.Identity, "")}
	m.Ours = []string{"we are " + e.sa.base.MyID.String()}
	if id := e.sa.base.Identity; id != nil && id.RemoteID.Type != core.IDNone && !id.Ignore {
		m.Ours = append(m.Ours, "we ask for "+id.RemoteID.String())
	}
	r := e.refusedMethod()
	if r.Ours != "" {
		m.Ours = append(m.Ours, r.Ours)
	}
	m.Hint = "the peer does not say what it refused, its log does: " + r.See + "my-id with its remote-id, and remote-id with its my-id"
	if id := e.sa.base.Identity; id != nil && id.PPK != nil {
		m.Hint += "; compare ppk-id and ppk-secret, too"
	}
	m.Hint += at(m.Where)
	return m
}

// childGroupParts explains a responder that wants a group for a CHILD SA that we
// do not allow.
func (e explainer) childGroupParts(p *core.Policy, n *message.Notify) *core.Mismatch {
	if len(n.Data) != 2 {
		return nil
	}
	offer := core.ChildOffer(p, true)
	return offer.Explain([]core.Alternative{offer.OnlyGroup(uint16(n.Data[0])<<8 | uint16(n.Data[1]))}, e.proposalHolder(p))
}

// groupParts explains a responder that wants a group that we do not allow.
func (e explainer) groupParts(n *message.Notify) *core.Mismatch {
	if len(n.Data) != 2 {
		return nil
	}
	return e.ikeParts([]core.Alternative{core.IKEOffer(&e.sa.base.Peer.Profile).OnlyGroup(uint16(n.Data[0])<<8 | uint16(n.Data[1]))})
}
