package keys

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// The sizes of keys that are taken, in bits.
const (
	minBits = 1024
	maxBits = 8192
)

// Parse reads an RSA key: PEM (PKCS #1, PKCS #8, or a public key as openssl writes it), or a public key
// in the form of RFC 3110 (base64 with or without 0s before it, hexadecimal with 0x, or binary), as
// strongSwan and Libreswan print it. private is nil for a public key. Keys have 1024 to 8192 bits.
func Parse(data []byte) (public *rsa.PublicKey, private *rsa.PrivateKey, err error) {
	if block, _ := pem.Decode(data); block != nil {
		public, private, err = parsePEM(block)
		clear(block.Bytes)
	} else {
		public, err = parseRFC3110(data)
	}
	if err != nil {
		return nil, nil, err
	}
	if n := public.N.BitLen(); n < minBits || n > maxBits {
		return nil, nil, fmt.Errorf("the RSA key has %d bits, accepted: %d to %d", n, minBits, maxBits)
	}
	return public, private, nil
}

func parsePEM(block *pem.Block) (*rsa.PublicKey, *rsa.PrivateKey, error) {
	var key any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, nil, errors.New("the private key has a passphrase, take it off first: openssl pkey -in FILE -out NEW")
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		return nil, nil, fmt.Errorf("PEM %q is not a key, accepted: PRIVATE KEY, RSA PRIVATE KEY, PUBLIC KEY, RSA PUBLIC KEY", block.Type)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the key in PEM %q cannot be read: %w", block.Type, err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return &key.PublicKey, key, nil
	case *rsa.PublicKey:
		return key, nil, nil
	}
	return nil, nil, fmt.Errorf("the key in PEM %q is not an RSA key, which alone can be used for auth-method rsa-key", block.Type)
}

// parseRFC3110 reads a public key as in RFC 3110 §2: the length of the exponent in one byte, or in two
// after a zero; the exponent; the modulus.
func parseRFC3110(data []byte) (*rsa.PublicKey, error) {
	malformed := errors.New("the file is neither a key in PEM nor a public key of RFC 3110 (base64, 0x and hexadecimal, or binary)")
	raw := data
	text := strings.Join(strings.Fields(string(data)), "")
	if rest, ok := strings.CutPrefix(text, "0x"); ok {
		b, err := hex.DecodeString(rest)
		if err != nil {
			return nil, malformed
		}
		raw = b
	} else if b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "0s")); err == nil {
		raw = b
	}
	if len(raw) < 3 {
		return nil, malformed
	}
	n, raw := int(raw[0]), raw[1:]
	if n == 0 {
		n, raw = int(raw[0])<<8|int(raw[1]), raw[2:]
	}
	if n == 0 || n >= len(raw) || len(raw)-n > maxBits/8 || raw[n] == 0 {
		return nil, malformed
	}
	e := new(big.Int).SetBytes(raw[:n])
	// What crypto/rsa can use.
	if e.BitLen() > 31 || e.Bit(0) == 0 || e.Int64() < 3 {
		return nil, fmt.Errorf("the exponent %v of the RSA key is not usable, accepted: odd, 3 to %d", e, 1<<31-1)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(raw[n:]), E: int(e.Int64())}, nil
}

// PublicRFC3110 is the public key as RFC 3110 §2 has it, in base64 behind 0s: what
// leftrsasigkey and rightrsasigkey of strongSwan and Libreswan take.
func (k *Key) PublicRFC3110() []byte {
	e := big.NewInt(int64(k.Public.E)).Bytes()
	raw := append([]byte{byte(len(e))}, e...)
	raw = append(raw, k.Public.N.Bytes()...)
	var b bytes.Buffer
	b.WriteString("0s" + base64.StdEncoding.EncodeToString(raw) + "\n")
	return b.Bytes()
}
