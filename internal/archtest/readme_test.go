package archtest

import (
	"fmt"
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

// TestReadmeConfigurationsPassCheck: what a newcomer copies first has neither
// faults nor warnings and is a whole configuration.
func TestReadmeConfigurationsPassCheck(t *testing.T) {
	examples := blocks("README.md", read(t, "README.md"), "toml")
	if len(examples) < 2 {
		t.Fatalf("README.md has %d configurations; a tunnel has two ends", len(examples))
	}
	for _, example := range examples {
		c, warnings, err := config.Parse(example.name, []byte(example.text))
		if err != nil {
			t.Errorf("%s:\n%v", example.name, err)
			continue
		}
		for _, w := range warnings {
			t.Errorf("%s: warning: %s", example.name, w)
		}
		if len(c.Peers) == 0 || len(c.Identities) == 0 {
			t.Errorf("%s: there is nobody to connect to", example.name)
		}
	}
}

// TestReadmeSitesFitTogether: each end's policy is the other's, seen from there.
func TestReadmeSitesFitTogether(t *testing.T) {
	examples := blocks("README.md", read(t, "README.md"), "toml")
	if len(examples) < 2 {
		t.Fatal("README.md has no two ends")
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
