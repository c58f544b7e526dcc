package record

import (
	"fmt"
	"strings"

	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// The lines about messages of IKEv1. Neither they nor the length of what has attributes of XAuth tell how long a password is: in a
// replay it is another one.

// messageTextV1 is the exchange, with the message ID of phase 2.
func messageTextV1(h message.Header) string {
	if h.ID == 0 {
		return h.Exchange.String()
	}
	return fmt.Sprintf("%v %08x", h.Exchange, h.ID)
}

// payloadTextV1 is one payload; false: it is of IKEv2, or nothing special.
func payloadTextV1(p message.Payload) (string, bool) {
	switch p := p.(type) {
	case *isakmp.SA:
		var ps []string
		for _, q := range p.Proposals {
			s := fmt.Sprintf("%d: protocol %d", q.Number, q.Protocol)
			for _, t := range q.Transforms {
				s += fmt.Sprintf(" %d", t.ID)
				for _, a := range t.Attributes {
					s += fmt.Sprintf(" %d=%x", a.Type, a.Value)
				}
			}
			ps = append(ps, s)
		}
		return "SA(" + strings.Join(ps, " | ") + ")", true
	case *isakmp.ID:
		return fmt.Sprintf("ID(type %d, protocol %d, port %d, %d bytes)", p.IDType, p.Protocol, p.Port, len(p.Data)), true
	case *isakmp.Notify:
		return fmt.Sprintf("N(%v, %d bytes)", p.Kind, len(p.Data)), true
	case *isakmp.Delete:
		return fmt.Sprintf("D(protocol %d, %d SPIs)", p.Protocol, len(p.SPIs)), true
	case *isakmp.Attributes:
		s := fmt.Sprintf("ATTRIBUTES(kind %d", p.CfgType)
		for _, a := range p.List {
			s += fmt.Sprintf(" %d", a.Type)
		}
		return s + ")", true
	}
	return "", false
}
