//go:build linux

package interop

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/internal/testing/lab"
	"culvert/internal/testing/testcert"
)

// The clients of the manual's server of road warriors with certificates, each
// with the proposals that the manual says it has. strongSwan plays them.

// client is one system.
type client struct {
	name string
	id   string // as strongSwan writes it
	gate string // whom it asks for
	ike  []ikeSuite
	esp  []espSuite
	// offer is strongSwan's proposals of the IKE SA where they are more than ike lists.
	offer string

	// What comes of the manual's server with profile and proposal as they are by default.
	wantIKE ikeSuite
	wantESP espSuite
}

const (
	clientDN = `"O=Culvert tests, CN=rw-client1"`
	gateDN   = `"O=Culvert tests, CN=10.9.0.1"`
)

var (
	windowsIKE = []ikeSuite{
		{tripleDES, sha1, modp1024}, {tripleDES, sha256, modp1024},
		{aes128, sha1, modp1024}, {aes128, sha256, modp1024},
		{aes192, sha1, modp1024}, {aes192, sha256, modp1024},
		{aes256, sha1, modp1024}, {aes256, sha256, modp1024},
		{aes128gcm, sha1, modp1024}, {aes128gcm, sha256, modp1024},
		{aes256gcm, sha1, modp1024}, {aes256gcm, sha256, modp1024},
	}
	windowsESP = []espSuite{{aes256, sha1, noPFS}, {aes128, sha1, noPFS}, {tripleDES, sha1, noPFS}, {des, sha1, noPFS}, {null, sha1, noPFS}}
	appleIKE   = []ikeSuite{
		{aes256, sha256, modp2048}, {aes256, sha256, ecp256}, {aes256, sha256, modp1536},
		{aes128, sha1, modp1024}, {tripleDES, sha1, modp1024},
	}
	appleESP = []espSuite{{aes256, sha256, noPFS}, {aes128, sha1, noPFS}, {tripleDES, sha1, noPFS}}
	// Every hash and every length of AES with each group: these rows have each once.
	androidIKE = []ikeSuite{
		{aes128, sha1, modp2048}, {aes192, sha256, ecp256}, {aes256, sha384, ecp384}, {aes256, sha512, ecp521},
		{aes128, sha256, modp3072}, {aes192, sha384, modp4096}, {aes256, sha512, modp6144}, {aes128, sha512, modp8192},
		{aes128gcm, sha1, modp2048}, {aes192gcm, sha256, ecp256}, {aes256gcm, sha384, ecp384}, {aes256gcm, sha512, ecp521},
		{aes128gcm, sha256, modp3072}, {aes192gcm, sha384, modp4096}, {aes256gcm, sha512, modp6144}, {aes128gcm, sha512, modp8192},
	}
	androidESP = []espSuite{
		{aes256gcm, sha256, noPFS}, {aes128gcm, sha256, noPFS},
		{aes256, sha256, noPFS}, {aes256, sha512, noPFS}, {aes256, sha1, noPFS},
		{aes192, sha256, noPFS}, {aes192, sha512, noPFS}, {aes192, sha1, noPFS},
		{aes128, sha256, noPFS}, {aes128, sha512, noPFS}, {aes128, sha1, noPFS},
	}
)

const androidGroups = "modp2048-ecp256-ecp384-ecp521-modp3072-modp4096-modp6144-modp8192"

func clientCells() []cell {
	const g = "Clients as the manual lists them, with certificates and an address from a pool"
	var cs []cell
	for _, c := range []client{
		{"windows", clientDN, "10.9.0.1", windowsIKE, windowsESP, "",
			ikeSuite{aes128, sha1, modp1024}, espSuite{aes256, sha1, noPFS}},
		{"macos", "rw-client2", "10.9.0.1", appleIKE, appleESP, "",
			ikeSuite{aes128, sha1, modp1024}, espSuite{aes128, sha1, noPFS}},
		{"ios", "rw-client2", "10.9.0.1", appleIKE, appleESP, "",
			ikeSuite{aes128, sha1, modp1024}, espSuite{aes128, sha1, noPFS}},
		{"android", clientDN, "10.9.0.1", androidIKE, androidESP,
			"aes128-aes192-aes256-sha1-sha256-sha384-sha512-" + androidGroups +
				", aes128gcm16-aes192gcm16-aes256gcm16-prfsha1-prfsha256-prfsha384-prfsha512-" + androidGroups,
			ikeSuite{aes128, sha1, modp2048}, espSuite{aes256, sha1, noPFS}},
		{"linux", clientDN, gateDN, []ikeSuite{{aes128, sha1, modp2048}}, []espSuite{{aes128, sha1, noPFS}}, "",
			ikeSuite{aes128, sha1, modp2048}, espSuite{aes128, sha1, noPFS}},
	} {
		cs = append(cs, cell{group: g, name: c.name, theyInitiate: true, ike: c.wantIKE, esp: c.wantESP, limit: 6 * time.Minute, scene: c.run,
			event: event{name: fmt.Sprintf("the server's defaults, then each of %d rows of phase 1 and %d of phase 2 alone", len(c.ike), len(c.esp))}})
	}
	return cs
}

// clientFiles makes the manual's certificates: of the authority, of the server,
// and of clients with and without a subject alternative name. It returns our
// folder and strongSwan's files.
var clientFiles = sync.OnceValues(func() (string, map[string][]byte) {
	ca := testcert.Root("ca", "rsa-2048")
	server := ca.Leaf("10.9.0.1", "rsa-2048", testcert.IP("10.9.0.1"), testcert.EKU(x509.ExtKeyUsageServerAuth))
	key := testcert.Key("rsa-2048")
	plain := ca.Again("rw-client1", key, testcert.EKU(x509.ExtKeyUsageClientAuth))
	named := ca.Again("rw-client2", key, testcert.EKU(x509.ExtKeyUsageClientAuth), testcert.DNS("rw-client2"))
	dir := filepath.Join(authDir(), "clients")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	for name, data := range map[string][]byte{"ca.pem": ca.PEM(), "server1.pem": append(server.PEM(), server.KeyPEM()...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			panic(err)
		}
	}
	return dir, map[string][]byte{"x509ca/ca.pem": ca.PEM(), "private/client.pem": plain.KeyPEM(),
		"x509/rw-client1.pem": plain.PEM(), "x509/rw-client2.pem": named.PEM()}
})

// manualServer is the manual's server of road warriors with RSA authentication;
// profile and proposal are lines beside what the manual writes.
func manualServer(profile, proposal string) string {
	dir, _ := clientFiles()
	return lab.ManualServer(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server1.pem"), profile, proposal)
}

// swanctl is strongSwan in the client's place.
func (c client) swanctl() string {
	var ike, esp []string
	for _, s := range c.ike {
		ike = append(ike, s.proposal())
	}
	for _, s := range c.esp {
		esp = append(esp, s.proposal())
	}
	if c.offer != "" {
		ike = []string{c.offer}
	}
	cert := "rw-client1.pem"
	if c.id == "rw-client2" {
		cert = "rw-client2.pem"
	}
	return fmt.Sprintf(`connections {
	t {
		version = 2
		remote_addrs = 10.9.0.1
		vips = 0.0.0.0
		proposals = %s
		local {
			auth = pubkey
			certs = %s
			id = %s
		}
		remote {
			auth = pubkey
			id = %s
		}
		children {
			c {
				remote_ts = 0.0.0.0/0
				esp_proposals = %s
			}
		}
	}
}
`, strings.Join(ike, ", "), cert, c.id, c.gate, strings.Join(esp, ", "))
}

// profile and proposal of culvert that allow one row and nothing else.
func (s ikeSuite) profile() string {
	return fmt.Sprintf("enc-algorithm = %q\nhash-algorithm = %q\ndh-group = %q\n", s.encr.ike, s.hash.name, s.dh.name)
}

func (s espSuite) settings() string {
	return fmt.Sprintf("enc-algorithms = %q\n%s", s.encr.esp, setting("auth-algorithms", s.authAlgorithms()))
}

func (c client) run(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "office", "client")
	office, node := nodes[0], nodes[1]
	office.Inner(netip.MustParseAddr(officeHost))
	us := office.Culvert(ctx, "", manualServer("", ""))
	tell(t, us)
	_, files := clientFiles()
	node.SwanctlFiles(files)
	s := node.StrongSwan(ctx, c.swanctl())

	connect := func(ike ikeSuite, esp espSuite) {
		t.Helper()
		if err := s.InitiateChild(ctx, "c"); err != nil {
			t.Fatalf("%v, %v: %v", ike, esp, err)
		}
		sas, err := s.SAs(ctx)
		if err != nil || len(sas) != 1 || len(sas[0].Children) != 1 {
			t.Fatalf("%v, %v: SAs %v, %v", ike, esp, sas, err)
		}
		child := sas[0].Children[0]
		if err := ike.reported(sas[0]); err != nil {
			t.Error(err)
		}
		if err := esp.reported(child, ""); err != nil {
			t.Error(err)
		}
		if got := strings.Join(child.LocalTS, ",") + " " + strings.Join(child.RemoteTS, ","); got != "192.168.77.2/32 0.0.0.0/0" {
			t.Errorf("selectors %s", got)
		}
		if err := node.Transfer(ctx, host(child.LocalTS[0]), office, netip.MustParseAddr(officeHost), payload/16); err != nil {
			t.Fatalf("%v, %v: %v", ike, esp, err)
		}
	}
	connect(c.wantIKE, c.wantESP)
	for i := range max(len(c.ike), len(c.esp)) {
		if err := s.TerminateIKE(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		ike, esp := c.ike[i%len(c.ike)], c.esp[i%len(c.esp)]
		us.Configure("", manualServer(ike.profile(), esp.settings()))
		if err := us.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		connect(ike, esp)
	}
}
