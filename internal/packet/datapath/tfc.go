package datapath

import (
	"time"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
)

// Traffic flow confidentiality (RFC 4303 §2.7): behind a tunnel's packet come
// zeros, so that it looks as long as others. Its own header says where it ends. With
// AH everybody can read that, and in transport mode nobody could be sure.

// padding is how many bytes a packet of n bytes gets: as many as the SA wants, but
// none that would not fit through the path.
func padding(out *sad.Outbound, form form, n int, now int64) int {
	c := out.Child()
	if form != formTunnel || c.TFC <= n {
		return 0
	}
	return max(min(c.TFC, room(out, now))-n, 0)
}

// pad gives p so many bytes. A path may take longer packets than the device has, and the buffers are made for the device.
func (w *outWorker) pad(p *plain, n int) {
	if need := underlay.Headroom + p.n + n + tailroom; n > 0 && p.off+p.n+n+tailroom > len(p.buf) {
		buf := w.spare.take(need)
		if buf == nil {
			n = 0 // as long as it is, rather than lost
		} else {
			copy(buf[underlay.Headroom:], p.buf[p.off:][:p.n])
			p.buf, p.off = buf, underlay.Headroom
		}
	}
	p.pad = n
}

// room is the longest inner packet of a tunnel whose ESP packet fits through the path.
func room(out *sad.Outbound, now int64) int {
	c := out.Child()
	ends := c.Endpoint()
	size := c.Path().MTU(now) - wire.AppendedIPLen(ends.Remote.Addr())
	if ends.UDP {
		size -= wire.UDPHeaderLen
	}
	if over := c.Over(); over != nil {
		size -= over.Outbound().Transform().Front()
	}
	return out.Transform().MaxPayload(size)
}

// SendDummies sends the dummy packets that are due (RFC 4303 §2.6), in the
// caller's goroutine, and says when to call again; the zero time: not before an SA
// with dummies was installed. A dummy is as long as the SA's other packets are made.
// random is below its argument, and above or at 0.
func (p *Path) SendDummies(now time.Time, random func(n int64) int64) (next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.outward()
	w.sads.Enter()
	defer w.sads.Leave()
	due, at := p.cfg.SAs.Due(now.UnixNano(), random)
	for _, out := range due {
		w.dummy(out, now.UnixNano())
	}
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}

// dummy sends one. An SA that may not be used any more has none.
func (w *outWorker) dummy(out *sad.Outbound, now int64) {
	n := min(out.Child().TFC, room(out, now))
	if n <= 0 || out.Expired(now) {
		return
	}
	seq, ok := out.Reserve(1)
	ok = ok && out.SpendDummy(n)
	w.path.report(out.Child(), now)
	if !ok {
		return
	}
	d := plain{out: out, buf: w.bufs[0], off: underlay.Headroom, pad: n, next: wire.ProtoNoNext}
	if dscp := w.path.cfg.DSCP; dscp != nil {
		d.tos = *dscp << 2
	}
	w.sealed = w.sealed[:0]
	if encapsulate(next(&w.sealed), &d, out.Child().Endpoint(), seq, 0) != Passed {
		return
	}
	if sent, _ := w.edges.conn.Send(w.sealed); sent == 0 {
		w.count.drop(OutErrors)
		return
	}
	w.count.add(txDummies, 1)
}
