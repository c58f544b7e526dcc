package core

import (
	"slices"
	"strings"

	"culvert/crypto/kem"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// Additional key exchanges (RFC 9370): transforms of types 6 to 12 of a proposal
// name what is run after the Diffie-Hellman, one type each, in order.

// exchanges are the key exchanges of an offer: its groups with the same
// additional ones stand together, because only they can share a proposal.
type exchanges struct {
	groups     []*suite.Group
	additional []*suite.KEM
	none       bool // no key exchange at all; the others are empty
}

// sets groups what an offer allows; with is whether additional key exchanges can be among it.
// What stands behind NONE stays behind it.
func sets(all []suite.KeyExchange, with bool) (out []exchanges) {
	for _, x := range all {
		if x.Group == nil {
			out = append(out, exchanges{none: true})
			continue
		}
		if len(x.Additional) > 0 && !with {
			continue
		}
		before := 1 + slices.IndexFunc(out, func(s exchanges) bool { return s.none })
		i := slices.IndexFunc(out[before:], func(s exchanges) bool { return slices.Equal(s.additional, x.Additional) })
		if i >= 0 {
			i += before
		}
		if i < 0 {
			i = len(out)
			out = append(out, exchanges{additional: x.Additional})
		}
		out[i].groups = append(out[i].groups, x.Group)
	}
	return out
}

// exchanges are the sets of an offer, at least one.
func (o Offer) exchanges() []exchanges {
	if len(o.sets) > 0 {
		return o.sets
	}
	return []exchanges{{groups: o.Groups}}
}

// Additional reports whether a profile wants key exchanges after the first.
func (p *Profile) Additional() bool {
	return slices.ContainsFunc(p.KeyExchanges, func(x suite.KeyExchange) bool { return len(x.Additional) > 0 })
}

// InitOffer is the offer of a profile for IKE_SA_INIT; with is whether both ends
// can do IKE_INTERMEDIATE.
func InitOffer(p *Profile, with bool) Offer {
	o := IKEOffer(p)
	if p.Additional() {
		o.sets = sets(p.KeyExchanges, with)
		if len(o.sets) == 0 {
			o.sets = []exchanges{{groups: []*suite.Group{}, additional: p.KeyExchanges[0].Additional}}
		}
	}
	return o
}

// addTransforms writes the additional key exchanges.
func (x exchanges) addTransforms(p *Alternative) {
	for i, k := range x.additional {
		p.Transforms = append(p.Transforms, Transform{Type: suite.TypeAddKE1 + suite.TransformType(i), ID: k.ID})
	}
}

// fits reports whether a proposal has exactly these additional key exchanges, or
// none where it offers NONE.
func (x exchanges) fits(p *Alternative) bool {
	for t := suite.TypeAddKE1; t <= suite.TypeAddKE7; t++ {
		i := int(t - suite.TypeAddKE1)
		if i < len(x.additional) {
			if !has(p, t, x.additional[i].ID, 0) {
				return false
			}
		} else if hasAny(p, t) && !has(p, t, 0, 0) {
			return false
		}
	}
	return true
}

// answerAdditional names in the answer what was chosen, NONE too where the peer
// offered it.
func (s Suite) answerAdditional(p, peer *Alternative) {
	for t := suite.TypeAddKE1; t <= suite.TypeAddKE7; t++ {
		i := int(t - suite.TypeAddKE1)
		switch {
		case i < len(s.Additional):
			p.Transforms = append(p.Transforms, Transform{Type: t, ID: s.Additional[i].ID})
		case hasAny(peer, t):
			p.Transforms = append(p.Transforms, Transform{Type: t})
		}
	}
}

// Chosen is the suite of an IKE SA as a proposal that has nothing else.
func (s Suite) Chosen() Alternative {
	groups := []*suite.Group{s.Group}
	o := Offer{Protocol: ProtoIKE, Encrs: []*suite.Encr{s.Encr}, PRFs: []*suite.PRF{s.PRF}, Groups: groups,
		sets: []exchanges{{groups: groups, additional: s.Additional}}}
	if s.Integ != nil {
		o.Integs = []*suite.Integ{s.Integ}
	}
	return o.Alternatives()[0]
}

// Encapsulate makes a ciphertext for the peer's encapsulation key, and behind it
// the shared secret. It draws its own randomness.
type Encapsulate struct {
	KEM    *suite.KEM
	Public []byte
}

func (w Encapsulate) Do() (secret.Bytes, error) {
	c, shared, err := kem.Encapsulate(w.KEM, w.Public)
	if err != nil {
		return nil, err
	}
	defer shared.Wipe()
	return append(secret.Bytes(c), shared...), nil
}

// additionalDiffers reports whether the additional key exchanges alone keep a
// proposal from being accepted.
func (o Offer) additionalDiffers(p *Alternative) bool {
	return !slices.ContainsFunc(p.Transforms, strange) && !slices.ContainsFunc(o.exchanges(), func(x exchanges) bool { return !x.none && x.fits(p) })
}

// additionalNames is what an offer allows after the groups, each once: "none", "ml-kem-768+ml-kem-1024".
func (o Offer) additionalNames() (names []string) {
	for _, x := range o.exchanges() {
		if x.none {
			continue
		}
		var parts []string
		for _, k := range x.additional {
			parts = append(parts, k.Name)
		}
		if len(parts) == 0 {
			parts = []string{"none"}
		}
		if name := strings.Join(parts, "+"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// hasAdditional reports whether a proposal has key exchanges after the first.
func hasAdditional(p *Alternative) bool {
	return slices.ContainsFunc(p.Transforms, func(t Transform) bool { return t.Type >= suite.TypeAddKE1 && t.Type <= suite.TypeAddKE7 })
}

// offeredAdditional is what a proposal has after the groups, as additionalNames has it: of one type the methods that would
// do with a slash between them, and NONE as "none".
func offeredAdditional(p *Alternative) []string {
	var parts []string
	for t := suite.TypeAddKE1; t <= suite.TypeAddKE7; t++ {
		if names := offered(p, t, p.Protocol); len(names) > 0 {
			parts = append(parts, strings.Join(names, "/"))
		}
	}
	if len(parts) == 0 {
		return []string{"none"}
	}
	return []string{strings.Join(parts, "+")}
}
