package ike

import (
	"encoding/binary"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
)

// graves are the IKE SAs that ended a moment ago with a request of the peer: it
// deleted them, or we refused its proof. If our answer was lost, the peer repeats
// the request, and would take us for dead without an answer. It gets the same
// bytes as the first time, as often as it may repeat.
type graves map[uint64]*grave

type grave struct {
	v2.Epitaph
	left int
}

const (
	graveLife = 80 * time.Second // as long as a peer like us repeats a request
	maxGraves = 4096
)

// Bury keeps the last response of an SA that ended with a request of the peer.
func (e *Endpoint) Bury(spi uint64, ep v2.Epitaph) {
	if n := len(e.graves); n >= maxGraves || ep.Stranger && n >= maxGraves/2 {
		return
	}
	size := 0
	if ep.Stranger {
		if size = graveWeight(ep); e.strangers.bytes+size > strangerBytesOf(e.cfg)/2 {
			return
		}
		e.strangers.bytes += size
	}
	e.graves[spi] = &grave{ep, core.Tries}
	e.env.After(graveLife, func() {
		delete(e.graves, spi)
		e.strangers.bytes -= size
	})
}

// graveWeight is how many bytes one takes, with its timer and its place in the table.
func graveWeight(ep v2.Epitaph) int {
	n := 512
	for _, raw := range ep.Response {
		n += cap(raw)
	}
	return n
}

func (g graves) answer(env *core.Env, spi uint64, h message.Header, raw []byte) bool {
	gr := g[spi]
	if gr == nil || h.Response() || h.ID != gr.ID || h.Exchange != gr.Exchange || gr.left == 0 {
		return false
	}
	if h.Next == message.TypeSKF && !firstFragment(raw) {
		return true // the first one brings the whole answer (RFC 7383 §2.6.1)
	}
	gr.left--
	for _, raw := range gr.Response {
		env.Emit(core.Send{Local: gr.Local, Remote: gr.Remote, NATT: gr.NATT, Data: append([]byte(nil), raw...)})
	}
	return true
}

// firstFragment looks at the fragment number of a message whose first payload is
// SKF (RFC 7383 §2.5).
func firstFragment(raw []byte) bool {
	const at = message.HeaderLen + 4
	return len(raw) >= at+2 && binary.BigEndian.Uint16(raw[at:]) == 1
}
