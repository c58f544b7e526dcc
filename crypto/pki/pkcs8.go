package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Encrypted PKCS#8 keys (RFC 5958 §3) with PBES2 (RFC 8018 §6.2), as openssl and
// RouterOS write them:
//
//	SEQUENCE { SEQUENCE { pbes2, SEQUENCE { kdf AlgorithmIdentifier, cipher AlgorithmIdentifier } }, OCTET STRING }

// ErrPassphrase is that of an encrypted key or file.
var ErrPassphrase = errors.New("the passphrase is wrong")

// ErrNoPassphrase is that of an encrypted key or file without one.
var ErrNoPassphrase = errors.New("it is encrypted: name the file with its passphrase")

const (
	oidPBES2  = "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d"
	oidPBKDF2 = "\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c"
)

var pbkdf2Hashes = map[string]func() hash.Hash{
	"":                                 sha1.New, // the default
	"\x2a\x86\x48\x86\xf7\x0d\x02\x07": sha1.New,
	"\x2a\x86\x48\x86\xf7\x0d\x02\x09": sha256.New,
	"\x2a\x86\x48\x86\xf7\x0d\x02\x0a": sha512.New384,
	"\x2a\x86\x48\x86\xf7\x0d\x02\x0b": sha512.New,
}

var pbes2Ciphers = map[string]struct {
	key int
	new func([]byte) (cipher.Block, error)
}{
	"\x60\x86\x48\x01\x65\x03\x04\x01\x02": {16, aes.NewCipher},
	"\x60\x86\x48\x01\x65\x03\x04\x01\x16": {24, aes.NewCipher},
	"\x60\x86\x48\x01\x65\x03\x04\x01\x2a": {32, aes.NewCipher},
	"\x2a\x86\x48\x86\xf7\x0d\x03\x07":     {24, des.NewTripleDESCipher},
}

// algorithm reads an AlgorithmIdentifier: its OID and what stands behind it.
func algorithm(in *cryptobyte.String) (oid string, params cryptobyte.String, ok bool) {
	var seq, id cryptobyte.String
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) {
		return "", nil, false
	}
	return string(id), seq, true
}

func decryptPKCS8(der, passphrase []byte, limit int) ([]byte, error) {
	bad := errors.New("the encrypted private key cannot be read")
	if len(passphrase) == 0 {
		return nil, ErrNoPassphrase
	}
	in := cryptobyte.String(der)
	var outer, scheme, kdf, salt cryptobyte.String
	var data []byte
	if !in.ReadASN1(&outer, asn1.SEQUENCE) {
		return nil, bad
	}
	oid, params, ok := algorithm(&outer)
	if !ok || !outer.ReadASN1Bytes(&data, asn1.OCTET_STRING) {
		return nil, bad
	}
	if oid != oidPBES2 {
		return nil, errors.New("the private key is encrypted in a way that is not supported: convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc")
	}
	if !params.ReadASN1(&scheme, asn1.SEQUENCE) {
		return nil, bad
	}
	oid, kdf, _ = algorithm(&scheme)
	if oid != oidPBKDF2 {
		return nil, fmt.Errorf("the private key is encrypted with a key derivation that is not PBKDF2: convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc")
	}
	cipherID, iv, ok := algorithm(&scheme)
	enc, known := pbes2Ciphers[cipherID]
	var vector []byte
	if !ok || !known || !iv.ReadASN1Bytes(&vector, asn1.OCTET_STRING) {
		return nil, fmt.Errorf("the private key is encrypted with the cipher %x, accepted: AES-CBC and 3DES-CBC", cipherID)
	}
	var kdfParams cryptobyte.String
	iterations := 0
	if !kdf.ReadASN1(&kdfParams, asn1.SEQUENCE) || !kdfParams.ReadASN1(&salt, asn1.OCTET_STRING) ||
		!kdfParams.ReadASN1Integer(&iterations) || iterations < 1 {
		return nil, bad
	}
	if iterations > limit {
		return nil, errIterations
	}
	length := 0
	if kdfParams.PeekASN1Tag(asn1.INTEGER) && !kdfParams.ReadASN1Integer(&length) {
		return nil, bad
	}
	prf := ""
	if !kdfParams.Empty() {
		if prf, _, ok = algorithm(&kdfParams); !ok {
			return nil, bad
		}
	}
	h := pbkdf2Hashes[prf]
	if h == nil || length != 0 && length != enc.key {
		return nil, bad
	}
	key, err := pbkdf2.Key(h, string(passphrase), salt, iterations, enc.key)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := enc.new(key)
	if err != nil || len(vector) != block.BlockSize() || len(data) == 0 || len(data)%block.BlockSize() != 0 {
		return nil, bad
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, vector).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > block.BlockSize() {
		return nil, ErrPassphrase
	}
	return plain[:len(plain)-pad], nil
}
