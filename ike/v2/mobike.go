package v2

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"culvert/ike/core"
	"culvert/ike/message"
)

// MOBIKE (RFC 4555): both ends may change their addresses without a new IKE SA.
// Both say in IKE_AUTH that they can, and tell their further addresses. Which
// pair of addresses is used is decided by who began the first IKE SA; it says so
// in an INFORMATIONAL exchange, whose own outer addresses are the new ones:
//
//	HDR, SK{N(UPDATE_SA_ADDRESSES), N(NAT_DETECTION_*), [N(COOKIE2)], [N(ADDITIONAL_*)]}  -->
//	                                        <--  HDR, SK{N(NAT_DETECTION_*), [N(COOKIE2)]}
//
// The other end then makes sure that the peer is where it says, with a COOKIE2
// of its own, before it sends ESP there (§3.7):
//
//	HDR, SK{N(COOKIE2), N(NAT_DETECTION_*)}  -->  <--  HDR, SK{N(NAT_DETECTION_*), N(COOKIE2)}
//
// libreswan returns COOKIE2 only beside NAT_DETECTION. Its UPDATE_SA_ADDRESSES says where it really is
// also where it is told to have ESP in UDP without a NAT, and its response says so: the response to our
// question counts. This file has the payloads; roam.go decides when to move.

// mobility is the state of MOBIKE in an IKE SA; a successor inherits it.
type mobility struct {
	agreed bool         // both ends understand MOBIKE
	leads  bool         // we decide which addresses are used
	peers  []netip.Addr // further addresses of the peer
	told   []netip.Addr // ours, as we told them last
	epoch  int          // counts changes of the path; the answer to an older question says nothing
	seen   []byte       // hash of our address and port as the peer last saw them
}

// news is what an INFORMATIONAL exchange has to do with MOBIKE.
type news struct {
	update bool   // the path changed
	tell   bool   // ours: tell our further addresses
	probe  bool   // ours: is the peer really at the address that it moved to?
	again  bool   // ours: it was asked before, and the response had no COOKIE2
	unsure bool   // ours: the response did not show that the peer is there
	cookie []byte // ours: COOKIE2, which has to come back
	epoch  int
	moved  bool // the peer's: its address changed, not only its port
	listed bool // the peer's: it told its further addresses
}

// maxAddresses is how many further addresses are told and kept.
const maxAddresses = 8

const cookie2Len = 16

// mobikeSupport is the part of IKE_AUTH.
type mobikeSupport struct{ noop }

func (*mobikeSupport) say(x *exchange) {
	x.out = append(x.out, &message.Notify{Kind: message.NotifyMOBIKESupported})
	addAddresses(x)
}

func (*mobikeSupport) hear(x *exchange) error {
	sa := x.sa
	if sa.base.Peer.Profile.MOBIKE && notify(x.in, message.NotifyMOBIKESupported) != nil {
		sa.mob.agreed, sa.mob.leads, sa.base.Told = true, x.mine, true
		readAddresses(x)
	}
	return nil
}

func (t *mobikeSupport) request(x *exchange) error {
	if x.sa.base.Peer.Profile.MOBIKE {
		t.say(x)
	}
	return nil
}

func (t *mobikeSupport) accept(x *exchange) error { return t.hear(x) }

func (t *mobikeSupport) reply(x *exchange) error {
	if x.sa.mob.agreed {
		t.say(x)
	}
	return nil
}

func (t *mobikeSupport) complete(x *exchange) error { return t.hear(x) }

// mobikeInform is the part of INFORMATIONAL.
type mobikeInform struct {
	noop
	news
	natHashes
}

func (t *mobikeInform) request(x *exchange) error {
	if !x.sa.mob.agreed {
		return nil
	}
	sa, m := x.sa, &t.news
	m.epoch = sa.mob.epoch
	if m.update || m.probe {
		m.cookie = sa.base.Env.Random(cookie2Len)
		x.out = append(x.out, &message.Notify{Kind: message.NotifyCookie2, Data: m.cookie})
	}
	if m.update {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyUpdateSAAddresses})
	}
	// Behind a NAT each question whether the peer is alive asks too where it sees
	// us (RFC 4555 §3.8).
	if m.update || m.probe || sa.mob.leads && sa.base.NAT.Local && len(x.out) == 0 {
		t.say(x)
	}
	if m.tell {
		if n := len(x.out); addAddresses(x) == 0 && len(x.out) == n {
			x.out = append(x.out, &message.Notify{Kind: message.NotifyNoAdditionalAddresses})
		}
	}
	return nil
}

func (t *mobikeInform) accept(x *exchange) error {
	if !x.sa.mob.agreed {
		return nil
	}
	sa := x.sa
	if n := notify(x.in, message.NotifyNoNATsAllowed); n != nil && !bytes.Equal(n.Data, noNATs(x.from)) {
		return refuse(message.NotifyUnexpectedNATDetected, "the peer allows no NAT, and there is one between us")
	}
	if notify(x.in, message.NotifyUpdateSAAddresses) != nil && !sa.mob.leads && sa.base.State == Established {
		if why := (roaming{sa: sa}).unacceptable(x.from); why != "" {
			return refuse(message.NotifyUnacceptableAddresses, "the peer wants to go on between %v and %v: %s", x.from.Remote, x.from.Local, why)
		}
		t.update = true
	}
	t.listed = readAddresses(x)
	return nil
}

// noNATs is the content of NO_NATS_ALLOWED: addresses and ports of a message as
// its sender sees them (RFC 4555 §4.2.6).
func noNATs(p path) []byte {
	b := append(p.Remote.Addr().AsSlice(), p.Local.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, p.Remote.Port())
	return binary.BigEndian.AppendUint16(b, p.Local.Port())
}

func (t *mobikeInform) reply(x *exchange) error {
	if !x.sa.mob.agreed {
		return nil
	}
	sa := x.sa
	if t.update {
		t.moved = sa.base.Remote.Addr() != x.from.Remote.Addr()
		sa.base.Doubtful = sa.base.Doubtful || t.moved
		sa.base.Local, sa.base.Remote, sa.base.NATT = x.from.Local, x.from.Remote, x.from.NATT
		if s := natFound(x.in, sa.base.SPIi, sa.base.SPIr, x.from); s.Supported {
			sa.base.NAT = s
		}
	}
	if notify(x.in, message.NotifyNATDetectionDestinationIP) != nil {
		t.say(x)
	}
	if n := notify(x.in, message.NotifyCookie2); n != nil {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyCookie2, Data: clone(n.Data)})
	}
	return nil
}

func (t *mobikeInform) complete(x *exchange) error {
	if !x.sa.mob.agreed {
		return nil
	}
	sa, m := x.sa, &t.news
	if m.cookie != nil {
		switch n := notify(x.in, message.NotifyCookie2); {
		case n == nil && errorNotify(x.in) != nil:
			return nil
		case n == nil:
			m.unsure = true
			roaming{sa: sa}.unsure(*m)
			return nil
		case !bytes.Equal(n.Data, m.cookie): // RFC 4555 §3.7
			sa.base.Delete("the peer's answer from its new address has another COOKIE2 than ours: somebody may stand between")
			return nil
		}
	}
	if m.epoch != sa.mob.epoch {
		return nil // the path changed since; another exchange is on its way
	}
	seen := notify(x.in, message.NotifyNATDetectionDestinationIP)
	switch {
	case m.update, m.probe:
		if s := natFound(x.in, sa.base.SPIi, sa.base.SPIr, sa.base.Path); s.Supported {
			sa.base.NAT = s
		}
	case seen != nil && sa.mob.seen != nil && !bytes.Equal(seen.Data, sa.mob.seen):
		sa.mob.epoch++
		sa.base.Event(core.EvMoved, "our NAT gave us another address or port")
		roaming{sa: sa}.update()
	}
	if seen != nil && sa.mob.leads {
		sa.mob.seen = clone(seen.Data)
	}
	return nil
}

func (t *mobikeInform) settle(x *exchange) error {
	if !x.sa.mob.agreed {
		return nil
	}
	sa, m := x.sa, &t.news
	switch {
	case sa.base.State != Established || m.unsure:
	case x.mine && m.epoch != sa.mob.epoch:
	case x.mine && m.update:
		if n := errorNotify(x.in); n != nil {
			sa.base.Event(core.EvNotify, "the peer refused our new address: %v", n.Kind)
			return nil
		}
		sa.base.MoveChildren()
		sa.base.Keepalives()
	case x.mine && m.probe:
		sa.base.Doubtful = false
		sa.base.MoveChildren()
	case x.mine:
	case m.update:
		roaming{sa: sa}.followed(m.moved)
	case m.listed && sa.mob.leads:
		roaming{sa: sa}.peerLeft(x.from)
	}
	return nil
}

// addAddresses tells our further addresses, and says how many there are.
func addAddresses(x *exchange) int {
	sa := x.sa
	sa.mob.told = roaming{sa: sa}.others()
	for _, a := range sa.mob.told {
		kind := message.NotifyAdditionalIP6Address
		if a.Is4() {
			kind = message.NotifyAdditionalIP4Address
		}
		x.out = append(x.out, &message.Notify{Kind: kind, Data: a.AsSlice()})
	}
	return len(sa.mob.told)
}

// readAddresses replaces what we know of the peer's further addresses, if the
// message says anything about them (RFC 4555 §3.6), and reports whether it does.
func readAddresses(x *exchange) (told bool) {
	var list []netip.Addr
	for _, p := range x.in {
		n, ok := p.(*message.Notify)
		if !ok {
			continue
		}
		switch n.Kind {
		case message.NotifyNoAdditionalAddresses:
			told = true
		case message.NotifyAdditionalIP4Address, message.NotifyAdditionalIP6Address:
			told = true
			if a, ok := netip.AddrFromSlice(n.Data); ok && usable(a) && len(list) < maxAddresses && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	if told {
		x.sa.mob.peers = list
	}
	return told
}

// usable: an address that one peer can reach another at.
func usable(a netip.Addr) bool {
	return a.IsGlobalUnicast() && a.Zone() == ""
}
