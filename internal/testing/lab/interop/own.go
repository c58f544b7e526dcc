package interop

import (
	"fmt"
	"strings"
)

// Own is a feature that no peer at hand speaks. It is shown by scripted
// conversations, whose keys and messages are made from the words of the RFC, and by
// our own gateways against each other.
type Own struct {
	Feature string
	Tests   []string // FOLDER.TestName
	Outcome Outcome
}

// own lists them. A feature leaves the list when it gets a cell.
func own() []Own {
	return []Own{
		{Feature: "session resumption (RFC 5723)", Tests: []string{
			"ike.TestGatewayResumes", "ike.TestClientResumes", "ike.TestTicketNack", "ike.TestStolenTicket", "ike.TestClientFallsBack",
			"ike.TestResumptionMishaps", "ike.TestOutagesOnABadNetwork", "internal/gateway.TestGatewaysResume"}},
		{Feature: "IKE_INTERMEDIATE (RFC 9242)", Tests: []string{
			"ike.TestIntermediateOfTheRFC", "ike.TestIntermediateIsProven", "ike.TestIntermediateLosses"}},
		{Feature: "additional key exchanges (RFC 9370) with ML-KEM", Tests: []string{
			"ike.TestAdditionalKeyExchanges", "ike.TestFollowUpOfTheRFC", "ike.TestFollowUpLosses", "ike.TestChildKeyExchanges", "crypto/kem.TestWycheproof"}},
		{Feature: "AH with ESP, as IKEv1 negotiates it; the kernel of Linux takes the packets", Tests: []string{
			"ike.TestAHWithESP", "ike.TestAHWithESPOfAPeer", "ike.TestAHWithESPAsked", "internal/gateway.TestModesAreNegotiated"}},
		{Feature: "per-CPU CHILD SAs (RFC 9611); strongSwan has them since version 6.0, and Debian has 5.9.8", Tests: []string{
			"ike.TestPeerMakesChildrenForItsCPUs", "ike.TestChildrenForCPUsHaveABound", "ike.TestChildForALineIsRekeyed", "ike.TestBusyLineGetsAChild",
			"ike.TestRefusedLines", "ike.TestBothAskForLinesAtOnce", "ike.TestLinesOfBothEnds", "ike.TestLinesAreRekeyedOnABadNetwork"}},
	}
}

const ownIntro = `
## No independent peer

What strongSwan here does not speak. It is shown by conversations that are scripted from the words of the RFC, with a key
derivation of their own, and by our gateways against each other; that another implementation reads the RFC in the
same way is not shown.

| feature | tests | result |
|---|---|---|
`

// OwnTable writes them as Markdown.
func OwnTable(features []Own) string {
	var b strings.Builder
	b.WriteString(ownIntro)
	for _, f := range features {
		fmt.Fprintf(&b, "| %s | `%s` | no independent peer; %s |\n", f.Feature, strings.Join(f.Tests, "`, `"), f.Outcome)
	}
	return b.String()
}
