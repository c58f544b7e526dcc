package sa

import (
	"testing"

	"culvert/ike/core"
)

// secrets is the Others that knows whether secrets are shared, and nothing else.
type secrets struct {
	Others
	shared bool
}

func (s secrets) SharesSecret(*core.Identity) bool { return s.shared }

// What an ID is worth, by how its peer proved itself.
func TestWhatIsProven(t *testing.T) {
	name, address := core.ID{Type: core.IDFQDN, Data: "a"}, core.ID{Type: core.IDIPv4, Data: "\x0a\x00\x00\x01"}
	signs := core.Identity{Auth: core.AuthPSK, RemoteAuth: core.AuthSignature}
	for what, c := range map[string]struct {
		identity      core.Identity
		id            core.ID
		shared        bool
		proven, named bool
	}{
		"a certificate has the name":             {signs, name, false, true, true},
		"… the address":                          {signs, address, true, true, true},
		"a certificate, and any ID":              {core.Identity{Auth: core.AuthSignature, Ignore: true}, name, false, false, false},
		"a certificate is chosen by":             {core.Identity{Auth: core.AuthSignature, MatchCert: true}, name, false, true, true},
		"ours is a certificate, theirs no":       {core.Identity{Auth: core.AuthSignature, RemoteAuth: core.AuthPSK}, address, false, false, false},
		"a secret":                               {core.Identity{Auth: core.AuthPSK}, name, false, false, true},
		"a secret, and an address":               {core.Identity{Auth: core.AuthPSK}, address, false, false, false},
		"a secret of its own":                    {core.Identity{Auth: core.AuthPSK, RemoteID: address}, address, false, true, true},
		"… that others have":                     {core.Identity{Auth: core.AuthPSK, RemoteID: address}, address, true, false, false},
		"… for any DN":                           {core.Identity{Auth: core.AuthPSK, RemoteID: core.ID{Type: core.IDDN}}, core.ID{Type: core.IDDN, Data: "x"}, false, false, true},
		"a secret of its own, and it is ignored": {core.Identity{Auth: core.AuthPSK, RemoteID: name, Ignore: true}, name, false, false, false},
		"a user who has not logged in":           {core.Identity{Auth: core.AuthSignature, RemoteAuth: core.AuthByUser, RemoteID: name}, name, false, false, false},
		"a key of its own":                       {core.Identity{Auth: core.AuthRawKey, RemoteID: address}, address, false, true, true},
		"… that others have too":                 {core.Identity{Auth: core.AuthRawKey, RemoteID: address}, address, true, false, false},
		"a key, and any ID":                      {core.Identity{Auth: core.AuthRawKey}, address, false, false, false},
	} {
		sa := &SA{Owner: Owner{Others: secrets{shared: c.shared}}, Identity: &c.identity, PeerID: c.id}
		if sa.Proven() != c.proven || named(sa) != c.named {
			t.Errorf("%s: proven %v, named %v", what, sa.Proven(), named(sa))
		}
	}
	user := core.Identity{Auth: core.AuthSignature, RemoteAuth: core.AuthByUser, RemoteID: name}
	if sa := (&SA{Owner: Owner{Others: secrets{}}, Identity: &user, PeerID: address, User: "anna"}); sa.Proven() || !named(sa) {
		t.Error("a user who has logged in")
	}
	if sa := (&SA{Owner: Owner{Others: secrets{}}, PeerID: name}); sa.Proven() || named(sa) {
		t.Error("without identity")
	}
}
