package message

import "fmt"

// PayloadType is the number of a payload (RFC 7296 §3.2). Those of IKEv1, which
// ike/isakmp has, are below 32 and in the private range: IKEv2 gave no number a second time.
type PayloadType uint8

// The payload types of IKEv2.
const (
	NoNext       PayloadType = 0
	TypeSA       PayloadType = 33
	TypeKE       PayloadType = 34
	TypeIDi      PayloadType = 35
	TypeIDr      PayloadType = 36
	TypeCERT     PayloadType = 37
	TypeCERTREQ  PayloadType = 38
	TypeAUTH     PayloadType = 39
	TypeNonce    PayloadType = 40
	TypeNotify   PayloadType = 41
	TypeDelete   PayloadType = 42
	TypeVendorID PayloadType = 43
	TypeTSi      PayloadType = 44
	TypeTSr      PayloadType = 45
	TypeSK       PayloadType = 46
	TypeCP       PayloadType = 47
	TypeEAP      PayloadType = 48
	TypeSKF      PayloadType = 53 // RFC 7383
)

var payloadNames = [...]string{
	NoNext: "No Next Payload",
	// IKEv1
	1: "SA", 2: "Proposal", 3: "Transform", 4: "KE", 5: "ID", 6: "CERT", 7: "CERTREQ", 8: "HASH", 9: "SIG", 10: "NONCE", 11: "N", 12: "D",
	13: "VID", 14: "ATTRIBUTES", 20: "NAT-D", 21: "NAT-OA", 130: "NAT-D (draft)", 131: "NAT-OA (draft)", 132: "FRAGMENT",
	// IKEv2
	TypeSA: "SA", TypeKE: "KE", TypeIDi: "IDi", TypeIDr: "IDr", TypeCERT: "CERT", TypeCERTREQ: "CERTREQ",
	TypeAUTH: "AUTH", TypeNonce: "Nonce", TypeNotify: "Notify", TypeDelete: "Delete", TypeVendorID: "Vendor ID",
	TypeTSi: "TSi", TypeTSr: "TSr", TypeSK: "SK", TypeCP: "CP", TypeEAP: "EAP", TypeSKF: "SKF",
}

func (t PayloadType) String() string {
	if int(t) < len(payloadNames) && payloadNames[t] != "" {
		return payloadNames[t]
	}
	return fmt.Sprintf("unknown(%d)", uint8(t))
}

// Unknown is a payload that has no codec here. If Critical is set, the message
// must be refused with UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296 §2.5), else the
// payload is skipped; that is for the reader of the message to do.
type Unknown struct {
	T        PayloadType
	Critical bool
	Body     []byte
}

func (p *Unknown) Type() PayloadType          { return p.T }
func (p *Unknown) AppendBody(b []byte) []byte { return append(b, p.Body...) }
