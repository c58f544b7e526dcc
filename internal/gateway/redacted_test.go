package gateway

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/internal/operate/record"
	"culvert/internal/testing/simnet"
)

// gleaner collects every secret that an endpoint ever holds: all secret.Bytes
// that can be reached from it, after each input.
type gleaner struct {
	*ike.Endpoint
	found  map[string]bool
	seen   map[uintptr]bool
	public map[core.AskID]bool // whose answers are no secrets
}

func (g *gleaner) Handle(now time.Time, in core.Input) {
	if a, ok := in.(core.Answer); !ok || !g.public[a.ID] {
		g.glean(in)
	}
	g.Endpoint.Handle(now, in)
	g.glean(g.Endpoint)
}

func (g *gleaner) Poll() (core.Output, bool) {
	o, ok := g.Endpoint.Poll()
	if a, is := o.(core.Ask); is {
		switch a.Work.(type) {
		case core.KEPublic, core.SourceFor, core.Lease, auth.Verify, auth.Fetch, auth.Revocation:
			g.public[a.ID] = true
		}
	}
	g.glean(o)
	return o, ok
}

func (g *gleaner) glean(v any) {
	g.seen = map[uintptr]bool{}
	g.walk(reflect.ValueOf(v))
}

func (g *gleaner) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || g.seen[v.Pointer()] {
			return
		}
		g.seen[v.Pointer()] = true
		g.walk(v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			g.walk(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			g.walk(v.Field(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			g.walk(it.Value())
		}
	case reflect.Slice, reflect.Array:
		if v.Type() == reflect.TypeFor[secret.Bytes]() {
			if b := v.Bytes(); len(b) >= 8 && len(bytes.Trim(b, "\x00")) > 0 {
				g.found[string(b)] = true
			}
			return
		}
		if k := v.Type().Elem().Kind(); k == reflect.Uint8 || k == reflect.String {
			return
		}
		for i := range v.Len() {
			g.walk(v.Index(i))
		}
	}
}

// redacted records the west without secrets; what its endpoint holds is gleaned.
func (w *world) redacted(dir string) (*record.Recorder, *gleaner) {
	w.t.Helper()
	seed := [32]byte{9, 9, 1, 2, 3, 4, 5, 6, 7, 8}
	g := &gleaner{Endpoint: ike.New(seed), found: map[string]bool{string(seed[:]): true}, public: map[core.AskID]bool{}}
	r, err := record.New(g, record.Options{Dir: dir, Redact: true, Seed: seed, Build: "test", Start: w.clock.Now(),
		Stopped: func(err error) { w.t.Errorf("the recording stopped: %v", err) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.west.plane.Config.Endpoint = r
	return r, g
}

// clean checks that nothing of what was gleaned is in the recording, nor more.
func (g *gleaner) clean(t *testing.T, dir string, more ...string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, record.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.found) < 9 {
		t.Fatalf("only %d secrets were gleaned", len(g.found))
	}
	for _, s := range more {
		g.found[s] = true
	}
	for s := range g.found {
		if bytes.Contains(b, []byte(s)) || bytes.Contains(bytes.ToLower(b), []byte(hex.EncodeToString([]byte(s)))) {
			t.Errorf("the recording has %q", s)
		}
	}
	t.Logf("%d bytes, none of %d secrets", len(b), len(g.found))
}

// A recording of a storm without its secrets plays, decision by decision, and
// holds no key, private value, pre-shared key or seed that the endpoint ever had.
func TestRedactedRecordingOfAStorm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storm")
	w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.2, Dup: 0.1, Reorder: 0.1})
	r, g := w.redacted(dir)
	w.storm(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	g.clean(t, dir, "thisisnotasecurepsk", "another line")
	var lines []string
	got, err := Replay(dir, "", func(_ time.Time, text string) { lines = append(lines, text) })
	if err != nil || got.Difference != nil {
		t.Fatalf("%v, %v", got.Difference, err)
	}
	if !got.Redacted || got.Ended != "closed" || got.Inputs < 500 || got.Outputs < 500 || w.west.count(core.EvIKEUp) < 5 {
		t.Errorf("%+v, %d IKE SAs", got, w.west.count(core.EvIKEUp))
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"in clear: IKE_AUTH response 1 {IDr(", "KE(x25519)", "SA(1: protocol 3 1:12/128", "Event ike-up", "out Install CHILD SA ", "out Remove CHILD SA"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	t.Logf("%d inputs, %d decisions", got.Inputs, got.Outputs)
}

// With another configuration the replay says where it would have gone another way.
func TestRedactedWithAnotherConfiguration(t *testing.T) {
	for _, c := range []struct {
		name, from, to           string
		what, recorded, replayed string
	}{
		{"proposal", `enc-algorithms = "aes-128-cbc"`, `enc-algorithms = "aes-256-gcm"`,
			"IKE_AUTH request 1", "SA(1: protocol 3 1:12/128 3:12", "N(NO_PROPOSAL_CHOSEN, 0 bytes)"},
		{"selectors", `src-address = "10.1.101.0/24"`, `src-address = "10.1.101.0/25"`,
			"IKE_AUTH request 1", "TSr[10.1.101.0/24]", "TSr[10.1.101.0/25]"},
		{"identity", `secret =`, "remote-id = \"fqdn:nobody.example\"\nsecret =",
			"IKE_AUTH request 1", "IDr(", "N(AUTHENTICATION_FAILED, 0 bytes)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond})
			r, g := w.redacted(filepath.Join(dir, "rec"))
			text := passive(site(eastAddr, "101", "102"))
			w.west.configureRecorded(r, text)
			w.east.mustConfigure(site(westAddr, "102", "101"))
			w.until("established", func() bool { return w.west.sealing() >= 2 })
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			g.clean(t, filepath.Join(dir, "rec"), "thisisnotasecurepsk")
			same, other := filepath.Join(dir, "same.toml"), filepath.Join(dir, "other.toml")
			for path, text := range map[string]string{same: text, other: strings.Replace(text, c.from, c.to, 1)} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := Replay(filepath.Join(dir, "rec"), same, nil); err != nil || got.Difference != nil {
				t.Errorf("with the same: %v, %v", got.Difference, err)
			}
			got, err := Replay(filepath.Join(dir, "rec"), other, nil)
			if err != nil || got.Difference == nil {
				t.Fatalf("%+v, %v", got, err)
			}
			if d := got.Difference; !strings.Contains(d.What, c.what) || !strings.Contains(d.Recorded, c.recorded) || !strings.Contains(d.Replayed, c.replayed) {
				t.Errorf("%v", d)
			}
		})
	}
}

// One whose peer proves nothing tells that it did not, and plays.
func TestRedactedWrongProof(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rec")
	w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond})
	r, g := w.redacted(dir)
	w.west.configureRecorded(r, passive(site(eastAddr, "101", "102")))
	w.east.mustConfigure(strings.ReplaceAll(site(westAddr, "102", "101"), "thisisnotasecurepsk", "anotherone"))
	w.until("refused", func() bool { return w.west.count(core.EvAuthFailed) > 0 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	g.clean(t, dir, "thisisnotasecurepsk", "anotherone")
	if got, err := Replay(dir, "", nil); err != nil || got.Difference != nil || got.Inputs < 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

// issued is a certificate with its key in files of their own below dir.
func issued(t *testing.T, dir, name string, serial int64, issuer *x509.Certificate, by crypto.Signer) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".example"},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: issuer == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if issuer == nil {
		issuer, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for ext, b := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name+ext), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// Certificates, a PPK, a slow group, an additional key exchange and fragments:
// the keys stay here, the decisions play.
func TestRedactedWithCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := issued(t, dir, "authority", 1, nil, nil)
	_, westKey := issued(t, dir, "west", 2, ca, caKey)
	issued(t, dir, "east", 3, ca, caKey)
	signed := func(text, me, other string) string {
		text = strings.Replace(text, `secret = "thisisnotasecurepsk"`, fmt.Sprintf("auth-method = \"digital-signature\"\ncertificate = %q\nmy-id = \"fqdn:%s.example\"\nremote-id = \"fqdn:%s.example\"\n"+
			"ppk-id = \"quantum\"\nppk-secret-file = %q # theoldsecret", me, me, other, filepath.Join(dir, "ppk")), 1)
		text = strings.Replace(text, `dh-group = "x25519"`, `dh-group = "modp4096+ml-kem-768"`, 1)
		for _, name := range []string{"authority", me} {
			text += fmt.Sprintf("\n[[certificate]]\nname = %q\ncomment = \"in the safe\"\nfile = %q\n", name, filepath.Join(dir, name+".crt"))
			if name == me {
				text += fmt.Sprintf("key-file = %q\n", filepath.Join(dir, name+".key"))
			}
		}
		return text
	}
	if err := os.WriteFile(filepath.Join(dir, "ppk"), []byte("theppkthatnobodyknows\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := signed(site(eastAddr, "101", "102"), "west", "east")
	path := filepath.Join(dir, "west.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond})
	rec := filepath.Join(dir, "rec")
	r, g := w.redacted(rec)
	w.east.mustConfigure(passive(signed(site(westAddr, "102", "101"), "east", "west")))
	_, _, from, err := config.LoadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	r.From(from, [2]uint16{500, 4500}, false)
	w.west.mustConfigure(text)
	w.until("established", func() bool { return w.west.sealing() >= 2 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	scalar, err := westKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	keyFile, err := os.ReadFile(filepath.Join(dir, "west.key"))
	if err != nil {
		t.Fatal(err)
	}
	g.clean(t, rec, string(scalar), string(keyFile), "PRIVATE KEY", "theppkthatnobodyknows", "theoldsecret", "in the safe")
	for _, name := range []string{"west.toml", "west.crt", "west.key", "authority.crt", "ppk"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	got, err := Replay(rec, "", func(_ time.Time, text string) { lines = append(lines, text) })
	if err != nil || got.Difference != nil {
		t.Fatalf("%v, %v", got.Difference, err)
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{"core.KEPublic", "auth.Sign", "auth.Verify", "seals: IKE_INTERMEDIATE request 1 {KE(", "in clear: IKE_AUTH response 2 {", "AUTH(method 14", "Event ike-up"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, all)
		}
	}
}

// A gateway whose client comes back with a ticket: what was in it is in the
// recording but for its secrets, and it plays.
func TestRedactedResumption(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rec")
	w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond})
	r, g := w.redacted(dir)
	resumes := func(text string) string {
		return strings.Replace(text, "dh-group = \"x25519\"", "dh-group = \"x25519\"\nresumption = true\ndpd-interval = \"10s\"", 1)
	}
	w.west.configureRecorded(r, resumes(passive(site(eastAddr, "101", "102"))))
	w.east.mustConfigure(resumes(site(westAddr, "102", "101")))
	w.until("established", func() bool { return w.west.sealing() >= 2 })
	w.run(5 * time.Second)
	net := w.net
	w.net = simnet.New(1, simnet.Link{Loss: 1})
	w.until("dead", func() bool { return w.east.count(core.EvPeerDead) > 0 })
	w.net = net
	w.until("resumed", func() bool { return w.west.count(core.EvIKEUp) > 1 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	g.clean(t, dir, "thisisnotasecurepsk")
	var lines []string
	got, err := Replay(dir, "", func(_ time.Time, text string) { lines = append(lines, text) })
	if err != nil || got.Difference != nil {
		t.Fatalf("%v, %v", got.Difference, err)
	}
	if all := strings.Join(lines, "\n"); !strings.Contains(all, "IKE_SESSION_RESUME response 0 {Nonce") {
		t.Errorf("nothing was resumed in\n%s", all)
	}
}
