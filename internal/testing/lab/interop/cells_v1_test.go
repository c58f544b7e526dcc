//go:build linux

package interop

import "time"

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
