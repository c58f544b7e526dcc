package pki

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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
// Of two names of one type the first is printed.
var attributes = []attributeType{
	{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, tags.UTF8String},
	{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, tags.PrintableString},
	{"L", asn1.ObjectIdentifier{2, 5, 4, 7}, tags.UTF8String},
	{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}, tags.UTF8String},
	{"STREET", asn1.ObjectIdentifier{2, 5, 4, 9}, tags.UTF8String},
	{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, tags.UTF8String},
	{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, tags.UTF8String},
	{"SERIALNUMBER", asn1.ObjectIdentifier{2, 5, 4, 5}, tags.PrintableString},
	{"SN", asn1.ObjectIdentifier{2, 5, 4, 4}, tags.UTF8String},
	{"GN", asn1.ObjectIdentifier{2, 5, 4, 42}, tags.UTF8String},
	{"T", asn1.ObjectIdentifier{2, 5, 4, 12}, tags.UTF8String},
	{"DC", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, tags.IA5String},
	{"UID", asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, tags.UTF8String},
	{"E", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, tags.IA5String},
	{"emailAddress", asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, tags.IA5String},
	{"S", asn1.ObjectIdentifier{2, 5, 4, 8}, tags.UTF8String},
	{"G", asn1.ObjectIdentifier{2, 5, 4, 42}, tags.UTF8String},
}

const oidEmail = "1.2.840.113549.1.9.1"

const maxDN = 64 // attributes of a name

const spaces = " \t\r\n" // that mean nothing around a value

// ParseDN encodes a name as people write it, "C=DE, O=Example, CN=gw", in the
// order in which it stands (RFC 4514, but for the order). A "+" joins attributes
// of one set where another NAME= follows it. An attribute without a name is
// written as its OID, a value that is no text as # and its DER in hexadecimal. A
// backslash takes the next character as it is, or the byte of two hexadecimal
// digits. "#" and hexadecimal digits alone are the DER of a whole name.
func ParseDN(s string) ([]byte, error) {
	der, _, err := parseDN(s, false)
	return der, err
}

// ParsePattern is ParseDN for a name in which a value may be "*", which stands for any value of its attribute. wild
// reports whether one is. A value that is * itself is written with a backslash before it. Only MatchDN and PatternText
// understand the result where wild is true.
func ParsePattern(s string) (der []byte, wild bool, err error) { return parseDN(s, true) }

// anyValue is the DER that stands for any value in a pattern: NULL, which is the value of no attribute.
const anyValue = "\x05\x00"

func parseDN(s string, pattern bool) (der []byte, wild bool, err error) {
	if digits, ok := strings.CutPrefix(strings.Trim(s, spaces), "#"); ok && !strings.Contains(s, "=") {
		der, err := hex.DecodeString(digits)
		if err != nil || len(der) == 0 {
			return nil, false, errors.New("it begins with #, and what follows is not hexadecimal, accepted: C=DE, O=Example, CN=gw, or # and the DER of a name in hexadecimal")
		}
		return der, false, nil
	}
	sets := splitDN(s, ',')
	if len(sets) == 0 || len(sets) > maxDN {
		return nil, false, errors.New("it has no attributes, accepted: C=DE, O=Example, CN=gw")
	}
	var name []byte
	for _, set := range sets {
		var list [][]byte
		parts := joined(splitDN(set, '+'))
		if len(parts) == 0 {
			return nil, false, errors.New("there is nothing between two commas, accepted: C=DE, O=Example, CN=gw")
		}
		for _, p := range parts {
			der, any, err := parseAttribute(p, pattern)
			if err != nil {
				return nil, false, err
			}
			wild = wild || any
			list = append(list, der)
		}
		slices.SortFunc(list, bytes.Compare) // DER: a set is sorted
		name = append(name, tlv(tags.SET, bytes.Join(list, nil))...)
	}
	return tlv(tags.SEQUENCE, name), wild, nil
}

func tlv(tag tags.Tag, content []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return b.BytesOrPanic()
}

// parseAttribute encodes "NAME=value" as an AttributeTypeAndValue. any: it is of a pattern, and stands for any value.
func parseAttribute(p string, pattern bool) (der []byte, any bool, err error) {
	wrong := fmt.Errorf("%q is not an attribute, accepted: NAME=value with the names %s, or an OID as the name", strings.Trim(p, spaces), attributeNames())
	name, text, _ := strings.Cut(p, "=")
	name = strings.Trim(name, spaces)
	oid, tag := asn1.ObjectIdentifier(nil), tags.UTF8String
	if i := slices.IndexFunc(attributes, func(a attributeType) bool { return EqualFold(a.name, name) }); i >= 0 {
		oid, tag = attributes[i].oid, attributes[i].tag
	} else {
		oid = parseOID(name)
	}
	if oid == nil {
		return nil, false, wrong
	}
	text = trimValue(text)
	var value []byte
	digits, isDER := strings.CutPrefix(text, "#")
	switch {
	case pattern && text == "*":
		any, value = true, []byte(anyValue)
	case isDER:
		der, err := hex.DecodeString(digits)
		in := cryptobyte.String(der)
		var element cryptobyte.String
		if err != nil || !in.ReadAnyASN1Element(&element, new(tags.Tag)) || !in.Empty() || pattern && string(der) == anyValue {
			return nil, false, fmt.Errorf("the value of %q is not DER in hexadecimal, accepted: # and that, or a value whose # is written as \\#", strings.Trim(p, spaces))
		}
		value = der
	default:
		text = unescape(text)
		switch {
		case text == "":
			return nil, false, wrong
		case !utf8.ValidString(text):
			return nil, false, fmt.Errorf("the value of %q is not UTF-8, accepted: that, or # and the DER of the value in hexadecimal", strings.Trim(p, spaces))
		case !isASCII(text):
			tag = tags.UTF8String
		}
		value = tlv(tag, []byte(text))
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddBytes(value)
	})
	if der, err = b.Bytes(); err != nil {
		return nil, false, wrong
	}
	return der, any, nil
}

// parseOID reads "2.5.4.3"; nil for what is not numbers. Which arcs there are, who encodes it knows.
func parseOID(s string) asn1.ObjectIdentifier {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil
		}
		oid = append(oid, int(n))
	}
	return oid
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// attributeNames are the names that are printed.
func attributeNames() string {
	var names []string
	for _, a := range attributes {
		if nameOfType(a.oid.String()) == a.name {
			names = append(names, a.name)
		}
	}
	return strings.Join(names, ", ")
}

// nameOfType is how an attribute type is printed.
func nameOfType(oid string) string {
	for _, a := range attributes {
		if a.oid.String() == oid {
			return a.name
		}
	}
	return oid
}

// splitDN cuts at separators that no backslash stands before.
func splitDN(s string, separator byte) (parts []string) {
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	if rest := s[min(start, len(s)):]; strings.Trim(rest, spaces) != "" {
		parts = append(parts, rest)
	}
	return parts
}

// joined undoes a cut at a "+" that no attribute follows: it belongs to the value.
func joined(parts []string) (list []string) {
	for i, p := range parts {
		if i == 0 || strings.Contains(p, "=") {
			list = append(list, p)
		} else {
			list[len(list)-1] += "+" + p
		}
	}
	return list
}

// trimValue takes the spaces off that no backslash stands before.
func trimValue(s string) string {
	s = strings.TrimLeft(s, spaces)
	short := strings.TrimRight(s, spaces)
	if n := len(short) - len(strings.TrimRight(short, `\`)); n%2 == 1 && len(short) < len(s) {
		short = s[:len(short)+1]
	}
	return short
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : min(i+3, len(s))]); err == nil && len(c) == 1 {
				b.WriteByte(c[0])
				i += 2
				continue
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// attribute is one of a name.
type attribute struct {
	oid   string
	value string // UTF-8; of an opaque one its DER
	// opaque: the value is no text, or bytes that are none of its kind of string.
	opaque bool
}

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
		list, ok := readSet(set)
		if !ok {
			return nil, false
		}
		all = append(all, list)
	}
	return all, true
}

// readSet reads the contents of a RelativeDistinguishedName.
func readSet(set cryptobyte.String) (list []attribute, ok bool) {
	for !set.Empty() {
		var seq, element, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var tag tags.Tag
		if len(list) == maxDN || !set.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) ||
			!seq.ReadAnyASN1Element(&element, &tag) || !seq.Empty() {
			return nil, false
		}
		a := attribute{oid: oid.String(), value: string(element), opaque: true}
		if element.ReadAnyASN1(&value, &tag) {
			if text, ok := textOf(tag, value); ok {
				a.value, a.opaque = text, false
			}
		}
		list = append(list, a)
	}
	return list, true
}

// Kinds of string that cryptobyte has no name for.
const (
	tagNumericString   = tags.Tag(18)
	tagVisibleString   = tags.Tag(26)
	tagUniversalString = tags.Tag(28)
	tagBMPString       = tags.Tag(30)
)

// textOf is a string in UTF-8. No two strings of a kind become the same; false
// where the bytes are not of that kind.
func textOf(tag tags.Tag, value []byte) (string, bool) {
	switch tag {
	case tags.UTF8String:
		return string(value), utf8.Valid(value)
	case tags.PrintableString, tags.IA5String, tagNumericString, tagVisibleString:
		return string(value), isASCII(string(value))
	case tags.T61String: // as everybody writes it: ISO 8859-1
		return wide(value, 1)
	case tagBMPString:
		return wide(value, 2)
	case tagUniversalString:
		return wide(value, 4)
	}
	return "", false
}

// wide reads characters of a fixed size in bytes, big endian.
func wide(value []byte, size int) (string, bool) {
	if len(value)%size != 0 {
		return "", false
	}
	var b strings.Builder
	for c := range slices.Chunk(value, size) {
		var r uint32
		for _, x := range c {
			r = r<<8 | uint32(x)
		}
		if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		b.WriteRune(rune(r))
	}
	return b.String(), true
}

// EqualFold compares names without regard to the case of ASCII letters (RFC 4343)
// and of nothing else: what strings.EqualFold also takes for equal are other bytes.
func EqualFold(a, b string) bool { return Lower(a) == Lower(b) }

// Lower is a name with its ASCII letters in lower case.
func Lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// foldText is text in a form that compares: case and spaces mean nothing (RFC 5280
// §7.1). Of the letters that differ in case alone it takes the first in Unicode.
func foldText(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, strings.Join(strings.Fields(s), " "))
}

// SameDN compares two names in DER as RFC 5280 §7.1 does: without regard to the
// kind of string, to case and to spaces.
func SameDN(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	x, ok1 := foldDN(a)
	y, ok2 := foldDN(b)
	return ok1 && ok2 && slices.Equal(x, y)
}

// MatchDN reports whether a name is one that a pattern of ParsePattern stands for: it has the same attributes in the same
// sets and order, with the same values but for those that may be any.
func MatchDN(pattern, name []byte) bool {
	p, ok1 := readDN(pattern)
	n, ok2 := readDN(name)
	return ok1 && ok2 && slices.EqualFunc(p, n, matchSet)
}

// matchSet compares two sets, which have no order: what stands for any value takes what is left of its attribute.
func matchSet(pattern, set []attribute) bool {
	if len(pattern) != len(set) {
		return false
	}
	left := slices.Clone(set)
	for _, wild := range []bool{false, true} {
		for _, p := range pattern {
			if p.isAny() != wild {
				continue
			}
			i := slices.IndexFunc(left, func(a attribute) bool {
				return a.oid == p.oid && (wild || foldSet([]attribute{a}) == foldSet([]attribute{p}))
			})
			if i < 0 {
				return false
			}
			left = slices.Delete(left, i, i+1)
		}
	}
	return true
}

func (a attribute) isAny() bool { return a.opaque && a.value == anyValue }

// FixedValues is how many values of a pattern are not any.
func FixedValues(pattern []byte) (n int) {
	sets, _ := readDN(pattern)
	for _, set := range sets {
		for _, a := range set {
			if !a.isAny() {
				n++
			}
		}
	}
	return n
}

// PatternText is a pattern as ParsePattern reads it.
func PatternText(der []byte) string { return dnText(der, true) }

// WithinDN reports whether a name stands at or below another: its sets begin with
// those of the other (RFC 5280 §7.1).
func WithinDN(name, above []byte) bool {
	x, ok1 := foldDN(name)
	y, ok2 := foldDN(above)
	return ok1 && ok2 && len(x) >= len(y) && slices.Equal(x[:len(y)], y)
}

// DNKey is the same for names that are the same to SameDN, and seldom for
// others: an index, no comparison.
func DNKey(der []byte) string {
	if sets, ok := foldDN(der); ok {
		return strings.Join(sets, "\n")
	}
	return string(der)
}

// foldDN is the same texts, one for each set, for names that are the same, and only
// for them; false where the name cannot be read.
func foldDN(der []byte) ([]string, bool) {
	sets, ok := readDN(der)
	texts := make([]string, len(sets))
	for i, set := range sets {
		texts[i] = foldSet(set)
	}
	return texts, ok
}

func foldSet(set []attribute) string {
	var list []string
	for _, a := range set {
		if a.opaque {
			list = append(list, a.oid+"=#"+hex.EncodeToString([]byte(a.value)))
		} else {
			list = append(list, a.oid+"="+strconv.Quote(foldText(a.value)))
		}
	}
	slices.Sort(list) // a set has no order
	return strings.Join(list, "+")
}

// DNText is a name as ParseDN reads it: one that is SameDN. Control characters in
// it are escaped. Else it is a peer's text: who prints it quotes it.
func DNText(der []byte) string { return dnText(der, false) }

func dnText(der []byte, pattern bool) string {
	sets, ok := readDN(der)
	if !ok || len(sets) == 0 {
		return "#" + hex.EncodeToString(der)
	}
	var parts []string
	for _, set := range sets {
		var list []string
		for _, a := range set {
			name := nameOfType(a.oid)
			switch {
			case pattern && a.isAny():
				list = append(list, name+"=*")
			case a.opaque:
				list = append(list, name+"=#"+hex.EncodeToString([]byte(a.value)))
			case a.value == "":
				list = append(list, name+"=#"+hex.EncodeToString(tlv(tags.UTF8String, nil)))
			default:
				list = append(list, name+"="+escape(a.value))
			}
		}
		parts = append(parts, strings.Join(list, "+"))
	}
	return strings.Join(parts, ", ")
}

// escape writes a value so that it can stand in a name (RFC 4514 §2.4).
func escape(s string) string {
	if s == "*" {
		return `\*` // else it would be read as any value in a pattern
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f || c == ' ' && (i == 0 || i == len(s)-1):
			fmt.Fprintf(&b, `\%02X`, c)
		case strings.IndexByte(`\,+";<>`, c) >= 0 || c == '#' && i == 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
