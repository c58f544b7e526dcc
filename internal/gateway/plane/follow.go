package plane

import (
	"time"

	"culvert/ike/core"
)

// What an SA needs of the host (routes, addresses, the guard) is set up before the SA is installed,
// and before an IKE message leaves from which the peer may learn that it can send. Otherwise the answers to the
// first packets of the peer would leave in clear.
//
// Outputs that have to wait for the host are held, in their order. All inputs that are there are
// handled before the host is changed, so that many clients that connect at once share one change.

// lack notes that the host lacks something that was added.
func (p *Plane) lack() { p.Replan, p.lacks = true, true }

// Following is called before the host is brought up to date, before Plan.
func (p *Plane) Following() { p.Replan, p.lacks = false, false }

// waits reports whether an output has to wait for the host, or for another output that does.
func (p *Plane) waits(out core.Output) bool {
	switch out.(type) {
	case core.Send, core.Install:
		return p.lacks || len(p.held) > 0
	case core.Activate, core.Retire, core.Remove, core.Move, core.Event:
		return len(p.held) > 0
	}
	return false
}

// Settle brings the host up to date if outputs wait for that, and then applies them.
func (p *Plane) Settle(now time.Time) {
	for len(p.held) > 0 {
		if p.Config.Follow == nil {
			p.Following()
		} else if !p.Config.Follow() {
			return
		}
		for len(p.held) > 0 && !p.lacks {
			out := p.held[0]
			p.held = p.held[1:]
			p.do(now, out)
		}
		p.again(now)
	}
}

// coming prepares the host for an SA that is about to be installed.
func (p *Plane) coming(in core.Install) {
	p.arrived(in)
	// Without underlay.Clear, the device drops packets of level use until the SA is active.
	if !in.Standby || p.Config.Clear != nil {
		p.Lead(in.Policy, in.Child)
	}
}

// Lead routes the traffic of a policy of level use to the device, for a CHILD SA that is
// about to be installed.
func (p *Plane) Lead(ref core.PolicyRef, child core.ChildID) {
	if !p.Uses[ref] {
		return
	}
	if !p.leads(ref) {
		p.lack()
	}
	if p.leading[ref] == nil {
		p.leading[ref] = map[core.ChildID]bool{}
	}
	p.leading[ref][child] = true
}

// NoLead undoes Lead. The CHILD SA is no longer active, or was not installed.
func (p *Plane) NoLead(ref core.PolicyRef, child core.ChildID) {
	if !p.leading[ref][child] {
		return
	}
	delete(p.leading[ref], child)
	if len(p.leading[ref]) == 0 {
		delete(p.leading, ref)
	}
	p.Replan = true
}

// leads reports whether the traffic of a policy is routed to the device because of an SA.
func (p *Plane) leads(ref core.PolicyRef) bool { return len(p.leading[ref]) > 0 || p.Has(ref) }
