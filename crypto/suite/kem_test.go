package suite

import "testing"

// A key exchange is a group and what is run after it: each at most once.
func TestKeyExchangeByName(t *testing.T) {
	for name, want := range map[string]string{
		"x25519": "x25519", "x25519+ml-kem-768": "x25519 ml-kem-768", "modp2048+ml-kem-1024+ml-kem-768": "modp2048 ml-kem-1024 ml-kem-768",
		"ecp256+ml-kem-768+ml-kem-768": "", "ecp256+ml-kem-768+ml-kem-1024+ml-kem-768": "", // one adds nothing the second time
		"": "", "+": "", "x": "", "ml-kem-768": "", "x25519+": "", "x25519+x25519": "", "+ml-kem-768": "", "x25519+ml-kem-768+": "", "x25519+x+ml-kem-768": "",
	} {
		got := ""
		if x := KeyExchangeByName(name); x != nil {
			got = x.Group.Name
			for _, k := range x.Additional {
				got += " " + k.Name
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// The numbers are those of the registry of IKEv2 parameters (RFC 7296 §3.3.2, RFC 9370 §4).
func TestTransformTypes(t *testing.T) {
	for i, got := range []TransformType{TypeEncr, TypePRF, TypeInteg, TypeDH, TypeESN, TypeAddKE1, TypeAddKE7} {
		if want := []TransformType{1, 2, 3, 4, 5, 6, 12}[i]; got != want {
			t.Errorf("type %d, want %d", got, want)
		}
	}
	for id, name := range map[uint16]string{35: "", 36: "ml-kem-768", 37: "ml-kem-1024", 38: ""} {
		if k := KEMByID(id); (k == nil) != (name == "") || k != nil && (k.Name != name || KEMByName(name) != k) {
			t.Errorf("key exchange method %d: %+v", id, k)
		}
	}
	for i := range KEMs {
		if k := &KEMs[i]; KEMByName(k.Name) != k || KEMByID(k.ID) != k {
			t.Errorf("%s", k.Name)
		}
	}
}
