package sign

import (
	"strings"
	"testing"
)

// What is not supported is refused by its name, whether a peer signs with it or a
// certificate is signed with it.
func TestForeignAlgorithms(t *testing.T) {
	for der, name := range map[string]string{
		"300b 0609 6086 4801 6503 0403 0a":      "ECDSA with SHA3-256",
		"300d 0609 6086 4801 6503 0403 0e 0500": "RSA with SHA3-256",
		"300b 0609 6086 4801 6503 0403 10":      "RSA with SHA3-512",
		"300a 0608 2b06 0105 0507 061f":         "RSASSA-PSS with SHAKE256",
		"3005 0603 2b65 71":                     "Ed448",
		"300d 0609 2a86 4886 f70d 0101 0e 0500": "RSA with SHA-224",
		"300d 0609 2a86 4886 f70d 0101 05 0500": "RSA with SHA-1",
		"3009 0607 2a86 48ce 3d04 01":           "ECDSA with SHA-1",
		"3003 0601 2a":                          "1.2",
		"3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0209 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0209 0500 a203 0201 30": "RSASSA-PSS with SHA3-384",
	} {
		b := unhex(t, der)
		if got := AlgorithmName(b); got != name {
			t.Errorf("%s is called %s, want %s", der, got, name)
		}
		hash := name[strings.LastIndexByte(name, ' ')+1:]
		if _, err := ParseAlgorithm(b); err == nil || !strings.Contains(err.Error(), hash) {
			t.Errorf("%s is refused for %v, want %s", der, err, hash)
		}
		if _, _, err := ParseDigital(append(append([]byte{byte(len(b))}, b...), "signature"...)); err == nil || !strings.Contains(err.Error(), hash) {
			t.Errorf("%s of a peer is refused for %v, want %s", der, err, hash)
		}
	}
	for _, s := range Schemes {
		if s.Method == 0 && AlgorithmName(s.Algorithm()) != s.Name {
			t.Errorf("%s is called %s", s.Name, AlgorithmName(s.Algorithm()))
		}
	}
	if got := AlgorithmName([]byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x00}); got != "RSASSA-PSS with SHA-1" {
		t.Errorf("RSASSA-PSS without parameters is called %s", got)
	}
	for _, bad := range [][]byte{nil, {0x30}, {0x30, 0}, {5, 0}} {
		if got := AlgorithmName(bad); got != "unknown" {
			t.Errorf("%x is called %s", bad, got)
		}
	}
}
