package auth

import "culvert/ike/core"

// ByUser is the end of IKEv1's hybrid authentication (draft-ietf-ipsec-isakmp-hybrid-auth-05) that has neither a secret nor
// a certificate. In phase 1 it proves nothing, so that it has no Part; what it says that it is counts for nothing until XAuth
// says which user it is. The other end proves itself by Signature.
var ByUser = &Method{
	Auth: core.AuthByUser, Name: "rsa-signature-hybrid", Proof: "XAuth alone",
	Refused: func(*core.Identity) Refused {
		return Refused{Compare: "compare username and password with what the peer has for that user", See: "compare username, password, "}
	},
}

// Hybrid reports whether one end of an identity is ByUser.
func Hybrid(id *core.Identity) bool {
	return id.Auth == core.AuthByUser || id.Remote() == core.AuthByUser
}

// NameFor is auth-method as the configuration has it for an identity.
func NameFor(id *core.Identity) string {
	switch {
	case Hybrid(id):
		return ByUser.Name
	case id.XAuth != nil:
		return Of(id.Auth).Name + "-xauth"
	}
	return Of(id.Auth).Name
}
