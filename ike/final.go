package ike

import (
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// finals are the last responses of the IKE SAs that ended a moment ago with a request of the peer: it
// deleted them, or we refused its proof. If our answer was lost, the peer repeats
// the request, and would take us for dead without an answer. It gets the same
// bytes as the first time, as often as it may repeat.
type finals map[uint64]*final

type final struct {
	ikesa.Final
	left int
}

const (
	finalLife = 80 * time.Second // as long as a peer like us repeats a request
	maxFinal  = 4096
)

// KeepFinal keeps the last response of an SA that ended with a request of the peer.
func (e *Endpoint) KeepFinal(spi uint64, ep ikesa.Final) {
	if n := len(e.finals); n >= maxFinal || ep.Stranger && n >= maxFinal/2 {
		return
	}
	size := 0
	if ep.Stranger {
		if size = finalWeight(ep); e.strangers.bytes+size > strangerBytesOf(e.cfg)/2 {
			return
		}
		e.strangers.bytes += size
	}
	e.finals[spi] = &final{ep, core.Tries}
	e.env.After(finalLife, func() {
		delete(e.finals, spi)
		e.strangers.bytes -= size
	})
}

// finalWeight is how many bytes one takes, with its timer and its place in the table.
func finalWeight(ep ikesa.Final) int {
	n := 512
	for _, raw := range ep.Response {
		n += cap(raw)
	}
	return n
}

// answer reports whether a message is one that an IKE SA that is gone ended with.
func (g finals) answer(env *core.Env, v *version, spi uint64, h message.Header, raw []byte) bool {
	f := g[spi]
	if f == nil || h.ID != f.ID || uint8(h.Exchange) != f.Exchange || f.left == 0 {
		return false
	}
	if same, answered := v.repeats(h, raw); !same || !answered {
		return same
	}
	f.left--
	for _, raw := range f.Response {
		env.Emit(core.Send{Local: f.Local, Remote: f.Remote, NATT: f.NATT, Data: append([]byte(nil), raw...)})
	}
	return true
}
