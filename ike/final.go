package ike

import (
	"encoding/binary"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
)

// finals are the last responses of the IKE SAs that ended a moment ago with a request of the peer: it
// deleted them, or we refused its proof. If our answer was lost, the peer repeats
// the request, and would take us for dead without an answer. It gets the same
// bytes as the first time, as often as it may repeat.
type finals map[uint64]*final

type final struct {
	v2.FinalResponse
	left int
}

const (
	finalLife = 80 * time.Second // as long as a peer like us repeats a request
	maxFinal  = 4096
)

// KeepFinal keeps the last response of an SA that ended with a request of the peer.
func (e *Endpoint) KeepFinal(spi uint64, ep v2.FinalResponse) {
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
func finalWeight(ep v2.FinalResponse) int {
	n := 512
	for _, raw := range ep.Response {
		n += cap(raw)
	}
	return n
}

func (g finals) answer(env *core.Env, spi uint64, h message.Header, raw []byte) bool {
	f := g[spi]
	if f == nil || h.Response() || h.ID != f.ID || h.Exchange != f.Exchange || f.left == 0 {
		return false
	}
	if h.Next == message.TypeSKF && !firstFragment(raw) {
		return true // the first one brings the whole answer (RFC 7383 §2.6.1)
	}
	f.left--
	for _, raw := range f.Response {
		env.Emit(core.Send{Local: f.Local, Remote: f.Remote, NATT: f.NATT, Data: append([]byte(nil), raw...)})
	}
	return true
}

// firstFragment looks at the fragment number of a message whose first payload is
// SKF (RFC 7383 §2.5).
func firstFragment(raw []byte) bool {
	const at = message.HeaderLen + 4
	return len(raw) >= at+2 && binary.BigEndian.Uint16(raw[at:]) == 1
}
