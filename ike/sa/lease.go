package sa

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// Lease is the inner addresses of one end, by mode-config. It is the IKE SA's until
// that ends; a successor at a rekey takes it over.
type Lease struct {
	Holder  core.SAID // the IKE SA that got it
	Asked   bool      // as initiator: it is ours
	Addrs   []netip.Addr
	DNS     []netip.Addr
	Subnets []netip.Prefix // split-include, as initiator
	Apart   bool           // each of them has a policy of level unique (Cisco Unity)
	// Made are the policies that came of it, as initiator: the first belongs to
	// the first CHILD SA.
	Made []*core.Policy
}

// Selectors are the addresses as selectors.
func (l *Lease) Selectors() (list []selector.TS) {
	for _, a := range l.Addrs {
		list = append(list, selector.FromPrefix(netip.PrefixFrom(a, a.BitLen())))
	}
	return list
}

// dynamic puts the addresses into selectors that are for the unspecified address alone: so a client
// names the address that it is to get (OpenIKED's "from dynamic").
func (l *Lease) dynamic(list []selector.TS) []selector.TS {
	list = slices.Clone(list)
	for i, ts := range list {
		if ts.Lo != ts.Hi || !ts.Lo.IsUnspecified() {
			continue
		}
		for _, a := range l.Addrs {
			if a.BitLen() == ts.Lo.BitLen() {
				list[i].Lo, list[i].Hi = a, a
			}
		}
	}
	return list
}

// Networks are the peer's split networks, or everything in the families of our
// addresses where it named none.
func (l *Lease) Networks() (list []selector.TS) {
	for _, p := range l.Subnets {
		list = append(list, selector.FromPrefix(p))
	}
	if len(list) > 0 {
		return list
	}
	for _, a := range l.Addrs {
		any := netip.IPv6Unspecified()
		if a.Is4() {
			any = netip.IPv4Unspecified()
		}
		list = append(list, selector.FromPrefix(netip.PrefixFrom(any, 0)))
	}
	return list
}

// Given reports whether we gave the peer an address. Without a lease nobody gave any.
func (l *Lease) Given() bool { return l != nil && !l.Asked }

// Leased reports whether the peer gave us an address.
func (l *Lease) Leased() bool { return l != nil && l.Asked }

// Inner are the inner addresses of either end.
func (l *Lease) Inner() []netip.Addr {
	if l == nil {
		return nil
	}
	return l.Addrs
}

// Mode is the mode-config of the identity if it gives (or else asks); nil if not.
func (sa *SA) Mode(responder bool) *core.ModeConfig {
	if sa.Identity == nil || sa.Identity.Mode == nil || sa.Identity.Mode.Responder != responder {
		return nil
	}
	return sa.Identity.Mode
}

// leasing is the use of addresses by an IKE SA.
type leasing struct {
	idle
	sa *SA
}

func (u leasing) passTo(n *SA) { n.Lease, u.sa.Lease = u.sa.Lease, nil }

func (u leasing) end() {
	sa, l := u.sa, u.sa.Lease
	sa.Lease = nil
	switch {
	case l == nil:
	case l.Asked:
		sa.Env.Emit(core.Unconfigured{Holder: l.Holder})
	default:
		sa.Env.Emit(core.Release{Holder: l.Holder})
	}
}

// RequestLease asks the record of leases for an address for the peer, by w, which says
// what the peer wants. Whoever has the address that it would get, and may be the peer
// itself, is asked first whether it is there. contact: the peer says INITIAL_CONTACT.
// over reports whether nobody waits any more; else done is called, perhaps at once, and
// Lease has the addresses, or err says why there are none.
func (sa *SA) RequestLease(m *core.ModeConfig, w core.Lease, contact bool, over func() bool, done func(err error)) {
	w.Pool, w.Address, w.DNS = m.Pool, m.Address, m.SystemDNS
	w.Owner = sa.LeaseOwner()
	rivals := rivals(sa, m, contact)
	sa.Lease = &Lease{Holder: sa.ID} // given back at the end, whatever the answer is
	left := len(rivals)
	ask := func() {
		w.Same = shares(sa, contact)
		sa.Env.Ask(sa.ID, w, func(b secret.Bytes, err error) {
			if over() {
				return
			}
			addrs, dns, ok := core.ParseLease(b)
			if err == nil && (!ok || len(addrs) == 0) {
				err = errors.New("the pool gave nothing")
			}
			if err != nil {
				sa.Lease = nil
				sa.Env.Emit(core.Release{Holder: sa.ID})
				done(fmt.Errorf("no address for %s from mode-config %q: %w", sa.PeerID, m.Name, err))
				return
			}
			sa.Lease.Addrs, sa.Lease.DNS = addrs, dns
			done(nil)
		})
	}
	for _, s := range rivals {
		s.Contest(fmt.Sprintf("%s asks from %v for the address that this one has", sa.PeerID, sa.Remote), func(stays bool) {
			if left--; over() {
				return
			}
			if stays && len(s.Lease.Inner()) > 0 {
				sa.Event(core.EvNotify, "%s at %v is there and keeps %v: two devices with one ID have an address each", s.PeerID, s.Remote, s.Lease.Inner())
			}
			if left == 0 {
				ask()
			}
		})
	}
	if len(rivals) == 0 {
		ask()
	}
}

// shares are the holders of leases that are the peer's own: of the same device, and
// of what it says that it has forgotten.
func shares(sa *SA, contact bool) (holders []core.SAID) {
	for _, s := range sa.Others.Namesakes(sa) {
		if s.Lease.Given() && (sa.SameDevice(s) || contact && sa.Forgets(s)) {
			holders = append(holders, s.Lease.Holder)
		}
	}
	return holders
}

// rivals are the IKE SAs of other devices that have what the peer would get: those with the
// same owner in the record of leases, and the one that has the only address of the peer's
// identity. A device that has an address already wants nobody else's.
func rivals(sa *SA, m *core.ModeConfig, contact bool) (list []*SA) {
	if len(shares(sa, contact)) > 0 {
		return nil // it has one already
	}
	add := func(s *SA) {
		if s.Lease.Given() && !sa.SameDevice(s) && !(contact && sa.Forgets(s)) && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, s := range sa.Others.Namesakes(sa) {
		if s.Lease.Given() && s.Identity == sa.Identity && sa.Claims(s) {
			add(s)
		}
	}
	if m.Address.IsValid() {
		for s := range sa.Others.Siblings(sa) {
			if s.Lease.Given() && slices.Contains(s.Lease.Addrs, m.Address) {
				add(s)
			}
		}
	}
	return list
}
