package interop

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	got := Table("strongSwan 1.2.3", []Result{
		{"Suites, all", "a", "culvert", "aes-128 sha1 modp2048", "aes-128-gcm", "IPv4", "none", Passed},
		{"Suites, all", "b", "strongSwan", "aes-128 sha1 modp2048", "aes-128-gcm", "IPv6", "none", Failed},
		{"NAT", "c", "culvert", "aes-128 sha1 modp2048", "aes-128-gcm", "IPv4", "none", NotRun},
	})
	head, got, _ := strings.Cut(got, "\n## How a cell is judged\n")
	wantHead := "`make interop`. **1 of 3 cells passed**, 1 failed, 1 were not run.\n\n" +
		"| group | cells | passed |\n|---|---|---|\n| [Suites, all](#suites-all) | 2 | 1 |\n| [NAT](#nat) | 1 | 0 |\n"
	if !strings.HasSuffix(head, wantHead) {
		t.Errorf("the summary is\n%s\nwant at its end\n%s", head, wantHead)
	}
	_, got, _ = strings.Cut(got, "and a transfer.\n")
	want := `
## Suites, all

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
