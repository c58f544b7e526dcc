package isakmp

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// Fragment is the payload of Cisco's and Microsoft's fragments of IKE messages ([MS-IKEE] §2.2.3.1): a part
// of a whole message, its header included. It is the only payload of its message.
//
//	+---------------+---------------+---------------+---------------+
//	|          Fragment ID          |    Number     |     Flags     |
//	+---------------+---------------+---------------+---------------+
//	~                             Data                              ~
//	+---------------------------------------------------------------+
type Fragment struct {
	ID     uint16 // the same in all fragments of one message
	Number uint8  // from 1
	Last   bool
	Data   []byte
}

const fragmentLast = 1

// FragmentOverhead is what a fragment takes beside its data, in bytes: the generic header, and what precedes the data.
const FragmentOverhead = genericLen + 4

func (p *Fragment) Type() PayloadType { return TypeFragment }

func (p *Fragment) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, p.ID)
	b = append(b, p.Number, mark(p.Last, fragmentLast))
	return append(b, p.Data...)
}

func parseFragment(_ PayloadType, s cryptobyte.String, odd *Odd) (Payload, string) {
	p := &Fragment{}
	var flags uint8
	if !s.ReadUint16(&p.ID) || !s.ReadUint8(&p.Number) || !s.ReadUint8(&flags) {
		return nil, short
	}
	if p.Number == 0 {
		return nil, "fragment 0: they count from 1"
	}
	p.Last = flags&fragmentLast != 0
	odd.zero(flags &^ fragmentLast)
	p.Data = rest(&s)
	return p, ""
}
