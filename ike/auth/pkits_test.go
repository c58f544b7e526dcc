package auth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/testing/vectors"
)

// pkitsCase is a path of NIST's Public Key Interoperability Test Suite: the trusted certificate first, the end's last.
type pkitsCase struct {
	Name  string
	Certs []string
	CRLs  []string
	Valid bool
	Extra []string // settings about certificate policies
}

// pkitsRefused are the valid paths that are refused, with what the refusal says.
var pkitsRefused = map[string]string{
	// DSA is not supported, nor is SHA-1.
	"4.1.4 Valid DSA Signatures Test4":            "signed with DSA with SHA-1",
	"4.1.5 Valid DSA Parameter Inheritance Test5": "invalid DSA parameters",
	// nameRelativeToCRLIssuer in a certificate: crypto/x509 does not read it, and RFC 5280 §4.2.1.13 advises against it.
	"4.14.4 Valid distributionPoint Test4": "invalid CRL distribution point",
	"4.14.5 Valid distributionPoint Test5": "invalid CRL distribution point",
	"4.14.29 Valid cRLIssuer Test29":       "invalid CRL distribution point",
}

func pkitsFile(t *testing.T, name string) []byte {
	data := vectors.Read(t, name)
	if b, _ := pem.Decode(data); b != nil {
		return b.Bytes
	}
	return data
}

// judgePKITS is the verdict about a path as a peer's is found, with everything strict.
func judgePKITS(t *testing.T, c pkitsCase, now time.Time) error {
	var certs []*x509.Certificate
	for _, name := range c.Certs {
		cert, err := x509.ParseCertificate(pkitsFile(t, "pkits/certs/"+name+".crt"))
		if err != nil {
			return err
		}
		certs = append(certs, cert)
	}
	var lists []*x509.RevocationList
	for _, name := range c.CRLs {
		list, err := x509.ParseRevocationList(pkitsFile(t, "pkits/crls/"+name+".crl"))
		if err != nil {
			return err
		}
		lists = append(lists, list)
	}
	last := len(certs) - 1
	trust := &core.Trust{Authorities: []*core.Authority{{Name: "anchor", Cert: certs[0], Strict: true}}, CRLs: lists}
	return judgePath(Verify{Certs: append([]*x509.Certificate{certs[last]}, certs[1:last]...), Trust: trust, Initiator: true, Now: now}, lists)
}

// judgePath is what Verify and Revocation say, but for the signature of the peer.
func judgePath(w Verify, lists []*x509.RevocationList) error {
	chain, err := w.chain()
	if err != nil {
		return err
	}
	if err := w.usages(chain); err != nil {
		return err
	}
	_, err = Revocation{Links: w.Links(w.indexes(chain)), CRLs: lists, Now: w.Now}.Do()
	return err
}

// NIST's suite: every path that is not valid is refused, and every valid one is accepted but for those with a reason.
func TestPKITS(t *testing.T) {
	var cases []pkitsCase
	vectors.Load(t, "pkits/cases.json", &cases)
	if len(cases) != 247 {
		t.Fatalf("%d cases", len(cases))
	}
	policies := 0
	for _, c := range cases {
		if len(c.Extra) > 0 {
			policies++ // sets which policies a relying party wants; there is no such setting here
			continue
		}
		err := judgePKITS(t, c, now)
		var r *Refusal
		reason := pkitsRefused[c.Name]
		switch {
		case err == nil && !c.Valid:
			t.Errorf("%s: accepted", c.Name)
		case err == nil && reason != "":
			t.Errorf("%s: accepted, and listed as refused", c.Name)
		case err != nil && c.Valid && (reason == "" || !strings.Contains(err.Error(), reason)):
			t.Errorf("%s: refused for %v, want %q", c.Name, err, reason)
		case err != nil && !errors.As(err, &r) && !strings.HasPrefix(err.Error(), "x509: "):
			t.Errorf("%s: %v is not for people", c.Name, err)
		}
	}
	if policies != 35 {
		t.Errorf("%d cases are about policies that are asked for", policies)
	}
}

// bsiRefused are the paths of the BSI's suite that are not valid, with what the refusal says.
var bsiRefused = map[string]string{
	"CRL_02": "was revoked on", "CRL_03": "was revoked on", "CRL_04": "is not known", "CRL_07": "was revoked on", "CRL_08": "is from the future",
	"CRL_10": "negative serial number", "CRL_11": "was revoked on", "CRL_13": "is about other certificates", "CRL_14": "is not known", "CRL_15": "is not known", "CRL_16": "was revoked on",
	"algo_strength_01": "which is not accepted", "common_02": "no trusted certificate leads to", "common_05": "x509: ", "common_06": "negative serial number",
	"common_07": "not valid before", "common_09": "not valid before", "common_10": "expired on", "crypt_02": "not by the key", "ext_01": "of version 1", "ext_05": "duplicate extension",
	"ext_06": "not that of an authority", "ext_10": "x509: ", "ext_11": "may not issue certificates", "ext_12": "polic", "ext_13": "anyPolicy", "ext_15": "is not that of an authority",
	"ext_18": "certificate policies", "ext_19": "authorities below it",
}

// The BSI's certification path tests, as Botan keeps them: with the set of certificates from which a path has to be found.
func TestBSI(t *testing.T) {
	ends := vectors.Glob(t, "botan/x509-bsi/*/*_ee.TC.pem.crt")
	if len(ends) != 36 {
		t.Fatalf("%d cases", len(ends))
	}
	for _, end := range ends {
		folder := path.Dir(end)
		name := path.Base(folder)
		err := judgeBSI(t, end, folder, strings.HasPrefix(name, "CRL_"))
		want := bsiRefused[name]
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func judgeBSI(t *testing.T, end, folder string, strict bool) error {
	leaf, err := x509.ParseCertificate(pkitsFile(t, end))
	if err != nil {
		return err
	}
	w := Verify{Certs: []*x509.Certificate{leaf}, Trust: &core.Trust{}, Initiator: true, Now: time.Date(2017, 8, 1, 0, 0, 0, 0, time.UTC)}
	for _, name := range vectors.Glob(t, folder+"/*.pem.crt") {
		if name == end {
			continue
		}
		c, err := x509.ParseCertificate(pkitsFile(t, name))
		if err != nil {
			return err
		}
		if strings.Contains(name, ".TA.") {
			w.Trust.Authorities = append(w.Trust.Authorities, &core.Authority{Name: "anchor", Cert: c, Strict: strict})
		} else {
			w.Certs = append(w.Certs, c)
		}
	}
	var lists []*x509.RevocationList
	for _, name := range vectors.Glob(t, folder+"/crls/*") {
		if list, err := x509.ParseRevocationList(pkitsFile(t, name)); err == nil {
			lists = append(lists, list)
		}
	}
	return judgePath(w, lists)
}
