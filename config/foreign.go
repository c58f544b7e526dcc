package config

import (
	"regexp"
	"strings"
)

// foreign is a format of another tool that users give to `culvert check`.
type foreign struct {
	pattern *regexp.Regexp // of a line that no other format has
	is      string         // what the file is
	advice  string         // where its parts go here
}

// foreignFormats are tried in this order, each on every line.
var foreignFormats = []foreign{
	{regexp.MustCompile(`^\s*/(ip|ipv6) (ipsec|address|pool|firewall|route)\b|^# .*\bby RouterOS\b`), "a RouterOS export",
		"each menu is a table with the same properties: `/ip ipsec peer` becomes [[peer]], `add name=x` becomes name = \"x\""},
	{regexp.MustCompile(`^\s*(connections|secrets|pools|authorities)\s*\{`), "a swanctl.conf of strongSwan",
		"a connection becomes [[peer]] and [[profile]], its local and remote sections [[identity]], a child [[policy]] and [[proposal]]"},
	{regexp.MustCompile(`^config setup\b|^conn\s+\S+`), "an ipsec.conf of strongSwan or libreswan",
		"a conn becomes [[peer]], [[profile]], [[proposal]] and [[policy]], and its secret in ipsec.secrets [[identity]]"},
	{regexp.MustCompile(`^[^#=]*:\s+(PSK|RSA|ECDSA|EAP|XAUTH|P12|PKCS8)\s`), "an ipsec.secrets of strongSwan or libreswan",
		"a PSK becomes secret in [[identity]], a private key key-file in [[certificate]]"},
	{regexp.MustCompile(`^\s*(remote|sainfo)\s+\S+.*\{|^\s*path\s+(pre_shared_key|certificate)\b`), "a racoon.conf",
		"remote becomes [[peer]] and [[profile]], sainfo [[policy]] and [[proposal]], psk.txt [[identity]]"},
	{regexp.MustCompile(`^\s*\[Interface\]|^\s*\[Peer\]`), "a WireGuard configuration",
		"WireGuard is another protocol, and its keys cannot be used: the other end needs IPsec, too"},
	{regexp.MustCompile(`^\s*(dev\s+tun|remote\s+\S+\s+\d+|<ca>|tls-client)\s*$`), "an OpenVPN configuration",
		"OpenVPN is another protocol: the other end needs IPsec, too"},
	{regexp.MustCompile(`^\s*crypto\s+(isakmp|ikev2|ipsec|map)\b`), "a Cisco configuration",
		"an IKEv2 policy becomes [[profile]], a transform set [[proposal]], a crypto map [[peer]] and [[policy]]"},
	{regexp.MustCompile(`^-----BEGIN `), "a PEM file",
		"name it in [[certificate]] with file or key-file"},
	{regexp.MustCompile(`^\s*\{\s*$|^\s*\{"`), "JSON", "the same names are used in TOML: key = value, and [[table]] for each entry of a list"},
}

// foreignFormat names the format of a file that is not TOML. Not ok: it is not known.
func foreignFormat(data []byte) (f foreign, ok bool) {
	lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
	for _, f := range foreignFormats {
		for _, line := range lines {
			if f.pattern.MatchString(strings.TrimRight(line, "\r")) {
				return f, true
			}
		}
	}
	return foreign{}, false
}
