package sign

import (
	"crypto"
	_ "crypto/sha1" // of the hashes in the table
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Family is what kind of key a scheme needs.
type Family uint8

const (
	RSA     Family = iota // RSASSA-PKCS1-v1_5
	RSAPSS                // RSASSA-PSS, with MGF1 over the same hash
	ECDSA                 // signature as DER of r and s, as in certificates
	ECDSARS               // signature as r || s, each as long as the field (RFC 4754)
	Ed25519               // PureEdDSA (RFC 8420)
)

// HashID is an IKEv2 hash algorithm of the SIGNATURE_HASH_ALGORITHMS notify
// (IANA, RFC 7427 §7, RFC 8420 §2).
type HashID uint16

// The hash algorithms by their IANA numbers.
const (
	SHA1     HashID = 1
	SHA256   HashID = 2
	SHA384   HashID = 3
	SHA512   HashID = 4
	Identity HashID = 5 // the scheme hashes for itself
)

// Hashes are those that we announce: all that a signature may use here. SHA-1
// is only for peers that know no better and have no way to say so.
var Hashes = []HashID{SHA256, SHA384, SHA512, Identity}

// Methods of the AUTH payload that are signatures (RFC 7296 §3.8, RFC 4754,
// RFC 7427).
const (
	MethodRSA      = 1
	MethodECDSA256 = 9
	MethodECDSA384 = 10
	MethodECDSA521 = 11
	MethodDigital  = 14
)

// Scheme is one way to sign.
type Scheme struct {
	Name   string
	Family Family
	Hash   crypto.Hash // 0 with Identity
	HashID HashID
	// Curve is the size in bits of the only field that the scheme goes with; 0: any.
	Curve int
	// Method is the AUTH method that means this scheme alone; 0: the scheme is
	// named by its AlgorithmIdentifier, under MethodDigital.
	Method uint8
	oid    string // of the AlgorithmIdentifier, contents octets
	params params // what stands beside the OID
}

// params of an AlgorithmIdentifier.
type params uint8

const (
	absent params = iota
	null
	pss
)

// Contents octets of the OIDs.
const (
	oidSHA1RSA     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
	oidSHA256RSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	oidSHA384RSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
	oidSHA512RSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"
	oidPSS         = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"
	oidMGF1        = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"
	oidECDSASHA256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidECDSASHA384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidECDSASHA512 = "\x2a\x86\x48\xce\x3d\x04\x03\x04"
	oidEd25519     = "\x2b\x65\x70"
	oidHashSHA256  = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	oidHashSHA384  = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidHashSHA512  = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"
)

// Schemes is the table. Of those that fit a key and a peer the first is used.
var Schemes = []Scheme{
	{Name: "rsa-sha256", Family: RSA, Hash: crypto.SHA256, HashID: SHA256, oid: oidSHA256RSA, params: null},
	{Name: "rsa-sha512", Family: RSA, Hash: crypto.SHA512, HashID: SHA512, oid: oidSHA512RSA, params: null},
	{Name: "rsa-sha384", Family: RSA, Hash: crypto.SHA384, HashID: SHA384, oid: oidSHA384RSA, params: null},
	{Name: "rsa-pss-sha256", Family: RSAPSS, Hash: crypto.SHA256, HashID: SHA256, oid: oidPSS, params: pss},
	{Name: "rsa-pss-sha512", Family: RSAPSS, Hash: crypto.SHA512, HashID: SHA512, oid: oidPSS, params: pss},
	{Name: "rsa-pss-sha384", Family: RSAPSS, Hash: crypto.SHA384, HashID: SHA384, oid: oidPSS, params: pss},
	{Name: "ecdsa-sha256", Family: ECDSA, Hash: crypto.SHA256, HashID: SHA256, oid: oidECDSASHA256},
	{Name: "ecdsa-sha384", Family: ECDSA, Hash: crypto.SHA384, HashID: SHA384, oid: oidECDSASHA384},
	{Name: "ecdsa-sha512", Family: ECDSA, Hash: crypto.SHA512, HashID: SHA512, oid: oidECDSASHA512},
	{Name: "ed25519", Family: Ed25519, HashID: Identity, oid: oidEd25519},

	// For peers without RFC 7427. SHA-1 is what RFC 7296 §3.8 asks for.
	{Name: "rsa-sha1", Family: RSA, Hash: crypto.SHA1, HashID: SHA1, Method: MethodRSA, oid: oidSHA1RSA, params: null},
	{Name: "ecdsa-256", Family: ECDSARS, Hash: crypto.SHA256, HashID: SHA256, Curve: 256, Method: MethodECDSA256},
	{Name: "ecdsa-384", Family: ECDSARS, Hash: crypto.SHA384, HashID: SHA384, Curve: 384, Method: MethodECDSA384},
	{Name: "ecdsa-521", Family: ECDSARS, Hash: crypto.SHA512, HashID: SHA512, Curve: 521, Method: MethodECDSA521},
}

// pssHashes are the hashes of RSASSA-PSS parameters.
var pssHashes = map[crypto.Hash]string{
	crypto.SHA256: oidHashSHA256, crypto.SHA384: oidHashSHA384, crypto.SHA512: oidHashSHA512,
}

// bare are the signature schemes of IKEv1. What they sign is a hash already: an RSA signature contains it as it is,
// without DigestInfo (RFC 2409 §5.1), and with ECDSA it is what is signed (RFC 4754 §3).
var bare = []Scheme{
	{Name: "rsa", Family: RSA},
	{Name: "ecdsa-256", Family: ECDSARS, Curve: 256},
	{Name: "ecdsa-384", Family: ECDSARS, Curve: 384},
	{Name: "ecdsa-521", Family: ECDSARS, Curve: 521},
}

// Bare is the scheme of IKEv1 that goes with a key; nil: there is none.
func Bare(public crypto.PublicKey) *Scheme {
	for i := range bare {
		if bare[i].Fits(public) {
			return &bare[i]
		}
	}
	return nil
}

// ByName is the row of a name; nil if there is none.
func ByName(name string) *Scheme {
	for i := range Schemes {
		if Schemes[i].Name == name {
			return &Schemes[i]
		}
	}
	return nil
}
