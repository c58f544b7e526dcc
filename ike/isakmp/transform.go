package isakmp

// The attributes of a transform of phase 1 (RFC 2409 Appendix A).
const (
	p1Encryption   uint16 = 1
	p1Hash         uint16 = 2
	p1Auth         uint16 = 3
	p1Group        uint16 = 4
	p1LifeType     uint16 = 11
	p1LifeDuration uint16 = 12
	p1KeyLength    uint16 = 14
)

// The attributes of a transform of phase 2 (RFC 2407 §4.5).
const (
	p2LifeType      uint16 = 1
	p2LifeDuration  uint16 = 2
	p2Group         uint16 = 3
	p2Encapsulation uint16 = 4
	p2Auth          uint16 = 5
	p2KeyLength     uint16 = 6
	p2ESN           uint16 = 11 // RFC 4304 §2
)

// KeyIKE is the transform ID of phase 1 (RFC 2407 §4.4.2).
const KeyIKE uint8 = 1

// The authentication methods of phase 1 (RFC 2409 Appendix A), with those of XAuth
// (draft-beaulieu-ike-xauth-02 §7.2) and hybrid (draft-zegman-ike-hybrid-auth-01 §3.2.1). The
// names of the latter say which end is authenticated by XAuth.
const (
	AuthPreShared          uint16 = 1
	AuthDSSSignatures      uint16 = 2
	AuthRSASignatures      uint16 = 3
	AuthRSAEncryption      uint16 = 4
	AuthRSARevised         uint16 = 5
	AuthECDSA256           uint16 = 9  // RFC 4754
	AuthECDSA384           uint16 = 10 // RFC 4754
	AuthECDSA521           uint16 = 11 // RFC 4754
	AuthHybridInitRSA      uint16 = 64221
	AuthHybridRespRSA      uint16 = 64222
	AuthHybridInitDSS      uint16 = 64223
	AuthHybridRespDSS      uint16 = 64224
	AuthXAuthInitPreShared uint16 = 65001
	AuthXAuthRespPreShared uint16 = 65002
	AuthXAuthInitDSS       uint16 = 65003
	AuthXAuthRespDSS       uint16 = 65004
	AuthXAuthInitRSA       uint16 = 65005
	AuthXAuthRespRSA       uint16 = 65006
)

// The encapsulation modes of phase 2 (RFC 2407 §4.5, RFC 3947 §5.1, drafts 00 to 03 of it).
const (
	EncapTunnel            uint16 = 1
	EncapTransport         uint16 = 2
	EncapUDPTunnel         uint16 = 3
	EncapUDPTransport      uint16 = 4
	EncapUDPTunnelDraft    uint16 = 61443
	EncapUDPTransportDraft uint16 = 61444
)

// The life types of both phases.
const (
	lifeSeconds   = 1
	lifeKilobytes = 2
)

// Lifetime is how long an SA lives; zero where nothing is said of it.
type Lifetime struct {
	Seconds   uint64
	Kilobytes uint64 // of 1024 bytes
}

// Phase1 is what the attributes of a transform of phase 1 say. A number that is
// absent is 0.
type Phase1 struct {
	Encryption, Hash, Auth, Group uint16
	KeyBits                       uint16
	Life                          Lifetime
	// Strange: an attribute is not understood, or stands twice with two values, so
	// that the transform must not be chosen. It is read, never sent.
	Strange bool
}

// Phase2 is what the attributes of a transform of phase 2 say. A number that is
// absent is 0.
type Phase2 struct {
	Encapsulation, Auth, Group uint16
	KeyBits                    uint16
	ESN                        uint16 // 1: 64-bit sequence numbers
	Life                       Lifetime
	Strange                    bool // as in Phase1
}

// ReadPhase1 reads the attributes of a transform of phase 1. The numbers that RFC 2409 wants
// basic may be variable too.
func ReadPhase1(as []Attribute) (p Phase1) {
	p.Strange = readAttributes(as, p1LifeType, p1LifeDuration, &p.Life, map[uint16]*uint16{
		p1Encryption: &p.Encryption, p1Hash: &p.Hash, p1Auth: &p.Auth, p1Group: &p.Group, p1KeyLength: &p.KeyBits,
	})
	return p
}

// ReadPhase2 reads the attributes of a transform of phase 2.
func ReadPhase2(as []Attribute) (p Phase2) {
	p.Strange = readAttributes(as, p2LifeType, p2LifeDuration, &p.Life, map[uint16]*uint16{
		p2Encapsulation: &p.Encapsulation, p2Auth: &p.Auth, p2Group: &p.Group, p2KeyLength: &p.KeyBits, p2ESN: &p.ESN,
	})
	return p
}

// ReadResponderLifetime reads the data of a RESPONDER-LIFETIME notification: attributes as
// in phase 2 (RFC 2407 §4.6.3.1). ok is false if they cannot be read.
func ReadResponderLifetime(data []byte) (life Lifetime, ok bool) {
	as, reason := parseAttributes(data)
	if reason != "" {
		return life, false
	}
	return life, !readAttributes(as, p2LifeType, p2LifeDuration, &life, nil)
}

// AppendResponderLifetime writes the data of a RESPONDER-LIFETIME notification.
func AppendResponderLifetime(b []byte, life Lifetime) []byte {
	return appendAttributes(b, life.attributes(p2LifeType, p2LifeDuration))
}

// Attributes are the attributes that say so. In phase 1 other implementations write the
// numbers first and the lifetime last.
func (p Phase1) Attributes() []Attribute {
	as := basics(nil, p1Encryption, p.Encryption, p1KeyLength, p.KeyBits, p1Hash, p.Hash, p1Group, p.Group, p1Auth, p.Auth)
	return append(as, p.Life.attributes(p1LifeType, p1LifeDuration)...)
}

// Attributes are the attributes that say so.
func (p Phase2) Attributes() []Attribute {
	as := p.Life.attributes(p2LifeType, p2LifeDuration)
	return basics(as, p2Group, p.Group, p2Encapsulation, p.Encapsulation, p2Auth, p.Auth, p2KeyLength, p.KeyBits, p2ESN, p.ESN)
}

// basics appends the attributes, type and value in turn, whose value is not 0.
func basics(as []Attribute, tv ...uint16) []Attribute {
	for i := 0; i < len(tv); i += 2 {
		if tv[i+1] != 0 {
			as = append(as, Basic(tv[i], tv[i+1]))
		}
	}
	return as
}

func (l Lifetime) attributes(lifeType, duration uint16) (as []Attribute) {
	if l.Seconds != 0 {
		as = append(as, Basic(lifeType, lifeSeconds), Number(duration, l.Seconds))
	}
	if l.Kilobytes != 0 {
		as = append(as, Basic(lifeType, lifeKilobytes), Number(duration, l.Kilobytes))
	}
	return as
}

// readAttributes puts numbers where they belong. A duration belongs to the life type before it.
func readAttributes(as []Attribute, lifeType, duration uint16, life *Lifetime, numbers map[uint16]*uint16) (strange bool) {
	var unit uint64
	for _, a := range as {
		v, ok := a.Uint()
		switch {
		case !ok:
			strange = true
		case a.Type == lifeType:
			unit = v
		case a.Type == duration && unit == lifeSeconds:
			strange = set(&life.Seconds, v) || strange
			unit = 0
		case a.Type == duration && unit == lifeKilobytes:
			strange = set(&life.Kilobytes, v) || strange
			unit = 0
		case numbers[a.Type] != nil && v <= 0xffff:
			strange = set(numbers[a.Type], uint16(v)) || strange
		default:
			strange = true
		}
	}
	return strange || unit != 0
}

// set reports whether there was another value before.
func set[T uint16 | uint64](at *T, v T) (clash bool) {
	clash = *at != 0 && *at != v
	*at = v
	return clash
}
