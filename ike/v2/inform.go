package v2

import (
	"encoding/binary"
	"fmt"
	"slices"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// INFORMATIONAL (RFC 7296 §1.4): deletion of the IKE SA or of CHILD SAs, and
// with nothing in it the question whether the peer is alive (§2.4).

// Probe asks the peer whether it is there. Any request of ours that is under way asks
// the same; urgent: that is sent once more.
func (sa *SA) Probe(urgent bool) {
	if sa.current == nil && len(sa.queue) == 0 {
		sa.start(newExchange(row(inform)))
	} else if urgent {
		if sa.current != nil {
			pathProbeOf(sa.current).interrupt() // whether long packets arrive is another question
		}
		roaming{sa: sa}.again()
	}
}

// Confirm asks whether the peer has a CHILD SA.
func (sa *SA) Confirm(q *ikesa.Question) {
	x := newExchange(row(inform))
	part[*deletion](x).shows, x.still = q, q.Wanted
	sa.start(x)
}

// DeleteChild tells the peer that a CHILD SA ends; it ends with the answer.
func (sa *SA) DeleteChild(c *Child, why string) {
	x := newExchange(row(inform))
	*part[*deletion](x) = deletion{remove: []*Child{c}, reason: why}
	x.still = func() bool { return !c.Gone }
	sa.start(x)
}

// Close tells the peer that the IKE SA ends. wait: it ends with the answer.
func (sa *SA) Close(why string, wait bool) {
	each(sa, feature.deleted)
	if wait {
		sa.dropQueue()
		tellClosed(sa, why)
		return
	}
	id := sa.sendID
	if sa.current != nil && sa.current.raw != nil {
		id++
	}
	sendLast(sa, id, &message.Delete{Protocol: uint8(core.ProtoIKE)})
}

// tellClosed sends the Delete of the IKE SA; the SA ends with the answer.
func tellClosed(sa *SA, why string) {
	x := newExchange(row(inform))
	*part[*deletion](x) = deletion{closes: true, reason: why}
	sa.start(x)
}

// keepFinal leaves the last response to whoever may ask for it again.
func keepFinal(sa *SA, x *exchange) {
	sa.owner.KeepFinal(sa.base.SPI(), ikesa.Final{Exchange: uint8(x.kind.wire), ID: x.id, Stranger: sa.base.EstablishedAt.IsZero(),
		Response: sa.lastResponse, Path: x.from})
}

// disown tells the peer to delete a CHILD SA that its response to x made and that
// we cannot use: the peer would send packets that nobody opens.
func (sa *SA) disown(x *exchange) {
	c := part[*pendingChild](x)
	if c == nil || c.spi == 0 || c.policy == nil || lacksKeys(x) || find[*message.SA](x.in) == nil || sa.base.State >= Closing || c.takenBack() {
		return
	}
	y := newExchange(row(inform))
	t := part[*deletion](y)
	t.revoke, t.protocol = c.spi, c.policy.Protocol
	y.sa, y.mine = sa, true
	sa.queue = append(sa.queue, y) // it goes out when x is over
}

// deletion deletes what the exchange says, and what the peer says.
type deletion struct {
	noop
	remove   []*Child      // CHILD SAs being deleted
	revoke   uint32        // our SPI of one that only the peer has, being deleted
	protocol core.Protocol // of that
	closes   bool          // the IKE SA is being deleted
	reason   string
	shows    *ikesa.Question // ours: it asks whether the peer has a CHILD SA
}

// closes reports whether an exchange deletes the IKE SA.
func closes(x *exchange) bool {
	t := part[*deletion](x)
	return t != nil && t.closes
}

func (t *deletion) request(x *exchange) error {
	if t.closes {
		x.out = append(x.out, &message.Delete{Protocol: uint8(core.ProtoIKE)})
		return nil
	}
	addDeletes(x, t.remove)
	if t.revoke != 0 {
		x.out = append(x.out, &message.Delete{Protocol: uint8(t.protocol),
			SPIs: [][]byte{binary.BigEndian.AppendUint32(nil, t.revoke)}})
	}
	return nil
}

func (t *deletion) accept(x *exchange) error {
	hearAuthLifetime(x.sa, x.in)
	if n := notify(x.in, message.NotifyAuthenticationFailed); n != nil {
		t.closes, t.reason = true, explain(x.sa).RefusedText()
		x.sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Exchange: x.kind.name, Reason: t.reason, Detail: explain(x.sa).ProofRefused()})
	}
	for _, p := range x.in {
		if d, ok := p.(*message.Delete); ok {
			t.read(x, d)
		}
	}
	complains(x)
	return nil
}

// complains tells of the first error notify in a request. An initiator that does not like our response to its IKE_AUTH has no other
// way to say so (RFC 7296 §2.21.2), and what it then deletes does not say why.
func complains(x *exchange) {
	if n := errorNotify(x.in); n != nil && n.Kind != message.NotifyAuthenticationFailed {
		about := ""
		if len(n.SPI) > 0 && len(n.SPI) <= 8 {
			about = fmt.Sprintf(" for the SPI %x", n.SPI)
		}
		x.sa.base.Emit(core.Event{Kind: causeOf(n.Kind).Event(), Exchange: x.kind.name, Reason: fmt.Sprintf("the peer says %v%s in a request of its own: see its log for why", n.Kind, about)})
	}
}

func (t *deletion) reply(x *exchange) error {
	if t.closes {
		return nil // an empty response (RFC 7296 §1.4.1)
	}
	var also []*Child
	for _, c := range t.remove {
		if !c.Closing || c.Awaited { // else our own Delete is on its way, and the response names no SPI (§1.4.1)
			also = append(also, c)
		}
	}
	addDeletes(x, also)
	return nil
}

func (t *deletion) settle(x *exchange) error {
	if t.shows != nil {
		t.shows.Answered()
	}
	for _, c := range t.remove {
		why := "the peer deleted it"
		if x.mine {
			why = t.reason
		} else {
			c.Refused()
		}
		c.End(why)
	}
	if t.closes {
		if !x.mine {
			keepFinal(x.sa, x)
			each(x.sa, feature.deleted)
		}
		x.sa.base.End(false, "%s", t.reason)
	}
	return nil
}

// read takes in what the peer deletes. SPIs that are not there are passed
// over: both ends may have deleted at once.
func (t *deletion) read(x *exchange, d *message.Delete) {
	if d.Protocol == uint8(core.ProtoIKE) {
		if !t.closes { // else it has said why
			t.closes, t.reason = true, "the peer deleted it"
		}
		return
	}
	for _, spi := range d.SPIs {
		if len(spi) != 4 {
			continue
		}
		c := x.sa.base.ChildBySPI(binary.BigEndian.Uint32(spi))
		for s := x.sa.base.Adopter; c == nil && s != nil; s = s.Adopter { // it has moved on while the Delete was on its way
			c = s.ChildBySPI(binary.BigEndian.Uint32(spi))
		}
		switch {
		case c == nil:
			deletedEarly(x.sa, binary.BigEndian.Uint32(spi))
		case d.Protocol == uint8(c.Policy.Protocol) && !slices.Contains(t.remove, c):
			t.remove = append(t.remove, c)
		}
	}
}

// maxEarly bounds what is kept of such Deletes.
const maxEarly = 16

// deletedEarly notes an SPI that is of no CHILD SA yet: the peer may have made one
// in answer to our request and deleted it, and the Delete overtook the answer.
func deletedEarly(sa *SA, spi uint32) {
	x := sa.current
	if x != nil && x.kind.id == followUp {
		x = part[*followUpKE](x).parent
	}
	if x == nil {
		return
	}
	if c := part[*pendingChild](x); c != nil && c.spi != 0 && len(c.early) < maxEarly {
		c.early = append(c.early, spi)
	}
}

func addDeletes(x *exchange, cs []*Child) {
	if len(cs) == 0 {
		return
	}
	d := &message.Delete{Protocol: uint8(cs[0].Policy.Protocol)}
	for _, c := range cs {
		d.SPIs = append(d.SPIs, binary.BigEndian.AppendUint32(nil, c.SPIIn))
	}
	x.out = append(x.out, d)
}
