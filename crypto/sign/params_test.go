package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// tlv is a value in DER.
func tlv(tag tags.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func sequence(parts ...[]byte) []byte { return tlv(tags.SEQUENCE, parts...) }

func oid(contents string) []byte { return tlv(tags.OBJECT_IDENTIFIER, []byte(contents)) }

// What an AlgorithmIdentifier may have as parameters, and what it may not.
func TestParameters(t *testing.T) {
	null, zero := []byte{5, 0}, []byte{0}
	sha256, sha384 := oid(pssHashes[crypto.SHA256]), oid(pssHashes[crypto.SHA384])
	hash := tlv(context(0), sequence(sha256, null))
	mgf := tlv(context(1), sequence(oid(oidMGF1), sequence(sha256, null)))
	number := func(n uint8, b ...byte) []byte { return tlv(context(n), tlv(tags.INTEGER, b)) }
	salt := number(2, 32)
	pss := func(parts ...[]byte) []byte { return sequence(oid(oidPSS), sequence(parts...)) }
	rsa256 := ByName("rsa-sha256").oid
	const read = "the parameters of RSASSA-PSS cannot be read"
	for _, c := range []struct {
		what string
		der  []byte
		want string // of the error; empty: it is read
	}{
		{"NULL", sequence(oid(rsa256), null), ""},
		{"nothing", sequence(oid(rsa256)), ""},
		{"NULL and a byte", sequence(oid(rsa256), null, zero), "parameters that it should not have"},
		{"half a NULL", sequence(oid(rsa256), []byte{5}), "parameters that it should not have"},
		{"a NULL of one byte", sequence(oid(rsa256), []byte{5, 1, 0}), "parameters that it should not have"},
		{"a NULL of one byte that is not there", sequence(oid(rsa256), []byte{5, 1}), "parameters that it should not have"},
		{"two bytes that are no NULL", sequence(oid(rsa256), []byte{4, 0}), "parameters that it should not have"},
		{"an OID of no bytes", sequence(oid("")), "has no OID"},
		{"no OID", sequence(null), "has no OID"},
		{"nothing at all", sequence(), "has no OID"},
		{"no sequence", null, "is not DER"},
		{"a byte behind", append(sequence(oid(rsa256)), 0), "is not DER"},

		{"PSS", pss(hash, mgf, salt), ""},
		{"PSS with its trailer", pss(hash, mgf, salt, number(3, 1)), ""},
		{"another trailer", pss(hash, mgf, salt, number(3, 2)), read},
		{"no trailer", pss(hash, mgf, salt, number(3, 0)), read},
		{"a trailer that is no number", pss(hash, mgf, salt, tlv(context(3), null)), read},
		{"a trailer and more", pss(hash, mgf, salt, tlv(context(3), tlv(tags.INTEGER, []byte{1}), null)), read},
		{"no hash", pss(mgf, salt), "with SHA-1 is not accepted"},
		{"no MGF", pss(hash, salt), "with SHA-1 is not accepted"},
		{"neither", pss(), "with SHA-1 is not accepted"},
		{"no salt", pss(hash, mgf), "salt"},
		{"a salt that is shorter", pss(hash, mgf, number(2, 31)), "salt"},
		{"a salt that is longer", pss(hash, mgf, number(2, 33)), "salt"},
		{"a salt that is no number", pss(hash, mgf, tlv(context(2), null)), read},
		{"a salt and more", pss(hash, mgf, tlv(context(2), tlv(tags.INTEGER, []byte{32}), null)), read},
		{"another hash", pss(tlv(context(0), sequence(oid("\x2a\x03"))), mgf, salt), ""},
		{"MGF1 over another hash", pss(hash, tlv(context(1), sequence(oid(oidMGF1), sequence(sha384, null))), salt), "MGF1 over the same hash only"},
		{"MGF1 over no hash", pss(hash, tlv(context(1), sequence(oid(oidMGF1))), salt), "MGF1 over the same hash only"},
		{"another MGF", pss(hash, tlv(context(1), sequence(oid("\x2a\x03"), sequence(sha256, null))), salt), "MGF1 over the same hash only"},
		{"an MGF without a name", pss(hash, tlv(context(1), sequence(null)), salt), "has no OID"},
		{"an MGF that is none", pss(hash, tlv(context(1), null), salt), read},
		{"an MGF and more", pss(hash, tlv(context(1), sequence(oid(oidMGF1), sequence(sha256, null)), null), salt), read},
		{"the wrong order", pss(mgf, hash, salt), read},
		{"something else", pss(hash, mgf, salt, tlv(context(4), null)), read},
		{"parameters that are none", sequence(oid(oidPSS), null), read},
		{"parameters and more", sequence(oid(oidPSS), sequence(hash, mgf, salt), null), read},
	} {
		s, err := ParseAlgorithm(c.der)
		if c.what == "another hash" {
			if err == nil {
				t.Errorf("%s: %s", c.what, s.Name)
			}
			continue
		}
		if c.want == "" && (err != nil || s.Hash != crypto.SHA256) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	// What is not supported has a name all the same.
	for _, c := range []struct {
		der  []byte
		want string
	}{
		{pss(hash, mgf, salt), "rsa-pss-sha256"}, {pss(), "RSASSA-PSS with SHA-1"}, {pss(tlv(context(0), sequence(oid("\x2a\x86\x48\x86\xf7\x0d\x02\x05")))), "RSASSA-PSS with MD5"},
		{sequence(oid(oidPSS)), "RSASSA-PSS with SHA-1"}, {pss(tlv(context(0), null)), "RSASSA-PSS with SHA-1"}, {pss(tlv(context(0), sequence(null))), "RSASSA-PSS with SHA-1"},
		{sequence(oid("\x2b\x65\x71")), "Ed448"}, {sequence(oid("\x2a\x03")), "1.2.3"}, {sequence(oid("\x80")), "80"}, {sequence(), "unknown"}, {null, "unknown"}, {nil, "unknown"},
	} {
		if got := AlgorithmName(c.der); got != c.want {
			t.Errorf("%x: %q, want %q", c.der, got, c.want)
		}
	}
}

// Bounds on RSA keys belong to what they bound.
func TestBoundsOfRSA(t *testing.T) {
	for bits, c := range map[uint]struct{ good, weak bool }{MinRSA - 1: {false, true}, MinRSA: {true, true}, GoodRSA - 1: {true, true}, GoodRSA: {true, false}, MaxRSA: {true, false}, MaxRSA + 1: {false, false}} {
		k := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
		if err := CheckKey(k); (err == nil) != c.good || Weak(k) != c.weak {
			t.Errorf("%d bits: %v, weak %v", bits, err, Weak(k))
		}
		if err := ByName("rsa-sha256").Verify(k, nil, nil); !c.good && (errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "bits")) {
			t.Errorf("%d bits: verified, %v", bits, err)
		}
	}
}

// stub signs with what a test gives it.
type stub struct {
	crypto.Signer
	signature []byte
	err       error
}

func (s stub) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.signature, s.err }

// A signer that fails, or makes something else than a signature, makes an error.
func TestSignerThatFails(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("the card is gone")
	for _, name := range []string{"ecdsa-256", "ecdsa-sha256"} {
		if _, err := ByName(name).Sign(stub{Signer: key, err: failed}, nil); !errors.Is(err, failed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one, err := asn1.Marshal([]int{1})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, {5, 0}, sequence(), one, sequence(tlv(tags.INTEGER, []byte{1}), []byte{5, 0})} {
		if b, err := ByName("ecdsa-256").Sign(stub{Signer: key, signature: bad}, nil); err == nil {
			t.Errorf("%x became %x", bad, b)
		}
	}
	if b, err := ByName("ecdsa-256").Sign(stub{Signer: key, signature: sequence(tlv(tags.INTEGER, []byte{1}), tlv(tags.INTEGER, []byte{2}))}, nil); err != nil || len(b) != 64 || b[31] != 1 || b[63] != 2 {
		t.Errorf("%x, %v", b, err)
	}
}
