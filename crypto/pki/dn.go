package pki

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// attributeType is one that has a name.
type attributeType struct {
	name string
	oid  asn1.ObjectIdentifier
	tag  tags.Tag // of what we write
}

// attributes are the names of distinguished names (RFC 4514 §3 and usual ones).
var attributes = []attributeType{
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, tags.UTF8String},
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, tags.PrintableString},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}, tags.UTF8String},
	{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}, tags.UTF8String},
	{"STREET", asn1.ObjectIdentifier{2, 5, 4, 9}, tags.UTF8String},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, tags.UTF8String},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, tags.UTF8String},
	{"SERIALNUMBER", asn1.ObjectIdentifier{2, 5, 4, 5}, tags.PrintableString},
	{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, tags.IA5String},
	{"UID", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, tags.UTF8String},
	{"E", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, tags.IA5String},
}

const maxDN = 64 // attributes of a name

// ParseDN encodes a name as people write it, "C=DE, O=Example, CN=gw", in the
// order in which it stands; a backslash takes the next character as it is.
func ParseDN(s string) ([]byte, error) {
	parts := splitDN(s)
	if len(parts) == 0 || len(parts) > maxDN {
		return nil, errors.New("it has no attributes, accepted: C=DE, O=Example, CN=gw")
	}
	var b cryptobyte.Builder
	var err error
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			name, value, ok := strings.Cut(p, "=")
			name, value = strings.TrimSpace(name), unescape(strings.TrimSpace(value))
			i := slices.IndexFunc(attributes, func(a attributeType) bool { return strings.EqualFold(a.name, name) })
			if !ok || i < 0 || value == "" {
				err = fmt.Errorf("%q is no attribute, accepted: NAME=value with the names %s", strings.TrimSpace(p), attributeNames())
				return
			}
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(attributes[i].oid)
					b.AddASN1(attributes[i].tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
				})
			})
		}
	})
	if err != nil {
		return nil, err
	}
	return b.Bytes()
}

func attributeNames() string {
	names := make([]string, len(attributes))
	for i := range attributes {
		names[i] = attributes[i].name
	}
	return strings.Join(names, ", ")
}

// splitDN cuts at commas that no backslash stands before.
func splitDN(s string) (parts []string) {
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case ',':
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	if rest := s[min(start, len(s)):]; strings.TrimSpace(rest) != "" {
		parts = append(parts, rest)
	}
	return parts
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// attribute is one of a name in a form that compares: the kind of string, case
// and spaces mean nothing (RFC 5280 §7.1).
type attribute struct{ oid, value string }

// readDN reads a name; one list for each of its sets.
func readDN(der []byte) ([][]attribute, bool) {
	in := cryptobyte.String(der)
	var name cryptobyte.String
	if !in.ReadASN1(&name, tags.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	var all [][]attribute
	for !name.Empty() {
		var set cryptobyte.String
		if len(all) == maxDN || !name.ReadASN1(&set, tags.SET) || set.Empty() {
			return nil, false
		}
		var list []attribute
		for !set.Empty() {
			var seq, value cryptobyte.String
			var oid asn1.ObjectIdentifier
			var tag tags.Tag
			if len(list) == maxDN || !set.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) ||
				!seq.ReadAnyASN1(&value, &tag) || !seq.Empty() {
				return nil, false
			}
			list = append(list, attribute{oid.String(), stringOf(tag, value)})
		}
		all = append(all, list)
	}
	return all, true
}

// stringOf is the value of an attribute as text; one that is no text keeps its tag.
func stringOf(tag tags.Tag, value []byte) string {
	switch tag {
	case tags.UTF8String, tags.PrintableString, tags.IA5String, tags.T61String:
		return string(value)
	}
	return fmt.Sprintf("#%02x%s", byte(tag), hex.EncodeToString(value))
}

func fold(a attribute) attribute {
	return attribute{a.oid, strings.ToLower(strings.Join(strings.Fields(a.value), " "))}
}

// SameDN compares two names in DER as RFC 5280 §7.1 does: without regard to the
// kind of string, to case and to spaces.
func SameDN(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	x, ok1 := foldDN(a)
	y, ok2 := foldDN(b)
	return ok1 && ok2 && x == y
}

// DNKey is the same for names that are the same to SameDN, and seldom for
// others: an index, no comparison.
func DNKey(der []byte) string {
	if key, ok := foldDN(der); ok {
		return key
	}
	return string(der)
}

// foldDN is the same text for names that are the same, and only for them; false
// where the name cannot be read.
func foldDN(der []byte) (string, bool) {
	sets, ok := readDN(der)
	var out strings.Builder
	for _, set := range sets {
		var list []string
		for _, a := range set {
			f := fold(a)
			list = append(list, strconv.Quote(f.oid+"="+f.value))
		}
		slices.Sort(list) // a set has no order
		out.WriteString(strings.Join(list, "+") + "\n")
	}
	return out.String(), ok
}

// DNText is a name as ParseDN reads it; hexadecimal where it cannot be read. It
// is a peer's text: who prints it quotes it.
func DNText(der []byte) string {
	sets, ok := readDN(der)
	if !ok || len(sets) == 0 {
		return hex.EncodeToString(der)
	}
	var parts []string
	for _, set := range sets {
		var list []string
		for _, a := range set {
			name := a.oid
			for _, row := range attributes {
				if row.oid.String() == a.oid {
					name = row.name
				}
			}
			list = append(list, name+"="+strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(a.value))
		}
		parts = append(parts, strings.Join(list, "+"))
	}
	return strings.Join(parts, ", ")
}
