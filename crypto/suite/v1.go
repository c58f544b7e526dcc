package suite

// EncrV1 has the numbers of an encryption algorithm in IKEv1. A zero number
// means that IKEv1 cannot negotiate the algorithm there.
type EncrV1 struct {
	Phase1 uint16 // Encryption Algorithm attribute of phase 1 (RFC 2409 Appendix A)
	ESP    uint8  // ESP transform ID of phase 2 (RFC 2407 §4.4.4)
}

// IntegV1 has the numbers of an integrity algorithm in phase 2 of IKEv1. AH
// names it twice: the transform ID and the attribute have to agree.
type IntegV1 struct {
	ESP uint16 // Authentication Algorithm attribute, for ESP and AH (RFC 2407 §4.5)
	AH  uint8  // AH transform ID (RFC 2407 §4.4.3)
}

// v1KeyBits is the key length of IKEv1 where a cipher has several and the Key
// Length attribute is absent. RFC 3602 §5.3 and RFC 4312 §3 demand the attribute,
// and some peers leave it out for the shortest key; RFC 2451 §2.4 makes 128 bits the
// default of Blowfish.
const v1KeyBits = 128

// fitsV1 reports whether a Key Length attribute of IKEv1 means this row; 0 is an
// absent attribute. Where the key has one length, the attribute ought to be
// absent (RFC 2409 Appendix A), and is ignored.
func (e *Encr) fitsV1(keyBits uint16) bool {
	if keyBits == 0 {
		keyBits = v1KeyBits
	}
	return e.KeyBits == keyBits || e.KeyBits == 0
}

// EncrByPhase1 finds an encryption algorithm by the attributes of an IKEv1
// phase 1 transform; keyBits is 0 if Key Length is absent. It returns nil if there is none.
func EncrByPhase1(number, keyBits uint16) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.V1.Phase1 == number && number != 0 && e.fitsV1(keyBits) })
}

// EncrByPhase2 finds an encryption algorithm by an IKEv1 ESP transform ID;
// keyBits is 0 if Key Length is absent. It returns nil if there is none.
func EncrByPhase2(transform uint8, keyBits uint16) *Encr {
	return find(Encrs, func(e *Encr) bool { return e.V1.ESP == transform && transform != 0 && e.fitsV1(keyBits) })
}

// IntegByPhase2 finds an integrity algorithm by the Authentication Algorithm
// attribute of IKEv1; nil if there is none.
func IntegByPhase2(number uint16) *Integ {
	return find(Integs, func(a *Integ) bool { return a.V1.ESP == number && number != 0 })
}

// PRFByPhase1 finds a PRF by the Hash Algorithm attribute of IKEv1; nil if there is none.
func PRFByPhase1(number uint16) *PRF {
	return find(PRFs, func(p *PRF) bool { return p.V1 == number && number != 0 })
}

// GroupByPhase1 finds a group by the Group Description attribute of IKEv1,
// which is the same in both phases; nil if there is none.
func GroupByPhase1(number uint16) *Group {
	return find(Groups, func(g *Group) bool { return g.V1 == number && number != 0 })
}
