package config

import (
	"strings"
	"testing"
)

// A configuration of another tool is named, and its secrets are not printed.
func TestForeignFormats(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"export", "# 2026-11-01 10:00:00 by RouterOS 7.20\n# software id = A\n/ip ipsec peer\nadd address=192.0.2.1/32 name=p\n/ip ipsec identity\nadd peer=p secret=hunter2\n", "a RouterOS export"},
		{"export without head", "/ip ipsec identity\r\nadd peer=p secret=hunter2\r\n", "a RouterOS export"},
		{"swanctl", "connections {\n  a {\n    version = 2\n  }\n}\nsecrets {\n  ike-1 {\n    secret = hunter2\n  }\n}\n", "a swanctl.conf of strongSwan"},
		{"ipsec.conf", "config setup\n  charondebug=\"ike 2\"\n\nconn site\n  left=%any\n", "an ipsec.conf"},
		{"libreswan", "# /etc/ipsec.d/x.conf\nconn mytunnel\n\tleft=192.0.2.1\n", "an ipsec.conf"},
		{"ipsec.secrets", "192.0.2.1 192.0.2.2 : PSK \"hunter2\"\n", "an ipsec.secrets"},
		{"racoon", "path pre_shared_key \"/etc/psk.txt\";\nremote anonymous {\n exchange_mode main;\n}\n", "a racoon.conf"},
		{"wireguard", "[Interface]\nPrivateKey = hunter2=\nAddress = 10.0.0.1/24\n\n[Peer]\nPublicKey = x=\n", "a WireGuard configuration"},
		{"openvpn", "client\ndev tun\nremote vpn.example.net 1194\n", "an OpenVPN configuration"},
		{"cisco", "crypto ikev2 proposal p\n encryption aes-gcm-256\n pre-shared-key hunter2\n", "a Cisco configuration"},
		{"pem", "-----BEGIN CERTIFICATE-----\nMIIB\n", "a PEM file"},
		{"json", "{\n  \"peer\": [ {\"name\": \"a\"} ]\n}\n", "JSON"},
	} {
		_, _, err := Parse("f", []byte(c.text))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		got := err.Error()
		if !strings.HasPrefix(got, "f: is "+c.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: %s", c.name, got)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("%s: the message has the secret: %s", c.name, got)
		}
	}
}

// TOML with a mistake stays TOML with a mistake, whatever its values contain.
func TestNoForeignFormat(t *testing.T) {
	for _, text := range []string{
		"[[peer]]\nname = \"a\nb\"\n",
		"[[peer]]\nname = \"connections {\"\ncomment = conn x\n",
		"[[certificate]]\nfile = \"\n",
		"# connections {\n[[peer]\n",
		"[gateway]\ntun = culvert0\n",
	} {
		_, _, err := Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), "is not TOML") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
