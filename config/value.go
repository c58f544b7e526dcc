package config

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"culvert/crypto/secret"
)

// value is one value of a file on its way into a struct.
type value struct {
	load       *loader
	file       *source
	path       string // in the line index
	table, key string
	raw        any // as the TOML library decodes it
}

// name is the key as faults tell it.
func (v value) name() string { return strings.TrimPrefix(v.table+"."+v.key, ".") }

// wrong adds a fault at the value's line.
func (v value) wrong(format string, args ...any) {
	v.load.fault(v.file.at(v.path), v.name(), format, args...)
}

func (v value) warn(format string, args ...any) {
	v.load.warn(v.file.at(v.path), v.name(), format, args...)
}

// wrongType says what sort of value stands there, never the value itself.
func (v value) wrongType(accepts string) {
	sort := "a date"
	switch v.raw.(type) {
	case string:
		sort = "a string"
	case int64:
		sort = "a number"
	case float64:
		sort = "a number with a fraction"
	case bool:
		sort = "a boolean"
	case []any, []map[string]any:
		sort = "a list"
	case map[string]any:
		sort = "a table"
	}
	v.wrong("is %s, accepted: %s", sort, accepts)
}

// parser turns a value into a V or adds faults and returns false.
type parser[V any] func(v value) (V, bool)

func text(accepts string) parser[string] {
	return func(v value) (string, bool) {
		s, ok := v.raw.(string)
		if !ok {
			v.wrongType(accepts)
		}
		return s, ok
	}
}

// label is a name or a reference to one.
func label(v value) (string, bool) {
	s, ok := text("a name in quotes")(v)
	if !ok {
		return "", false
	}
	if s == "" || s != strings.TrimSpace(s) || strings.ContainsFunc(s, unicode.IsControl) {
		v.wrong("%q is not a name, accepted: text without line breaks and without spaces at its ends", s)
		return "", false
	}
	return s, true
}

// comment is any text that stays on a line.
func comment(v value) (string, bool) {
	s, ok := text("text in quotes")(v)
	if ok && strings.ContainsFunc(s, unicode.IsControl) {
		v.wrong("has a line break or another control character, accepted: text on one line")
		return "", false
	}
	return s, ok
}

func plainBoolean(v value) (bool, bool) {
	b, ok := v.raw.(bool)
	if ok {
		return b, true
	}
	switch v.raw {
	case "yes", "true", "on":
		v.wrong("is a string, write true without quotes, accepted: true, false")
	case "no", "false", "off":
		v.wrong("is a string, write false without quotes, accepted: true, false")
	default:
		v.wrongType("true, false")
	}
	return false, false
}

// boolean is plainBoolean for keys of which one value may be refused as such.
func boolean(v value) (bool, bool) {
	b, ok := plainBoolean(v)
	if ok && valueNotYet(v.table, v.key, strconv.FormatBool(b)) {
		v.wrong("%t is not supported yet, accepted: %t", b, !b)
		return false, false
	}
	return b, ok
}

func integer[N int | uint16 | uint32 | uint64](low, high int64) parser[N] {
	return func(v value) (N, bool) {
		n, ok := v.raw.(int64)
		if !ok {
			v.wrongType(fmt.Sprintf("a number %d..%d", low, high))
			return 0, false
		}
		if n < low || n > high {
			if valueNotYet(v.table, v.key, strconv.FormatInt(n, 10)) {
				v.wrong("%d is not supported yet, accepted: %d..%d", n, low, high)
			} else {
				v.wrong("%d is out of range, accepted: %d..%d", n, low, high)
			}
			return 0, false
		}
		return N(n), true
	}
}

// replayWindow is a number of packets, or 0 for none.
func replayWindow(v value) (int, bool) {
	const accepts = "32..4096, or 0 for no check"
	n, ok := v.raw.(int64)
	switch {
	case !ok:
		v.wrongType("a number " + accepts)
	case n != 0 && (n < 32 || n > 4096):
		v.wrong("%d is out of range, accepted: %s", n, accepts)
	default:
		return int(n), true
	}
	return 0, false
}

// oneOf is one of the manual's values, less those that this build refuses.
func oneOf[S ~string](names ...string) parser[S] {
	return func(v value) (S, bool) {
		able := without(names, v.table, v.key)
		s, ok := v.raw.(string)
		if !ok {
			v.wrongType("one of " + accepted(able))
			return "", false
		}
		if slices.Contains(able, s) {
			return S(s), true
		}
		if valueNotYet(v.table, v.key, s) || valueNotYet(v.table, v.key, anyOther) {
			v.wrong("%q is not supported yet, accepted: %s", s, accepted(able))
		} else if several := strings.Split(s, ","); len(several) > 1 {
			v.wrong("%q is several in one string, write [\"%s\"] if the key takes a list, accepted: %s", s, strings.Join(trimmed(several), `", "`), accepted(able))
		} else {
			v.wrong("%q is unknown%s, accepted: %s", s, didYouMean(s, names), accepted(able))
		}
		return "", false
	}
}

// list takes an array, or one value for a list of one.
func list[V comparable](one parser[V]) parser[[]V] {
	return func(v value) ([]V, bool) {
		raw, ok := v.raw.([]any)
		if !ok {
			x, ok := one(v)
			return []V{x}, ok
		}
		if len(raw) == 0 {
			v.wrong("is empty, name at least one value or leave the key out")
			return nil, false
		}
		all := make([]V, 0, len(raw))
		good := true
		for i, r := range raw {
			m := v
			m.raw, m.path = r, member(v.path, i)
			x, ok := one(m)
			if ok && slices.Contains(all, x) {
				m.wrong("%v is in the list twice, remove one", x)
				ok = false
			}
			if ok {
				all = append(all, x)
			}
			good = good && ok
		}
		return all, good
	}
}

func duration(low, high time.Duration) parser[Duration] {
	accepts := fmt.Sprintf(`a duration such as "30m" or "1d2h", %v to %v`, Duration(low), Duration(high))
	return func(v value) (Duration, bool) {
		s, ok := v.raw.(string)
		if !ok {
			v.wrongType(accepts)
			return 0, false
		}
		d, ok := ParseDuration(s)
		if !ok {
			v.wrong("%q is not a duration, accepted: %s", s, accepts)
			return 0, false
		}
		if d < Duration(low) || d > Duration(high) {
			v.wrong("%s is out of range, accepted: %s", s, accepts)
			return 0, false
		}
		return d, true
	}
}

// dpdInterval is a duration or "disable-dpd", which is 0.
func dpdInterval(v value) (Duration, bool) {
	if v.raw == "disable-dpd" {
		return 0, true
	}
	if s, ok := v.raw.(string); ok {
		if hint := didYouMean(s, []string{"disable-dpd"}); hint != "" {
			v.wrong(`%q is unknown%s, accepted: disable-dpd or a duration such as "2m"`, s, hint)
			return 0, false
		}
	}
	return duration(time.Second, 24*time.Hour)(v)
}

const addressAccepts = `an IPv4 or IPv6 address such as "192.0.2.1"`

func address(v value) (netip.Addr, bool) {
	s, ok := v.raw.(string)
	if !ok {
		v.wrongType(addressAccepts)
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		v.wrong("%q is not an address, accepted: %s", s, addressAccepts)
		return netip.Addr{}, false
	}
	return a, true
}

const prefixAccepts = `an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"`

// prefix masks: what stands behind the length makes a warning.
func prefix(v value) (netip.Prefix, bool) {
	s, ok := v.raw.(string)
	if !ok {
		v.wrongType(prefixAccepts)
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			v.wrong("%q is not a prefix, accepted: %s", s, prefixAccepts)
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		v.wrong("%q is an IPv4 address in IPv6 form, write it as IPv4, accepted: %s", s, prefixAccepts)
		return netip.Prefix{}, false
	}
	if p != p.Masked() {
		v.warn("%s has bits set after its length and is read as %s, write that", p, p.Masked())
	}
	return p.Masked(), true
}

// peerAddress is a prefix or a DNS name.
func peerAddress(v value, p *Peer) bool {
	const accepts = prefixAccepts + `, or a DNS name`
	if s, ok := v.raw.(string); ok && looksLikeName(s) {
		if name := strings.TrimSuffix(s, "."); isDNSName(name) {
			p.DNSName, p.Address = name, netip.Prefix{}
			return true
		}
		v.wrong("%q is neither an address nor a DNS name, accepted: %s", s, accepts)
		return false
	}
	a, ok := prefix(v)
	if ok && a.IsSingleIP() && (a.Addr().IsUnspecified() || a.Addr().IsMulticast()) {
		v.wrong("%s is not the address of a host, accepted: %s", a, prefixAccepts)
		return false
	}
	if ok {
		p.DNSName, p.Address = "", a
	}
	return ok
}

// isDNSName checks the form of RFC 1123 §2.1: labels of 1 to 63 letters, digits
// and hyphens, which are not at a label's ends, 253 in all.
func isDNSName(s string) bool {
	for _, label := range strings.Split(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return len(s) <= 253
}

func looksLikeName(s string) bool {
	letters := false
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letters = true
		case c >= '0' && c <= '9' || c == '-' || c == '.':
		default:
			return false
		}
	}
	return letters
}

func port(v value) (Port, bool) {
	const accepts = "any, 0..65535"
	switch r := v.raw.(type) {
	case int64:
		if r >= 0 && r <= 65535 {
			return Port{uint16(r), true}, true
		}
		v.wrong("%d is out of range, accepted: %s", r, accepts)
	case string:
		if r == "any" {
			return Port{}, true
		}
		if n, err := strconv.ParseUint(r, 10, 16); err == nil {
			return Port{uint16(n), true}, true
		}
		v.wrong("%q is not a port, accepted: %s", r, accepts)
	default:
		v.wrongType(accepts)
	}
	return Port{}, false
}

func protocol(v value) (Protocol, bool) {
	const accepts = "all, a name such as tcp, udp, icmp, gre, or a number 0..255"
	switch r := v.raw.(type) {
	case int64:
		if r >= 0 && r <= 255 {
			return Protocol(r), true
		}
		v.wrong("%d is out of range, accepted: %s", r, accepts)
	case string:
		if p, ok := ParseProtocol(r); ok {
			return p, true
		}
		names := make([]string, len(protocols))
		for i := range protocols {
			names[i] = protocols[i].name
		}
		v.wrong("%q is unknown%s, accepted: %s", r, didYouMean(r, names), accepts)
	default:
		v.wrongType(accepts)
	}
	return 0, false
}

const idAccepts = `auto, address:192.0.2.1, fqdn:gw.example.net, user-fqdn:a@example.net, key-id:branch7, dn`

// identityID is my-id or, with ignore as one kind more, remote-id.
func identityID(extra ...IDKind) parser[ID] {
	accepts := idAccepts
	kinds := []string{"auto", "address", "fqdn", "user-fqdn", "key-id", "dn"}
	for _, k := range extra {
		accepts += ", " + string(k)
		kinds = append(kinds, string(k))
	}
	return func(v value) (ID, bool) {
		s, ok := v.raw.(string)
		if !ok {
			v.wrongType(accepts)
			return ID{}, false
		}
		kind, rest, colon := strings.Cut(s, ":")
		id := ID{Kind: IDKind(kind), Value: rest}
		switch {
		case !slices.Contains(kinds, kind):
			v.wrong("%q is unknown%s, accepted: %s", s, kindOf(s, kind, kinds), accepts)
			return ID{}, false
		case valueNotYet(v.table, v.key, kind):
			v.wrong("%q is not supported yet, accepted: %s", kind, accepts)
			return ID{}, false
		}
		bare := id.Kind == IDAuto || id.Kind == IDDN || id.Kind == IDIgnore
		if bare == colon || colon && rest == "" {
			v.wrong("%q is incomplete or has too much, accepted: %s", s, accepts)
			return ID{}, false
		}
		if id.Kind == IDAddress {
			a, err := netip.ParseAddr(rest)
			if err != nil || a.Zone() != "" || a.Is4In6() {
				v.wrong("%q has no address after the colon, accepted: %s", s, accepts)
				return ID{}, false
			}
			id.Addr, id.Value = a, a.String()
		}
		if digits, ok := strings.CutPrefix(rest, "#"); ok {
			b, err := hex.DecodeString(digits)
			if err != nil || len(b) == 0 {
				v.wrong("%q has a # after the colon that no bytes follow, accepted: # and pairs of the digits 0-9 and a-f, or text that does not start with #", s)
				return ID{}, false
			}
			id.Bytes = string(b)
		}
		return id, true
	}
}

// psk is a pre-shared key. Nothing of it is ever part of a message.
func psk(v value) (secret.Bytes, bool) {
	s, ok := v.raw.(string)
	if !ok {
		v.wrongType(`text in quotes, or "0x" and hexadecimal digits`)
		return nil, false
	}
	return pskFrom(v, s)
}

func pskFrom(v value, s string) (secret.Bytes, bool) {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		b, err := hex.DecodeString(digits)
		if err != nil || len(b) == 0 {
			v.wrong("starts with 0x but is not hexadecimal, accepted: 0x and pairs of the digits 0-9 and a-f, or text that does not start with 0x")
			return nil, false
		}
		return b, true
	}
	if s == "" {
		v.wrong("is empty, accepted: text, or 0x and hexadecimal digits")
		return nil, false
	}
	return secret.Bytes(s), true
}

// pskFile is a pre-shared key in a file of its own.
func pskFile(v value) (secret.Bytes, bool) {
	s, ok := secretFile(v)
	if !ok {
		return nil, false
	}
	return pskFrom(v, string(s))
}

// secretFile is the text of a file, without the end of its line.
func secretFile(v value) (secret.Bytes, bool) {
	path, ok := text("the path of a file, relative to this one")(v)
	if !ok {
		return nil, false
	}
	data, mode, err := v.load.disk.read(v.file.beside(path))
	if err != nil {
		v.wrong(unreadable, err)
		return nil, false
	}
	v.load.config.secretFiles = append(v.load.config.secretFiles, v.file.beside(path))
	if othersCanRead(mode) {
		v.warn(readByOthers, v.file.beside(path), mode.Perm())
	}
	s := secret.Bytes(strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"))
	clear(data)
	return s, true
}

// orNumber is a number, or a word for one that may be none of them.
func orNumber(word string, means int, low, high int64) parser[int] {
	return func(v value) (int, bool) {
		switch r := v.raw.(type) {
		case string:
			if r == word {
				return means, true
			}
			v.wrong("%q is unknown, accepted: %s, %d..%d", r, word, low, high)
		case int64:
			if r >= low && r <= high {
				return int(r), true
			}
			v.wrong("%d is out of range, accepted: %s, %d..%d", r, word, low, high)
		default:
			v.wrongType(fmt.Sprintf("%s, %d..%d", word, low, high))
		}
		return 0, false
	}
}

// tunName accepts what tun.Create does.
func tunName(v value) (string, bool) {
	s, ok := text("a device name")(v)
	if ok && (s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})) {
		v.wrong("%q is not a device name, accepted: 1 to 15 letters, digits, '-', '_' or '.'", s)
		return "", false
	}
	return s, ok
}

func absolutePath(v value) (string, bool) {
	const accepts = "an absolute path"
	s, ok := text(accepts)(v)
	if ok && !isAbsolute(s) {
		v.wrong("%q is not absolute, accepted: %s", s, accepts)
		return "", false
	}
	return s, ok
}

// maxTable is the last routing table that has one of ours beside it, 2^30 above (tun).
const maxTable = 1<<30 - 1

// routingTable leaves out the system's own tables.
func routingTable(v value) (uint32, bool) {
	n, ok := integer[uint32](1, maxTable)(v)
	if ok && n >= 253 && n <= 255 {
		v.wrong("%d is a routing table of the system, accepted: 1..%d without 253, 254, 255", n, maxTable)
		return 0, false
	}
	return n, ok
}

func logLevel(v value) (slog.Level, bool) {
	s, ok := oneOf[string]("debug", "info", "warn", "error")(v)
	var level slog.Level
	if ok {
		ok = level.UnmarshalText([]byte(s)) == nil
	}
	return level, ok
}
