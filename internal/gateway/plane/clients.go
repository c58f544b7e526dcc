package plane

import "culvert/ike/core"

// clients are the clients that one policy of level unique serves, with the number of CHILD SAs of
// each. As soon as there are two, the client's port of a flow may be translated between us and
// the host (datapath/flows.go). Such flows must be routed to the device although the
// policy names the client's port, so its routes leave that port open until its last SA is gone.
type clients struct {
	children map[uint64]int
	several  bool
}

// arrived is called before an SA is installed.
func (p *Plane) arrived(in core.Install) {
	if in.Client == 0 {
		return
	}
	t := p.Clients[in.Policy]
	if t == nil {
		t = &clients{children: map[uint64]int{}}
		if p.Clients == nil {
			p.Clients = map[core.PolicyRef]*clients{}
		}
		p.Clients[in.Policy] = t
	}
	if t.children[in.Client]++; len(t.children) > 1 && !t.several {
		t.several = true
		p.lack()
	}
}

// leaves is called before an SA is removed.
func (p *Plane) leaves(child core.ChildID) {
	if c := p.SAs.Child(uint64(child)); c != nil {
		p.left(core.PolicyRef(c.Policy), c.Client)
	}
}

// left takes back what arrived counted.
func (p *Plane) left(ref core.PolicyRef, client uint64) {
	t := p.Clients[ref]
	if client == 0 || t == nil {
		return
	}
	if t.children[client]--; t.children[client] <= 0 {
		delete(t.children, client)
	}
	if len(t.children) == 0 {
		delete(p.Clients, ref)
		p.Replan = p.Replan || t.several
	}
}

// several reports whether a policy's routes have to leave the clients' ports open.
func (p *Plane) several(ref core.PolicyRef) bool {
	t := p.Clients[ref]
	return t != nil && t.several
}
