package compile

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/ike/core"
	"culvert/spd"
	"culvert/spd/selector"
	"culvert/tun"
)

var ports = [2]uint16{500, 4500}

// The manual's site-to-site example with IKEv2 (site 1), and entries of every
// kind that take no part.
const manual = `
[[profile]]
name = "ike2-site2"
dh-group = ["modp2048"]
enc-algorithm = ["aes-128"]

[[proposal]]
name = "ike2-site2"
enc-algorithms = ["aes-128-cbc"]
pfs-group = "modp2048"

[[peer]]
name = "site2"
address = "192.168.80.1/32"
exchange-mode = "ike2"
profile = "ike2-site2"

[[peer]]
name = "asleep"
address = "192.168.80.2/32"
exchange-mode = "ike2"
profile = "ike2-site2"
disabled = true

[[identity]]
peer = "site2"
secret = "thisisnotasecurepsk"
my-id = "fqdn:site1.example.net"
remote-id = "address:192.168.80.1"

[[policy]]
src-address = "10.1.202.0/24"
dst-address = "10.1.101.7/32"
action = "discard"
protocol = "tcp"
dst-port = 23

[[policy]]
peer = "site2"
src-address = "10.1.202.0/24"
dst-address = "10.1.101.0/24"
tunnel = true
proposal = "ike2-site2"
level = "unique"

[[policy]]
peer = "site2"
src-address = "10.1.202.0/24"
dst-address = "10.1.101.0/24"
tunnel = true
proposal = "ike2-site2"
comment = "invalid: the same selectors"

[[policy]]
peer = "site2"
src-address = "10.1.203.0/24"
dst-address = "10.1.101.0/24"
tunnel = true
proposal = "ike2-site2"
disabled = true
`

func TestCompileTheManualsExample(t *testing.T) {
	got := compiled(t, manual, nil)
	peer := &core.Peer{
		Name: "site2", Address: netip.MustParsePrefix("192.168.80.1/32"), Port: 500, NATTPort: 4500, Version: core.IKEv2, InitialContact: true,
		Profile: core.Profile{
			Name: "ike2-site2", Encrs: []*suite.Encr{suite.EncrByIKEName("aes-128")}, PRFs: []*suite.PRF{suite.PRFByName("sha1")},
			Integs: []*suite.Integ{suite.IntegByName("sha1")}, Groups: []*suite.Group{suite.GroupByName("modp2048")},
			Lifetime: 24 * time.Hour, DPD: 2 * time.Minute, Fragmentation: true, MOBIKE: true,
		},
		Identities: []*core.Identity{{
			Auth: core.AuthPSK, RemoteAuth: core.AuthPSK, MyID: core.ID{Type: core.IDFQDN, Data: "site1.example.net"},
			RemoteID: core.ID{Type: core.IDIPv4, Data: "\xc0\xa8\x50\x01"}, Secret: []byte("thisisnotasecurepsk"),
		}},
	}
	pair := selector.Pair{
		Local:  selector.FromPrefix(netip.MustParsePrefix("10.1.202.0/24")),
		Remote: selector.FromPrefix(netip.MustParsePrefix("10.1.101.0/24")),
	}
	want := &core.Config{Lines: 1,
		Peers: []*core.Peer{peer},
		Policies: []*core.Policy{{
			Ref: 2, Index: 2, Peer: peer, Pair: pair, Tunnel: true, Unique: true, Protocol: core.ProtoESP,
			Proposal: core.Proposal{
				Name: "ike2-site2", Encrs: []*suite.Encr{suite.EncrByName("aes-128-cbc")}, Integs: []*suite.Integ{suite.IntegByName("sha1")},
				PFS: []suite.KeyExchange{{Group: suite.GroupByName("modp2048")}}, ESN: []bool{true, false}, Lifetime: 30 * time.Minute, ReplayWindow: 128,
			},
		}},
		Ours:    []netip.Prefix{netip.MustParsePrefix("10.1.202.0/24")},
		IKEPort: 500, NATTPort: 4500, Trust: &core.Trust{}, Encapsulation: core.EncapDetect, StrangerBytes: 52 << 20,
	}
	got.IKE.Where = nil // functions are never equal
	if !reflect.DeepEqual(got.IKE, want) {
		t.Errorf("IKE:\ngot  %+v\nwant %+v", got.IKE, want)
	}
	telnet := selector.Pair{Local: pair.Local, Remote: selector.FromPrefix(netip.MustParsePrefix("10.1.101.7/32"))}
	telnet.Local.Proto, telnet.Remote.Proto = 6, 6
	telnet.Remote.PortLo, telnet.Remote.PortHi = 23, 23
	if want := []spd.Policy{
		{Ref: 1, Pair: telnet, Action: spd.Discard},
		{Ref: 2, Pair: pair, Action: spd.Encrypt, Level: spd.Unique, Tunnel: true},
	}; !reflect.DeepEqual(got.Policies, want) {
		t.Errorf("SPD:\ngot  %+v\nwant %+v", got.Policies, want)
	}
	if plan, want := got.Plan(func(core.PolicyRef) bool { return false }), (tun.Plan{
		Routes: []tun.Route{
			{Local: netip.MustParsePrefix("10.1.202.0/24"), Remote: netip.MustParsePrefix("10.1.101.7/32"), Proto: 6, RemotePort: 23},
			{Local: netip.MustParsePrefix("10.1.202.0/24"), Remote: netip.MustParsePrefix("10.1.101.0/24")},
		},
		Bypass: []uint16{500, 4500}, Protocols: []uint8{50, 51}, LANBypass: true, MTU: 1422,
	}); !reflect.DeepEqual(plan, want) {
		t.Errorf("plan:\ngot  %+v\nwant %+v", plan, want)
	}
}

// What a change to the configuration does to the refs of the two policies (the
// first discards) and to the pointers that the endpoint compares.
func TestRefsOverReloads(t *testing.T) {
	policy := "\n[[policy]]\npeer = \"site2\"\nsrc-address = \"10.9.0.0/16\"\ndst-address = \"10.8.0.0/16\"\ntunnel = true\nproposal = \"ike2-site2\"\n"
	first := strings.Index(manual, "[[policy]]")
	for _, c := range []struct {
		name     string
		next     string
		refs     []uint32
		peer     bool // stays the same pointer
		encrypts bool // so does the policy that encrypts first in the old one
	}{
		{"nothing", manual, []uint32{1, 2}, true, true},
		{"a comment", strings.Replace(manual, `action = "discard"`, "action = \"discard\"\ncomment = \"x\"", 1), []uint32{1, 2}, true, true},
		{"a policy below", manual + policy, []uint32{1, 2, 3}, true, true},
		{"a policy above", manual[:first] + policy + manual[first:], []uint32{3, 1, 2}, true, false},
		{"the level", strings.Replace(manual, `level = "unique"`, "", 1), []uint32{1, 3}, true, false},
		{"the proposal", strings.Replace(manual, `enc-algorithms = ["aes-128-cbc"]`, `enc-algorithms = ["aes-256-cbc"]`, 1), []uint32{1, 3}, true, false},
		{"the profile", strings.Replace(manual, `enc-algorithm = ["aes-128"]`, `enc-algorithm = ["aes-256"]`, 1), []uint32{1, 3}, false, false},
		{"the secret", strings.Replace(manual, "thisisnotasecurepsk", "neitheristhis", 1), []uint32{1, 3}, false, false},
		{"another peer awake", strings.Replace(manual, "disabled = true", "", 1), []uint32{1, 2}, true, true},
		{"the peer asleep", strings.Replace(manual, "name = \"site2\"", "name = \"site2\"\ndisabled = true", 1), []uint32{1, 3}, false, false},
		{"the port discarded", strings.Replace(manual, "dst-port = 23", "dst-port = 24", 1), []uint32{3, 2}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := compiled(t, manual, nil)
			next := compiled(t, c.next, old)
			var refs []uint32
			for _, p := range next.Policies {
				refs = append(refs, p.Ref)
			}
			if !reflect.DeepEqual(refs, c.refs) {
				t.Errorf("refs %v, want %v", refs, c.refs)
			}
			if same := len(next.IKE.Peers) > 0 && next.IKE.Peers[0] == old.IKE.Peers[0]; same != c.peer {
				t.Errorf("the peer is the same: %v", same)
			}
			if same := next.ByRef[2] != nil && next.ByRef[2] == old.ByRef[2]; same != c.encrypts {
				t.Errorf("the policy is the same: %v", same)
			}
			// And back: what was taken away gets another ref, never one that was used.
			for _, p := range compiled(t, manual, next).Policies {
				for _, was := range next.Policies {
					if p.Ref == was.Ref && (p.Pair != was.Pair || p.Action != was.Action || p.Level != was.Level) {
						t.Errorf("ref %d names two policies: %+v and %+v", p.Ref, p, was)
					}
				}
			}
		})
	}
}

// The device's MTU, where nothing is said of it, leaves room for what is around a
// packet in the longest of the ways that the configuration allows.
func TestAutoMTU(t *testing.T) {
	const gcm, cbc, old = `["aes-256-gcm"]`, `["aes-256-cbc"]`, `["3des"]`
	proposal := func(enc, auth string) string {
		return "[[proposal]]\nname = \"default\"\nenc-algorithms = " + enc + "\nauth-algorithms = \"" + auth + "\"\n"
	}
	policy := func(protocols, remote string) string {
		local := "10.9.0.1"
		if strings.Contains(remote, ":") {
			local = "2001:db8::1"
		}
		return "[[policy]]\nsrc-address = \"10.1.0.0/24\"\ndst-address = \"10.2.0.0/24\"\nsa-src-address = \"" + local + "\"\nsa-dst-address = \"" + remote + "\"\ntunnel = true\nipsec-protocols = " + protocols + "\n"
	}
	const esp, ah, both, v4, v6 = `["esp"]`, `["ah"]`, `["ah", "esp"]`, "10.9.0.2", "2001:db8::2"
	far := func(a netip.Addr) int { return map[string]int{v4: 1420, v6: 9000}[a.String()] }
	for _, c := range []struct {
		toml string
		link func(netip.Addr) int
		want int
	}{
		{"", nil, 1400},
		{"[gateway]\nmtu = 1234\n" + policy(esp, v4), far, 1234},
		{proposal(gcm, "null") + policy(esp, v4), nil, 1500 - 20 - 8 - 8 - 8 - 16 - 2},
		{"[gateway]\nencapsulation = \"raw\"\n" + proposal(gcm, "null") + policy(esp, v4), nil, 1446},
		{proposal(gcm, "null") + policy(esp, v6), nil, 1418},
		{proposal(cbc, "sha512") + policy(esp, v4), nil, (1500-20-8-8-16-32)&^15 - 2},
		{proposal(`["aes-256-gcm", "3des"]`, "sha1") + policy(esp, v4), nil, (1500-20-8-8-8-12)&^7 - 2},
		{proposal(cbc, "sha512") + policy(ah, v4), nil, 1500 - 20 - 48},
		{proposal(cbc, "sha512") + policy(both, v6), nil, (1500-40-48-8-16-32)&^15 - 2},
		{proposal(cbc, "sha512") + policy(both, v6) + "disabled = true\n", nil, 1400},
		// What links take, but not more than is usual, nor less than IPv6 needs.
		{proposal(gcm, "null") + policy(esp, v4), far, 1420 - 62},
		{proposal(gcm, "null") + policy(esp, v6), far, 1418},
		{proposal(gcm, "null") + policy(esp, v4), func(netip.Addr) int { return 600 }, 1280},
		{proposal(old, "sha1") + "[[peer]]\nname = \"p\"\nexchange-mode = \"ike2\"\naddress = \"vpn.example\"\n[[identity]]\npeer = \"p\"\nsecret = \"x\"\n" +
			"[[policy]]\nsrc-address = \"10.1.0.0/24\"\ndst-address = \"10.2.0.0/24\"\npeer = \"p\"\ntunnel = true\n", far, (1500-40-8-8-8-12)&^7 - 2},
		{proposal(gcm, "null") + policy(esp, v4), func(netip.Addr) int { return 1 }, 1280},
		{proposal(gcm, "null") + policy(esp, v4), func(netip.Addr) int { return 0 }, 1438},
		{proposal(gcm, "null") + policy(esp, v4) + "[[peer]]\nname = \"net\"\nexchange-mode = \"ike2\"\naddress = \"192.0.2.0/24\"\n[[identity]]\npeer = \"net\"\nsecret = \"x\"\n",
			func(a netip.Addr) int { return map[string]int{"192.0.2.0": 1300}[a.String()] }, 1438}, // a network is not looked up
		{proposal(gcm, "null") + "[[peer]]\nname = \"p\"\nexchange-mode = \"ike2\"\npassive = true\n[[identity]]\npeer = \"p\"\nsecret = \"x\"\ngenerate-policy = \"port-strict\"\n", far, 1438},
	} {
		if got := MTU(parse(t, c.toml), c.link); got != c.want {
			t.Errorf("MTU %d, want %d, of\n%s", got, c.want, c.toml)
		}
	}
}

// What the device lets through fits through an SA of each algorithm, to the byte.
func TestAutoMTUFits(t *testing.T) {
	for i := range suite.Encrs {
		for j := range suite.Integs {
			e, a := &suite.Encrs[i], &suite.Integs[j]
			p := &config.Policy{IPsecProtocols: []string{"esp"}, Proposal: &config.Proposal{Encrs: []*suite.Encr{e}}}
			x := esp.Params{SPI: 256, Encr: e, EncKey: make([]byte, e.MaterialLen())}
			if !e.AEAD() {
				p.Proposal.Integs, x.Integ, x.IntegKey = []*suite.Integ{a}, a, make([]byte, a.KeyLen)
			}
			tr, err := esp.New(x)
			if err != nil {
				t.Fatal(e.Name, a.Name, err)
			}
			for size := 1400; size < 1432; size++ {
				if got, want := largest(p, size, false), tr.MaxPayload(size); got != want {
					t.Fatalf("%s %s in %d bytes: %d, want %d", e.Name, a.Name, size, got, want)
				}
			}
		}
	}
}

func compiled(t *testing.T, text string, prev *Result) *Result {
	t.Helper()
	r, err := Compile(parse(t, text), ports, prev)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, _, err := config.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
