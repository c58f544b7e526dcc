package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/ike/v2"
)

// redirects are those of all peers, by name.
type redirects map[string]*redirect

// redirect is where a peer sent us (RFC 5685). It counts until the
// configuration is loaded anew or an attempt there fails; then the peer is where
// the configuration says.
type redirect struct {
	to, from netip.Addr  // to is not valid: where the configuration says
	times    []time.Time // of the last redirects
	old      *ikesa.SA   // whom the next IKE SA takes over from; nil: nobody
}

// More redirects than these within the period are a loop (RFC 5685:
// MAX_REDIRECTS and REDIRECT_LOOP_DETECT_PERIOD).
const (
	maxRedirects   = 5
	redirectPeriod = 300 * time.Second
)

// Redirected follows the peer of sa to another gateway. An IKE SA that is up is
// given up once the new one has its CHILD SAs.
func (e *Endpoint) Redirected(sa *ikesa.SA, to core.Gateway, wanted []*core.Policy) {
	if e.down {
		return
	}
	peer, from, old := sa.Peer, sa.Remote.Addr().Unmap(), e.replacing[sa.ID]
	if sa.State == ikesa.Established {
		old = sa
	}
	if to.Name == "" {
		e.redirect(sa, to, from, old, wanted)
		return
	}
	resolve(e, to.Name, func(list []netip.Addr, err error) {
		if e.down || !slices.Contains(e.cfg.Peers, peer) {
			return
		}
		if err != nil {
			e.notRedirected(peer, to, wanted, "the DNS has no address for it")
			return
		}
		leading(e, peer, list, func(ways []way) { // of several addresses the first that can be reached
			if len(ways) > 0 {
				list = []netip.Addr{ways[0].remote}
			}
			if !e.down && slices.Contains(e.cfg.Peers, peer) {
				e.redirect(sa, core.Gateway{Addr: list[0], Name: to.Name}, from, old, wanted)
			}
		})
	})
}

func (e *Endpoint) redirect(sa *ikesa.SA, to core.Gateway, from netip.Addr, old *ikesa.SA, wanted []*core.Policy) {
	peer := sa.Peer
	r := e.redirects[peer.Name]
	if r == nil {
		r = &redirect{}
		e.redirects[peer.Name] = r
	}
	for s := range e.others.of(peer.Name) {
		if old != nil && e.replacing[s.ID] == old && s.Remote.Addr() == to.Addr {
			return // said twice, and under way
		}
	}
	now := e.env.Now()
	r.times = slices.DeleteFunc(r.times, func(t time.Time) bool { return now.Sub(t) >= redirectPeriod })
	switch {
	case to.Addr == from:
		e.notRedirected(peer, to, wanted, "it is there already")
		return
	case peer.Local.IsValid() && peer.Local.Is4() != to.Addr.Is4():
		e.notRedirected(peer, to, wanted, "local-address "+peer.Local.String()+" does not lead there")
		return
	case len(r.times) >= maxRedirects:
		e.notRedirected(peer, to, wanted, fmt.Sprintf("that would be more than %d redirects within %v: look which gateways send to each other", maxRedirects, redirectPeriod))
		return
	}
	r.times = append(r.times, now)
	r.to, r.from, r.old = to.Addr, from, old
	e.env.Emit(core.Event{Kind: core.EvRedirected, Peer: peer.Name, Remote: netip.AddrPortFrom(to.Addr, peer.Port), Initiator: true,
		Reason: fmt.Sprintf("the gateway at %v sent us to %v", from, to)})
	if len(wanted) == 0 && old != nil {
		old.Delete("the peer sent us to another gateway")
	}
	for _, p := range wanted {
		if sa.State == ikesa.Ended && (old == nil || old.State == ikesa.Ended) {
			e.ensure(p, nil) // while the name was looked up, another attempt may have begun
		} else {
			e.connect(p)
		}
	}
}

// notRedirected says why a redirect was not followed. The next attempt goes to
// where the configuration says.
func (e *Endpoint) notRedirected(peer *core.Peer, to core.Gateway, wanted []*core.Policy, why string) {
	e.redirects.returnHome(peer)
	e.env.Emit(core.Event{Kind: core.EvInitFailed, Peer: peer.Name, Initiator: true,
		Reason: fmt.Sprintf("the peer sends us to %v, and we do not go: %s", to, why)})
	for _, p := range wanted {
		e.later(p, true)
	}
}

// settle tells an IKE SA that begins at the other gateway where we come
// from, and whom it takes over from.
func (t redirects) settle(sa *ikesa.SA, h replacing) {
	r := t[sa.Peer.Name]
	if r == nil || r.to != sa.Remote.Addr() {
		return
	}
	sa.ComesFrom = r.from
	if r.old != nil {
		h[sa.ID] = r.old
		r.old = nil
	}
}

// failed is told of each IKE SA that is gone.
func (t redirects) failed(sa *ikesa.SA, fault bool) {
	if r := t[sa.Peer.Name]; fault && r != nil && sa.Initiator && sa.EstablishedAt.IsZero() && r.to == sa.Remote.Addr() {
		t.returnHome(sa.Peer)
	}
}

// returnHome has the next attempt go to where the configuration says.
func (t redirects) returnHome(peer *core.Peer) {
	if r := t[peer.Name]; r != nil {
		r.to, r.old = netip.Addr{}, nil
	}
}

// fullFor reports whether newcomers of a peer are to go to another gateway.
func (e *Endpoint) fullFor(peer *core.Peer) bool {
	r, ok := e.cfg.Redirects[peer.Name]
	return ok && e.others.serving[peer.Name] >= r.Above
}

// sendAway answers a newcomer with the gateway that it shall go to, if it can be
// sent there. skimmed is what message.Skim read of its request.
func sendAway(e *Endpoint, peer *core.Peer, h message.Header, skimmed []message.Payload, d core.Datagram) bool {
	r := e.cfg.Redirects[peer.Name]
	answer := v2.RedirectInit(h, skimmed, d.Local.Addr(), r.To)
	if answer == nil {
		return false
	}
	e.env.Emit(core.Send{Local: d.Local, Remote: d.Remote, NATT: d.NATT, Data: answer})
	why := "as redirect of the peer says"
	if r.Above > 0 {
		why = fmt.Sprintf("because redirect-above of the peer is %d and it has %d IKE SAs", r.Above, e.others.serving[peer.Name])
	}
	e.env.Emit(core.Event{Kind: core.EvRedirecting, Peer: peer.Name, Local: d.Local, Remote: d.Remote,
		Reason: fmt.Sprintf("sent it to the gateway %v, %s", r.To, why)})
	return true
}
