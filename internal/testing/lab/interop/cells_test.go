//go:build linux

package interop

import (
	"context"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

// cell is one test of the matrix: a tunnel, and what happens to it.
type cell struct {
	group string
	name  string // unique; the subtest's name
	ike   ikeSuite
	esp   espSuite

	mode         string // exchange-mode of IKEv1; empty: IKEv2
	theyInitiate bool
	silent       bool // they send nothing before they are sent something
	v6           bool // inside the tunnel; outside it is IPv4
	outer6       bool // outside
	nat          side // who is behind a NAT router
	wide         wide // how much of the address space is tunnelled
	lifetime     string
	ikeLifetime  string
	extra        extra
	proofs       *proofs // nil: pre-shared keys
	exchanged    bool    // the first CHILD SA is made by CREATE_CHILD_SA, where PFS shows
	longIDs      bool    // identities too long for one datagram of IKE_AUTH
	ids          string  // kind of the identities; empty: addresses, and names where there is a NAT
	stranger     side    // who expects somebody else than it meets
	otherSecret  bool    // our pre-shared key is not theirs
	refused      *refusal

	// scene, where it is set, is all of the cell: a network and configurations of its
	// own. The other fields say in the table what it is about.
	scene func(context.Context, *testing.T, *lab.Lab)

	event event
	limit time.Duration // default three minutes
}

// side is one of the two gateways.
type side uint8

const (
	nobody side = iota
	we
	they
)

// wide is how much of the address space the policy covers.
type wide uint8

const (
	narrow     wide = iota // a network to a network
	toAnywhere             // our network to 0.0.0.0/0
	everything             // 0.0.0.0/0 to 0.0.0.0/0: the gateways' own addresses too
)

// The suites of cells that are about something else.
var (
	usualIKE = ikeSuite{aes256, sha256, ecp256}
	usualESP = espSuite{aes128gcm, sha256, noPFS}
)

// cells is the matrix, in the order of the table.
func cells() []cell {
	var all []cell
	for _, group := range [][]cell{suiteCells(), otherSuiteCells(), cipherCells(), groupCells(), rekeyCells(), lifeCells(), reauthCells(), natCells(), networkCells(), childrenCells(), portCells(), outer6Cells(), fragmentCells(), routeCells(), ppkCells(), childlessCells(), redirectCells(), attackCells(), atOnceCells(), hybridCells(), authCells(), pskCells(), refusedCells(), revocationCells(), roadWarriorCells(), clientCells(), mainModeCells(), phase1Cells(), roadWarriorCellsV1(), lifeCellsV1(), hybridCellsV1(), rawKeyCells()} {
		for _, c := range group {
			if c.limit == 0 {
				c.limit = 3 * time.Minute // a busy machine takes its time
			}
			if c.mode == "" {
				c.mode = "ike2"
			}
			if c.ike == (ikeSuite{}) {
				c.ike = usualIKE
			}
			if c.esp == (espSuite{}) {
				c.esp = usualESP
			}
			all = append(all, c)
		}
	}
	return all
}

func rekeyCells() []cell {
	const g = "Rekeying"
	cbc := espSuite{aes256, sha256, noPFS}
	return []cell{
		{group: g, name: "we-rekey-child", event: weRekeyChild},
		{group: g, name: "they-rekey-child", event: theyRekeyChild},
		{group: g, name: "we-rekey-child-cbc-ipv6", esp: cbc, v6: true, event: weRekeyChild, theyInitiate: true},
		{group: g, name: "they-rekey-child-cbc-ipv6", esp: cbc, v6: true, event: theyRekeyChild, theyInitiate: true},
		{group: g, name: "both-rekey-child-at-once", event: bothRekeyChildAtOnce},
		{group: g, name: "rekey-child-under-load", event: rekeyUnderLoad},
		{group: g, name: "child-lifetime-ends", lifetime: "30s", event: lifetimeRekeysChild, limit: 4 * time.Minute},
		{group: g, name: "we-rekey-ike", event: weRekeyIKE},
		{group: g, name: "they-rekey-ike", event: theyRekeyIKE},
		{group: g, name: "we-rekey-ike-they-initiate", theyInitiate: true, event: weRekeyIKE},
		{group: g, name: "they-rekey-ike-they-initiate", theyInitiate: true, event: theyRekeyIKE},
		{group: g, name: "both-rekey-ike-at-once", event: both("both sides rekey the IKE SA at once, three times", bothRekeyIKEAtOnce, bothRekeyIKEAtOnce, bothRekeyIKEAtOnce)},
		{group: g, name: "ike-then-child-from-each-side", esp: espSuite{aes128gcm, sha256, ecp384},
			event: both("IKE SA and CHILD SA rekeyed by each side", weRekeyIKE, theyRekeyChild, theyRekeyIKE, weRekeyChild)},
		{group: g, name: "ike-lifetime-ends", ikeLifetime: "30s", event: lifetimeRekeysIKE, limit: 4 * time.Minute},
	}
}

func lifeCells() []cell {
	const g = "Deleting, dying, reloading"
	return []cell{
		{group: g, name: "we-delete-child", event: weDeleteChild},
		{group: g, name: "they-delete-child", event: theyDeleteChild},
		{group: g, name: "we-delete-ike", event: weDeleteIKE},
		{group: g, name: "they-delete-ike", event: theyDeleteIKE},
		{group: g, name: "we-delete-ike-they-initiate", theyInitiate: true, event: weDeleteIKE},
		{group: g, name: "they-delete-ike-they-initiate", theyInitiate: true, event: theyDeleteIKE},
		{group: g, name: "peer-killed-dpd", event: peerKilledDPD, limit: 5 * time.Minute},
		{group: g, name: "peer-killed-calls-again", theyInitiate: true, event: peerKilledCallsAgain},
		{group: g, name: "we-are-killed", event: weAreKilled},
		{group: g, name: "we-are-killed-no-initial-contact", extra: extra{peer: "send-initial-contact = false\n"}, event: weAreKilledSilently},
		{group: g, name: "we-die-their-dpd", theyInitiate: true, extra: extra{connection: "dpd_delay = 2s\n"}, event: theirDPD},
		{group: g, name: "reload-keeps-spis", event: reloadKeepsSPIs},
		{group: g, name: "sigterm-leaves-nothing", event: sigterm},
		{group: g, name: "sigterm-leaves-nothing-ipv6", v6: true, event: sigterm},
	}
}

func natCells() []cell {
	const g = "NAT"
	return []cell{
		{group: g, name: "we-behind-nat", nat: we, event: both("both sides rekey the CHILD SA in turn", weRekeyChild, theyRekeyChild)},
		{group: g, name: "we-behind-nat-rekey-ike", nat: we, event: both("both sides rekey the IKE SA in turn", weRekeyIKE, theyRekeyIKE)},
		{group: g, name: "they-behind-nat", nat: they, theyInitiate: true, event: both("both sides rekey the CHILD SA in turn", weRekeyChild, theyRekeyChild)},
		{group: g, name: "they-behind-nat-rekey-ike", nat: they, theyInitiate: true, event: both("both sides rekey the IKE SA in turn", weRekeyIKE, theyRekeyIKE)},
	}
}

func routeCells() []cell {
	const g = "Default route through the tunnel, strict reverse-path filter"
	return []cell{
		{group: g, name: "default-route-we-initiate", wide: toAnywhere, event: weRekeyChild},
		{group: g, name: "default-route-they-initiate", wide: toAnywhere, theyInitiate: true, event: theyRekeyChild},
		{group: g, name: "default-route-sigterm", wide: toAnywhere, event: sigterm},
		{group: g, name: "everything-we-initiate", wide: everything, event: theyRekeyIKE},
		{group: g, name: "everything-they-initiate", wide: everything, theyInitiate: true, event: weRekeyIKE},
	}
}
