//go:build linux

package interop

import "fmt"

// extra is what a cell writes beside the usual into the two configurations.
type extra struct {
	identity   string // of culvert: lines of [[identity]]
	peer       string // lines of [[peer]]
	gateway    string // lines of [gateway]
	address    string // our machine's second address, ADDRESS/LENGTH
	profile    string // lines of [[profile]]
	dpd        string // its dpd-interval; empty: 5s
	connection string // of strongSwan: lines of the connection
	secrets    string // blocks of its secrets
	before     string // of culvert: stands in dh-group before the suite's
	pfsBefore  string // the same in pfs-group
	daemon     string // lines of its own configuration
}

// ppkEnd is one side's postquantum preshared key.
type ppkEnd struct {
	id       string // empty: none
	required bool
}

// ppks makes the two configurations' lines. All PPKs of one name are one secret.
func ppks(ours, theirs ppkEnd) (e extra) {
	if ours.id != "" {
		e.identity = fmt.Sprintf("ppk-id = %q\nppk-secret = %q\nppk-required = %t\n", ours.id, "quantum "+ours.id, ours.required)
	}
	if theirs.id != "" {
		required := map[bool]string{true: "yes", false: "no"}[theirs.required]
		e.connection = fmt.Sprintf("ppk_id = %s\n\t\tppk_required = %s\n", theirs.id, required)
		e.secrets = fmt.Sprintf("\tppk-1 {\n\t\tsecret = %q\n\t\tid-1 = %s\n\t}\n", "quantum "+theirs.id, theirs.id)
	}
	return e
}

// childlessCells: RFC 6023. The first CHILD SA comes by CREATE_CHILD_SA.
func childlessCells() []cell {
	force := extra{connection: "childless = force"}
	ends := func(ours, theirs string) extra {
		return extra{peer: fmt.Sprintf("childless = %q\n", ours), connection: "childless = " + theirs}
	}
	pfs := espSuite{aes256gcm, sha256, x25519}
	return []cell{
		{group: "Childless initiation", name: "childless-we-initiate", extra: ends("require", "force"), event: theyRekeyChild},
		{group: "Childless initiation", name: "childless-we-initiate-pfs", extra: ends("require", "allow"), exchanged: true, esp: pfs, event: weRekeyChild},
		{group: "Childless initiation", name: "childless-we-prefer-they-never", extra: ends("prefer", "never"), esp: pfs, event: weRekeyChild},
		{group: "Childless initiation", name: "childless-they-initiate-we-require", theyInitiate: true, extra: ends("require", "force"), exchanged: true, esp: pfs, event: weRekeyChild},
		{group: "Childless initiation", name: "childless-they-initiate", theyInitiate: true, extra: force, event: weRekeyChild},
		{group: "Childless initiation", name: "childless-they-initiate-pfs", theyInitiate: true, extra: force, exchanged: true,
			esp: espSuite{aes256gcm, sha256, x25519}, event: theyRekeyChild},
	}
}

// hybridCells: a peer without additional key exchanges (RFC 9370) takes the next proposal.
func hybridCells() []cell {
	const g = "Additional key exchanges offered to a peer without them"
	hybrid := extra{before: "x25519+ml-kem-768"}
	all := both("IKE SA and CHILD SA rekeyed by each side", weRekeyIKE, theyRekeyChild, theyRekeyIKE, weRekeyChild)
	return []cell{
		{group: g, name: "hybrid-offered-we-initiate", ike: ikeSuite{aes256gcm, sha256, x25519}, extra: hybrid, event: all},
		{group: g, name: "hybrid-offered-they-initiate", ike: ikeSuite{aes256gcm, sha256, x25519}, theyInitiate: true, extra: hybrid, event: all},
		{group: g, name: "hybrid-pfs-offered", esp: espSuite{aes256gcm, sha256, x25519}, extra: extra{pfsBefore: "x25519+ml-kem-768"}, event: both("the CHILD SA rekeyed by each side", weRekeyChild, theyRekeyChild)},
		{group: g, name: "hybrid-pfs-offered-another-group", esp: espSuite{aes256gcm, sha256, ecp384}, extra: extra{pfsBefore: "x25519+ml-kem-768"}, event: both("the CHILD SA rekeyed by each side", weRekeyChild, theyRekeyChild)},
		{group: g, name: "hybrid-offered-another-group", ike: ikeSuite{aes256, sha256, ecp384}, extra: hybrid, event: all},
	}
}

// ppkCells: RFC 8784. Where strongSwan requires the PPK, a tunnel shows that both mixed it in.
func ppkCells() []cell {
	var cs []cell
	for _, c := range []struct {
		name         string
		ours, theirs ppkEnd
	}{
		{"both", ppkEnd{"one.example", false}, ppkEnd{"one.example", false}},
		{"both-require", ppkEnd{"one.example", true}, ppkEnd{"one.example", true}},
		{"we-require", ppkEnd{"one.example", true}, ppkEnd{"one.example", false}},
		{"they-require", ppkEnd{"one.example", false}, ppkEnd{"one.example", true}},
		{"only-we", ppkEnd{"one.example", false}, ppkEnd{}},
		{"only-they", ppkEnd{}, ppkEnd{"one.example", false}},
		{"another", ppkEnd{"one.example", false}, ppkEnd{"two.example", false}},
	} {
		for _, they := range []bool{false, true} {
			if c.name == "another" && !they {
				continue // strongSwan as responder refuses another PPK_ID also where its own is not required
			}
			name := "ppk-" + c.name + map[bool]string{false: "-we-initiate", true: "-they-initiate"}[they]
			x := cell{group: "Postquantum preshared keys", name: name, theyInitiate: they, extra: ppks(c.ours, c.theirs)}
			if c.ours.required && c.theirs.required {
				x.event = both("IKE SA and CHILD SA rekeyed by each side", weRekeyIKE, theyRekeyChild, theyRekeyIKE, weRekeyChild)
			}
			cs = append(cs, x)
		}
	}
	return cs
}
