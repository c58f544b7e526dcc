package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/operate/control"
)

// Why there is no tunnel with a peer.

// ExplainPeer describes the state of a peer, its last attempts, and how this host routes
// packets to it.
func (v *View) ExplainPeer(name string) (control.PeerExplanation, error) {
	x, err := v.explainPeer(name)
	if err == nil {
		v.Host.peers(&x, v.Config)
	}
	return x, err
}

// Peer is the peer of a name. The error names the peers that there are.
func (v *View) Peer(name string) (*config.Peer, error) {
	var names []string
	for _, p := range v.Config.Peers {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no peer %q: the configuration has none", name)
	}
	return nil, fmt.Errorf("there is no peer %q: the peers are %s", name, strings.Join(names, ", "))
}

func (v *View) explainPeer(name string) (x control.PeerExplanation, err error) {
	p, err := v.Peer(name)
	if err != nil {
		return x, err
	}
	x = control.PeerExplanation{Peer: name, Where: p.Place(""), Address: p.AddressText(), State: "down",
		SAs: []control.PeerSA{}, Attempts: []control.Attempt{}, Policies: []string{}, Offers: []control.Offering{}}
	refused, blocked := "", false
	for _, sa := range v.IKE.SAs() {
		if sa.Peer != name {
			continue
		}
		row := control.PeerSA{State: sa.State, Side: side(sa.Initiator), LocalAddress: sa.Local.String(), RemoteAddress: sa.Remote.String(),
			Since: since(v.Now, begun(&sa)), Children: len(sa.Children),
			MyID: idText(sa.LocalID), ID: idText(sa.RemoteID), Negotiated: v.negotiated(&sa)}
		v.pathMTU(&row, &sa)
		x.SAs = append(x.SAs, row)
		blocked = blocked || sa.ESPBlocked
		if err := v.Refused[sa.Remote.Addr()]; err != nil {
			refused = fmt.Sprintf("this host refuses to send from %v to %v (%v): check its addresses and routes, and local-address of the peer", sa.Local.Addr(), sa.Remote.Addr(), err)
		}
		switch {
		case sa.State == "established", sa.State == "expired" && x.State != "established":
			x.State = sa.State
		case x.State == "down":
			x.State = "connecting"
		}
	}
	uses, holds := 0, map[core.PolicyRef]string{}
	for _, h := range v.IKE.Holds() {
		if h.Peer == name && v.Now.Before(h.Until) {
			holds[h.Policy] = fmt.Sprintf("the last %d attempts failed, and the next one is made in %s at the earliest; a reload does not wait", h.Failures, control.Duration(h.Until.Sub(v.Now)))
		}
	}
	peer, numbers := v.Compiled.Peers[name], v.PolicyNumbers()
	for _, pol := range v.Compiled.IKE.Policies {
		if pol.Peer != peer || peer == nil {
			continue
		}
		uses++
		line := fmt.Sprintf("policy %d", numbers[pol.Ref])
		if where := v.Compiled.IKE.Place(pol, ""); where != "" {
			line += " (" + where + ")"
		}
		line += ": " + pol.Pair.String()
		if held := holds[pol.Ref]; held != "" {
			line += ": " + held
			delete(holds, pol.Ref)
		}
		x.Policies = append(x.Policies, line)
	}
	x.Policies = core.Lines(x.Policies)
	x.Note = waitsFor(p, uses, x.State)
	for _, held := range holds { // the policies that the peer is asked for by its template
		x.Note = held
	}
	if refused != "" {
		x.Note = refused
	}
	if blocked {
		x.Note = "the peer answers IKE, and nothing of it comes by ESP: let IP protocol 50 and UDP 4500 pass on the way, or look whether the hosts behind the peer answer at all"
	}
	x.Offers = offers(v.Compiled, peer)
	for _, a := range slices.Backward(v.Attempts.of[name]) {
		x.Attempts = append(x.Attempts, attemptRow(a, v.Now))
	}
	return x, nil
}

// pathMTU adds what is known of the path of the CHILD SAs of an IKE SA.
func (v *View) pathMTU(row *control.PeerSA, sa *core.SAInfo) {
	var at int64
	row.PathMTU, row.Measured, at = v.SAs.PathMTU(sa.Local.Addr(), sa.Remote.Addr(), v.Now.UnixNano())
	if row.Measured != 0 {
		row.MeasuredAgo = since(v.Now, time.Unix(at, 0))
	}
}

// offers are the algorithms that we accept: of the profile, and of each proposal.
func offers(c *compile.Result, peer *core.Peer) []control.Offering {
	list := []control.Offering{}
	if peer == nil {
		return list
	}
	list = append(list, control.Offering{What: fmt.Sprintf("IKE, profile %q", peer.Profile.Name), Lines: core.OfferFor(peer).Ours()})
	var done []string
	for _, pol := range c.IKE.Policies {
		if name := pol.Proposal.Name; pol.Peer == peer && !slices.Contains(done, name) {
			done = append(done, name)
			list = append(list, control.Offering{What: fmt.Sprintf("ESP, proposal %q", name), Lines: core.ChildOffer(pol, true).Ours()})
		}
	}
	return list
}

// waitsFor says why the gateway does not try to connect, if that is so.
func waitsFor(p *config.Peer, policies int, state string) string {
	switch {
	case state == "established":
		return ""
	case state == "expired":
		return "phase 1 is over, and its CHILD SAs go on until their own lifetime ends: another phase 1 is made when one of them is rekeyed; with dpd-interval phase 1 is made anew before it is over"
	case p.Disabled:
		return "the peer is disabled"
	case len(p.Identities) == 0:
		return fmt.Sprintf("the peer has no identity, so neither side can authenticate: add an [[identity]] with peer = %q", p.Name)
	case policies == 0:
		return fmt.Sprintf("no policy uses the peer, so nothing requires a tunnel: add a [[policy]] with peer = %q", p.Name)
	case p.Passive:
		return "passive: the peer must begin"
	case !p.OneHost():
		return "its address is a prefix: the peer must begin"
	}
	return ""
}

func side(initiator bool) string {
	if initiator {
		return "initiator"
	}
	return "responder"
}

func attemptRow(a attempt, now time.Time) control.Attempt {
	e := a.event
	row := control.Attempt{
		Time: a.last.UTC().Format(time.RFC3339), Ago: since(now, a.last), Times: a.times, Since: a.first.UTC().Format(time.RFC3339),
		Side: side(e.Initiator), Exchange: e.Exchange, Result: e.Kind.String(), Reason: e.Reason, Ours: []string{}, Theirs: []string{},
	}
	if e.Local.IsValid() {
		row.LocalAddress = e.Local.String()
	}
	if e.Remote.IsValid() {
		row.RemoteAddress = e.Remote.String()
	}
	if d := e.Detail; d != nil {
		row.What, row.Part, row.Hint, row.Where = d.What, d.Part, d.Hint, d.Where
		row.Ours, row.Theirs = append(row.Ours, d.Ours...), append(row.Theirs, d.Theirs...)
	}
	return row
}

// begun is when an IKE SA entered its state: when it was established, or when its first
// message was made.
func begun(sa *core.SAInfo) time.Time {
	if sa.Established.IsZero() {
		return sa.Created
	}
	return sa.Established
}
