package main

// exercised says of packages which others' tests exercise them, beside their own.
var exercised = map[string][]string{
	"ike/v1":                   {"ike"},
	"ike/v2":                   {"ike"},
	"ike/sa":                   {"ike"},
	"ike/core":                 {"ike"},
	"ike/auth":                 {"ike"},
	"ike/message":              {"ike"},
	"ike/isakmp":               {"ike"},
	"crypto/pki":               {"ike/auth"},
	"crypto/sign":              {"ike/auth"},
	"internal/state/lease":     {"internal/gateway"},
	"internal/packet/underlay": {"internal/packet/datapath"},
}

// leftOut are tests of a package that want more than this computer, or that take minutes.
var leftOut = map[string]string{
	"internal/packet/datapath": "^TestReal",
	"internal/host/guard":      "^TestKernel",
	"ike":                      "^Test(Weather|Rekeys|Flood|Stranger)",
	"internal/gateway":         "^Test(TwentyRekeys|ADay)",
}
