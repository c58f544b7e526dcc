package v2

import (
	"culvert/ike/core"
	"culvert/ike/message"
)

// find is the first payload of a type; nil if there is none.
func find[T message.Payload](ps []message.Payload) (t T) {
	for _, p := range ps {
		if x, ok := p.(T); ok {
			return x
		}
	}
	return t
}

// notify is the first notify of a kind; nil if there is none.
func notify(ps []message.Payload, kind message.NotifyType) *message.Notify {
	for _, p := range ps {
		if n, ok := p.(*message.Notify); ok && n.Kind == kind {
			return n
		}
	}
	return nil
}

// errorNotify is the first notify that reports an error; nil if there is none.
func errorNotify(ps []message.Payload) *message.Notify {
	for _, p := range ps {
		if n, ok := p.(*message.Notify); ok && n.Kind.IsError() {
			return n
		}
	}
	return nil
}

func findID(ps []message.Payload, initiator bool) *message.ID {
	for _, p := range ps {
		if id, ok := p.(*message.ID); ok && id.Initiator == initiator {
			return id
		}
	}
	return nil
}

func findTS(ps []message.Payload, initiator bool) *message.TS {
	for _, p := range ps {
		if ts, ok := p.(*message.TS); ok && ts.Initiator == initiator {
			return ts
		}
	}
	return nil
}

// critical is the type of the first payload that we do not know and that the
// peer insists on (RFC 7296 §2.5).
func critical(ps []message.Payload) (message.PayloadType, bool) {
	for _, p := range ps {
		if u, ok := p.(*message.Unknown); ok && u.Critical {
			return u.T, true
		}
	}
	return 0, false
}

func idPayload(id core.ID, initiator bool) *message.ID {
	return &message.ID{Initiator: initiator, IDType: uint8(id.Type), Data: []byte(id.Data)}
}

func idOf(p *message.ID) core.ID {
	return core.ID{Type: core.IDType(p.IDType), Data: string(p.Data)}
}

// clone copies a nonce or key out of a borrowed datagram.
func clone(b []byte) []byte { return append([]byte(nil), b...) }
