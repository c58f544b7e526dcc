package sad

import (
	"fmt"

	"culvert/ah"
	"culvert/esp"
)

// Transform seals and opens the packets of one direction of an SA, in place:
// an *esp.Transform or an *ah.Transform, which say what each call is given.
type Transform interface {
	Seal(buf []byte, off, n int, seq uint64, next uint8) (start, end int)
	Open(pkt []byte, seq uint64) (off, n int, next uint8, err error)
	Front() int
	Back() int
	Overhead(n int) int
	MaxPayload(size int) int
	Slow() bool // whether packets of other SAs should not wait for one of this
	Near() int  // reads what it needs for a packet, see Inbound.Near
	Wipe()
}

// newTransform makes the transform of one half; opener is the other half's, once
// there is one. AH has no encryption.
func newTransform(protocol uint8, p esp.Params, opener Transform) (Transform, error) {
	switch protocol {
	case ProtocolESP:
		return esp.New(p)
	case ProtocolAH:
		if p.Encr != nil {
			return nil, fmt.Errorf("AH does not encrypt: leave out %s", p.Encr.Name)
		}
		like, _ := opener.(*ah.Transform)
		return ah.New(ah.Params{SPI: p.SPI, Integ: p.Integ, IntegKey: p.IntegKey, ESN: p.ESN, Like: like})
	}
	return nil, ErrProtocol
}
