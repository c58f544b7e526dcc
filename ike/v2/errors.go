package v2

import (
	"errors"
	"fmt"

	"culvert/ike/core"
	"culvert/ike/message"
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

// Refuse is for the endpoint: the exchange is answered with a notify.
func Refuse(kind message.NotifyType, format string, a ...any) error {
	return refuse(kind, format, a...)
}

func end(kind message.NotifyType, format string, a ...any) error {
	return fatal{kind: kind, reason: fmt.Sprintf(format, a...)}
}

// peerSaid turns an error notify of a response into an error.
func peerSaid(n *message.Notify) error {
	return refused{kind: n.Kind, data: n.Data, reason: "the peer answered so"}
}

func isRefused(err error, kind message.NotifyType) bool {
	var r refused
	return errors.As(err, &r) && r.kind == kind
}
