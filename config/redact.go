package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"culvert/crypto/pki"
)

// A snapshot without secrets reads like the one that it was made of, but for
// what a peer is proved with: pre-shared keys are names, certificates have a key
// that cannot sign. Comments and what people wrote into comment are gone.

// Redact is the snapshot without its secrets. name gives a secret the name that
// stands for it: the same for the same, another for another. s has to load.
func (s *Snapshot) Redact(name func(secret []byte) string) (*Snapshot, error) {
	c, _, err := s.Load()
	if err != nil {
		return nil, err
	}
	out := &Snapshot{Path: s.Path, Globs: s.Globs, Redacted: true}
	for _, f := range s.Files {
		if f.Data, err = redactFile(c, f, name); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		out.Files = append(out.Files, f)
	}
	return out, nil
}

// redactFile keeps what is known to be no secret; any other file is one.
func redactFile(c *Config, f SnapshotFile, name func([]byte) string) ([]byte, error) {
	if slices.Contains(c.Files, f.Path) {
		return redactTables(f.Data, name)
	}
	for _, cert := range c.Certificates {
		if cert.File == f.Path {
			var b bytes.Buffer
			for _, x := range cert.Certs {
				if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: x.Raw}); err != nil {
					return nil, err
				}
			}
			return b.Bytes(), nil
		}
		if slices.Contains(cert.CRL, f.Path) {
			return slices.Clone(f.Data), nil
		}
	}
	if k := c.keyFile(f.Path); k != nil {
		der, err := x509.MarshalPKIXPublicKey(k.Public)
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
	}
	return []byte(name(bytes.TrimRight(f.Data, "\r\n"))), nil
}

// redactTables writes a file anew, without comments.
func redactTables(data []byte, name func([]byte) string) ([]byte, error) {
	raw := map[string]any{}
	if _, err := toml.Decode(string(data), &raw); err != nil {
		return nil, err
	}
	redactKeys(raw, name)
	var b bytes.Buffer
	err := toml.NewEncoder(&b).Encode(raw)
	return b.Bytes(), err
}

func redactKeys(v any, name func([]byte) string) {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			s, text := x.(string)
			switch {
			case key == "comment":
				delete(v, key)
			case text && holdsSecret(key):
				v[key] = name([]byte(s))
			default:
				redactKeys(x, name)
			}
		}
	case []map[string]any:
		for _, m := range v {
			redactKeys(m, name)
		}
	case []any:
		for _, x := range v {
			redactKeys(x, name)
		}
	}
}

// holdsSecret reports whether the value of a key is a secret; that of a key that
// ends in -file is a path.
func holdsSecret(key string) bool {
	return !strings.HasSuffix(key, "-file") && (strings.Contains(key, "secret") || strings.Contains(key, "pass"))
}

// publicParts is pki.Read of a redacted snapshot: whoever has a certificate there
// is taken to have its key.
func publicParts(data []byte) (pki.Bundle, error) {
	b, err := pki.Read(data, nil, nil)
	if err == nil {
		b.Key = pki.WithoutPrivate(b.Certs[0].PublicKey)
	}
	return b, err
}
