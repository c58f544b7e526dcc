package core

import "culvert/crypto/secret"

// User is somebody who may log in with a name and a password.
type User struct {
	Name     string
	Password secret.Bytes
}

// XAuth is the extended authentication of an identity of IKEv1: after phase 1 one end asks the other for name and password.
type XAuth struct {
	Asks bool // we ask, and the peer is a User; else we answer
	// Name and Password are what we answer.
	Name     string
	Password secret.Bytes
}
