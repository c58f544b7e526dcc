//go:build linux

package interop

import (
	"sync"
	"time"
)

// mainModeCells are IKEv1: main mode with a pre-shared key.
func mainModeCells() []cell {
	const g = "IKEv1, main mode"
	cbc := espSuite{aes256, sha256, noPFS}
	pfs := espSuite{aes128gcm, sha256, ecp256}
	cs := []cell{
		{name: "v1-main-we-initiate"},
		{name: "v1-main-they-initiate", theyInitiate: true},
		{name: "v1-main-cbc-ipv6", esp: cbc, v6: true, event: weRekeyChild},
		{name: "v1-main-pfs-we-rekey-child", esp: pfs, exchanged: true, event: weRekeyChild},
		{name: "v1-main-pfs-they-rekey-child", esp: pfs, exchanged: true, event: theyRekeyChild},
		{name: "v1-main-they-rekey-child-they-initiate", theyInitiate: true, event: theyRekeyChild},
		{name: "v1-main-we-rekey-ike", event: weRekeyIKE},
		{name: "v1-main-they-rekey-ike", event: theyRekeyIKE},
		{name: "v1-main-we-rekey-ike-they-initiate", theyInitiate: true, event: weRekeyIKE},
		{name: "v1-main-they-rekey-ike-they-initiate", theyInitiate: true, event: theyRekeyIKE},
		{name: "v1-main-we-delete-child", event: weDeleteChild},
		{name: "v1-main-they-delete-child", event: theyDeleteChild},
		{name: "v1-main-we-delete-ike", event: weDeleteIKE},
		{name: "v1-main-they-delete-ike", event: theyDeleteIKE},
		{name: "v1-main-they-delete-ike-they-initiate", theyInitiate: true, event: theyDeleteIKE},
		{name: "v1-main-phase1-ends", ikeLifetime: "20s", extra: extra{dpd: "disable-dpd"}, event: phase1Ends, limit: 4 * time.Minute},
		{name: "v1-main-peer-killed-dpd", extra: extra{profile: "dpd-maximum-failures = 2\n"}, event: peerKilledDPD, limit: 5 * time.Minute},
		{name: "v1-main-we-are-killed", event: weAreKilled},
		{name: "v1-main-we-die-their-dpd", theyInitiate: true, extra: extra{connection: "dpd_delay = 2s\n"}, event: theirDPD},
		{name: "v1-main-we-behind-nat", nat: we, event: both("both sides rekey the CHILD SA in turn", weRekeyChild, theyRekeyChild)},
		{name: "v1-main-they-behind-nat", nat: they, theyInitiate: true, event: both("both sides rekey the CHILD SA in turn", weRekeyChild, theyRekeyChild)},
	}
	for i := range cs {
		cs[i].group, cs[i].mode = g, "main"
	}
	return cs
}

// phase1Cells are the other ways of phase 1.
var phase1Cells = sync.OnceValue(makePhase1Cells) // certificates are made once

func makePhase1Cells() []cell {
	var cs []cell
	add := func(c cell) {
		for _, they := range []bool{false, true} {
			d := c
			d.name += map[bool]string{false: "-we-initiate", true: "-they-initiate"}[they]
			d.theyInitiate = they
			cs = append(cs, d)
		}
	}
	rsa, ecdsa := proof{key: "rsa-2048", said: "RSA_EMSA_PKCS1_NULL"}, proof{key: "p256", said: "ECDSA_WITH_NULL"}
	chain := rsa
	chain.chain = 2
	signed := func(name string, side proof, kind string) *proofs {
		return (&proofs{we: side, they: side, kind: kind, v1: true}).make(name)
	}
	const certificates = "IKEv1, main mode with certificates"
	for _, c := range []cell{
		{name: "v1-main-rsa", proofs: signed("v1-main-rsa", rsa, ""), event: both("IKE SA and CHILD SA rekeyed", weRekeyIKE, theyRekeyChild)},
		{name: "v1-main-rsa-id-dn", proofs: signed("v1-main-rsa-id-dn", rsa, byDN)},
		{name: "v1-main-rsa-chains", proofs: signed("v1-main-rsa-chains", chain, "")},
		{name: "v1-main-ecdsa-256", proofs: signed("v1-main-ecdsa-256", ecdsa, "")},
	} {
		c.group, c.mode = certificates, "main"
		add(c)
	}
	for _, c := range []cell{
		{name: "v1-aggressive", ids: byFQDN, event: both("IKE SA and CHILD SA rekeyed", weRekeyIKE, theyRekeyChild)},
		{name: "v1-aggressive-id-address"},
		{name: "v1-aggressive-id-user-fqdn", ids: byUser},
		{name: "v1-aggressive-rsa", proofs: signed("v1-aggressive-rsa", rsa, "")},
	} {
		c.group, c.mode = "IKEv1, aggressive mode", "aggressive"
		c.extra = extra{connection: "aggressive = yes\n", daemon: "i_dont_care_about_security_and_use_aggressive_mode_psk = yes"}
		add(c)
	}
	return cs
}
