package auth

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"culvert/crypto/pki"
	"culvert/ike/core"
)

// MyID is the ID that an identity sends: its my-id, or where that is "auto" the
// name of its certificate, or the local address if it has none.
func MyID(id *core.Identity, local netip.Addr) core.ID {
	if id.MyID.Type != core.IDNone {
		return id.MyID
	}
	if Of(id.Auth).Certificate && id.Own != nil {
		return NameOf(id.Own.Chain[0])
	}
	return AddressID(local)
}

// AddressID is an ID of type IPv4 or IPv6 address.
func AddressID(a netip.Addr) core.ID {
	a = a.Unmap()
	t := core.IDIPv6
	if a.Is4() {
		t = core.IDIPv4
	}
	return core.ID{Type: t, Data: string(a.AsSlice())}
}

// Claim is what a peer says in its first message of IKE_AUTH.
type Claim struct {
	ID       core.ID
	Expected core.ID           // IDr: whom it asks for; Type 0: anybody
	Wire     uint8             // the method of its AUTH payload; 0: it has none
	Cert     *x509.Certificate // nil: none came
	CAs      []KeyHash         // authorities that it trusts, as far as it says
	PPK      string            // the PPK that it names; empty: none
}

// Match finds the identity that a claim stands for: one that names the peer's
// ID or certificate before one that takes any, among those one whose own
// certificate the peer asks for, each in the order of the table. If the peer
// said whom it expects (IDr), an identity that is not that is passed over, and
// one that wants another kind of proof is taken only where there is no other.
func Match(ids []*core.Identity, c Claim, t *core.Trust) *core.Identity {
	var best *core.Identity
	most := 0
	for _, id := range ids {
		n := 2 * c.fit(id, t)
		if n > 0 && id.PPK != nil && id.PPK.ID == c.PPK {
			n++ // among those that fit alike
		}
		if n > most {
			best, most = id, n
		}
	}
	return best
}

// fit is 0 where the identity is not for the claim, else the more the better.
func (c Claim) fit(id *core.Identity, t *core.Trust) int {
	if c.Expected.Type != core.IDNone && !Is(id, c.Expected) {
		return 0
	}
	n := 1
	if m := Of(id.Remote()); m.Late && c.Wire == 0 || !m.Late && m.Goes(c.Wire) {
		n += 16 * exact
	}
	switch {
	case id.MatchCert && (c.Cert == nil || !c.Cert.Equal(id.RemoteCert)):
		return 0
	case id.MatchCert:
		n += 8 * exact
	case id.Ignore || id.RemoteID.Type == core.IDNone:
	default:
		e := exactness(id, c.ID)
		if e == 0 {
			return 0
		}
		n += 8 * e
	}
	if id.RemoteCert != nil && c.Cert != nil {
		if !c.Cert.Equal(id.RemoteCert) {
			n-- // still taken where it stands alone, for the event to say so
		} else {
			n += 2
		}
	}
	if id.Own != nil && len(c.CAs) > 0 && Under(id.Own, t, c.CAs) {
		n++
	}
	return n
}

// Is reports whether an identity can be whom a peer asks for: its my-id, or
// where that is auto any of its certificate's names. Without certificate auto is
// anybody.
func Is(id *core.Identity, expected core.ID) bool {
	switch {
	case id.MyID.Type != core.IDNone:
		return Same(id.MyID, expected)
	case Of(id.Auth).Certificate && id.Own != nil:
		return Proves(id.Own.Chain[0], expected)
	}
	return true
}

// As is the ID that an identity answers with to a peer that asked for expected.
func As(id *core.Identity, expected core.ID, local netip.Addr) core.ID {
	if id.MyID.Type == core.IDNone && Of(id.Auth).Certificate && id.Own != nil && Proves(id.Own.Chain[0], expected) {
		return expected
	}
	return MyID(id, local)
}

// Accepts reports whether an identity accepts the peer's ID.
func Accepts(id *core.Identity, remote core.ID) bool {
	return id.Ignore || id.MatchCert || id.RemoteID.Type == core.IDNone || exactness(id, remote) > 0
}

// exact is the exactness of a remote-id that is the ID itself.
const exact = 1 << 20

// exactness is how much of the peer's ID a remote-id says: 0 where it is for others, exact where it says all of it. A
// pattern that says more than another is the more exact one.
func exactness(id *core.Identity, remote core.ID) int {
	want := id.RemoteID
	switch {
	case want.Type != remote.Type:
		return 0
	case id.Pattern && want.Type == core.IDDN:
		if pki.MatchDN([]byte(want.Data), []byte(remote.Data)) {
			return 2 + pki.FixedValues([]byte(want.Data))
		}
		return 0
	case id.Pattern:
		if matches(want, remote) {
			return 2 + min(len(want.Data), exact/2)
		}
		return 0
	case want == core.ID{Type: core.IDDN}:
		return 1
	case Same(want, remote):
		return exact
	}
	return 0
}

// matches reports whether a name is below the one of a pattern. The * is one or more labels of an FQDN, none of them empty,
// or all of a user's name.
func matches(pattern, name core.ID) bool {
	low := pki.Lower(name.Data)
	star, ok := strings.CutSuffix(low, strings.TrimPrefix(pki.Lower(pattern.Data), "*"))
	if !ok || star == "" {
		return false
	}
	if name.Type == core.IDUser {
		return !strings.Contains(star, "@")
	}
	return !slices.Contains(strings.Split(star, "."), "")
}

// Same compares two IDs; names are compared without regard to the case of ASCII
// letters (RFC 4343), distinguished names as RFC 5280 §7.1 does.
func Same(a, b core.ID) bool {
	if a.Type != b.Type {
		return false
	}
	if a.Type == core.IDFQDN || a.Type == core.IDUser {
		return pki.EqualFold(a.Data, b.Data)
	}
	if a.Type == core.IDDN {
		return pki.SameDN([]byte(a.Data), []byte(b.Data))
	}
	return a.Data == b.Data
}

// Key is the same for IDs that are the Same, and seldom for others.
func Key(id core.ID) string {
	data := id.Data
	switch id.Type {
	case core.IDFQDN, core.IDUser:
		data = pki.Lower(data)
	case core.IDDN:
		data = pki.DNKey([]byte(data))
	}
	return string(rune(id.Type)) + data
}
