package sa

// Final is what is left of an IKE SA that ended with a request of the peer: the answer, in
// case that is lost and the request comes again.
type Final struct {
	Exchange uint8    // of the request, by its number
	ID       uint32   // the same
	Stranger bool     // the peer never proved who it is
	Response [][]byte // in datagrams
	Path
}

// Newcomers are the IKE SAs that the endpoint takes in, and what it keeps of those whose
// peers have not proved who they are, or that are gone. Each version of IKE needs them.
type Newcomers interface {
	// Adopt takes in an SA: one that a stranger began, or the successor at a rekey.
	Adopt(sa *SA)
	// Weigh says how many bytes a half-open SA keeps.
	Weigh(sa *SA, bytes int)
	// KeepFinal keeps the last response of an SA that ended with a request of the peer.
	KeepFinal(spi uint64, f Final)
}
