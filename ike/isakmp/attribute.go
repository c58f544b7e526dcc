package isakmp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

// Attribute is one data attribute (RFC 2408 §3.3): of a transform, of mode config or of XAuth.
//
//	+-+-----------------------------+-------------------------------+
//	|A|       Attribute Type        |  A=0: length; A=1: value      |
//	+-+-----------------------------+-------------------------------+
//	~                    A=0: value; A=1: nothing                   ~
//	+---------------------------------------------------------------+
//
// An attribute prints without its value, which may be a password.
type Attribute struct {
	Type  uint16 // 15 bits
	Basic bool   // the A bit: the value stands in the head
	Value []byte // two bytes if Basic
}

const attrBasic = 0x8000

// Basic is an attribute of two bytes.
func Basic(t, v uint16) Attribute {
	return Attribute{t, true, binary.BigEndian.AppendUint16(nil, v)}
}

// Variable is an attribute of any length; it keeps v.
func Variable(t uint16, v []byte) Attribute { return Attribute{Type: t, Value: v} }

// Number is an attribute that is a number, in the shortest form of
// two bytes (basic), four and eight.
func Number(t uint16, v uint64) Attribute {
	switch {
	case v <= 0xffff:
		return Basic(t, uint16(v))
	case v <= 0xffffffff:
		return Variable(t, binary.BigEndian.AppendUint32(nil, uint32(v)))
	}
	return Variable(t, binary.BigEndian.AppendUint64(nil, v))
}

// Uint is the value as a number, however many bytes it was written in, leading
// zeros included. ok is false if it is empty or has more than 64 bits.
func (a Attribute) Uint() (v uint64, ok bool) {
	digits := bytes.TrimLeft(a.Value, "\x00")
	if len(a.Value) == 0 || len(digits) > 8 {
		return 0, false
	}
	for _, d := range digits {
		v = v<<8 | uint64(d)
	}
	return v, true
}

// Uint16 is Uint of a value that has to fit 16 bits.
func (a Attribute) Uint16() (v uint16, ok bool) {
	n, ok := a.Uint()
	return uint16(n), ok && n <= 0xffff
}

// Addr is a value of 4 or 16 bytes as an address; ok is false if it has another length.
func (a Attribute) Addr() (addr netip.Addr, ok bool) { return netip.AddrFromSlice(a.Value) }

// Text is the value without one NUL at its end: Android puts one behind
// names and passwords. It belongs to the attribute.
func (a Attribute) Text() []byte { return bytes.TrimSuffix(a.Value, []byte{0}) }

// String hides the value.
func (a Attribute) String() string {
	return fmt.Sprintf("attribute %d of %d bytes", a.Type, len(a.Value))
}

// GoString hides the value too.
func (a Attribute) GoString() string { return a.String() }

func (a Attribute) append(b []byte) []byte {
	if a.Basic {
		var v [2]byte
		copy(v[:], a.Value)
		return append(binary.BigEndian.AppendUint16(b, attrBasic|a.Type), v[:]...)
	}
	v := bounded(a.Value, 0xffff)
	b = binary.BigEndian.AppendUint16(b, a.Type&^attrBasic)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}

func appendAttributes(b []byte, as []Attribute) []byte {
	for _, a := range as[:min(len(as), maxAttributes)] {
		b = a.append(b)
	}
	return b
}

// parseAttributes reads attributes up to the end of s.
func parseAttributes(s cryptobyte.String) (as []Attribute, reason string) {
	for !s.Empty() {
		if len(as) == maxAttributes {
			return nil, fmt.Sprintf("more than %d attributes", maxAttributes)
		}
		var head uint16
		if !s.ReadUint16(&head) {
			return nil, "an attribute does not fit"
		}
		a := Attribute{Type: head &^ attrBasic, Basic: head&attrBasic != 0}
		length := uint16(2)
		if !a.Basic && !s.ReadUint16(&length) || !take(&s, &a.Value, int(length)) {
			return nil, "an attribute does not fit"
		}
		as = append(as, a)
	}
	return as, ""
}
