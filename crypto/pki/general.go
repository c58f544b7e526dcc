package pki

import (
	"bytes"
	"net/url"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// general is a GeneralName (RFC 5280 §4.2.1.6).
//
//	GeneralName ::= CHOICE { otherName [0], rfc822Name [1], dNSName [2], x400Address [3], directoryName [4],
//	                         ediPartyName [5], uniformResourceIdentifier [6], iPAddress [7], registeredID [8] }
type general struct {
	form  uint8  // the number of the choice
	value []byte // its contents; of a directoryName the Name in DER
}

// Forms of names that are understood.
const (
	formMail = 1
	formDNS  = 2
	formDN   = 4
	formURI  = 6
	formIP   = 7
)

// readGenerals reads the contents of a GeneralNames.
func readGenerals(in cryptobyte.String) (list []general, ok bool) {
	for !in.Empty() {
		g, ok := readGeneral(&in)
		if !ok {
			return nil, false
		}
		list = append(list, g)
	}
	return list, len(list) > 0
}

func readGeneral(in *cryptobyte.String) (general, bool) {
	var value cryptobyte.String
	var tag tags.Tag
	if !in.ReadAnyASN1(&value, &tag) || tag&0xc0 != 0x80 {
		return general{}, false
	}
	g := general{uint8(tag & 0x1f), value}
	if g.form == formDN { // a CHOICE in a CHOICE: the tag is explicit
		var name cryptobyte.String
		if !value.ReadASN1Element(&name, tags.SEQUENCE) || !value.Empty() {
			return general{}, false
		}
		g.value = name
	}
	return g, true
}

// same reports whether two names are equal (RFC 5280 §7).
func (g general) same(o general) bool {
	switch {
	case g.form != o.form:
		return false
	case g.form == formDN:
		return SameDN(g.value, o.value)
	case g.form == formURI:
		return uri(g.value) == uri(o.value)
	}
	return bytes.Equal(g.value, o.value)
}

// uri is a URI with scheme and host in lower case (§7.4).
func uri(b []byte) string {
	u, err := url.Parse(string(b))
	if err != nil {
		return string(b)
	}
	u.Scheme, u.Host = Lower(u.Scheme), Lower(u.Host)
	return u.String()
}

func anySame(a, b []general) bool {
	for _, x := range a {
		for _, y := range b {
			if x.same(y) {
				return true
			}
		}
	}
	return false
}

// directoryNames are the names of a list that are distinguished names, in DER.
func directoryNames(list []general) (names [][]byte) {
	for _, g := range list {
		if g.form == formDN {
			names = append(names, g.value)
		}
	}
	return names
}

// hostOf is the host of a mail address or of a URI; false where there is none.
func hostOf(g general) (string, bool) {
	if g.form == formMail {
		i := bytes.LastIndexByte(g.value, '@')
		return string(g.value[i+1:]), i >= 0 && i+1 < len(g.value)
	}
	u, err := url.Parse(string(g.value))
	if err != nil || u.Hostname() == "" {
		return "", false
	}
	return u.Hostname(), true
}
