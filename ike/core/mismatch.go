package core

import (
	"fmt"
	"slices"
	"strings"

	"culvert/crypto/suite"
)

// Mismatch is why two sides did not come together: what each of them offered,
// where they part, and what would let the peer through. Names are the manual's.
// It is never changed after it was made.
type Mismatch struct {
	What   string   // "IKE proposal", "ESP proposal", "traffic selectors", "identity" or "secret"
	Ours   []string // one line for each thing that we allow
	Theirs []string // the same of the peer; empty where it did not say
	Part   string   // the first thing that they have nothing in common in: "encryption", "src-address"; empty: not known
	Hint   string   // what to do
	Where  string   // FILE:LINE of what would be changed; empty: not known
}

// maxLines and maxNames bound what of a peer's offer is shown.
const (
	maxLines = 16
	maxNames = 24
)

// Lines bounds a list for people.
func Lines(all []string) []string {
	var l lines
	for _, line := range all {
		l.add(func() string { return line })
	}
	return l.bounded()
}

// lines is a list for people, of which only as many lines are written as are shown.
type lines struct {
	shown []string
	more  int
}

func (l *lines) add(line func() string) {
	if len(l.shown) < maxLines {
		l.shown = append(l.shown, line())
	} else {
		l.more++
	}
}

func (l *lines) bounded() []string {
	if l.more == 0 {
		return l.shown
	}
	return append(slices.Clone(l.shown), fmt.Sprintf("and %d more", l.more))
}

// part is one thing that a proposal is made of.
type part struct {
	name       string
	t          suite.TransformType
	ike, child string // the property of a profile and of a proposal that allows it
	single     bool   // of a proposal: the property has one value
}

// parts are in the order in which they are compared.
var parts = []part{
	{"encryption", suite.TypeEncr, "enc-algorithm", "enc-algorithms", false},
	{"prf", suite.TypePRF, "prf-algorithm", "", false},
	{"integrity", suite.TypeInteg, "hash-algorithm", "auth-algorithms", false},
	{"group", suite.TypeDH, "dh-group", "pfs-group", false},
	{"esn", suite.TypeESN, "", "esn", true},
}

// Holder is the entry of the configuration that an offer was made from.
type Holder struct {
	Name  string                  // `profile "site2"`
	Where func(key string) string // FILE:LINE of one of its properties
}

// Ours lists what an offer allows.
func (o Offer) Ours() []string {
	var lines []string
	for _, p := range parts {
		if names := o.allowed(p.t); len(names) > 0 {
			lines = append(lines, p.name+": "+strings.Join(names, ", "))
		}
		if p.t == suite.TypeDH && slices.ContainsFunc(o.sets, func(x exchanges) bool { return len(x.additional) > 0 }) {
			lines = append(lines, additionalLine+strings.Join(o.additionalNames(), ", "))
		}
	}
	return lines
}

// additionalLine begins the line of the key exchanges after the first (RFC 9370).
const additionalLine = "additional key exchanges: "

func isAdditionalLine(s string) bool { return strings.HasPrefix(s, additionalLine) }

// Unchosen is what is known where the peer refused an offer of ours without
// saying what it would have allowed.
func (o Offer) Unchosen(h Holder) *Mismatch {
	m := &Mismatch{What: o.name(), Ours: o.Ours(), Where: h.Where("")}
	m.Hint = fmt.Sprintf("the peer chose none of what we offer and does not say what it allows: its log does; one of each line has to be in %s%s", h.Name, At(m.Where))
	return m
}

// Explain says why Select found nothing in what the peer proposed. Where there
// are several proposals, it is the one that comes furthest that is explained.
func (o Offer) Explain(peer []Alternative, h Holder) *Mismatch {
	m := &Mismatch{What: o.name(), Ours: o.Ours()}
	best, furthest := (*Alternative)(nil), -1
	var theirs lines
	for i := range peer {
		p := &peer[i]
		prefix := ""
		if len(peer) > 1 {
			prefix = fmt.Sprintf("proposal %d, ", p.Number)
		}
		if !o.sameProtocols(p) {
			theirs.add(func() string { return prefix + "protocol: " + protocolName(p.Protocol, len(p.AH) > 0) })
		}
		for _, part := range parts {
			if hasAny(p, part.t) {
				theirs.add(func() string { return prefix + part.name + ": " + strings.Join(offered(p, part.t, o.Protocol), ", ") })
			}
			if part.t == suite.TypeInteg && len(p.AH) > 0 {
				around := Alternative{Transforms: p.AH}
				theirs.add(func() string {
					return prefix + "integrity of AH: " + strings.Join(offered(&around, part.t, ProtoAH), ", ")
				})
			}
			if part.t == suite.TypeDH && hasAdditional(p) {
				theirs.add(func() string { return prefix + additionalLine + strings.Join(offeredAdditional(p), ", ") })
			}
		}
		if n := o.agrees(p); n > furthest {
			best, furthest = p, n
		}
	}
	m.Theirs = theirs.bounded()
	if slices.ContainsFunc(peer, func(p Alternative) bool { return hasAdditional(&p) }) && !slices.ContainsFunc(m.Ours, isAdditionalLine) {
		m.Ours = append(m.Ours, additionalLine+list(o.additionalNames()))
	}
	switch {
	case best == nil:
		m.Hint = "the peer proposed nothing: see its log for why"
	case furthest == 0:
		m.Part = "protocol"
		m.Hint = fmt.Sprintf("protocol: we allow %s, the peer offers %s: have the peer use %[1]s", o.protocols(), protocolName(best.Protocol, len(best.AH) > 0))
	case furthest > len(parts) && o.additionalDiffers(best):
		key := "dh-group"
		if o.Protocol != ProtoIKE {
			key = "pfs-group"
		}
		m.Part, m.Where = "additional key exchanges", h.Where(key)
		m.Hint = fmt.Sprintf("additional key exchanges: we allow %s, the peer offers %s: write the same %s on both sides, such as x25519+ml-kem-768, or beside it the group alone where that is enough%s",
			list(o.additionalNames()), list(offeredAdditional(best)), key, At(m.Where))
	case furthest > len(parts):
		m.Part = "transform"
		m.Hint = "the peer's proposal has a transform of a kind that does not exist here: have it leave that out"
	default:
		o.hint(m, o.blamed(best, parts[furthest-1].t), parts[furthest-1], h)
	}
	return m
}

// integFits reports whether a proposal has a cipher of ours, and an integrity algorithm that goes with it.
func (o Offer) integFits(p *Alternative) bool {
	return slices.ContainsFunc(o.Encrs, func(e *suite.Encr) bool {
		_, ok := o.integ(p, e)
		return ok && encrOf(p, e) != nil
	})
}

// blamed is p with the transforms of the protocol that does not fit at a part: of AH with ESP those of AH, if ESP fits.
func (o Offer) blamed(p *Alternative, t suite.TransformType) *Alternative {
	if t != suite.TypeInteg || len(o.AH) == 0 || !o.integFits(p) {
		return p
	}
	around := *p
	around.Transforms = p.AH
	return &around
}

// agrees is how many comparisons a proposal passes: the protocol, then parts.
func (o Offer) agrees(p *Alternative) int {
	if !o.sameProtocols(p) {
		return 0
	}
	passed := []bool{
		slices.ContainsFunc(o.Encrs, func(e *suite.Encr) bool { return encrOf(p, e) != nil }),
		o.Protocol != ProtoIKE || slices.ContainsFunc(o.PRFs, func(f *suite.PRF) bool { return has(p, suite.TypePRF, f.ID, 0) }),
		o.integFits(p) && (len(o.AH) == 0 || firstInteg(o.AH, p.AH) != nil),
		(len(o.Groups) == 0 || o.mayLackGroup()) && (!hasAny(p, suite.TypeDH) || has(p, suite.TypeDH, 0, 0)) ||
			slices.ContainsFunc(o.Groups, func(g *suite.Group) bool { return has(p, suite.TypeDH, g.ID, 0) }),
		len(o.ESN) == 0 || slices.ContainsFunc(o.ESN, func(esn bool) bool {
			return has(p, suite.TypeESN, esnID(esn), 0) || !esn && !hasAny(p, suite.TypeESN)
		}),
	}
	if i := slices.Index(passed, false); i >= 0 {
		return i + 1
	}
	return len(parts) + 1
}

// hint says what would have let the proposal through at one of its parts.
func (o Offer) hint(m *Mismatch, p *Alternative, part part, h Holder) {
	m.Part = part.name
	key := part.child
	if o.Protocol == ProtoIKE {
		key = part.ike
		if part.t == suite.TypePRF && o.prfFollowsHash() {
			key = "hash-algorithm"
		}
	}
	m.Where = h.Where(key)
	ours, theirs := o.allowed(part.t), offered(p, part.t, o.Protocol)
	if part.t == suite.TypeESN && len(theirs) == 0 {
		theirs = []string{esnNames[0]} // said by nothing (RFC 7296 §3.3.2)
	}
	m.Hint = fmt.Sprintf("%s: we allow %s, the peer offers %s: ", part.name, list(ours), list(theirs))
	name := o.candidate(p, part.t)
	if part.t == suite.TypeDH && o.Protocol != ProtoIKE && len(theirs) == 0 {
		name = "none"
	}
	if part.t == suite.TypeESN && name == "" {
		name = theirs[0]
	}
	switch {
	case name == "":
		m.Hint += fmt.Sprintf("%s%s cannot be given any of that: have the peer offer one of ours", h.Name, At(m.Where))
	case o.Protocol != ProtoIKE && (part.single || part.t == suite.TypeDH && len(ours) == 0):
		m.Hint += fmt.Sprintf("set %s of %s to %s%s", key, h.Name, name, At(m.Where))
	default:
		m.Hint += fmt.Sprintf("add %s to %s of %s%s", name, key, h.Name, At(m.Where))
	}
}

// mayLackGroup reports whether the offer has groups, and NONE beside them.
func (o Offer) mayLackGroup() bool {
	return slices.ContainsFunc(o.sets, func(x exchanges) bool { return x.none })
}

// prfFollowsHash: without a prf-algorithm of its own a profile takes the hashes.
func (o Offer) prfFollowsHash() bool {
	return len(o.Integs) == 0 || slices.EqualFunc(o.PRFs, o.Integs, func(f *suite.PRF, a *suite.Integ) bool { return f.Name == a.Name })
}

// weak reports whether a transform is one to recommend to nobody who has a choice.
func weak(x Transform) bool {
	switch x.Type {
	case suite.TypeEncr:
		e := suite.EncrByID(x.ID, x.KeyBits)
		return e != nil && e.Weak
	case suite.TypePRF:
		f := suite.PRFByID(x.ID)
		return f != nil && f.Weak
	case suite.TypeInteg:
		a := suite.IntegByID(x.ID)
		return a != nil && a.Weak
	case suite.TypeDH:
		g := suite.GroupByID(x.ID)
		return g != nil && g.Weak
	}
	return false
}

// candidate is the first of the peer's transforms that exists here, one that is
// not weak before one that is.
func (o Offer) candidate(p *Alternative, t suite.TransformType) (name string) {
	for _, x := range p.Transforms {
		if x.Type != t || x.Unknown {
			continue
		}
		n := o.known(x)
		if n != "" && !weak(x) {
			return n
		}
		if name == "" {
			name = n
		}
	}
	return name
}

// known is the name under which the configuration can allow a transform.
func (o Offer) known(x Transform) string {
	switch x.Type {
	case suite.TypeEncr:
		e := suite.EncrByID(x.ID, x.KeyBits)
		switch {
		case e == nil:
		case o.Protocol == ProtoIKE:
			return e.IKEName
		default:
			return e.Name
		}
	case suite.TypePRF:
		if f := suite.PRFByID(x.ID); f != nil {
			return f.Name
		}
	case suite.TypeInteg:
		if a := suite.IntegByID(x.ID); a != nil {
			return a.Name
		}
	case suite.TypeDH:
		if g := suite.GroupByID(x.ID); g != nil {
			return g.Name
		}
	case suite.TypeESN:
		if x.ID <= 1 {
			return esnNames[x.ID]
		}
	default:
		if k := suite.KEMByID(x.ID); k != nil {
			return k.Name
		}
		if g := suite.GroupByID(x.ID); g != nil {
			return g.Name
		}
	}
	return ""
}

var esnNames = [2]string{"no", "yes"}

// allowed names the transforms of one type that we allow.
func (o Offer) allowed(t suite.TransformType) (names []string) {
	switch t {
	case suite.TypeEncr:
		for _, e := range o.Encrs {
			name := e.Name
			if o.Protocol == ProtoIKE && e.IKEName != "" {
				name = e.IKEName
			}
			names = append(names, name)
		}
	case suite.TypePRF:
		for _, f := range o.PRFs {
			names = append(names, f.Name)
		}
	case suite.TypeInteg:
		for _, a := range o.Integs {
			names = append(names, a.Name)
		}
	case suite.TypeDH:
		for _, g := range o.Groups {
			names = append(names, g.Name)
		}
		if o.mayLackGroup() {
			names = append(names, "none")
		}
	case suite.TypeESN:
		for _, esn := range o.ESN {
			names = append(names, esnNames[esnID(esn)])
		}
	}
	return names
}

// offered names the transforms of one type in a peer's proposal; those that do
// not exist here by their number.
func offered(p *Alternative, t suite.TransformType, proto Protocol) (names []string) {
	o := Offer{Protocol: proto}
	for _, x := range p.Transforms {
		if x.Type != t {
			continue
		}
		name := o.known(x)
		if (t == suite.TypeDH || t >= suite.TypeAddKE1) && x.ID == 0 {
			name = "none"
		}
		if name == "" || x.Unknown {
			name = fmt.Sprintf("#%d", x.ID)
			if x.KeyBits > 0 {
				name += fmt.Sprintf("/%d", x.KeyBits)
			}
		}
		if slices.Contains(names, name) {
			continue
		}
		if len(names) == maxNames {
			return append(names, "…")
		}
		names = append(names, name)
	}
	return names
}

func (o Offer) name() string { return o.protocols() + " proposal" }

func (o Offer) protocols() string { return protocolName(o.Protocol, len(o.AH) > 0) }

func protocolName(p Protocol, ah bool) string {
	if ah {
		return "AH with ESP"
	}
	switch p {
	case ProtoIKE:
		return "IKE"
	case ProtoAH:
		return "AH"
	case ProtoESP:
		return "ESP"
	}
	return fmt.Sprintf("protocol %d", p)
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// At is " (FILE:LINE)", or nothing where that is not known.
func At(where string) string {
	if where == "" {
		return ""
	}
	return " (" + where + ")"
}

// OnlyGroup is the proposal of a peer of which nothing is known but that our
// offer fits it in all but the group.
func (o Offer) OnlyGroup(id uint16) Alternative {
	ps := o.Alternatives()
	if len(ps) == 0 {
		return Alternative{Number: 1, Protocol: o.Protocol}
	}
	one := ps[0]
	one.Transforms = slices.DeleteFunc(one.Transforms, func(t Transform) bool { return t.Type == suite.TypeDH })
	one.Transforms = append(one.Transforms, Transform{Type: suite.TypeDH, ID: id})
	return one
}
