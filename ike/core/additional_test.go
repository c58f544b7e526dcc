package core

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

// exchangesOf reads "x25519+ml-kem-768 ecp256".
func exchangesOf(text string) (list []suite.KeyExchange) {
	for _, name := range strings.Fields(text) {
		list = append(list, *suite.KeyExchangeByName(name))
	}
	return list
}

func profileOf(text string) *Profile {
	p := &Profile{Encrs: []*suite.Encr{suite.EncrByIKEName("aes-128")}, PRFs: []*suite.PRF{suite.PRFByName("sha256")}, Integs: []*suite.Integ{suite.IntegByName("sha256")}}
	for _, x := range exchangesOf(text) {
		p.KeyExchanges = append(p.KeyExchanges, x)
		p.Groups = append(p.Groups, x.Group)
	}
	return p
}

// What an IKE_SA_INIT offers of key exchanges, and what of them goes into one proposal: groups with the
// same ones behind them. Where the peer cannot do those, groups alone are offered, or nothing that fits.
func TestInitOffer(t *testing.T) {
	for _, c := range []struct {
		exchanges string
		with      bool
		want      []string // by proposal: groups, then type:method of what is behind them
		names     string
	}{
		{"x25519", true, []string{"[31]"}, "none"},
		{"x25519 ecp256", false, []string{"[31 19]"}, "none"},
		{"x25519+ml-kem-768", true, []string{"[31] 6:36"}, "ml-kem-768"},
		{"x25519+ml-kem-768 ecp256+ml-kem-768 x25519", true, []string{"[31 19] 6:36", "[31]"}, "ml-kem-768, none"},
		{"x25519+ml-kem-768+ml-kem-1024 ecp256", true, []string{"[31] 6:36 7:37", "[19]"}, "ml-kem-768+ml-kem-1024, none"},
		{"x25519+ml-kem-768 ecp256", false, []string{"[19]"}, "none"},
		{"x25519+ml-kem-768 ecp256+ml-kem-1024", false, []string{"[] 6:36"}, "ml-kem-768"}, // which fits nobody who cannot do it
	} {
		o := InitOffer(profileOf(c.exchanges), c.with)
		var got []string
		for i, p := range o.Alternatives() {
			var groups []uint16
			text := ""
			for _, x := range p.Transforms {
				switch {
				case x.Type == suite.TypeDH:
					groups = append(groups, x.ID)
				case x.Type >= suite.TypeAddKE1:
					text += fmt.Sprintf(" %d:%d", x.Type, x.ID)
				}
			}
			got = append(got, fmt.Sprint(groups)+text)
			if int(p.Number) != i+1 {
				t.Errorf("%s: proposal %d has number %d", c.exchanges, i+1, p.Number)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, with %v: %q, want %q", c.exchanges, c.with, got, c.want)
		}
		if names := strings.Join(o.additionalNames(), ", "); names != c.names {
			t.Errorf("%s, with %v: %q, want %q", c.exchanges, c.with, names, c.names)
		}
	}
}

// A proposal has to have just the key exchanges that are allowed; NONE counts as none.
func TestAdditionalFit(t *testing.T) {
	behind := func(list ...uint16) *Alternative { // type, method, type, method …
		p := &Alternative{Number: 1, Protocol: ProtoIKE}
		for i := 0; i < len(list); i += 2 {
			p.Transforms = append(p.Transforms, Transform{Type: suite.TransformType(list[i]), ID: list[i+1]})
		}
		return p
	}
	none, one, two := exchanges{}, exchanges{additional: exchangesOf("x25519+ml-kem-768")[0].Additional}, exchanges{additional: exchangesOf("x25519+ml-kem-768+ml-kem-1024")[0].Additional}
	for _, c := range []struct {
		name           string
		p              *Alternative
		none, one, two bool
		answer         string // of the first that fits, to this peer
		offered        string
	}{
		{"nothing", behind(), true, false, false, "", "none"},
		{"one", behind(6, 36), false, true, false, " 6:36", "ml-kem-768"},
		{"another one", behind(6, 37), false, false, false, "", "ml-kem-1024"},
		{"one or NONE", behind(6, 36, 6, 0), true, true, false, " 6:0", "ml-kem-768/none"},
		{"one and then NONE", behind(6, 36, 7, 0), false, true, false, " 6:36 7:0", "ml-kem-768+none"},
		{"two", behind(6, 36, 7, 37), false, false, true, " 6:36 7:37", "ml-kem-768+ml-kem-1024"},
		{"two or one", behind(6, 36, 7, 37, 7, 0), false, true, true, " 6:36 7:0", "ml-kem-768+ml-kem-1024/none"},
		{"the second alone", behind(7, 37), false, false, false, "", "ml-kem-1024"},
		{"the seventh NONE", behind(12, 0), true, false, false, " 12:0", "none"},
		{"the seventh", behind(12, 36), false, false, false, "", "ml-kem-768"},
		{"the other way round", behind(6, 37, 7, 36), false, false, false, "", "ml-kem-1024+ml-kem-768"},
	} {
		if a, b, d := none.fits(c.p), one.fits(c.p), two.fits(c.p); a != c.none || b != c.one || d != c.two {
			t.Errorf("%s: none fits %v, one %v, two %v", c.name, a, b, d)
		}
		for _, x := range []exchanges{none, one, two} {
			if !x.fits(c.p) {
				continue
			}
			var p Alternative
			Suite{Additional: x.additional}.answerAdditional(&p, c.p)
			text := ""
			for _, tr := range p.Transforms {
				text += fmt.Sprintf(" %d:%d", tr.Type, tr.ID)
			}
			if text != c.answer {
				t.Errorf("%s: answered %q, want %q", c.name, text, c.answer)
			}
			break
		}
		if got := strings.Join(offeredAdditional(c.p), ", "); got != c.offered {
			t.Errorf("%s: offered %q, want %q", c.name, got, c.offered)
		}
	}
	many := behind()
	for i := range maxNames + 5 {
		many.Transforms = append(many.Transforms, Transform{Type: suite.TypeAddKE1, ID: 1000 + uint16(i)})
	}
	if text := strings.Join(offeredAdditional(many), ", "); strings.Count(text, "#") != maxNames || !strings.HasSuffix(text, "/…") {
		t.Errorf("%s", text)
	}
	if got := offeredAdditional(behind(6, 31, 7, 36)); !slices.Equal(got, []string{"x25519+ml-kem-768"}) {
		t.Errorf("a group after the first: %q", got)
	}
}

// Both sides' additional key exchanges are shown, and none where only one side has any.
func TestAdditionalIsShown(t *testing.T) {
	with := InitOffer(profileOf("x25519+ml-kem-768 ecp256+ml-kem-768 x25519"), true)
	without := InitOffer(profileOf("x25519"), true)
	const ours = "additional key exchanges: ml-kem-768, none"
	if got := with.Ours(); !slices.Contains(got, ours) {
		t.Errorf("%q", got)
	}
	if got := without.Ours(); slices.ContainsFunc(got, isAdditionalLine) {
		t.Errorf("%q", got)
	}
	other := InitOffer(profileOf("x25519+ml-kem-1024"), true).Alternatives()
	for _, c := range []struct {
		offer Offer
		ours  string
	}{{with, ours}, {without, "additional key exchanges: none"}} {
		m := c.offer.Explain(other, holder)
		if !slices.Contains(m.Ours, c.ours) || !slices.Contains(m.Theirs, "additional key exchanges: ml-kem-1024") {
			t.Errorf("%+v", m)
		}
	}
	if m := without.Explain(without.Alternatives(), holder); slices.ContainsFunc(append(m.Ours, m.Theirs...), isAdditionalLine) {
		t.Errorf("%+v", m)
	}
}

// What was chosen can be written down again, and is chosen from that.
func TestChosen(t *testing.T) {
	for _, text := range []string{"x25519", "ecp256+ml-kem-768", "modp2048+ml-kem-768+ml-kem-1024"} {
		p := profileOf(text)
		for _, aead := range []bool{false, true} {
			if aead {
				p.Encrs, p.Integs = []*suite.Encr{suite.EncrByIKEName("aes-128-gcm")}, nil
			}
			o := InitOffer(p, true)
			s, _, ok := o.Select(o.Alternatives())
			if !ok || (s.Integ == nil) != aead {
				t.Fatalf("%s: %+v, %v", text, s, ok)
			}
			if again, ok := o.Accepts([]Alternative{s.Chosen()}); !ok || !reflect.DeepEqual(again, s) {
				t.Errorf("%s: %+v, %v, want %+v", text, again, ok, s)
			}
		}
	}
}

// Where NONE is among what is allowed, a proposal without a key exchange is taken in its place, and a
// group before it or behind it in its own.
func TestNoKeyExchange(t *testing.T) {
	none := suite.KeyExchange{}
	p := Policy{Protocol: ProtoESP, Proposal: Proposal{Encrs: []*suite.Encr{suite.EncrByName("aes-128-gcm")}, ESN: []bool{false}}}
	offer := func(list ...suite.KeyExchange) Offer {
		p.Proposal.PFS = list
		return ChildOffer(&p, true)
	}
	peer := func(groups ...uint16) []Alternative {
		a := Alternative{Number: 1, Protocol: ProtoESP, Transforms: []Transform{{Type: suite.TypeEncr, ID: 20, KeyBits: 128}, {Type: suite.TypeESN}}}
		for _, g := range groups {
			a.Transforms = append(a.Transforms, Transform{Type: suite.TypeDH, ID: g})
		}
		return []Alternative{a}
	}
	x, e := exchangesOf("x25519")[0], exchangesOf("ecp256")[0]
	for _, c := range []struct {
		name  string
		ours  Offer
		peer  []Alternative
		group string // "none", or "" where nothing fits
	}{
		{"a group and no NONE", offer(x), peer(), ""}, {"a group and no NONE, to NONE", offer(x), peer(0), ""},
		{"a group or NONE, to nothing", offer(x, none), peer(), "none"}, {"a group or NONE, to NONE", offer(x, none), peer(0), "none"},
		{"a group or NONE, to the group", offer(x, none), peer(31), "x25519"}, {"a group or NONE, to either", offer(x, none), peer(31, 0), "x25519"},
		{"NONE or a group, to either", offer(none, x), peer(31, 0), "none"}, {"NONE or a group, to the group", offer(none, x), peer(31), "x25519"},
		{"NONE or a group, to another group", offer(none, x), peer(19), ""}, {"NONE between groups, to the second", offer(x, none, e), peer(19), "ecp256"},
		{"NONE between groups, to the second or NONE", offer(x, none, e), peer(19, 0), "none"},
	} {
		s, answer, ok := c.ours.Select(c.peer)
		got := ""
		if ok {
			got = "none"
			if s.Group != nil {
				got = s.Group.Name
			}
			if hasAny(&answer, suite.TypeDH) != (s.Group != nil) && !has(&answer, suite.TypeDH, 0, 0) {
				t.Errorf("%s: the answer is %+v", c.name, answer)
			}
		}
		if got != c.group {
			t.Errorf("%s: %q, want %q", c.name, got, c.group)
		}
	}
	// What keeps them apart is not the group where NONE would have done.
	odd := peer()
	odd[0].Transforms = append(odd[0].Transforms, Transform{Type: 13, ID: 1})
	if m := offer(x, none).Explain(odd, holder); m.Part != "transform" {
		t.Errorf("%+v", m)
	}
	if m := offer(x).Explain(peer(), holder); m.Part != "group" {
		t.Errorf("%+v", m)
	}
}

// What would let a peer through is one of its groups that is not weak, and what does not differ is not named.
func TestHintsForGroupsAndNumbers(t *testing.T) {
	ours := offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("x25519"))
	if m := ours.Explain(offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("modp1024 modp2048")).Alternatives(), holder); !strings.Contains(m.Hint, "add modp2048 to dh-group") {
		t.Error(m.Hint)
	}
	ours.Groups = nil // of an IKE SA there are always groups to add to
	if m := ours.Explain(offerOf(ProtoIKE, words("aes-128"), words("sha256"), words("modp2048")).Alternatives(), holder); !strings.Contains(m.Hint, "add modp2048 to dh-group of") {
		t.Error(m.Hint)
	}
	esp := offerOf(ProtoESP, words("aes-128-gcm"), nil, nil)
	esp.ESN = []bool{true}
	peer := []Alternative{{Number: 1, Protocol: ProtoESP, Transforms: []Transform{{Type: suite.TypeEncr, ID: 20, KeyBits: 128}, {Type: suite.TypeESN, ID: 1}, {Type: 13, ID: 1}}}}
	if m := esp.Explain(peer, holder); m.Part != "transform" {
		t.Errorf("%+v", m)
	}
	if got := (&Config{}).Place(esp, "x"); got != "" {
		t.Errorf("%q", got)
	}
	if got := (&Config{Where: func(_ any, key string) string { return "x.toml:" + key }}).Place(esp, "k"); got != "x.toml:k" {
		t.Errorf("%q", got)
	}
}
