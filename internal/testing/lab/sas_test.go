package lab

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
)

// What strongSwan 5.9.8 lists while a CHILD SA is being rekeyed with PFS, an element a line.
const listSAs = `
t {
uniqueid = 7
version = 2
state = ESTABLISHED
local-host = 10.9.0.1
local-port = 4500
remote-host = 10.9.0.2
remote-port = 4501
initiator = yes
initiator-spi = e41dcf7c87fecbed
responder-spi = 5721b7ac5dec9bd0
nat-remote = yes
nat-any = yes
encr-alg = AES_CBC
encr-keysize = 128
integ-alg = HMAC_SHA2_256_128
prf-alg = PRF_HMAC_SHA2_256
dh-group = CURVE_25519
child-sas {
c-1 {
name = c
state = REKEYED
mode = TUNNEL
protocol = ESP
spi-in = 9e50cc10
spi-out = 49d7976c
encr-alg = AES_GCM_16
encr-keysize = 128
local-ts = [
10.1.0.0/24
fd00:1::/64
]
remote-ts = [
10.2.0.0/24
]
}
c-2 {
name = c
state = INSTALLED
mode = TUNNEL
protocol = ESP
spi-in = 00000100
spi-out = 49d7976d
encr-alg = AES_CBC
encr-keysize = 256
integ-alg = HMAC_SHA1_96
dh-group = ECP_256
bytes-in = 84
bytes-out = 4294967296
local-ts = [
]
}
}
}`

// vici makes messages as charon does: each text is one.
func vici(texts ...string) (list []byte) {
	for _, text := range texts {
		var m []byte
		short := func(op byte, s string) { m = append(append(m, op, byte(len(s))), s...) }
		long := func(s string) { m = append(append(m, byte(len(s)>>8), byte(len(s))), s...) }
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			key, value, assigned := strings.Cut(line, " = ")
			switch {
			case line == "":
			case line == "]":
				m = append(m, viciListEnd)
			case line == "}":
				m = append(m, viciSectionEnd)
			case strings.HasSuffix(line, " {"):
				short(viciSectionStart, strings.TrimSuffix(line, " {"))
			case value == "[":
				short(viciListStart, key)
			case assigned:
				short(viciKeyValue, key)
				long(value)
			default:
				m = append(m, viciListItem)
				long(line)
			}
		}
		list = append(binary.BigEndian.AppendUint32(list, uint32(len(m))), m...)
	}
	return list
}

func TestParseSAs(t *testing.T) {
	got, err := parseSAs(vici(listSAs))
	if err != nil {
		t.Fatal(err)
	}
	want := []IKESA{{
		Name: "t", UniqueID: "7", State: "ESTABLISHED", Initiator: true,
		InitiatorSPI: "e41dcf7c87fecbed", ResponderSPI: "5721b7ac5dec9bd0",
		Encr: "AES_CBC", KeySize: 128, Integ: "HMAC_SHA2_256_128", PRF: "PRF_HMAC_SHA2_256", DH: "CURVE_25519",
		RemoteNAT: true, Remote: "10.9.0.2", RemotePort: 4501,
		Children: []ChildSA{
			{
				Name: "c", State: "REKEYED", Mode: "TUNNEL", Protocol: "ESP", SPIIn: "9e50cc10", SPIOut: "49d7976c",
				Encr: "AES_GCM_16", KeySize: 128, LocalTS: []string{"10.1.0.0/24", "fd00:1::/64"}, RemoteTS: []string{"10.2.0.0/24"},
			},
			{
				Name: "c", State: "INSTALLED", Mode: "TUNNEL", Protocol: "ESP", SPIIn: "00000100", SPIOut: "49d7976d",
				Encr: "AES_CBC", KeySize: 256, Integ: "HMAC_SHA1_96", DH: "ECP_256", BytesIn: 84, BytesOut: 1 << 32,
			},
		},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestParseSAsOfSeveral: each IKE SA is a message of its own.
func TestParseSAsOfSeveral(t *testing.T) {
	got, err := parseSAs(vici("a {\nstate = ESTABLISHED\n}", "b {\n}"))
	if want := []IKESA{{Name: "a", State: "ESTABLISHED"}, {Name: "b"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParseSAsRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"t {", "}", "t {\nitem\n}", "]", "a = [", "a = [\nb = c\n]", "a = [\nt {\n}\n]", "t {\n}\n}", " {\n}"} {
		if sas, err := parseSAs(vici(text)); err == nil {
			t.Errorf("%q was read as %+v", text, sas)
		}
	}
	whole := vici(listSAs)
	for n := 1; n < len(whole); n++ {
		if sas, err := parseSAs(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read as %+v", n, len(whole), sas)
		}
	}
}
