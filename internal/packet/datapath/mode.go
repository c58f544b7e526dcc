package datapath

import (
	"encoding/binary"
	"net/netip"

	"culvert/ah"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
)

// What the two modes and the two protocols do with the IP header:
//
//	             tunnel                              transport
//	ESP in UDP   the system writes the outer header  the system writes it: the packet's own must be a bare one
//	ESP          the system writes the outer header  the packet's own stays, ESP goes behind the headers of the path
//	AH           written here, AH behind it          the packet's own stays, AH goes behind the headers of the path
//	AH and ESP   written here, AH and ESP behind it  ESP as without UDP, then AH between the headers of the path and ESP
//
// On its way in a packet of a transport mode SA gets its header back: AH's was
// there all the time, ESP's is made of the SA's addresses (RFC 4301 §5.2).

// form is how a packet of one SA goes out.
type form uint8

const (
	formTunnel    form = iota // ESP over the whole packet
	formUDP                   // ESP over what stands behind a bare header
	formTransport             // ESP behind the packet's own headers
	formAH                    // AH behind the packet's own headers
	formTunnelAH              // AH behind a header that is written here
)

// egress is what all packets that one SA takes out in one batch have in common.
type egress struct {
	out     *sad.Outbound // nil: of none
	over    *sad.Outbound // AH around ESP; nil: none
	child   *sad.Child    // of out
	ends    *sad.Endpoint
	verdict Reason // on all of them, before anything else is known
	form    form   // tunnel mode: of all of them
	labels  bool   // the outer header has a flow label that is written here
	mtu     int    // of the path, in bytes of outer packets
	untried bool   // nobody knows whether the path takes as much
	quiet   bool   // nothing has come by the SA for a while
	fitted  fitted
}

func (y *egress) set(out *sad.Outbound, now int64) {
	c := out.Child()
	*y = egress{out: out, child: c, ends: c.Endpoint(), mtu: c.Path().MTU(now), untried: c.Unmeasured(now), quiet: c.Quiet(now), verdict: Passed}
	if c.Tunnel && c.Protocol == sad.ProtocolAH {
		y.form, y.verdict = formTunnelAH, placeAH(y.ends)
	}
	if c.Bundled {
		over := c.Over()
		if over == nil {
			y.verdict = OutBundleCheckErrors
			return
		}
		y.over, y.verdict = over.Outbound(), placeAH(y.ends)
	}
	y.labels = c.Tunnel && (y.form == formTunnelAH || y.over != nil) && !y.ends.Local.Addr().Is4()
}

// place decides how p, a packet that was parsed as info, goes out in transport
// mode, and where in it the transform begins. This mode is for the traffic of the
// two ends themselves, in whole packets (RFC 4301 §4.1).
func (y *egress) place(p *plain, info wire.Info, f *wire.Flow) Reason {
	c, ends := y.child, y.ends
	if !sameHost(f.Src, ends.Local.Addr()) || !sameHost(f.Dst, ends.Remote.Addr()) {
		return OutStateModeErrors
	}
	front, at, next, ok := wire.PathHeaders(p.buf[p.off : p.off+p.n])
	if !ok || info.Fragment() || next == wire.ProtoFragment {
		return OutBundleErrors
	}
	p.next, p.front, p.at = next, front, at
	switch {
	case c.Protocol == sad.ProtocolAH:
		p.form = formAH
		return placeAH(ends)
	case ends.UDP:
		p.form = formUDP
		if front != bareHeader(info.Version) {
			return OutBundleErrors // the headers have no place in front of UDP
		}
	default:
		p.form = formTransport
	}
	return Passed
}

// placeAH: nothing can be protected by AH through a NAT.
func placeAH(ends *sad.Endpoint) Reason {
	if ends.UDP {
		return OutStateModeErrors
	}
	if l, r := ends.Local.Addr(), ends.Remote.Addr(); !l.IsValid() || l.IsUnspecified() || l.Is4() != r.Is4() {
		return OutBundleErrors
	}
	return Passed
}

func bareHeader(version uint8) int {
	if version == 4 {
		return wire.IPv4HeaderLen
	}
	return wire.IPv6HeaderLen
}

// encapsulate makes pkt of p, sealed and with its headers in front; overSeq is for AH around ESP.
func encapsulate(pkt *underlay.Packet, p *plain, ends *sad.Endpoint, seq, overSeq uint64) Reason {
	t, off, n := p.out.Transform(), p.off, p.n
	pkt.Buf, pkt.Local, pkt.Remote = p.buf, ends.Local, ends.Remote
	pkt.Kind, pkt.NATT, pkt.Header = underlay.ESP, ends.UDP, false
	pkt.TOS, pkt.Whole, pkt.Fault = p.tos, p.whole, underlay.Fault{}
	var start, end int
	switch p.form {
	case formTunnel:
		clear(p.buf[off+n : off+n+p.pad]) // other packets' bytes may be there
		start, end = t.Seal(p.buf, off, n+p.pad, seq, p.next)
	case formUDP:
		start, end = t.Seal(p.buf, off+p.front, n-p.front, seq, p.next)
	case formTransport:
		// The headers first, for ESP comes where they end.
		copy(p.buf[off-t.Front():], p.buf[off:off+p.front])
		start, end = t.Seal(p.buf, off+p.front, n-p.front, seq, p.next)
		start -= p.front
		p.buf[start+p.at] = wire.ProtoESP
		wire.SetTotal(p.buf[start:end], end-start) // where it does not fit, it is seen below
		pkt.Header = true
	case formAH:
		ownID(p.buf[off:], seq)
		start, end = t.Seal(p.buf, off, n, seq, p.next)
		pkt.Kind, pkt.Header = underlay.AH, true
	case formTunnelAH:
		off = outerHeader(p, off, n, ends, p.next, seq)
		start, end = t.Seal(p.buf, off, p.off+n-off, seq, p.next)
		pkt.Kind, pkt.Header = underlay.AH, true
	}
	if p.over != nil && start < end {
		if !pkt.Header {
			start = outerHeader(p, start, end-start, ends, wire.ProtoESP, overSeq)
		}
		ownID(p.buf[start:], overSeq)
		start, end = p.over.Transform().Seal(p.buf, start, end-start, overSeq, wire.ProtoESP)
		pkt.Kind, pkt.Header = underlay.AH, true
	}
	pkt.Off, pkt.Len = start, end-start
	switch {
	case start >= end:
		return OutStateProtocolErrors
	case pkt.Header && wire.TotalLen(p.buf[start:end]) != pkt.Len:
		return OutBundleErrors // too long for an IP packet
	}
	return Passed
}

// outerHeader writes a header between the ends in front of p.buf[off:off+n].
func outerHeader(p *plain, off, n int, ends *sad.Endpoint, next uint8, seq uint64) int {
	off -= wire.AppendedIPLen(ends.Local.Addr())
	wire.AppendIP(p.buf[off:off], ends.Local.Addr(), ends.Remote.Addr(), next, n)
	if pkt := p.buf[off:]; pkt[0]>>4 == 6 {
		wire.SetFlowLabel(pkt, p.label)
	} else if !p.whole {
		putFragment(pkt, 0, false)
	}
	wire.SetTOS(p.buf[off:], p.tos)
	ownID(p.buf[off:], seq)
	return off
}

// ownID gives an IPv4 packet without identification one: the system would, and
// AH's ICV covers it.
func ownID(pkt []byte, seq uint64) {
	if pkt[0]>>4 == 4 && pkt[4]|pkt[5] == 0 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(seq%0xffff)+1)
	}
}

// header gives the payload buf[off:off+n] of a transport mode SA's packet its
// IP header and returns where the packet starts and how long it is.
func header(c *sad.Child, p *underlay.Packet, off, n int, next uint8) (start, size int, ok bool) {
	if p.Kind == underlay.AH {
		pkt := p.Data()
		start = ah.Strip(pkt, off-p.Off, next) + p.Off
		return start, off + n - start, true
	}
	ends := c.Endpoint()
	src, dst := ends.Remote.Addr(), ends.Local.Addr()
	if !dst.IsValid() || dst.IsUnspecified() {
		dst = p.Local.Addr()
	}
	if !dst.IsValid() || src.Is4() != dst.Is4() {
		return 0, 0, false
	}
	src, dst = src.WithZone(""), dst.WithZone("")
	start = off - wire.AppendedIPLen(src)
	wire.AppendIP(p.Buf[start:start], src, dst, next, n)
	wire.SetTOS(p.Buf[start:], p.TOS)
	if p.TTL != 0 { // who counts hops (RFC 5082) hears what the path says
		wire.SetHopLimit(p.Buf[start:], p.TTL)
	}
	return start, off + n - start, n+wire.IPv6HeaderLen <= maxPacket
}

// mend makes the checksum of a packet right that came in UDP: TCP, UDP and ICMPv6
// compute it over the addresses that the sender sees, too, which a NAT may have
// changed. The ICV says that nothing else was (RFC 3948 §3.1.2).
func mend(pkt []byte, info wire.Info) {
	switch info.Proto {
	case wire.ProtoTCP, wire.ProtoICMPv6:
	case wire.ProtoUDP:
		if u := pkt[info.Payload:info.Total]; len(u) >= wire.UDPHeaderLen && u[6]|u[7] == 0 && info.Version == 4 {
			return // it has none
		}
	default:
		return
	}
	wire.FillChecksum(pkt, info)
}

// sameHost compares without port, and without the zone of a link-local address.
func sameHost(a, b netip.Addr) bool { return a.WithZone("") == b.WithZone("") }
