package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// Bundle is what a file, or a file and that of its key, hold. The first of
// Certs is the one that the bundle is about: the key's, if there is a key.
type Bundle struct {
	Certs []*x509.Certificate
	Key   Key
}

// maxCerts bounds the certificates of a file.
const maxCerts = 1000

// ErrMismatch is that of a private key that is of no certificate in the file.
var ErrMismatch = errors.New("the private key does not match any certificate of the file")

// Read reads certificates and perhaps a key: PEM, one certificate in DER, or
// PKCS#12. keyData is the PEM of a key in a file of its own, nil if there is
// none. No error contains anything of the contents.
func Read(data, keyData, passphrase []byte) (Bundle, error) {
	return read(data, keyData, passphrase, maxIterations)
}

// read hashes the passphrase limit times at most.
func read(data, keyData, passphrase []byte, limit int) (Bundle, error) {
	var b Bundle
	var err error
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")):
		b, err = readPEM(data, passphrase, limit)
	case len(data) > 0 && data[0] == 0x30:
		b, err = readDER(data, passphrase, limit)
	default:
		err = errors.New("it is neither PEM nor DER nor PKCS#12")
	}
	if err != nil {
		return Bundle{}, err
	}
	if keyData != nil {
		k, err := readPEM(keyData, passphrase, limit)
		if err != nil {
			return Bundle{}, fmt.Errorf("key-file: %w", err)
		}
		if !k.Key.Present() {
			return Bundle{}, errors.New("key-file: there is no private key in it")
		}
		b.Key = k.Key
	}
	if len(b.Certs) == 0 {
		return Bundle{}, errors.New("there is no certificate in it")
	}
	if !b.Key.Present() {
		return b, nil
	}
	i := slices.IndexFunc(b.Certs, func(c *x509.Certificate) bool { return b.Key.Fits(c.PublicKey) })
	if i < 0 {
		return Bundle{}, ErrMismatch
	}
	b.Certs[0], b.Certs[i] = b.Certs[i], b.Certs[0]
	return b, nil
}

func readPEM(data, passphrase []byte, limit int) (b Bundle, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return b, fmt.Errorf("certificate %d of the file: %w", len(b.Certs)+1, err)
			}
			if len(b.Certs) == maxCerts {
				return b, fmt.Errorf("there are more than %d certificates in it", maxCerts)
			}
			b.Certs = append(b.Certs, c)
			continue
		}
		k, err := parseKey(block, passphrase, limit)
		if err != nil {
			return b, err
		}
		if k.Present() {
			if b.Key.Present() {
				return b, errors.New("there are two private keys in it, leave one")
			}
			b.Key = k
		}
	}
	return b, nil
}

// readDER keeps nothing of data, which its owner may wipe.
func readDER(data, passphrase []byte, limit int) (Bundle, error) {
	data = bytes.Clone(data)
	if c, err := x509.ParseCertificate(data); err == nil {
		return Bundle{Certs: []*x509.Certificate{c}}, nil
	}
	if !boundedPBE(data, limit) {
		return Bundle{}, errIterations
	}
	key, cert, others, err := pkcs12.DecodeChain(data, string(passphrase))
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && len(passphrase) == 0:
		return Bundle{}, ErrNoPassphrase
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return Bundle{}, ErrPassphrase
	case err != nil && indefinite(data):
		return Bundle{}, fmt.Errorf("it is PKCS#12 in BER, as pk12util of NSS writes it, which is not supported: %s", convert)
	case err != nil && isPFX(data):
		return Bundle{}, fmt.Errorf("it is PKCS#12 that is not supported (%s): %s", strings.TrimPrefix(err.Error(), "pkcs12: "), convert)
	case err != nil:
		return Bundle{}, errors.New("it is neither a certificate in DER nor PKCS#12, or it is damaged")
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return Bundle{}, errors.New("the private key is of a kind that cannot sign")
	}
	return Bundle{Certs: append([]*x509.Certificate{cert}, others...), Key: Key{s}}, nil
}

// convert is the way out where a PKCS#12 file has another form than a key and its
// certificates in DER: openssl reads more.
const convert = `convert it with "(umask 077; openssl pkcs12 -in FILE -nodes -out FILE.pem)" and name FILE.pem; where openssl 3 refuses the encryption, add -legacy`

// isPFX reports whether data begins as PKCS#12 does (RFC 7292 §4): a SEQUENCE with
// version 3 and behind it a SEQUENCE, in DER or in BER.
func isPFX(data []byte) bool {
	if indefinite(data) {
		return bytes.HasPrefix(data[2:], []byte{0x02, 0x01, 0x03, 0x30})
	}
	in := cryptobyte.String(data)
	var pfx cryptobyte.String
	var version int
	return in.ReadASN1(&pfx, asn1.SEQUENCE) && pfx.ReadASN1Integer(&version) && version == 3 && pfx.PeekASN1Tag(asn1.SEQUENCE)
}

// indefinite reports whether the first length is one that only BER has (X.690 §8.1.3.6).
func indefinite(data []byte) bool { return len(data) > 1 && data[1] == 0x80 }

// SelfSigned reports whether a certificate names itself as its issuer.
func SelfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// maxChain bounds the certificates of a chain.
const maxChain = 10

// Chain is leaf and after it those of pool that lead to, but not including, a
// certificate that is its own issuer: what is sent to a peer.
func Chain(leaf *x509.Certificate, pool []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for c := leaf; len(chain) < maxChain; {
		next := Issuer(c, pool)
		if next == nil || SelfSigned(next) || slices.ContainsFunc(chain, next.Equal) {
			break
		}
		chain = append(chain, next)
		c = next
	}
	return chain
}

// Issuer is the certificate of pool whose key signed c; nil if it is not there
// or c is its own issuer.
func Issuer(c *x509.Certificate, pool []*x509.Certificate) *x509.Certificate {
	if SelfSigned(c) {
		return nil
	}
	for _, p := range pool {
		if SameDN(p.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(p) == nil {
			return p
		}
	}
	return nil
}
