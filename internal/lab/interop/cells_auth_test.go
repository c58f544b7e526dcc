//go:build linux

package interop

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"culvert/internal/testcert"
)

// proof is how one side proves itself.
type proof struct {
	key   string // kind of key of its certificate; empty: the pre-shared key
	chain int    // intermediate authorities above it
	said  string // what strongSwan calls the method
}

// proofs is what a cell has in the place of pre-shared keys.
type proofs struct {
	we, they proof
	ours     string // lines of our [[certificate]]
	identity string // lines of our [[identity]]
	root     *testcert.Pair
	files    map[string][]byte // in strongSwan's swanctl directory
	dir      string            // of our files
}

const (
	weName   = "we.example.net"
	theyName = "they.example.net"
)

// authDir is where our certificates are; TestMain removes it.
var authDir = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "culvert-certs-")
	if err != nil {
		panic(err)
	}
	return dir
})

// keyOf makes one key of each kind for each name, since RSA keys take their time.
var keyOf = func() func(name, kind string) crypto.Signer {
	made := map[string]crypto.Signer{}
	return func(name, kind string) crypto.Signer {
		if made[name+kind] == nil {
			made[name+kind] = testcert.Key(kind)
		}
		return made[name+kind]
	}
}()

// issue makes one side's certificate and the intermediates above it.
func (p *proofs) issue(name string, side proof) (leaf *testcert.Pair, above []*testcert.Pair) {
	issuer := p.root
	for i := range side.chain {
		issuer = issuer.Intermediate(fmt.Sprintf("%s intermediate %d", name, i), "p256")
		above = append([]*testcert.Pair{issuer}, above...)
	}
	return issuer.Again(name, keyOf(name, side.key), testcert.DNS(name)), above
}

// newProofs makes the files of a cell.
func newProofs(cell string, we, they proof, ours, identity string) *proofs {
	p := &proofs{we: we, they: they, ours: ours, identity: identity, root: sharedRoot(), files: map[string][]byte{}, dir: filepath.Join(authDir(), cell)}
	write := func(name string, data []byte) {
		if err := os.MkdirAll(p.dir, 0o700); err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
			panic(err)
		}
	}
	p.files["x509ca/root.pem"] = p.root.PEM()
	write("root.pem", p.root.PEM())
	if we.key != "" {
		leaf, above := p.issue(weName, we)
		write("we.pem", append(leaf.PEM(above...), leaf.KeyPEM()...))
	}
	if they.key != "" {
		leaf, above := p.issue(theyName, they)
		p.files["x509/they.pem"], p.files["private/they.pem"] = leaf.PEM(), leaf.KeyPEM()
		for i, a := range above {
			p.files[fmt.Sprintf("x509ca/intermediate%d.pem", i)] = a.PEM()
		}
		write("they.pem", leaf.PEM())
	}
	return p
}

var sharedRoot = sync.OnceValue(func() *testcert.Pair { return testcert.Root("interop root", "p384") })

// swanctl puts the proofs into strongSwan's configuration.
func (p *proofs) swanctl(text string) string {
	if p == nil {
		return text
	}
	end := func(side string, own proof, name, certs string) {
		i := strings.Index(text, side+" {\n")
		j := i + strings.Index(text[i:], "}")
		body := "auth = psk\n"
		if own.key != "" {
			body = "auth = pubkey\n" + certs
		}
		text = text[:i] + side + " {\n\t\t\t" + body + "\t\t\tid = " + name + "\n\t\t" + text[j:]
	}
	end("local", p.they, theyName, "\t\t\tcerts = they.pem\n")
	end("remote", p.we, weName, "")
	return text
}

// toml puts them into ours.
func (p *proofs) toml(text string) string {
	if p == nil {
		return text
	}
	i := strings.Index(text, "secret = ")
	j := i + strings.Index(text[i:], "[[policy]]")
	method := func(side proof) string {
		if side.key != "" {
			return "digital-signature"
		}
		return "pre-shared-key"
	}
	identity := fmt.Sprintf("auth-method = %q\nremote-auth-method = %q\nremote-id = \"fqdn:%s\"\n%s", method(p.we), method(p.they), theyName, p.identity)
	tables := ""
	if p.we.key != "" {
		identity += "certificate = \"we\"\n"
		tables += fmt.Sprintf("[[certificate]]\nname = \"we\"\nfile = %q\n%s\n", filepath.Join(p.dir, "we.pem"), p.ours)
	} else {
		identity += fmt.Sprintf("my-id = \"fqdn:%s\"\n", weName)
	}
	if p.we.key == "" || p.they.key == "" {
		identity += fmt.Sprintf("secret = %q\n", secret)
	}
	if p.they.key != "" {
		tables += fmt.Sprintf("[[certificate]]\nname = \"root\"\nfile = %q\n\n", filepath.Join(p.dir, "root.pem"))
		if strings.Contains(p.identity, "remote-certificate") {
			tables += fmt.Sprintf("[[certificate]]\nname = \"they\"\nfile = %q\n\n", filepath.Join(p.dir, "they.pem"))
		}
	}
	return text[:i] + identity + "\n" + tables + text[j:]
}

// check reads in strongSwan's log by which methods each side proved itself.
func (p *proofs) check(log string) error {
	if p == nil {
		return nil
	}
	for _, want := range []string{
		fmt.Sprintf("authentication of '%s' with %s successful", weName, p.we.said),
		fmt.Sprintf("authentication of '%s' (myself) with %s", theyName, p.they.said),
	} {
		if !strings.Contains(log, want) {
			return fmt.Errorf("strongSwan does not say %q", want)
		}
	}
	return nil
}

// authCells: each kind of key and signature, chains, each side in its own way.
var authCells = sync.OnceValue(makeAuthCells) // certificates are made once

func makeAuthCells() []cell {
	psk := proof{said: "pre-shared key"}
	const old = "signature_authentication = no"
	var cs []cell
	for _, c := range []struct {
		name           string
		we, they       proof
		daemon         string // strongSwan's
		ours, identity string
		event          event
	}{
		{name: "rsa-pkcs1", we: proof{key: "rsa-2048", said: "RSA_EMSA_PKCS1_SHA2_256"}, event: both("IKE SA and CHILD SA rekeyed", weRekeyIKE, theyRekeyChild)},
		{name: "rsa-pss", we: proof{key: "rsa-2048", said: "RSA_EMSA_PSS_SHA2_256_SALT_32"}, daemon: "rsa_pss = yes", ours: "rsa-padding = \"pss\""},
		{name: "rsa-sha1", we: proof{key: "rsa-2048", said: "RSA signature"}, daemon: old},
		{name: "ecdsa-256", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}},
		{name: "ecdsa-384", we: proof{key: "p384", said: "ECDSA_WITH_SHA384_DER"}},
		{name: "ecdsa-521", we: proof{key: "p521", said: "ECDSA_WITH_SHA512_DER"}},
		{name: "ecdsa-256-rfc4754", we: proof{key: "p256", said: "ECDSA-256 signature"}, daemon: old},
		{name: "ecdsa-384-rfc4754", we: proof{key: "p384", said: "ECDSA-384 signature"}, daemon: old},
		{name: "ecdsa-521-rfc4754", we: proof{key: "p521", said: "ECDSA-521 signature"}, daemon: old},
		{name: "ed25519", we: proof{key: "ed25519", said: "ED25519"}},
		{name: "different-keys", we: proof{key: "ed25519", said: "ED25519"}, they: proof{key: "p384", said: "ECDSA_WITH_SHA384_DER"}},
		{name: "chains", we: proof{key: "p256", chain: 1, said: "ECDSA_WITH_SHA256_DER"}},
		{name: "long-chains", we: proof{key: "rsa-3072", chain: 3, said: "RSA_EMSA_PKCS1_SHA2_256"}},
		{name: "psk-we-certificate-they", we: psk, they: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}},
		{name: "certificate-we-psk-they", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}, they: psk},
		{name: "match-by-certificate", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}, identity: "match-by = \"certificate\"\nremote-certificate = \"they\"\n"},
	} {
		if c.they == (proof{}) {
			c.they = c.we
		}
		p := newProofs(c.name, c.we, c.they, c.ours, c.identity)
		for _, they := range []bool{false, true} {
			name := "certificates-" + c.name + map[bool]string{false: "-we-initiate", true: "-they-initiate"}[they]
			cs = append(cs, cell{group: "Certificates", name: name, theyInitiate: they, proofs: p, extra: extra{daemon: c.daemon}, event: c.event})
		}
	}
	return cs
}
