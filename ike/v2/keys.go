package v2

import (
	"encoding/binary"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
)

// keys are the seven secrets of an IKE SA (RFC 7296 §2.14). i is the original
// initiator of this IKE SA, r the responder.
type keys struct {
	d, ai, ar, ei, er, pi, pr secret.Bytes
}

// deriveKeys computes SKEYSEED = prf(Ni | Nr, g^ir) and expands it.
func deriveKeys(s core.Suite, shared secret.Bytes, ni, nr []byte, spii, spir uint64) (keys, error) {
	nonces := append(append([]byte(nil), ni...), nr...)
	seed := prf.Sum(s.PRF, nonces, shared)
	defer seed.Wipe()
	return expandKeys(s, s.PRF, seed, ni, nr, spii, spir)
}

// rederiveKeys is the same for the successor of an IKE SA (RFC 7296 §2.18):
// SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr | extra), under the old SA's
// PRF; extra are the secrets of additional key exchanges (RFC 9370 §2.2.4).
func rederiveKeys(s core.Suite, old *suite.PRF, oldD, shared secret.Bytes, ni, nr []byte, spii, spir uint64, extra secret.Bytes) (keys, error) {
	seed := prf.Sum(old, oldD, shared, ni, nr, extra)
	defer seed.Wipe()
	return expandKeys(s, s.PRF, seed, ni, nr, spii, spir)
}

func expandKeys(s core.Suite, f *suite.PRF, seed secret.Bytes, ni, nr []byte, spii, spir uint64) (keys, error) {
	integ := 0
	if s.Integ != nil {
		integ = s.Integ.KeyLen
	}
	var spis []byte
	spis = binary.BigEndian.AppendUint64(spis, spii)
	spis = binary.BigEndian.AppendUint64(spis, spir)
	n := 3*f.Len + 2*integ + 2*s.Encr.MaterialLen()
	m, err := prf.Plus(f, seed, n, ni, nr, spis)
	if err != nil {
		return keys{}, err
	}
	cut := cutter(m)
	defer m.Wipe()
	return keys{
		d:  cut(f.Len),
		ai: cut(integ), ar: cut(integ),
		ei: cut(s.Encr.MaterialLen()), er: cut(s.Encr.MaterialLen()),
		pi: cut(f.Len), pr: cut(f.Len),
	}, nil
}

// childKeys expands KEYMAT (RFC 7296 §2.17): for the direction from the
// exchange's initiator to its responder first, encryption before integrity.
// extra are the secrets of additional key exchanges, which come last (RFC 9370
// §2.2.4).
func childKeys(f *suite.PRF, d secret.Bytes, s core.Suite, shared secret.Bytes, ni, nr []byte, extra secret.Bytes) (fromI, fromR core.HalfSA, err error) {
	encr, integ := 0, 0
	if s.Encr != nil { // else AH
		encr = s.Encr.MaterialLen()
	}
	if s.Integ != nil {
		integ = s.Integ.KeyLen
	}
	m, err := prf.Plus(f, d, 2*(encr+integ), shared, ni, nr, extra)
	if err != nil {
		return fromI, fromR, err
	}
	cut := cutter(m)
	defer m.Wipe()
	fromI = core.HalfSA{EncKey: cut(encr), IntegKey: cut(integ)}
	fromR = core.HalfSA{EncKey: cut(encr), IntegKey: cut(integ)}
	return fromI, fromR, nil
}

func cutter(m secret.Bytes) func(n int) secret.Bytes {
	return func(n int) secret.Bytes {
		if n == 0 {
			return nil
		}
		part := m[:n].Clone()
		m = m[n:]
		return part
	}
}

// wipeProof wipes what only IKE_AUTH proves with.
func (k *keys) wipeProof() {
	k.pi.Wipe()
	k.pr.Wipe()
	k.pi, k.pr = nil, nil
}

func (k *keys) wipe() {
	for _, b := range []secret.Bytes{k.d, k.ai, k.ar, k.ei, k.er, k.pi, k.pr} {
		b.Wipe()
	}
}
