package suite

import "testing"

// No two rows may answer to one name or one number: a look-up would never find
// the second.
func TestRowsAreFoundByNameAndNumber(t *testing.T) {
	for i := range Encrs {
		e := &Encrs[i]
		if EncrByName(e.Name) != e {
			t.Errorf("%s is not found by its name", e.Name)
		}
		if got := EncrByID(e.ID, e.KeyBits); got != e {
			t.Errorf("%s is not found by %d with %d bits", e.Name, e.ID, e.KeyBits)
		}
		if e.IKEName != "" && EncrByIKEName(e.IKEName) != e {
			t.Errorf("%s is not found by its name in profiles, %s", e.Name, e.IKEName)
		}
		if e.Block < 1 || e.MaterialLen() != e.KeyLen+e.SaltLen || e.AEAD() != (e.ICVLen > 0) {
			t.Errorf("%s: lengths that do not fit together", e.Name)
		}
	}
	for i := range Integs {
		if a := &Integs[i]; IntegByName(a.Name) != a || IntegByID(a.ID) != a && a.Name != "sha256-96" || a.ICVLen < 1 || a.ICVLen > a.KeyLen {
			t.Errorf("integrity %s", a.Name)
		}
	}
	for i := range PRFs {
		if p := &PRFs[i]; PRFByName(p.Name) != p || PRFByID(p.ID) != p || p.Len < 1 {
			t.Errorf("PRF %s", p.Name)
		}
	}
	for i := range Groups {
		if g := &Groups[i]; GroupByName(g.Name) != g || GroupByID(g.ID) != g || g.V1 != 0 && GroupByPhase1(g.V1) != g || g.OnlyV1 && g.V1 == 0 || g.PublicLen < 1 {
			t.Errorf("group %s", g.Name)
		}
	}
	for _, c := range []struct {
		id, keyBits uint16
		want        string
	}{ // a key length is ignored where there is one alone
		{3, 192, "3des"}, {3, 168, "3des"}, {2, 64, "des"}, {28, 256, "chacha20-poly1305"}, {11, 1, "null"},
		{12, 128, "aes-128-cbc"}, {12, 0, ""}, {12, 129, ""}, {20, 0, ""},
	} {
		got := ""
		if e := EncrByID(c.id, c.keyBits); e != nil {
			got = e.Name
		}
		if got != c.want {
			t.Errorf("%d with %d bits is %q, want %q", c.id, c.keyBits, got, c.want)
		}
	}
	if e := EncrByIKEName(""); e != nil {
		t.Errorf("%s has no name in profiles and is found by none", e.Name)
	}
	if EncrByName("rot13") != nil || EncrByID(12, 64) != nil || IntegByID(0) != nil || PRFByName("") != nil || GroupByID(0) != nil {
		t.Error("what is no row is found")
	}
}
