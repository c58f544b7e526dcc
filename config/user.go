package config

import (
	"slices"

	"culvert/crypto/secret"
)

// User is [[user]]: somebody who may log in with a name and a password.
type User struct {
	Entry
	Password secret.Bytes
}

var userFields = []field[User]{
	of("password", password, func(u *User) *secret.Bytes { return &u.Password }),
	of("password-file", passwordFile, func(u *User) *secret.Bytes { return &u.Password }),
}

// password is text, whatever it begins with. Nothing of it is ever part of a message.
func password(v value) (secret.Bytes, bool) {
	s, ok := v.raw.(string)
	switch {
	case !ok:
		v.wrongType("text in quotes")
	case s == "":
		v.wrong("is empty, accepted: text")
	default:
		return secret.Bytes(s), true
	}
	return nil, false
}

func passwordFile(v value) (secret.Bytes, bool) {
	s, ok := secretFile(v)
	if ok && len(s) == 0 {
		v.wrong("is empty, accepted: text")
		return nil, false
	}
	return s, ok
}

func (l *loader) checkUser(u *User) {
	e := &u.Entry
	switch {
	case e.bad["password"] || e.bad["password-file"]:
	case u.Written("password") && u.Written("password-file"):
		l.faultAt(e, "user", "password-file", "cannot be combined with password, write one of them")
	case len(u.Password) == 0:
		l.faultAt(e, "user", "password", "is missing, write password or password-file")
	}
}

// XAuth reports whether a user has to log in after phase 1, or this host has to.
func (i *Identity) XAuth() bool { return i.AuthMethod == AuthXAuth || i.AuthMethod == AuthHybrid }

// checkXAuth: the end that is passive asks for name and password, the other one has them.
func (l *loader) checkXAuth(i *Identity) {
	e := &i.Entry
	p := i.Peer
	if i.Disabled || p == nil || p.bad["passive"] || e.bad["username"] || e.bad["password"] || e.bad["password-file"] {
		return
	}
	own := []string{"username", "password", "password-file"}
	written := slices.DeleteFunc(own, func(key string) bool { return !i.Written(key) })
	has := slices.ContainsFunc(written, func(key string) bool { return key != "username" })
	switch {
	case !i.XAuth() && len(written) > 0:
		l.faultAt(e, "identity", written[0], "is for auth-method \"pre-shared-key-xauth\" or \"rsa-signature-hybrid\", and this is %q: write one of them, or leave %s out", i.AuthMethod, written[0])
	case !i.XAuth():
		return
	case !p.IKEv1():
		l.faultAt(e, "identity", "auth-method", "%q is of IKEv1, and [[peer]] %q has exchange-mode \"ike2\": write exchange-mode = \"main\" there, or another auth-method", i.AuthMethod, p.Name)
		return
	case i.Written("password") && i.Written("password-file"):
		l.faultAt(e, "identity", "password-file", "cannot be combined with password, write one of them")
	case p.Passive && len(written) > 0:
		l.faultAt(e, "identity", written[0], "is what this host logs in with, and [[peer]] %q is passive, so that its users log in here: leave it out, and write a [[user]] for each of them", p.Name)
	case !p.Passive && !i.Written("username"):
		l.faultAt(e, "identity", "username", "is missing, auth-method %q logs in with username and password where [[peer]] %q is not passive", i.AuthMethod, p.Name)
	case !p.Passive && !has:
		l.faultAt(e, "identity", "password", "is missing, auth-method %q logs in with username and password", i.AuthMethod)
	}
	if i.XAuth() && p.Passive && !slices.ContainsFunc(l.config.Users, func(u *User) bool { return !u.Disabled }) {
		l.warnAt(e, "identity", "auth-method", "asks for the name and password of a user, and there is no [[user]]: write one for each")
	}
	if i.AuthMethod == AuthXAuth {
		l.warnAt(e, "identity", "auth-method", "every holder of the secret of [[peer]] %q can pretend to be the gateway and read the passwords of its users: "+
			"use rsa-signature-hybrid, where the gateway proves itself by a certificate, or IKEv2 with certificates; else give each user a secret of its own", p.Name)
	}
}
