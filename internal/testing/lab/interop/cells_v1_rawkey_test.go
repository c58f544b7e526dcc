//go:build linux

package interop

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"sync"

	"culvert/internal/testing/testcert"
)

// RSA keys without certificates (auth-method "rsa-key"), which IKEv1 alone has here. Each side has the public key of the other.

var rawKeyCells = sync.OnceValue(func() (cs []cell) {
	rsa := proof{key: "rsa-2048", said: "RSA_EMSA_PKCS1_NULL"}
	const g = "IKEv1, RSA keys without certificates"
	for _, mode := range []string{"main", "aggressive"} {
		p := (&proofs{we: rsa, they: rsa, v1: true, raw: true}).make("v1-raw-" + mode)
		for _, they := range []bool{false, true} {
			c := cell{group: g, mode: mode, proofs: p, theyInitiate: they, event: both("IKE SA and CHILD SA rekeyed", weRekeyIKE, theyRekeyChild),
				name: "v1-rsa-key-" + mode + map[bool]string{false: "-we-initiate", true: "-they-initiate"}[they]}
			if mode == "aggressive" {
				c.extra = extra{connection: "aggressive = yes\n"}
			}
			cs = append(cs, c)
		}
	}
	return cs
})

func publicPEM(p *testcert.Pair) []byte {
	der, err := x509.MarshalPKIXPublicKey(p.Cert.PublicKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// makeRaw makes the files of a cell without certificates: those that hold the keys are thrown away.
func (p *proofs) makeRaw() *proofs {
	weID, theyID := p.identities()
	we, _ := p.issue("we.example.net", weID, p.we)
	they, _ := p.issue("they.example.net", theyID, p.they)
	p.files = map[string][]byte{"pubkey/we.pem": publicPEM(we), "pubkey/they.pem": publicPEM(they), "private/they.pem": they.KeyPEM()}
	p.write("we.key", we.KeyPEM())
	p.write("they.pub", publicPEM(they))
	return p
}

// rawTables is our identity and the keys that it names.
func (p *proofs) rawTables() string {
	weID, theyID := p.identities()
	return fmt.Sprintf("auth-method = \"rsa-key\"\nkey = \"we\"\nremote-key = \"they\"\nmy-id = %q\nremote-id = %q\n\n"+
		"[[key]]\nname = \"we\"\nfile = %q\n[[key]]\nname = \"they\"\nfile = %q\n\n",
		weID.ours, theyID.ours, filepath.Join(p.dir, "we.key"), filepath.Join(p.dir, "they.pub"))
}
