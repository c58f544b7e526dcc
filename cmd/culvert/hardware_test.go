package main

import (
	"strings"
	"testing"
)

func TestHardwareTable(t *testing.T) {
	got := hardwareTable("A CPU: AES yes", []hardwareRow{
		{Encr: "3des", Integ: "sha1", Hash: true, Gbps: 0.25},
		{Encr: "aes-128-cbc", Integ: "md5", Cipher: true, Gbps: 3.2},
		{Encr: "aes-128-cbc", Integ: "sha1", Cipher: true, Hash: true, Gbps: 4.5},
		{Encr: "aes-256-gcm", Integ: within, Cipher: true, Gbps: 20},
	})
	for _, want := range []string{
		"A CPU: AES yes\n",
		"ENC-ALGORITHM       MD5          SHA1         SHA256       SHA512       NO HASH\n",
		"3des                             no     0.25\n",
		"aes-128-cbc         yes*   3.20  yes    4.50\n",
		"aes-256-gcm                                                             yes   20.00\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
}
