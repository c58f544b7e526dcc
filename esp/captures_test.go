package esp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"culvert/crypto/cipher"
	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

// Captures of others' ESP, with keys, are opened, and what is in them is what
// other programs found there.

// captured is one frame with ESP.
type captured struct {
	src, dst netip.Addr
	pkt      []byte // from the SPI on
}

// capture reads a capture; frames are by their number, from 1.
func capture(t *testing.T, name string) map[int]captured {
	t.Helper()
	frames, err := pcapgo.NewReader(bytes.NewReader(vectors.Read(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]captured{}
	for n := 1; ; n++ {
		data, _, err := frames.ReadPacketData()
		if err != nil {
			return found
		}
		frame := gopacket.NewPacket(data, frames.LinkType(), gopacket.Default)
		switch ip := frame.NetworkLayer().(type) {
		case *layers.IPv4:
			if ip.Protocol == layers.IPProtocolESP {
				found[n] = captured{addr(ip.SrcIP.To4()), addr(ip.DstIP.To4()), bytes.Clone(ip.Payload)}
			}
		case *layers.IPv6:
			if ip.NextHeader == layers.IPProtocolESP {
				found[n] = captured{addr(ip.SrcIP), addr(ip.DstIP), bytes.Clone(ip.Payload)}
			}
		}
	}
}

func addr(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}

// wiresharkSA is a line of Wireshark's table of SAs.
type wiresharkSA struct {
	src, dst  netip.Addr
	spi       string // decimal, or "*"
	enc, auth string
	encKey    []byte
	authKey   []byte
}

func wiresharkSAs(t *testing.T, name string) (list []wiresharkSA) {
	t.Helper()
	lines := csv.NewReader(bytes.NewReader(vectors.Read(t, name)))
	lines.Comment, lines.FieldsPerRecord = '#', 8
	rows, err := lines.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{
		"AES-CBC [RFC3602]": "aes-128-cbc", "TripleDES-CBC [RFC2451]": "3des", "DES-CBC [RFC2405]": "des", "BLOWFISH-CBC [RFC2451]": "blowfish",
		"HMAC-SHA-1-96 [RFC2404]": "sha1", "HMAC-MD5-96 [RFC2403]": "md5", "NULL": "null",
	}
	for _, r := range rows {
		list = append(list, wiresharkSA{
			netip.MustParseAddr(r[1]), netip.MustParseAddr(r[2]), r[3], names[r[4]], names[r[6]], wiresharkKey(t, r[5]), wiresharkKey(t, r[7]),
		})
	}
	return list
}

// wiresharkKey is hexadecimal with 0x in front, of which a leading zero may be left out, or text.
func wiresharkKey(t *testing.T, text string) []byte {
	t.Helper()
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		return []byte(text)
	}
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	return must(hex.DecodeString(digits))
}

// Wireshark's sample captures: transport mode with each cipher and hash of their
// time. What stands in them is what Wireshark says, the padding too. Half of one
// is without integrity, which this package does not do: its cipher alone is tried.
func TestWireshark(t *testing.T) {
	for name, want := range map[string]int{"wireshark-wiki/ipsec_esp_capture_1": 240, "wireshark-wiki/ipsec_esp_capture_5": 72} {
		var expected struct {
			Frames []map[string]string
		}
		vectors.Load(t, name+"/expected.json", &expected)
		frames, sas := capture(t, name+"/capture.pcap"), wiresharkSAs(t, name+"/esp_sa")
		ran := 0
		for _, e := range expected.Frames {
			n, _ := strconv.Atoi(e["frame.number"])
			f, ok := frames[n]
			if !ok {
				t.Fatalf("%s: frame %d is no ESP", name, n)
			}
			sa := wiresharkSAOf(sas, f)
			if sa == nil {
				t.Fatalf("%s: frame %d has no SA", name, n)
			}
			payload, next, err := sa.open(f.pkt)
			if err != nil {
				t.Errorf("%s: frame %d, %s and %s: %v", name, n, sa.enc, sa.auth, err)
				continue
			}
			ran++
			said := [...]uint64{
				number(t, e["esp.protocol"]), number(t, e["esp.sequence"]), number(t, e["icmp.ident"]+e["icmpv6.echo.identifier"]),
				number(t, e["icmp.seq"]+e["icmpv6.echo.sequence_number"]),
			}
			got := [...]uint64{uint64(next), uint64(Seq(f.pkt)), word(payload[4:]), word(payload[6:])}
			if got != said || !strings.HasSuffix(hex.EncodeToString(payload), e["data.data"]) {
				t.Fatalf("%s: frame %d opens to %x, next header, ESP's number, ping's and its number %d, and Wireshark says %v", name, n, payload, got, e)
			}
		}
		if ran != want {
			t.Errorf("%s: %d frames were opened, want %d", name, ran, want)
		}
	}
}

func word(b []byte) uint64 { return uint64(binary.BigEndian.Uint16(b)) }

func number(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func wiresharkSAOf(sas []wiresharkSA, f captured) *wiresharkSA {
	for i := range sas {
		if s := &sas[i]; s.src == f.src && s.dst == f.dst && (s.spi == "*" || s.spi == fmt.Sprint(SPI(f.pkt))) {
			return s
		}
	}
	return nil
}

func (s *wiresharkSA) open(pkt []byte) (payload []byte, next uint8, err error) {
	encr := suite.EncrByName(s.enc)
	if s.auth == "null" {
		return decrypted(encr, s.encKey, pkt)
	}
	tr, err := New(Params{SPI: SPI(pkt), Encr: encr, EncKey: s.encKey, Integ: suite.IntegByName(s.auth), IntegKey: s.authKey})
	if err != nil {
		return nil, 0, err
	}
	off, n, next, err := tr.Open(pkt, uint64(Seq(pkt)))
	return pkt[off : off+n], next, err
}

// decrypted is a packet without its ICV, which is not there or whose key is not known.
func decrypted(encr *suite.Encr, key, pkt []byte) (payload []byte, next uint8, err error) {
	mode, err := cipher.New(encr, key)
	if err != nil {
		return nil, 0, err
	}
	iv, body := pkt[HeaderLen:HeaderLen+encr.IVLen], pkt[HeaderLen+encr.IVLen:]
	mode.Decrypt(iv, body)
	n := len(body) - trailerLen - int(body[len(body)-2])
	if n < 0 || !validPadding(body[n:len(body)-trailerLen]) {
		return nil, 0, ErrPadding
	}
	return body[:n], body[len(body)-1], nil
}

// tcpdump's captures of 3DES, the second a tunnel within a tunnel. tcpdump does not
// check ICVs, and their keys are not known. Its output says which pings are in them.
func TestTcpdump(t *testing.T) {
	pings := regexp.MustCompile(`^ *(\d+) .* IP 192\.0\.2\.1 > 192\.0\.1\.1: ICMP echo request, id (\d+), seq (\d+), length 64$`)
	for name, c := range map[string]struct {
		output string
		keys   []string
	}{
		"02-sunrise-sunset-esp.pcap": {"esp1.out", []string{"4043434545464649494a4a4c4c4f4f515152525454575758"}},
		"08-sunrise-sunset-esp2.pcap": {"esp2.out", []string{
			"43434545464649494a4a4c4c4f4f51515252545457575840", "434545464649494a4a4c4c4f4f5151525254545757584043",
		}},
	} {
		frames := capture(t, "tcpdump/"+name)
		text := vectors.Read(t, "tcpdump/"+c.output)
		ran := 0
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			said := pings.FindStringSubmatch(lines.Text())
			if said == nil {
				t.Fatalf("%s: %s", c.output, lines.Text())
			}
			f := frames[must(strconv.Atoi(said[1]))]
			inner, ok := f.pkt, true
			for _, key := range c.keys {
				payload, next, err := decrypted(suite.EncrByName("3des"), must(hex.DecodeString(key)), inner[:len(inner)-12])
				if err != nil || next != 4 || len(payload) < 28 {
					t.Errorf("%s: frame %s does not open: %v", name, said[1], err)
					ok = false
					break
				}
				inner = payload[20:]
			}
			if !ok {
				continue
			}
			ran++
			if got := [...]uint64{word(inner[4:]), word(inner[6:])}; inner[0] != 8 || len(inner) != 64 || got != [...]uint64{number(t, said[2]), number(t, said[3])} {
				t.Errorf("%s: frame %s has %x, and tcpdump says %s", name, said[1], inner, said[0])
			}
		}
		if ran != 8 {
			t.Errorf("%s: %d frames were opened, want 8", name, ran)
		}
	}
}
