package plane

import (
	"time"

	"culvert/ike/core"
	"culvert/sad"
)

// Where IKEv1 negotiated AH with ESP, the endpoint has one CHILD SA and the database has two: ESP under the ID of the CHILD SA, and
// AH around it under an ID made from that. Limits, dummies and the watch are those of ESP.

// aroundBit makes the ID of the AH SA. The endpoint counts IDs up from 1, and those of SAs added by hand begin above.
const aroundBit = 1 << 62

func aroundID(c core.ChildID) uint64 { return uint64(c) | aroundBit }

// childOf is the CHILD SA that an ID of the database belongs to.
func childOf(id uint64) core.ChildID { return core.ChildID(id &^ aroundBit) }

// installBoth installs an SA, and around it the AH SA of in, if there is one: both or none.
func (p *Plane) installBoth(now time.Time, params sad.Params, in core.Install) error {
	if in.AH.Integ == nil {
		_, err := p.SAs.Install(params)
		return err
	}
	over := params
	over.ID, over.Protocol, over.Under = aroundID(in.Child), sad.ProtocolAH, params.ID
	ah := core.Install{Integ: in.AH.Integ}
	over.In, over.Out = p.half(ah, in.AH.In), p.half(ah, in.AH.Out)
	over.SoftBytes, over.HardBytes, over.TFC, over.Dummies, over.Watched, over.Standby = 0, 0, 0, 0, false, false
	params.Bundled, params.Standby = true, true
	_, err := p.SAs.Install(params)
	if err != nil {
		over.In.IntegKey.Wipe()
		over.Out.IntegKey.Wipe()
		return err
	}
	if _, err = p.SAs.Install(over); err != nil {
		p.SAs.Remove(params.ID)
		return err
	}
	if !in.Standby {
		p.Path.Activate(now, params.ID)
	}
	return nil
}
