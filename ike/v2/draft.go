package v2

import (
	"culvert/ike/core"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// draft is what the tasks of one exchange share while they negotiate an SA.
type draft struct {
	still func() bool // asked before the exchange begins: is it still wanted?

	ni, nr []byte // nonces of the exchange

	policy *core.Policy   // of the CHILD SA being made
	flow   *selector.Pair // the packet that asked for it, if one did
	spi    uint32         // our inbound SPI for it; drop gives it back
	agreed ikesa.Agreement
	refuse error    // IKE_AUTH: why there is no CHILD SA
	note   string   // for people: what of its selectors the peer does not get
	old    *Child   // the CHILD SA being replaced
	made   *Child   // the CHILD SA that came of it
	early  []uint32 // SPIs that the peer deleted while its answer was on its way

}

// drop releases what an abandoned draft holds.
func (d *draft) drop(env *core.Env) {
	if d.spi != 0 {
		env.GiveSPI(d.spi)
		d.spi = 0
	}
}
