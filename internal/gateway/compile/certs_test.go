package compile

import (
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/pki"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/internal/testing/testcert"
)

// The certificates of a configuration become what is trusted, what stands between, and identities' own.
func TestCertificates(t *testing.T) {
	root := testcert.Root("root", "p256")
	between := root.Intermediate("between", "p256")
	leaf := between.Leaf("leaf", "p256")
	other := testcert.Root("other", "p256")
	list := new(x509.RevocationList)
	anchors := &config.Certificate{Trusted: true, Certs: []*x509.Certificate{root.Cert}, CRL: []string{"http://crl.example/1", "file.crl", "distribution-points"},
		CRLPolicy: config.CRLStrict, CRLMaxAge: config.Duration(time.Hour), OCSP: true, Lists: []*x509.RevocationList{list}}
	anchors.Name = "anchors"
	own := &config.Certificate{Certs: []*x509.Certificate{leaf.Cert}, RSAPadding: "pss"}
	own.Name = "own"
	spare := &config.Certificate{Certs: []*x509.Certificate{between.Cert}, CRLPolicy: config.CRLIfPresent}
	off := &config.Certificate{Trusted: true, Certs: []*x509.Certificate{other.Cert}, Lists: []*x509.RevocationList{list}}
	off.Disabled = true
	s := storeOf([]*config.Certificate{off, anchors, own, spare})

	a := s.trust.Authorities
	if len(a) != 1 || a[0].Name != "anchors" || a[0].Cert != root.Cert || !slices.Equal(a[0].CRLs, []string{"http://crl.example/1"}) || !a[0].DistributionPoints || !a[0].OCSP || !a[0].Strict || a[0].MaxAge != time.Hour {
		t.Errorf("%+v", a)
	}
	if !slices.Equal(s.trust.Intermediates, []*x509.Certificate{root.Cert, between.Cert}) || len(s.trust.CRLs) != 1 || !slices.Equal(s.all, []*x509.Certificate{root.Cert, leaf.Cert, between.Cert}) {
		t.Errorf("%d intermediates, %d lists, %d in all", len(s.trust.Intermediates), len(s.trust.CRLs), len(s.all))
	}

	id := s.identity(&config.Identity{AuthMethod: "digital-signature", RemoteAuthMethod: "pre-shared-key", Certificate: own, RemoteCertificate: spare, MatchBy: config.MatchCertificate,
		MyID: config.ID{Kind: config.IDDN}, RemoteID: config.ID{Kind: config.IDDN, DER: "der"}, IgnoreContact: true})
	if id.Auth != core.AuthSignature || id.RemoteAuth != core.AuthPSK || !id.MatchCert || !id.IgnoreContact || id.Ignore || id.RemoteCert != between.Cert || id.RemoteID != (core.ID{Type: core.IDDN, Data: "der"}) {
		t.Errorf("%+v", id)
	}
	if id.MyID != auth.Subject(leaf.Cert) {
		t.Errorf("my ID is %v, not the certificate's subject", id.MyID)
	}
	if o := id.Own; o == nil || o.Name != "own" || !o.PSS || !slices.Equal(o.Chain, []*x509.Certificate{leaf.Cert, between.Cert}) {
		t.Errorf("own %+v", o)
	}
	if len(own.Certs) != 1 {
		t.Error("the configuration was written to")
	}
	id = s.identity(&config.Identity{AuthMethod: "pre-shared-key", RemoteAuthMethod: "pre-shared-key", Certificate: new(config.Certificate), RemoteCertificate: new(config.Certificate), RemoteID: config.ID{Kind: config.IDIgnore}})
	if id.Own != nil || id.RemoteCert != nil || !id.Ignore || id.MatchCert || id.RemoteID != (core.ID{}) {
		t.Errorf("%+v", id)
	}
}

// What IKEv1 alone has: in hybrid authentication the passive peer's end is the gateway, and with RSA keys the private one is ours.
func TestIdentitiesOfIKEv1(t *testing.T) {
	s := storeOf(nil)
	for _, passive := range []bool{true, false} {
		id := s.identity(&config.Identity{AuthMethod: "rsa-signature-hybrid", RemoteAuthMethod: "rsa-signature-hybrid", Peer: &config.Peer{Passive: passive}, Username: "anna"})
		own, remote := core.AuthByUser, core.AuthSignature
		if passive {
			own, remote = remote, own
		}
		if id.Auth != own || id.Remote() != remote || id.XAuth == nil || id.XAuth.Asks != passive || id.XAuth.Name != "anna" {
			t.Errorf("passive %v: %+v", passive, id)
		}
	}
	signer := testcert.Key("rsa-2048")
	public := signer.Public().(*rsa.PublicKey)
	k := &config.Key{Public: public, Private: pki.NewKey(signer)}
	k.Name = "k"
	id := s.identity(&config.Identity{AuthMethod: "rsa-key", RemoteAuthMethod: "rsa-key", Key: k, RemoteKey: k})
	if id.Auth != core.AuthRawKey || id.OwnKey.Public != public || !id.OwnKey.Key.Present() || id.OwnKey.Name != "k" || id.RemoteKey.Public != public || id.RemoteKey.Key.Present() {
		t.Errorf("%+v", id)
	}
}
