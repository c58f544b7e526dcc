//go:build linux

package interop

import (
	"fmt"
	"strings"

	"culvert/internal/testing/lab"
)

// The algorithms of the matrix in the three tongues that meet here: culvert's
// configuration (which is the manual's), swanctl.conf's proposals, and what
// strongSwan reports of an SA.

type encr struct {
	ike      string // in a profile
	esp      string // in a proposal
	printed  string // in installed-sa print
	swan     string
	reported string
	bits     int // reported; 0 where strongSwan knows one length only
	aead     bool
}

// keySize is what installed-sa print says, in bits.
func (e encr) keySize() int {
	fixed := map[encr]int{chacha: 256, tripleDES: 192, des: 64}
	if bits, ok := fixed[e]; ok {
		return bits
	}
	return e.bits
}

var (
	aes128    = encr{"aes-128", "aes-128-cbc", "aes-cbc", "aes128", "AES_CBC", 128, false}
	aes192    = encr{"aes-192", "aes-192-cbc", "aes-cbc", "aes192", "AES_CBC", 192, false}
	aes256    = encr{"aes-256", "aes-256-cbc", "aes-cbc", "aes256", "AES_CBC", 256, false}
	aes128gcm = encr{"aes-128-gcm", "aes-128-gcm", "aes-gcm", "aes128gcm16", "AES_GCM_16", 128, true}
	aes192gcm = encr{"aes-192-gcm", "aes-192-gcm", "aes-gcm", "aes192gcm16", "AES_GCM_16", 192, true}
	aes256gcm = encr{"aes-256-gcm", "aes-256-gcm", "aes-gcm", "aes256gcm16", "AES_GCM_16", 256, true}

	aes128ctr = encr{"", "aes-128-ctr", "aes-ctr", "aes128ctr", "AES_CTR", 128, false}
	aes192ctr = encr{"", "aes-192-ctr", "aes-ctr", "aes192ctr", "AES_CTR", 192, false}
	aes256ctr = encr{"", "aes-256-ctr", "aes-ctr", "aes256ctr", "AES_CTR", 256, false}

	chacha      = encr{"chacha20-poly1305", "chacha20-poly1305", "chacha20-poly1305", "chacha20poly1305", "CHACHA20_POLY1305", 0, true}
	camellia128 = encr{"camellia-128", "camellia-128", "camellia", "camellia128", "CAMELLIA_CBC", 128, false}
	camellia192 = encr{"camellia-192", "camellia-192", "camellia", "camellia192", "CAMELLIA_CBC", 192, false}
	camellia256 = encr{"camellia-256", "camellia-256", "camellia", "camellia256", "CAMELLIA_CBC", 256, false}
	blowfish    = encr{"blowfish", "blowfish", "blowfish", "blowfish128", "BLOWFISH_CBC", 128, false}
	twofish     = encr{"", "twofish", "twofish", "twofish128", "TWOFISH_CBC", 128, false}
	tripleDES   = encr{"3des", "3des", "3des", "3des", "3DES_CBC", 0, false}
	des         = encr{"des", "des", "des", "des", "DES_CBC", 0, false}
	null        = encr{"", "null", "null", "null", "NULL", 0, false}
)

// shortICV is AES in an AEAD mode of ESP, "gcm" or "ccm", with an ICV of that many bytes.
func shortICV(bits int, mode string, icv int) encr {
	e := encr{
		esp:      fmt.Sprintf("aes-%d-%s-%d", bits, mode, icv),
		printed:  "aes-" + mode,
		swan:     fmt.Sprintf("aes%d%s%d", bits, mode, icv),
		reported: fmt.Sprintf("AES_%s_%d", strings.ToUpper(mode), icv),
		bits:     bits, aead: true,
	}
	e.esp = strings.TrimSuffix(e.esp, "-16") // the usual length has no suffix
	return e
}

type hash struct {
	name  string // the manual's and strongSwan's
	integ string // reported of an SA
	prf   string
}

var (
	md5    = hash{"md5", "HMAC_MD5_96", "PRF_HMAC_MD5"}
	sha1   = hash{"sha1", "HMAC_SHA1_96", "PRF_HMAC_SHA1"}
	sha256 = hash{"sha256", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_256"}
	sha384 = hash{"sha384", "HMAC_SHA2_384_192", "PRF_HMAC_SHA2_384"}
	sha512 = hash{"sha512", "HMAC_SHA2_512_256", "PRF_HMAC_SHA2_512"}
)

type group struct {
	name     string // the manual's and strongSwan's
	reported string
}

var (
	modp768  = group{"modp768", "MODP_768"}
	modp1024 = group{"modp1024", "MODP_1024"}
	modp1536 = group{"modp1536", "MODP_1536"}
	modp2048 = group{"modp2048", "MODP_2048"}
	modp3072 = group{"modp3072", "MODP_3072"}
	modp4096 = group{"modp4096", "MODP_4096"}
	modp6144 = group{"modp6144", "MODP_6144"}
	modp8192 = group{"modp8192", "MODP_8192"}
	ecp256   = group{"ecp256", "ECP_256"}
	ecp384   = group{"ecp384", "ECP_384"}
	ecp521   = group{"ecp521", "ECP_521"}
	x25519   = group{"x25519", "CURVE_25519"}
	noPFS    = group{"none", ""}
)

// ikeSuite is what an IKE SA is made of. With an AEAD the hash is the PRF's alone.
type ikeSuite struct {
	encr encr
	hash hash
	dh   group
}

func (s ikeSuite) String() string { return s.encr.ike + " " + s.hash.name + " " + s.dh.name }

// proposal is the suite as swanctl.conf writes it.
func (s ikeSuite) proposal() string {
	if s.encr.aead {
		return s.encr.swan + "-prf" + s.hash.name + "-" + s.dh.name
	}
	return s.encr.swan + "-" + s.hash.name + "-" + s.dh.name
}

// reported compares an IKE SA, as strongSwan reports it, with the suite.
func (s ikeSuite) reported(sa lab.IKESA) error {
	integ := s.hash.integ
	if s.encr.aead {
		integ = ""
	}
	want := [...]any{s.encr.reported, s.encr.bits, integ, s.hash.prf, s.dh.reported}
	if got := [...]any{sa.Encr, sa.KeySize, sa.Integ, sa.PRF, sa.DH}; got != want {
		return fmt.Errorf("strongSwan's IKE SA has %v, wanted %v", got, want)
	}
	return nil
}

// espSuite is what a CHILD SA is made of. With an AEAD the hash is unused.
type espSuite struct {
	encr encr
	hash hash
	pfs  group
}

func (s espSuite) String() string {
	name := s.encr.esp
	if !s.encr.aead {
		name += " " + s.hash.name
	}
	if s.pfs != noPFS {
		name += " pfs " + s.pfs.name
	}
	return name
}

// authAlgorithms is the suite's auth-algorithms in a culvert proposal; empty
// with an AEAD, which does not use them.
func (s espSuite) authAlgorithms() string {
	if s.encr.aead {
		return ""
	}
	return s.hash.name
}

// proposal is the suite as swanctl.conf writes it.
func (s espSuite) proposal() string {
	p := s.encr.swan
	if !s.encr.aead {
		p += "-" + s.hash.name
	}
	if s.pfs != noPFS {
		p += "-" + s.pfs.name
	}
	return p
}

// integ is the integrity algorithm that strongSwan reports of the SA.
func (s espSuite) integ() string {
	if s.encr.aead {
		return ""
	}
	return s.hash.integ
}

// reported compares a CHILD SA, as strongSwan reports it, with the suite; dh is
// the group of the exchange that made it, empty in IKE_AUTH.
func (s espSuite) reported(sa lab.ChildSA, dh string) error {
	want := [...]any{"TUNNEL", "ESP", s.encr.reported, s.encr.bits, s.integ(), dh}
	if got := [...]any{sa.Mode, sa.Protocol, sa.Encr, sa.KeySize, sa.Integ, sa.DH}; got != want {
		return fmt.Errorf("strongSwan's CHILD SA has %v, wanted %v", got, want)
	}
	return nil
}
