package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"culvert/config"
)

// block is a fenced block of a Markdown file.
type block struct {
	name string // FILE:LINE of its first line
	text string
}

// blocks finds the blocks that are fenced as language.
func blocks(file, markdown, language string) (list []block) {
	var text strings.Builder
	inside, first := false, 0
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case !inside && line == "```"+language:
			inside, first = true, i+2
			text.Reset()
		case inside && strings.HasPrefix(line, "```"):
			inside = false
			list = append(list, block{fmt.Sprintf("%s:%d", file, first), text.String()})
		case inside:
			text.WriteString(line + "\n")
		}
	}
	return list
}

func TestBlocks(t *testing.T) {
	got := blocks("f", "a\n```toml\nx = 1\n\ny = 2\n```\n```\nz\n```\n```toml\n```\n```toml\nopen", "toml")
	want := []block{{"f:3", "x = 1\n\ny = 2\n"}, {"f:11", ""}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// wholeConfigurations are the documents whose blocks of TOML are whole configurations.
var wholeConfigurations = []string{"README.md", "docs/tunnels.md"}

// TestConfigurationsInDocumentsPassCheck: what a newcomer copies has no faults, is a whole
// configuration, and has one warning for each secret: everybody knows it.
func TestConfigurationsInDocumentsPassCheck(t *testing.T) {
	var examples []block
	for _, file := range wholeConfigurations {
		found := blocks(file, read(t, file), "toml")
		if len(found) < 2 {
			t.Errorf("%s has %d configurations; a tunnel has two ends", file, len(found))
		}
		examples = append(examples, found...)
	}
	for _, example := range examples {
		c, warnings, err := config.Parse(example.name, []byte(example.text))
		if err != nil {
			t.Errorf("%s:\n%v", example.name, err)
			continue
		}
		secrets := 0
		for _, w := range warnings {
			if w.Key == "identity.secret" && strings.HasPrefix(w.Message, "is short, easy to guess or published") {
				secrets++
				continue
			}
			t.Errorf("%s: warning: %s", example.name, w)
		}
		if secrets != len(c.Identities) {
			t.Errorf("%s: %d secrets, and check warns of %d that are not to be kept", example.name, len(c.Identities), secrets)
		}
		if len(c.Peers) == 0 || len(c.Identities) == 0 {
			t.Errorf("%s: there is nobody to connect to", example.name)
		}
	}
}

// TestSitesInDocumentsFitTogether: each end's policy is the other's, seen from there.
func TestSitesInDocumentsFitTogether(t *testing.T) {
	for _, file := range wholeConfigurations {
		t.Run(file, func(t *testing.T) { sitesFitTogether(t, blocks(file, read(t, file), "toml")) })
	}
}

func sitesFitTogether(t *testing.T, examples []block) {
	if len(examples) < 2 {
		t.Fatal("there are no two ends")
	}
	var ends [2]*config.Config
	for i := range ends {
		c, _, err := config.Parse(examples[i].name, []byte(examples[i].text))
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c
	}
	one, two := encrypting(ends[0]), encrypting(ends[1])
	if one == nil || two == nil {
		t.Fatal("an end has no policy that encrypts")
	}
	if one.SrcAddress != two.DstAddress || one.DstAddress != two.SrcAddress {
		t.Errorf("%s -> %s does not meet %s -> %s", one.SrcAddress, one.DstAddress, two.SrcAddress, two.DstAddress)
	}
	if !ends[0].Identities[0].Secret.Equal(ends[1].Identities[0].Secret) {
		t.Error("the secrets differ")
	}
}

func encrypting(c *config.Config) *config.Policy {
	for _, p := range c.Policies {
		if !p.Template && !p.Disabled && p.PeerName != "" {
			return p
		}
	}
	return nil
}

// TestReadmeIsShort: the README is for somebody who decides in a minute; all else is in docs.
func TestReadmeIsShort(t *testing.T) {
	if n := len(strings.Fields(read(t, "README.md"))); n < 600 || n > 900 {
		t.Errorf("README.md has %d words; 600 to 900 are wanted: move the rest to docs", n)
	}
}

// TestLinksInDocuments: every document that a document links to is there.
func TestLinksInDocuments(t *testing.T) {
	files, err := filepath.Glob("../../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../../../README.md", "../../../CONTRIBUTING.md", "../../../benchmarks/README.md")
	links := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	count := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range links.FindAllStringSubmatch(string(text), -1) {
			count++
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", filepath.Base(file), m[1])
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d links were found", count)
	}
}
