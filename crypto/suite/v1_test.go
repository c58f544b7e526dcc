package suite

import "testing"

// The numbers are those of IANA's registries for IKEv1, and strongSwan's for Twofish.
func TestNumbersOfIKEv1(t *testing.T) {
	type row struct {
		number, keyBits uint16
		want            string // "" for none
	}
	name := func(e *Encr) string {
		if e == nil {
			return ""
		}
		return e.Name
	}
	for _, c := range []row{
		{1, 0, "des"}, {3, 0, "blowfish"}, {3, 128, "blowfish"}, {3, 256, "blowfish-256"}, {5, 0, "3des"}, {5, 192, "3des"},
		{7, 0, "aes-128-cbc"}, {7, 128, "aes-128-cbc"}, {7, 192, "aes-192-cbc"}, {7, 256, "aes-256-cbc"}, {7, 64, ""},
		{8, 0, "camellia-128"}, {8, 192, "camellia-192"}, {8, 256, "camellia-256"},
		{0, 0, ""}, {0xffff, 0, ""}, {20, 128, ""},
	} {
		if got := name(EncrByPhase1(c.number, c.keyBits)); got != c.want {
			t.Errorf("phase 1 encryption %d with %d bits: %q, want %q", c.number, c.keyBits, got, c.want)
		}
	}
	for _, c := range []row{
		{2, 0, "des"}, {3, 0, "3des"}, {7, 0, "blowfish"}, {11, 0, "null"},
		{12, 0, "aes-128-cbc"}, {12, 256, "aes-256-cbc"}, {13, 0, "aes-128-ctr"}, {13, 192, "aes-192-ctr"},
		{14, 128, "aes-128-ccm-8"}, {15, 192, "aes-192-ccm-12"}, {16, 256, "aes-256-ccm"},
		{18, 128, "aes-128-gcm-8"}, {19, 192, "aes-192-gcm-12"}, {20, 256, "aes-256-gcm"}, {20, 0, "aes-128-gcm"},
		{22, 0, "camellia-128"}, {22, 256, "camellia-256"}, {23, 256, "aes-256-gmac"}, {253, 128, "twofish"},
		{0, 0, ""}, {1, 0, ""}, {28, 0, ""},
	} {
		if got := name(EncrByPhase2(uint8(c.number), c.keyBits)); got != c.want {
			t.Errorf("ESP transform %d with %d bits: %q, want %q", c.number, c.keyBits, got, c.want)
		}
	}
	for i, want := range []string{"", "md5", "sha1", "", "sha256", "sha384", "sha512", ""} {
		got := PRFByPhase1(uint16(i))
		if (got == nil) != (want == "") || got != nil && got.Name != want {
			t.Errorf("hash %d: %v, want %q", i, got, want)
		}
	}
	for i, want := range []string{"", "md5", "sha1", "", "", "sha256", "sha384", "sha512", "", ""} {
		got := IntegByPhase2(uint16(i))
		if (got == nil) != (want == "") || got != nil && got.Name != want {
			t.Errorf("authentication algorithm %d: %v, want %q", i, got, want)
		}
	}
	for name, want := range map[string]uint8{"md5": 2, "sha1": 3, "sha256": 5, "sha384": 6, "sha512": 7} {
		if got := IntegByName(name).V1.AH; got != want {
			t.Errorf("AH transform of %s: %d, want %d", name, got, want)
		}
	}
	groups := map[uint16]string{1: "modp768", 2: "modp1024", 3: "ec2n155", 4: "ec2n185", 5: "modp1536", 14: "modp2048", 15: "modp3072", 16: "modp4096",
		17: "modp6144", 18: "modp8192", 19: "ecp256", 20: "ecp384", 21: "ecp521"}
	for i := range uint16(40) {
		got := GroupByPhase1(i)
		if (got == nil) != (groups[i] == "") || got != nil && got.Name != groups[i] {
			t.Errorf("group %d: %v, want %q", i, got, groups[i])
		}
	}
}

// Every row that IKEv1 has is found by its number and key length.
func TestRowsAreFoundByTheirNumbersOfIKEv1(t *testing.T) {
	for i := range Encrs {
		e := &Encrs[i]
		if e.V1.Phase1 != 0 && EncrByPhase1(e.V1.Phase1, e.KeyBits) != e {
			t.Errorf("%s is not found in phase 1 by %d", e.Name, e.V1.Phase1)
		}
		if e.V1.ESP != 0 && EncrByPhase2(e.V1.ESP, e.KeyBits) != e {
			t.Errorf("%s is not found in phase 2 by %d", e.Name, e.V1.ESP)
		}
		if e.V1.Phase1 != 0 && e.IKEName == "" {
			t.Errorf("%s has a number for phase 1 and no name for profiles", e.Name)
		}
	}
}
