package config

import "slices"

// notYetRow is something that the manual or our own list of names has and this
// build has not: a whole table (key empty), a key (values nil) or values of a
// key (a number in digits). Whoever builds it deletes the row.
type notYetRow struct {
	table, key string
	values     []string
}

// anyOther in values is everything that is not accepted.
const anyOther = "*"

var notYet = []notYetRow{
	{"user", "attributes", nil},
	{"user", "not-after", nil},
	{"user", "password-hash", nil},
	{"user", "quota-bytes", nil},
	{"user", "quota-time", nil},
	{"user", "shared-users", nil},
	{"user", "totp-secret", nil},
	{"user-manager", "", nil},
	{"user-manager-router", "", nil},
	{"radius", "", nil},
	{"radius-incoming", "", nil},
	{"address-list", "", nil},
	{"gre", "", nil},
	{"ipip", "", nil},
	{"l2tp-server", "", nil},

	{"gateway", "nat-bypass", nil},

	{"settings", "accounting", []string{"true"}},
	{"settings", "interim-update", nil},
	{"settings", "xauth-use-radius", []string{"true"}},

	{"peer", "routing-mark", nil},
	{"peer", "interface", nil},

	{"mode-config", "masquerade", nil},
	{"mode-config", "split-dns", nil},
	{"mode-config", "src-address-list", nil},

	{"identity", "auth-method", []string{"eap", "eap-radius"}},
	{"identity", "eap-inner-methods", nil},
	{"identity", "eap-methods", nil},
	{"identity", "eap-server-name", nil},
	{"identity", "notrack-chain", nil},
}

func tableNotYet(table string) bool {
	return slices.ContainsFunc(notYet, func(r notYetRow) bool { return r.table == table && r.key == "" })
}

func keyNotYet(table, key string) bool {
	return slices.ContainsFunc(notYet, func(r notYetRow) bool { return r.table == table && r.key == key && r.values == nil })
}

func valueNotYet(table, key, value string) bool {
	return slices.ContainsFunc(notYet, func(r notYetRow) bool {
		return r.table == table && r.key == key && slices.Contains(r.values, value)
	})
}
