package plane

import (
	"time"

	"culvert/ike/core"
)

// What an SA needs of the host (routes, addresses, the guard) stands before the SA is installed,
// and before a message of IKE leaves by which the peer may learn that it can send. Otherwise the answers to the
// first packets of the peer would leave in clear.
//
// Outputs that have to wait for the host are held, in their order. The inputs that are there are all
// handled before the host follows, so that many clients that come at once share one following.

// lack notes that the host lacks something that was added.
func (p *Plane) lack() { p.Replan, p.lacks = true, true }

// Following is called by whoever lets the host follow, before it asks for the Plan.
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

// Settle lets the host follow if something waits for that, and then does what waited.
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

// coming prepares for an SA that is about to be installed, so that the host follows before.
func (p *Plane) coming(in core.Install) {
	p.arrived(in)
	// Without a way past the policies, the device drops what level use lets pass by until the SA seals.
	if !in.Standby || p.Config.Clear != nil {
		p.Lead(in.Policy, in.Child)
	}
}

// Lead has the traffic of a policy of level use led to the device for the sake of a CHILD SA that is
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

// NoLead undoes Lead. The CHILD SA does not seal any more, or was not installed.
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

// leads reports whether a policy has an SA for whose sake its traffic is led to the device.
func (p *Plane) leads(ref core.PolicyRef) bool { return len(p.leading[ref]) > 0 || p.Has(ref) }
