package v2

import (
	"encoding/binary"
	"slices"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// CHILD SAs for single lines of the data path (RFC 9611; ike/sa/lines.go says which are made when). The first CHILD SA of a
// policy shows that both ends know them, and the others are made beside it, with the same selectors:
//
//	IKE_AUTH         …, N(SA_RESOURCE_INFO), SA, TSi, TSr         -->  <--  …, N(SA_RESOURCE_INFO), SA, TSi, TSr
//	CREATE_CHILD_SA  N(SA_RESOURCE_INFO: line), SA, Ni, TSi, TSr  -->  <--  N(SA_RESOURCE_INFO: line), SA, Nr, TSi, TSr
//	                                                               or  <--  N(TS_MAX_QUEUE)
//
// The notify may carry which of its resources an end means, for people alone (RFC 9611 §5.1): four bytes here. strongSwan
// sends the same, except at a rekey, where it sends none.

// lineWish is what a CHILD SA that is negotiated has to do with lines.
type lineWish struct {
	beside *Child // the one for all lines, beside which it is for a single line; nil: it is for all itself
	line   int    // of ours, which it is for; 0: none is named
	shared bool   // the peer said SA_RESOURCE_INFO
}

// MakeLine makes a CHILD SA beside c, for a line.
func (sa *SA) MakeLine(c *Child, line int) {
	x := newExchange(row(createChild))
	p := part[*pendingChild](x)
	p.policy, p.beside, p.line = c.Policy, c, line
	x.still = func() bool { return c.Wishes(line) }
	sa.start(x)
}

// makesLine reports whether a CHILD SA of ours for a line of a policy is under way.
func makesLine(sa *SA, p *core.Policy) bool {
	return slices.ContainsFunc([]*exchange{sa.current, sa.parked.mine}, func(x *exchange) bool {
		if x == nil || x.kind.id != createChild {
			return false
		}
		c := part[*pendingChild](x)
		return c.beside != nil && c.policy.Ref == p.Ref
	})
}

// resource is the notify of a line; 0 or NoLine: of none.
func resource(line int) *message.Notify {
	n := &message.Notify{Kind: message.NotifySAResourceInfo}
	if line > 0 {
		n.Data = binary.BigEndian.AppendUint32(nil, uint32(line))
	}
	return n
}

// announce is for our request. For one that is for all lines it is said to peers of our kind only: others that
// want CHILD SAs beside it say so themselves.
func (c *pendingChild) announce(x *exchange) {
	switch {
	case c.old != nil && c.old.Line != 0:
		x.out = append(x.out, resource(c.old.Line))
	case c.old == nil && (c.beside != nil || x.sa.base.Kin):
		x.out = append(x.out, resource(c.line))
	}
}

// place finds beside which CHILD SA the one belongs that the peer asks for. One whose selectors are those of none is
// for all lines, and others may be made beside it.
func (c *pendingChild) place(x *exchange, chosen *ikesa.Choice) error {
	if c.shared = notify(x.in, message.NotifySAResourceInfo) != nil; c.shared && c.old == nil {
		c.policy, c.beside = chosen.Policy, ikesa.SharedBy(x.sa.base, chosen.Policy, chosen.Pairs)
	}
	return c.admitted(x.sa)
}

// admitted refuses what the peer does not get beside another CHILD SA. It is asked again after the Asks.
func (c *pendingChild) admitted(sa *SA) error {
	if c.beside == nil {
		return nil
	}
	if err := c.beside.Admit(makesLine(sa, c.policy)); err != nil {
		return inNotify(err)
	}
	return nil
}

// echo is for our response.
func (c *pendingChild) echo(x *exchange) {
	if !c.shared {
		return
	}
	line := 0
	switch {
	case c.old != nil:
		line = c.old.Line
	case c.beside != nil:
		c.line = c.beside.LineFor(0, false)
		line = c.line
	}
	x.out = slices.Insert(x.out, len(x.out)-1, message.Payload(resource(line)))
}

// confirms judges the peer's response. A peer that does not say SA_RESOURCE_INFO has made a CHILD SA that takes the place of
// the one for all lines.
func (c *pendingChild) confirms(x *exchange, pairs []selector.Pair) error {
	c.shared = notify(x.in, message.NotifySAResourceInfo) != nil
	switch {
	case c.beside == nil:
		return nil
	case !c.shared:
		return refuse(message.NotifyTSMaxQueue, "it does not say that it made one of several for the same traffic (RFC 9611)")
	case ikesa.SharedBy(x.sa.base, c.policy, pairs) == nil:
		return refuse(message.NotifyTSUnacceptable, "it narrowed the selectors to %v, and they have to be those of the first CHILD SA (RFC 9611)", pairs)
	}
	return nil
}

// lineOf is the line that the CHILD SA is for. A successor is for that of its predecessor, whatever the peer says.
func (c *pendingChild) lineOf(x *exchange) int {
	switch {
	case c.old != nil:
		c.shared = c.shared || c.old.Shared
		return c.old.Line
	case c.beside != nil:
		return c.beside.LineFor(c.line, x.mine)
	}
	return 0
}

// lineFailed reports that no CHILD SA was made for a line.
func (c *pendingChild) lineFailed(fault error) {
	why, _ := causeIn(fault)
	c.beside.LineFailed(c.line, why, fault.Error())
}
