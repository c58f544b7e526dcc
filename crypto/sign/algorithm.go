package sign

import (
	"crypto"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The Authentication Data of method 14 (RFC 7427 §3):
//
//	+---------------+-----------------------------------------------+
//	| ASN.1 Length  |  AlgorithmIdentifier (DER)                    |
//	+---------------+-----------------------------------------------+
//	~                      Signature Value                          ~
//	+---------------------------------------------------------------+

// Algorithm is the scheme's AlgorithmIdentifier in DER. The scheme is one
// without a Method of its own.
func (s *Scheme) Algorithm() []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, s.oid)
		switch s.params {
		case null:
			b.AddASN1NULL()
		case pss:
			hash := func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addOID(b, pssHashes[s.Hash])
					b.AddASN1NULL()
				})
			}
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(context(0), hash)
				b.AddASN1(context(1), func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						addOID(b, oidMGF1)
						hash(b)
					})
				})
				b.AddASN1(context(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(s.Hash.Size())) })
			})
		}
	})
	return b.BytesOrPanic()
}

func context(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

func addOID(b *cryptobyte.Builder, oid string) {
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
}

// AppendDigital appends the Authentication Data of method 14.
func AppendDigital(b []byte, s *Scheme, signature []byte) []byte {
	algorithm := s.Algorithm()
	b = append(b, byte(len(algorithm)))
	return append(append(b, algorithm...), signature...)
}

var errShort = errors.New("the Authentication Data ends too early")

// ParseDigital reads the Authentication Data of method 14. The signature
// aliases data.
func ParseDigital(data []byte) (s *Scheme, signature []byte, err error) {
	in := cryptobyte.String(data)
	var algorithm cryptobyte.String
	if !in.ReadUint8LengthPrefixed(&algorithm) || len(in) == 0 {
		return nil, nil, errShort
	}
	s, err = ParseAlgorithm(algorithm)
	return s, in, err
}

// ParseAlgorithm finds the scheme of an AlgorithmIdentifier. An absent
// parameter and NULL are the same, since both are sent (RFC 7427 App. A). The
// salt of RSASSA-PSS is as long as the hash (RFC 8247 §3.2).
func ParseAlgorithm(der []byte) (*Scheme, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() {
		return nil, errors.New("the AlgorithmIdentifier is not DER")
	}
	oid, rest, err := readAlgorithm(seq)
	if err != nil {
		return nil, err
	}
	var hash crypto.Hash
	if oid == oidPSS {
		if hash, err = parsePSS(rest); err != nil {
			return nil, err
		}
	} else if !rest.Empty() && !isNull(rest) {
		return nil, errors.New("the AlgorithmIdentifier has parameters that it should not have")
	}
	for i := range Schemes {
		if s := &Schemes[i]; s.Method == 0 && s.oid == oid && (hash == 0 || s.Hash == hash) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the signature algorithm %s is not supported", nameOID(oid))
}

// readAlgorithm reads the contents of an AlgorithmIdentifier up to its parameters.
func readAlgorithm(seq cryptobyte.String) (oid string, rest cryptobyte.String, err error) {
	var id cryptobyte.String
	if !seq.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) || len(id) == 0 {
		return "", nil, errors.New("the AlgorithmIdentifier has no OID")
	}
	return string(id), seq, nil
}

func isNull(s cryptobyte.String) bool { return len(s) == 2 && s[0] == 5 && s[1] == 0 }

// parsePSS reads RSASSA-PSS-params (RFC 4055 §3.1).
func parsePSS(rest cryptobyte.String) (crypto.Hash, error) {
	bad := errors.New("the parameters of RSASSA-PSS cannot be read")
	var seq, hash, mgf, salt, trailer cryptobyte.String
	var hasHash, hasMGF, hasSalt, hasTrailer bool
	if !rest.ReadASN1(&seq, asn1.SEQUENCE) || !rest.Empty() ||
		!seq.ReadOptionalASN1(&hash, &hasHash, context(0)) || !seq.ReadOptionalASN1(&mgf, &hasMGF, context(1)) ||
		!seq.ReadOptionalASN1(&salt, &hasSalt, context(2)) || !seq.ReadOptionalASN1(&trailer, &hasTrailer, context(3)) || !seq.Empty() {
		return 0, bad
	}
	if !hasHash || !hasMGF {
		return 0, errors.New("RSASSA-PSS with SHA-1 is not accepted")
	}
	h, err := parseHash(hash)
	if err != nil {
		return 0, err
	}
	var mgfSeq cryptobyte.String
	if !mgf.ReadASN1(&mgfSeq, asn1.SEQUENCE) || !mgf.Empty() {
		return 0, bad
	}
	oid, mgfHash, err := readAlgorithm(mgfSeq)
	if err != nil {
		return 0, err
	}
	if g, err := parseHash(mgfHash); err != nil || oid != oidMGF1 || g != h {
		return 0, errors.New("RSASSA-PSS is accepted with MGF1 over the same hash only")
	}
	n := 20
	if hasSalt && (!salt.ReadASN1Integer(&n) || !salt.Empty()) {
		return 0, bad
	}
	if n != h.Size() {
		return 0, fmt.Errorf("RSASSA-PSS has a salt of %d bytes, accepted: as long as the hash, %d", n, h.Size())
	}
	one := 1
	if hasTrailer && (!trailer.ReadASN1Integer(&one) || !trailer.Empty() || one != 1) {
		return 0, bad
	}
	return h, nil
}

// parseHash reads the AlgorithmIdentifier of a hash.
func parseHash(s cryptobyte.String) (crypto.Hash, error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return 0, errors.New("the hash of RSASSA-PSS cannot be read")
	}
	oid, rest, err := readAlgorithm(seq)
	if err != nil {
		return 0, err
	}
	if !rest.Empty() && !isNull(rest) {
		return 0, errors.New("the hash of RSASSA-PSS has parameters that it should not have")
	}
	for h, o := range pssHashes {
		if o == oid {
			return h, nil
		}
	}
	return 0, fmt.Errorf("RSASSA-PSS with the hash %s is not supported", nameOID(oid))
}
