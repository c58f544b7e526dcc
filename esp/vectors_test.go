package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

// opened checks a published packet: that it opens to what was published, and
// that sealing it again with the published IV gives its bytes.
func opened(t *testing.T, from string, p Params, seq uint64, packet, plain []byte) {
	t.Helper()
	tr, err := New(p)
	if err != nil {
		t.Fatalf("%s: %v", from, err)
	}
	pkt := bytes.Clone(packet)
	off, n, next, err := tr.Open(pkt, seq)
	if err != nil {
		t.Errorf("%s: %v", from, err)
		return
	}
	if !bytes.HasPrefix(plain, pkt[off:off+n]) || next != plain[len(plain)-1] {
		t.Errorf("%s: opened %x, next header %d, want %x", from, pkt[off:off+n], next, plain)
	}
	if pad := int(plain[len(plain)-2]); n != len(plain)-2-pad {
		t.Errorf("%s: a payload of %d bytes, want %d", from, n, len(plain)-2-pad)
	}
	if again := naiveSeal(t, p, seq, plain, packet[HeaderLen:tr.Front()]); !bytes.Equal(again, packet) {
		t.Errorf("%s: sealed again %x, want %x", from, again, packet)
	}
}

// draft-mcgrew-gcm-test-01: case 1 with extended sequence numbers, case 2
// without, and case 12, which has no payload.
func TestPublished(t *testing.T) {
	for _, v := range []struct {
		from, material string
		seq            uint64
		esn            bool
		packet, plain  string
	}{
		{
			"case 1", "4c80cdefbb5d10da906ac73c3613a6342e443b68", 0x8765432100000000, true,
			"00004321000000004956ed7e3b244cfefecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
			"45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265726369747902646b000021000101020201",
		},
		{
			"case 2", "feffe9928665731c6d6a8f9467308308cafebabe", 10, false,
			"0000a5f80000000afacedbaddecaf888deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
			"4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001",
		},
		{
			"case 12", "7d773d00c144c525ac619d18c84a3f47d9664267", 0xffffffff, false,
			"335467aeffffffff43457e9182443bc6437f866bcb3f699fe9b0822bac961c4504bef270",
			"01020201",
		},
	} {
		packet := must(hex.DecodeString(v.packet))
		opened(t, v.from, Params{
			SPI: SPI(packet), Encr: suite.EncrByName("aes-128-gcm"), EncKey: must(hex.DecodeString(v.material)), ESN: v.esn,
		}, v.seq, packet, must(hex.DecodeString(v.plain)))
	}
}

// RFC 3602 §4 case 5, transport mode. The RFC's packet has no ICV, so one is
// made for it here; what is encrypted is the RFC's.
func TestRFC3602(t *testing.T) {
	const body = "0000432100000001e96e8c08ab465763fd098d45dd3ff893" +
		"f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52" +
		"775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"
	const plain = "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" +
		"202122232425262728292a2b2c2d2e2f3031323334353637" + "0102030405060708090a0b0c0d0e" + "0e01"
	for i := range suite.Integs {
		a := &suite.Integs[i]
		p := Params{
			SPI: 0x4321, Encr: suite.EncrByName("aes-128-cbc"), EncKey: must(hex.DecodeString("90d382b410eeba7ad938c46cec1a82bf")),
			Integ: a, IntegKey: sample(a.KeyLen),
		}
		packet := must(hex.DecodeString(body))
		packet = append(packet, naiveICV(t, p, packet, 1)...)
		opened(t, "case 5 with "+a.Name, p, 1, packet, must(hex.DecodeString(plain)))
	}
}

func TestRFCVectors(t *testing.T) {
	type packet struct {
		Case      int
		Key, Salt vectors.Hex
		Seq       string
		ESN       bool
		Plain     vectors.Hex `json:"plaintext_with_esp_trailer"`
		Packet    vectors.Hex `json:"esp_packet"`
	}
	var f struct {
		AESGCM []packet `json:"aes_gcm"`
		ChaCha []packet `json:"chacha20_poly1305"`
	}
	vectors.Load(t, "rfc-esp/esp_rfc_vectors.json", &f)
	if len(f.AESGCM) == 0 {
		t.Error("the file has no tests of AES-GCM")
	}
	for _, v := range f.AESGCM {
		seq, err := strconv.ParseUint(v.Seq, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		p := Params{
			SPI: SPI(v.Packet), Encr: suite.EncrByID(20, uint16(8*len(v.Key))),
			EncKey: append(bytes.Clone(v.Key), v.Salt...), ESN: v.ESN,
		}
		opened(t, "case "+strconv.Itoa(v.Case), p, seq, v.Packet, v.Plain)
	}
	if len(f.ChaCha) == 0 {
		t.Error("the file has no tests of ChaCha20-Poly1305")
	}
	for _, v := range f.ChaCha { // RFC 7634 appendix A
		p := Params{SPI: SPI(v.Packet), Encr: suite.EncrByName("chacha20-poly1305"), EncKey: append(bytes.Clone(v.Key), v.Salt...)}
		opened(t, "ChaCha20-Poly1305", p, uint64(Seq(v.Packet)), v.Packet, v.Plain)
	}
}

// DPDK's packets of tunnel mode: an outer header, then ESP over the inner packet.
func TestDPDK(t *testing.T) {
	var f struct {
		Tests []struct {
			Name    string
			Key     vectors.Hex
			Salt    vectors.Hex
			AuthKey vectors.Hex `json:"auth_key"`
			Inner   vectors.Hex `json:"input_text"`
			Outer   vectors.Hex `json:"output_text"`
		}
	}
	vectors.Load(t, "dpdk-esp-ah/esp_ah_packets.json", &f)
	rows := map[string][2]string{ // those whose algorithms are rows of suite
		"pkt_aes_128_gcm":                {"aes-128-gcm"},
		"pkt_aes_256_gcm":                {"aes-256-gcm"},
		"pkt_aes_128_cbc_hmac_sha256":    {"aes-128-cbc", "sha256"},
		"pkt_aes_128_cbc_hmac_sha512":    {"aes-128-cbc", "sha512"},
		"pkt_aes_128_cbc_hmac_sha256_v6": {"aes-128-cbc", "sha256"},
		"pkt_aes_128_cbc_md5":            {"aes-128-cbc", "md5"},
		"pkt_aes_128_ctr_hmac_sha256":    {"aes-128-ctr", "sha256"},
		"pkt_aes_128_ctr_hmac_sha384":    {"aes-128-ctr", "sha384"},
		"pkt_3des_cbc_hmac_sha256":       {"3des", "sha256"},
		"pkt_3des_cbc_hmac_sha384":       {"3des", "sha384"},
		"pkt_des_cbc_hmac_sha384":        {"des", "sha384"},
		"pkt_des_cbc_hmac_sha512":        {"des", "sha512"},
		"pkt_des_cbc_hmac_sha256_v6":     {"des", "sha256"},
	}
	ran := 0
	for _, v := range f.Tests {
		row, ok := rows[v.Name]
		if !ok {
			continue
		}
		ran++
		outer, next := 20, uint8(4)
		if v.Outer[0]>>4 == 6 {
			outer, next = 40, 41
		}
		packet := v.Outer[outer:]
		p := Params{
			SPI: SPI(packet), Encr: suite.EncrByName(row[0]), EncKey: append(bytes.Clone(v.Key), v.Salt...),
			Integ: suite.IntegByName(row[1]), IntegKey: bytes.Clone(v.AuthKey),
		}
		opened(t, v.Name, p, uint64(Seq(packet)), packet, withTrailer(p, v.Inner, next))
	}
	if ran != len(rows) {
		t.Errorf("%d of %d packets are in the file", ran, len(rows))
	}
}

// The high half of an extended sequence number is covered though it is not sent.
func TestESNHighHalf(t *testing.T) {
	for _, c := range combinations() {
		tr := c.transform(t)
		pkt := seal(t, tr, []byte("payload"), 1<<32|5, 4)
		if got := binary.BigEndian.Uint32(pkt[4:]); got != 5 {
			t.Errorf("%s: %d on the wire, want the low half", c.name, got)
		}
		_, _, _, err := tr.Open(bytes.Clone(pkt), 5)
		if c.esn && !errors.Is(err, ErrICV) || !c.esn && err != nil {
			t.Errorf("%s: opened with another high half: %v", c.name, err)
		}
	}
}
