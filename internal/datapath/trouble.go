package datapath

import (
	"encoding/binary"

	"culvert/internal/underlay"
	"culvert/sad"
)

// What the path says of packets that we have sent is nobody's whom we know: it
// may be forged. It lowers the MTU of the path that it names, within the bounds
// of sad.Path and until it is too old, and is counted; no SA ends by it (RFC 4301
// §8.2, RFC 7296 §2.4: dead peer detection asks the peer itself).

// trouble takes in what became of a packet that was sent.
func (w *inWorker) trouble(p *underlay.Packet, now int64) {
	path := w.pathOf(p)
	if path == nil {
		if !p.Fault.Local {
			w.count.add(rxUnrelated, 1)
		}
		return
	}
	if p.Fault.Cause == underlay.TooBig {
		path.Learn(p.Fault.MTU, now)
	}
	if p.Fault.Local {
		return // who was refused is counted where it was sent
	}
	switch p.Fault.Cause {
	case underlay.TooBig:
		w.count.add(rxTooBig, 1)
	case underlay.Unreachable:
		w.count.add(rxUnreachable, 1)
	case underlay.Prohibited:
		w.count.add(rxProhibited, 1)
	default:
		w.count.add(rxUndelivered, 1)
	}
}

// pathOf finds the path of a packet of one of our SAs. Some routers send back no
// more than the IP header and eight bytes, which with UDP is no SPI: then the two
// addresses, and the ports that the system has compared, have to do.
func (w *inWorker) pathOf(p *underlay.Packet) *sad.Path {
	data, protocol, at := p.Data(), uint8(sad.ProtocolESP), 0
	switch {
	case p.Fault.Kind == underlay.IKE:
		return nil
	case p.Fault.Kind == underlay.AH:
		protocol, at = sad.ProtocolAH, 4
	}
	if len(data) < at+4 {
		if !p.Fault.Local && !p.NATT {
			return nil
		}
		return w.path.cfg.SAs.Path(p.Local.Addr(), p.Remote.Addr())
	}
	c := w.path.cfg.SAs.Sent(protocol, p.Remote.Addr(), binary.BigEndian.Uint32(data[at:]))
	if c == nil {
		return nil
	}
	return c.Path()
}
