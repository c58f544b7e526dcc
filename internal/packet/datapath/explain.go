package datapath

import (
	"time"

	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// Explanation is what a line would do with a packet now, and by what.
type Explanation struct {
	Reason Reason      // Passed: it would be sealed, or delivered
	Policy *spd.Policy // the first that matches; nil: none does
	SA     *sad.Child  // that it would leave or that it came by; nil: none
	// Acquire: a packet on its way out has the daemon asked for an SA.
	Acquire bool
	// Waits: the packet is a fragment, and is held until all of it is there. What
	// becomes of it then is not in Reason, which is Passed.
	Waits bool
}

// ExplainOut is what would become of a packet that leaves, from the databases
// that the workers ask. Nothing is counted, used or asked for. What only the
// packet itself can show (a size, headers that cannot be protected, sequence
// numbers that are used up) is not in it.
func (p *Path) ExplainOut(now time.Time, f *wire.Flow) Explanation {
	k := p.flows.answered(fiveTuple{remote: f.Dst, local: f.Src, rport: f.DstPort, lport: f.SrcPort, proto: f.Proto}, now.UnixNano())
	if k != nil && k.port != k.rport {
		g := *f
		g.DstPort = k.rport
		f = &g
	}
	pol := p.cfg.Policies.Lookup(f)
	x := Explanation{Reason: Passed, Policy: pol}
	switch {
	case f.Opaque && p.cfg.waitsOut(f):
		x.Waits = true
		return x
	case pol == nil:
		x.Reason = uncovered(f)
		return x
	case pol.Action == spd.Discard:
		x.Reason = OutPolicyBlocked
		return x
	case pol.Action == spd.None:
		x.Reason = OutUnprotected
		return x
	}
	out, several := p.cfg.outbound(0, pol, k, f)
	switch {
	case several:
		x.Reason = OutFlowErrors
	case out != nil:
		x.SA = out.Child()
		x.Reason = usable(x.SA, now, f)
	case pol.Level == spd.Use:
		x.Reason = OutUnprotected
	case pol.Dead:
		x.Reason = OutPolicyDead
	default:
		x.Reason, x.Acquire = OutNoStates, true
	}
	return x
}

// usable is what an SA says to one packet that leaves: place, then admit.
func usable(c *sad.Child, now time.Time, f *wire.Flow) Reason {
	ends := c.Endpoint()
	if !c.Tunnel {
		if !sameHost(f.Src, ends.Local.Addr()) || !sameHost(f.Dst, ends.Remote.Addr()) {
			return OutStateModeErrors
		}
	}
	if c.Protocol == sad.ProtocolAH {
		if r := placeAH(ends); r != Passed {
			return r
		}
	}
	if c.State(now) == sad.StateDead {
		return OutStateExpired
	}
	return Passed
}

// ExplainIn is what would become of a genuine packet that came by the SA with
// the SPI, f as it stands in the packet: f.Dst is Local.
func (p *Path) ExplainIn(now time.Time, f *wire.Flow, spi uint32) Explanation {
	x := Explanation{Reason: Passed, Policy: p.cfg.Policies.LookupIn(f)}
	in := p.cfg.SAs.Inbound(spi)
	switch {
	case in == nil && p.cfg.SAs.Larval(spi):
		x.Reason = InStateInvalid
		return x
	case in == nil:
		x.Reason = InNoStates
		return x
	}
	x.SA = in.Child()
	switch pol := x.Policy; {
	case x.SA.State(now) == sad.StateDead:
		x.Reason = InStateExpired
	case f.Opaque && x.SA.Tunnel && p.cfg.waitsIn(in, f):
		x.Waits = true
	case !in.Covers(f):
		x.Reason = InTemplateMismatches
	case pol == nil:
		x.Reason = InNoPolicies
	case pol.Action == spd.Discard:
		x.Reason = InPolicyBlocked
	case pol.Action == spd.None:
		x.Reason = InTemplateMismatches
	case pol.Dead:
		x.Reason = InPolicyErrors
	}
	return x
}
