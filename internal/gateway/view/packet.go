package view

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/operate/control"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// What the gateway would do with a packet.

// ExplainPacket says what the data path and the host would do with a packet.
func (v *View) ExplainPacket(q control.PacketQuery) (control.PacketExplanation, error) {
	f, err := flowOf(q)
	if err != nil {
		return control.PacketExplanation{}, err
	}
	x, path, err := v.explainPacket(q, f)
	if err == nil {
		v.explainHost(&x, &f, q.Inbound, path)
	}
	return x, err
}

// flowOf reads a packet as a person writes it.
func flowOf(q control.PacketQuery) (f wire.Flow, err error) {
	if f.Src, err = netip.ParseAddr(q.Src); err != nil {
		return f, fmt.Errorf("src %q: write an address, such as 10.1.202.5", q.Src)
	}
	if f.Dst, err = netip.ParseAddr(q.Dst); err != nil {
		return f, fmt.Errorf("dst %q: write an address, such as 10.1.101.7", q.Dst)
	}
	f.Src, f.Dst = f.Src.Unmap().WithZone(""), f.Dst.Unmap().WithZone("")
	if f.Src.Is4() != f.Dst.Is4() {
		return f, fmt.Errorf("src %s and dst %s are of different address families", f.Src, f.Dst)
	}
	p, ok := config.ParseProtocol(q.Protocol)
	if !ok || p == 0 {
		return f, fmt.Errorf("protocol %q: write a name such as tcp, udp or icmp, or a number from 1 to 255", q.Protocol)
	}
	f.Proto, f.Opaque = uint8(p), q.Fragment
	for _, n := range []int{q.SrcPort, q.DstPort} {
		if n < 0 || n > 65535 {
			return f, fmt.Errorf("port %d: write 0 to 65535", n)
		}
	}
	switch {
	case q.Fragment:
	case selector.Typed(f.Proto):
		if q.SrcPort > 255 || q.DstPort > 255 {
			return f, fmt.Errorf("type %d, code %d: write 0 to 255", q.SrcPort, q.DstPort)
		}
		f.SrcPort = uint16(q.SrcPort<<8 | q.DstPort)
	case p.HasPorts():
		f.SrcPort, f.DstPort = uint16(q.SrcPort), uint16(q.DstPort)
	case q.SrcPort != 0 || q.DstPort != 0:
		return f, fmt.Errorf("protocol %s has no ports: leave out --src-port and --dst-port", p)
	}
	return f, nil
}

func flowText(f *wire.Flow) string {
	end := func(a netip.Addr, port uint16) string {
		if f.Opaque || !config.Protocol(f.Proto).HasPorts() {
			return a.String()
		}
		return netip.AddrPortFrom(a, port).String()
	}
	s := fmt.Sprintf("%s => %s %s", end(f.Src, f.SrcPort), end(f.Dst, f.DstPort), config.Protocol(f.Proto))
	switch {
	case f.Opaque:
		s += ", a fragment without ports"
	case selector.Typed(f.Proto):
		s += fmt.Sprintf(" type %d code %d", f.SrcPort>>8, f.SrcPort&255)
	}
	return s
}

// explainPacket is what the data path would do with a packet that reaches it. The policy is in
// x.Why, and what follows from it in path.
func (v *View) explainPacket(q control.PacketQuery, f wire.Flow) (x control.PacketExplanation, path []string, err error) {
	x = control.PacketExplanation{Packet: flowText(&f), Policy: -1, Why: []string{}}
	names := v.policyNames()
	var e datapath.Explanation
	if q.Inbound {
		spi, err := inboundSPI(v.SAs, &f, q.SPI, v.Now)
		if err != nil {
			return x, nil, err
		}
		e = v.Path.ExplainIn(v.Now, &f, spi)
	} else {
		e = v.Path.ExplainOut(v.Now, &f)
	}
	say := func(format string, a ...any) { x.Why = append(x.Why, fmt.Sprintf(format, a...)) }
	explainPolicy(&x, e.Policy, names, say)
	if e.Policy == nil && !e.Waits {
		for _, near := range nearMisses(v.Policy, &f, q.Inbound) {
			say("%s%s", names.of(near.policy), near.why)
		}
	}
	say = func(format string, a ...any) { path = append(path, fmt.Sprintf(format, a...)) }
	if e.SA != nil {
		explainSA(&x, e.SA, q.Inbound, v.Now, say)
	}
	x.Acquire = e.Acquire && x.Peer != ""
	if e.Waits {
		x.Verdict = "hold"
		say("a fragment shows no ports, and the policy or the SA depends on them: it is held until all fragments have arrived; ask about the whole packet, with ports and without --fragment")
		return x, path, nil
	}
	verdict(&x, e, q, say)
	return x, path, nil
}

// policyNames names policies by their numbers in `policy print`.
type policyNames struct {
	c       *compile.Result
	numbers map[core.PolicyRef]int
	made    map[core.PolicyRef]core.AddPolicy
}

func (v *View) policyNames() policyNames {
	n := policyNames{v.Compiled, v.PolicyNumbers(), map[core.PolicyRef]core.AddPolicy{}}
	for _, m := range v.Made {
		n.made[m.Ref] = m
	}
	return n
}

// row is a policy in the configuration, or the template that it was made from; nil: neither
// exists any more.
func (n policyNames) row(ref core.PolicyRef) (row *config.Policy, made bool) {
	if row = n.c.Rows[ref]; row != nil {
		return row, false
	}
	if t := n.c.Templates[n.made[ref].Template]; t != nil {
		return t.Row, true
	}
	return nil, false
}

func (n policyNames) of(p *spd.Policy) string {
	ref := core.PolicyRef(p.Ref)
	row, made := n.row(ref)
	if row == nil {
		return "a policy that is being removed"
	}
	where := row.Place("")
	if made {
		where = strings.TrimSpace("made from the template " + where)
	}
	name := fmt.Sprintf("policy %d", n.numbers[ref])
	if where != "" {
		name += " (" + where + ")"
	}
	return name
}

func explainPolicy(x *control.PacketExplanation, p *spd.Policy, names policyNames, say func(string, ...any)) {
	if p == nil {
		say("no policy matches")
		return
	}
	x.Match, x.Action = p.Pair.String(), p.Action.String()
	text := "action " + x.Action
	ref := core.PolicyRef(p.Ref)
	row, made := names.row(ref)
	if row != nil {
		x.Policy, x.Where, x.Peer = names.numbers[ref], row.Place(""), row.PeerName
	}
	if made {
		x.Peer = names.made[ref].Peer
	}
	if p.Action == spd.Encrypt {
		x.Level = p.Level.String()
		text += ", level " + x.Level
		if x.Peer == "" {
			text += ", with SAs that are added by hand"
		} else {
			text += ", peer " + x.Peer
		}
	}
	say("%s is the first that matches: %s, %s", names.of(p), p.Pair, text)
}

func explainSA(x *control.PacketExplanation, c *sad.Child, inbound bool, now time.Time, say func(string, ...any)) {
	half := c.Rows(now, false)[1]
	if inbound {
		half = c.Rows(now, false)[0]
	}
	x.SPI, x.SAState, x.Peer = control.SPI(half.SPI), half.State, c.Peer
	x.SrcAddr, x.DstAddr = half.Src.String(), half.Dst.String()
	if !half.UDP {
		x.SrcAddr, x.DstAddr = half.Src.Addr().String(), half.Dst.Addr().String()
	}
	var covers []string
	for _, p := range c.Pairs {
		covers = append(covers, p.String())
	}
	x.SACover = strings.Join(covers, ", ")
	way := "it leaves through"
	if inbound {
		way = "it arrives through"
	}
	whose := "of peer " + c.Peer
	if c.Manual() {
		whose, x.Peer = "added by hand", ""
	}
	say("%s the SA %s %s, %s, %s to %s, which covers %s", way, x.SPI, whose, half.State, x.SrcAddr, x.DstAddr, x.SACover)
	x.Line = lineText(c.Line)
	switch own := c.LinesBeside(); {
	case c.Line == sad.NoLine:
		say("the SA is one of several for the same traffic, which the peer made for a CPU of its own")
	case c.Line != 0:
		say("the SA is for line %d of the data path alone: packets of other lines leave through others (RFC 9611)", c.Line)
	case len(own) > 0 && !inbound:
		say("packets of the lines %s of the data path leave through SAs of their own (RFC 9611)", strings.Trim(fmt.Sprint(own), "[]"))
	}
}

// verdict says what happens to the packet and, if it does not pass, what to look at next.
func verdict(x *control.PacketExplanation, e datapath.Explanation, q control.PacketQuery, say func(string, ...any)) {
	x.Verdict = "drop"
	help := "see `culvert explain peer " + x.Peer + "`"
	if x.Peer == "" {
		help = "the policy's SAs are added by hand: see `culvert sa add --help`"
	}
	switch r := e.Reason; r {
	case datapath.Passed:
		x.Verdict = "protect"
		if q.Inbound {
			x.Verdict = "deliver"
		}
		return
	case datapath.OutUnprotected:
		x.Verdict, x.Counter = "pass-unprotected", r.String()
		if e.Policy.Action == spd.None {
			say("the policy lets it pass in clear")
		} else {
			say("the level is use: it passes in clear until there is an SA; %s", help)
		}
		return
	case datapath.OutNoStates:
		asked := ""
		if x.Acquire {
			asked = ", and the IKE daemon is asked for an SA"
		}
		say("no SA covers it: it is dropped%s; %s", asked, help)
	case datapath.OutFlowErrors:
		say("SAs of several clients cover it, and it belongs to no flow that one of these clients has begun, so the gateway cannot know which client it is for")
	case datapath.OutPolicyErrors, datapath.OutLinkLocal:
		x.Counter = r.String()
		return
	case datapath.OutPolicyBlocked, datapath.InPolicyBlocked:
		say("the policy discards it")
	case datapath.OutStateModeErrors:
		say("the SA is in transport mode or is an AH SA, and cannot carry packets between these addresses")
	case datapath.OutStateExpired, datapath.InStateExpired:
		say("the SA has reached its hard lifetime and should have been replaced; %s", help)
	case datapath.InNoStates:
		say("there is no SA with this SPI: the peer uses an SA that was removed here")
	case datapath.InStateInvalid:
		say("the SA with this SPI is not installed yet: its packets arrived before the negotiation had finished")
	case datapath.OutPolicyDead:
		say("peer %s is disabled, so there will be no SA, and it does not pass in clear either: enable the peer, or disable the policy too", x.Peer)
	case datapath.InPolicyErrors:
		say("the SA covers it, but the first policy that matches belongs to a disabled peer, so it is not accepted from others")
	case datapath.InNoPolicies:
		say("the SA covers it, but no policy matches it any more")
	case datapath.InTemplateMismatches:
		if e.Policy != nil && e.Policy.Action == spd.None {
			say("the policy requires it in clear, and it arrived protected")
		} else {
			say("the SA's selectors do not cover it: the peer sends packets that were not negotiated; compare src-address and dst-address on both sides")
		}
	}
	x.Counter = e.Reason.String()
	say("it is counted in %s of `culvert statistics print`", x.Counter)
}

// inboundSPI is the SA that an inbound packet is assumed to arrive through: the one that was
// named, else the newest that covers it, else the newest.
func inboundSPI(t SAs, f *wire.Flow, named string, now time.Time) (uint32, error) {
	if named != "" {
		return control.ParseSPI(named)
	}
	var any, covering uint32
	for _, c := range t.Children() {
		if c.State(now) == sad.StateDead {
			continue
		}
		any = c.Inbound().SPI()
		if c.Inbound().Covers(f) {
			covering = any
		}
	}
	if covering != 0 {
		return covering, nil
	}
	if any == 0 {
		return 0, fmt.Errorf("there is no SA that it could arrive through: see `culvert active-peers print` and `culvert explain peer NAME`")
	}
	return any, nil
}

// nearMiss is a policy that differs in one property only.
type nearMiss struct {
	policy *spd.Policy
	why    string
}

// maxMisses is how many near misses are shown.
const maxMisses = 3

func nearMisses(policies []spd.Policy, f *wire.Flow, inbound bool) (list []nearMiss) {
	local, remote, localPort, remotePort := f.Src, f.Dst, f.SrcPort, f.DstPort
	if inbound {
		local, remote, localPort, remotePort = f.Dst, f.Src, f.DstPort, f.SrcPort
	}
	holds := func(t selector.TS, a netip.Addr) bool {
		return t.Lo.BitLen() == a.BitLen() && t.Lo.Compare(a) <= 0 && a.Compare(t.Hi) <= 0
	}
	for i := range policies {
		p := &policies[i]
		var misses []string
		miss := func(ok bool, format string, a ...any) {
			if !ok {
				misses = append(misses, fmt.Sprintf(format, a...))
			}
		}
		l, r := p.Pair.Local, p.Pair.Remote
		miss(holds(l, local), "src-address %s does not contain %s", l, local)
		miss(holds(r, remote), "dst-address %s does not contain %s", r, remote)
		miss(l.Proto == 0 || l.Proto == f.Proto, "its protocol is %s", config.Protocol(l.Proto))
		ports := selector.TS{PortLo: l.PortLo, PortHi: l.PortHi}
		miss(f.Opaque && ports.AnyPort() && r.AnyPort() || !f.Opaque && (selector.Typed(f.Proto) || l.PortLo <= localPort && localPort <= l.PortHi && r.PortLo <= remotePort && remotePort <= r.PortHi),
			"its ports differ: %s", p.Pair)
		if len(misses) == 1 && len(list) < maxMisses {
			list = append(list, nearMiss{p, " differs in one property only: " + misses[0]})
		}
	}
	return list
}
