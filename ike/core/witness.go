package core

import "culvert/ike/message"

// Witness sees what an endpoint cannot tell without secrets or chance, and may
// say what is to hold instead. One that keeps what it sees, and gives it back to
// another endpoint that has neither, makes that one decide the same.
type Witness interface {
	// Drew sees randomness that others get to see or that sets times: SPIs,
	// nonces, jitter. b may be overwritten.
	Drew(b []byte)
	// Opened sees how it went to verify and decrypt a message or a fragment with n
	// bytes in it.
	Opened(o Opening, n int) (Opening, int)
	// Read sees what was inside an encrypted message, fragments put together.
	Read(first message.PayloadType, plain []byte) (message.PayloadType, []byte)
	// Unsealed sees what was sealed under a key of ours: the state of a session
	// ticket without its secrets; nil: it did not open.
	Unsealed(state []byte) []byte
	// Proved sees whether the peer showed something that takes a secret: the proof
	// of a pre-shared key, a COOKIE of ours.
	Proved(ok bool) bool
}

// Opening is what came of verifying and decrypting.
type Opening uint8

// What can come of it.
const (
	OpenedWell    Opening = iota
	OpenedBroken          // it is the peer's, and not as it has to be inside
	OpenedNothing         // it is not the peer's, or was changed
)

// Proved is ok, unless the Witness says otherwise.
func (e *Env) Proved(ok bool) bool {
	if e.Witness != nil {
		return e.Witness.Proved(ok)
	}
	return ok
}

// Private draws n bytes that become keys or that nothing depends on. No Witness
// sees them.
func (e *Env) Private(n int) []byte {
	b := make([]byte, n)
	e.rng.Read(b) //nolint:errcheck // never fails
	return b
}

// Random draws n bytes that others may see.
func (e *Env) Random(n int) []byte {
	b := e.Private(n)
	if e.Witness != nil {
		e.Witness.Drew(b)
	}
	return b
}
