package sa

import (
	"time"

	"culvert/ike/core"
)

// Where a firewall drops ESP and lets IKE pass, an SA looks established and carries nothing. The data
// path says when what it sends is not answered (core.Unanswered). Then the peer is asked by IKE:
//
//	no answer                       the peer is gone: that is the business of dead peer detection
//	an answer, and nothing by ESP   people are told; where the configuration leaves it to us what carries
//	                                ESP and it went without UDP, another IKE SA carries it in UDP. A
//	                                kernel as peer cannot change that of an SA that it has
type blocked struct {
	esp   time.Time // when something last came by ESP
	asked bool      // the question is open
	told  bool      // people were told
	now   bool      // nothing comes
}

// How long after the question the answer is looked for.
const (
	soonAnswered = time.Second
	lateAnswered = 3 * time.Second
)

// HearESP notes that the peer is there, by ESP or AH.
func (sa *SA) HearESP() {
	sa.blocked.esp, sa.blocked.now = sa.Env.Now(), false
	sa.Hear()
	sa.hints.idle = 0
}

// Unanswered says that what leaves by a CHILD SA is not answered.
func (c *Child) Unanswered() {
	sa := c.SA
	if sa.State != Established || sa.blocked.asked || sa.blocked.told && sa.blocked.now {
		return
	}
	sa.blocked.asked = true
	asked := sa.Env.Now()
	sa.Protocol.Probe(false)
	sa.Env.After(soonAnswered, func() {
		if !c.judge(asked) {
			c.SA.Env.After(lateAnswered-soonAnswered, func() {
				c.judge(asked)
				c.SA.blocked.asked = false
			})
		}
	})
}

// judge reports whether it is known why nothing comes.
func (c *Child) judge(asked time.Time) bool {
	sa := c.SA
	sa.blocked.asked = false
	if sa.State != Established || c.Gone || !sa.blocked.esp.Before(asked) {
		return true
	}
	if !sa.Heard.After(asked) {
		sa.blocked.asked = true
		return false
	}
	sa.blocked.now = true
	if sa.blocked.told {
		return true
	}
	sa.blocked.told = true
	udp := sa.InUDP(c.Policy)
	switch {
	case c.Policy.Protocol != core.ProtoESP || c.Policy.AH || sa.Host.Config().Encapsulation == core.EncapRaw:
		sa.Event(core.EvESPBlocked, "the peer answers IKE, and nothing comes back by ESP or AH: let the IP protocols 50 and 51 pass on the way")
	case udp:
		sa.Event(core.EvESPBlocked, "the peer answers IKE, and nothing comes back by ESP: let UDP %d pass on the way whatever is in it, or look whether the hosts behind the peer answer", sa.Peer.NATT())
	case sa.NAT.Supported && sa.Keeper.InUDP(sa):
		sa.Event(core.EvESPBlocked, "the peer answers IKE, and nothing comes back by ESP: another IKE SA carries ESP in UDP; to let IP protocol 50 pass on the way would do as well")
	default:
		sa.Event(core.EvESPBlocked, "the peer answers IKE, and nothing comes back by ESP: let IP protocol 50 pass on the way, or set encapsulation = \"udp\" in [gateway]")
	}
	return true
}
