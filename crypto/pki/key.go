package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Key is a private key, or none. Every way of printing it prints "(hidden)".
type Key struct{ signer crypto.Signer }

const hidden = "(hidden)"

func (Key) String() string               { return hidden }
func (Key) GoString() string             { return hidden }
func (Key) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(hidden)) }
func (Key) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// NewKey is a key that signs as s does.
func NewKey(s crypto.Signer) Key { return Key{s} }

// WithoutPrivate stands for the key of a public key where it is not at hand: it
// is present, fits, and cannot sign.
func WithoutPrivate(public crypto.PublicKey) Key { return Key{publicOnly{public}} }

type publicOnly struct{ public crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.public }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the private key is not at hand")
}

// Present reports whether there is a key.
func (k Key) Present() bool { return k.signer != nil }

// Signer signs; nil without key.
func (k Key) Signer() crypto.Signer { return k.signer }

// Equal reports whether two keys are the same, or both absent.
func (k Key) Equal(o Key) bool {
	if k.signer == nil || o.signer == nil {
		return k.signer == nil && o.signer == nil
	}
	return k.Fits(o.signer.Public())
}

// Fits reports whether the key is that of a public key.
func (k Key) Fits(public crypto.PublicKey) bool {
	p, ok := public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.signer != nil && p.Equal(k.signer.Public())
}

// parseKey reads a block of a PEM file that holds a private key; other blocks
// give no key and no error.
func parseKey(b *pem.Block, passphrase []byte, limit int) (Key, error) {
	if b.Headers["DEK-Info"] != "" {
		return Key{}, errors.New("the key is encrypted in a format of old that is not supported: convert it with openssl pkcs8 -topk8")
	}
	var parsed any
	var err error
	switch b.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(b.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		var der []byte
		if der, err = decryptPKCS8(b.Bytes, passphrase, limit); err != nil {
			return Key{}, err
		}
		parsed, err = x509.ParsePKCS8PrivateKey(der)
		clear(der)
		if err != nil {
			return Key{}, ErrPassphrase
		}
	default:
		return Key{}, nil
	}
	if err != nil {
		return Key{}, fmt.Errorf("the private key cannot be read: %w", err)
	}
	s, ok := parsed.(crypto.Signer)
	if !ok {
		return Key{}, errors.New("the private key is of a kind that cannot sign")
	}
	return Key{s}, nil
}
