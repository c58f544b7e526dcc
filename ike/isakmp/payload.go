package isakmp

import "culvert/ike/message"

// PayloadType is the number of a payload.
type PayloadType = message.PayloadType

// The payload types of IKEv1 (RFC 2408 §3.1). Those of NAT traversal have two numbers:
// RFC 3947's and those of its drafts 00 to 03, of the private range. The
// payload that a peer understands depends on the vendor ID it sent.
const (
	NoNext         PayloadType = 0
	TypeSA         PayloadType = 1
	TypeKE         PayloadType = 4
	TypeID         PayloadType = 5
	TypeCert       PayloadType = 6
	TypeCertReq    PayloadType = 7
	TypeHash       PayloadType = 8
	TypeSig        PayloadType = 9
	TypeNonce      PayloadType = 10
	TypeNotify     PayloadType = 11
	TypeDelete     PayloadType = 12
	TypeVendorID   PayloadType = 13
	TypeAttributes PayloadType = 14  // mode config and XAuth
	TypeNATD       PayloadType = 20  // RFC 3947 §3.2
	TypeNATOA      PayloadType = 21  // RFC 3947 §5.2
	TypeNATDDraft  PayloadType = 130 // draft-ietf-ipsec-nat-t-ike-00 to 03
	TypeNATOADraft PayloadType = 131 // draft-ietf-ipsec-nat-t-ike-00 to 03
	TypeFragment   PayloadType = 132 // Cisco and Microsoft
)

// The exchange types of IKEv1.
const (
	ExchangeBase          message.ExchangeType = 1  // draft-ietf-ipsec-ike-base-mode
	ExchangeMain          message.ExchangeType = 2  // identity protection
	ExchangeAggressive    message.ExchangeType = 4  // RFC 2408 §4.7
	ExchangeInformational message.ExchangeType = 5  // RFC 2408 §4.8
	ExchangeTransaction   message.ExchangeType = 6  // mode config and XAuth
	ExchangeQuick         message.ExchangeType = 32 // RFC 2409 §5.5
)

// The flags of an IKEv1 header (RFC 2408 §3.1).
const (
	FlagEncryption message.Flags = 0x01 // what follows the header is encrypted
	FlagCommit     message.Flags = 0x02 // wait for CONNECTED before the SA is used
	FlagAuthOnly   message.Flags = 0x04 // authenticated and not encrypted
)

// Version is the version field of an IKEv1 header.
const Version = 0x10

// Payload is one payload of an IKEv1 message.
type Payload = message.Payload

// Unknown is a payload that has no codec here. IKEv1 has no critical bit: an unknown
// payload is passed over or the message refused, as the reader decides.
type Unknown = message.Unknown

// SyntaxError says why a message cannot be read.
type SyntaxError = message.SyntaxError
