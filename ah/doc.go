// Package ah is the Authentication Header (RFC 4302): views of the header, and
// the transform that puts it into an IP packet and checks one, in place. It has
// the shape of package esp's, so that sad and the data path treat both alike;
// what differs is that the ICV covers the IP header too: where esp is given a
// payload, ah is given the whole IP packet.
//
//	 0               1               2               3
//	+---------------+---------------+-------------------------------+
//	|  next header  | length/4 - 2  |          reserved             |
//	+---------------+---------------+-------------------------------+
//	|              Security Parameters Index (SPI)                  |
//	+---------------------------------------------------------------+
//	|          Sequence number, its low 32 bits                     |
//	+---------------------------------------------------------------+
//	|          ICV, padded to 4 bytes (IPv4) or 8 bytes (IPv6)      |
//	+---------------------------------------------------------------+
//
// With extended sequence numbers the ICV covers the high half as if it stood
// behind the packet (RFC 4302 §2.5.1).
package ah

import (
	"encoding/binary"
	"errors"
)

// HeaderLen is the length of the header without the ICV.
const HeaderLen = 12

// Why a packet does not open. A packet that failed is not to be used.
var (
	// ErrShort says that what was given is no whole IP packet with an AH, or
	// that the AH has not the length that this SA's ICV has.
	ErrShort = errors.New("ah: the packet is too short, or its AH is not as long as this SA's")
	// ErrHeader says that an option or extension header in front of the AH is
	// malformed, so that it is unknown what the ICV covers.
	ErrHeader = errors.New("ah: an option or extension header in front is malformed")
	// ErrICV says that the packet was not sealed under this SA's key with this
	// sequence number, or was changed on its way.
	ErrICV = errors.New("ah: the integrity check value does not match")
)

// SPI and Seq are fields of the AH at the start of h; with extended sequence
// numbers Seq is the low half. h must have HeaderLen bytes.
func SPI(h []byte) uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Seq: see SPI.
func Seq(h []byte) uint32 { return binary.BigEndian.Uint32(h[8:]) }
