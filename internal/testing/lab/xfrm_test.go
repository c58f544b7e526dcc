//go:build linux

package lab

import (
	"context"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestLabKernelSAs: SAs made by hand are read as they were made, and an SA that
// is taken away and added by its own command is the same again.
func TestLabKernelSAs(t *testing.T) {
	NeedGuest(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := New(t).Node("us").Guest(ctx, "g")
	hex := func(bytes int) string { return "0x" + strings.Repeat("5a", bytes) }
	const ends = "src 10.9.0.1 dst 10.9.0.2 "
	for _, row := range []struct {
		args string
		want KernelSA
	}{
		{ends + "proto esp spi 0x1001 reqid 7 mode tunnel replay-window 32 auth-trunc hmac(sha256) " + hex(32) + " 128 enc cbc(aes) " + hex(16) + " flag af-unspec",
			KernelSA{Proto: "esp", SPI: "00001001", Mode: "tunnel", Flags: []string{"af-unspec"}, Algorithm: "hmac(sha256) cbc(aes)", KeyBits: 128, ICVBits: 128, Window: 32}},
		{ends + "proto esp spi 0xc0001002 mode transport replay-window 128 aead rfc4106(gcm(aes)) " + hex(20) + " 96 flag esn",
			KernelSA{Proto: "esp", SPI: "c0001002", Mode: "transport", Flags: []string{"esn"}, Algorithm: "rfc4106(gcm(aes))", KeyBits: 160, ICVBits: 96, Window: 128}},
		{ends + "proto esp spi 0x1003 mode tunnel aead rfc4106(gcm(aes)) " + hex(20) + " 128 encap espinudp 4500 4500 0.0.0.0",
			KernelSA{Proto: "esp", SPI: "00001003", Mode: "tunnel", Algorithm: "rfc4106(gcm(aes))", KeyBits: 160, ICVBits: 128, Encap: true}},
		{ends + "proto ah spi 0x1004 mode transport replay-window 64 auth-trunc hmac(sha512) " + hex(64) + " 256 flag align4 flag esn replay-oseq 9",
			KernelSA{Proto: "ah", SPI: "00001004", Mode: "transport", Flags: []string{"align4", "esn"}, Algorithm: "hmac(sha512)", ICVBits: 256, Window: 64, Sent: 9}},
		{ends + "proto esp spi 0x1005 mode transport auth-trunc hmac(sha1) " + hex(20) + " 96 enc ecb(cipher_null) ",
			KernelSA{Proto: "esp", SPI: "00001005", Mode: "transport", Algorithm: "hmac(sha1) ecb(cipher_null)", ICVBits: 96}},
	} {
		read := func() KernelSA {
			t.Helper()
			sas, err := g.KernelSAs()
			if err != nil || len(sas) != 1 {
				t.Fatalf("%s: %v, %d SAs\n%s", row.want.SPI, err, len(sas), g.Run("ip", "-s", "xfrm", "state"))
			}
			return sas[0]
		}
		args := append([]string{"ip", "xfrm", "state", "add"}, strings.Fields(row.args)...)
		if strings.Contains(row.args, "null") {
			args = append(args, "") // the key
		}
		g.Run(args...)
		made := read()
		row.want.Src, row.want.Dst = "10.9.0.1", "10.9.0.2"
		shown := made
		shown.keys, shown.opts = nil, nil
		if !reflect.DeepEqual(shown, row.want) {
			t.Errorf("%s is read as\n%+v, not\n%+v", row.args, shown, row.want)
		}
		g.Run(made.Delete()...)
		g.Run(made.Add(made.Flags, "replay-oseq", strconv.FormatUint(made.Sent, 10))...)
		if again := read(); !reflect.DeepEqual(again, made) {
			t.Errorf("%+v was added again as\n%+v", made, again)
		}
		g.Run(made.Delete()...)
	}
}

func TestXfrmThatIsNone(t *testing.T) {
	for _, text := range []string{"RTNETLINK answers: no\n", "\tproto esp spi 0x1\n", "src a dst b\n\tproto esp spi 0xzz reqid 1 mode tunnel\n", "src a dst b\n\tauth-trunc hmac(sha1) 0x12\n"} {
		if sas, err := parseXfrm(text); err == nil {
			t.Errorf("%q is read as %v", text, sas)
		}
	}
}
