package v2

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/internal/testing/vectors"
)

type kdfVectors struct {
	Groups []struct {
		Params struct {
			Hash string `json:"hash"`
		}
		Tests []struct {
			Count         int
			Ni, Nr        vectors.Hex
			Shared        vectors.Hex `json:"g^ir"`
			SharedNew     vectors.Hex `json:"g^ir (new)"`
			SPIi, SPIr    vectors.Hex
			SKEYSEED, DKM vectors.Hex
			Child         vectors.Hex `json:"DKM(Child SA)"`
			ChildDH       vectors.Hex `json:"DKM(Child SA D-H)"`
			RekeySKEYSEED vectors.Hex `json:"SKEYSEED(Rekey)"`
		}
	}
}

// all is the keying material in the order in which RFC 7296 §2.14 takes it.
func (k keys) all() []byte {
	return bytes.Join([][]byte{k.d, k.ai, k.ar, k.ei, k.er, k.pi, k.pr}, nil)
}

// sameStart compares as much as both have, which must be worth it.
func sameStart(t *testing.T, what string, got, want []byte) {
	t.Helper()
	n := min(len(got), len(want))
	if n < 40 || !bytes.Equal(got[:n], want[:n]) {
		t.Errorf("%s: %d bytes\n%x, want\n%x", what, n, got[:n], want[:n])
	}
}

// NIST CAVS: SKEYSEED, the keys of an IKE SA, of its CHILD SAs with and without a
// key exchange of their own, and of its successor.
func TestKeysVectors(t *testing.T) {
	var v kdfVectors
	vectors.Load(t, "nss-cavs-ike/ikev2.json", &v)
	prfs := map[string]string{"SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
	n := 0
	for _, g := range v.Groups {
		f := suite.PRFByName(prfs[g.Params.Hash])
		if f == nil {
			continue // SHA-224 and whatever else is not in the table
		}
		s := core.Suite{Encr: suite.EncrByName("aes-128-cbc"), Integ: suite.IntegByName("sha1"), PRF: f}
		for _, c := range g.Tests {
			n++
			spii, spir := binary.BigEndian.Uint64(c.SPIi), binary.BigEndian.Uint64(c.SPIr)
			k, err := deriveKeys(s, secret.Bytes(c.Shared), c.Ni, c.Nr, spii, spir)
			if err != nil {
				t.Fatal(err)
			}
			sameStart(t, "DKM", k.all(), c.DKM)
			for _, dh := range []struct{ shared, want vectors.Hex }{{nil, c.Child}, {c.SharedNew, c.ChildDH}} {
				i, r, err := childKeys(f, k.d, s, secret.Bytes(dh.shared), c.Ni, c.Nr, nil)
				if err != nil {
					t.Fatal(err)
				}
				sameStart(t, "KEYMAT", bytes.Join([][]byte{i.EncKey, i.IntegKey, r.EncKey, r.IntegKey}, nil), dh.want)
			}
			re, err := rederiveKeys(s, f, k.d, secret.Bytes(c.SharedNew), c.Ni, c.Nr, spii, spir, nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := expandKeys(s, f, secret.Bytes(c.RekeySKEYSEED), c.Ni, c.Nr, spii, spir)
			if err != nil {
				t.Fatal(err)
			}
			sameStart(t, "keys of the successor", re.all(), want.all())
		}
	}
	if n < 30 {
		t.Errorf("only %d vectors", n)
	}
}

// Messages that Openswan protected, with the keys that it printed: the ICV is
// right, what is inside is what it should be, and a changed byte is found.
func TestOpenVectors(t *testing.T) {
	var v struct {
		Messages []struct {
			File        string
			Frame       int
			Version     string
			Length      int
			SPIi        vectors.Hex `json:"spi_i"`
			SPIr        vectors.Hex `json:"spi_r"`
			SKa         vectors.Hex `json:"sk_a"`
			SKe         vectors.Hex `json:"sk_e"`
			Integ, Encr string
			Plaintext   vectors.Hex
			First       uint8 `json:"inner_first"`
		}
	}
	vectors.Load(t, "openswan-unit/expected.json", &v)
	n := 0
	for _, m := range v.Messages {
		if m.Version != "2.0" || m.Encr != "aes128" || len(m.Plaintext) == 0 || suite.IntegByName(m.Integ) == nil {
			continue
		}
		n++
		raw := packetOf(t, m.File, m.Frame, append(bytes.Clone(m.SPIi), m.SPIr...), m.Length)
		msg, err := message.Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", m.File, err)
			continue
		}
		sa := withKeys(&ikesa.SA{Env: core.NewEnv([32]byte{}), Suite: core.Suite{Encr: suite.EncrByName("aes-128-cbc"), Integ: suite.IntegByName(m.Integ)}, Initiator: !msg.FromInitiator()}, keys{})
		sa.sealer.keys = keys{ai: secret.Bytes(m.SKa), ar: secret.Bytes(m.SKa), ei: secret.Bytes(m.SKe), er: secret.Bytes(m.SKe)}
		bad := bytes.Clone(raw)
		bad[len(bad)/2] ^= 1
		if b, err := message.Parse(bad); err == nil {
			if _, _, err := openOne(sa, bad, b); err == nil {
				t.Errorf("%s: a changed byte was not found", m.File)
			}
		}
		inner, syntax, err := openOne(sa, raw, msg)
		if err != nil {
			t.Errorf("%s frame %d: %v", m.File, m.Frame, err)
			continue
		}
		want, wantErr := message.ParsePayloads(message.PayloadType(m.First), m.Plaintext)
		if (syntax == nil) != (wantErr == nil) {
			t.Errorf("%s: %v, want %v", m.File, syntax, wantErr)
			continue
		}
		_, a := message.AppendPayloads(nil, inner)
		_, b := message.AppendPayloads(nil, want)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: inside is\n%x, want\n%x", m.File, a, b)
		}
	}
	if n < 20 {
		t.Errorf("only %d messages", n)
	}
}

// packetOf finds an IKE message in a frame of a pcap file by its SPIs.
func packetOf(t *testing.T, file string, frame int, spis []byte, length int) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "vectors", "openswan-unit", "pcap", file))
	if err != nil {
		t.Fatal(err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if hex.EncodeToString(b[:4]) == "a1b2c3d4" {
		order = binary.BigEndian
	}
	b = b[24:]
	for n := 1; ; n++ {
		size := order.Uint32(b[8:])
		packet := b[16 : 16+size]
		if n == frame {
			i := bytes.Index(packet, spis)
			if i < 0 || i+length > len(packet) {
				t.Fatalf("%s: no such message in frame %d", file, frame)
			}
			return bytes.Clone(packet[i : i+length])
		}
		b = b[16+size:]
	}
}

// What one side seals the other opens, for each cipher of the table; the
// direction counts.
func TestSealOpen(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if e.IKEName == "" {
			continue // for ESP only
		}
		for _, a := range []string{"sha1", "sha256", "sha512"} {
			s := core.Suite{Encr: e, PRF: suite.PRFByName("sha512")}
			if !e.AEAD() {
				s.Integ = suite.IntegByName(a)
			}
			k, err := deriveKeys(s, secret.Bytes("shared"), []byte("nonce i"), []byte("nonce r"), 1, 2)
			if err != nil {
				t.Fatal(err)
			}
			env := core.NewEnv([32]byte{1})
			env.SetNow(time.Unix(0, 0))
			left := withKeys(&ikesa.SA{Env: env, Suite: s, Initiator: true}, k)
			right := withKeys(&ikesa.SA{Env: env, Suite: s}, k)
			seen := map[string]bool{}
			for size := range 40 {
				h := message.Header{SPIi: 1, SPIr: 2, Version: 0x20, Exchange: message.ExchangeInformational, ID: uint32(size)}
				raw, err := left.sealer.seal(h, []message.Payload{&message.VendorID{Data: make([]byte, size)}})
				if err != nil {
					t.Fatal(err)
				}
				iv := string(raw[message.HeaderLen+skGeneric:][:e.IVLen])
				if seen[iv] {
					t.Fatalf("%s: an IV came twice", e.Name)
				}
				seen[iv] = true
				m, err := message.Parse(raw)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := openOne(left, bytes.Clone(raw), m); err == nil {
					t.Fatalf("%s: our own message came back and was opened", e.Name)
				}
				m, _ = message.Parse(raw)
				in, syntax, err := openOne(right, raw, m)
				if err != nil || syntax != nil || len(in) != 1 || len(in[0].(*message.VendorID).Data) != size {
					t.Fatalf("%s: %v, %v, %v", e.Name, in, syntax, err)
				}
			}
		}
	}
}

// Nothing secret outlives an SA.
func TestWipe(t *testing.T) {
	s := core.Suite{Encr: suite.EncrByName("aes-128-cbc"), Integ: suite.IntegByName("sha1"), PRF: suite.PRFByName("sha1")}
	k, err := deriveKeys(s, secret.Bytes("shared"), []byte("i"), []byte("r"), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	all := []secret.Bytes{k.d, k.ai, k.ar, k.ei, k.er, k.pi, k.pr}
	k.wipe()
	for i, b := range all {
		if len(b) == 0 || !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("key %d is still there", i)
		}
	}
	ke, more := keyExchange{private: secret.Bytes("private"), shared: secret.Bytes("shared"), asking: 1}, followUps{secrets: secret.Bytes("further")}
	ke.end(nil)
	if ke.private[0] == 0 {
		t.Error("wiped while somebody computes with it")
	}
	ke.asking = 0
	ke.end(nil)
	more.end(nil)
	if ke.private[0] != 0 || ke.shared[0] != 0 || more.secrets[0] != 0 {
		t.Error("not wiped")
	}
}

// openOne opens a message that is no fragment.
func openOne(sa *SA, raw []byte, m *message.Message) (inner []message.Payload, syntax, err error) {
	inner, whole, syntax, err := sa.decrypt(raw, m, core.Datagram{})
	if err == nil && !whole {
		err = dropped{"not whole"}
	}
	return inner, syntax, err
}
