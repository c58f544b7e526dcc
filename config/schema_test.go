package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

// keyCase is a key with a value that is right and one that is wrong.
type keyCase struct {
	table, key, right, wrong, message string
}

// What the build can run is said in the order of crypto/suite's tables.
var (
	groupsAble = rowNames(suite.Groups, func(g *suite.Group) string { return g.Name })
	espAble    = rowNames(suite.Encrs, func(e *suite.Encr) string { return e.Name })
	ikeAble    = rowNames(suite.Encrs, func(e *suite.Encr) string { return e.IKEName })
	hashesAble = rowNames(suite.PRFs, func(p *suite.PRF) string { return p.Name })
	integsAble = rowNames(suite.Integs, func(a *suite.Integ) string { return a.Name })
)

const namesAble = "accepted: text without line breaks and without spaces at its ends"

// rowNames is the list of names in an error text; rows without a name are left out.
func rowNames[T any](rows []T, name func(*T) string) string {
	var all []string
	for i := range rows {
		if n := name(&rows[i]); n != "" {
			all = append(all, n)
		}
	}
	return strings.Join(all, ", ")
}

var keyCases = []keyCase{
	{"gateway", "tun", `"culvert1"`, `"much-too-long-for-a-device"`, `"much-too-long-for-a-device" is not a device name, accepted: 1 to 15 letters, digits, '-', '_' or '.'`},
	{"gateway", "mtu", `1400`, `100`, `100 is out of range, accepted: auto, 576..65535`},
	{"gateway", "listen", `["192.0.2.1", "2001:db8::1"]`, `["192.0.2.1", "192.0.2"]`, `"192.0.2" is not an address, accepted: an IPv4 or IPv6 address such as "192.0.2.1"`},
	{"gateway", "port", `501`, `0`, `0 is out of range, accepted: 1..65535`},
	{"gateway", "natt-port", `4501`, `"4501"`, `is a string, accepted: a number 1..65535`},
	{"gateway", "encapsulation", `"raw"`, `"tcp"`, `"tcp" is unknown, accepted: detect, udp, raw`},
	{"gateway", "guard", `false`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"gateway", "guard-always", `true`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"gateway", "lan-bypass", `false`, `"no"`, `is a string, write false without quotes, accepted: true, false`},
	{"gateway", "table", `100`, `254`, `254 is a routing table of the system, accepted: 1..1073741823 without 253, 254, 255`},
	{"gateway", "table", `1073741823`, `1073741824`, `1073741824 is out of range, accepted: 1..1073741823`},
	{"gateway", "mark", `0xFF`, `-1`, `-1 is out of range, accepted: 1..4294967295`},
	{"gateway", "control", `"/tmp/culvert.sock"`, `"culvert.sock"`, `"culvert.sock" is not absolute, accepted: an absolute path`},
	{"gateway", "state-dir", `"/srv/culvert"`, `1`, `is a number, accepted: an absolute path`},
	{"gateway", "df", `"clear"`, `"keep"`, `"keep" is unknown, accepted: copy, set, clear`},
	{"gateway", "clamp-mss", `false`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"gateway", "dscp", `46`, `64`, `64 is out of range, accepted: copy, 0..63`},
	{"gateway", "dscp", `"copy"`, `"ef"`, `"ef" is unknown, accepted: copy, 0..63`},
	{"gateway", "workers", `4`, `0`, `0 is out of range, accepted: 1..64`},
	{"gateway", "stranger-memory", `8388608`, `1000`, `1000 is out of range, accepted: 4194304..2147483647`},
	{"gateway", "log-format", `"json"`, `"jsn"`, `"jsn" is unknown (did you mean "json"?), accepted: text, json`},
	{"gateway", "log-level", `"debug"`, `"Warn"`, `"Warn" is unknown (did you mean "warn"?), accepted: debug, info, warn, error`},

	{"settings", "accounting", `false`, `true`, `true is not supported yet, accepted: false`},
	{"settings", "xauth-use-radius", `false`, `"no"`, `is a string, write false without quotes, accepted: true, false`},

	{"profile", "name", `"p"`, `""`, `"" is not a name, ` + namesAble},
	{"profile", "comment", `"the branch"`, `"two\nlines"`, `has a line break or another control character, accepted: text on one line`},
	{"profile", "disabled", `false`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"profile", "dh-group", `["x25519", "modp1024"]`, `["ec2n-155"]`, `"ec2n-155" is unknown (did you mean "ec2n155"?), accepted: ` + groupsAble},
	{"profile", "dh-group", `"ecp256"`, `"x25519+ml-kem-512"`, `"x25519+ml-kem-512" has "ml-kem-512" after the plus, accepted there: ml-kem-768, ml-kem-1024`},
	{"profile", "dh-group", `["x25519+ml-kem-768", "x25519"]`, `"ml-kem-768"`, `"ml-kem-768" is unknown, accepted: ` + groupsAble},
	{"profile", "dh-group", `["ecp384"]`, `["modp-2048"]`, `"modp-2048" is unknown (did you mean "modp2048"?), accepted: ` + groupsAble},
	{"profile", "dpd-interval", `"disable-dpd"`, `"disabled-dpd"`, `"disabled-dpd" is unknown (did you mean "disable-dpd"?), accepted: disable-dpd or a duration such as "2m"`},
	{"profile", "dpd-interval", `"1m30s"`, `120`, `is a number, accepted: a duration such as "30m" or "1d2h", 1s to 1d`},
	{"profile", "dpd-maximum-failures", `100`, `101`, `101 is out of range, accepted: 1..100`},
	{"profile", "enc-algorithm", `["aes-256", "3des"]`, `["aes-256", "twofish"]`, `"twofish" is unknown, accepted: ` + ikeAble},
	{"profile", "reauth", `"8h"`, `"1s"`, `1s is out of range, accepted: a duration such as "30m" or "1d2h", 10s to 365d`},
	{"profile", "resumption", `true`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"profile", "fragmentation", `false`, `"no"`, `is a string, write false without quotes, accepted: true, false`},
	{"profile", "hash-algorithm", `["sha256", "sha512"]`, `"null"`, `"null" is unknown, accepted: ` + hashesAble},
	{"profile", "lifebytes", `4294967295`, `1.5`, `is a number with a fraction, accepted: a number 0..4294967295`},
	{"profile", "lifetime", `"1d2h"`, `"1 day"`, `"1 day" is not a duration, accepted: a duration such as "30m" or "1d2h", 1s to 365d`},
	{"profile", "mobike", `false`, `"off"`, `is a string, write false without quotes, accepted: true, false`},
	{"profile", "nat-traversal", `true`, `[true]`, `is a list, accepted: true, false`},
	{"profile", "prf-algorithm", `["sha384", "sha256"]`, `["sha3"]`, `"sha3" is unknown (did you mean "sha384"?), accepted: auto, ` + hashesAble},
	{"profile", "proposal-check", `"strict"`, `"none"`, `"none" is unknown, accepted: claim, exact, obey, strict`},

	{"proposal", "name", `"p"`, `7`, `is a number, accepted: a name in quotes`},
	{"proposal", "comment", `""`, `true`, `is a boolean, accepted: text in quotes`},
	{"proposal", "disabled", `true`, `1`, `is a number, accepted: true, false`},
	{"proposal", "auth-algorithms", `"sha512"`, `["sha256", "none"]`, `"none" is unknown, accepted: ` + integsAble + `, null`},
	{"proposal", "enc-algorithms", `["aes-256-gcm", "aes-128-cbc"]`, `["aes-128gcm"]`, `"aes-128gcm" is unknown (did you mean "aes-128-gcm"?), accepted: ` + espAble},
	{"proposal", "enc-algorithms", `["aes-192-ctr", "null"]`, `["aes-128"]`, `"aes-128" is unknown (did you mean "aes-128-cbc"?), accepted: ` + espAble},
	{"proposal", "enc-algorithms", `["aes-192-gcm"]`, `["aes-192-gcm", "aes-192-gcm"]`, `aes-192-gcm is in the list twice, remove one`},
	{"proposal", "enc-algorithms", `["aes-192-gcm"]`, `[]`, `is empty, name at least one value or leave the key out`},
	{"proposal", "esn", `"yes"`, `true`, `is a boolean, accepted: one of no, yes, both`},
	{"proposal", "lifebytes", `1000000000000`, `-5`, `-5 is out of range, accepted: 0..9223372036854775807`},
	{"proposal", "lifetime", `"45s"`, `"0s"`, `0s is out of range, accepted: a duration such as "30m" or "1d2h", 1s to 365d`},
	{"proposal", "pfs-group", `["x25519+ml-kem-768", "x25519"]`, `"ml-kem-768"`, `"ml-kem-768" is unknown, accepted: ` + groupsAble + `, none`},
	{"proposal", "pfs-group", `"x25519+ml-kem-768+ml-kem-1024"`, `"x25519+ml-kem-768+ml-kem-768"`, `"x25519+ml-kem-768+ml-kem-768" has ml-kem-768 twice, write it once: each key exchange of an SA is another one (RFC 9370)`},
	{"proposal", "pfs-group", `"none"`, `"none+ml-kem-768"`, `"none+ml-kem-768" is unknown, accepted: ` + groupsAble + `, none`},
	{"proposal", "pfs-group", `"modp1024"`, `"ec2n189"`, `"ec2n189" is unknown (did you mean "ec2n185"?), accepted: ` + groupsAble + `, none`},
	{"proposal", "tfc", `512`, `65536`, `65536 is out of range, accepted: mtu, 0..65535`},
	{"proposal", "tfc", `"mtu"`, `"max"`, `"max" is unknown, accepted: mtu, 0..65535`},
	{"proposal", "tfc-dummies", "10\ntfc = 500", `101`, `101 is out of range, accepted: 0..100`},
	{"proposal", "tfc-dummies", `0`, `5`, `5 need tfc, without which they would not look like other packets`},
	{"proposal", "replay-window", `0`, `-1`, `-1 is out of range, accepted: 32..4096, or 0 for no check`},
	{"proposal", "replay-window", `32`, `"0"`, `is a string, accepted: a number 32..4096, or 0 for no check`},
	{"proposal", "replay-window", `1024`, `31`, `31 is out of range, accepted: 32..4096, or 0 for no check`},

	{"peer", "name", `"site2"`, `" site2"`, `" site2" is not a name, ` + namesAble},
	{"peer", "comment", `"c"`, `1979-05-27`, `is a date, accepted: text in quotes`},
	{"peer", "disabled", `true`, `{a = 1}`, `is a table, accepted: true, false`},
	{"peer", "address", `"192.0.2.1"`, `"gw..example.net"`, `"gw..example.net" is neither an address nor a DNS name, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16", or a DNS name`},
	{"peer", "address", `"2001:db8::/32"`, `"192.0.2.300"`, `"192.0.2.300" is not a prefix, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"`},
	{"peer", "address", `"::/0"`, `"0.0.0.0"`, `0.0.0.0/32 is not the address of a host, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"`},
	{"peer", "exchange-mode", `"ike2"`, `"ikev2"`, `"ikev2" is unknown (did you mean "ike2"?), accepted: main, aggressive, base, ike2`},
	{"peer", "local-address", `"192.0.2.9"`, `"fe80::1%eth0"`, `"fe80::1%eth0" is not an address, accepted: an IPv4 or IPv6 address such as "192.0.2.1"`},
	{"peer", "natt-port", `4501`, `0`, `0 is out of range, accepted: 1..65535`},
	{"peer", "on-demand", `true`, `"true"`, `is a string, write true without quotes, accepted: true, false`},
	{"peer", "childless", `"require"`, `"yes"`, `"yes" is unknown, accepted: no, prefer, require`},
	{"peer", "passive", `true`, `"true"`, `is a string, write true without quotes, accepted: true, false`},
	{"peer", "port", `5000`, `65536`, `65536 is out of range, accepted: 1..65535`},
	{"peer", "profile", `"default"`, `""`, `"" is not a name, ` + namesAble},
	{"peer", "redirect", `"gw2.example.net"`, `"224.0.0.1"`, `"224.0.0.1" is none, accepted: the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net`},
	{"peer", "redirect", `"2001:db8::2"`, `"gw2..example.net"`, `"gw2..example.net" is none, accepted: the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net`},
	{"peer", "redirect-above", `100`, `-1`, `-1 is out of range, accepted: 0..2147483647`},
	{"peer", "send-initial-contact", `false`, `0`, `is a number, accepted: true, false`},

	{"identity", "comment", `"c"`, `[]`, `is a list, accepted: text in quotes`},
	{"identity", "disabled", `false`, `"off"`, `is a string, write false without quotes, accepted: true, false`},
	{"identity", "auth-method", `"pre-shared-key"`, `"eap"`, `"eap" is not supported yet, accepted: digital-signature, pre-shared-key, pre-shared-key-xauth, rsa-key, rsa-signature-hybrid`},
	{"identity", "username", "", `""`, `"" is not a name, ` + namesAble},
	{"identity", "password", "", `""`, `is empty, accepted: text`},
	{"identity", "password", "", `1`, `is a number, accepted: text in quotes`},
	{"identity", "password-file", "", `"testdata/none"`, `stat testdata/none: no such file or directory, accepted: a file that this process can read`},
	{"identity", "certificate", "", `"gw"`, `there is no [[certificate]] named "gw"`},
	{"identity", "remote-certificate", "", `"gw"`, `there is no [[certificate]] named "gw"`},
	{"identity", "key", "", `""`, `"" is not a name, ` + namesAble},
	{"identity", "remote-key", "", `1`, `is a number, accepted: a name in quotes`},
	{"identity", "redirect", `"192.0.2.2"`, `500`, `is a number, accepted: the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net`},
	{"identity", "remote-auth-method", `"pre-shared-key"`, `"eap"`, `"eap" is unknown, accepted: digital-signature, pre-shared-key`},
	{"identity", "generate-policy", `"no"`, `"strict"`, `"strict" is unknown, accepted: no, port-override, port-strict`},
	{"identity", "ignore-initial-contact", `false`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"identity", "match-by", `"remote-id"`, `"cert"`, `"cert" is unknown, accepted: remote-id, certificate`},
	{"identity", "mode-config", `"none"`, `"request_only"`, `there is no [[mode-config]] named "request_only" (did you mean "request-only"?)`},
	{"identity", "my-id", `"fqdn:gw.example.net"`, `"dn:CN=gw"`, `"dn:CN=gw" is incomplete or has too much, accepted: ` + idAccepts},
	{"identity", "my-id", `"key-id:branch:7"`, `"ignore"`, `"ignore" is unknown, accepted: ` + idAccepts},
	{"identity", "my-id", `"address:192.0.2.1"`, `"address:gw"`, `"address:gw" has no address after the colon, accepted: ` + idAccepts},
	{"identity", "my-id", `"auto"`, `"gw.example.net"`, `"gw.example.net" is unknown (did you mean "fqdn:gw.example.net"?), accepted: ` + idAccepts},
	{"identity", "my-id", `"auto"`, `"@gw.example.net"`, `"@gw.example.net" is unknown (did you mean "fqdn:gw.example.net"?), accepted: ` + idAccepts},
	{"identity", "my-id", `"auto"`, `"192.0.2.1"`, `"192.0.2.1" is unknown (did you mean "address:192.0.2.1"?), accepted: ` + idAccepts},
	{"identity", "my-id", `"auto"`, `"a@example.net"`, `"a@example.net" is unknown (did you mean "user-fqdn:a@example.net"?), accepted: ` + idAccepts},
	{"identity", "my-id", `"auto"`, `"fqdn:"`, `"fqdn:" is incomplete or has too much, accepted: ` + idAccepts},
	{"identity", "name", `"alice"`, `""`, `"" is not a name, ` + namesAble},
	{"identity", "peer", `"there"`, `"x\ty"`, `"x\ty" is not a name, ` + namesAble},
	{"identity", "policy-template-group", `"none"`, `true`, `is a boolean, accepted: a name in quotes`},
	{"identity", "remote-id", `"ignore"`, `"user_fqdn:a@example.net"`, `"user_fqdn:a@example.net" is unknown (did you mean "user-fqdn"?), accepted: ` + idAccepts + `, ignore`},
	{"identity", "remote-id", `"dn:C=DE, CN=gw"`, `"dn:gw"`, `"gw" is not an attribute, accepted: NAME=value with the names CN, C, L, ST, STREET, O, OU, SERIALNUMBER, SN, GN, T, DC, UID, E, or an OID as the name`},
	{"identity", "secret", `"0x00ff"`, `"0x0q"`, `starts with 0x but is not hexadecimal, accepted: 0x and pairs of the digits 0-9 and a-f, or text that does not start with 0x`},
	{"identity", "secret", `"text"`, `""`, `is empty, accepted: text, or 0x and hexadecimal digits`},
	{"identity", "ppk-id", "", `true`, `is a boolean, accepted: a name in quotes`},
	{"identity", "ppk-required", `false`, `"no"`, `is a string, write false without quotes, accepted: true, false`},
	{"identity", "ppk-secret", "", `"0x0q"`, `starts with 0x but is not hexadecimal, accepted: 0x and pairs of the digits 0-9 and a-f, or text that does not start with 0x`},
	{"identity", "ppk-secret-file", "", `5`, `is a number, accepted: the path of a file, relative to this one`},
	{"identity", "secret-file", "", `5`, `is a number, accepted: the path of a file, relative to this one`},

	{"policy", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"policy", "disabled", `true`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"policy", "action", `"none"`, `"pass"`, `"pass" is unknown, accepted: discard, encrypt, none`},
	{"policy", "dst-address", `"10.0.0.0/8"`, `"10.0.0.0/8/8"`, `"10.0.0.0/8/8" is not a prefix, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"`},
	{"policy", "src-address", `"10.0.0.1"`, `"::ffff:1.2.3.4/128"`, `"::ffff:1.2.3.4/128" is an IPv4 address in IPv6 form, write it as IPv4, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"`},
	{"policy", "dst-port", `"443"`, `"https"`, `"https" is not a port, accepted: any, 0..65535`},
	{"policy", "src-port", `"any"`, `65536`, `65536 is out of range, accepted: any, 0..65535`},
	{"policy", "group", `"default"`, `""`, `"" is not a name, ` + namesAble},
	{"policy", "identity", "", `"alice"`, `names the peer that a policy encrypts for, and action is discard, leave it out`},
	{"policy", "ipsec-protocols", `["ah"]`, `["esp", "ipcomp"]`, `"ipcomp" is unknown, accepted: ah, esp`},
	{"policy", "level", `"unique"`, `"required"`, `"required" is unknown (did you mean "require"?), accepted: require, unique, use`},
	{"policy", "peer", `"there"`, `1`, `is a number, accepted: a name in quotes`},
	{"policy", "proposal", `"default"`, `1`, `is a number, accepted: a name in quotes`},
	{"policy", "protocol", `"udp"`, `"tpc"`, `"tpc" is unknown (did you mean "tcp"?), accepted: all, a name such as tcp, udp, icmp, gre, or a number 0..255`},
	{"policy", "protocol", `17`, `256`, `256 is out of range, accepted: all, a name such as tcp, udp, icmp, gre, or a number 0..255`},
	{"policy", "sa-dst-address", `"192.0.2.1"`, `"192.0.2.0/24"`, `"192.0.2.0/24" is not an address, accepted: an IPv4 or IPv6 address such as "192.0.2.1"`},
	{"policy", "sa-src-address", `"2001:db8::1"`, `1`, `is a number, accepted: an IPv4 or IPv6 address such as "192.0.2.1"`},
	{"policy", "template", `false`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"policy", "tunnel", `true`, `"no"`, `is a string, write false without quotes, accepted: true, false`},

	{"policy-group", "name", `"g"`, `""`, `"" is not a name, ` + namesAble},
	{"policy-group", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"policy-group", "disabled", `false`, `1`, `is a number, accepted: true, false`},

	{"pool", "name", `"p"`, `""`, `"" is not a name, ` + namesAble},
	{"pool", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"pool", "disabled", `false`, `1`, `is a number, accepted: true, false`},
	{"pool", "next-pool", `"none"`, `"m"`, `there is no [[pool]] named "m"`},
	{"pool", "ranges", `["192.0.2.2-192.0.2.9", "198.51.100.0/24"]`, `"192.0.2.9-192.0.2.2"`, `"192.0.2.9-192.0.2.2" ends before it begins, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"2001:db8::2 - 2001:db8::ff"`, `"192.0.2.2-2001:db8::ff"`, `"192.0.2.2-2001:db8::ff" begins and ends in different address families, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"192.0.2.2"`, `"192.0.2.2-9"`, `"192.0.2.2-9" is not a range, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"2001:db8::1-2001:db8::9"`, `"2001:db8::1-fe80::9%eth0"`, `"2001:db8::1-fe80::9%eth0" is not a range, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"fe80::1-fe80::9"`, `"fe80::1%eth0-fe80::9"`, `"fe80::1%eth0-fe80::9" is not a range, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"192.0.2.2 - 192.0.2.2"`, `"::ffff:192.0.2.2-2001:db8::1"`, `"::ffff:192.0.2.2-2001:db8::1" is not a range, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"192.0.2.2-192.0.2.3"`, `"::1-::ffff:192.0.2.2"`, `"::1-::ffff:192.0.2.2" is not a range, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"::1-::2"`, `"x-192.0.2.2"`, `"x-192.0.2.2" is not a range, accepted: ` + rangeAccepts},
	{"pool", "ranges", `"192.0.2.0/24"`, `"192.0.2.0/33"`, `"192.0.2.0/33" is not a prefix, accepted: ` + prefixAccepts},

	{"user", "name", `"anna"`, `""`, `"" is not a name, ` + namesAble},
	{"user", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"user", "disabled", `false`, `1`, `is a number, accepted: true, false`},
	{"user", "password", `"0x is text"`, `""`, `is empty, accepted: text`},
	{"user", "password-file", `"testdata/ca.pem"`, `"testdata/none"`, `stat testdata/none: no such file or directory, accepted: a file that this process can read`},

	{"key", "name", `"k"`, `""`, `"" is not a name, ` + namesAble},
	{"key", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"key", "disabled", `true`, `1`, `is a number, accepted: true, false`},
	{"key", "file", `"testdata/key.pem"`, `""`, `is empty, accepted: the path of a file, relative to this one`},
	{"certificate", "name", `"c"`, `""`, `"" is not a name, ` + namesAble},
	{"certificate", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"certificate", "disabled", `true`, `1`, `is a number, accepted: true, false`},
	{"certificate", "file", `"testdata/ca.pem"`, `""`, `is empty, accepted: the path of a file, relative to this one`},
	{"certificate", "key-file", "", `5`, `is a number, accepted: the path of a file, relative to this one`},
	{"certificate", "passphrase-file", "", `5`, `is a number, accepted: the path of a file, relative to this one`},
	{"certificate", "trusted", `false`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"certificate", "crl", `["http://192.0.2.1/ca.crl", "distribution-points"]`, `"ldap://192.0.2.1/"`, `"ldap://192.0.2.1/" is not a CRL source, accepted: the path of a file, a URL that begins with http://, or distribution-points`},
	{"certificate", "crl-policy", `"if-present"`, `"strict"`, `strict needs something to ask, write crl or ocsp = true`},
	{"certificate", "crl-max-age", `"12h"`, `"1s"`, `1s is out of range, accepted: a duration such as "30m" or "1d2h", 1m to 365d`},
	{"certificate", "ocsp", `true`, `1`, `is a number, accepted: true, false`},
	{"certificate", "rsa-padding", `"pss"`, `"oaep"`, `"oaep" is unknown, accepted: auto, pkcs1, pss`},

	{"mode-config", "name", `"m"`, `""`, `"" is not a name, ` + namesAble},
	{"mode-config", "comment", `"c"`, `1`, `is a number, accepted: text in quotes`},
	{"mode-config", "disabled", `false`, `1`, `is a number, accepted: true, false`},
	{"mode-config", "address", `"192.0.2.2"`, `"192.0.2.2/32"`, `"192.0.2.2/32" is not an address, accepted: an IPv4 or IPv6 address such as "192.0.2.1"`},
	{"mode-config", "address-pool", `"none"`, `"there"`, `there is no [[pool]] named "there"`},
	{"mode-config", "address-prefix-length", `32`, `129`, `129 is out of range, accepted: 1..128`},
	{"mode-config", "responder", `true`, `"yes"`, `is a string, write true without quotes, accepted: true, false`},
	{"mode-config", "split-include", `["10.5.8.0/24", "10.6.0.0/16"]`, `"10.5.8.0-10.5.8.9"`, `"10.5.8.0-10.5.8.9" is not a prefix, accepted: an address or a prefix such as "192.0.2.1" or "10.1.0.0/16"`},
	{"mode-config", "static-dns", `["10.5.8.1", "2001:db8::1"]`, `"dns"`, `"dns" is not an address, accepted: an IPv4 or IPv6 address such as "192.0.2.1"`},
	{"mode-config", "system-dns", `false`, `"no"`, `is a string, write false without quotes, accepted: true, false`},
}

// one is a file with a single key in its first table, on line 3, and what that
// table needs besides.
func (k keyCase) one(value string) string {
	t := tables[slices.IndexFunc(tables, func(t table) bool { return t.name == k.table })]
	others := map[string][]string{
		"profile": {"name = 'n'"}, "proposal": {"name = 'n'"}, "peer": {"name = 'n'", "exchange-mode = 'ike2'"},
		"policy-group": {"name = 'n'"}, "key": {"name = 'n'", "file = 'testdata/key.pem'"}, "certificate": {"name = 'n'", "file = 'testdata/ca.pem'"}, "pool": {"name = 'n'", "ranges = '192.0.2.2'"}, "mode-config": {"name = 'n'", "address = '192.0.2.7'"}, "user": {"name = 'n'", "password = 'p'"}, "identity": {"peer = 'there'", "secret = 's'"},
		"policy": {"action = 'discard'", "src-address = '10.1.0.0/16'", "dst-address = '10.2.0.0/16'", "protocol = 'tcp'"},
	}
	lines := []string{"", t.header(), k.key + " = " + value}
	for _, o := range others[k.table] {
		if !strings.HasPrefix(o, k.key+" ") && !(k.key == "address-pool" && strings.HasPrefix(o, "address ")) && !(k.key == "secret-file" && strings.HasPrefix(o, "secret ")) && !(k.key == "password-file" && strings.HasPrefix(o, "password ")) {
			lines = append(lines, o)
		}
	}
	return strings.Join(lines, "\n") + "\n[[peer]]\nname = 'there'\naddress = '198.51.100.1'\nexchange-mode = 'ike2'\n"
}

// tablesAble is what stands behind "accepted:" where a table is not.
func tablesAble() string {
	list := []string{"include"}
	for _, t := range tables {
		list = append(list, t.name)
	}
	return strings.Join(list, ", ")
}

func TestKeys(t *testing.T) {
	for _, k := range keyCases {
		if k.right != "" {
			if _, _, err := Parse("f", []byte(k.one(k.right))); err != nil {
				t.Errorf("%s.%s = %s: %v", k.table, k.key, k.right, err)
			}
		}
		_, _, err := Parse("f", []byte(k.one(k.wrong)))
		want := fmt.Sprintf("f:3: %s.%s: %s", k.table, k.key, k.message)
		got := fmt.Sprint(err)
		if k.right == "" { // the key needs others, and these are missing too
			got, _, _ = strings.Cut(got, "\n")
		}
		if got != want { // nothing else follows from it
			t.Errorf("%s.%s = %s\n got  %v\n want %s", k.table, k.key, k.wrong, err, want)
		}
	}
}

func TestEveryKeyHasACase(t *testing.T) {
	for _, tb := range tables {
		for _, key := range tb.keys {
			has := slices.ContainsFunc(keyCases, func(k keyCase) bool { return k.table == tb.name && k.key == key })
			if !has && !keyNotYet(tb.name, key) {
				t.Errorf("%s.%s has no case", tb.name, key)
			}
		}
	}
}

func TestNotYet(t *testing.T) {
	for _, r := range notYet {
		var file, want string
		switch {
		case r.key == "":
			want = "f:1: " + r.table + ": the table is not supported yet, leave it out, accepted: " + tablesAble()
			// A table that is not read yet is refused in either form.
			file = "[" + r.table + "]\nname = 'x'\n"
			if _, _, err := Parse("f", []byte(file)); err == nil || err.Error() != want {
				t.Errorf("[%s]: got %v, want %s", r.table, err, want)
			}
			file = "[[" + r.table + "]]\nname = 'x'\n"
		case r.values == nil:
			file = keyCase{table: r.table, key: r.key}.one("'x'")
			want = "f:3: " + r.table + "." + r.key + ": not supported yet, leave it out"
		default:
			for _, v := range r.values {
				written := strconv.Quote(v)
				if _, err := strconv.ParseInt(v, 10, 64); err == nil || v == "true" {
					written = v
				}
				_, _, err := Parse("f", []byte(keyCase{table: r.table, key: r.key}.one(written)))
				want := "f:3: " + r.table + "." + r.key + ": " + written + " is not supported yet, accepted: "
				if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
					t.Errorf("%s.%s = %s: got %v, want %s…", r.table, r.key, written, err, want)
				}
			}
			continue
		}
		_, _, err := Parse("f", []byte(file))
		if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), want) {
			t.Errorf("%s %s: got %v, want %s", r.table, r.key, err, want)
		}
	}
}

// A row of crypto/suite is something that the build can run.
func TestNotYetIsNotInSuite(t *testing.T) {
	able := map[string]func(string) bool{
		"dh-group": func(n string) bool { return suite.GroupByName(n) != nil }, "pfs-group": func(n string) bool { return suite.GroupByName(n) != nil },
		"enc-algorithm":   func(n string) bool { return suite.EncrByIKEName(n) != nil },
		"enc-algorithms":  func(n string) bool { return suite.EncrByName(n) != nil },
		"auth-algorithms": func(n string) bool { return suite.IntegByName(n) != nil }, "hash-algorithm": func(n string) bool { return suite.IntegByName(n) != nil },
	}
	for _, r := range notYet {
		for _, v := range r.values {
			if is := able[r.key]; is != nil && is(v) {
				t.Errorf("%s.%s: %q is a row of crypto/suite, delete it from notYet", r.table, r.key, v)
			}
		}
	}
}

// ownNames are the names of this build that the list of configuration names does
// not have. secret-file stands in its text, below the table.
var ownNames = map[string][]string{
	"gateway":     {"df", "clamp-mss", "dscp", "stranger-memory"},
	"profile":     {"resumption"},
	"proposal":    {"tfc", "tfc-dummies"},
	"peer":        {"childless", "natt-port", "on-demand", "redirect", "redirect-above"},
	"identity":    {"password-file", "ppk-secret-file", "redirect", "remote-auth-method", "secret-file"},
	"certificate": {"crl-max-age", "crl-policy", "ocsp"},
	"user":        {"password-file"},
}

// listedTable is a row of the list of configuration names: its keys, with the values
// that are given behind a key ("encapsulation" detect|udp|raw).
type listedTable struct {
	name   string
	array  bool
	keys   []string
	values map[string][]string
}

// listed reads the rows of the list's table.
func listed(t *testing.T) (all []listedTable) {
	row := regexp.MustCompile("(?m)^\\| `(\\[+)([a-z0-9-]+)\\]+` \\|(.*)\\|$")
	name := regexp.MustCompile("`([a-z0-9-]+)`(?: ([a-z0-9]+(?:\\\\?\\|[a-z0-9]+)+))?")
	for _, m := range row.FindAllStringSubmatch(string(vectors.Shared(t, "config.md")), -1) {
		table := listedTable{name: m[2], array: m[1] == "[[", values: map[string][]string{}}
		for _, q := range name.FindAllStringSubmatch(m[3], -1) {
			// The row of profile names algorithms beside keys.
			if m[2] == "profile" && (slices.Contains(ikeNames(), q[1]) || slices.Contains(groupNames(), q[1]) || strings.HasPrefix(q[1], "ml-kem-")) {
				continue
			}
			table.keys = append(table.keys, q[1])
			if q[2] != "" {
				table.values[q[1]] = strings.Split(strings.ReplaceAll(q[2], "\\", ""), "|")
			}
		}
		all = append(all, table)
	}
	return all
}

// Every name of the list of configuration names is accepted, or refused as one that
// is not supported yet; and what is accepted beyond the list is known as ours.
func TestListedNames(t *testing.T) {
	keys, values := 0, 0
	list := listed(t)
	for _, row := range list {
		i := slices.IndexFunc(tables, func(t table) bool { return t.name == row.name })
		if i < 0 {
			if !tableNotYet(row.name) {
				t.Errorf("table %s is unknown: add a row to notYet", row.name)
			}
			continue
		}
		if tables[i].array != row.array {
			t.Errorf("%s is a table of the other kind in the list", tables[i].header())
		}
		for _, key := range row.keys {
			keys++
			if !slices.Contains(tables[i].keys, key) && !keyNotYet(row.name, key) {
				t.Errorf("%s.%s is unknown: add a row to notYet", row.name, key)
			}
			for _, v := range row.values[key] {
				values++
				_, _, err := Parse("f", []byte(keyCase{table: row.name, key: key}.one(strconv.Quote(v))))
				if err != nil && !strings.Contains(err.Error(), "not supported yet") {
					t.Errorf("%s.%s = %q: %v", row.name, key, v, err)
				}
			}
		}
		for _, key := range tables[i].keys {
			if common := slices.Contains([]string{"name", "comment", "disabled"}, key); !common && !slices.Contains(row.keys, key) && !slices.Contains(ownNames[row.name], key) {
				t.Errorf("%s.%s is accepted and not in the list: add it to ownNames if it is meant", row.name, key)
			}
		}
		for _, key := range ownNames[row.name] {
			if slices.Contains(row.keys, key) || !slices.Contains(tables[i].keys, key) {
				t.Errorf("%s.%s does not belong in ownNames: it is in the list, or not accepted", row.name, key)
			}
		}
	}
	for _, own := range tables {
		if !slices.ContainsFunc(list, func(row listedTable) bool { return row.name == own.name }) {
			t.Errorf("table %s is not in the list", own.name)
		}
	}
	if len(list) < 18 || keys < 100 || values < 9 {
		t.Errorf("only %d tables, %d keys and %d values were found in the list: its form has changed", len(list), keys, values)
	}
}
