package v2

import (
	"errors"
	"fmt"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// What goes wrong has one of three outcomes, each its own type: drop silently,
// answer with a notify, end the SA.

// dropped is a message that is passed over as if it had never come.
type dropped struct{ reason string }

func (e dropped) Error() string { return e.reason }

// refused answers the exchange with a notify; the SA lives on. Reason is for
// our people, Kind and Data for the peer.
type refused struct {
	kind     message.NotifyType
	data     []byte
	protocol core.Protocol // with spi: which SA it is about
	spi      []byte
	reason   string
	detail   *core.Mismatch // for people: both sides beside each other
	ours     bool           // the peer was not asked
	said     bool           // the peer says so; else it is our judgement of what it says
	fault    bool           // a peer that works does not cause it
}

// notify is what the peer gets to read.
func (e refused) notify() *message.Notify {
	return &message.Notify{Kind: e.kind, Protocol: uint8(e.protocol), SPI: e.spi, Data: e.data}
}

func (e refused) Error() string {
	if e.reason == "" {
		return e.kind.String()
	}
	return e.kind.String() + ": " + e.reason
}

// fatal ends the SA, after a notify in the response if kind is not zero.
type fatal struct {
	kind   message.NotifyType
	reason string
	detail *core.Mismatch // for people: both sides beside each other
	told   bool           // an event has said it
}

func (e fatal) Error() string { return e.reason }

// again asks the initiator's side to repeat the exchange from its beginning.
type again struct{ reason string }

func (e again) Error() string { return e.reason }

func refuse(kind message.NotifyType, format string, a ...any) error {
	return refused{kind: kind, reason: fmt.Sprintf(format, a...)}
}

// causes are the notifies that say why there is no CHILD SA.
var causes = map[ikesa.Cause]message.NotifyType{
	ikesa.NoProposal:   message.NotifyNoProposalChosen,
	ikesa.BadSelectors: message.NotifyTSUnacceptable,
	ikesa.NeedsAddress: message.NotifyFailedCPRequired,
	ikesa.NoAddress:    message.NotifyInternalAddressFailure,
	ikesa.NotNow:       message.NotifyTemporaryFailure,
	ikesa.TooMany:      message.NotifyNoAdditionalSAs,
	ikesa.NoMoreLines:  message.NotifyTSMaxQueue,
}

// causeOf is what a notify of the peer says.
func causeOf(kind message.NotifyType) ikesa.Cause { return ikesa.CauseOf(causes, kind) }

// causeIn is what the peer refused an exchange of ours for. False: it did not, the exchange broke off.
func causeIn(fault error) (ikesa.Cause, bool) {
	var r refused
	if errors.As(fault, &r) && !r.ours {
		return causeOf(r.kind), true
	}
	return ikesa.NotNow, false
}

// inNotify turns a refusal of package sa into one that is said with a notify.
func inNotify(err error) error {
	var r *ikesa.Refusal
	if errors.As(err, &r) {
		return refused{kind: causes[r.Cause], reason: r.Reason, detail: r.Detail}
	}
	return err
}

func end(kind message.NotifyType, format string, a ...any) error {
	return fatal{kind: kind, reason: fmt.Sprintf(format, a...)}
}

// peerSaid turns an error notify of a response into an error.
func peerSaid(n *message.Notify) error {
	return refused{kind: n.Kind, data: n.Data, reason: "the peer answered so", said: true}
}

func isRefused(err error, kind message.NotifyType) bool {
	var r refused
	return errors.As(err, &r) && r.kind == kind
}

// isFatal reports whether an error ends the IKE SA.
func isFatal(err error) bool {
	var f fatal
	return errors.As(err, &f)
}
