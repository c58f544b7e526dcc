//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testing/lab"
	"culvert/internal/testing/testcert"
)

// refusal is a cell in which no tunnel may come about.
type refusal struct {
	by     side
	ours   string // what our log says
	theirs string // what strongSwan's log says
}

// peerRefused is what our log says when the peer refuses us.
const peerRefused = "the peer refused our proof"

// check has the initiator try, and waits until both sides have said why not.
func (f *refusal) check(ctx context.Context, t *testing.T, r *tunnel) {
	if r.theyInitiate {
		if err := r.swan.InitiateChild(ctx, "c"); err == nil {
			t.Error("strongSwan has its CHILD SA")
		}
	}
	err := lab.Until(ctx, func() error {
		for _, want := range []struct{ who, log, text string }{
			{"culvert", r.culvert.Log(), f.ours}, {"strongSwan", r.swan.Log(), f.theirs},
		} {
			if !strings.Contains(want.log, want.text) {
				return fmt.Errorf("%s does not say %q", want.who, want.text)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// Who refuses has never had an IKE SA. The other one, if it was last to prove itself, has had one for a moment.
	if f.by == we && strings.Contains(r.culvert.Log(), "event=ike-up") {
		t.Error("culvert had an IKE SA")
	}
	if f.by == they && strings.Contains(r.swan.Log(), "] established between ") {
		t.Error("strongSwan had an IKE SA")
	}
	err = lab.Until(ctx, func() error {
		rows, err := r.culvert.Print(ctx, "installed-sa")
		if err != nil || len(rows) > 0 {
			return fmt.Errorf("culvert's SAs: %v, %v", rows, err)
		}
		if sas, err := r.swan.SAs(ctx); err != nil || len(sas) > 0 && sas[0].State == "ESTABLISHED" {
			return errors.Join(err, fmt.Errorf("strongSwan's SAs: %v", sas))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// pskCells: each kind of identity with pre-shared keys. A name of a certificate
// needs one (certificates-id-dn).
func pskCells() []cell {
	var cs []cell
	for i, kind := range []string{byAddress, byFQDN, byUser, byKeyID} {
		cs = append(cs, cell{group: "Pre-shared keys", name: "psk-id-" + kind, ids: kind, theyInitiate: i%2 == 1},
			cell{group: "Pre-shared keys", name: "psk-id-" + kind + "-other-way", ids: kind, theyInitiate: i%2 == 0})
	}
	return cs
}

// refusedCells: who refuses whom, and says why.
var refusedCells = sync.OnceValue(makeRefusedCells) // certificates are made once

func makeRefusedCells() []cell {
	const g = "Refused"
	named := func(c cell, name, what string, theyInitiate bool, f refusal) cell {
		c.group, c.name, c.theyInitiate, c.refused = g, "refused-"+name, theyInitiate, &f
		c.event = event{name: what}
		return c
	}
	wrong := cell{otherSecret: true}
	cs := []cell{
		named(wrong, "we-wrong-secret", "culvert refuses another secret", true, refusal{we, "event=authentication-failed", "AUTHENTICATION_FAILED"}),
		named(wrong, "they-wrong-secret", "strongSwan refuses another secret", false, refusal{they, peerRefused, "MAC mismatched"}),
		named(cell{stranger: we, ids: byFQDN}, "we-wrong-id-they-initiate", "culvert expects somebody else", true, refusal{we, "event=authentication-failed", "AUTHENTICATION_FAILED"}),
		named(cell{stranger: we, ids: byFQDN}, "we-wrong-id-we-initiate", "culvert asks for somebody else", false, refusal{they, peerRefused, "no matching peer config found"}),
		named(cell{stranger: they, ids: byFQDN}, "they-wrong-id-we-initiate", "strongSwan expects somebody else", false, refusal{they, peerRefused, "no matching peer config found"}),
		named(cell{stranger: they, ids: byFQDN}, "they-wrong-id-they-initiate", "strongSwan asks for somebody else", true, refusal{we, "event=authentication-failed", "AUTHENTICATION_FAILED"}),
	}
	good := proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}
	expired := good
	expired.options = []testcert.Option{testcert.Valid(testcert.From, time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC))}
	ours := cell{proofs: (&proofs{we: expired, they: good}).make("expired-ours")}
	theirs := cell{proofs: (&proofs{we: good, they: expired}).make("expired-theirs")}
	for _, theyInitiate := range []bool{false, true} {
		way := map[bool]string{false: "-we-initiate", true: "-they-initiate"}[theyInitiate]
		cs = append(cs,
			named(theirs, "we-expired"+way, "strongSwan's certificate has expired", theyInitiate, refusal{we, "expired", "AUTH_FAILED"}),
			named(ours, "they-expired"+way, "culvert's certificate has expired", theyInitiate, refusal{they, peerRefused, "no trusted ECDSA public key found"}))
	}
	return cs
}
