package record

import (
	"bytes"
	"testing"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
)

// A recording without secrets has no keys of session tickets, and of tickets only
// how long they count and what names them.
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
	ticket := bytes.Repeat([]byte{9}, 60)
	for kind, keep := range map[message.NotifyType]int{message.NotifyTicketLTOpaque: 4, message.NotifyTicketOpaque: ticketName} {
		first, b := message.AppendPayloads(nil, []message.Payload{&message.Notify{Kind: kind, Data: bytes.Clone(ticket)}})
		blank(first, b)
		ps, err := message.ParsePayloads(first, b)
		if err != nil {
			t.Fatal(err)
		}
		if got := ps[0].(*message.Notify).Data; !bytes.Equal(got[:keep], ticket[:keep]) || !bytes.Equal(got[keep:], make([]byte, len(ticket)-keep)) {
			t.Errorf("%v: %x", kind, got)
		}
	}
}
