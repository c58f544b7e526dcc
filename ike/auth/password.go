package auth

import (
	"crypto/md5" //nolint:gosec // CHAP has no other
	"crypto/sha256"
	"crypto/subtle"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

// Names and passwords of users, for whatever way they come by: XAuth, and some methods of EAP.

// Password reports whether a password is the user's. For nobody, nil, it takes as long.
func Password(u *core.User, password []byte) bool {
	var is [sha256.Size]byte
	if u != nil {
		is = sha256.Sum256(u.Password)
	}
	said := sha256.Sum256(password)
	return subtle.ConstantTimeCompare(is[:], said[:]) == 1 && u != nil
}

// CHAP is the answer to a challenge: the identifier and MD5(identifier | password | challenge) (RFC 1994 §4.1).
func CHAP(id byte, password secret.Bytes, challenge []byte) []byte {
	h := md5.New() //nolint:gosec // see above
	h.Write([]byte{id})
	h.Write(password)
	h.Write(challenge)
	return h.Sum([]byte{id})
}
