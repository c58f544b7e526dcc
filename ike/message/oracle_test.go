package message

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// What another implementation captured and a third one read: the chains of
// payloads, in clear and decrypted.
func TestCaptures(t *testing.T) {
	dir := vectors(t, "openswan-unit")
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct {
		Messages []struct {
			File      string       `json:"file"`
			Frame     int          `json:"frame"`
			Version   string       `json:"version"`
			Exchange  ExchangeType `json:"exchange"`
			Flags     Flags        `json:"flags"`
			Length    uint32       `json:"length"`
			Outer     []int        `json:"outer_payloads"`
			First     PayloadType  `json:"inner_first"`
			Inner     []int        `json:"inner_payloads"`
			Plaintext string       `json:"plaintext"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	outer, inner := 0, 0
	for _, want := range expected.Messages {
		datagram := frame(t, filepath.Join(dir, "pcap", want.File), want.Frame)
		h, err := ParseHeader(datagram)
		if err != nil || h.Exchange != want.Exchange || h.Flags != want.Flags || h.Length != want.Length {
			t.Errorf("%s: header %+v, %v", want.File, h, err)
			continue
		}
		if want.Version != "2.0" {
			continue
		}
		m, err := Parse(datagram)
		if err != nil {
			t.Errorf("%s: %v", want.File, err)
			continue
		}
		outer++
		if got := types(m.Payloads); !slices.Equal(got, want.Outer) {
			t.Errorf("%s: payloads %v, want %v", want.File, got, want.Outer)
		}
		if err := CheckOuter(h, m.Payloads); err != nil {
			t.Errorf("%s: %v", want.File, err)
		}
		contents := m.Payloads
		if want.Plaintext != "" {
			inner++
			if sk := m.Payloads[0].(*Encrypted); sk.First != want.First {
				t.Errorf("%s: first payload inside is %s, want %s", want.File, sk.First, want.First)
			}
			contents, err = ParsePayloads(want.First, unhex(t, want.Plaintext))
			if want.File == shortNonce {
				if err == nil {
					t.Errorf("%s: a nonce of 2 bytes was taken", want.File)
				}
				continue
			}
			if got := types(contents); err != nil || !slices.Equal(got, want.Inner) {
				t.Errorf("%s: payloads inside %v, %v, want %v", want.File, got, err, want.Inner)
			}
		} else if m.Payloads[0].Type() == TypeSK {
			continue
		}
		if err := CheckGrammar(h, contents); err != nil {
			t.Errorf("%s: %v", want.File, err)
		}
	}
	if outer == 0 || inner == 0 {
		t.Errorf("%d messages and %d decrypted ones were compared", outer, inner)
	}
}

// shortNonce is a capture of a message that is wrong on purpose.
const shortNonce = "libpluto__lp88-rekeyv2-inval-R1__rekeyCI1.pcap"

func types(ps []Payload) []int {
	var ts []int
	for _, p := range ps {
		ts = append(ts, int(p.Type()))
	}
	return ts
}

// frame is the IKE message in the n-th frame of a capture, counted from 1.
func frame(t *testing.T, file string, n int) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for ; ; n-- {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			t.Fatalf("%s ends early", file)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > 1 {
			continue
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			t.Fatalf("%s: no UDP", file)
		}
		if udp.SrcPort == 4500 || udp.DstPort == 4500 {
			return udp.Payload[4:]
		}
		return udp.Payload
	}
}
