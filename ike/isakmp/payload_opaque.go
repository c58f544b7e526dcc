package isakmp

// KE is the Key Exchange payload: a Diffie-Hellman public value (RFC 2408 §3.7).
// The group is that of the SA.
type KE struct{ Data []byte }

// Hash is the Hash payload (RFC 2408 §3.11).
type Hash struct{ Data []byte }

// Sig is the Signature payload (RFC 2408 §3.12).
type Sig struct{ Data []byte }

// Nonce is the Nonce payload (RFC 2408 §3.13). RFC 2409 §5 wants 8 to 256 bytes, which is
// the reader's to check.
type Nonce struct{ Data []byte }

// VendorID is the Vendor ID payload (RFC 2408 §3.16); IdentifyVendor knows some.
type VendorID struct{ Data []byte }

// NATD is a NAT-D payload: a hash of the cookies and of one end's address and port (RFC 3947
// §3.2), as long as the hash of phase 1 makes it.
type NATD struct {
	Draft bool // under the number of the drafts
	Data  []byte
}

func (p *KE) Type() PayloadType       { return TypeKE }
func (p *Hash) Type() PayloadType     { return TypeHash }
func (p *Sig) Type() PayloadType      { return TypeSig }
func (p *Nonce) Type() PayloadType    { return TypeNonce }
func (p *VendorID) Type() PayloadType { return TypeVendorID }

func (p *NATD) Type() PayloadType {
	if p.Draft {
		return TypeNATDDraft
	}
	return TypeNATD
}

func (p *KE) AppendBody(b []byte) []byte       { return append(b, p.Data...) }
func (p *Hash) AppendBody(b []byte) []byte     { return append(b, p.Data...) }
func (p *Sig) AppendBody(b []byte) []byte      { return append(b, p.Data...) }
func (p *Nonce) AppendBody(b []byte) []byte    { return append(b, p.Data...) }
func (p *VendorID) AppendBody(b []byte) []byte { return append(b, p.Data...) }
func (p *NATD) AppendBody(b []byte) []byte     { return append(b, p.Data...) }
