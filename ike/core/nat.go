package core

import (
	"encoding/binary"
	"hash"
	"net/netip"
)

// NATHash is the content of a payload of NAT detection (RFC 7296 §2.23, RFC 3947 §3.2):
// a hash of SPIs, or in IKEv1 cookies, address and port. In IKEv2 the hash is SHA-1, in
// IKEv1 the one that was negotiated.
func NATHash(h func() hash.Hash, spii, spir uint64, a netip.AddrPort) []byte {
	b := make([]byte, 0, 34)
	b = binary.BigEndian.AppendUint64(b, spii)
	b = binary.BigEndian.AppendUint64(b, spir)
	b = append(b, a.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	d := h()
	d.Write(b)
	return d.Sum(nil)
}
