package datapath

import (
	"encoding/binary"
	"net/netip"
	"time"

	"culvert/ah"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
)

// What becomes of a packet that is too long for the path of its SA, once sealed
// (RFC 4301 §8):
//
//	IPv4 without DF, tunnel    in fragments, each sealed, where the SA's selectors hold fragments: where they name ports they do not
//	what has its own header    in transport mode IPv4's DF and IPv6 count as they stand there, whatever df says
//	df = "clear"               sealed; the outer packet is cut
//	IPv6 up to 1280 bytes      sealed; the outer packet is cut: every link of IPv6 takes so much
//	IPv4 with DF, IPv6         dropped, and the sender is told what fits: out-too-big
//	IPv4 without DF, else      sealed; the outer packet is cut
//
// The system cuts outer packets where it writes their header; those whose header
// is written here are cut here.
//
// What fits is the MTU of the path less what this SA adds, to the byte: the
// longest packet whose padding, headers and ICVs still fit.

// DF says what outer headers have as their "don't fragment" bit, where they are
// not the packet's own. An IPv6 packet counts as one with DF; an outer IPv6
// packet that has it is one that its sender must not cut.
type DF uint8

const (
	CopyDF  DF = iota // that of the inner packet
	SetDF             // always but where an outer packet has to be cut
	ClearDF           // never
)

// capacity is the longest packet with front bytes of path headers that an SA carries
// in an outer packet of mtu bytes; over: see plain.
func capacity(out, over *sad.Outbound, form form, front, mtu int) int {
	ends := out.Child().Endpoint()
	t, remote := out.Transform(), ends.Remote.Addr()
	if over != nil {
		mtu -= ahLen(over, remote)
	}
	switch form {
	case formUDP:
		return front + t.MaxPayload(mtu-wire.AppendedIPLen(remote)-wire.UDPHeaderLen)
	case formTransport:
		return front + t.MaxPayload(mtu-front)
	case formAH:
		return mtu - ahLen(out, remote)
	case formTunnelAH:
		return mtu - wire.AppendedIPLen(remote) - ahLen(out, remote)
	}
	if ends.UDP {
		mtu -= wire.UDPHeaderLen
	}
	return t.MaxPayload(mtu - wire.AppendedIPLen(remote))
}

func ahLen(out *sad.Outbound, remote netip.Addr) int {
	t, ok := out.Transform().(*ah.Transform)
	switch {
	case !ok:
		return out.Transform().Overhead(0)
	case remote.Is4():
		return t.Len(4)
	}
	return t.Len(6)
}

// fitted is the longest packet, in bytes, of the last form that was measured.
type fitted struct {
	known bool
	form  form
	front int
	room  int
	sure  int // that surely fits through the path
}

// fit decides about the size of p, which has its place in w.egress.
func (w *outWorker) fit(p *plain, info wire.Info, now int64) Reason {
	y, last := &w.egress, &w.egress.fitted
	if !last.known || last.form != p.form || last.front != p.front {
		*last = fitted{true, p.form, p.front, capacity(y.out, y.over, p.form, p.front, y.mtu),
			capacity(y.out, y.over, p.form, p.front, min(y.mtu, sad.SurePMTU))}
	}
	if w.path.cfg.ClampMSS && clampMSS(p.buf[p.off:], info, min(last.room, int(w.path.device.Load()))) {
		w.count.add(txClamped, 1)
	}
	if w.frags.limit != 0 {
		info.DontFragment = false // it came in pieces, and goes in pieces
	}
	switch w.path.cfg.DF {
	case CopyDF:
		p.whole = info.DontFragment
	case SetDF:
		p.whole = true
	}
	if y.untried && p.n > last.sure && (p.whole || !y.ends.Remote.Addr().Is4() || info.DontFragment && p.form.ownHeader()) {
		y.untried = false
		if mtu, ok := y.child.ToMeasure(now); ok {
			w.path.cfg.Notify.Unmeasured(y.child.ID, mtu)
		}
	}
	if p.n <= last.room {
		return Passed
	}
	return w.tooLong(p, info, now)
}

// ownHeader: there is no other header than the packet's own.
func (f form) ownHeader() bool { return f == formTransport || f == formAH }

// tooLong decides about a packet that does not fit.
func (w *outWorker) tooLong(p *plain, info wire.Info, now int64) Reason {
	room := w.egress.fitted.room
	switch {
	case !info.DontFragment && p.out.Child().Tunnel && w.separable(p.out):
		return w.split(p, info, room, now)
	case info.DontFragment && (w.path.cfg.DF != ClearDF || p.form.ownHeader()) &&
		(info.Version == 4 || p.n > sad.MinPMTU6):
		w.answer(p, info, room, now)
		return OutTooBig
	}
	p.whole = false
	p.cut = w.egress.mtu
	return Passed
}

// separable reports whether the SA may carry the flow's fragments that have no
// ports (RFC 4301 §7).
func (w *outWorker) separable(out *sad.Outbound) bool {
	f := w.flows[w.found]
	f.Opaque, f.SrcPort, f.DstPort = true, 0, 0
	return out.Covers(&f)
}

// split puts in place of p, the last of w.plain, fragments of at most room bytes
// (RFC 791 §3.2).
func (w *outWorker) split(p *plain, info wire.Info, room int, now int64) Reason {
	pkt := p.buf[p.off:][:p.n]
	front := info.Payload
	step := (room - front) &^ 7
	if step < 8 {
		return OutTooBig
	}
	q := *p
	q.whole = w.path.cfg.DF == SetDF
	w.plain = w.plain[:len(w.plain)-1]
	for at := 0; at < len(pkt)-info.Payload; at += step {
		data := pkt[info.Payload+at:]
		more := len(data) > step
		if more {
			data = data[:step]
		}
		q.buf, q.off = w.spare.take(underlay.Headroom+room+tailroom), underlay.Headroom
		if q.buf == nil {
			return OutErrors
		}
		to := q.buf[q.off:]
		head := copy(to, pkt[:front])
		if at+info.FragOffset > 0 {
			head = laterHeader(to, front)
		}
		q.n = head + copy(to[head:], data)
		putFragment(to, info.FragOffset+at, more || info.More)
		wire.SetTotal(to, q.n)
		q.pad = padding(q.out, q.form, q.n, now)
		w.plain = append(w.plain, q)
	}
	w.count.add(txSplit, 1)
	return Passed
}

// putFragment writes an IPv4 fragment's place and clears DF.
func putFragment(h []byte, offset int, more bool) {
	v := uint16(h[6])&0x80<<8 | uint16(offset/8)
	if more {
		v |= 0x2000
	}
	binary.BigEndian.PutUint16(h[6:], v)
}

// laterHeader leaves in the IPv4 header h of front bytes those options that every
// fragment has, and returns its length.
func laterHeader(h []byte, front int) int {
	to := wire.IPv4HeaderLen
	for at := wire.IPv4HeaderLen; at < front && h[at] != 0; {
		size := 1
		if h[at] != 1 { // all but NOP have a length
			if at+1 >= front || h[at+1] < 2 || at+int(h[at+1]) > front {
				break
			}
			size = int(h[at+1])
		}
		if h[at]&0x80 != 0 {
			copy(h[to:], h[at:at+size])
			to += size
		}
		at += size
	}
	for ; to&3 != 0; to++ {
		h[to] = 0
	}
	h[0] = 0x40 | uint8(to/4)
	return to
}

// cut puts in place of the last packet to be sent, which has the header that it goes
// with, fragments of at most mtu bytes.
func (s *sealer) cut(mtu int) Reason {
	pkt := s.sealed[len(s.sealed)-1]
	data := pkt.Data()
	front, at, next, _ := wire.PathHeaders(data) // which were made here
	v6, head, id := data[0]>>4 == 6, front, uint32(0)
	if v6 {
		head += fragmentLen
		id = s.path.fragment.Add(1)
	}
	step := (mtu - head) &^ 7
	if step < 8 {
		return OutBundleErrors
	}
	s.sealed = s.sealed[:len(s.sealed)-1]
	for off := front; off < len(data); off += step {
		part := data[off:min(off+step, len(data))]
		more := off+step < len(data)
		q := pkt
		q.Buf, q.Off, q.Len = s.outside.take(head+len(part)), 0, head+len(part)
		if q.Buf == nil {
			return OutBundleErrors
		}
		copy(q.Buf, data[:front])
		if v6 {
			q.Buf[at] = wire.ProtoFragment
			wire.AppendIPv6Fragment(q.Buf[front:front], next, off-front, more, id)
		} else {
			putFragment(q.Buf, off-front, more)
		}
		copy(q.Buf[head:], part)
		wire.SetTotal(q.Buf, q.Len)
		s.sealed = append(s.sealed, q)
	}
	return Passed
}

// fragmentLen is the length of an IPv6 fragment header.
const fragmentLen = 8

// spare is memory for what one batch cuts. It grows to what batches need, up to a bound.
type spare struct {
	chunks   [][]byte
	used, at int // chunks that are full, and bytes used of the next
}

const (
	spareChunk  = 256 << 10
	spareChunks = 64
)

func (s *spare) reset() { s.used, s.at = 0, 0 }

// take is n bytes, at most spareChunk, until the next reset; nil: there are no more.
func (s *spare) take(n int) []byte {
	if s.at+n > spareChunk {
		s.used, s.at = s.used+1, 0
	}
	if s.used == len(s.chunks) {
		if s.used == spareChunks {
			return nil
		}
		s.chunks = append(s.chunks, make([]byte, spareChunk))
	}
	b := s.chunks[s.used][s.at : s.at+n : s.at+n]
	s.at += n
	return b
}

// answer tells the sender of p that at most room bytes fit (RFC 1191 §4, RFC 4443
// §3.2), through the device. It comes from the packet's destination: from one of
// the host's own addresses the host itself would not take it.
func (w *outWorker) answer(p *plain, info wire.Info, room int, now int64) {
	pkt := p.buf[p.off:][:p.n]
	f := &w.flows[w.found]
	if !answerable(pkt, info, f.Src, f.Dst) || !w.answers.allow(now) {
		return
	}
	w.unbend(pkt, info)
	h, most := wire.ICMP{Type: wire.ICMPUnreachable, Code: 4, Rest: uint32(room)}, 576 // RFC 1812 §4.3.2.3
	if info.Version == 6 {
		h, most = wire.ICMP{Type: wire.ICMPv6TooBig, Rest: uint32(max(room, sad.MinPMTU6))}, sad.MinPMTU6
	}
	most -= bareHeader(info.Version) + wire.ICMPHeaderLen
	b := wire.AppendICMPPacket(w.icmp[:deviceOffset], h, f.Dst, f.Src, pkt[:min(len(pkt), most)])
	w.reply[0] = b
	if n, _ := w.edges.device.Write(w.reply[:], deviceOffset); n == 1 {
		w.count.add(txTooBig, 1)
	} else {
		w.count.drop(InErrors) // the answer, beside the packet that it is about
	}
}

// answerable: who has no address for it, and who was told something itself, is not
// answered, nor is a fragment that is not the first (RFC 1812 §4.3.2.7, RFC 4443 §2.4).
func answerable(pkt []byte, info wire.Info, src, dst netip.Addr) bool {
	if info.FragOffset != 0 || dst.IsMulticast() || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		src.IsUnspecified() || src.IsMulticast() || src.IsLoopback() || src.Is4() && src.As4()[0] >= 240 {
		return false
	}
	if info.Proto != wire.ProtoICMP && info.Proto != wire.ProtoICMPv6 {
		return true
	}
	if info.PayloadLen() < 1 {
		return false
	}
	kind := pkt[info.Payload]
	if info.Proto == wire.ProtoICMPv6 {
		return kind >= 128
	}
	switch kind {
	case 3, 4, 5, 11, 12: // unreachable, quench, redirect, time exceeded, parameter
		return false
	}
	return true
}

// limiter lets answersPerSecond through, and answersBurst at once.
type limiter struct {
	next int64 // Unix ns: when all that went through is paid off
}

const (
	answersPerSecond = 1000
	answersBurst     = 50
)

func (l *limiter) allow(now int64) bool {
	const price = int64(time.Second) / answersPerSecond
	next := max(l.next, now)
	if next-now > (answersBurst-1)*price {
		return false
	}
	l.next = next + price
	return true
}
