package record

import (
	"bytes"
	"testing"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
)

// A recording without secrets has no keys of session tickets and no tickets; how
// long one counts stays, since timers hang on it.
func TestRedactedTickets(t *testing.T) {
	key := secret.Bytes(bytes.Repeat([]byte{0xA5}, core.TicketKeyLen))
	in, err := (&Recorder{}).redacted(core.TicketKeys{Keys: []core.TicketKey{{ID: [8]byte{1}, Secret: key, Since: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	k := in.(core.TicketKeys).Keys
	if len(k) != 1 || k[0].ID != [8]byte{1} || k[0].Since != 7 || !bytes.Equal(k[0].Secret, make([]byte, core.TicketKeyLen)) {
		t.Errorf("%+v", k)
	}
	if key[0] != 0xA5 {
		t.Error("the endpoint's own key was wiped")
	}
	for kind, want := range map[message.NotifyType][]byte{
		message.NotifyTicketLTOpaque: {0, 1, 0x51, 0x80, 0, 0, 0},
		message.NotifyTicketOpaque:   make([]byte, 7),
	} {
		first, b := message.AppendPayloads(nil, []message.Payload{&message.Notify{Kind: kind, Data: []byte{0, 1, 0x51, 0x80, 't', 'k', 't'}}})
		blank(first, b)
		ps, err := message.ParsePayloads(first, b)
		if err != nil || !bytes.Equal(ps[0].(*message.Notify).Data, want) {
			t.Errorf("%v: %v, %v", kind, ps, err)
		}
	}
}
