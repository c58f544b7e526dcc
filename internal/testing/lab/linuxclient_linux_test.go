package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The manual's Linux client of its server of road warriors: ipsec.conf and ipsec.secrets as they are printed there.
const (
	manualIPsecConf = `conn "ikev2"
	keyexchange=ikev2
	ike=aes128-sha1-modp2048
	esp=aes128-sha1
	leftsourceip=%modeconfig
	leftcert=strongSwan_client.p12
	leftfirewall=yes
	right=2.2.2.2
	rightid="CN=2.2.2.2"
	rightsubnet=0.0.0.0/0
	auto=add
`
	manualIPsecSecrets = `: P12 strongSwan_client.p12 "1234567890"
`
	// manualCertificates makes what the manual makes: a CA, and certificates of the server and of the client, that as PKCS #12.
	manualCertificates = `set -e; cd "$1"
ca() { openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca; }
leaf() {
	openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
	printf 'extendedKeyUsage=%s\nsubjectAltName=%s\n' "$3" "$4" > "$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
	cat "$1.crt" "$1.key" > "$1.pem"; chmod 600 "$1.pem"
}
ca; leaf server1 2.2.2.2 serverAuth IP:2.2.2.2; leaf client rw-client1 clientAuth email:rw-client1
openssl pkcs12 -export -in client.crt -inkey client.key -certfile ca.pem -passout pass:1234567890 -out strongSwan_client.p12`
	// runStarter is "ipsec restart" and "ipsec up ikev2", with the lab's files in the place of the computer's. What leftcert names has to be
	// a certificate, and strongSwan 5.9.8 reads none from PKCS #12: the certificate itself is there under that name.
	runStarter = `set -e
for d in aacerts acerts cacerts certs crls ocspcerts private; do mkdir -p "$1/ipsec.d/$d"; done
cp "$1/strongSwan_client.p12" "$1/ipsec.d/private/"
cp "$1/client.crt" "$1/ipsec.d/certs/strongSwan_client.p12"
for f in ipsec.conf ipsec.secrets ipsec.d strongswan.conf; do mount --bind "$1/$f" "/etc/$f"; done
/usr/lib/ipsec/starter --nofork --daemon charon &
until [ -S /run/charon.ctl ]; do sleep 0.1; done
sleep 1
ipsec up ikev2
echo "ipsec up: done"
wait`
	starterConf = `charon {
	load = random nonce aes sha1 sha2 hmac kdf pem pkcs1 pkcs7 pkcs8 pkcs12 x509 constraints pubkey openssl kernel-libipsec kernel-netlink socket-default stroke updown
	filelog {
		stderr {
			default = 1
			cfg = 2
			flush_line = yes
		}
	}
}
`
)

func TestManualLinuxClient(t *testing.T) {
	Need(t)
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	office, client := l.Node("office"), l.Node("client")
	l.Wire(End{office, "eth0", netip.MustParsePrefix("2.2.2.2/24")}, End{client, "eth0", netip.MustParsePrefix("2.2.2.9/24")})
	inside := netip.MustParseAddr("10.5.8.1")
	office.Inner(inside)
	dir := t.TempDir()
	for name, text := range map[string]string{"ipsec.conf": manualIPsecConf, "ipsec.secrets": manualIPsecSecrets, "strongswan.conf": starterConf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run("sh", "-c", manualCertificates, "sh", dir); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	gate := office.Culvert(ctx, "", ManualServer(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server1.pem"), "", ""))
	s := client.Start("starter", nil, "sh", "-c", runStarter, "sh", dir)
	if err := Until(ctx, func() error {
		if !strings.Contains(s.Log(), "ipsec up: done") {
			return errors.New("ipsec up does not end")
		}
		return nil
	}); err != nil || !strings.Contains(s.Log(), "connection 'ikev2' established successfully") {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	rows, err := gate.Print(ctx, "active-peers")
	if err != nil || len(rows) != 1 || rows[0].Text("dynamic-address") != "192.168.77.2" {
		t.Fatalf("active-peers %v: %v", rows, err)
	}
	const size = 200_000
	if err := client.Transfer(ctx, netip.MustParseAddr("192.168.77.2"), office, inside, size); err != nil {
		t.Fatal(err)
	}
	sas, err := gate.Print(ctx, "installed-sa")
	if err != nil || len(sas) != 2 {
		t.Fatalf("installed-sa %v: %v", sas, err)
	}
	for _, r := range sas {
		if r.Text("enc-algorithm") != "aes-cbc" || r.Number("enc-key-size") != 128 || r.Text("auth-algorithm") != "sha1" || r.Number("current-bytes") < size {
			t.Errorf("SA %v", r)
		}
	}
}
