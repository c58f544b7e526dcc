package config

import (
	"crypto/rsa"
	"errors"
	"io/fs"
	"path/filepath"

	"culvert/crypto/pki"
	"culvert/internal/state/keys"
)

// Key is an RSA key without certificate, for auth-method "rsa-key": a [[key]], or one that culvert key keeps in state-dir. Both
// are used by name.
type Key struct {
	Entry
	File string // of a [[key]]

	Public  *rsa.PublicKey `json:"-"`
	Private pki.Key        `json:"-"` // present: it is a private key
}

var keyFields = []field[Key]{
	of("file", pathValue, func(k *Key) *string { return &k.File }),
}

// AuthRSAKey is a value of auth-method.
const AuthRSAKey = "rsa-key"

// stateKeyFile is where culvert key keeps a key.
func stateKeyFile(l *loader, name string) string {
	return filepath.Join(l.config.Gateway.StateDir, keys.Folder, name+keys.Ext)
}

// checkKey reads a [[key]].
func checkKey(l *loader, k *Key) {
	e := &k.Entry
	switch {
	case e.bad["name"] || k.Name == "":
	case keys.CheckName(k.Name) != nil:
		l.faultAt(e, "key", "name", "%v", keys.CheckName(k.Name))
	case k.Disabled || e.bad["file"]:
	case !k.Written("file"):
		l.faultAt(e, "key", "file", "is missing, name a file with an RSA key in PEM, or a public one in the form of RFC 3110; or leave the [[key]] out and run culvert key import %s FILE", k.Name)
	default:
		if _, _, err := l.disk.read(stateKeyFile(l, k.Name)); err == nil {
			l.faultAt(e, "key", "name", "%q is also the name of a key in state-dir, %s: remove that (culvert key remove %s), or give the [[key]] another name", k.Name, stateKeyFile(l, k.Name), k.Name)
			return
		}
		readKey(l, k, k.File, func(format string, args ...any) { l.faultAt(e, "key", "file", format, args...) })
	}
}

// readKey reads the file of a key.
func readKey(l *loader, k *Key, path string, fault func(format string, args ...any)) {
	data, mode, err := l.disk.read(path)
	if err != nil {
		fault(unreadable, err)
		return
	}
	defer clear(data)
	public, private, err := keys.Parse(data)
	if err != nil {
		fault("%v", err)
		return
	}
	k.File, k.Public = path, public
	switch {
	case l.disk.redacted(): // whoever has a key there is taken to have the private one
		k.Private = pki.WithoutPrivate(public)
	case private != nil:
		k.Private = pki.NewKey(private)
		l.config.secretFiles = append(l.config.secretFiles, path)
		if othersCanRead(mode) {
			l.warnAt(&k.Entry, "key", "file", readByOthers, path, mode.Perm())
		}
	}
}

// findKey is the key that an identity names: a [[key]], or else one in state-dir.
func findKey(l *loader, i *Identity, key, name string) *Key {
	e := &i.Entry
	for _, k := range l.config.Keys {
		if k.Name != name {
			continue
		}
		if k.Disabled {
			l.faultAt(e, "identity", key, "[[key]] %q is disabled, enable it or disable the identity", name)
		}
		return k
	}
	if k := l.stateKeys[name]; k != nil {
		return k
	}
	if err := keys.CheckName(name); err != nil {
		l.faultAt(e, "identity", key, "%v", err)
		return nil
	}
	k := &Key{Entry: Entry{Name: name}}
	path := stateKeyFile(l, name)
	readKey(l, k, path, func(format string, args ...any) {
		if len(args) == 1 {
			if err, ok := args[0].(error); ok && errors.Is(err, fs.ErrNotExist) {
				l.faultAt(e, "identity", key, "there is no key %q: make it with culvert key generate-key %s, or read it with culvert key import %s FILE (it is looked for in %s), or write a [[key]]", name, name, name, path)
				return
			}
		}
		l.faultAt(e, "identity", key, path+": "+format, args...)
	})
	if k.Public == nil {
		return nil
	}
	if l.stateKeys == nil {
		l.stateKeys = map[string]*Key{}
	}
	l.stateKeys[name] = k
	return k
}

// checkKeys: an identity with rsa-key has a private key of ours, and the public one of the peer.
func checkKeys(l *loader, i *Identity) {
	e := &i.Entry
	p := i.Peer
	if i.AuthMethod != AuthRSAKey {
		for _, key := range []string{"key", "remote-key"} {
			if i.Written(key) {
				l.faultAt(e, "identity", key, "needs auth-method = %q", AuthRSAKey)
			}
		}
		return
	}
	if p != nil && !p.bad["exchange-mode"] && !p.IKEv1() {
		l.faultAt(e, "identity", "auth-method", "%q is of IKEv1, and [[peer]] %q has exchange-mode \"ike2\": write exchange-mode = \"main\" there, or use a [[certificate]] with auth-method = %q", AuthRSAKey, p.Name, AuthSignature)
		return
	}
	for _, c := range []struct {
		key, name, missing string
		to                 **Key
	}{
		{"key", i.KeyName, "name our private key, which culvert key generate-key makes", &i.Key},
		{"remote-key", i.RemoteKeyName, "name the peer's public key, which culvert key import reads", &i.RemoteKey},
	} {
		switch {
		case e.bad[c.key]:
		case !i.Written(c.key):
			l.faultAt(e, "identity", c.key, "is missing, auth-method %q needs it: %s", AuthRSAKey, c.missing)
		default:
			k := findKey(l, i, c.key, c.name)
			if k == nil || k.Public == nil {
				continue
			}
			if n := k.Public.N.BitLen(); n < 2048 {
				l.warnAt(e, "identity", c.key, "key %q has %d bits, which are weak for an RSA key: use 2048 or more unless the peer cannot", k.Name, n)
			}
			if c.key == "key" && !k.Private.Present() {
				l.faultAt(e, "identity", "key", "%q is a public key, and we sign with a private one: make one with culvert key generate-key", k.Name)
				continue
			}
			*c.to = k
		}
	}
	if i.Key != nil && i.RemoteKey != nil && i.Key.Public.Equal(i.RemoteKey.Public) {
		l.faultAt(e, "identity", "remote-key", "is our own key, give each side a key of its own")
	}
}

// equalKeys compares what makes a difference to the peers that use them.
func equalKeys(a, b *Key) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && (a.Public == nil) == (b.Public == nil) && (a.Public == nil || a.Public.Equal(b.Public)) && a.Private.Present() == b.Private.Present()
}

// keyFile is the key that a file has; nil: none of the configuration.
func (c *Config) keyFile(path string) *Key {
	for _, k := range c.Keys {
		if k.File == path && k.Public != nil {
			return k
		}
	}
	for _, i := range c.Identities {
		for _, k := range []*Key{i.Key, i.RemoteKey} {
			if k != nil && k.File == path {
				return k
			}
		}
	}
	return nil
}
