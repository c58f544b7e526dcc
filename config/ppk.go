package config

// checkPPK: a postquantum preshared key has a name and a secret.
func (l *loader) checkPPK(i *Identity) {
	e := &i.Entry
	secret := i.Written("ppk-secret") || i.Written("ppk-secret-file")
	switch {
	case i.Written("ppk-secret") && i.Written("ppk-secret-file"):
		l.faultAt(e, "identity", "ppk-secret-file", "cannot be combined with ppk-secret, write one of them")
	case i.Written("ppk-id") && !secret:
		l.faultAt(e, "identity", "ppk-id", "has no secret, write ppk-secret or ppk-secret-file")
	case secret && !i.Written("ppk-id"):
		key := "ppk-secret"
		if !i.Written(key) {
			key = "ppk-secret-file"
		}
		l.faultAt(e, "identity", key, "has no name, write ppk-id, the same on both sides")
	case i.PPKRequired && !secret:
		l.faultAt(e, "identity", "ppk-required", "wants a postquantum preshared key and there is none, write ppk-id and ppk-secret")
	}
}
