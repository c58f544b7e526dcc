package v1

import (
	"errors"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Aggressive and base mode have proofs in messages that are in clear. Whoever saw the ones before can have sent such a message, so
// that one whose proof is wrong ends nothing: what was taken from it is forgotten, and the peer's own counts when it comes. Until
// a proof is found to be right, what we said goes on being sent.

// onProof checks the peer's proof in a message in clear. undo forgets what was taken from the message; then goes on.
func (p *phase1) onProof(c *isakmp.Chain, in core.Datagram, undo func(), then func() error) error {
	if p.misproves(c.Payloads) {
		err := p.unread(p.otherKeys())
		p.sa.bad(in, "%v", err)
		p.misread++
		undo()
		return nil
	}
	if !p.peerSigns() {
		return then()
	}
	if p.theirs != nil {
		p.theirs.End()
	}
	p.certs, p.certsErr = readCerts(c.Payloads)
	p.doubted = func(reason string) {
		p.misread++
		p.refusal = reason
		undo()
	}
	return p.doubt(p.check(c.Payloads, func() error {
		p.doubted = nil
		return then()
	}))
}

// doubt passes over what is wrong with a proof that anybody can have sent.
func (p *phase1) doubt(err error) error {
	var f fatal
	if p.doubted == nil || !errors.As(err, &f) || f.cause != ikesa.NotProven {
		return err
	}
	undo := p.doubted
	p.doubted = nil
	undo(f.reason)
	return nil
}
