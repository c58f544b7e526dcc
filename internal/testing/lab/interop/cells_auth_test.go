//go:build linux

package interop

import (
	"cmp"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"culvert/internal/testing/testcert"
)

// proof is how one side proves itself.
type proof struct {
	key     string // kind of key of its certificate; empty: the pre-shared key
	chain   int    // intermediate authorities above it
	said    string // what strongSwan calls the method
	options []testcert.Option

	// auth is how strongSwan proves itself, or lets us prove ourselves, where that is
	// not any signature: "ike:rsa-sha384".
	auth string
}

// proofs is what a cell has in the place of pre-shared keys.
type proofs struct {
	we, they   proof
	kind       string // of the identities; empty: byFQDN
	ours       string // lines of our [[certificate]]
	identity   string // lines of our [[identity]]
	authority  string // lines of the [[certificate]] of the root
	revocation string // how strongSwan asks about ours
	root       *testcert.Pair
	files      map[string][]byte // in strongSwan's swanctl directory
	dir        string            // of our files
	webs       map[string][]byte // what each side's own web server has

	v1  bool // of IKEv1, where strongSwan says nothing of its own method
	raw bool // the keys without certificates

	weLeaf, theyLeaf *testcert.Pair
}

func (p *proofs) identities() (we, they naming) {
	if p.kind == "" {
		return identities(byFQDN)
	}
	return identities(p.kind)
}

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
func (p *proofs) issue(who string, id naming, side proof) (leaf *testcert.Pair, above []*testcert.Pair) {
	issuer := p.root
	for i := range side.chain {
		issuer = issuer.Intermediate(fmt.Sprintf("%s intermediate %d", who, i), "p256")
		above = append([]*testcert.Pair{issuer}, above...)
	}
	return issuer.Again(who, keyOf(who, side.key), append([]testcert.Option{id.proves}, side.options...)...), above
}

// write puts one of our files where the configuration finds it.
func (p *proofs) write(name string, data []byte) string {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		panic(err)
	}
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		panic(err)
	}
	return path
}

// make makes the files of a cell.
func (p *proofs) make(cell string) *proofs {
	p.root, p.files, p.dir = sharedRoot(), map[string][]byte{}, filepath.Join(authDir(), cell)
	p.files["x509ca/root.pem"] = p.root.PEM()
	p.write("root.pem", p.root.PEM())
	weID, theyID := p.identities()
	if p.we.key != "" {
		leaf, above := p.issue("we.example.net", weID, p.we)
		p.write("we.pem", append(leaf.PEM(above...), leaf.KeyPEM()...))
		p.weLeaf = leaf
	}
	if p.raw {
		return p.makeRaw()
	}
	if p.they.key != "" {
		leaf, above := p.issue("they.example.net", theyID, p.they)
		p.files["x509/they.pem"], p.files["private/they.pem"] = leaf.PEM(), leaf.KeyPEM()
		for i, a := range above {
			p.files[fmt.Sprintf("x509ca/intermediate%d.pem", i)] = a.PEM()
		}
		p.write("they.pem", leaf.PEM())
		p.theyLeaf = leaf
	}
	return p
}

var sharedRoot = sync.OnceValue(func() *testcert.Pair { return testcert.Root("interop root", "p384") })

// swanctl puts the proofs into strongSwan's configuration.
func (p *proofs) swanctl(text string) string {
	if p == nil {
		return text
	}
	weID, theyID := p.identities()
	end := func(side string, own proof, id naming, more string) {
		i := strings.Index(text, side+" {\n")
		j := i + strings.Index(text[i:], "}")
		body := "auth = psk\n"
		if own.key != "" {
			body = "auth = " + cmp.Or(own.auth, "pubkey") + "\n" + more
		}
		text = text[:i] + side + " {\n\t\t\t" + body + "\t\t\tid = " + id.swan + "\n\t\t" + text[j:]
	}
	if p.raw {
		end("local", p.they, theyID, "\t\t\tpubkeys = they.pem\n")
		end("remote", p.we, weID, "\t\t\tpubkeys = we.pem\n")
		return text
	}
	end("local", p.they, theyID, "\t\t\tcerts = they.pem\n")
	revocation := ""
	if p.revocation != "" {
		revocation = "\t\t\trevocation = " + p.revocation + "\n"
	}
	end("remote", p.we, weID, revocation)
	return text
}

// toml puts them into ours.
func (p *proofs) toml(text string) string {
	if p == nil {
		return text
	}
	i := strings.Index(text, "secret = ")
	j := i + strings.Index(text[i:], "[[policy]]")
	if p.raw {
		return text[:i] + p.rawTables() + text[j:]
	}
	method := func(side proof) string {
		if side.key != "" {
			return "digital-signature"
		}
		return "pre-shared-key"
	}
	weID, theyID := p.identities()
	identity := fmt.Sprintf("auth-method = %q\nremote-auth-method = %q\nremote-id = %q\n%s", method(p.we), method(p.they), theyID.ours, p.identity)
	if p.kind != "" && p.kind != byDN || p.we.key == "" {
		identity += fmt.Sprintf("my-id = %q\n", weID.ours)
	} else if p.kind == byDN {
		identity += "my-id = \"dn\"\n"
	}
	tables := ""
	if p.we.key != "" {
		identity += "certificate = \"we\"\n"
		tables += fmt.Sprintf("[[certificate]]\nname = \"we\"\nfile = %q\n%s\n", filepath.Join(p.dir, "we.pem"), p.ours)
	}
	if p.we.key == "" || p.they.key == "" {
		identity += fmt.Sprintf("secret = %q\n", secret)
	}
	if p.they.key != "" {
		tables += fmt.Sprintf("[[certificate]]\nname = \"root\"\nfile = %q\n%s\n", filepath.Join(p.dir, "root.pem"), p.authority)
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
	weID, theyID := p.identities()
	own := "with " + p.they.said
	if p.v1 {
		own = "successful"
	}
	for _, want := range []string{
		fmt.Sprintf("authentication of '%s' with %s successful", weID.said, p.we.said),
		fmt.Sprintf("authentication of '%s' (myself) %s", theyID.said, own),
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
		kind           string // of the identities
		only           side   // who initiates; nobody: each in turn
	}{
		{name: "rsa-pkcs1", we: proof{key: "rsa-2048", said: "RSA_EMSA_PKCS1_SHA2_256"}, event: both("IKE SA and CHILD SA rekeyed", weRekeyIKE, theyRekeyChild)},
		{name: "rsa-pss", we: proof{key: "rsa-2048", said: "RSA_EMSA_PSS_SHA2_256_SALT_32"}, daemon: "rsa_pss = yes", ours: "rsa-padding = \"pss\""},
		{name: "rsa-sha1", we: proof{key: "rsa-2048", said: "RSA signature"}, daemon: old},
		// Who initiates asks for a hash only if it says so; strongSwan as responder announces all.
		{name: "rsa-pkcs1-sha384", we: proof{key: "rsa-2048", auth: "ike:rsa-sha384", said: "RSA_EMSA_PKCS1_SHA2_384"}, only: they},
		{name: "rsa-pkcs1-sha512", we: proof{key: "rsa-2048", auth: "ike:rsa-sha512", said: "RSA_EMSA_PKCS1_SHA2_512"}, only: they},
		{name: "rsa-pss-sha384", we: proof{key: "rsa-2048", auth: "ike:rsa/pss-sha384", said: "RSA_EMSA_PSS_SHA2_384_SALT_48"}, ours: "rsa-padding = \"pss\"", only: they},
		{name: "rsa-pss-sha512", we: proof{key: "rsa-2048", auth: "ike:rsa/pss-sha512", said: "RSA_EMSA_PSS_SHA2_512_SALT_64"}, ours: "rsa-padding = \"pss\"", only: they},
		{name: "ecdsa-256-sha512", we: proof{key: "p256", auth: "ike:ecdsa-sha512", said: "ECDSA_WITH_SHA512_DER"}, only: they},
		{name: "rsa-4096", we: proof{key: "rsa-4096", said: "RSA_EMSA_PKCS1_SHA2_256"}, they: proof{key: "rsa-4096", said: "RSA_EMSA_PKCS1_SHA2_384"}},
		{name: "id-address", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}, kind: byAddress},
		{name: "id-user-fqdn", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}, kind: byUser},
		{name: "id-dn", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}, kind: byDN},
		{name: "id-key-id", we: proof{key: "p256", said: "ECDSA_WITH_SHA256_DER"}, kind: byKeyID},
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
		if c.they.said == "" {
			c.they = c.we
		}
		p := (&proofs{we: c.we, they: c.they, kind: c.kind, ours: c.ours, identity: c.identity}).make(c.name)
		for _, they := range c.only.initiates() {
			name := "certificates-" + c.name + map[bool]string{false: "-we-initiate", true: "-they-initiate"}[they]
			cs = append(cs, cell{group: "Certificates", name: name, theyInitiate: they, proofs: p, extra: extra{daemon: c.daemon}, event: c.event})
		}
	}
	return cs
}

// initiates is which sides do, as cell.theyInitiate.
func (s side) initiates() []bool {
	return map[side][]bool{nobody: {false, true}, we: {false}, they: {true}}[s]
}
