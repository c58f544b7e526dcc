package config

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written and printed as the manual does:
// 30m, 1d, 1d2h.
type Duration time.Duration

var durationUnits = []struct {
	letter byte
	length time.Duration
}{
	{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second},
}

// ParseDuration reads whole numbers with w, d, h, m and s, each at most once
// and the longer before the shorter. ok is false for anything else.
func ParseDuration(s string) (d Duration, ok bool) {
	if s == "" {
		return 0, false
	}
	var sum time.Duration
	next := 0
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if n < 1 || n > 9 {
			return 0, false
		}
		count, err := strconv.Atoi(s[:n])
		if err != nil {
			return 0, false
		}
		for next < len(durationUnits) && durationUnits[next].letter != s[n] {
			next++
		}
		if next == len(durationUnits) {
			return 0, false
		}
		unit := durationUnits[next].length
		if time.Duration(count) > (1<<62)/unit || sum+time.Duration(count)*unit < sum {
			return 0, false
		}
		sum += time.Duration(count) * unit
		next++
		s = s[n+1:]
	}
	return Duration(sum), true
}

// String is the shortest form in days, hours, minutes and seconds; parts of a
// second are cut off.
func (d Duration) String() string {
	rest := time.Duration(d)
	if rest < time.Second {
		return "0s"
	}
	var b []byte
	for _, u := range durationUnits[1:] {
		if n := rest / u.length; n > 0 {
			b = append(strconv.AppendInt(b, int64(n), 10), u.letter)
			rest -= n * u.length
		}
	}
	return string(b)
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Port is a port of a policy. The zero value is any port.
type Port struct {
	Number uint16
	Exact  bool // false: any
}

// Range is the port as the inclusive range of a traffic selector.
func (p Port) Range() (lo, hi uint16) {
	if p.Exact {
		return p.Number, p.Number
	}
	return 0, 65535
}

func (p Port) String() string {
	if p.Exact {
		return strconv.Itoa(int(p.Number))
	}
	return "any"
}

// MarshalText is String.
func (p Port) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Protocol is an IP protocol number; 0 is all.
type Protocol uint8

// protocols are the names that the manual's protocol property knows, with
// their IANA numbers. ports: a policy can name ports of it.
var protocols = []struct {
	name   string
	number Protocol
	ports  bool
}{
	{"all", 0, false}, {"icmp", 1, false}, {"igmp", 2, false}, {"ggp", 3, false}, {"ip-encap", 4, false},
	{"st", 5, false}, {"tcp", 6, true}, {"egp", 8, false}, {"pup", 12, false}, {"udp", 17, true},
	{"hmp", 20, false}, {"xns-idp", 22, false}, {"rdp", 27, false}, {"iso-tp4", 29, false},
	{"dccp", 33, true}, {"xtp", 36, false}, {"ddp", 37, false}, {"idpr-cmtp", 38, false}, {"ipv6-encap", 41, false},
	{"rsvp", 46, false}, {"gre", 47, false}, {"ipsec-esp", 50, false}, {"ipsec-ah", 51, false}, {"icmpv6", 58, false},
	{"rspf", 73, false}, {"vmtp", 81, false}, {"ospf", 89, false}, {"ipip", 94, false}, {"etherip", 97, false},
	{"encap", 98, false}, {"pim", 103, false}, {"vrrp", 112, false}, {"l2tp", 115, false},
	{"sctp", 132, true}, {"udp-lite", 136, true},
}

// protocolAliases are other usual spellings.
var protocolAliases = map[string]Protocol{"icmp6": 58, "ipv6-icmp": 58, "esp": 50, "ah": 51, "udplite": 136, "ipv6": 41, "ipencap": 4}

// ParseProtocol reads a name or a number.
func ParseProtocol(s string) (Protocol, bool) {
	for _, p := range protocols {
		if p.name == s {
			return p.number, true
		}
	}
	if p, ok := protocolAliases[s]; ok {
		return p, true
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return Protocol(n), err == nil
}

// HasPorts reports whether a policy for the protocol can name ports.
func (p Protocol) HasPorts() bool {
	for _, row := range protocols {
		if row.number == p {
			return row.ports
		}
	}
	return false
}

func (p Protocol) String() string {
	for _, row := range protocols {
		if row.number == p {
			return row.name
		}
	}
	return strconv.Itoa(int(p))
}

// MarshalText is String.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// IDKind is the part of an ID before the colon.
type IDKind string

// The kinds of an ID.
const (
	IDAuto     IDKind = "auto"
	IDAddress  IDKind = "address"
	IDFQDN     IDKind = "fqdn"
	IDUserFQDN IDKind = "user-fqdn"
	IDKeyID    IDKind = "key-id"
	IDDN       IDKind = "dn"
	IDIgnore   IDKind = "ignore" // of remote-id alone
)

// ID is my-id or remote-id. Comparable.
type ID struct {
	Kind  IDKind
	Value string     // what stands after the colon
	Addr  netip.Addr // of kind address
	DER   string     // of kind dn where a name stands after the colon
	Bytes string     // what Value stands for where it is # and hexadecimal digits
	// Pattern, of remote-id alone: a * in Value stands for what any peer may have in its place.
	Pattern bool
}

// Data is what stands after the colon, as bytes.
func (id ID) Data() string {
	if id.Bytes != "" {
		return id.Bytes
	}
	return id.Value
}

// String is the ID as it is written.
func (id ID) String() string {
	if id.Value == "" {
		return string(id.Kind)
	}
	return string(id.Kind) + ":" + id.Value
}

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
