package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// VICI is the protocol of charon's control socket, as its README.md says. A packet is its length in four bytes,
// an operation, a name with its length in one byte if the operation has one, and a message.
const (
	viciRequest   = 0
	viciResponse  = 1
	viciRegister  = 3
	viciConfirmed = 5
	viciEvent     = 7
)

// The elements of a message.
const (
	viciSectionStart = 1 + iota // and its name
	viciSectionEnd
	viciKeyValue  // and both
	viciListStart // and its name
	viciListItem  // and its value
	viciListEnd
)

// viciLimit bounds a packet in bytes.
const viciLimit = 1 << 20

// viciSAs asks the charon at a socket for its SAs, as `swanctl --list-sas` does. The result is, for each IKE SA, the length
// of a message in four bytes and the message.
func viciSAs(ctx context.Context, socket string) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	ask := func(op byte, name string) error {
		p := append([]byte{0, 0, 0, byte(2 + len(name)), op, byte(len(name))}, name...)
		_, err := conn.Write(p)
		return err
	}
	if err := ask(viciRegister, "list-sa"); err != nil {
		return nil, err
	}
	var list []byte
	for {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n == 0 || n > viciLimit {
			return nil, fmt.Errorf("a packet of charon's has %d bytes", n)
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(conn, p); err != nil {
			return nil, err
		}
		switch p[0] {
		case viciConfirmed:
			if err := ask(viciRequest, "list-sas"); err != nil {
				return nil, err
			}
		case viciEvent:
			s, name := cryptobyte.String(p[1:]), cryptobyte.String{}
			if !s.ReadUint8LengthPrefixed(&name) {
				return nil, errors.New("an event of charon's has no name")
			}
			list = append(binary.BigEndian.AppendUint32(list, uint32(len(s))), s...)
		case viciResponse:
			return list, nil
		default:
			return nil, fmt.Errorf("charon answers with operation %d", p[0])
		}
	}
}

// section is a node of a message.
type section struct {
	name     string
	values   map[string]string
	lists    map[string][]string
	sections []*section
}

func newSection(name string) *section {
	return &section{name: name, values: map[string]string{}, lists: map[string][]string{}}
}

var errVICI = errors.New("a message of charon's is malformed")

// readSection takes one message, after its length, from what viciSAs returns.
func readSection(list *cryptobyte.String) (*section, error) {
	var size uint32
	var s []byte
	if !list.ReadUint32(&size) || uint64(size) > uint64(len(*list)) || !list.ReadBytes(&s, int(size)) {
		return nil, errVICI
	}
	root := newSection("")
	if m := cryptobyte.String(s); !root.read(&m) || !m.Empty() {
		return nil, errVICI
	}
	return root, nil
}

// read takes elements up to the section's end, or the message's at its root, and reports whether they are well-formed.
func (s *section) read(m *cryptobyte.String) bool {
	for !m.Empty() {
		var op uint8
		var name, value cryptobyte.String
		if !m.ReadUint8(&op) {
			return false
		}
		if op == viciSectionEnd {
			return s.name != ""
		}
		if !m.ReadUint8LengthPrefixed(&name) || name.Empty() {
			return false
		}
		switch op {
		case viciSectionStart:
			sub := newSection(string(name))
			if !sub.read(m) {
				return false
			}
			s.sections = append(s.sections, sub)
		case viciKeyValue:
			if !m.ReadUint16LengthPrefixed(&value) {
				return false
			}
			s.values[string(name)] = string(value)
		case viciListStart:
			items, ok := readItems(m)
			if !ok {
				return false
			}
			s.lists[string(name)] = items
		default:
			return false
		}
	}
	return s.name == ""
}

// readItems takes the items of a list and its end.
func readItems(m *cryptobyte.String) (items []string, ok bool) {
	for {
		var op uint8
		var value cryptobyte.String
		switch {
		case !m.ReadUint8(&op):
			return nil, false
		case op == viciListEnd:
			return items, true
		case op != viciListItem || !m.ReadUint16LengthPrefixed(&value):
			return nil, false
		}
		items = append(items, string(value))
	}
}
