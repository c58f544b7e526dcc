package datapath

import (
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// ICMP errors about protected packets (RFC 4301 §6.2). A router behind a gateway may
// answer what came out of an SA, and its address need not be one that a policy names.
// In clear the error would show what it quotes: it goes by the SA that the answer to
// the quoted packet would take, and comes in by it though the selectors do not hold
// its source.
//
//	out   no policy protects the error itself, and one protects the answer to what it
//	      quotes: then by the SA of that; no SA is made for it
//	in    the SA's selectors do not hold the error, and hold the answer to what it
//	      quotes, which the error's receiver must have sent
//
// Peers that hold errors to the selectors alone drop them, as the Linux kernel does.

// related finds the policy that decides about the ICMP error pkt because of what it
// quotes; nil: none does. w.quoted is the flow to find its SA with.
func (w *outWorker) related(pkt []byte, info wire.Info) *spd.Policy {
	f, ok := wire.QuotedFlow(pkt, info)
	if !ok {
		return nil
	}
	w.quoted = f.Answering()
	pol := w.cache.Lookup(w.path.cfg.Policies, &w.quoted)
	if pol == nil || pol.Action == spd.None {
		return nil
	}
	return pol
}

// relatedTo finds the SA for the ICMP error of flow f, of which related has said that
// pol decides.
func (w *outWorker) relatedTo(pol *spd.Policy, k *entry, f *wire.Flow, pkt []byte) (*sad.Outbound, Reason) {
	if pol.Action == spd.Discard {
		return nil, OutPolicyBlocked
	}
	out, several := w.path.cfg.outbound(w.line, pol, k, &w.quoted)
	switch {
	case several:
		return nil, OutFlowErrors
	case out == nil && pol.Level == spd.Use:
		return nil, w.clear(pkt)
	case out == nil && pol.Dead:
		return nil, OutPolicyDead
	case out == nil:
		return nil, OutNoStates // and none is made for it
	case !out.Child().Tunnel && (f.Src != w.quoted.Src || f.Dst != w.quoted.Dst):
		return nil, OutPolicyErrors // transport mode has no place for another's address
	}
	w.count.add(txRelated, 1)
	return out, Passed
}

// related decides about a packet of flow w.flow whose SA does not cover it: whether it
// is an ICMP error about a packet that was sent by that SA. What the peer may say here
// is bounded: only to who sent the quoted packet, and not in the name of an address on
// our side or of one that another policy is for.
func (w *inWorker) related(in *sad.Inbound, pkt []byte, info wire.Info) Reason {
	f := w.flow
	if !f.Error() {
		return InTemplateMismatches
	}
	q, ok := wire.QuotedFlow(pkt, info)
	if !ok {
		return InTemplateMismatches
	}
	q = q.Answering()
	switch {
	case f.Dst != q.Dst || !in.Covers(&q), !in.Child().Tunnel && f.Src != q.Src, !f.Src.IsGlobalUnicast():
		return InTemplateMismatches
	}
	lookUp := func(f *wire.Flow) *spd.Policy { return w.path.cfg.Policies.LookupIn(f) }
	if pol := lookUp(f); pol != nil && pol.Action != spd.None && pol.Ref != in.Child().Policy {
		if pol.Action == spd.Discard {
			return InPolicyBlocked
		}
		return InTemplateMismatches
	}
	ours := q
	ours.Dst = f.Src
	if pol := lookUp(&ours); pol != nil && pol.Action == spd.Encrypt && f.Src != q.Src {
		return InTemplateMismatches
	}
	switch pol := lookUp(&q); {
	case pol == nil:
		return InNoPolicies
	case pol.Action == spd.Discard:
		return InPolicyBlocked
	case pol.Action == spd.None:
		return InTemplateMismatches
	case pol.Dead:
		return InPolicyErrors
	}
	w.count.add(rxRelated, 1)
	return Passed
}
