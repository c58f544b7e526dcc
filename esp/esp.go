package esp

import (
	"encoding/binary"
	"errors"
)

// HeaderLen is the length of SPI and sequence number.
const HeaderLen = 8

// Why a packet does not open. A packet that failed is not to be used.
var (
	// ErrShort says that the packet has no room for header, IV, trailer and ICV,
	// or that what is encrypted is no whole number of blocks.
	ErrShort = errors.New("esp: the packet is too short or not a whole number of blocks")
	// ErrICV says that the packet was not sealed under this SA's keys with this
	// sequence number, or was changed on its way.
	ErrICV = errors.New("esp: the integrity check value does not match")
	// ErrPadding says that a genuine packet has a pad length that exceeds it or
	// padding that is not 1, 2, 3, … (RFC 4303 §2.4).
	ErrPadding = errors.New("esp: the padding is malformed")
)

// SPI is the SPI of an ESP packet, or of anything else that may arrive in its
// place. pkt must have HeaderLen bytes.
func SPI(pkt []byte) uint32 { return binary.BigEndian.Uint32(pkt) }

// Seq is the sequence number of an ESP packet as it is on the wire: with
// extended sequence numbers, the low half. pkt must have HeaderLen bytes.
func Seq(pkt []byte) uint32 { return binary.BigEndian.Uint32(pkt[4:]) }
