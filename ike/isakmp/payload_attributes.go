package isakmp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

// The kinds of an attributes payload (draft-dukes-ike-mode-cfg-02 §3.2).
const (
	CfgRequest uint8 = 1
	CfgReply   uint8 = 2
	CfgSet     uint8 = 3
	CfgAck     uint8 = 4
)

// The attributes of XAuth (draft-beaulieu-ike-xauth-02 §6).
const (
	XAuthType      uint16 = 16520 // XAuthGeneric and so on; absent means generic
	XAuthUserName  uint16 = 16521
	XAuthPassword  uint16 = 16522
	XAuthPasscode  uint16 = 16523
	XAuthMessage   uint16 = 16524
	XAuthChallenge uint16 = 16525
	XAuthDomain    uint16 = 16526
	XAuthStatus    uint16 = 16527 // 0 failed, 1 succeeded
	XAuthNextPIN   uint16 = 16528
	XAuthAnswer    uint16 = 16529
)

// The values of XAuthType.
const (
	XAuthGeneric    uint16 = 0
	XAuthRADIUSCHAP uint16 = 1
	XAuthOTP        uint16 = 2
	XAuthSKey       uint16 = 3
)

// The attributes of Cisco Unity.
const (
	UnityBanner        uint16 = 28672 // text for the user
	UnitySavePassword  uint16 = 28673 // 1: the client may store the password
	UnityDefaultDomain uint16 = 28674
	UnitySplitDNS      uint16 = 28675 // domains, with commas or NULs between them
	UnitySplitInclude  uint16 = 28676 // ParseNets: what goes through the tunnel
	UnityNATTPort      uint16 = 28677
	UnityLocalLAN      uint16 = 28678 // ParseNets: what does not
	UnityPFS           uint16 = 28679 // group of phase 2
	UnityFirewall      uint16 = 28680
	UnityBackupServers uint16 = 28681 // addresses or names, with commas between them
	UnityDDNSHostname  uint16 = 28682
)

// Attributes is the Attributes payload of mode config and XAuth
// (draft-dukes-ike-mode-cfg-02 §3.2). An attribute that asks has no value.
//
//	+---------------+---------------+-------------------------------+
//	|     Type      |   RESERVED    |           Identifier          |
//	+---------------+---------------+-------------------------------+
//	~                           Attributes                          ~
//	+---------------------------------------------------------------+
type Attributes struct {
	CfgType uint8
	ID      uint16 // of a request, which its reply repeats
	List    []Attribute
}

func (p *Attributes) Type() PayloadType { return TypeAttributes }

func (p *Attributes) AppendBody(b []byte) []byte {
	b = append(b, p.CfgType, 0)
	b = binary.BigEndian.AppendUint16(b, p.ID)
	return appendAttributes(b, p.List)
}

// Find is the first attribute of a type.
func (p *Attributes) Find(t uint16) (a Attribute, ok bool) {
	for _, a := range p.List {
		if a.Type == t {
			return a, true
		}
	}
	return a, false
}

func parseAttributesPayload(_ PayloadType, s cryptobyte.String, odd *Odd) (Payload, string) {
	p := &Attributes{}
	var reserved uint8
	if !s.ReadUint8(&p.CfgType) || !s.ReadUint8(&reserved) || !s.ReadUint16(&p.ID) {
		return nil, short
	}
	odd.zero(reserved)
	if n := padding(s); n > 0 && len(s)%4 == 0 {
		s, odd.Padded = s[:len(s)-n], true
	}
	var reason string
	if p.List, reason = parseAttributes(s); reason != "" {
		return nil, reason
	}
	return p, ""
}

// padding is how many zeros stand behind the last attribute, fewer than an attribute has bytes.
func padding(s cryptobyte.String) int {
	for len(s) >= attributeHead {
		length := uint16(s[2])<<8 | uint16(s[3])
		if s[0]&(attrBasic>>8) != 0 {
			length = 0
		}
		if !s.Skip(attributeHead) || !s.Skip(int(length)) {
			return 0
		}
	}
	if bytes.Count(s, []byte{0}) < len(s) {
		return 0
	}
	return len(s)
}

// attributeHead is what an attribute has at least: type, and length or value.
const attributeHead = 4

// ParseNets reads the networks of UnitySplitInclude and UnityLocalLAN: address, mask and
// six bytes of padding each, which some peers leave out behind the last one. At most 1024.
func ParseNets(b []byte) ([]netip.Prefix, error) {
	var all []netip.Prefix
	s := cryptobyte.String(b)
	for !s.Empty() {
		if len(all) == maxNets {
			return nil, fmt.Errorf("more than %d networks in an attribute of mode config", maxNets)
		}
		var a, m []byte
		if !s.ReadBytes(&a, 4) || !s.ReadBytes(&m, 4) || !s.Empty() && !s.Skip(netPad) {
			return nil, fmt.Errorf("networks in an attribute of mode config: %d bytes are no whole number of them", len(b))
		}
		addr, _ := netip.AddrFromSlice(a)
		p, ok := maskedPrefix(addr, m)
		if !ok {
			return nil, fmt.Errorf("networks in an attribute of mode config: the mask %d.%d.%d.%d has holes", m[0], m[1], m[2], m[3])
		}
		all = append(all, p)
	}
	return all, nil
}

// netPad is the padding behind a network, which Cisco's clients demand.
const netPad = 6

// AppendNets writes networks as ParseNets reads them. Those of IPv6 have no form and are left out.
func AppendNets(b []byte, nets []netip.Prefix) []byte {
	for _, p := range nets {
		if !p.Addr().Is4() {
			continue
		}
		b = append(b, p.Masked().Addr().AsSlice()...)
		b = append(b, mask(32, p.Bits())...)
		b = append(b, make([]byte, netPad)...)
	}
	return b
}
