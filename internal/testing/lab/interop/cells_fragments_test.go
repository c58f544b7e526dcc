//go:build linux

package interop

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// fragmentCells: certificates that make IKE_AUTH longer than a datagram, both
// ways, over IPv4 and IPv6, and where one side does not cut (RFC 7383).
var fragmentCells = sync.OnceValue(makeFragmentCells) // certificates are made once

func makeFragmentCells() []cell {
	const g = "Certificates longer than a datagram"
	long := proof{key: "rsa-4096", chain: 3, said: "RSA_EMSA_PKCS1_SHA2_256"}
	theirs := long
	theirs.said = "RSA_EMSA_PKCS1_SHA2_384"
	p := (&proofs{we: long, they: theirs}).make("fragments")
	rekeys := both("fragments went both ways; IKE SA and CHILD SA rekeyed", fragmentsWent(true), weRekeyIKE, theyRekeyChild)
	whole := fragmentsWent(false)
	return []cell{
		{group: g, name: "certificates-in-fragments-we-initiate", proofs: p, event: rekeys},
		{group: g, name: "certificates-in-fragments-they-initiate", proofs: p, theyInitiate: true, event: rekeys},
		{group: g, name: "certificates-in-fragments-outer-ipv6-we-initiate", proofs: p, outer6: true, v6: true, event: fragmentsWent(true)},
		{group: g, name: "certificates-in-fragments-outer-ipv6-they-initiate", proofs: p, outer6: true, theyInitiate: true, event: fragmentsWent(true)},
		{group: g, name: "we-do-not-cut-we-initiate", proofs: p, extra: extra{profile: "fragmentation = false\n"}, event: whole},
		{group: g, name: "we-do-not-cut-they-initiate", proofs: p, extra: extra{profile: "fragmentation = false\n"}, theyInitiate: true, event: whole},
		{group: g, name: "they-do-not-cut-we-initiate", proofs: p, extra: extra{connection: "fragmentation = no\n"}, event: whole},
		{group: g, name: "they-do-not-cut-they-initiate", proofs: p, extra: extra{connection: "fragmentation = no\n"}, theyInitiate: true, event: whole},
		{group: g, name: "we-do-not-cut-outer-ipv6", proofs: p, outer6: true, extra: extra{profile: "fragmentation = false\n"}, event: whole},
	}
}

// fragmentsWent reads in strongSwan's log that IKE_AUTH went and came in
// fragments of IKE, or that none did and IP cut the datagrams.
func fragmentsWent(want bool) event {
	name := "fragments went both ways"
	if !want {
		name = "no fragments of IKE, longer datagrams"
	}
	return event{name, func(_ context.Context, r *tunnel) error {
		log := r.swan.Log()
		for _, sign := range []string{"splitting IKE message", "received fragment #2"} {
			if strings.Contains(log, sign) != want {
				return fmt.Errorf("strongSwan says %q: %t, wanted %t", sign, !want, want)
			}
		}
		if !want && !longDatagram(log, "received packet: ") {
			return fmt.Errorf("strongSwan received no datagram of more than 1500 bytes")
		}
		if !want && !longDatagram(log, "sending packet: ") {
			return fmt.Errorf("strongSwan sent no datagram of more than 1500 bytes")
		}
		return nil
	}}
}

// longDatagram: a line of the log with this sign ends in "(N bytes)" with N over
// what fits a packet of the wire.
func longDatagram(log, sign string) bool {
	for line := range strings.Lines(log) {
		if i := strings.LastIndex(line, "("); i >= 0 && strings.Contains(line, sign) {
			var n int
			if _, err := fmt.Sscanf(line[i:], "(%d bytes)", &n); err == nil && n > 1500 {
				return true
			}
		}
	}
	return false
}
