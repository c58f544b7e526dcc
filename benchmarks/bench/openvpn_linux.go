package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// startOpenVPN starts two OpenVPN that know the fingerprints of each other's certificates.
func startOpenVPN(_ context.Context, h *harness, s *site, _ options) error {
	var prints [2]string
	for i, n := range s.ends {
		var err error
		if prints[i], err = selfSigned(n.dir); err != nil {
			return err
		}
	}
	for i, n := range s.ends {
		far := s.ends[1-i]
		address := func(n *node) string { return fmt.Sprintf("10.9.0.%d", n.n) }
		netOf := strings.TrimSuffix(far.net, "/16")
		args := []string{h.binaries["openvpn"], "--dev", "tun0", "--dev-type", "tun", "--proto", "udp", "--local", n.outer, "--remote", far.outer,
			"--ifconfig", address(n), address(far), "--route", netOf, "255.255.0.0", "--disable-dco", "--data-ciphers", "AES-256-GCM",
			"--cert", filepath.Join(n.dir, "cert.pem"), "--key", filepath.Join(n.dir, "key.pem"), "--peer-fingerprint", prints[1-i],
			"--dh", "none", "--reneg-sec", "0", "--keepalive", "10", "3600", "--verb", "3", []string{"--tls-server", "--tls-client"}[i]}
		p, err := n.start("openvpn", nil, args...)
		if err != nil {
			return err
		}
		s.gates = append(s.gates, p)
	}
	return nil
}

// selfSigned writes a key and a certificate, and returns its fingerprint as OpenVPN wants it.
func selfSigned(dir string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return "", err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{"cert.pem", "CERTIFICATE", cert}, {"key.pem", "PRIVATE KEY", private}} {
		data := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := os.WriteFile(filepath.Join(dir, f.name), data, 0o600); err != nil {
			return "", err
		}
	}
	return fingerprint(cert), nil
}

// fingerprint is a SHA-256 fingerprint with colons.
func fingerprint(cert []byte) string {
	sum := sha256.Sum256(cert)
	parts := make([]string, len(sum))
	for i, c := range sum {
		parts[i] = fmt.Sprintf("%02X", c)
	}
	return strings.Join(parts, ":")
}
