package v2

import (
	"bytes"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/internal/testing/vectors"
)

// withKeys is an IKE SA that can seal and open.
func withKeys(base *ikesa.SA, k keys) *SA {
	return &SA{base: base, sealer: sealer{base: base, keys: k}}
}

// sealing is two ends of one IKE SA that do nothing but protect messages.
func sealing(t *testing.T, s core.Suite) (initiator, responder *SA) {
	t.Helper()
	k, err := expandKeys(s, s.PRF, secret.Bytes("seed"), []byte("Ni"), []byte("Nr"), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	env := core.NewEnv([32]byte{1})
	return withKeys(&ikesa.SA{Env: env, Suite: s, Initiator: true}, k), withKeys(&ikesa.SA{Env: env, Suite: s}, k)
}

// suites are every cipher of profiles, with every MAC where it needs one.
func suites() (all []core.Suite) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if e.IKEName == "" {
			continue
		}
		for j := range suite.PRFs {
			s := core.Suite{Encr: e, PRF: &suite.PRFs[j]}
			if e.AEAD() {
				all = append(all, s)
				continue
			}
			for k := range suite.Integs {
				s.Integ = &suite.Integs[k]
				all = append(all, s)
			}
		}
	}
	return all
}

func nameOf(s core.Suite) string {
	if s.Integ == nil {
		return s.Encr.Name + " " + s.PRF.Name
	}
	return s.Encr.Name + " " + s.PRF.Name + " " + s.Integ.Name
}

func TestEveryCipherProtects(t *testing.T) {
	for _, s := range suites() {
		us, them := sealing(t, s)
		for n := range 40 {
			h := message.Header{SPIi: 1, SPIr: 2, Version: 0x20, Exchange: message.ExchangeInformational, Flags: message.FlagInitiator, ID: uint32(n)}
			data := bytes.Repeat([]byte{byte(n)}, n)
			raw, err := us.sealer.seal(h, []message.Payload{&message.Notify{Kind: 40000, Data: data}})
			if err != nil {
				t.Fatalf("%s: %v", nameOf(s), err)
			}
			if want := us.sealer.sealedLen(skGeneric, 8+n); len(raw) != want {
				t.Fatalf("%s, %d bytes: a message of %d bytes, foretold %d", nameOf(s), n, len(raw), want)
			}
			open := func(raw []byte) ([]message.Payload, error) {
				raw = bytes.Clone(raw)
				m, err := message.Parse(raw)
				if err != nil {
					return nil, err
				}
				inner, _, syntax, err := them.decrypt(raw, m, core.Datagram{})
				if syntax != nil {
					err = syntax
				}
				return inner, err
			}
			inner, err := open(raw)
			if err != nil || len(inner) != 1 {
				t.Fatalf("%s, %d bytes: %v, %v", nameOf(s), n, inner, err)
			}
			if got, ok := inner[0].(*message.Notify); !ok || got.Kind != 40000 || !bytes.Equal(got.Data, data) {
				t.Fatalf("%s, %d bytes: %+v", nameOf(s), n, inner[0])
			}
			if bytes.Contains(raw, data) && n > 8 {
				t.Fatalf("%s, %d bytes: not encrypted", nameOf(s), n)
			}
			if n%13 != 0 {
				continue
			}
			for at := range raw {
				raw[at] ^= 1
				if _, err := open(raw); err == nil {
					t.Fatalf("%s: byte %d changed, and opened", nameOf(s), at)
				}
				raw[at] ^= 1
			}
			if _, err := us.sealer.seal(h, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A fragment never exceeds what was measured for it.
func TestRoom(t *testing.T) {
	for _, s := range suites() {
		us, _ := sealing(t, s)
		for body := 100; body < 200; body++ {
			n := us.sealer.room(body)
			if us.sealer.sealedLen(skfGeneric, n) > message.HeaderLen+skfGeneric+body || us.sealer.sealedLen(skfGeneric, n+1) <= message.HeaderLen+skfGeneric+body {
				t.Fatalf("%s: %d of %d bytes", nameOf(s), n, body)
			}
		}
	}
}

// RFC 7634 appendix B.
func TestChaCha20Poly1305Message(t *testing.T) {
	var f struct {
		Key       vectors.Hex `json:"sk_e"`
		Plaintext vectors.Hex
		Message   vectors.Hex
	}
	vectors.Load(t, "rfc-esp/ikev2_chacha20poly1305_message.json", &f)
	s := core.Suite{Encr: suite.EncrByIKEName("chacha20-poly1305"), PRF: suite.PRFByName("sha256")}
	sa := withKeys(&ikesa.SA{Env: core.NewEnv([32]byte{}), Suite: s, Initiator: true}, keys{er: secret.Bytes(f.Key)})
	plain, syntax, err := sa.sealer.unseal(bytes.Clone(f.Message), message.HeaderLen+skGeneric)
	if want := f.Plaintext[:len(f.Plaintext)-1]; err != nil || syntax != nil || !bytes.Equal(plain, want) {
		t.Errorf("%x, %v, %v, want %x", plain, syntax, err, want)
	}
}
