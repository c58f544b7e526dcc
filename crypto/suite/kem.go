package suite

import (
	"slices"
	"strings"
)

// KEM is one key encapsulation mechanism, which is run after the Diffie-Hellman
// of an IKE SA (RFC 9370). Lengths are those of the KE payload's data.
type KEM struct {
	Name      string // "ml-kem-768"
	ID        uint16 // IANA IKEv2 key exchange method
	PublicLen int    // encapsulation key, what the initiator sends
	CipherLen int    // ciphertext, what the responder answers
}

// KEMs is the table.
var KEMs = []KEM{
	{Name: "ml-kem-768", ID: 36, PublicLen: 1184, CipherLen: 1088},
	{Name: "ml-kem-1024", ID: 37, PublicLen: 1568, CipherLen: 1568},
}

// KEMByName finds a mechanism by its name; nil if there is none.
func KEMByName(name string) *KEM { return find(KEMs, func(k *KEM) bool { return k.Name == name }) }

// KEMByID finds a mechanism by its IKEv2 number; nil if there is none.
func KEMByID(id uint16) *KEM { return find(KEMs, func(k *KEM) bool { return k.ID == id }) }

// The transform types of additional key exchanges (RFC 9370 §2.2.1).
const (
	TypeAddKE1 TransformType = 6
	TypeAddKE7 TransformType = 12
)

// MaxAdditional is how many key exchanges there can be after the first.
const MaxAdditional = int(TypeAddKE7-TypeAddKE1) + 1

// KeyExchange is a Diffie-Hellman group and what is run after it, in order.
type KeyExchange struct {
	Group      *Group
	Additional []*KEM
}

// KeyExchangeByName reads "x25519" or "x25519+ml-kem-768"; nil if there is no such thing.
func KeyExchangeByName(name string) *KeyExchange {
	first, rest, more := strings.Cut(name, "+")
	x := &KeyExchange{Group: GroupByName(first)}
	if x.Group == nil {
		return nil
	}
	for more {
		first, rest, more = strings.Cut(rest, "+")
		k := KEMByName(first)
		// One that was there before adds nothing, and no peer may choose it again (RFC 9370 §2.2.1).
		if k == nil || len(x.Additional) == MaxAdditional || slices.Contains(x.Additional, k) {
			return nil
		}
		x.Additional = append(x.Additional, k)
	}
	return x
}
