package archtest

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"culvert/config"
)

// TestRecipeOfCertificates: the commands of docs/certificates.md run, the configuration
// beside them passes check without a warning, and so does that of the other gateway; each
// certificate is what the other end wants to see.
func TestRecipeOfCertificates(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed: the recipe is not tried")
	}
	const file, heading = "docs/certificates.md", "\n## An authority and certificates with openssl\n"
	text := read(t, file)
	_, section, found := strings.Cut(text, heading)
	if !found {
		t.Fatalf("%s has no heading %q", file, heading)
	}
	recipes, sites := blocks(file, section, "sh"), blocks(file, section, "toml")
	if len(recipes) != 1 || len(sites) == 0 {
		t.Fatalf("%d recipes, %d configurations", len(recipes), len(sites))
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-e", "-c", recipes[0].text)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", openssl, err, out)
	}
	other := strings.NewReplacer("site1", "site2", "site2", "site1", "10.1.202.", "10.1.101.", "10.1.101.", "10.1.202.").Replace(sites[0].text)
	var leaves [2]*x509.Certificate
	roots := x509.NewCertPool()
	for i, site := range []string{sites[0].text, other} {
		c, warnings, err := config.Parse(filepath.Join(dir, "site.toml"), []byte(site))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range warnings {
			t.Errorf("warning: %s", w)
		}
		roots.AddCert(c.Certificates[0].Certs[0])
		leaves[i] = c.Certificates[1].Certs[0]
	}
	for i, name := range []string{"site1.example.net", "site2.example.net"} {
		if _, err := leaves[i].Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Error(err)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key of the authority: %v %v", st, err)
	}
}
