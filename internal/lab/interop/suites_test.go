//go:build linux

package interop

// The algorithms of the matrix in the three tongues that meet here: culvert's
// configuration (which is the manual's), swanctl.conf's proposals, and what
// strongSwan reports of an SA.

type encr struct {
	ike      string // in a profile
	esp      string // in a proposal
	printed  string // in installed-sa print
	swan     string
	reported string
	bits     int
	aead     bool
}

var (
	aes128    = encr{"aes-128", "aes-128-cbc", "aes-cbc", "aes128", "AES_CBC", 128, false}
	aes192    = encr{"aes-192", "aes-192-cbc", "aes-cbc", "aes192", "AES_CBC", 192, false}
	aes256    = encr{"aes-256", "aes-256-cbc", "aes-cbc", "aes256", "AES_CBC", 256, false}
	aes128gcm = encr{"aes-128-gcm", "aes-128-gcm", "aes-gcm", "aes128gcm16", "AES_GCM_16", 128, true}
	aes192gcm = encr{"aes-192-gcm", "aes-192-gcm", "aes-gcm", "aes192gcm16", "AES_GCM_16", 192, true}
	aes256gcm = encr{"aes-256-gcm", "aes-256-gcm", "aes-gcm", "aes256gcm16", "AES_GCM_16", 256, true}
)

type hash struct {
	name  string // the manual's and strongSwan's
	integ string // reported of an SA
	prf   string
}

var (
	sha1   = hash{"sha1", "HMAC_SHA1_96", "PRF_HMAC_SHA1"}
	sha256 = hash{"sha256", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_256"}
	sha512 = hash{"sha512", "HMAC_SHA2_512_256", "PRF_HMAC_SHA2_512"}
)

type group struct {
	name     string // the manual's and strongSwan's
	reported string
}

var (
	modp2048 = group{"modp2048", "MODP_2048"}
	modp3072 = group{"modp3072", "MODP_3072"}
	ecp256   = group{"ecp256", "ECP_256"}
	ecp384   = group{"ecp384", "ECP_384"}
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
