package integ

import (
	"crypto/subtle"
	"fmt"
	"hash"
	"sync"

	"culvert/crypto/suite"
)

// keyed is what an algorithm's file provides: a MAC under a key of the row's
// length whose Reset returns to the keyed start and, after its first call, does
// not allocate. The key is copied.
type keyed func(key []byte) hash.Cloner

// functions has one row for each row of suite.Integs, by IANA transform ID.
var functions = map[uint16]keyed{
	1:  hmacMD5,
	2:  hmacSHA1,
	12: hmacSHA256,
	13: hmacSHA384,
	14: hmacSHA512,
}

// MAC computes and verifies ICVs under one key. Its methods may be called by
// several goroutines at once and do not allocate in steady state.
type MAC struct {
	icvLen int
	states *sync.Pool // of *state
}

// state is one goroutine's computation. The slices that are given to a
// hash.Hash escape, so the untruncated result has its place here.
type state struct {
	hash hash.Hash
	sum  [64]byte
}

// New makes a MAC of a row of suite.Integs. The key must have a.KeyLen bytes; it
// is copied, and stays the caller's to wipe.
func New(a *suite.Integ, key []byte) (*MAC, error) {
	f, ok := functions[a.ID]
	if !ok {
		return nil, fmt.Errorf("integrity algorithm %s (%d) is not in this build; propose another", a.Name, a.ID)
	}
	if len(key) != a.KeyLen {
		return nil, fmt.Errorf("integrity algorithm %s needs a key of %d bytes, not %d", a.Name, a.KeyLen, len(key))
	}
	keyedHash := f(key)
	keyedHash.Reset() // does what a hash defers to its first Reset, once for all clones
	return &MAC{icvLen: a.ICVLen, states: &sync.Pool{New: func() any {
		h, err := keyedHash.Clone()
		if err != nil {
			panic("integ: " + err.Error())
		}
		return &state{hash: h}
	}}}, nil
}

// Len is the length of an ICV in bytes.
func (m *MAC) Len() int { return m.icvLen }

// Sum appends the ICV of p1 | p2 to dst, which may overlap with both.
func (m *MAC) Sum(dst, p1, p2 []byte) []byte {
	s := m.states.Get().(*state)
	dst = append(dst, s.compute(p1, p2)[:m.icvLen]...)
	m.states.Put(s)
	return dst
}

// Verify reports whether icv is the ICV of p1 | p2, in constant time.
func (m *MAC) Verify(icv, p1, p2 []byte) bool {
	s := m.states.Get().(*state)
	ok := subtle.ConstantTimeCompare(icv, s.compute(p1, p2)[:m.icvLen]) == 1
	m.states.Put(s)
	return ok
}

func (s *state) compute(p1, p2 []byte) []byte {
	s.hash.Reset()
	s.hash.Write(p1)
	s.hash.Write(p2)
	return s.hash.Sum(s.sum[:0])
}
