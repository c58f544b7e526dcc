package message

import (
	"encoding/binary"
	"fmt"
)

// HeaderLen is the length of the IKE header in bytes.
const HeaderLen = 28

// Header is the IKE header (RFC 7296 §3.1). IKEv1 has the same one, where the
// SPIs are called cookies (RFC 2408 §3.1).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       IKE SA Initiator's SPI                  |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       IKE SA Responder's SPI                  |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Next Payload | MjVer | MnVer | Exchange Type |     Flags     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                          Message ID                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                            Length                             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type Header struct {
	SPIi, SPIr uint64
	Next       PayloadType
	Version    uint8 // major<<4 | minor; 0x20 is IKEv2
	Exchange   ExchangeType
	Flags      Flags
	ID         uint32 // message ID
	Length     uint32 // of the whole message with the header, in bytes
}

// ParseHeader reads the header of a datagram of either version of IKE. A
// Length that is not exactly that of b is an error.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, &SyntaxError{NoNext, "the datagram is shorter than an IKE header"}
	}
	h := Header{
		SPIi:     binary.BigEndian.Uint64(b),
		SPIr:     binary.BigEndian.Uint64(b[8:]),
		Next:     PayloadType(b[16]),
		Version:  b[17],
		Exchange: ExchangeType(b[18]),
		Flags:    Flags(b[19]),
		ID:       binary.BigEndian.Uint32(b[20:]),
		Length:   binary.BigEndian.Uint32(b[24:]),
	}
	if uint64(h.Length) != uint64(len(b)) {
		return h, &SyntaxError{NoNext, fmt.Sprintf("the header says %d bytes, the datagram has %d", h.Length, len(b))}
	}
	return h, nil
}

// Append writes the header as it is, Next and Length too.
func (h Header) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, h.SPIi)
	b = binary.BigEndian.AppendUint64(b, h.SPIr)
	b = append(b, byte(h.Next), h.Version, byte(h.Exchange), byte(h.Flags))
	b = binary.BigEndian.AppendUint32(b, h.ID)
	return binary.BigEndian.AppendUint32(b, h.Length)
}

// Major is the major version.
func (h Header) Major() uint8 { return h.Version >> 4 }

// Response reports whether an IKEv2 message answers a request.
func (h Header) Response() bool { return h.Flags&FlagResponse != 0 }

// FromInitiator reports whether the sender is the original initiator of the
// IKEv2 SA.
func (h Header) FromInitiator() bool { return h.Flags&FlagInitiator != 0 }

// ExchangeType is the kind of exchange (RFC 7296 §3.1). Those of IKEv1, which ike/isakmp has,
// are below 34.
type ExchangeType uint8

// The exchange types of IKEv2.
const (
	ExchangeIKESAInit     ExchangeType = 34
	ExchangeIKEAuth       ExchangeType = 35
	ExchangeCreateChildSA ExchangeType = 36
	ExchangeInformational ExchangeType = 37
	ExchangeSessionResume ExchangeType = 38 // RFC 5723
	ExchangeIntermediate  ExchangeType = 43 // RFC 9242
	ExchangeFollowUpKE    ExchangeType = 44 // RFC 9370
)

func (t ExchangeType) String() string {
	switch t {
	case 1:
		return "base mode"
	case 2:
		return "main mode"
	case 4:
		return "aggressive mode"
	case 5:
		return "informational"
	case 6:
		return "transaction"
	case 32:
		return "quick mode"
	case ExchangeIKESAInit:
		return "IKE_SA_INIT"
	case ExchangeIKEAuth:
		return "IKE_AUTH"
	case ExchangeCreateChildSA:
		return "CREATE_CHILD_SA"
	case ExchangeInformational:
		return "INFORMATIONAL"
	case ExchangeSessionResume:
		return "IKE_SESSION_RESUME"
	case ExchangeIntermediate:
		return "IKE_INTERMEDIATE"
	case ExchangeFollowUpKE:
		return "IKE_FOLLOWUP_KE"
	}
	return fmt.Sprintf("exchange %d", uint8(t))
}

// Flags are the flags of an IKEv2 header (RFC 7296 §3.1).
type Flags uint8

const (
	FlagInitiator Flags = 0x08 // the sender is the original initiator
	FlagVersion   Flags = 0x10 // the sender can speak a higher major version
	FlagResponse  Flags = 0x20 // the message answers a request
)
