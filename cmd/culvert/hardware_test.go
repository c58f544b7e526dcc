package main

import (
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

// Every cipher that installed-sa can name is in the table, and no variant with a short ICV.
func TestHardwareCiphersAreTheTable(t *testing.T) {
	var got []string
	for _, e := range hardwareCiphers() {
		got = append(got, e.Name)
	}
	for _, want := range []string{"aes-128-cbc", "aes-256-cbc", "aes-128-gcm", "aes-256-gcm", "camellia-256", "null"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	for _, no := range []string{"aes-192-cbc", "aes-256-gcm-8", "aes-128-ccm-12"} {
		if slices.Contains(got, no) {
			t.Errorf("%s is in %v", no, got)
		}
	}
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !slices.ContainsFunc(hardwareCiphers(), func(c *suite.Encr) bool { return c.SAName == e.SAName }) {
			t.Errorf("no row of %s", e.SAName)
		}
	}
}

func TestHardwareTable(t *testing.T) {
	got := hardwareTable("A CPU: AES yes", []hardwareRow{
		{Encr: "3des", Integ: "sha1", Hash: true, Gbps: 0.25},
		{Encr: "aes-128-cbc", Integ: "md5", Cipher: true, Gbps: 3.2},
		{Encr: "aes-128-cbc", Integ: "sha1", Cipher: true, Hash: true, Gbps: 4.5},
		{Encr: "aes-256-gcm", Integ: within, Cipher: true, Gbps: 20},
	})
	for _, want := range []string{
		"A CPU: AES yes\n",
		"ENC-ALGORITHM       MD5          SHA1         SHA256       SHA384       SHA512       NO HASH\n",
		"3des                             no     0.25\n",
		"aes-128-cbc         yes*   3.20  yes    4.50\n",
		"aes-256-gcm                                                                          yes   20.00\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
}
