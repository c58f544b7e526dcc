package compile

import (
	"crypto/x509"
	"time"

	"culvert/config"
	"culvert/crypto/pki"
	"culvert/ike/auth"
	"culvert/ike/core"
)

// certStore is the certificates of a configuration as IKE wants them.
type certStore struct {
	trust *core.Trust
	all   []*x509.Certificate // of entries that are not disabled
}

func storeOf(list []*config.Certificate) *certStore {
	s := &certStore{trust: &core.Trust{}}
	for _, c := range list {
		if c.Disabled {
			continue
		}
		anchors := c.Anchors()
		for _, a := range anchors {
			s.trust.Authorities = append(s.trust.Authorities, &core.Authority{
				Name: c.Name, Cert: a, CRLs: c.CRLURLs(), DistributionPoints: c.DistributionPoints(),
				OCSP: c.OCSP, Strict: c.CRLPolicy == config.CRLStrict, MaxAge: time.Duration(c.CRLMaxAge),
			})
		}
		for _, cert := range c.Certs {
			if cert.IsCA {
				s.trust.Intermediates = append(s.trust.Intermediates, cert)
			}
		}
		s.trust.CRLs = append(s.trust.CRLs, c.Lists...)
		s.all = append(s.all, c.Certs...)
	}
	return s
}

// authMethods are the values of auth-method, and methodsAlone those that both ends can have apart. With XAuth phase 1 goes by a pre-shared
// key; in hybrid authentication the end that logs in proves nothing there (see identity).
func authMethods() map[string]core.AuthMethod {
	all := methodsAlone()
	all[config.AuthXAuth], all[config.AuthHybrid], all[config.AuthRSAKey] = core.AuthPSK, core.AuthByUser, core.AuthRawKey
	return all
}

func methodsAlone() map[string]core.AuthMethod {
	all := map[string]core.AuthMethod{}
	for _, m := range auth.Methods {
		all[m.Name] = m.Auth
	}
	return all
}

// rawKey is a key of auth-method "rsa-key": ours to sign with, or only the public one.
func rawKey(k *config.Key, own bool) *core.RawKey {
	if k == nil {
		return nil
	}
	raw := &core.RawKey{Name: k.Name, Public: k.Public}
	if own {
		raw.Key = k.Private
	}
	return raw
}

// identity is one as IKE wants it.
func (s *certStore) identity(i *config.Identity) *core.Identity {
	id := &core.Identity{
		Auth: authMethods()[i.AuthMethod], RemoteAuth: authMethods()[i.RemoteAuthMethod], MyID: coreID(i.MyID), RemoteID: coreID(i.RemoteID),
		Ignore: i.RemoteID.Kind == config.IDIgnore, Secret: i.Secret, MatchCert: i.MatchBy == config.MatchCertificate,
		IgnoreContact: i.IgnoreContact,
	}
	if i.AuthMethod == config.AuthHybrid {
		if i.Peer.Passive {
			id.Auth = core.AuthSignature
		} else {
			id.RemoteAuth = core.AuthSignature
		}
	}
	id.OwnKey, id.RemoteKey = rawKey(i.Key, true), rawKey(i.RemoteKey, false)
	if i.XAuth() {
		id.XAuth = &core.XAuth{Asks: i.Peer.Passive, Name: i.Username, Password: i.Password}
	}
	if c := i.Certificate; c != nil && len(c.Certs) > 0 {
		id.Own = &core.Credential{Name: c.Name, Key: c.Key, PSS: c.RSAPadding == "pss", AutoPadding: c.RSAPadding == "auto",
			Chain: pki.Chain(c.Certs[0], append(c.Certs[1:len(c.Certs):len(c.Certs)], s.all...))}
		if i.MyID.Kind == config.IDDN {
			id.MyID = auth.Subject(c.Certs[0])
		}
	}
	if c := i.RemoteCertificate; c != nil && len(c.Certs) > 0 {
		id.RemoteCert = c.Certs[0]
	}
	id.Pattern = i.RemoteID.Pattern
	if i.RemoteID.Kind == config.IDDN {
		id.RemoteID = core.ID{Type: core.IDDN, Data: i.RemoteID.DER}
	}
	return id
}
