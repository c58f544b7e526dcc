package core

import (
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
)

// NATHash is the content of NAT_DETECTION_SOURCE_IP and _DESTINATION_IP
// (RFC 7296 §2.23): SHA-1 of SPIs, address and port. IKEv1 hashes with its own
// function over the same octets, cookies in the SPIs' place (RFC 3947 §3.2).
func NATHash(spii, spir uint64, a netip.AddrPort) [20]byte {
	b := make([]byte, 0, 34)
	b = binary.BigEndian.AppendUint64(b, spii)
	b = binary.BigEndian.AppendUint64(b, spir)
	b = append(b, a.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	return sha1.Sum(b)
}
