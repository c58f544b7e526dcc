package v1

import (
	"errors"
	"fmt"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// What goes wrong has one of three outcomes.

// dropped is a message that is passed over as if it had never come.
type dropped struct{ reason string }

func (e dropped) Error() string { return e.reason }

func drop(format string, a ...any) error { return dropped{fmt.Sprintf(format, a...)} }

// refused ends an exchange of phase 2 and is said in a notification; the SA lives on.
type refused struct {
	kind   isakmp.NotifyType
	reason string
	detail *core.Mismatch // for people: both sides beside each other
	ours   bool           // the peer had no part in it
}

func (e refused) Error() string { return e.reason }

func refuse(kind isakmp.NotifyType, format string, a ...any) error {
	return refused{kind: kind, reason: fmt.Sprintf(format, a...)}
}

// fatal ends the SA, after a notification if kind is not zero.
type fatal struct {
	kind   isakmp.NotifyType
	reason string
	cause  ikesa.Cause
	detail *core.Mismatch
	told   bool // an event has said it
}

func (e fatal) Error() string { return e.reason }

func end(kind isakmp.NotifyType, format string, a ...any) error {
	return fatal{kind: kind, reason: fmt.Sprintf(format, a...)}
}

// causes are the notifications that say why there is no CHILD SA.
var causes = map[ikesa.Cause]isakmp.NotifyType{
	ikesa.NoProposal:   isakmp.NotifyNoProposalChosen,
	ikesa.BadSelectors: isakmp.NotifyInvalidIDInformation,
	ikesa.NotProven:    isakmp.NotifyAuthenticationFailed,
}

// causeOf is what a notification of the peer says.
func causeOf(kind isakmp.NotifyType) ikesa.Cause { return ikesa.CauseOf(causes, kind) }

// inNotify turns a refusal of package sa into one that is said with a notification.
func inNotify(err error) error {
	var r *ikesa.Refusal
	if errors.As(err, &r) {
		kind, ok := causes[r.Cause]
		if !ok {
			kind = isakmp.NotifyNoProposalChosen // there is no number for the others
		}
		return refused{kind: kind, reason: r.Reason, detail: r.Detail}
	}
	return err
}
