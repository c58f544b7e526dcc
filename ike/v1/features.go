package v1

import (
	"culvert/ike/isakmp"
)

// What an implementation can do, it says in vendor IDs of the first two messages.

// features are what a peer can do.
type features struct {
	dpd       bool
	natt      isakmp.Vendor // the best of what it knows of NAT traversal; VendorUnknown: nothing
	windows   bool
	unity     bool
	fragments bool
}

// natTraversals are those that we know, the best first.
var natTraversals = []isakmp.Vendor{isakmp.VendorNATT, isakmp.VendorNATTDraft03, isakmp.VendorNATTDraft02LF, isakmp.VendorNATTDraft02}

// hear notes the vendor IDs of a message.
func (f *features) hear(ps []isakmp.Payload) {
	knows := map[isakmp.Vendor]bool{}
	for _, p := range ps {
		if v, ok := p.(*isakmp.VendorID); ok {
			knows[isakmp.IdentifyVendor(v.Data)] = true
		}
	}
	f.dpd = f.dpd || knows[isakmp.VendorDPD]
	f.fragments = f.fragments || knows[isakmp.VendorFragmentation]
	f.unity = f.unity || knows[isakmp.VendorUnity]
	f.windows = f.windows || knows[isakmp.VendorWindows]
	for _, v := range natTraversals {
		if f.natt == isakmp.VendorUnknown && knows[v] {
			f.natt = v
		}
	}
}

// drafts reports whether the peer has the payload numbers and the encapsulation modes of the drafts.
func (f *features) drafts() bool { return f.natt != isakmp.VendorNATT }

// vendorIDs say what we can do: as initiator all that we know of NAT traversal, as responder the one that the
// peer knows.
func (sa *SA) vendorIDs() (out []isakmp.Payload) {
	say := func(v isakmp.Vendor) { out = append(out, &isakmp.VendorID{Data: v.Bytes()}) }
	say(isakmp.VendorDPD)
	if saysXAuth(sa) {
		say(isakmp.VendorXAuth)
	}
	if sa.base.Peer.Profile.Fragmentation && (sa.base.Initiator || sa.peer.fragments) {
		say(isakmp.VendorFragmentation)
	}
	if saysUnity(sa) {
		say(isakmp.VendorUnity)
	}
	switch p := &sa.base.Peer.Profile; {
	case p.NoNATT:
	case sa.base.Initiator:
		for _, v := range natTraversals {
			say(v)
		}
	case sa.peer.natt != isakmp.VendorUnknown:
		say(sa.peer.natt)
	}
	return out
}
