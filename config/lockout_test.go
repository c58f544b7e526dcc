package config

import (
	"net/netip"
	"strings"
	"testing"
)

func faultText(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "f:", "")
}

// A policy for packets of a network to itself takes the network away from this host:
// what the administrator's own connection needs is encrypted for somebody, or dropped.
func TestSameAddresses(t *testing.T) {
	const both = "src-address = '10.1.0.0/16'\ndst-address = '10.1.0.0/16'\n"
	const wanted = "19: policy.dst-address: 10.1.0.0/16 is src-address too, and hosts there could no longer reach each other or this gateway, write the network of the other side"
	for _, c := range []struct{ policy, faults string }{
		{"peer = 'a'\nproposal = 'q1'\ntunnel = true\n" + both, strings.Replace(wanted, "19", "20", 1)},
		{"peer = 'a'\nproposal = 'q1'\ntunnel = true\nprotocol = 'tcp'\ndst-port = 22\n" + both, strings.Replace(wanted, "19", "22", 1)},
		{"peer = 'a'\nproposal = 'q1'\nsrc-address = '192.0.2.7'\ndst-address = '192.0.2.7'\n",
			"19: policy.dst-address: 192.0.2.7/32 is src-address too, and hosts there could no longer reach each other or this gateway, write the network of the other side"},
		{"action = 'discard'\ncomment = 'c'\n" + both, wanted},
		{"action = 'discard'\nprotocol = 'tcp'\n" + both, wanted},
		// A port of the network's own may be closed, and what passes is no lockout.
		{"action = 'discard'\nprotocol = 'udp'\n" + both, ""},
		{"action = 'discard'\nprotocol = 'tcp'\ndst-port = 445\n" + both, ""},
		{"action = 'none'\n" + both, ""},
		{"disabled = true\nproposal = 'q1'\npeer = 'a'\ntunnel = true\n" + both, ""},
		// From everywhere to everywhere is a full tunnel, which connected networks pass by.
		{"peer = 'a'\nproposal = 'q1'\ntunnel = true\nsrc-address = '0.0.0.0/0'\ndst-address = '0.0.0.0/0'\n", ""},
		{"peer = 'a'\nproposal = 'q1'\ntunnel = true\nsrc-address = '::/0'\ndst-address = '::/0'\n", ""},
		// A template with the same addresses says what its clients may have.
		{"proposal = 'q1'\ntemplate = true\n" + both, ""},
	} {
		_, _, err := Parse("f", []byte(built(map[string]string{"policy": c.policy}, "")))
		if got := faultText(t, err); got != c.faults {
			t.Errorf("%s\n got  %s\n want %s", c.policy, got, c.faults)
		}
	}
	// In transport mode the addresses of the peer are those of the policy.
	_, _, err := Parse("f", []byte(built(map[string]string{
		"peer":   strings.Replace(sound["peer"], "name", "local-address = '192.0.2.1'\nname", 1),
		"policy": "peer = 'a'\nproposal = 'q1'\n",
	}, "")))
	if got := faultText(t, err); !strings.Contains(got, "16: policy.dst-address: 192.0.2.1/32 is src-address too") {
		t.Errorf("got %s", got)
	}
}

// What the file itself says is an address of this host is not the other side's.
func TestOwnAddresses(t *testing.T) {
	for _, c := range []struct{ more, faults string }{
		{"[gateway]\nlisten = ['192.0.2.7', '10.2.0.1']\n", "20: policy.dst-address: 10.2.0.1/32 is an address of this host (listen in [gateway]), write the network of the other side"},
		{"[gateway]\nlisten = ['0.0.0.0', '10.2.0.2']\n", ""},
		{"[[peer]]\nname = 'b'\naddress = '192.0.2.9'\nexchange-mode = 'ike2'\nlocal-address = '10.2.0.1'\nprofile = 'p1'\n[[identity]]\npeer = 'b'\nsecret = 's'\n",
			"20: policy.dst-address: 10.2.0.1/32 is an address of this host (local-address of [[peer]] \"b\"), write the network of the other side"},
	} {
		_, _, err := Parse("f", []byte(built(replaced("policy", "10.2.0.0/16", "10.2.0.1"), c.more)))
		if got := faultText(t, err); got != c.faults {
			t.Errorf("%s\n got  %s\n want %s", c.more, got, c.faults)
		}
	}
}

// Which networks a host is in only the host knows.
func TestLockouts(t *testing.T) {
	own := []OwnNetwork{
		{netip.MustParseAddr("10.1.0.1"), netip.MustParsePrefix("10.1.0.0/24"), "eth0"},
		{netip.MustParseAddr("10.2.0.1"), netip.MustParsePrefix("10.2.0.0/24"), "eth1"},
		{netip.MustParseAddr("2001:db8:1::1"), netip.MustParsePrefix("2001:db8:1::/64"), "eth0"},
		{netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("192.0.2.1/32"), "ppp0"},
		{netip.MustParseAddr("198.51.100.0"), netip.MustParsePrefix("198.51.100.0/31"), "wan"}, // the first address of both
	}
	const lan = "f:19: policy.dst-address: 10.1.0.0/24 is the network of this host's eth0, and hosts there could no longer reach it, " +
		"write the network of the other side, or put a [[policy]] above it with action = \"none\", src-address = \"10.1.0.0/24\" and dst-address = \"10.1.0.0/24\""
	const wide = "f:19: policy.dst-address: 10.0.0.0/8 contains 10.1.0.0/24, the network of this host's eth0, and hosts there could no longer reach it, " +
		"write the network of the other side, or put a [[policy]] above it with action = \"none\", src-address = \"10.1.0.0/24\" and dst-address = \"10.1.0.0/24\""
	for _, c := range []struct{ src, dst, more, faults string }{
		{"172.16.0.0/16", "10.1.0.0/24", "", lan}, // the two ends exchanged
		{"0.0.0.0/0", "10.1.0.0/24", "", lan},
		{"10.2.0.0/24", "10.1.0.0/24", "", lan},
		{"0.0.0.0/0", "10.0.0.0/8", "", wide + "\n" + strings.ReplaceAll(strings.ReplaceAll(wide, "10.1.0", "10.2.0"), "eth0", "eth1")},
		{"10.1.0.1/32", "10.0.0.0/8", "", wide},
		{"172.16.0.0/16", "192.0.2.1/32", "", "f:19: policy.dst-address: 192.0.2.1/32 is an address of this host (ppp0), write the network of the other side"},
		{"172.16.0.0/16", "10.1.0.1/32", "", "f:19: policy.dst-address: 10.1.0.1/32 is an address of this host (eth0), write the network of the other side"},
		{"2001:db8:2::/64", "2001:db8:1::/64", "", "f:19: policy.dst-address: 2001:db8:1::/64 is the network of this host's eth0, and hosts there could no longer reach it, " +
			"write the network of the other side, or put a [[policy]] above it with action = \"none\", src-address = \"2001:db8:1::/64\" and dst-address = \"2001:db8:1::/64\""},
		// A network that talks to itself passes by a policy to everything around it.
		{"10.1.0.0/24", "10.0.0.0/8", "", ""},
		{"10.1.0.0/24", "172.16.0.0/12", "", ""},
		// Full tunnels, of a site and of a client.
		{"10.1.0.0/24", "0.0.0.0/0", "", ""},
		{"10.1.0.1/32", "0.0.0.0/0", "", ""},
		{"0.0.0.0/0", "0.0.0.0/0", "", ""},
		{"172.16.0.0/16", "198.51.100.0/24", "", ""},
		{"172.16.0.0/16", "198.51.100.0/32", "", "f:19: policy.dst-address: 198.51.100.0/32 is an address of this host (wan), write the network of the other side"},
		// A host or a part of a network of ours may be at the other side.
		{"10.1.0.1/32", "10.1.0.9/32", "", ""},
		{"0.0.0.0/0", "10.1.0.128/25", "", ""},
		{"192.0.2.1/32", "192.0.2.0/24", "", ""},
		// Some traffic only, and not what administrators come by.
		{"0.0.0.0/0", "10.1.0.0/24", "protocol = 'udp'\nsrc-port = 1701\n", ""},
		{"0.0.0.0/0", "10.1.0.0/24", "protocol = 'tcp'\nsrc-port = 443\n", ""},
		{"0.0.0.0/0", "10.1.0.0/24", "protocol = 'tcp'\n", lan},
		{"0.0.0.0/0", "10.1.0.0/24", "disabled = true\n", ""},
		{"0.0.0.0/0", "10.1.0.0/24", "template = true\n", ""},
	} {
		policy := "tunnel = true\nproposal = 'q1'\nsrc-address = '" + c.src + "'\ndst-address = '" + c.dst + "'\n" + c.more
		if !strings.Contains(c.more, "template") {
			policy += "peer = 'a'\n"
		}
		cfg, _, err := Parse("f", []byte(built(map[string]string{"policy": policy}, "")))
		if err != nil {
			t.Errorf("%s => %s %s: %v", c.src, c.dst, c.more, err)
			continue
		}
		if got := cfg.Lockouts(own).Error(); got != c.faults {
			t.Errorf("%s => %s %s\n got  %s\n want %s", c.src, c.dst, c.more, got, c.faults)
		}
	}
	// A policy above that lets the network be.
	for _, c := range []struct {
		above string
		free  bool
	}{
		{"action = 'none'\nsrc-address = '10.1.0.0/24'\ndst-address = '10.1.0.0/24'\n", true},
		{"action = 'none'\nsrc-address = '0.0.0.0/0'\ndst-address = '10.1.0.0/16'\n", true},
		{"action = 'none'\nsrc-address = '10.1.0.0/24'\ndst-address = '10.1.0.0/24'\nprotocol = 'tcp'\n", false},
		{"action = 'none'\nsrc-address = '10.1.0.0/24'\ndst-address = '10.1.0.0/25'\n", false},
		{"action = 'none'\nsrc-address = '10.9.0.0/24'\ndst-address = '10.1.0.0/24'\n", false},
		{"action = 'none'\nsrc-address = '10.1.0.0/24'\ndst-address = '10.1.0.0/24'\ndisabled = true\n", false},
	} {
		policy := "[[policy]]\nsrc-address = '0.0.0.0/0'\ndst-address = '10.1.0.0/24'\naction = 'discard'\n"
		for _, order := range []string{"[[policy]]\n" + c.above + policy, policy + "[[policy]]\n" + c.above} {
			cfg, _, err := Parse("f", []byte(order))
			if err != nil {
				t.Fatal(err)
			}
			free := len(cfg.Lockouts(own)) == 0
			if want := c.free && strings.HasPrefix(order, "[[policy]]\naction = 'none'"); free != want {
				t.Errorf("%s: lets the network be %v, want %v", order, free, want)
			}
		}
	}
}
