package interop

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	got := Table("strongSwan 1.2.3", []Result{
		{"Suites", "a", "culvert", "aes-128 sha1 modp2048", "aes-128-gcm", "IPv4", "none", Passed},
		{"Suites", "b", "strongSwan", "aes-128 sha1 modp2048", "aes-128-gcm", "IPv6", "none", Failed},
		{"NAT", "c", "culvert", "aes-128 sha1 modp2048", "aes-128-gcm", "IPv4", "none", NotRun},
	})
	_, got, _ = strings.Cut(got, "a checked transfer.\n")
	want := `
1 of 3 cells passed, 1 failed, 1 not run.

## Suites

| cell | initiator | IKE SA | CHILD SA | inside | event | result |
|---|---|---|---|---|---|---|
| a | culvert | aes-128 sha1 modp2048 | aes-128-gcm | IPv4 | none | passed |
| b | strongSwan | aes-128 sha1 modp2048 | aes-128-gcm | IPv6 | none | failed |

## NAT

| cell | initiator | IKE SA | CHILD SA | inside | event | result |
|---|---|---|---|---|---|---|
| c | culvert | aes-128 sha1 modp2048 | aes-128-gcm | IPv4 | none | not run |
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
