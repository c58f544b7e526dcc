package v2

// What a half-open IKE SA keeps: its peer has not proved who it is, and anybody
// can begin one. The endpoint adds the weights up and bounds them
// (ike/strangers.go).

// Estimates, in bytes. TestWeight compares them with the heap.
const (
	// bareWeight is the SA itself with keys, timer and places in the endpoint's tables.
	bareWeight = 4100
	// perRead is what a byte of a message takes while it is worked on, read into
	// payloads and the Work of an Ask; certificates grow most.
	perRead = 16
	// idCopies is how often the peer's ID is kept: in the SA and as keys of tables.
	idCopies = 4
)

// Weight is how many bytes the SA keeps while it is half-open.
func (sa *SA) Weight() int {
	n := bareWeight + idCopies*len(sa.base.PeerID.Data)
	for _, raw := range sa.lastResponse {
		n += cap(raw)
	}
	if p := sa.partial; p != nil {
		n += p[0].Kept() + p[1].Kept()
	}
	if sa.answering != nil {
		n += perRead * sa.read
	}
	for _, x := range []*exchange{sa.answering, sa.between} {
		if x != nil {
			n += perRead * x.held
		}
	}
	if i := sa.init; i != nil {
		n += cap(i.request) + cap(i.ni) + cap(i.nr) + cap(i.inter.got) + cap(i.inter.sent)
		n += len(i.sig.cas)*20 + len(i.sig.hashes)*2
	}
	return n
}

// weigh tells the endpoint, after something has changed.
func (sa *SA) weigh() {
	if sa.base.State == HalfOpen {
		sa.owner.Weigh(sa.base, sa.Weight())
	}
}
