package message

import "golang.org/x/crypto/cryptobyte"

// VendorID is the Vendor ID payload (RFC 7296 §3.12).
type VendorID struct {
	Data []byte
}

func (p *VendorID) Type() PayloadType { return TypeVendorID }

func (p *VendorID) AppendBody(b []byte) []byte { return append(b, p.Data...) }

func parseVendorID(_ PayloadType, s cryptobyte.String) (Payload, string) {
	return &VendorID{rest(&s)}, ""
}
