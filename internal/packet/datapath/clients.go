package datapath

import (
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// What the two lines do with flows: see flows.go.

// tupleOf is the five-tuple of a whole packet, f being its flow: from its source, or
// of one on its way out, to its destination. Not ok: it has none, or is about another.
func tupleOf(pkt []byte, info wire.Info, f *wire.Flow, out bool) (t fiveTuple, p wire.Ports, ok bool) {
	p = wire.PortsOf(pkt, info)
	src, dst := p.Src, p.Dst
	if p.SrcAt|p.DstAt == 0 {
		switch f.Proto {
		case wire.ProtoICMP, wire.ProtoICMPv6:
			return t, p, false
		case wire.ProtoSCTP, wire.ProtoUDPLite, wire.ProtoDCCP:
			src, dst = f.SrcPort, f.DstPort
		}
	}
	t = fiveTuple{remote: f.Src, local: f.Dst, rport: src, lport: dst, proto: f.Proto}
	if out {
		t = fiveTuple{remote: f.Dst, local: f.Src, rport: dst, lport: src, proto: f.Proto}
	}
	return t, p, true
}

// remember notes whose flow a packet that is let in belongs to, and gives it
// the port that the host knows it by.
func (w *inWorker) remember(in *sad.Inbound, pkt []byte, info wire.Info) Reason {
	client := in.Child().Client
	if client == 0 {
		return Passed
	}
	x := &w.path.flows
	t, p, ok := tupleOf(pkt, info, w.flow, false)
	t.client = client
	if !ok {
		if q, ok := wire.QuoteOf(pkt, info); ok { // a packet of the host, as it came to the client
			t = fiveTuple{client, q.Dst, q.Src, q.Ports.Dst, q.Ports.Src, q.Proto}
			if k := x.of(t); k != nil && k.port != k.rport {
				wire.SetQuoted(pkt, info, q, q.DstAt, k.port)
			}
		}
		return Passed
	}
	k := x.of(t)
	if k == nil {
		if k = x.learn(t, p.SrcAt != 0, w.now); k == nil {
			return InFlowErrors
		}
		if k.port != k.rport {
			w.count.add(rxTranslated, 1)
		}
	}
	k.touch(w.now)
	if policy := in.Child().Policy; k.policy.Load() != policy {
		k.policy.Store(policy)
	}
	if k.port != k.rport {
		wire.SetPort(pkt, info, p.SrcAt, k.port)
	}
	return Passed
}

// recall finds the flow that a packet of the host belongs to, and gives it the
// port that the client knows it by. f follows. Nil: it belongs to none.
func (w *outWorker) recall(f *wire.Flow, pkt []byte, info wire.Info, now int64) *entry {
	w.translated = nil
	x := &w.path.flows
	if !x.any() || info.Fragment() {
		return nil
	}
	t, p, ok := tupleOf(pkt, info, f, true)
	if !ok {
		q, ok := wire.QuoteOf(pkt, info) // a packet of the client, as it came to the host
		if !ok {
			return nil
		}
		k := x.answered(fiveTuple{0, q.Src, q.Dst, q.Ports.Src, q.Ports.Dst, q.Proto}, now)
		if k != nil && k.port != k.rport {
			wire.SetQuoted(pkt, info, q, q.SrcAt, k.rport)
		}
		return k
	}
	k := x.answered(t, now)
	if k == nil {
		return nil
	}
	k.touch(now)
	if k.port != k.rport {
		wire.SetPort(pkt, info, p.DstAt, k.rport)
		w.translated = k
		if f.DstPort == k.port { // of an echo it is none
			f.DstPort = k.rport
		}
	}
	return k
}

// alike reports whether packets of one flow may be of several flows or SAs: a
// flow shows no identifiers of echoes, and not what an error is about.
func (w *outWorker) alike(f *wire.Flow) bool {
	return (f.Proto == wire.ProtoICMP || f.Proto == wire.ProtoICMPv6) && (f.Error() || w.path.flows.any())
}

// unbend gives a packet that goes back to the host the port that the host knows.
func (w *outWorker) unbend(pkt []byte, info wire.Info) {
	if p := wire.PortsOf(pkt, info); w.translated != nil && p.DstAt != 0 {
		wire.SetPort(pkt, info, p.DstAt, w.translated.port)
	}
}

// outbound is the SA for a packet of a line that pol protects, k being its flow. Several:
// nobody knows for whom of several clients it is.
func (c *Config) outbound(line int, pol *spd.Policy, k *entry, f *wire.Flow) (out *sad.Outbound, several bool) {
	switch {
	case pol.Level != spd.Unique:
		return c.SAs.OutboundOn(line, pol.Ref, f), false
	case k != nil:
		// Policies of several clients may overlap, of which pol is the first.
		if out = c.SAs.OutboundOf(line, k.policy.Load(), k.client, f); out == nil {
			out = c.SAs.OutboundOf(line, pol.Ref, k.client, f)
		}
		return out, false
	}
	return c.SAs.OutboundSole(line, pol.Ref, f)
}
