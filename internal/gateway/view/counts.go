package view

import "culvert/sad"

// How many SAs a command concerns, before it is carried out.

// Children is how many CHILD SAs there are.
func (v *View) Children() int { return len(v.SAs.Children()) }

// Sealing is how many CHILD SAs protect packets.
func (v *View) Sealing() (n int) {
	for _, c := range v.SAs.Children() {
		if c.State(v.Now) == sad.StateMature {
			n++
		}
	}
	return n
}

// IKESAs is how many IKE SAs there are, also those that are being established.
func (v *View) IKESAs() int { return len(v.IKE.SAs()) }

// Established is how many IKE SAs are established.
func (v *View) Established() (n int) {
	for _, sa := range v.IKE.SAs() {
		if sa.State == "established" {
			n++
		}
	}
	return n
}

// Redirectable is how many established IKE SAs of a peer, or with an empty name of all, can be
// sent to another gateway, and how many cannot.
func (v *View) Redirectable(peer string) (sent, stay int) {
	for _, sa := range v.IKE.SAs() {
		switch {
		case peer != "" && sa.Peer != peer || sa.State != "established":
		case sa.Redirectable:
			sent++
		default:
			stay++
		}
	}
	return sent, stay
}
