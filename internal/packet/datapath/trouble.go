package datapath

import (
	"encoding/binary"

	"culvert/internal/packet/underlay"
	"culvert/sad"
)

// Anybody can forge what the path says of packets that we have sent. Only a message
// that names an SPI of ours is believed, since nobody off the path knows one. It
// lowers the MTU of the path that it names, within the bounds of sad.Path and until
// it is too old, and is counted; no SA ends by it (RFC 4301 §8.2, RFC 7296 §2.4:
// dead peer detection asks the peer itself).
//
// Routers may quote no more than the IP header and eight bytes (RFC 792). Of ESP and
// AH these have the SPI; of ESP in UDP they are the UDP header alone, which anybody
// can guess. Such a message is a claim: the daemon asks the peer whether a packet
// that is longer than the claim allows arrives (RFC 8899 §4.6.2), and only if it does
// not, the MTU is learned.

// trouble takes in what became of a packet that was sent.
func (w *inWorker) trouble(p *underlay.Packet, now int64) {
	path, proven := w.pathOf(p)
	if path == nil {
		switch {
		case p.Fault.Local:
		case !proven:
			w.claim(p, now)
		default:
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

// claim counts a message that names no SPI, and has the daemon check what it says of
// the path's MTU.
func (w *inWorker) claim(p *underlay.Packet, now int64) {
	w.count.add(rxUnproven, 1)
	if p.Fault.Cause != underlay.TooBig {
		return
	}
	if child, mtu, ok := w.path.cfg.SAs.Claim(p.Local.Addr(), p.Remote, p.Fault.MTU, now); ok {
		w.path.cfg.Notify.Claim(child, mtu)
	}
}

// pathOf finds the path of a packet of one of our SAs, which the SPI names. Only the
// system's own refusal needs none. Not proven: of ESP in UDP, and the SPI is not there.
func (w *inWorker) pathOf(p *underlay.Packet) (path *sad.Path, proven bool) {
	data, protocol, at := p.Data(), uint8(sad.ProtocolESP), 0
	switch {
	case p.Fault.Kind == underlay.IKE:
		return nil, true
	case p.Fault.Kind == underlay.AH:
		protocol, at = sad.ProtocolAH, 4
	}
	if len(data) < at+4 {
		if p.Fault.Local {
			return w.path.cfg.SAs.Path(p.Local.Addr(), p.Remote.Addr()), true
		}
		return nil, !p.NATT
	}
	c := w.path.cfg.SAs.Sent(protocol, p.Remote.Addr(), binary.BigEndian.Uint32(data[at:]))
	if c == nil {
		return nil, true
	}
	return c.Path(), true
}
