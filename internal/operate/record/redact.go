package record

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// A redacted recording can be passed on: it plays, but only as far as decisions
// go. The endpoint of a replay has other keys; what only the recorded one could
// tell it is told (witness.go).
//
// Kept of inputs: times, kinds, addresses and ports, the configuration with its
// identities and certificates, what messages of IKE_SA_INIT say and what the
// others said once they were decrypted, selectors, SPIs, nonces, public values,
// leased addresses, what was fetched about certificates, and of all that takes a
// secret only whether it was right.
// Left out: pre-shared keys, PPKs, passphrases and private keys, the seed,
// private values, shared secrets, everything derived from them, proofs, tickets,
// and comments of the configuration.
//
// Compared are the lines that this file makes of messages and outputs. Reasons
// in words are not in them, so that a better word is no difference.

// typeName is an output's or input's type without its package.
func typeName(v any) string { return reflect.TypeOf(v).Name() }

// describeInput is one line about an input that gives no secret away.
func describeInput(in any) string {
	switch in := in.(type) {
	case core.Datagram:
		return fmt.Sprintf("Datagram %v from %v, %s", in.Local, in.Remote, headerText(in.Data))
	case core.Acquire:
		return fmt.Sprintf("Acquire policy-ref %d, %v", in.Policy, in.Flow)
	case core.Answer:
		if in.Err != nil {
			return fmt.Sprintf("Answer %d: it failed", in.ID)
		}
		return fmt.Sprintf("Answer %d, %d bytes", in.ID, len(in.Data))
	case core.SPIs:
		return fmt.Sprintf("SPIs, %d of them", len(in.SPIs))
	case Reconfigure:
		return fmt.Sprintf("Reconfigure, %d files", len(in.From.Files))
	case core.TicketKeys:
		return fmt.Sprintf("TicketKeys, %d of them", len(in.Keys))
	case core.Command:
		return fmt.Sprintf("Command %d, IKE SA %d", in.Do, in.SA)
	case core.Expire:
		return fmt.Sprintf("Expire CHILD SA %d, hard %t", in.Child, in.Hard)
	case core.Used:
		return fmt.Sprintf("Used CHILD SA %d", in.Child)
	case core.Alive:
		return fmt.Sprintf("Alive CHILD SA %d", in.Child)
	case core.Moved:
		return fmt.Sprintf("Moved CHILD SA %d to %v, %v", in.Child, in.Local, in.Remote)
	case core.LocalNets:
		return fmt.Sprintf("LocalNets %v", in.Nets)
	case core.PathUntried:
		return fmt.Sprintf("PathUntried CHILD SA %d, MTU %d", in.Child, in.MTU)
	case core.PathClaim:
		return fmt.Sprintf("PathClaim CHILD SA %d, MTU %d", in.Child, in.MTU)
	case core.Unanswered:
		return fmt.Sprintf("Unanswered CHILD SA %d", in.Child)
	case core.Silent:
		return fmt.Sprintf("Silent CHILD SA %d", in.Child)
	case core.Busy:
		return fmt.Sprintf("Busy CHILD SA %d, line %d", in.Child, in.Line)
	case core.UnknownSPI:
		return fmt.Sprintf("UnknownSPI %08x, %v from %v, CHILD SA %d", in.SPI, in.Local, in.Remote, in.Child)
	case core.Woke:
		return fmt.Sprintf("Woke, clocks %v apart", in.Apart)
	case core.LocalAddrs:
		return fmt.Sprintf("LocalAddrs %v", in.Addrs)
	}
	return typeName(in)
}

func headerText(b []byte) string {
	h, err := message.ParseHeader(b)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no IKE message", len(b))
	}
	if h.Major() == 1 && h.Exchange == isakmp.ExchangeTransaction {
		return messageText(h)
	}
	return messageText(h) + fmt.Sprintf(", %d bytes", len(b))
}

func messageText(h message.Header) string {
	if h.Major() == 1 {
		return messageTextV1(h)
	}
	way := "request"
	if h.Response() {
		way = "response"
	}
	return fmt.Sprintf("%v %s %d", h.Exchange, way, h.ID)
}

// describeOutput is the same of an output; empty for what is of no interest.
func describeOutput(o core.Output) string {
	switch o := o.(type) {
	case core.Send:
		return fmt.Sprintf("Send %v to %v, %s", o.Local, o.Remote, headerText(o.Data))
	case core.Install:
		s := fmt.Sprintf("Install CHILD SA %d of IKE SA %d for policy-ref %d, peer %s, %s", o.Child, o.SA, o.Policy, o.Peer, algorithms(o))
		return s + fmt.Sprintf(", %v, %v to %v", o.Pairs, o.Local, o.Remote)
	case core.Activate:
		return fmt.Sprintf("Activate CHILD SA %d", o.Child)
	case core.Retire:
		return fmt.Sprintf("Retire CHILD SA %d", o.Child)
	case core.Remove:
		return fmt.Sprintf("Remove CHILD SA %d", o.Child)
	case core.Move:
		return fmt.Sprintf("Move CHILD SA %d to %v, %v", o.Child, o.Local, o.Remote)
	case core.NeedSPIs:
		return fmt.Sprintf("NeedSPIs %d", o.N)
	case core.KeepaliveTo:
		return fmt.Sprintf("KeepaliveTo %v", o.Remote)
	case core.Ask:
		return fmt.Sprintf("Ask %d of IKE SA %d: %T", o.ID, o.SA, o.Work)
	case core.Withdraw:
		return fmt.Sprintf("Withdraw %d", o.ID)
	case core.Event:
		return eventText(o)
	}
	return typeName(o)
}

// algorithms names those of a CHILD SA.
func algorithms(in core.Install) string {
	name := "ah"
	if in.Encr != nil {
		name = in.Encr.Name
	}
	if in.Integ != nil {
		name += "/" + in.Integ.Name
	}
	if in.AH.Integ != nil {
		name += " within ah/" + in.AH.Integ.Name
	}
	return name
}

// eventText leaves out Reason and, of identities, the detail: a peer's ID may
// stand in them.
func eventText(e core.Event) string {
	s := "Event " + e.Kind.String()
	for _, f := range []struct {
		name string
		n    uint64
	}{{"IKE SA", uint64(e.SA)}, {"CHILD SA", uint64(e.Child)}, {"policy-ref", uint64(e.Policy)}} {
		if f.n != 0 {
			s += fmt.Sprintf(", %s %d", f.name, f.n)
		}
	}
	if e.Peer != "" {
		s += ", peer " + printable(e.Peer)
	}
	if e.Exchange != "" {
		s += ", in " + e.Exchange
	}
	if d := e.Detail; d != nil {
		s += ", " + d.What
		if d.Part != "" {
			s += ", they part in " + d.Part
		}
		if strings.HasSuffix(d.What, "proposal") || d.What == "traffic selectors" {
			s += fmt.Sprintf(", ours [%s], theirs [%s]", strings.Join(d.Ours, "; "), strings.Join(d.Theirs, "; "))
		}
	}
	return s
}

// outputText and tracedText are what a redacted recording keeps of an output and
// of a message as it is in clear.
func outputText(line string) string { return "  out " + line }

func tracedText(sent bool, h message.Header, body []message.Payload) string {
	way := "  in clear: "
	if sent {
		way = "  seals: "
	}
	var list []string
	for _, p := range body {
		list = append(list, payloadText(p))
	}
	return way + messageText(h) + " {" + strings.Join(list, ", ") + "}"
}

func payloadText(p message.Payload) string {
	if s, ok := payloadTextV1(p); ok {
		return s
	}
	switch p := p.(type) {
	case *message.SA:
		var ps []string
		for _, q := range p.Proposals {
			ps = append(ps, proposalText(&q))
		}
		return "SA(" + strings.Join(ps, " | ") + ")"
	case *message.KE:
		if g := suite.GroupByID(p.Group); g != nil {
			return fmt.Sprintf("KE(%s)", g.Name)
		}
		return fmt.Sprintf("KE(group %d, %d bytes)", p.Group, len(p.Data))
	case *message.ID:
		who := "IDr"
		if p.Initiator {
			who = "IDi"
		}
		return fmt.Sprintf("%s(type %d, %d bytes)", who, p.IDType, len(p.Data))
	case *message.Auth:
		return fmt.Sprintf("AUTH(method %d, %d bytes)", p.Method, len(p.Data))
	case *message.Notify:
		return fmt.Sprintf("N(%v, %d bytes)", p.Kind, len(p.Data))
	case *message.Delete:
		return fmt.Sprintf("D(protocol %d, %d SPIs)", p.Protocol, len(p.SPIs))
	case *message.TS:
		who := "TSr"
		if p.Initiator {
			who = "TSi"
		}
		return fmt.Sprintf("%s%v", who, p.Selectors)
	}
	return fmt.Sprintf("%v(%d bytes)", p.Type(), len(p.AppendBody(nil)))
}

func proposalText(p *message.Proposal) string {
	s := fmt.Sprintf("%d: protocol %d", p.Number, p.Protocol)
	for _, t := range p.Transforms {
		s += fmt.Sprintf(" %d:%d", t.Type, t.ID)
		if t.KeyBits > 0 {
			s += fmt.Sprintf("/%d", t.KeyBits)
		}
	}
	return s
}

// printable keeps bytes of a file from steering a terminal.
func printable(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
