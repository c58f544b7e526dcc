package core

import (
	"testing"

	"culvert/crypto/suite"
)

// Every cipher is offered, chosen from such an offer, and accepted when chosen.
func TestEveryCipherIsAgreedOn(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		for _, proto := range []Protocol{ProtoIKE, ProtoESP} {
			if proto == ProtoIKE && e.IKEName == "" {
				continue
			}
			for _, hash := range []string{"md5", "sha1", "sha256", "sha384", "sha512"} {
				name := e.Name
				if proto == ProtoIKE {
					name = e.IKEName
				}
				o := offerOf(proto, words(name), words(hash), words("modp1024"))
				if e.AEAD() {
					o.Integs = nil // as the configuration has it
				}
				s, answer, ok := o.Select(o.Alternatives())
				if !ok || s.Encr != e || (s.Integ == nil) != e.AEAD() || s.Group.Name != "modp1024" {
					t.Fatalf("%s with %s: %v, %+v", name, hash, ok, s)
				}
				for _, x := range answer.Transforms {
					if x.Type == suite.TypeEncr && (x.ID != e.ID || x.KeyBits != e.KeyBits) {
						t.Errorf("%s goes back as %d/%d", name, x.ID, x.KeyBits)
					}
				}
				if s, ok := o.Accepts([]Alternative{answer}); !ok || s.Encr != e {
					t.Errorf("%s with %s: our own choice is not accepted", name, hash)
				}
			}
		}
	}
}

func TestKeyLengthOfFixedKeys(t *testing.T) {
	for _, v := range []struct {
		name string
		bits uint16
		ok   bool
	}{
		{"3des", 0, true}, {"3des", 192, true}, {"3des", 168, true}, {"des", 0, true}, {"des", 64, true}, {"chacha20-poly1305", 256, true},
		{"blowfish", 128, true}, {"blowfish", 0, false}, {"blowfish", 448, false}, {"aes-128", 0, false}, {"aes-128", 256, false},
	} {
		e := suite.EncrByIKEName(v.name)
		o := offerOf(ProtoIKE, words(v.name), words("sha1"), words("modp1024"))
		peer := Alternative{Number: 3, Protocol: ProtoIKE, Transforms: []Transform{
			{Type: suite.TypeEncr, ID: e.ID, KeyBits: v.bits}, {Type: suite.TypePRF, ID: 2}, {Type: suite.TypeInteg, ID: 2}, {Type: suite.TypeDH, ID: 2},
		}}
		_, answer, ok := o.Select([]Alternative{peer})
		if ok != v.ok {
			t.Errorf("%s with %d bits: %v", v.name, v.bits, ok)
			continue
		}
		if ok && (answer.Number != 3 || answer.Transforms[0].KeyBits != v.bits) {
			t.Errorf("%s with %d bits goes back as %+v, which the peer did not offer", v.name, v.bits, answer.Transforms[0])
		}
	}
}

// What peers put beside an AEAD: no integrity transform, NONE, or one that
// means nothing there. Without an AEAD, NONE is refused.
func TestIntegrityBesideAEAD(t *testing.T) {
	for _, name := range []string{"aes-128-gcm", "aes-256-gcm-8", "aes-128-ccm-12", "aes-192-gmac", "chacha20-poly1305", "aes-128-cbc", "null"} {
		e := suite.EncrByName(name)
		for _, integs := range [][]uint16{nil, {0}, {2}, {0, 2}} {
			o := offerOf(ProtoESP, words(name), words("sha1"), nil)
			peer := Alternative{Number: 1, Protocol: ProtoESP, Transforms: []Transform{{Type: suite.TypeEncr, ID: e.ID, KeyBits: e.KeyBits}}}
			sha1 := false
			for _, id := range integs {
				sha1 = sha1 || id == 2
				peer.Transforms = append(peer.Transforms, Transform{Type: suite.TypeInteg, ID: id})
			}
			s, _, ok := o.Select([]Alternative{peer})
			if want := e.AEAD() || sha1; ok != want {
				t.Errorf("%s with %v: chosen %v", name, integs, ok)
			} else if ok && (s.Integ == nil) != e.AEAD() {
				t.Errorf("%s with %v: %+v", name, integs, s)
			}
		}
	}
}
