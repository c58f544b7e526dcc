package suite

// TransformType is the IKEv2 transform type (RFC 7296 §3.3.2).
type TransformType uint8

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
	Explicit bool   // the IV of each packet must be unpredictable (CBC)
	Weak     bool   // broken, too short for today, or on its way out; kept for peers that have nothing else
	AuthOnly bool   // an AEAD that encrypts nothing: header, IV and payload are its associated data (RFC 4543)
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
}

// PRF is one pseudo-random function of IKEv2. Its key and output have Len bytes.
type PRF struct {
	Name string // the hash-algorithm of a profile: "sha1"
	ID   uint16
	Len  int
	Weak bool
}

// Group is one Diffie-Hellman group.
type Group struct {
	Name      string // the manual's name: "modp2048"
	ID        uint16
	PublicLen int  // length of the KE payload's data
	Slow      bool // worth an Ask: nothing else may wait behind it
	Weak      bool
}

// Encrs, Integs, PRFs and Groups are the tables. The order is not a preference.
// Names that end in -12 and -8 are of the same algorithm with a shorter ICV.
var (
	Encrs = []Encr{
		{"aes-128-cbc", "aes-128", "aes-cbc", 12, 128, 16, 0, 16, 16, 0, true, false, false},
		{"aes-192-cbc", "aes-192", "aes-cbc", 12, 192, 24, 0, 16, 16, 0, true, false, false},
		{"aes-256-cbc", "aes-256", "aes-cbc", 12, 256, 32, 0, 16, 16, 0, true, false, false},
		{"aes-128-ctr", "", "aes-ctr", 13, 128, 16, 4, 8, 4, 0, false, false, false},
		{"aes-192-ctr", "", "aes-ctr", 13, 192, 24, 4, 8, 4, 0, false, false, false},
		{"aes-256-ctr", "", "aes-ctr", 13, 256, 32, 4, 8, 4, 0, false, false, false},
		{"aes-128-gcm", "aes-128-gcm", "aes-gcm", 20, 128, 16, 4, 8, 4, 16, false, false, false},
		{"aes-192-gcm", "aes-192-gcm", "aes-gcm", 20, 192, 24, 4, 8, 4, 16, false, false, false},
		{"aes-256-gcm", "aes-256-gcm", "aes-gcm", 20, 256, 32, 4, 8, 4, 16, false, false, false},
		{"aes-128-gcm-12", "", "aes-gcm", 19, 128, 16, 4, 8, 4, 12, false, false, false},
		{"aes-192-gcm-12", "", "aes-gcm", 19, 192, 24, 4, 8, 4, 12, false, false, false},
		{"aes-256-gcm-12", "", "aes-gcm", 19, 256, 32, 4, 8, 4, 12, false, false, false},
		{"aes-128-gcm-8", "", "aes-gcm", 18, 128, 16, 4, 8, 4, 8, false, false, false},
		{"aes-192-gcm-8", "", "aes-gcm", 18, 192, 24, 4, 8, 4, 8, false, false, false},
		{"aes-256-gcm-8", "", "aes-gcm", 18, 256, 32, 4, 8, 4, 8, false, false, false},
		{"aes-128-ccm", "", "aes-ccm", 16, 128, 16, 3, 8, 4, 16, false, false, false},
		{"aes-192-ccm", "", "aes-ccm", 16, 192, 24, 3, 8, 4, 16, false, false, false},
		{"aes-256-ccm", "", "aes-ccm", 16, 256, 32, 3, 8, 4, 16, false, false, false},
		{"aes-128-ccm-12", "", "aes-ccm", 15, 128, 16, 3, 8, 4, 12, false, false, false},
		{"aes-192-ccm-12", "", "aes-ccm", 15, 192, 24, 3, 8, 4, 12, false, false, false},
		{"aes-256-ccm-12", "", "aes-ccm", 15, 256, 32, 3, 8, 4, 12, false, false, false},
		{"aes-128-ccm-8", "", "aes-ccm", 14, 128, 16, 3, 8, 4, 8, false, false, false},
		{"aes-192-ccm-8", "", "aes-ccm", 14, 192, 24, 3, 8, 4, 8, false, false, false},
		{"aes-256-ccm-8", "", "aes-ccm", 14, 256, 32, 3, 8, 4, 8, false, false, false},
		{"aes-128-gmac", "", "aes-gmac", 21, 128, 16, 4, 8, 4, 16, false, false, true},
		{"aes-192-gmac", "", "aes-gmac", 21, 192, 24, 4, 8, 4, 16, false, false, true},
		{"aes-256-gmac", "", "aes-gmac", 21, 256, 32, 4, 8, 4, 16, false, false, true},
		{"chacha20-poly1305", "chacha20-poly1305", "chacha20-poly1305", 28, 0, 32, 4, 8, 4, 16, false, false, false},
		{"camellia-128", "camellia-128", "camellia", 23, 128, 16, 0, 16, 16, 0, true, false, false},
		{"camellia-192", "camellia-192", "camellia", 23, 192, 24, 0, 16, 16, 0, true, false, false},
		{"camellia-256", "camellia-256", "camellia", 23, 256, 32, 0, 16, 16, 0, true, false, false},
		// IANA has no number for Twofish in IKEv2: this is strongSwan's, of the private use range.
		{"twofish", "", "twofish", 1027, 128, 16, 0, 16, 16, 0, true, false, false},
		{"blowfish", "blowfish", "blowfish", 7, 128, 16, 0, 8, 8, 0, true, true, false},
		{"3des", "3des", "3des", 3, 0, 24, 0, 8, 8, 0, true, true, false},
		{"des", "des", "des", 2, 0, 8, 0, 8, 8, 0, true, true, false},
		{"null", "", "null", 11, 0, 0, 0, 0, 1, 0, false, true, false},
	}
	// SHA-1 is not broken in HMAC, but nobody who has a choice is to choose it (RFC 8247
	// §2.2 and §2.3, RFC 8221 §6: MUST-).
	Integs = []Integ{
		{"md5", 1, 16, 12, true},
		{"sha1", 2, 20, 12, true},
		{"sha256", 12, 32, 16, false},
		{"sha384", 13, 48, 24, false},
		{"sha512", 14, 64, 32, false},
	}
	PRFs = []PRF{
		{"md5", 1, 16, true},
		{"sha1", 2, 20, true},
		{"sha256", 5, 32, false},
		{"sha384", 6, 48, false},
		{"sha512", 7, 64, false},
	}
	Groups = []Group{
		{"modp768", 1, 96, true, true},
		{"modp1024", 2, 128, true, true},
		{"modp1536", 5, 192, true, true},
		{"modp2048", 14, 256, true, false},
		{"modp3072", 15, 384, true, false},
		{"modp4096", 16, 512, true, false},
		{"modp6144", 17, 768, true, false},
		{"modp8192", 18, 1024, true, false},
		{"ecp256", 19, 64, false, false},
		{"ecp384", 20, 96, false, false},
		{"ecp521", 21, 132, true, false},
		{"x25519", 31, 32, false, false},
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

// IntegByName, IntegByID, PRFByName, PRFByID, GroupByName and GroupByID return nil if there is none.
func IntegByName(name string) *Integ {
	return find(Integs, func(a *Integ) bool { return a.Name == name })
}
func IntegByID(id uint16) *Integ { return find(Integs, func(a *Integ) bool { return a.ID == id }) }
func PRFByName(name string) *PRF { return find(PRFs, func(p *PRF) bool { return p.Name == name }) }
func PRFByID(id uint16) *PRF     { return find(PRFs, func(p *PRF) bool { return p.ID == id }) }
func GroupByName(name string) *Group {
	return find(Groups, func(g *Group) bool { return g.Name == name })
}
func GroupByID(id uint16) *Group { return find(Groups, func(g *Group) bool { return g.ID == id }) }

func find[T any](table []T, is func(*T) bool) *T {
	for i := range table {
		if is(&table[i]) {
			return &table[i]
		}
	}
	return nil
}
