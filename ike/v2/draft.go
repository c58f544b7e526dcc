package v2

import (
	"fmt"
	"net/netip"
	"slices"

	"culvert/crypto/dh"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// draft is what the tasks of one exchange share while they negotiate an SA.
type draft struct {
	still func() bool // asked before the exchange begins: is it still wanted?

	ni, nr  []byte // nonces of the exchange
	group   *suite.Group
	wants   *suite.Group // the responder asked for it; nil: it did not
	repeats int          // how often it asked
	private secret.Bytes
	asking  int // open Asks that use private
	public  []byte
	shared  secret.Bytes

	policy *core.Policy   // of the CHILD SA being made
	flow   *selector.Pair // the packet that asked for it, if one did
	spi    uint32         // our inbound SPI for it; drop gives it back
	agreed ikesa.Agreement
	refuse error    // IKE_AUTH: why there is no CHILD SA
	denied []denial // what of its selectors the peer has not got from templates
	old    *Child   // the CHILD SA being replaced
	made   *Child   // the CHILD SA that came of it
	early  []uint32 // SPIs that the peer deleted while its answer was on its way

	newSPI    uint64 // rekey of the IKE SA: our SPI of the successor
	peerSPI   uint64 // and the peer's
	successor *SA    // what came of it

	extra  secret.Bytes // CREATE_CHILD_SA: secrets of the additional key exchanges
	extras int          // how many are in it
	link   []byte       // ADDITIONAL_KEY_EXCHANGE
	parent *exchange    // IKE_FOLLOWUP_KE: the CREATE_CHILD_SA that it goes on with

}

// drop releases what an abandoned draft holds.
func (d *draft) drop(env *core.Env) {
	d.wipe()
	if d.spi != 0 {
		env.GiveSPI(d.spi)
		d.spi = 0
	}
}

// wipe overwrites the secrets, once the keys are made or never will be.
func (d *draft) wipe() {
	if d.asking > 0 {
		return // somebody computes with them; the answer wipes them
	}
	d.private.Wipe()
	d.shared.Wipe()
	d.extra.Wipe()
}

const nonceLen = 32

// offerKey draws our private value and computes the public one, for an exchange
// of ours.
func (x *exchange) offerKey(g *suite.Group) error {
	if err := x.drawKey(g); err != nil {
		return err
	}
	x.compute(g.Slow, core.KEPublic{Group: g, Private: x.private}, func(pub secret.Bytes) error {
		x.public = pub
		return nil
	})
	return nil
}

func (x *exchange) drawKey(g *suite.Group) error {
	x.private.Wipe()
	random := x.sa.base.Env.Private(dh.RandomLen(g))
	p, err := dh.NewPrivate(g, random)
	clear(random)
	x.group, x.private = g, p
	return err
}

// answerKey reads the peer's KE payload, which must be of group g, draws our
// own value and computes the shared secret: the responder's side.
func (x *exchange) answerKey(g *suite.Group) error {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != g.ID {
		return refused{kind: message.NotifyInvalidKEPayload, data: []byte{byte(g.ID >> 8), byte(g.ID)},
			reason: "the peer's key exchange is not of group " + g.Name}
	}
	if err := x.drawKey(g); err != nil {
		return err
	}
	w := core.KEBoth{KEShared: core.KEShared{Group: g, Private: x.private, Peer: ke.Data}}
	x.compute(g.Slow, w, func(both secret.Bytes) error {
		x.public, x.shared = clone(both[:g.PublicLen]), both[g.PublicLen:]
		return nil
	})
	return nil
}

// shareKey reads the responder's KE payload and computes the shared secret.
func (x *exchange) shareKey() error {
	ke := find[*message.KE](x.in)
	if ke == nil || ke.Group != x.group.ID {
		return end(0, "the response has no key exchange of group %s", x.group.Name)
	}
	w := core.KEShared{Group: x.group, Private: x.private, Peer: ke.Data}
	x.compute(x.group.Slow, w, func(s secret.Bytes) error {
		x.shared = s
		return nil
	})
	return nil
}

func (x *exchange) addKE() {
	x.out = append(x.out, &message.KE{Group: x.group.ID, Data: x.public})
}

// firstGroup is the group to begin with: what the responder asked for, else what
// was agreed on before, else the first of ours.
func (x *exchange) firstGroup(before *suite.Group, ours []*suite.Group) *suite.Group {
	for _, g := range []*suite.Group{x.wants, before} {
		if g != nil && slices.Contains(ours, g) {
			return g
		}
	}
	return ours[0]
}

// otherGroup begins anew with the group that an INVALID_KE_PAYLOAD asks for (RFC
// 7296 §1.3). what is where ours come from, for people.
func (x *exchange) otherGroup(n *message.Notify, ours []*suite.Group, what string, d *core.Mismatch) error {
	g := x.wantedGroup(n, ours)
	switch {
	case g == nil:
		return refused{kind: n.Kind, data: clone(n.Data), detail: d, reason: "the peer wants a Diffie-Hellman group that " + what + " does not allow"}
	case x.repeats == maxRepeats:
		return refused{kind: n.Kind, data: clone(n.Data), detail: d, reason: fmt.Sprintf("the peer asked %d times for another Diffie-Hellman group", maxRepeats)}
	}
	x.repeats++
	x.wants = g
	return again{"group"}
}

// wantedGroup is the group that an INVALID_KE_PAYLOAD notify asks for, if it is
// one of ours and not the one that we used.
func (x *exchange) wantedGroup(n *message.Notify, ours []*suite.Group) *suite.Group {
	if len(n.Data) != 2 {
		return nil
	}
	id := uint16(n.Data[0])<<8 | uint16(n.Data[1])
	for _, g := range ours {
		if g.ID == id && g != x.group {
			return g
		}
	}
	return nil
}

func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}
