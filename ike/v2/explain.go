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

func (sa *SA) place(entry any, key string) string { return sa.base.Host.Config().Place(entry, key) }

// at is the end of a hint that names a line.
func at(where string) string {
	if where == "" {
		return ""
	}
	return " (" + where + ")"
}

func (sa *SA) profileHolder() core.Holder {
	p := &sa.base.Peer.Profile
	return core.Holder{Name: fmt.Sprintf("profile %q", p.Name), Where: func(key string) string { return sa.place(p, key) }}
}

func (sa *SA) proposalHolder(p *core.Policy) core.Holder {
	return core.Holder{Name: fmt.Sprintf("proposal %q", p.Proposal.Name), Where: func(key string) string { return sa.place(&p.Proposal, key) }}
}

// explains reports whether a refusal may be explained: always to who has proved
// itself, and where we began.
func (sa *SA) explains() bool { return sa.base.State != HalfOpen || sa.base.Env.Explains() }

// ikeParts explains why nothing in the peer's proposal for an IKE SA fits.
func (sa *SA) ikeParts(offered []core.Alternative) *core.Mismatch {
	if !sa.explains() {
		return nil
	}
	return core.InitOffer(&sa.base.Peer.Profile, true).Explain(offered, sa.profileHolder())
}

// ikeUnchosen is what we offered where the peer refused it all.
func (sa *SA) ikeUnchosen() *core.Mismatch {
	return core.IKEOffer(&sa.base.Peer.Profile).Unchosen(sa.profileHolder())
}

// childParts is the same for a CHILD SA.
func (sa *SA) childParts(p *core.Policy, withPFS bool, offered []core.Alternative) *core.Mismatch {
	m := core.ChildOffer(p, withPFS).Explain(offered, sa.proposalHolder(p))
	if m.Part == "protocol" && p.Made == nil {
		m.Where = sa.place(p, "ipsec-protocols")
		m.Hint += fmt.Sprintf(", or change ipsec-protocols of policy %d%s", p.Index, at(m.Where))
	}
	return m
}

// modeParts explains that one side wants tunnel mode and the other transport mode.
func (sa *SA) modeParts(p *core.Policy) *core.Mismatch {
	names := map[bool]string{true: "tunnel", false: "transport"}
	m := &core.Mismatch{What: "mode", Part: "tunnel", Ours: []string{names[p.Tunnel] + " mode"}, Theirs: []string{names[!p.Tunnel] + " mode"}}
	if p.Made != nil {
		m.Hint = "tunnel: write the same on both sides, or none into the template, which then leaves it to the peer"
		return m
	}
	m.Where = sa.place(p, "tunnel")
	m.Hint = fmt.Sprintf("tunnel: set tunnel = %v in policy %d, or what ours has at the peer%s", !p.Tunnel, p.Index, at(m.Where))
	return m
}

// childUnchosen is what we offered for a CHILD SA that the peer refused: its
// algorithms or its selectors, as the notify says.
func (sa *SA) childUnchosen(p *core.Policy, kind message.NotifyType) *core.Mismatch {
	switch kind {
	case message.NotifyNoProposalChosen:
		return core.ChildOffer(p, true).Unchosen(sa.proposalHolder(p))
	case message.NotifyTSUnacceptable:
		m := &core.Mismatch{What: selectors, Ours: []string{sa.policyLine(p)}, Where: sa.place(p, "")}
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
		return x.sa.childUnchosen(x.policy, r.kind)
	}
	return nil
}

const selectors = "traffic selectors"

// policyLine is a policy for people: "policy 1 (site.toml:30): 10.1.0.0/16 => 10.2.0.0/16".
func (sa *SA) policyLine(p *core.Policy) string {
	line := fmt.Sprintf("policy %d", p.Index)
	if where := sa.place(p, ""); where != "" {
		line += " (" + where + ")"
	}
	return line + ": " + p.Pair.String()
}

// selectorParts explains why no policy of the peer has anything in common with
// the selectors that it asks for, as they are seen from here.
func (sa *SA) selectorParts(local, remote []selector.TS) *core.Mismatch {
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
	for _, p := range sa.base.Host.Config().Policies {
		if p.Peer != sa.base.Peer {
			continue
		}
		if !sa.base.MayHave(p) {
			if _, _, ok := p.Narrow(local, remote); ok && others == nil {
				others = p
			}
			continue
		}
		m.Ours = append(m.Ours, sa.policyLine(p))
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
		m.Ours = append(m.Ours, sa.policyLine(others)+", for another identity"+at(sa.place(others.Identity, "")))
		m.Part, m.Where = "identity", sa.place(others, "identity")
		m.Hint = fmt.Sprintf("identity: policy %d is for another identity than %s proved to be%s: name that one there, or take identity out, or write a policy of its own%s",
			others.Index, sa.base.PeerID, at(sa.place(sa.base.Identity, "")), at(m.Where))
		return m
	case near == nil:
		m.Hint = fmt.Sprintf("no policy names peer %q: add one with peer = %q, src-address = %q and dst-address = %q",
			sa.base.Peer.Name, sa.base.Peer.Name, local[0], remote[0])
		return m
	case end == "src-address":
		m.Hint = fmt.Sprintf("src-address: policy %d has %s, the peer asks for %s: set src-address of the policy to it, or the peer's dst-address to ours", near.Index, near.Pair.Local, local[0])
	case end == "dst-address":
		m.Hint = fmt.Sprintf("dst-address: policy %d has %s, the peer asks for %s: set dst-address of the policy to it, or the peer's src-address to ours", near.Index, near.Pair.Remote, remote[0])
	default:
		end = "src-address"
		m.Hint = fmt.Sprintf("no policy of peer %q is for %s => %s: add one, or have the peer ask for what our policies have", sa.base.Peer.Name, local[0], remote[0])
	}
	m.Part, m.Where = end, sa.place(near, end)
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
func (sa *SA) identityParts(ids []*core.Identity, expected core.ID) *core.Mismatch {
	if !sa.explains() {
		return nil
	}
	m := &core.Mismatch{What: "identity", Part: "remote-id", Theirs: []string{"it is " + sa.base.PeerID.String()}}
	mine := false // an identity has the my-id that the peer asked for
	for _, id := range ids {
		line := "remote-id " + remoteID(id) + ", my-id " + id.MyID.String()
		if where := sa.place(id, ""); where != "" {
			line = "identity (" + where + "): " + line
		}
		m.Ours = append(m.Ours, line)
		mine = mine || auth.Is(id, expected)
	}
	m.Ours = core.Lines(m.Ours)
	if len(ids) > 0 {
		m.Where = sa.place(ids[0], "remote-id")
	}
	if expected.Type != core.IDNone {
		m.Theirs = append(m.Theirs, "it asks for "+expected.String())
		if !mine {
			m.Part = "my-id"
			if len(ids) > 0 {
				m.Where = sa.place(ids[0], "my-id")
			}
			m.Hint = fmt.Sprintf("my-id: the peer asks for %s: set my-id of an identity of peer %q to it, or the peer's remote-id to ours%s", expected, sa.base.Peer.Name, at(m.Where))
			if len(ids) > 0 && ids[0].MyID.Type == core.IDNone && ids[0].Own != nil {
				m.Hint = fmt.Sprintf("my-id: the peer asks for %s, which certificate %q does not name: have it issued with that name, or set the peer's remote-id to one of its names, %s%s",
					expected, ids[0].Own.Name, strings.Join(auth.Names(ids[0].Own.Chain[0]), ", "), at(m.Where))
			}
			return m
		}
	}
	m.Hint = fmt.Sprintf("remote-id: the peer says it is %s: set remote-id = %q in an identity of peer %q", sa.base.PeerID, sa.base.PeerID.String(), sa.base.Peer.Name)
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
func (sa *SA) refusedText() string {
	return "the peer refused our proof: " + sa.refusedMethod().Compare
}

// refusedMethod is what our authentication method says where the peer refused it.
func (sa *SA) refusedMethod() auth.Refused {
	id := sa.base.Identity
	if id == nil {
		return auth.PreSharedKey.Refused(nil)
	}
	if m := auth.Of(id.Auth); m.Refused != nil {
		return m.Refused(id)
	}
	return auth.Refused{Compare: "compare auth-method, my-id and remote-id on both sides", See: "compare "}
}

// proofRefused is what is known where the peer refused who we are.
func (sa *SA) proofRefused() *core.Mismatch {
	m := &core.Mismatch{What: "identity", Where: sa.place(sa.base.Identity, "")}
	m.Ours = []string{"we are " + sa.base.MyID.String()}
	if id := sa.base.Identity; id != nil && id.RemoteID.Type != core.IDNone && !id.Ignore {
		m.Ours = append(m.Ours, "we ask for "+id.RemoteID.String())
	}
	r := sa.refusedMethod()
	if r.Ours != "" {
		m.Ours = append(m.Ours, r.Ours)
	}
	m.Hint = "the peer does not say what it refused, its log does: " + r.See + "my-id with its remote-id, and remote-id with its my-id"
	if id := sa.base.Identity; id != nil && id.PPK != nil {
		m.Hint += "; compare ppk-id and ppk-secret, too"
	}
	m.Hint += at(m.Where)
	return m
}

// childGroupParts explains a responder that wants a group for a CHILD SA that we
// do not allow.
func (sa *SA) childGroupParts(p *core.Policy, n *message.Notify) *core.Mismatch {
	if len(n.Data) != 2 {
		return nil
	}
	offer := core.ChildOffer(p, true)
	return offer.Explain([]core.Alternative{offer.OnlyGroup(uint16(n.Data[0])<<8 | uint16(n.Data[1]))}, sa.proposalHolder(p))
}

// groupParts explains a responder that wants a group that we do not allow.
func (sa *SA) groupParts(n *message.Notify) *core.Mismatch {
	if len(n.Data) != 2 {
		return nil
	}
	return sa.ikeParts([]core.Alternative{core.IKEOffer(&sa.base.Peer.Profile).OnlyGroup(uint16(n.Data[0])<<8 | uint16(n.Data[1]))})
}
