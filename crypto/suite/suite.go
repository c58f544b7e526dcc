package suite

// TransformType is the IKEv2 transform type (RFC 7296 §3.3.2).
type TransformType uint8

// The transform types of RFC 7296; kem.go has those of RFC 9370.
const (
	TypeEncr  TransformType = 1
	TypePRF   TransformType = 2
	TypeInteg TransformType = 3
	TypeDH    TransformType = 4
	TypeESN   TransformType = 5
)

// Encr is one encryption algorithm at one key length. Lengths are in bytes.
type Encr struct {
	Name     string // canonical and ESP proposal name: "aes-128-cbc"
	IKEName  string // name in a profile's enc-algorithm: "aes-128"; empty: ESP alone has it
	SAName   string // name in installed-sa print: "aes-cbc"
	ID       uint16 // IANA IKEv2 ENCR transform ID
	KeyBits  uint16 // Key Length attribute; 0: the attribute is absent
	KeyLen   int    // key without salt
	SaltLen  int    // salt at the end of the keying material (RFC 4106 §8.1; the nonce of RFC 3686)
	IVLen    int    // IV in each packet
	Block    int    // the plaintext with its padding is a multiple of this
	ICVLen   int    // of an AEAD; 0 otherwise
	RandomIV bool   // the IV of each packet must be unpredictable (CBC)
	Weak     bool   // broken, too short for today, or on its way out; kept for peers that have nothing else
	AuthOnly bool   // an AEAD that encrypts nothing: header, IV and payload are its associated data (RFC 4543)
	V1       EncrV1 // its IKEv1 numbers
}

// AEAD reports whether the algorithm also protects integrity.
func (e *Encr) AEAD() bool { return e.ICVLen > 0 }

// Is reports whether a transform on the wire is this algorithm. Where the key has
// one length, a Key Length attribute is taken, though it ought to be absent
// (RFC 7296 §3.3.5): some send it for DES and 3DES, with parity bits or without.
func (e *Encr) Is(id, keyBits uint16) bool {
	return e.ID == id && (e.KeyBits == keyBits || e.KeyBits == 0)
}

// MaterialLen is what the key derivation has to deliver: key and salt.
func (e *Encr) MaterialLen() int { return e.KeyLen + e.SaltLen }

// Integ is one integrity algorithm as ESP, AH and IKE use it (truncated).
type Integ struct {
	Name   string // the manual's name: "sha1"
	ID     uint16 // IANA IKEv2 INTEG transform ID
	KeyLen int
	ICVLen int
	Weak   bool
	V1     IntegV1 // its IKEv1 numbers
}

// PRF is one pseudo-random function of IKEv2. Its key and output have Len bytes.
type PRF struct {
	Name string // the hash-algorithm of a profile: "sha1"
	ID   uint16
	Len  int
	Weak bool
	V1   uint16 // IKEv1 Hash Algorithm of phase 1 (RFC 2409 Appendix A); the PRF is HMAC with it
}

// Group is one Diffie-Hellman group.
type Group struct {
	Name      string // the manual's name: "modp2048"
	ID        uint16
	PublicLen int  // length of the KE payload's data
	Slow      bool // worth an Ask: nothing else may wait behind it
	Weak      bool
	OnlyV1    bool   // IKEv2 does not have the group
	V1        uint16 // IKEv1 Group Description (RFC 2409 Appendix A); 0: IKEv1 does not have the group
}

// Encrs, Integs, PRFs and Groups are the tables of both IKE versions. The order is not a preference.
// Names that end in -12 and -8 are of the same algorithm with a shorter ICV.
var (
	Encrs = []Encr{
		{Name: "aes-128-cbc", IKEName: "aes-128", SAName: "aes-cbc", ID: 12, KeyBits: 128, KeyLen: 16, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{Phase1: 7, ESP: 12}},
		{Name: "aes-192-cbc", IKEName: "aes-192", SAName: "aes-cbc", ID: 12, KeyBits: 192, KeyLen: 24, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{Phase1: 7, ESP: 12}},
		{Name: "aes-256-cbc", IKEName: "aes-256", SAName: "aes-cbc", ID: 12, KeyBits: 256, KeyLen: 32, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{Phase1: 7, ESP: 12}},
		{Name: "aes-128-ctr", SAName: "aes-ctr", ID: 13, KeyBits: 128, KeyLen: 16, SaltLen: 4, IVLen: 8, Block: 4, V1: EncrV1{ESP: 13}},
		{Name: "aes-192-ctr", SAName: "aes-ctr", ID: 13, KeyBits: 192, KeyLen: 24, SaltLen: 4, IVLen: 8, Block: 4, V1: EncrV1{ESP: 13}},
		{Name: "aes-256-ctr", SAName: "aes-ctr", ID: 13, KeyBits: 256, KeyLen: 32, SaltLen: 4, IVLen: 8, Block: 4, V1: EncrV1{ESP: 13}},
		{Name: "aes-128-gcm", IKEName: "aes-128-gcm", SAName: "aes-gcm", ID: 20, KeyBits: 128, KeyLen: 16, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16, V1: EncrV1{ESP: 20}},
		{Name: "aes-192-gcm", IKEName: "aes-192-gcm", SAName: "aes-gcm", ID: 20, KeyBits: 192, KeyLen: 24, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16, V1: EncrV1{ESP: 20}},
		{Name: "aes-256-gcm", IKEName: "aes-256-gcm", SAName: "aes-gcm", ID: 20, KeyBits: 256, KeyLen: 32, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16, V1: EncrV1{ESP: 20}},
		{Name: "aes-128-gcm-12", SAName: "aes-gcm", ID: 19, KeyBits: 128, KeyLen: 16, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 12, V1: EncrV1{ESP: 19}},
		{Name: "aes-192-gcm-12", SAName: "aes-gcm", ID: 19, KeyBits: 192, KeyLen: 24, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 12, V1: EncrV1{ESP: 19}},
		{Name: "aes-256-gcm-12", SAName: "aes-gcm", ID: 19, KeyBits: 256, KeyLen: 32, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 12, V1: EncrV1{ESP: 19}},
		{Name: "aes-128-gcm-8", SAName: "aes-gcm", ID: 18, KeyBits: 128, KeyLen: 16, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 8, V1: EncrV1{ESP: 18}},
		{Name: "aes-192-gcm-8", SAName: "aes-gcm", ID: 18, KeyBits: 192, KeyLen: 24, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 8, V1: EncrV1{ESP: 18}},
		{Name: "aes-256-gcm-8", SAName: "aes-gcm", ID: 18, KeyBits: 256, KeyLen: 32, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 8, V1: EncrV1{ESP: 18}},
		{Name: "aes-128-ccm", SAName: "aes-ccm", ID: 16, KeyBits: 128, KeyLen: 16, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 16, V1: EncrV1{ESP: 16}},
		{Name: "aes-192-ccm", SAName: "aes-ccm", ID: 16, KeyBits: 192, KeyLen: 24, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 16, V1: EncrV1{ESP: 16}},
		{Name: "aes-256-ccm", SAName: "aes-ccm", ID: 16, KeyBits: 256, KeyLen: 32, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 16, V1: EncrV1{ESP: 16}},
		{Name: "aes-128-ccm-12", SAName: "aes-ccm", ID: 15, KeyBits: 128, KeyLen: 16, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 12, V1: EncrV1{ESP: 15}},
		{Name: "aes-192-ccm-12", SAName: "aes-ccm", ID: 15, KeyBits: 192, KeyLen: 24, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 12, V1: EncrV1{ESP: 15}},
		{Name: "aes-256-ccm-12", SAName: "aes-ccm", ID: 15, KeyBits: 256, KeyLen: 32, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 12, V1: EncrV1{ESP: 15}},
		{Name: "aes-128-ccm-8", SAName: "aes-ccm", ID: 14, KeyBits: 128, KeyLen: 16, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 8, V1: EncrV1{ESP: 14}},
		{Name: "aes-192-ccm-8", SAName: "aes-ccm", ID: 14, KeyBits: 192, KeyLen: 24, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 8, V1: EncrV1{ESP: 14}},
		{Name: "aes-256-ccm-8", SAName: "aes-ccm", ID: 14, KeyBits: 256, KeyLen: 32, SaltLen: 3, IVLen: 8, Block: 4, ICVLen: 8, V1: EncrV1{ESP: 14}},
		{Name: "aes-128-gmac", SAName: "aes-gmac", ID: 21, KeyBits: 128, KeyLen: 16, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16, AuthOnly: true, V1: EncrV1{ESP: 23}},
		{Name: "aes-192-gmac", SAName: "aes-gmac", ID: 21, KeyBits: 192, KeyLen: 24, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16, AuthOnly: true, V1: EncrV1{ESP: 23}},
		{Name: "aes-256-gmac", SAName: "aes-gmac", ID: 21, KeyBits: 256, KeyLen: 32, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16, AuthOnly: true, V1: EncrV1{ESP: 23}},
		{Name: "chacha20-poly1305", IKEName: "chacha20-poly1305", SAName: "chacha20-poly1305", ID: 28, KeyLen: 32, SaltLen: 4, IVLen: 8, Block: 4, ICVLen: 16},
		{Name: "camellia-128", IKEName: "camellia-128", SAName: "camellia", ID: 23, KeyBits: 128, KeyLen: 16, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{Phase1: 8, ESP: 22}},
		{Name: "camellia-192", IKEName: "camellia-192", SAName: "camellia", ID: 23, KeyBits: 192, KeyLen: 24, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{Phase1: 8, ESP: 22}},
		{Name: "camellia-256", IKEName: "camellia-256", SAName: "camellia", ID: 23, KeyBits: 256, KeyLen: 32, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{Phase1: 8, ESP: 22}},
		// IANA has no numbers for Twofish: these are strongSwan's, of the private use ranges.
		{Name: "twofish", SAName: "twofish", ID: 1027, KeyBits: 128, KeyLen: 16, IVLen: 16, Block: 16, RandomIV: true, V1: EncrV1{ESP: 253}},
		{Name: "blowfish", IKEName: "blowfish", SAName: "blowfish", ID: 7, KeyBits: 128, KeyLen: 16, IVLen: 8, Block: 8, RandomIV: true, Weak: true, V1: EncrV1{Phase1: 3, ESP: 7}},
		{Name: "blowfish-256", IKEName: "blowfish-256", SAName: "blowfish", ID: 7, KeyBits: 256, KeyLen: 32, IVLen: 8, Block: 8, RandomIV: true, Weak: true, V1: EncrV1{Phase1: 3, ESP: 7}},
		{Name: "3des", IKEName: "3des", SAName: "3des", ID: 3, KeyLen: 24, IVLen: 8, Block: 8, RandomIV: true, Weak: true, V1: EncrV1{Phase1: 5, ESP: 3}},
		{Name: "des", IKEName: "des", SAName: "des", ID: 2, KeyLen: 8, IVLen: 8, Block: 8, RandomIV: true, Weak: true, V1: EncrV1{Phase1: 1, ESP: 2}},
		{Name: "null", SAName: "null", ID: 11, Block: 1, Weak: true, V1: EncrV1{ESP: 11}},
	}
	// SHA-1 is not broken in HMAC, but nobody who has a choice is to choose it (RFC 8247
	// §2.2 and §2.3, RFC 8221 §6: MUST-).
	Integs = []Integ{
		{Name: "md5", ID: 1, KeyLen: 16, ICVLen: 12, Weak: true, V1: IntegV1{ESP: 1, AH: 2}},
		{Name: "sha1", ID: 2, KeyLen: 20, ICVLen: 12, Weak: true, V1: IntegV1{ESP: 2, AH: 3}},
		{Name: "sha256", ID: 12, KeyLen: 32, ICVLen: 16, V1: IntegV1{ESP: 5, AH: 5}},
		// As Linux before 2.6.33 had it, and what copied that: ICVs of 12 bytes under the numbers of sha256, which is the one that a number means.
		{Name: "sha256-96", ID: 12, KeyLen: 32, ICVLen: 12, V1: IntegV1{ESP: 5, AH: 5}},
		{Name: "sha384", ID: 13, KeyLen: 48, ICVLen: 24, V1: IntegV1{ESP: 6, AH: 6}},
		{Name: "sha512", ID: 14, KeyLen: 64, ICVLen: 32, V1: IntegV1{ESP: 7, AH: 7}},
	}
	PRFs = []PRF{
		{Name: "md5", ID: 1, Len: 16, Weak: true, V1: 1},
		{Name: "sha1", ID: 2, Len: 20, Weak: true, V1: 2},
		{Name: "sha256", ID: 5, Len: 32, V1: 4},
		{Name: "sha384", ID: 6, Len: 48, V1: 5},
		{Name: "sha512", ID: 7, Len: 64, V1: 6},
	}
	Groups = []Group{
		{Name: "modp768", ID: 1, PublicLen: 96, Slow: true, Weak: true, V1: 1},
		{Name: "modp1024", ID: 2, PublicLen: 128, Slow: true, Weak: true, V1: 2},
		// IKEv2 reserves the numbers of these two and has no such groups.
		{Name: "ec2n155", ID: 3, PublicLen: 20, Slow: true, Weak: true, OnlyV1: true, V1: 3},
		{Name: "ec2n185", ID: 4, PublicLen: 24, Slow: true, Weak: true, OnlyV1: true, V1: 4},
		{Name: "modp1536", ID: 5, PublicLen: 192, Slow: true, Weak: true, V1: 5},
		{Name: "modp2048", ID: 14, PublicLen: 256, Slow: true, V1: 14},
		{Name: "modp3072", ID: 15, PublicLen: 384, Slow: true, V1: 15},
		{Name: "modp4096", ID: 16, PublicLen: 512, Slow: true, V1: 16},
		{Name: "modp6144", ID: 17, PublicLen: 768, Slow: true, V1: 17},
		{Name: "modp8192", ID: 18, PublicLen: 1024, Slow: true, V1: 18},
		{Name: "ecp256", ID: 19, PublicLen: 64, V1: 19},
		{Name: "ecp384", ID: 20, PublicLen: 96, V1: 20},
		{Name: "ecp521", ID: 21, PublicLen: 132, Slow: true, V1: 21},
		{Name: "x25519", ID: 31, PublicLen: 32},
	}
)

// EncrByName finds an ESP algorithm by its proposal name; nil if there is none.
func EncrByName(name string) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.Name == name })
}

// EncrByIKEName finds an IKE algorithm by its profile name; nil if there is none.
func EncrByIKEName(name string) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.IKEName == name && name != "" })
}

// EncrByID finds an algorithm by what stands on the wire; nil if there is none.
func EncrByID(id, keyBits uint16) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.Is(id, keyBits) })
}

// IntegByName finds an integrity algorithm by the manual's name; nil if there is none.
func IntegByName(name string) *Integ {
	return find(Integs, func(a *Integ) bool { return a.Name == name })
}

// IntegByID finds an integrity algorithm by its IKEv2 number; nil if there is none.
func IntegByID(id uint16) *Integ { return find(Integs, func(a *Integ) bool { return a.ID == id }) }

// PRFByName finds a PRF by the manual's name of its hash; nil if there is none.
func PRFByName(name string) *PRF { return find(PRFs, func(p *PRF) bool { return p.Name == name }) }

// PRFByID finds a PRF by its IKEv2 number; nil if there is none.
func PRFByID(id uint16) *PRF { return find(PRFs, func(p *PRF) bool { return p.ID == id }) }

// GroupByName finds a group by the manual's name; nil if there is none.
func GroupByName(name string) *Group {
	return find(Groups, func(g *Group) bool { return g.Name == name })
}

// GroupByID finds a group by its IKEv2 number; nil if there is none.
func GroupByID(id uint16) *Group { return find(Groups, func(g *Group) bool { return g.ID == id }) }

func find[T any](table []T, is func(*T) bool) *T {
	for i := range table {
		if is(&table[i]) {
			return &table[i]
		}
	}
	return nil
}
