package v2

import "slices"

// feature is a part of an IKE SA whose state lasts from exchange to exchange. What happens
// to the IKE SA is said to all of them, so that a new one is a row of features and nothing
// else has to know it. A feature embeds idle and has the methods that it needs.
type feature interface {
	// inherit is for the successor at a rekey: it goes on with what old has.
	inherit(old *SA)
	// rest is for an IKE SA that waits for the peer to delete it: nothing is begun any more.
	rest()
	// deleted is for an IKE SA that one of the ends deletes.
	deleted()
	// end is for an IKE SA that is gone: what the feature began stops, and its secrets are wiped.
	end()
}

// idle is a feature to which nothing happens.
type idle struct{}

func (idle) inherit(*SA) {}
func (idle) rest()       {}
func (idle) deleted()    {}
func (idle) end()        {}

// features are those that an IKE SA has. What comes last is told first.
func features(sa *SA) []feature {
	list := []feature{&sa.sealer}
	if sa.init != nil {
		list = append(list, sa.init)
	}
	if sa.resumed != nil {
		list = append(list, sa.resumed)
	}
	return append(list, roaming{sa: sa}, &sa.search, &sa.tickets, &sa.away, window{sa: sa}, collision{sa: sa})
}

// each tells the features, the last first.
func each(sa *SA, tell func(feature)) {
	for _, f := range slices.Backward(features(sa)) {
		tell(f)
	}
}
