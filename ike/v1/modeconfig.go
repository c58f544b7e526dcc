package v1

import (
	"slices"
	"strings"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Mode config (draft-dukes-ike-mode-cfg-02): the initiator asks for an inner address once the ends have proved who they are,
// and gets it with what belongs to it (pull), or the responder sets it by itself (push):
//
//	ATTR(REQUEST: address, mask, DNS …)  -->             <--  ATTR(SET: address, mask, DNS …)
//	                <--  ATTR(REPLY: …)                  ATTR(ACK)  -->
//
// Networks are said in an attribute of Cisco Unity, to whoever knows that, and each gets a CHILD SA of its own. Package sa decides
// what is asked for, given and kept; here is how it is written.

const doingConfig = "mode config"

// pushAfter is how long a responder waits for the peer to ask before it sets the address by itself: some clients
// wait for that.
const pushAfter = 3 * time.Second

// unityAsked are the attributes of Unity that we ask for. Those but the networks are for people, or not needed.
var unityAsked = []uint16{isakmp.UnityBanner, isakmp.UnityDefaultDomain, isakmp.UnitySplitInclude}

// saysUnity reports whether our messages say that we know Cisco Unity: as initiator to whom we ask for an address, as responder
// if an identity gives addresses, so that the peer may be one that gets an address.
func saysUnity(sa *SA) bool {
	if sa.base.Initiator {
		return sa.base.Mode(false) != nil
	}
	for _, p := range sa.phase1.candidates {
		for _, id := range p.Identities {
			if id.Mode != nil && id.Mode.Responder {
				return true
			}
		}
	}
	return false
}

// --- initiator ---

// lease asks for an address, if that is wanted. An SA that replaces another has its address from that.
func (s *setup) lease() {
	sa := s.sa
	sa.base.Env.Timers.Stop(s.timer)
	if sa.base.Mode(false) == nil || !sa.base.Initiator || sa.base.Instead != "" {
		s.up()
		return
	}
	s.doing = doingConfig
	var list []isakmp.Attribute
	for _, a := range v1Form(ikesa.AskedFor(sa.base, nil).Attributes()) {
		list = append(list, isakmp.Variable(a.Type, nil))
	}
	for _, t := range unityAsked {
		list = append(list, isakmp.Variable(t, nil))
	}
	transact(sa, isakmp.CfgRequest, list, s.leased, func() {
		s.lost(fatal{reason: "the peer did not answer when it was asked for an address (mode config): give the peer a mode-config for us, or take mode-config out of the identity here"})
	})
}

// leased takes what the peer gives, in a REPLY or in a SET.
func (s *setup) leased(a *isakmp.Attributes) {
	sa := s.sa
	if sa.setup != s {
		return // it set it in the meantime
	}
	l := ikesa.NewLease(sa.base)
	for _, b := range attributesOf(a) {
		l.Take(b)
	}
	for _, b := range a.List {
		s.unity(l, b)
	}
	err := ikesa.TakeLease(sa.base, l)
	if err != nil && sa.base.Identity.Generate != core.GenerateNo {
		s.lost(fatal{reason: err.Error()})
		return
	}
	if err != nil {
		sa.base.Event(core.EvNotify, "%v", err)
	}
	s.up()
}

// unity takes an attribute of Cisco Unity.
func (s *setup) unity(l *ikesa.Lease, b isakmp.Attribute) {
	sa := s.sa
	switch b.Type {
	case isakmp.UnitySplitInclude:
		nets, err := isakmp.ParseNets(b.Value)
		if err != nil {
			sa.base.Event(core.EvNotify, "%v: they are passed over", err)
		}
		for _, p := range nets {
			l.AddSubnet(p)
			l.Apart = true
		}
	case isakmp.UnityBanner:
		if text := strings.TrimSpace(string(b.Text())); text != "" {
			sa.base.Event(core.EvNotify, "the peer greets with %q", text)
		}
	}
}

// takeConfig takes what the peer sets. Where we want nothing of it, the empty answer says so.
func takeConfig(sa *SA, x *exchange, a *isakmp.Attributes) {
	s := sa.setup
	if s == nil || s.doing != doingConfig {
		answerTo(sa, x, a, nil)
		return
	}
	var taken []isakmp.Attribute
	for _, b := range a.List {
		taken = append(taken, isakmp.Variable(b.Type, nil))
	}
	answerTo(sa, x, a, taken)
	s.leased(a)
}

// --- responder ---

// giveConfig answers a request of the peer. What we have not is left out.
func giveConfig(sa *SA, x *exchange, a *isakmp.Attributes) {
	b := sa.base
	m := b.Mode(true)
	asked := ikesa.RequestOf(attributesOf(a))
	if m == nil {
		if asked.V4 || asked.V6 {
			b.Event(core.EvNotify, "the peer asks for an address, and its identity has no mode-config that gives one: write mode-config into the identity, or have the peer ask for none")
		}
		answerTo(sa, x, a, nil)
		return
	}
	x.trans.asks = true
	giveLease(sa, m, asked, func() {
		x.trans.asks = false
		answerTo(sa, x, a, given(sa, m, asked, sa.peer.unity || hasUnity(a)))
	})
}

func hasUnity(a *isakmp.Attributes) bool {
	_, ok := a.Find(isakmp.UnitySplitInclude)
	return ok
}

// giveLease asks for an address for the peer, unless it has one or wants none. then is called whatever came of it.
func giveLease(sa *SA, m *core.ModeConfig, asked ikesa.ConfigRequest, then func()) {
	b := sa.base
	if b.Lease != nil || !asked.V4 && !asked.V6 {
		then()
		return
	}
	over := func() bool { return b.State != Established }
	b.RequestLease(m, core.Lease{V4: asked.V4, V6: asked.V6, Wishes: asked.Wishes}, false, over, func(err error) {
		if err != nil {
			b.Event(core.EvNotify, "%v", err)
		} else {
			ikesa.LeaseProven(b, false)
		}
		then()
	})
}

// given are the attributes of an answer.
func given(sa *SA, m *core.ModeConfig, asked ikesa.ConfigRequest, unity bool) (list []isakmp.Attribute) {
	r := ikesa.Given(sa.base, m, asked)
	if len(r.Addrs) == 0 {
		return nil
	}
	nets := isakmp.AppendNets(nil, r.Networks)
	if unity {
		r.Networks = nil
	}
	for _, a := range v1Form(r.Attributes()) {
		list = append(list, isakmp.Variable(a.Type, a.Value))
	}
	if unity && len(nets) > 0 {
		list = append(list, isakmp.Variable(isakmp.UnitySplitInclude, nets))
	}
	return list
}

// v1Form is attributes as IKEv1 has them: an IPv6 address is without the length of its prefix.
func v1Form(list []ikesa.Attribute) []ikesa.Attribute {
	for i, a := range list {
		if a.Type == ikesa.CfgIP6Address && len(a.Value) == 17 {
			list[i].Value = a.Value[:16]
		}
	}
	return list
}

// push sets the address of a peer that did not ask for one, a moment after the SA came up. A peer that has begun quick mode
// needs none.
func push(sa *SA) {
	b := sa.base
	m := b.Mode(true)
	if m == nil || b.Initiator || b.Lease != nil {
		return
	}
	b.Env.After(pushAfter, func() {
		if b.State != Established || b.Lease != nil || slices.ContainsFunc(sa.sorted(), func(x *exchange) bool { return !x.mine && x.quick != nil }) {
			return
		}
		v6 := m.Address.Is6()
		asked := ikesa.ConfigRequest{V4: !v6, V6: v6, DNS4: !v6, DNS6: v6, Netmask: !v6}
		giveLease(sa, m, asked, func() {
			if list := given(sa, m, asked, sa.peer.unity); list != nil {
				transact(sa, isakmp.CfgSet, list, func(*isakmp.Attributes) {}, func() {})
			}
		})
	})
}
