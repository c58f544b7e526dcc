package sa

// liveness is the watch over a peer that is silent.
type liveness struct {
	idle
	sa *SA
}

func (l liveness) rest() { l.sa.Env.Timers.Stop(l.sa.Timers.dpd) }

// watch asks a peer that was silent for dpd-interval whether it is alive. Any
// request of ours that is under way asks the same.
func (sa *SA) watch() {
	every := sa.Peer.Profile.DPD
	sa.Env.Timers.Stop(sa.Timers.dpd)
	if every <= 0 || !Present(sa) {
		return
	}
	wait := sa.Heard.Add(every).Sub(sa.Env.Now())
	if wait <= 0 {
		if sa.State == Established {
			sa.Protocol.Probe(false)
		} else if !revive(sa) {
			return
		}
		wait = every
	}
	sa.Timers.dpd = sa.Env.After(wait, sa.watch)
}
