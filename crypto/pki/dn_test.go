package pki

import (
	"bytes"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
	"pgregory.net/rapid"
)

// value is an attribute of a name that is being made.
type value struct {
	oid  asn1.ObjectIdentifier
	tag  tags.Tag
	data string
}

var oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}

// nameOf encodes sets of attributes.
func nameOf(sets ...[]value) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, set := range sets {
			b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
				for _, v := range set {
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(v.oid)
						b.AddASN1(v.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v.data)) })
					})
				}
			})
		}
	})
	return b.BytesOrPanic()
}

func cn(tag tags.Tag, data string) []byte { return nameOf([]value{{oidCN, tag, data}}) }

// Names that are the same are so in every kind of string, and names that differ
// stay different in every one.
func TestSameDN(t *testing.T) {
	for _, c := range []struct {
		what string
		a, b []byte
		same bool
	}{
		{"T61String, one letter apart", cn(tags.T61String, "M\xfcller"), cn(tags.T61String, "M\xf6ller"), false},
		{"T61String and UTF8String", cn(tags.T61String, "M\xfcller"), cn(tags.UTF8String, "Müller"), true},
		{"T61String and other UTF8String", cn(tags.T61String, "M\xfcller"), cn(tags.UTF8String, "Möller"), false},
		{"invalid UTF-8, one byte apart", cn(tags.UTF8String, "M\xfcller"), cn(tags.UTF8String, "M\xf6ller"), false},
		{"invalid UTF-8 and T61String", cn(tags.UTF8String, "M\xfcller"), cn(tags.T61String, "M\xfcller"), false},
		{"invalid UTF-8, another case", cn(tags.UTF8String, "M\xfcller"), cn(tags.UTF8String, "m\xfcller"), false},
		{"PrintableString that is none", cn(tags.PrintableString, "M\xfcller"), cn(tags.PrintableString, "M\xf6ller"), false},
		{"BMPString and UTF8String", cn(tagBMPString, "\x00g\x00w"), cn(tags.UTF8String, "gw"), true},
		{"BMPString, another case", cn(tagBMPString, "\x00G\x00w"), cn(tagBMPString, "\x00g\x00W"), true},
		{"BMPString and its digits as text", cn(tagBMPString, "\x00g\x00w"), cn(tags.UTF8String, "#1e0400670077"), false},
		{"half a BMPString and its digits as text", cn(tagBMPString, "g"), cn(tags.UTF8String, "#1e0167"), false},
		{"half a BMPString", cn(tagBMPString, "g"), cn(tags.UTF8String, "g"), false},
		{"a surrogate", cn(tagBMPString, "\xd8\x00"), cn(tags.UTF8String, "\uFFFD"), false},
		{"UniversalString", cn(tagUniversalString, "\x00\x00\x00g\x00\x01\xf6\x00"), cn(tags.UTF8String, "g😀"), true},
		{"case and spaces", cn(tags.PrintableString, " Good   CA"), cn(tags.UTF8String, "gOOD ca "), true},
		{"case beyond ASCII", cn(tags.UTF8String, "ÄÖ"), cn(tags.UTF8String, "äö"), true},
		{"İ is no i", cn(tags.UTF8String, "İ"), cn(tags.UTF8String, "i"), false},
		{"a set in another order", nameOf([]value{{oidCN, tags.UTF8String, "a"}, {asn1.ObjectIdentifier{2, 5, 4, 10}, tags.UTF8String, "b"}}),
			nameOf([]value{{asn1.ObjectIdentifier{2, 5, 4, 10}, tags.UTF8String, "B"}, {oidCN, tags.UTF8String, "A"}}), true},
		{"one set and two", nameOf([]value{{oidCN, tags.UTF8String, "a"}, {oidCN, tags.UTF8String, "b"}}), nameOf([]value{{oidCN, tags.UTF8String, "a"}}, []value{{oidCN, tags.UTF8String, "b"}}), false},
		{"a set and its text", nameOf([]value{{oidCN, tags.UTF8String, "a"}, {oidCN, tags.UTF8String, "b"}}), cn(tags.UTF8String, `a"+2.5.4.3="b`), false},
	} {
		if got := SameDN(c.a, c.b); got != c.same || SameDN(c.b, c.a) != c.same {
			t.Errorf("%s: the same is %t", c.what, got)
		}
		if (DNKey(c.a) == DNKey(c.b)) != c.same {
			t.Errorf("%s: the keys are %q and %q", c.what, DNKey(c.a), DNKey(c.b))
		}
	}
}

// A name is at or below another whose sets it begins with. What cannot be read is nowhere, and nothing is below it.
func TestWithinDN(t *testing.T) {
	set := func(s string) []value { return []value{{oidCN, tags.UTF8String, s}} }
	top, below, other := nameOf(set("a")), nameOf(set("A"), set("b")), nameOf(set("b"), set("a"))
	broken := []byte("no name")
	for _, c := range []struct {
		what        string
		name, above []byte
		within      bool
	}{
		{"itself", top, top, true}, {"below", below, top, true}, {"above", top, below, false}, {"another order", other, below, false},
		{"everything", below, nameOf(), true}, {"no name", broken, top, false}, {"no constraint", top, broken, false}, {"neither", broken, broken, false},
	} {
		if got := WithinDN(c.name, c.above); got != c.within {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// What is printed of names that others made, and read back.
func TestDNText(t *testing.T) {
	for _, c := range []struct {
		der  []byte
		text string
	}{
		{cn(tagBMPString, "\x00g\x00w"), "CN=gw"},
		{cn(tags.T61String, "M\xfcller"), "CN=Müller"},
		{cn(tagBMPString, "g"), "CN=#1e0167"},
		{cn(tags.INTEGER, "\x07"), "CN=#020107"},
		{cn(tags.UTF8String, ""), "CN=#0c00"},
		{cn(tags.UTF8String, "#1e"), `CN=\#1e`},
		{cn(tags.UTF8String, ` a,b+c=d\e"f<g>h;`), `CN=\20a\,b\+c=d\\e\"f\<g\>h\;`},
		{cn(tags.UTF8String, "a\x00\nb "), `CN=a\00\0Ab\20`},
		{nameOf([]value{{asn1.ObjectIdentifier{2, 5, 4, 42}, tags.UTF8String, "Ada"}, {asn1.ObjectIdentifier{2, 5, 4, 4}, tags.UTF8String, "King"}}), "GN=Ada+SN=King"},
		{nameOf([]value{{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99}, tags.UTF8String, "x"}}), "1.3.6.1.4.1.99=x"},
		{nameOf([]value{{asn1.ObjectIdentifier{2, 5, 4, 8}, tags.UTF8String, "Bavaria"}}), "ST=Bavaria"},
		{nameOf(), "#3000"},
		{[]byte("no name"), "#6e6f206e616d65"},
	} {
		if got := DNText(c.der); got != c.text {
			t.Errorf("%q, want %q", got, c.text)
		}
		if again, err := ParseDN(c.text); err != nil || !SameDN(c.der, again) {
			t.Errorf("%q is read as %x: %v", c.text, again, err)
		}
	}
}

// How others write names.
func TestParseDN(t *testing.T) {
	for text, want := range map[string]string{
		"CN=a+b":                          `CN=a\+b`,
		"CN=a + b, O=c":                   `CN=a \+ b, O=c`,
		"CN=a+OU=b":                       "CN=a+OU=b",
		"OU=b + CN=a":                     "CN=a+OU=b",
		"emailAddress=a@b, S=x, G=y":      "E=a@b, ST=x, GN=y",
		`CN=M\C3\BCller`:                  "CN=Müller",
		`CN=a\ `:                          `CN=a\20`,
		`CN=a\\ `:                         `CN=a\\`,
		`CN=a\`:                           `CN=a\\`,
		`CN=a\\`:                          `CN=a\\`,
		"1.39=x":                          "1.39=x",
		"2.40=x":                          "2.40=x",
		"2.5.4.3=gw":                      "CN=gw",
		"2.5.4.3 = #0c026777":             "CN=gw",
		"CN=#1e0400670077":                "CN=gw",
		"#300d310b300906035504030c026777": "CN=gw",
		"C=Ü":                             "C=Ü",
		"CN=https://x/?a=1+2":             `CN=https://x/?a=1\+2`,
	} {
		der, err := ParseDN(text)
		if err != nil || DNText(der) != want {
			t.Errorf("%q is %q, want %q: %v", text, DNText(der), want, err)
		}
	}
	for text, want := range map[string]string{
		"#":               "hexadecimal",
		"#3":              "hexadecimal",
		"CN=#":            "not DER",
		"CN=#0c":          "not DER",
		"CN=#0c026777aa":  "not DER",
		`CN=\FC`:          "not UTF-8",
		"3.5=x":           "not an attribute",
		"1.40=x":          "not an attribute",
		"02.5=x":          "not an attribute",
		"2=x":             "not an attribute",
		"0.40=x":          "not an attribute",
		"=x":              "not an attribute",
		"CN":              "the names CN, C, L, ST, STREET, O, OU, SERIALNUMBER, SN, GN, T, DC, UID, E, or an OID as the name",
		"2.99999999999=x": "not an attribute",
		"CN=a, , O=b":     "two commas",
	} {
		if der, err := ParseDN(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %x, %v, want %q", text, der, err, want)
		}
	}
}

// drawName is a name with any kind of value, most of them text.
func drawName(t *rapid.T) []byte {
	kinds := []tags.Tag{tags.UTF8String, tags.PrintableString, tags.IA5String, tags.T61String, tagNumericString, tagVisibleString, tagUniversalString,
		tagBMPString, tags.INTEGER, tags.OCTET_STRING, tags.NULL}
	attribute := rapid.Custom(func(t *rapid.T) value {
		v := value{tag: rapid.SampledFrom(kinds).Draw(t, "tag")}
		if rapid.Bool().Draw(t, "named") {
			v.oid = rapid.SampledFrom(attributes).Draw(t, "name").oid
		} else {
			v.oid = append(asn1.ObjectIdentifier{2}, rapid.SliceOfN(rapid.IntRange(0, 1<<31-1-80), 1, 4).Draw(t, "arcs")...)
		}
		if rapid.Bool().Draw(t, "text") {
			v.data = rapid.StringOfN(rapid.RuneFrom([]rune(` ,+"\;<>#=aZ0ü`+"\x00\n")), 0, 6, -1).Draw(t, "value")
		} else {
			v.data = string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "bytes"))
		}
		return v
	})
	return nameOf(rapid.SliceOfN(rapid.SliceOfN(attribute, 1, 3), 0, 4).Draw(t, "sets")...)
}

// Every name is printed so that it is read back as the same.
func TestDNRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		der := drawName(t)
		text := DNText(der)
		again, err := ParseDN(text)
		if err != nil || !SameDN(der, again) || DNKey(der) != DNKey(again) {
			t.Fatalf("%x is printed as %q and read as %x: %v", der, text, again, err)
		}
	})
}

// What people write is read the same again after it was printed, byte for byte.
func TestWrittenDNRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		der, err := ParseDN(rapid.StringOfN(rapid.RuneFrom([]rune(`CN=OU+,\#0aü "`)), 0, 20, -1).Draw(t, "text"))
		if err != nil {
			return
		}
		if again, err := ParseDN(DNText(der)); err != nil || !bytes.Equal(der, again) {
			t.Fatalf("%x is printed as %q and read as %x: %v", der, DNText(der), again, err)
		}
	})
}

// In a pattern "*" alone is any value of its attribute; with a backslash before it, in another value or where the pattern is
// read as a name it is itself.
func TestDNPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern string
		wild    bool
		fixed   int
		yes, no []string
	}{
		{"O=Example, CN=*", true, 1, []string{"O=Example, CN=gw", "o=EXAMPLE,cn=a b", `O=Example, CN=\*`}, []string{"O=Example", "CN=gw, O=Example", "O=Example, CN=gw, L=x", "O=Example, CN=a+CN=b"}},
		{`O=Example, CN=\*`, false, 2, []string{`O=Example, CN=\*`}, []string{"O=Example, CN=gw"}},
		{"O=Example, CN=*.net", false, 2, []string{"O=Example, CN=*.net"}, []string{"O=Example, CN=x.net"}},
		{"O=*, CN=*", true, 0, []string{"O=a, CN=b"}, []string{"CN=b, O=a"}},
		{"OU=a+CN=*, O=x", true, 2, []string{"CN=q+OU=a, O=x"}, []string{"CN=q, O=x", "OU=b+CN=q, O=x"}},
		{"CN=*+CN=a", true, 1, []string{"CN=a+CN=b", "CN=b+CN=a", "CN=a+CN=a"}, []string{"CN=b+CN=c", "CN=a"}},
		{"2.5.4.99=*", true, 0, []string{"2.5.4.99=#0500", "2.5.4.99=x"}, []string{"2.5.4.98=x"}},
	} {
		der, wild, err := ParsePattern(c.pattern)
		if err != nil || wild != c.wild || FixedValues(der) != c.fixed {
			t.Errorf("%s: wild %v, %d values, %v", c.pattern, wild, FixedValues(der), err)
			continue
		}
		again, wild2, err := ParsePattern(PatternText(der))
		if err != nil || wild2 != wild || !bytes.Equal(again, der) {
			t.Errorf("%s is written as %s: %v", c.pattern, PatternText(der), err)
		}
		for _, name := range append(c.yes, c.no...) {
			n, err := ParseDN(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := MatchDN(der, n); got != slices.Contains(c.yes, name) {
				t.Errorf("%s for %s: %v", c.pattern, name, got)
			}
		}
	}
	for _, bad := range []string{"CN=#0500", "CN=", "", "*", "#"} {
		if _, _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if MatchDN([]byte{1}, []byte{1}) {
		t.Error("a value that is not a name matches")
	}
	// What a certificate has is not read back as a pattern.
	star, err := ParseDN("CN=*")
	if err != nil {
		t.Fatal(err)
	}
	if der, wild, err := ParsePattern(DNText(star)); err != nil || wild || !SameDN(der, star) {
		t.Errorf("%s, %v, %v", DNText(star), wild, err)
	}
}
