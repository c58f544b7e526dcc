package isakmp

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestPKCS7(t *testing.T) {
	one, two := unhex(t, "30 03 020101"), unhex(t, "30 03 020102")
	const head = `06 09 2a864886f70d010702`
	const body = `02 01 01 31 00 30 0b 06 09 2a864886f70d010701`
	data := unhex(t, `30 31`+head+`a0 24 30 22`+body+`a0 0a 3003020101 3003020102 a1 00 31 00`)
	certs, err := UnwrapPKCS7(data)
	if err != nil || !reflect.DeepEqual(certs, [][]byte{one, two}) {
		t.Fatalf("%x, %v", certs, err)
	}
	if _ = append(certs[0], 0xee); !bytes.Equal(certs[1], two) {
		t.Error("an append to the first certificate changes the second")
	}
	made, err := WrapPKCS7([][]byte{one, two})
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, `30 2f`+head+`a0 22 30 20`+body+`a0 0a 3003020101 3003020102 31 00`); !bytes.Equal(made, want) {
		t.Errorf("made %x, want %x", made, want)
	}
	for i := range data {
		if certs, err := UnwrapPKCS7(data[:i]); err == nil {
			t.Errorf("%d bytes: %x", i, certs)
		}
	}
	if certs, err := UnwrapPKCS7(unhex(t, `30 25`+head+`a0 18 30 16`+body+`a1 00 31 00`)); err != nil || certs != nil {
		t.Errorf("without certificates: %x, %v", certs, err)
	}
	if certs, err := UnwrapPKCS7(unhex(t, `30 2c`+head+`a0 1f 30 1d`+body+`a0 07 a0 00 3003020102 31 00`)); err != nil || !reflect.DeepEqual(certs, [][]byte{two}) {
		t.Errorf("an extended certificate is passed over: %x, %v", certs, err)
	}
	many, err := WrapPKCS7(repeat(one, maxCerts))
	if err != nil {
		t.Fatal(err)
	}
	if certs, err := UnwrapPKCS7(many); err != nil || len(certs) != maxCerts {
		t.Errorf("as many as may be: %d, %v", len(certs), err)
	}
	many, err = WrapPKCS7(repeat(one, maxCerts+1))
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"more than 16 certificates": many,
		"not PKCS #7":               []byte("nonsense"),
		"not PKCS #7 in DER":        append(bytes.Clone(data), 0),
		"not signed data":           bytes.Replace(data, unhex(t, "2a864886f70d010702"), unhex(t, "2a864886f70d010703"), 1),
		"malformed":                 unhex(t, `30 0f`+head+`a0 02 05 00`),
		"signed data in a certificate payload is malformed": unhex(t, `30 33`+head+`a0 26 30 22`+body+`a0 0a 3003020101 3003020102 a1 00 31 00 0500`), // more behind it
		"certificate payload is malformed":                  unhex(t, `30 33`+head+`a0 24 30 22`+body+`a0 0a 3003020101 3003020102 a1 00 31 00 0500`), // more behind the content
	} {
		if certs, err := UnwrapPKCS7(b); err == nil || !strings.Contains(err.Error(), what) || certs != nil {
			t.Errorf("%s: %x, %v", what, certs, err)
		}
	}
}

func repeat(b []byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = b
	}
	return all
}
