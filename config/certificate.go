package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"culvert/crypto/pki"
	"culvert/crypto/sign"
)

// Certificate is [[certificate]]: what a file holds, as an entry of the manual's
// certificate store.
type Certificate struct {
	Entry
	File           string // as found from where it was written
	KeyFile        string // empty: the key, if any, is in File
	PassphraseFile string
	Trusted        bool     // authorities among Certs are trusted; see Anchors
	CRL            []string // files, http URLs, or "distribution-points"
	CRLPolicy      string
	CRLMaxAge      Duration // of a CRL or an OCSP response without nextUpdate, under strict
	OCSP           bool
	RSAPadding     string

	// Certs are those of the file; the first is what the entry is about, the
	// key's if there is a key.
	Certs []*x509.Certificate    `json:"-"`
	Key   pki.Key                `json:"-"`
	Lists []*x509.RevocationList `json:"-"` // of the CRL files
}

// Values of crl-policy.
const (
	CRLIfPresent = "if-present"
	CRLStrict    = "strict"
)

// distributionPoints in crl are the URLs that certificates name.
const distributionPoints = "distribution-points"

func defaultCertificate() *Certificate {
	return &Certificate{Trusted: true, CRLPolicy: CRLIfPresent, CRLMaxAge: Duration(24 * time.Hour), RSAPadding: "auto"}
}

var certificateFields = []field[Certificate]{
	of("crl", list(crlSource), func(c *Certificate) *[]string { return &c.CRL }),
	of("crl-max-age", duration(time.Minute, 365*day), func(c *Certificate) *Duration { return &c.CRLMaxAge }),
	of("crl-policy", oneOf[string](CRLIfPresent, CRLStrict), func(c *Certificate) *string { return &c.CRLPolicy }),
	of("file", pathValue, func(c *Certificate) *string { return &c.File }),
	of("key-file", pathValue, func(c *Certificate) *string { return &c.KeyFile }),
	of("ocsp", boolean, func(c *Certificate) *bool { return &c.OCSP }),
	of("passphrase-file", pathValue, func(c *Certificate) *string { return &c.PassphraseFile }),
	of("rsa-padding", oneOf[string]("auto", "pkcs1", "pss"), func(c *Certificate) *string { return &c.RSAPadding }),
	of("trusted", boolean, func(c *Certificate) *bool { return &c.Trusted }),
}

// pathValue is a path relative to the file that it is written in.
func pathValue(v value) (string, bool) {
	s, ok := text("the path of a file, relative to this one")(v)
	if ok && s == "" {
		v.wrong("is empty, accepted: the path of a file, relative to this one")
		return "", false
	}
	return v.file.beside(s), ok
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

func crlSource(v value) (string, bool) {
	const accepts = "the path of a file, a URL that begins with http://, or " + distributionPoints
	s, ok := text(accepts)(v)
	switch {
	case !ok:
		return "", false
	case s == "" || strings.Contains(s, "://") && !isURL(s):
		v.wrong("%q is not a CRL source, accepted: %s", s, accepts)
		return "", false
	case s == distributionPoints || isURL(s):
		return s, true
	}
	return v.file.beside(s), true
}

// Anchors are the certificates of the entry that are trusted to issue others:
// authorities that are their own issuer, the entry's first certificate if that is
// an authority, and where trusted = true is written every authority of the file.
func (c *Certificate) Anchors() (list []*x509.Certificate) {
	if !c.Trusted || c.Disabled {
		return nil
	}
	for i, cert := range c.Certs {
		if cert.IsCA && (i == 0 || pki.SelfSigned(cert) || c.Written("trusted")) {
			list = append(list, cert)
		}
	}
	return list
}

// CRLURLs are the URLs of crl.
func (c *Certificate) CRLURLs() (urls []string) {
	for _, s := range c.CRL {
		if isURL(s) {
			urls = append(urls, s)
		}
	}
	return urls
}

// DistributionPoints reports whether crl says so.
func (c *Certificate) DistributionPoints() bool {
	for _, s := range c.CRL {
		if s == distributionPoints {
			return true
		}
	}
	return false
}

// checkCertificate reads what an entry names.
func (l *loader) checkCertificate(c *Certificate, now time.Time) {
	e := &c.Entry
	if !c.Written("file") {
		l.faultAt(e, "certificate", "file", "is missing, name a file with a certificate: PEM or PKCS#12")
		return
	}
	if e.bad["file"] || e.bad["key-file"] || e.bad["passphrase-file"] || c.Disabled {
		return
	}
	if !l.readCertificate(c) {
		return
	}
	l.checkUse(c, now)
	for _, s := range c.CRL {
		if s != distributionPoints && !isURL(s) {
			l.readCRL(c, s, now)
		}
	}
	if c.CRLPolicy == CRLStrict && len(c.CRL) == 0 && !c.OCSP {
		l.faultAt(e, "certificate", "crl-policy", "strict needs something to ask, write crl or ocsp = true")
	}
	if c.Written("crl-max-age") && c.CRLPolicy != CRLStrict {
		l.warnAt(e, "certificate", "crl-max-age", "has an effect only with crl-policy = %q", CRLStrict)
	}
	if (c.Written("crl") || c.Written("ocsp")) && len(c.Anchors()) == 0 {
		l.warnAt(e, "certificate", "crl", "is for certificates below a trusted authority, and there is none in %s", c.File)
	}
}

// readCertificate reads the files; false after a fault.
func (l *loader) readCertificate(c *Certificate) bool {
	e := &c.Entry
	read := func(key, path string) ([]byte, bool) {
		data, mode, err := l.disk.read(path)
		if err != nil {
			l.faultAt(e, "certificate", key, unreadable, err)
			return nil, false
		}
		if key == "file" && !holdsKey(data) {
			return data, true
		}
		l.config.secretFiles = append(l.config.secretFiles, path)
		if othersCanRead(mode) {
			l.warnAt(e, "certificate", key, readByOthers, path, mode.Perm())
		}
		return data, true
	}
	data, ok := read("file", c.File)
	if !ok {
		return false
	}
	defer clear(data)
	if l.disk.redacted() {
		b, err := publicParts(data)
		if err != nil {
			l.faultAt(e, "certificate", "file", "%v", err)
			return false
		}
		c.Certs, c.Key = b.Certs, b.Key
		return true
	}
	var keyData, passphrase []byte
	if c.KeyFile != "" {
		if keyData, ok = read("key-file", c.KeyFile); !ok {
			return false
		}
		defer clear(keyData)
	}
	if c.PassphraseFile != "" {
		if passphrase, ok = read("passphrase-file", c.PassphraseFile); !ok {
			return false
		}
		defer clear(passphrase)
	}
	b, err := pki.Read(data, keyData, bytes.TrimRight(passphrase, "\r\n"))
	if err != nil {
		key := "file"
		switch {
		case errors.Is(err, pki.ErrPassphrase):
			key = "passphrase-file"
		case errors.Is(err, pki.ErrNoPassphrase):
			key, err = "passphrase-file", fmt.Errorf("is missing, the file is encrypted: name the file with its passphrase")
		case keyData != nil && (errors.Is(err, pki.ErrMismatch) || strings.HasPrefix(err.Error(), "key-file")):
			key = "key-file"
		}
		l.faultAt(e, "certificate", key, "%s", strings.TrimPrefix(err.Error(), "key-file: "))
		return false
	}
	c.Certs, c.Key = b.Certs, b.Key
	return true
}

// holdsKey: PKCS#12 files and PEM files with a key that is not encrypted.
func holdsKey(data []byte) bool {
	return bytes.Contains(data, []byte("PRIVATE KEY-----")) && !bytes.Contains(data, []byte("ENCRYPTED PRIVATE KEY-----"))
}

// checkUse looks at what the certificates can be used for.
func (l *loader) checkUse(c *Certificate, now time.Time) {
	e := &c.Entry
	for _, cert := range c.Certs {
		name := pki.DNText(cert.RawSubject)
		switch signed := pki.RefusedAlgorithm(cert); {
		case signed == "":
		case cert.SignatureAlgorithm == x509.UnknownSignatureAlgorithm:
			l.faultAt(e, "certificate", "file", "the certificate %q is signed with %s, which is not supported, have it issued with SHA-256", name, signed)
		case !pki.SelfSigned(cert): // nobody looks at the signature of who is trusted
			l.warnAt(e, "certificate", "file", "the certificate %q is signed with %s, which is not accepted here nor by other peers, have it issued anew with SHA-256", name, signed)
		}
		switch {
		case now.After(cert.NotAfter):
			l.warnAt(e, "certificate", "file", "the certificate %q expired on %s, renew it", name, cert.NotAfter.UTC().Format(time.DateTime))
		case now.Before(cert.NotBefore):
			l.warnAt(e, "certificate", "file", "the certificate %q is not valid before %s, compare this host's clock", name, cert.NotBefore.UTC().Format(time.DateTime))
		}
	}
	first := c.Certs[0]
	if err := sign.CheckKey(first.PublicKey); err != nil && !first.IsCA {
		l.faultAt(e, "certificate", "file", "the certificate %q cannot be used, %v", pki.DNText(first.RawSubject), err)
	} else if sign.Weak(first.PublicKey) {
		l.warnAt(e, "certificate", "file", "the certificate %q has an RSA key shorter than %d bits, have it issued for a longer one", pki.DNText(first.RawSubject), sign.GoodRSA)
	}
	if c.Written("trusted") && c.Trusted && len(c.Anchors()) == 0 {
		l.warnAt(e, "certificate", "trusted", "there is no authority in %s to trust, name a single certificate in remote-certificate instead", c.File)
	}
}

// maxCRL bounds a CRL file.
const maxCRL = 10 << 20

func (l *loader) readCRL(c *Certificate, path string, now time.Time) {
	e := &c.Entry
	data, _, err := l.disk.read(path)
	if err != nil {
		l.faultAt(e, "certificate", "crl", unreadable, err)
		return
	}
	if len(data) > maxCRL {
		l.faultAt(e, "certificate", "crl", "%s is larger than %d MiB", path, maxCRL>>20)
		return
	}
	if block, _ := pem.Decode(data); block != nil && block.Type == "X509 CRL" {
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		l.faultAt(e, "certificate", "crl", "%s is not a CRL: %v", path, err)
		return
	}
	if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
		l.warnAt(e, "certificate", "crl", "%s was good until %s only, get a newer one", path, list.NextUpdate.UTC().Format(time.DateTime))
	}
	if list.NextUpdate.IsZero() && c.CRLPolicy == CRLStrict && now.After(list.ThisUpdate.Add(time.Duration(c.CRLMaxAge))) {
		l.warnAt(e, "certificate", "crl", "%s is of %s, has no nextUpdate and is older than crl-max-age, get a newer one", path, list.ThisUpdate.UTC().Format(time.DateTime))
	}
	if !pki.Strong(list.SignatureAlgorithm) {
		l.warnAt(e, "certificate", "crl", "%s is signed with %s, so it can revoke certificates and clear none, have it signed with SHA-256", path, pki.SignedWith(list.Raw))
	}
	c.Lists = append(c.Lists, list)
}

// Values of auth-method that this build has.
const (
	AuthPSK       = "pre-shared-key"
	AuthXAuth     = "pre-shared-key-xauth"
	AuthSignature = "digital-signature"
	AuthHybrid    = "rsa-signature-hybrid"
)

// ownProof is how we prove ourselves before XAuth, and peerProof how the peer does: in hybrid authentication one end has a
// certificate, the one where users log in, and the other end, "", has nothing.
func (i *Identity) ownProof() string  { return i.proof(i.AuthMethod, true) }
func (i *Identity) peerProof() string { return i.proof(i.RemoteAuthMethod, false) }

func (i *Identity) proof(method string, own bool) string {
	switch {
	case method != AuthHybrid:
		return method
	case i.Peer != nil && i.Peer.Passive == own:
		return AuthSignature
	}
	return ""
}

// byPSK reports whether a method begins with a pre-shared key.
func byPSK(method string) bool { return method == AuthPSK || method == AuthXAuth }

// checkProof looks at what an identity proves itself with, and its peer.
func (l *loader) checkProof(i *Identity, d *directory) {
	e := &i.Entry
	if e.bad["auth-method"] || e.bad["remote-auth-method"] {
		return
	}
	if !i.Written("remote-auth-method") {
		i.RemoteAuthMethod = i.AuthMethod
	}
	if i.CertificateName != "" {
		i.Certificate = refer(l, e, "identity", "certificate", i.CertificateName, d.certificates)
	}
	if i.RemoteCertificateName != "" {
		i.RemoteCertificate = refer(l, e, "identity", "remote-certificate", i.RemoteCertificateName, d.certificates)
	}
	if i.Disabled {
		return
	}
	psk := byPSK(i.AuthMethod) || byPSK(i.RemoteAuthMethod)
	switch {
	case i.Written("secret") && i.Written("secret-file"):
		l.faultAt(e, "identity", "secret-file", "cannot be combined with secret, write one of them")
	case psk && !i.Written("secret") && !i.Written("secret-file"):
		l.faultAt(e, "identity", "secret", "is missing, auth-method %s needs secret or secret-file", i.AuthMethod)
	case !psk && (i.Written("secret") || i.Written("secret-file")):
		key := "secret"
		if i.Written("secret-file") {
			key = "secret-file"
		}
		l.warnAt(e, "identity", key, "is not used, since neither side proves itself by pre-shared-key")
	}
	l.checkXAuth(i)
	checkKeys(l, i)
	l.checkOwn(i)
	l.checkRemote(i)
	l.checkIDs(i)
}

// checkIDs: with a secret, a peer that says it is who we are is taken for ourselves
// and refused (ike/v2/reflection.go). Addresses are exempt.
func (l *loader) checkIDs(i *Identity) {
	if !byPSK(i.AuthMethod) || !byPSK(i.RemoteAuthMethod) || i.MyID.Kind != i.RemoteID.Kind {
		return
	}
	switch i.MyID.Kind {
	case IDFQDN, IDUserFQDN, IDKeyID:
	default:
		return
	}
	same := i.MyID.Value == i.RemoteID.Value
	if i.MyID.Kind != IDKeyID {
		same = strings.EqualFold(i.MyID.Value, i.RemoteID.Value)
	}
	if same {
		l.faultAt(&i.Entry, "identity", "remote-id", "is my-id too, %s, and a peer that says it is this gateway itself is refused, give each side an ID of its own", i.MyID)
	}
}

// checkOwn: our own certificate.
func (l *loader) checkOwn(i *Identity) {
	e := &i.Entry
	if i.ownProof() != AuthSignature {
		if i.Written("certificate") && i.AuthMethod == AuthHybrid {
			l.faultAt(e, "identity", "certificate", "is for the gateway, where users log in, and [[peer]] %q is not passive, so that this host logs in: leave it out, or write passive = true there", i.PeerName)
		} else if i.Written("certificate") {
			l.faultAt(e, "identity", "certificate", "needs auth-method = %q", AuthSignature)
		} else if i.MyID.Kind == IDDN {
			l.faultAt(e, "identity", "my-id", "dn is the subject of our certificate, and there is none, write auth-method = %q and certificate", AuthSignature)
		}
		return
	}
	c := i.Certificate
	switch {
	case !i.Written("certificate"):
		l.faultAt(e, "identity", "certificate", "is missing, auth-method %s needs a [[certificate]] with a key", i.AuthMethod)
	case c == nil:
	case c.Disabled:
		l.faultAt(e, "identity", "certificate", "[[certificate]] %q is disabled, enable it or disable the identity", c.Name)
	case len(c.Certs) > 0 && !c.Key.Present():
		l.faultAt(e, "identity", "certificate", "[[certificate]] %q has no private key, write key-file there", c.Name)
	case i.AuthMethod == AuthHybrid && len(c.Certs) > 0 && c.Certs[0].PublicKeyAlgorithm != x509.RSA:
		l.faultAt(e, "identity", "certificate", "[[certificate]] %q has no RSA key, and auth-method %q has signatures with RSA alone: have it issued for one", c.Name, AuthHybrid)
	}
}

// checkRemote: what the peer is checked against.
func (l *loader) checkRemote(i *Identity) {
	e := &i.Entry
	if i.peerProof() != AuthSignature {
		if i.RemoteAuthMethod == AuthHybrid && i.RemoteID.Kind != IDAuto && i.RemoteID.Kind != IDIgnore && !e.bad["remote-id"] {
			l.warnAt(e, "identity", "remote-id", "proves nothing with auth-method %q: every user may say that it has this ID", AuthHybrid)
		} else if i.RemoteID.Pattern {
			l.warnAt(e, "identity", "remote-id", "%s stands for many IDs, and every holder of the secret may say that it has any of them, also that of another, give each peer an [[identity]] with a secret of its own, or use certificates", i.RemoteID)
		}
		for _, key := range []string{"remote-certificate", "match-by"} {
			if i.Written(key) && (key != "match-by" || i.MatchBy == MatchCertificate) {
				l.faultAt(e, "identity", key, "needs auth-method or remote-auth-method = %q", AuthSignature)
			}
		}
		return
	}
	c := i.RemoteCertificate
	switch {
	case c != nil && c.Disabled:
		l.faultAt(e, "identity", "remote-certificate", "[[certificate]] %q is disabled, enable it or disable the identity", c.Name)
	case c != nil || e.bad["remote-certificate"]:
	case i.MatchBy == MatchCertificate:
		l.faultAt(e, "identity", "remote-certificate", "is missing, match-by = %q needs the peer's", MatchCertificate)
	case i.RemoteCertificateName == "" && !l.anyAnchor():
		l.warnAt(e, "identity", "auth-method", "no peer can prove itself: there is no [[certificate]] of an authority that is trusted, and no remote-certificate")
	}
	if i.RemoteID.Kind == IDIgnore && i.RemoteCertificateName == "" {
		l.warnAt(e, "identity", "remote-id", "ignore accepts everybody who has a certificate of a trusted authority, whatever their ID is")
	}
}

// MatchCertificate is a value of match-by.
const MatchCertificate = "certificate"

func (l *loader) anyAnchor() bool {
	for _, c := range l.config.Certificates {
		if len(c.Anchors()) > 0 {
			return true
		}
	}
	return false
}

// remoteID is identityID with names that are written: "dn:C=DE, O=Example, CN=gw".
func remoteID(v value) (ID, bool) {
	s, ok := v.raw.(string)
	if name, is := strings.CutPrefix(s, "dn:"); ok && is {
		der, pattern, err := pki.ParsePattern(name)
		if err != nil {
			v.wrong("%v", err)
		}
		return ID{Kind: IDDN, Value: name, DER: string(der), Pattern: pattern}, err == nil
	}
	id, ok := identityID(IDIgnore)(v)
	if !ok || id.Bytes != "" || id.Kind != IDFQDN && id.Kind != IDUserFQDN || !strings.Contains(id.Value, "*") {
		return id, ok
	}
	first := map[IDKind]string{IDFQDN: "*.", IDUserFQDN: "*@"}[id.Kind]
	rest, is := strings.CutPrefix(id.Value, first)
	if !is || rest == "" || strings.HasPrefix(rest, ".") || strings.ContainsAny(rest, "*@") {
		v.wrong("%q has a * that stands for nothing, accepted: fqdn:*.example.net for every host below example.net, user-fqdn:*@example.net for every user there, "+
			"dn:O=Example, CN=* for any value of an attribute; a * that means itself is written as # and the hexadecimal digits of the whole name", id)
		return ID{}, false
	}
	id.Pattern = true
	return id, true
}

// equalCertificates compares what makes a difference to the peers that use them.
func equalCertificates(a, b *Certificate) bool {
	if a == nil || b == nil {
		return a == b
	}
	if len(a.Certs) != len(b.Certs) || !a.Key.Equal(b.Key) || a.RSAPadding != b.RSAPadding {
		return false
	}
	for i := range a.Certs {
		if !a.Certs[i].Equal(b.Certs[i]) {
			return false
		}
	}
	return true
}

// diffTrust reports whether peers are checked against something else.
func diffTrust(old, next []*Certificate) bool {
	if len(old) != len(next) {
		return true
	}
	for i, a := range old {
		b := next[i]
		if !equalCertificates(a, b) || a.Disabled != b.Disabled || a.Trusted != b.Trusted || a.CRLPolicy != b.CRLPolicy || a.CRLMaxAge != b.CRLMaxAge ||
			a.OCSP != b.OCSP || strings.Join(a.CRL, "\n") != strings.Join(b.CRL, "\n") || len(a.Lists) != len(b.Lists) {
			return true
		}
		for n := range a.Lists {
			if !bytes.Equal(a.Lists[n].Raw, b.Lists[n].Raw) {
				return true
			}
		}
	}
	return false
}
