package sa

// IKE messages in pieces: one that is too long for a datagram travels in fragments of IKE, because networks drop those of
// IP. How a fragment looks is the version's to know.

const (
	// maxDatagram is the longest IP datagram that carries a message, if the configuration does not say another: the least
	// that every IPv6 link carries, and what IPv4 networks carry in practice.
	maxDatagram = 1280
	minDatagram = 160

	// MaxPieces is of how many fragments a message is put together at most.
	MaxPieces = 64
	// MaxReassembly is how many bytes they have together at most.
	MaxReassembly = 64 << 10

	// perPiece is what a fragment takes beside its bytes.
	perPiece = 24 + 24
)

// LongestMessage is how long a message may be, in bytes. The headers of IPv6 and UDP and the non-ESP marker have room, so
// that it fits whatever way it takes later.
func LongestMessage(h Host) int {
	n := h.Config().MaxDatagram
	if n == 0 {
		n = maxDatagram
	}
	return max(n, minDatagram) - 40 - 8 - 4
}

// Pieces are the fragments of one message, as far as they have come. The zero value has none.
type Pieces struct {
	parts [][]byte // by number - 1; nil: missing
	have  int
	size  int
}

// Put keeps a copy of fragment n, counted from 1 and at most MaxPieces, of which there is none. It returns false and
// forgets all of them where they are too long together.
func (p *Pieces) Put(n int, data []byte) bool {
	if p.size+len(data) > MaxReassembly {
		*p = Pieces{}
		return false
	}
	for len(p.parts) < n {
		p.parts = append(p.parts, nil)
	}
	// A copy: data is part of the whole datagram, which may be much longer.
	p.parts[n-1] = append(make([]byte, 0, len(data)), data...)
	p.have++
	p.size += len(data)
	return true
}

// Get is fragment n; nil if it is missing.
func (p *Pieces) Get(n int) []byte {
	if n > len(p.parts) {
		return nil
	}
	return p.parts[n-1]
}

// Top is the highest number of a fragment that is here.
func (p *Pieces) Top() int { return len(p.parts) }

// Whole is the message of total fragments once all are there, else nil. It is the caller's.
func (p *Pieces) Whole(total int) []byte {
	if p.have < total {
		return nil
	}
	all := make([]byte, 0, p.size)
	for _, part := range p.parts {
		all = append(all, part...)
	}
	return all
}

// Kept is what the fragments that are here take, in bytes.
func (p *Pieces) Kept() (n int) {
	n = cap(p.parts) * perPiece
	for _, part := range p.parts {
		n += len(part) + len(part)/8 // memory comes in sizes that are as far apart
	}
	return n
}
