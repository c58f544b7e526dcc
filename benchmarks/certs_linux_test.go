package benchmarks

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"culvert/crypto/pki"
	"culvert/ike/core"
	"culvert/internal/testing/testcert"
)

// certs are an authority's, a gateway's and those of as many clients as there
// are initiators, all with keys on P-256. They travel to the load generator.
type certs struct {
	CA, Gate string // PEM
	gateKey  string // PEM; the gateway's alone
	Clients  []pemPair
}

type pemPair struct{ Cert, Key string }

func newCerts() *certs {
	ca := testcert.Root("Benchmarks", "p256")
	gate := ca.Leaf("gate", "p256", testcert.DNS("gate.example"))
	c := &certs{CA: string(ca.PEM()), Gate: string(gate.PEM()), gateKey: string(gate.KeyPEM())}
	for i := range loadInitiators {
		leaf := ca.Leaf(fmt.Sprint("client", i), "p256", testcert.DNS(clientName(i)))
		c.Clients = append(c.Clients, pemPair{string(leaf.PEM()), string(leaf.KeyPEM())})
	}
	return c
}

// use has a client prove itself by its certificate, and want the same of the gateway.
func (c *certs) use(cfg *core.Config, index int) {
	key, err := x509.ParsePKCS8PrivateKey(der(c.Clients[index].Key))
	if err != nil {
		panic(err)
	}
	id := cfg.Peers[0].Identities[0]
	id.Auth, id.Secret = core.AuthSignature, nil
	id.Own = &core.Credential{Name: "client", Chain: []*x509.Certificate{certificate(c.Clients[index].Cert)}, Key: pki.NewKey(key.(crypto.Signer))}
	cfg.Trust = &core.Trust{Authorities: []*core.Authority{{Name: "ca", Cert: certificate(c.CA)}}}
}

func certificate(text string) *x509.Certificate {
	c, err := x509.ParseCertificate(der(text))
	if err != nil {
		panic(err)
	}
	return c
}

func der(text string) []byte {
	b, _ := pem.Decode([]byte(text))
	return b.Bytes
}
