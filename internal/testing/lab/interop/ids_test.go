//go:build linux

package interop

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"culvert/internal/testing/testcert"
)

// naming is one side's identity in the tongues that meet here.
type naming struct {
	ours   string // as our configuration writes it
	swan   string // as swanctl.conf does
	said   string // as strongSwan's log does
	proves testcert.Option
}

// The kinds of identity, which are the manual's.
const (
	byAddress = "address"
	byFQDN    = "fqdn"
	byUser    = "user-fqdn"
	byDN      = "dn"
	byKeyID   = "key-id"
)

// nobodyID is an identity that no side has.
var nobodyID = name(byFQDN, "nobody.example.net")

// name is an identity of a kind; with byDN id is the common name.
func name(kind, id string) naming {
	n := naming{ours: kind + ":" + id, swan: id, said: id}
	switch kind {
	case byAddress:
		n.proves = testcert.IP(netip.MustParseAddr(id).String())
	case byFQDN:
		n.proves = testcert.DNS(id)
	case byUser:
		n.proves = testcert.Email(id)
	case byDN:
		n.said = "O=Culvert tests, CN=" + id
		n.ours, n.swan = "dn:"+n.said, fmt.Sprintf("%q", n.said)
		n.proves = testcert.DNS() // the subject is there in any case
	case byKeyID:
		n.swan = fmt.Sprintf("%q", "@#"+hex.EncodeToString([]byte(id))) // quoted: # begins a comment
		n.proves = testcert.KeyID(id)
	}
	return n
}

// identities are both sides' of a kind, for cells where they are not addresses of
// the cell's own network.
func identities(kind string) (we, they naming) {
	switch kind {
	case byUser:
		return name(kind, "we@example.net"), name(kind, "they@example.net")
	case byAddress:
		return name(kind, "10.9.0.1"), name(kind, "10.9.0.2")
	case byKeyID:
		return name(kind, "branch we"), name(kind, "branch they")
	}
	return name(kind, "we.example.net"), name(kind, "they.example.net")
}
