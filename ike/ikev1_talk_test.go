package ike

import (
	"fmt"
	"net/netip"
	"strings"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// A talk is what two ends of IKEv1 say to each other, as a conversation: a line for each message that is sent, with the
// exchange and the payloads, and mode config and XAuth with their attributes. Vendor IDs and NAT-D are left out.
type talk struct{ lines []string }

// talks writes down what is said in a pair from now on.
func (p *pair) talks() *talk {
	t := &talk{}
	for _, s := range []*side{p.a, p.b} {
		s.e.Trace(func(sent bool, h message.Header, ps []message.Payload) {
			if sent {
				t.lines = append(t.lines, s.name+": "+talkExchanges[h.Exchange]+talkPayloads(ps))
			}
		})
	}
	return t
}

// said is what was said since it was asked last.
func (t *talk) said() string {
	s := strings.Join(t.lines, "\n")
	t.lines = nil
	return s
}

// script is an expected conversation without the indentation that it has in the test.
func script(s string) string {
	var lines []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}

var talkExchanges = map[message.ExchangeType]string{
	isakmp.ExchangeMain: "main", isakmp.ExchangeBase: "base", isakmp.ExchangeAggressive: "aggressive", isakmp.ExchangeQuick: "quick", isakmp.ExchangeInformational: "inform", isakmp.ExchangeTransaction: "config",
}

func talkPayloads(ps []message.Payload) (s string) {
	for _, p := range ps {
		switch p := p.(type) {
		case *isakmp.VendorID, *isakmp.NATD:
		case *isakmp.Attributes:
			s += talkAttributes(p)
		case *isakmp.Notify:
			s += " " + p.Kind.String()
		case *isakmp.Delete:
			s += fmt.Sprintf(" D(%d)", p.Protocol)
		case *isakmp.Hash:
			s += " HASH"
		case *isakmp.SA:
			s += " SA"
		case *isakmp.KE:
			s += " KE"
		case *isakmp.Nonce:
			s += " N"
		case *isakmp.ID:
			if ts, ok := p.Selector(); ok {
				s += " " + ts.String()
			} else {
				s += " ID"
			}
		default:
			s += fmt.Sprintf(" %T", p)
		}
	}
	return s
}

var talkKinds = map[uint8]string{isakmp.CfgRequest: "REQUEST", isakmp.CfgReply: "REPLY", isakmp.CfgSet: "SET", isakmp.CfgAck: "ACK"}

var talkNames = map[uint16]string{
	1: "address", 2: "mask", 3: "dns", 8: "address6", 10: "dns6", 13: "subnet", 15: "subnet6",
	isakmp.UnityBanner: "banner", isakmp.UnityDefaultDomain: "domain", isakmp.UnitySplitInclude: "networks",
	isakmp.XAuthType: "type", isakmp.XAuthUserName: "user", isakmp.XAuthPassword: "password", isakmp.XAuthStatus: "status", isakmp.XAuthMessage: "message",
	isakmp.XAuthChallenge: "challenge", isakmp.XAuthPasscode: "passcode",
}

// talkAttributes shows values that are addresses, networks, names or numbers; of passwords it says how long they are.
func talkAttributes(p *isakmp.Attributes) string {
	s := " " + talkKinds[p.CfgType]
	for _, a := range p.List {
		name := talkNames[a.Type]
		if name == "" {
			name = fmt.Sprint(a.Type)
		}
		s += " " + name
		if len(a.Value) == 0 {
			continue
		}
		switch a.Type {
		case isakmp.UnitySplitInclude:
			nets, _ := isakmp.ParseNets(a.Value)
			s += strings.ReplaceAll(fmt.Sprintf("=%v", nets), " ", ",")
		case isakmp.XAuthPassword, isakmp.XAuthPasscode, isakmp.XAuthChallenge:
			s += fmt.Sprintf("(%d)", len(a.Value))
		case isakmp.UnityBanner, isakmp.UnityDefaultDomain, isakmp.XAuthUserName, isakmp.XAuthMessage:
			s += "=" + string(a.Value)
		default:
			if addr, ok := netip.AddrFromSlice(a.Value); ok {
				s += "=" + addr.String()
			} else if v, ok := a.Uint(); ok {
				s += fmt.Sprintf("=%d", v)
			}
		}
	}
	return s
}

// leasing has the server's system give one address to whoever asks.
func (s *side) leasing(addr string) {
	s.system = func(a core.Ask) (core.Answer, bool) {
		if _, ok := a.Work.(core.Lease); !ok {
			return core.Answer{}, false
		}
		return core.Answer{ID: a.ID, Data: core.AppendLease(nil, []netip.Addr{netip.MustParseAddr(addr)}, nil)}, true
	}
}
