package demo

import (
	"crypto/rand"
	mathrand "math/rand/v2"
)

// payload is what is sent through the tunnel: random, but every 32 bytes begin
// with a mark of 8 bytes that is drawn anew for each run. 39 bytes in a row of
// it, wherever they are cut out, hold the mark whole: so it is known again
// anywhere, and nothing else looks like it.
type payload struct {
	seed [32]byte
	mark [markLen]byte
}

const (
	markLen   = 8
	markEvery = 32
)

func newPayload() *payload {
	p := new(payload)
	_, _ = rand.Read(p.seed[:]) // ends the process where it fails
	_, _ = rand.Read(p.mark[:])
	return p
}

// stream calls write with the size bytes of the payload, piece by piece. A
// piece is valid for the call. It ends with the first error.
func (p *payload) stream(size int64, write func([]byte) error) error {
	random := mathrand.NewChaCha8(p.seed)
	piece := make([]byte, 64<<10)
	for size > 0 {
		_, _ = random.Read(piece) // never fails
		for i := 0; i < len(piece); i += markEvery {
			copy(piece[i:], p.mark[:])
		}
		piece = piece[:min(size, int64(len(piece)))]
		if err := write(piece); err != nil {
			return err
		}
		size -= int64(len(piece))
	}
	return nil
}
