package core

// Own is what our requests carry that only we can have drawn, while they are not
// answered: nonces, public values of key exchanges and SPIs of new IKE SAs, each
// with how many requests carry it.
type Own map[string]int

// Add notes that one more request carries a value.
func (o Own) Add(v string) { o[v]++ }

// Drop notes that one request less carries a value.
func (o Own) Drop(v string) {
	if o[v]--; o[v] <= 0 {
		delete(o, v)
	}
}

// Has reports whether one of our requests carries v.
func (o Own) Has(v []byte) bool { return o[string(v)] > 0 }
