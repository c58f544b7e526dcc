//go:build linux

package interop

import "sync"

// lifeCellsV1 are what becomes of IKEv1's SAs in time, and messages that are longer than a datagram.
var lifeCellsV1 = sync.OnceValue(makeLifeCellsV1) // certificates are made once

func makeLifeCellsV1() []cell {
	const g = "IKEv1, messages longer than a datagram"
	long := proof{key: "rsa-4096", chain: 3, said: "RSA_EMSA_PKCS1_NULL"}
	p := (&proofs{we: long, they: long, v1: true}).make("v1-fragments")
	const aggressively = "aggressive = yes\n"
	cut, whole := fragmentsWent(true), fragmentsWent(false)
	cs := []cell{
		{name: "v1-fragments-we-initiate", event: both("fragments went both ways; IKE SA and CHILD SA rekeyed", cut, weRekeyIKE, theyRekeyChild)},
		{name: "v1-fragments-they-initiate", theyInitiate: true, event: both("fragments went both ways; IKE SA and CHILD SA rekeyed", cut, weRekeyIKE, weRekeyChild)},
		{name: "v1-fragments-outer-ipv6", outer6: true, v6: true, event: cut},
		{name: "v1-fragments-aggressive-we-initiate", mode: "aggressive", extra: extra{connection: aggressively}, event: cut},
		{name: "v1-fragments-aggressive-they-initiate", mode: "aggressive", theyInitiate: true, extra: extra{connection: aggressively}, event: cut},
		{name: "v1-they-force-fragments", theyInitiate: true, extra: extra{connection: "fragmentation = force\n"}, event: cut},
		{name: "v1-we-do-not-cut", extra: extra{profile: "fragmentation = false\n"}, event: whole},
		{name: "v1-they-do-not-cut", theyInitiate: true, extra: extra{connection: "fragmentation = no\n"}, event: whole},
	}
	for i := range cs {
		if cs[i].group, cs[i].proofs = g, p; cs[i].mode == "" {
			cs[i].mode = "main"
		}
	}
	return cs
}
