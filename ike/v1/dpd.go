package v1

import (
	"encoding/binary"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Dead peer detection (RFC 3706): R-U-THERE with a number, and R-U-THERE-ACK with the same. Package sa says
// when a silent peer is asked.

// dpd are our questions.
type dpd struct {
	sa    *SA
	seq   uint32    // of our last question
	begun bool      // seq was drawn
	asked time.Time // when that was
	open  int       // questions in a row after which nothing was heard
}

// Probe asks the peer whether it is there. One that leaves dpd-maximum-failures questions in a row without
// an answer is dead. A peer that does not know DPD is not asked.
func (sa *SA) Probe(urgent bool) {
	d := &sa.dpd
	if !sa.peer.dpd || sa.base.State != Established {
		return
	}
	if !sa.base.Heard.Before(d.asked) {
		d.open = 0
	}
	if most := sa.base.Peer.Profile.DPDFailures; d.open >= max(most, 1) && !urgent {
		sa.base.Event(core.EvPeerDead, "the peer left %d questions whether it is there without an answer (dpd-interval, dpd-maximum-failures)", d.open)
		sa.base.End(true, "the peer does not answer")
		return
	}
	d.open++
	d.asked = sa.base.Env.Now()
	d.ask()
}

func (d *dpd) ask() {
	if !d.begun { // RFC 3706 §6.2: not to be guessed
		d.begun, d.seq = true, binary.BigEndian.Uint32(d.sa.base.Env.Random(4))>>1
	}
	d.seq++
	d.sa.inform(d.notify(isakmp.NotifyRUThere, d.seq))
}

func (d *dpd) notify(kind isakmp.NotifyType, seq uint32) *isakmp.Notify {
	return &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPI: cookies(d.sa.base.SPIi, d.sa.base.SPIr), Kind: kind,
		Data: binary.BigEndian.AppendUint32(nil, seq)}
}

// answer answers a question of the peer, also one whose number came before: the message is new, and some peers
// do not count (RFC 3706 §5.5 would have us ignore it).
func (d *dpd) answer(n *isakmp.Notify) {
	if len(n.Data) == 4 {
		d.sa.inform(d.notify(isakmp.NotifyRUThereAck, binary.BigEndian.Uint32(n.Data)))
	}
}

// Confirm asks whether the peer has a CHILD SA: message 3 of quick mode says so by itself.
func (sa *SA) Confirm(*ikesa.Question) {}
