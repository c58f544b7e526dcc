// Package suite is the table of algorithms: what the manual calls them in a
// profile and in a proposal, what IANA numbers they have, and how long their
// keys, vectors and check values are. It implements none of them; the other
// folders of crypto/ do, one algorithm per file.
//
// An algorithm that exists here is one that the build can run: nothing is ever
// offered to a peer that is not a row.
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
	IKEName  string // name in a profile's enc-algorithm: "aes-128"
	SAName   string // name in installed-sa print: "aes-cbc"
	ID       uint16 // IANA IKEv2 ENCR transform ID
	KeyBits  uint16 // Key Length attribute; 0: the attribute is absent
	KeyLen   int    // key without salt
	SaltLen  int    // salt at the end of the keying material (RFC 4106 §8.1)
	IVLen    int    // IV in each packet
	Block    int    // the plaintext with its padding is a multiple of this
	ICVLen   int    // of an AEAD; 0 otherwise
	Explicit bool   // the IV of each packet must be unpredictable (CBC)
}

// AEAD reports whether the algorithm also protects integrity.
func (e *Encr) AEAD() bool { return e.ICVLen > 0 }

// MaterialLen is what the key derivation has to deliver: key and salt.
func (e *Encr) MaterialLen() int { return e.KeyLen + e.SaltLen }

// Integ is one integrity algorithm as ESP, AH and IKE use it (truncated).
type Integ struct {
	Name   string // the manual's name: "sha1"
	ID     uint16 // IANA IKEv2 INTEG transform ID
	KeyLen int
	ICVLen int
}

// PRF is one pseudo-random function of IKEv2. Its key and output have Len bytes.
type PRF struct {
	Name string // the hash-algorithm of a profile: "sha1"
	ID   uint16
	Len  int
}

// Group is one Diffie-Hellman group.
type Group struct {
	Name      string // the manual's name: "modp2048"
	ID        uint16
	PublicLen int  // length of the KE payload's data
	Slow      bool // worth an Ask: nothing else may wait behind it
}

// Encrs, Integs, PRFs and Groups are the tables. The order is not a preference.
var (
	Encrs = []Encr{
		{"aes-128-cbc", "aes-128", "aes-cbc", 12, 128, 16, 0, 16, 16, 0, true},
		{"aes-192-cbc", "aes-192", "aes-cbc", 12, 192, 24, 0, 16, 16, 0, true},
		{"aes-256-cbc", "aes-256", "aes-cbc", 12, 256, 32, 0, 16, 16, 0, true},
		{"aes-128-gcm", "aes-128-gcm", "aes-gcm", 20, 128, 16, 4, 8, 4, 16, false},
		{"aes-192-gcm", "aes-192-gcm", "aes-gcm", 20, 192, 24, 4, 8, 4, 16, false},
		{"aes-256-gcm", "aes-256-gcm", "aes-gcm", 20, 256, 32, 4, 8, 4, 16, false},
	}
	Integs = []Integ{
		{"sha1", 2, 20, 12},
		{"sha256", 12, 32, 16},
		{"sha512", 14, 64, 32},
	}
	PRFs = []PRF{
		{"sha1", 2, 20},
		{"sha256", 5, 32},
		{"sha384", 6, 48},
		{"sha512", 7, 64},
	}
	Groups = []Group{
		{"modp2048", 14, 256, true},
		{"modp3072", 15, 384, true},
		{"ecp256", 19, 64, false},
		{"ecp384", 20, 96, false},
		{"x25519", 31, 32, false},
	}
)

// EncrByName finds an ESP algorithm by its proposal name; nil if there is none.
func EncrByName(name string) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.Name == name })
}

// EncrByIKEName finds an IKE algorithm by its profile name; nil if there is none.
func EncrByIKEName(name string) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.IKEName == name })
}

// EncrByID finds an algorithm by what stands on the wire; nil if there is none.
func EncrByID(id, keyBits uint16) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.ID == id && e.KeyBits == keyBits })
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
