package sa

import "slices"

// feature is a part of an IKE SA that begins something or keeps something for it. What
// happens to the IKE SA is said to all of them, so that a new one is a row of features
// and nothing else has to know it. A feature embeds idle and has the methods that it needs.
type feature interface {
	// passTo is for an IKE SA that n, made by a rekey, replaces: what lives on is n's now.
	passTo(n *SA)
	// rest is for an IKE SA that is deleted, was replaced, or ends: no timer begins
	// anything any more.
	rest()
	// end is for an IKE SA that is gone: what it took is given back.
	end()
	// ended is for the same, after the owner was told that it is gone.
	ended()
}

// idle is a feature to which nothing happens.
type idle struct{}

func (idle) passTo(*SA) {}
func (idle) rest()      {}
func (idle) end()       {}
func (idle) ended()     {}

// features are those that an IKE SA has. What comes last is ended first.
func features(sa *SA) []feature {
	return []feature{lifetimes{sa: sa}, liveness{sa: sa}, keepalives{sa: sa}, hinting{sa: sa}, leasing{sa: sa}, proofs{sa: sa}, contests{sa: sa}}
}

// each tells the features, the last first.
func each(sa *SA, tell func(feature)) {
	for _, f := range slices.Backward(features(sa)) {
		tell(f)
	}
}
