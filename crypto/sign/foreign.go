package sign

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// foreign are signature algorithms and hashes that are no rows of Schemes, under
// the names that people know them by. Refusals name them.
var foreign = map[string]string{
	"1.2.840.113549.1.1.2":   "RSA with MD2",
	"1.2.840.113549.1.1.4":   "RSA with MD5",
	"1.2.840.113549.1.1.5":   "RSA with SHA-1",
	"1.3.14.3.2.29":          "RSA with SHA-1",
	"1.2.840.113549.1.1.14":  "RSA with SHA-224",
	"1.2.840.10040.4.3":      "DSA with SHA-1",
	"2.16.840.1.101.3.4.3.1": "DSA with SHA-224",
	"2.16.840.1.101.3.4.3.2": "DSA with SHA-256",
	"1.2.840.10045.4.1":      "ECDSA with SHA-1",
	"1.2.840.10045.4.3.1":    "ECDSA with SHA-224",

	// SHA-3 (NIST CSOR) and SHAKE (RFC 8692).
	"2.16.840.1.101.3.4.3.5":  "DSA with SHA3-224",
	"2.16.840.1.101.3.4.3.6":  "DSA with SHA3-256",
	"2.16.840.1.101.3.4.3.7":  "DSA with SHA3-384",
	"2.16.840.1.101.3.4.3.8":  "DSA with SHA3-512",
	"2.16.840.1.101.3.4.3.9":  "ECDSA with SHA3-224",
	"2.16.840.1.101.3.4.3.10": "ECDSA with SHA3-256",
	"2.16.840.1.101.3.4.3.11": "ECDSA with SHA3-384",
	"2.16.840.1.101.3.4.3.12": "ECDSA with SHA3-512",
	"2.16.840.1.101.3.4.3.13": "RSA with SHA3-224",
	"2.16.840.1.101.3.4.3.14": "RSA with SHA3-256",
	"2.16.840.1.101.3.4.3.15": "RSA with SHA3-384",
	"2.16.840.1.101.3.4.3.16": "RSA with SHA3-512",
	"1.3.6.1.5.5.7.6.30":      "RSASSA-PSS with SHAKE128",
	"1.3.6.1.5.5.7.6.31":      "RSASSA-PSS with SHAKE256",
	"1.3.6.1.5.5.7.6.32":      "ECDSA with SHAKE128",
	"1.3.6.1.5.5.7.6.33":      "ECDSA with SHAKE256",

	// Hashes, in the parameters of RSASSA-PSS.
	"1.2.840.113549.2.5":      "MD5",
	"1.3.14.3.2.26":           "SHA-1",
	"2.16.840.1.101.3.4.2.4":  "SHA-224",
	"2.16.840.1.101.3.4.2.7":  "SHA3-224",
	"2.16.840.1.101.3.4.2.8":  "SHA3-256",
	"2.16.840.1.101.3.4.2.9":  "SHA3-384",
	"2.16.840.1.101.3.4.2.10": "SHA3-512",

	"1.3.101.113":           "Ed448",
	"1.2.156.10197.1.501":   "SM2 with SM3",
	"1.2.643.7.1.1.3.2":     "GOST R 34.10-2012 with Streebog-256",
	"1.2.643.7.1.1.3.3":     "GOST R 34.10-2012 with Streebog-512",
	"1.2.840.113549.1.1.10": "RSASSA-PSS",
}

// nameOID is an OID, given as its contents octets, for people.
func nameOID(contents string) string {
	var oid asn1.ObjectIdentifier
	var b cryptobyte.Builder
	addOID(&b, contents)
	in := cryptobyte.String(b.BytesOrPanic())
	if !in.ReadASN1ObjectIdentifier(&oid) {
		return fmt.Sprintf("%x", contents)
	}
	if name, ok := foreign[oid.String()]; ok {
		return name
	}
	return oid.String()
}

// AlgorithmName names the algorithm of a signature by its AlgorithmIdentifier in
// DER, whether it is supported or not: "RSA with SHA3-256".
func AlgorithmName(der []byte) string {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	in.ReadASN1(&seq, tags.SEQUENCE) // else it is empty, and has no OID
	oid, rest, err := readAlgorithm(seq)
	if err != nil {
		return "unknown"
	}
	if s, err := ParseAlgorithm(der); err == nil {
		return s.Name
	}
	if oid != oidPSS {
		return nameOID(oid)
	}
	hash := "SHA-1" // the default (RFC 4055 §3.1)
	var params, field cryptobyte.String
	var has bool
	if rest.ReadASN1(&params, tags.SEQUENCE) && params.ReadOptionalASN1(&field, &has, context(0)) && has && field.ReadASN1(&seq, tags.SEQUENCE) {
		if id, _, err := readAlgorithm(seq); err == nil {
			hash = nameOID(id)
		}
	}
	return "RSASSA-PSS with " + hash
}
