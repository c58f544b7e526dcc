package v1

import (
	"encoding/binary"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// keys are the secrets of a phase 1 SA (RFC 2409 §5).
type keys struct {
	prf  *suite.PRF
	root secret.Bytes // SKEYID
	d    secret.Bytes // SKEYID_d, of which the keys of phase 2 are made
	a    secret.Bytes // SKEYID_a, which authenticates the messages of phase 2
	enc  secret.Bytes // the key of the cipher, made of SKEYID_e
}

// cookies are CKY-I | CKY-R.
func cookies(i, r uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, i), r)
}

// pskRoot is SKEYID of a pre-shared key: prf(pre-shared-key, Ni_b | Nr_b).
func pskRoot(f *suite.PRF, psk secret.Bytes, ni, nr []byte) secret.Bytes {
	return prf.Sum(f, psk, ni, nr)
}

// signatureRoot is SKEYID of signatures: prf(Ni_b | Nr_b, g^xy).
func signatureRoot(f *suite.PRF, shared secret.Bytes, ni, nr []byte) secret.Bytes {
	nonces := append(append([]byte(nil), ni...), nr...)
	return prf.Sum(f, nonces, shared)
}

// deriveKeys makes the keys of SKEYID, which they own from then on, and of the shared
// secret of the Diffie-Hellman exchange:
//
//	SKEYID_d = prf(SKEYID, g^xy | CKY-I | CKY-R | 0)
//	SKEYID_a = prf(SKEYID, SKEYID_d | g^xy | CKY-I | CKY-R | 1)
//	SKEYID_e = prf(SKEYID, SKEYID_a | g^xy | CKY-I | CKY-R | 2)
func deriveKeys(f *suite.PRF, e *suite.Encr, root, shared secret.Bytes, spii, spir uint64) keys {
	both := cookies(spii, spir)
	k := keys{prf: f, root: root}
	k.d = prf.Sum(f, root, shared, both, []byte{0})
	k.a = prf.Sum(f, root, k.d, shared, both, []byte{1})
	last := prf.Sum(f, root, k.a, shared, both, []byte{2})
	defer last.Wipe()
	k.enc = stretch(f, last, e.KeyLen)
	return k
}

// stretch makes a key of n bytes of SKEYID_e (RFC 2409 Appendix B): its first bytes, or, where it
// has too few,
//
//	K1 = prf(SKEYID_e, 0), Ki = prf(SKEYID_e, Ki-1)
func stretch(f *suite.PRF, key secret.Bytes, n int) secret.Bytes {
	if n <= len(key) {
		return key[:n].Clone()
	}
	out := make(secret.Bytes, 0, n+f.Len)
	last := []byte{0}
	for len(out) < n {
		out = append(out, prf.Sum(f, key, last)...)
		last = out[len(out)-f.Len:]
	}
	clear(out[n:])
	return out[:n:n]
}

// keymat is the first n bytes of the keying material of one direction of a CHILD SA (RFC 2409 §5.5):
//
//	K1 = prf(SKEYID_d, [g(qm)^xy |] protocol | SPI | Ni_b | Nr_b), Ki = prf(SKEYID_d, Ki-1 | the same)
//
// shared is empty without PFS; SPI is that of the receiver.
func (k *keys) keymat(n int, shared secret.Bytes, protocol uint8, spi uint32, ni, nr []byte) secret.Bytes {
	return k.expand(n, shared, binary.BigEndian.AppendUint32([]byte{protocol}, spi), ni, nr)
}

// expand is keymat over a seed in parts.
func (k *keys) expand(n int, seed ...[]byte) secret.Bytes {
	out := make(secret.Bytes, 0, n+k.prf.Len)
	for len(out) < n {
		last := out[max(len(out)-k.prf.Len, 0):]
		out = append(out, prf.Sum(k.prf, k.d, append([][]byte{last}, seed...)...)...)
	}
	clear(out[n:])
	return out[:n:n]
}

// --- hashes ---

// hashI is HASH_I, by which the initiator proves itself:
//
//	prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b)
//
// hashR is HASH_R, with the ends exchanged; SAi_b stays the initiator's.
func (k *keys) hashI(own, peer []byte, spii, spir uint64, sai, id []byte) secret.Bytes {
	return prf.Sum(k.prf, k.root, own, peer, cookies(spii, spir), sai, id)
}

func (k *keys) hashR(own, peer []byte, spii, spir uint64, sai, id []byte) secret.Bytes {
	return prf.Sum(k.prf, k.root, own, peer, cookies(spir, spii), sai, id)
}

// hash1 is HASH(1) of quick mode and of informational and transaction exchanges: over the message ID and
// all that stands behind the HASH payload, with generic headers and without padding.
func (k *keys) hash1(id uint32, rest []byte) secret.Bytes {
	return prf.Sum(k.prf, k.a, messageID(id), rest)
}

// hash2 is HASH(2) of quick mode.
func (k *keys) hash2(id uint32, ni, rest []byte) secret.Bytes {
	return prf.Sum(k.prf, k.a, messageID(id), ni, rest)
}

// hash3 is HASH(3) of quick mode.
func (k *keys) hash3(id uint32, ni, nr []byte) secret.Bytes {
	return prf.Sum(k.prf, k.a, []byte{0}, messageID(id), ni, nr)
}

func messageID(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

// wipe overwrites all of them.
func (k *keys) wipe() {
	for _, b := range []secret.Bytes{k.root, k.d, k.a, k.enc} {
		b.Wipe()
	}
	*k = keys{}
}

// made reports whether there are keys.
func (k *keys) made() bool { return k.enc != nil }
