package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// strong is a secret that nobody guesses.
const strong = "0x8d1f0c4be2a95377d06e1fb84ac3925e7f60b1d8c2e94a35f7081b6dce23a940"

// weakWarnings are the warnings about weak algorithms, without the file's name.
func weakWarnings(warnings []Warning) string {
	var list []string
	for _, w := range warnings {
		if strings.Contains(w.Message, "weak algorithms") {
			list = append(list, strings.TrimPrefix(w.String(), "f:"))
		}
	}
	return strings.Join(list, "\n")
}

// others are the warnings of tests whose configurations have the manual's algorithms,
// or a secret of one letter, and that are about something else.
func others(warnings []Warning) []Warning {
	return slices.DeleteFunc(slices.Clone(warnings), func(w Warning) bool {
		return strings.HasPrefix(w.Message, "weak algorithms are allowed by ") || strings.HasPrefix(w.Message, "is short, easy to guess or published")
	})
}

// What is in force is told, also where it is the manual's default, one line for each
// profile and proposal; what is not in force only where it is written.
func TestWeakInForce(t *testing.T) {
	const (
		ends    = " at both ends, and allow weak ones only for a peer that has nothing better"
		profile = `weak algorithms are allowed by [[profile]] "default": modp1024, sha1 (the manual's defaults), write a [[profile]] "default" with dh-group = "modp2048", hash-algorithm = "sha256"` + ends
		propose = `weak algorithms are allowed by [[proposal]] "default": sha1, modp1024 (the manual's defaults), write a [[proposal]] "default" with auth-algorithms = "sha256", pfs-group = "modp2048"` + ends

		// A tunnel whose algorithms nobody wrote, and clients that get policies from a template.
		site    = "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n[[identity]]\npeer = 'a'\nsecret = '" + strong + "'\n"
		policy  = "[[policy]]\npeer = 'a'\ntunnel = true\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\n"
		clients = "[[peer]]\nname = 'rw'\nexchange-mode = 'ike2'\npassive = true\n[[identity]]\npeer = 'rw'\nsecret = '" + strong + "'\ngenerate-policy = 'port-strict'\n"
		good    = "[[profile]]\nname = 'default'\ndh-group = 'ecp256'\nhash-algorithm = 'sha256'\n"
	)
	for _, c := range []struct{ file, warns string }{
		{"", ""},
		{site + policy, "1: peer.profile: " + profile + "\n8: policy.proposal: " + propose},
		{site + policy + strings.Replace(policy, "10.2", "10.3", 1), "1: peer.profile: " + profile + "\n8: policy.proposal: " + propose},
		{clients, "1: peer.profile: " + profile + "\n5: identity.policy-template-group: " + propose},
		{strings.Replace(clients, "generate-policy = 'port-strict'\n", "", 1), "1: peer.profile: " + profile},
		{clients + "policy-template-group = 'g'\n[[policy-group]]\nname = 'g'\n[[policy]]\ntemplate = true\ngroup = 'g'\n",
			"1: peer.profile: " + profile + "\n12: policy.proposal: " + propose},
		// The template is told of where the first of those stands that use it.
		{strings.Replace(clients, "peer = 'rw'\nsecret", "peer = 'rw'\ndisabled = true\nsecret", 1) + "[[identity]]\npeer = 'rw'\nsecret = '" + strong + "'\n", "1: peer.profile: " + profile},
		{clients + "[[identity]]\npeer = 'rw'\nsecret = '" + strong + "'\nremote-id = 'fqdn:x'\ngenerate-policy = 'port-strict'\n",
			"1: peer.profile: " + profile + "\n5: identity.policy-template-group: " + propose},
		{strings.Replace(clients, "name = 'rw'", "disabled = true\nname = 'rw'", 1), ""},
		// Nobody connects: nothing is in force.
		{"[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n", ""},
		{strings.Replace(site, "name", "disabled = true\nname", 1) + policy, ""},
		{good + "[[policy]]\naction = 'discard'\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\n", ""},
		// SAs by hand have their algorithms from their command.
		{"[[policy]]\ntunnel = true\nsrc-address = '10.1.0.0/16'\ndst-address = '10.2.0.0/16'\nsa-src-address = '192.0.2.1'\nsa-dst-address = '192.0.2.2'\n", ""},
		// AEADs alone: the hash is only the PRF's, and not even that beside a prf-algorithm.
		{site + "[[profile]]\nname = 'default'\ndh-group = 'ecp256'\nenc-algorithm = 'aes-256-gcm'\n",
			`8: profile: weak algorithms are allowed by [[profile]] "default": sha1, write hash-algorithm = "sha256"` + ends},
		{site + "[[profile]]\nname = 'default'\ndh-group = 'ecp256'\nenc-algorithm = 'aes-256-gcm'\nprf-algorithm = 'sha256'\n", ""},
		{site + good + policy + "proposal = 'q'\n[[proposal]]\nname = 'q'\npfs-group = 'none'\nenc-algorithms = 'aes-256-gcm'\n", ""},
		// What is left of a list when the weak ones go, and what to write where nothing is.
		{site + "[[profile]]\nname = 'default'\ndh-group = ['modp768', 'x25519', 'modp1024+ml-kem-768', 'ecp256']\nenc-algorithm = ['des', '3des']\nhash-algorithm = ['md5', 'sha512']\nprf-algorithm = 'md5'\n",
			`10: profile.dh-group: weak algorithms are allowed by [[profile]] "default": modp768, modp1024+ml-kem-768, des, 3des, md5, write dh-group = ["x25519", "ecp256"], enc-algorithm = "aes-256", hash-algorithm = "sha512", prf-algorithm = "sha256"` + ends},
		{site + good + policy + "proposal = 'q'\n[[proposal]]\nname = 'q'\npfs-group = 'none'\nauth-algorithms = ['sha1', 'sha256']\nenc-algorithms = ['null', 'aes-128-cbc']\n",
			`21: proposal.auth-algorithms: weak algorithms are allowed by [[proposal]] "q": sha1, null, write auth-algorithms = "sha256", enc-algorithms = "aes-128-cbc"` + ends},
		// Not in force, but written.
		{"[[proposal]]\nname = 'q'\nauth-algorithms = 'sha256'\nenc-algorithms = '3des'\n", `4: proposal.enc-algorithms: weak algorithms are allowed by [[proposal]] "q": 3des, write enc-algorithms = "aes-256-gcm"` + ends},
		{"[[profile]]\nname = 'p'\n[[proposal]]\nname = 'q'\n", ""},
		{"[[proposal]]\nname = 'q'\ndisabled = true\nenc-algorithms = 'des'\n", ""},
	} {
		_, warnings, err := Parse("f", []byte(c.file))
		if got := weakWarnings(warnings); err != nil || got != c.warns {
			t.Errorf("%s\n%v\n got  %s\n want %s", c.file, err, got, c.warns)
		}
	}
}

// What the parts of a secret are worth, in bits.
func TestStrengthOfParts(t *testing.T) {
	letter, digit := math.Log2(52), math.Log2(10)
	for s, want := range map[string]float64{
		"": 0, "x": letter, "wor": 3 * letter, "word": 4 * wordBits, "Word": 4 * wordBits, "WORD": 4 * wordBits, "wOrd": 4 * letter, "worD": 4 * letter,
		"word-five": 8*wordBits + 1, "word five": 8*wordBits + 1, "word_five": 8*wordBits + 1, "word.five": 8*wordBits + 1, "word,five": 8*wordBits + 5,
		"word7": 4*wordBits + digit, "1947": 4 * digit, "1230": 2*digit + 1 + digit, "1": digit, "9871": 2*digit + 1 + digit, "1357": 4 * digit,
		"wordword": 4*wordBits + 1, "wordwordwordword": 4*wordBits + 2, "wordwor": 7 * wordBits,
		"deadbeefdeadbee1": 15*wordBits + digit,
		"a\x01":            16, "\xff\xfe\xfa": 24,
	} {
		if got := strength([]byte(s)); math.Abs(got-want) > 1e-9 {
			t.Errorf("%q: %v bits, want %v", s, got, want)
		}
	}
}

// The estimate of a secret is not above what guessing takes, and not far below what
// random text is worth.
func TestStrength(t *testing.T) {
	for _, c := range []struct {
		secret    string
		low, high float64
	}{
		{"s", 1, 6},
		{"thisisnotasecurepsk", 20, 50},
		{"correct horse battery staple", 40, 79},
		{"Passw0rd2024!", 20, 60},
		{"Summer-2024-Vienna", 20, 60},
		{"ALLCAPITALSAREWORDS", 20, 50},
		{"12345678901234567890", 4, 40},
		{"qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq", 5, 12},
		{"abcabcabcabcabcabcabcabcabcabcabc", 5, 20},
		{"abcdefghijklmnopqrstuvwxyz", 2, 66},
		{"größenwahnsinnige zwerge", 40, 79},
		{string(make([]byte, 32)), 8, 13},
		{"k7Gq2mXw9RtZ4bNc8VyL", 95, 120},
		{"hXw!9$kQz@4mT#7p", 80, 105},
		{"8d1f0c4be2a95377d06e1fb84ac3925e", 120, 128},
		{"8d1f0c4be2a95377d06e1fb84ac3925e7f60b1d8c2e94a35f7081b6dce23a940", 245, 256},
		{"\x8d\x1f\x0c\x4b\xe2\xa9\x53\x77\xd0\x6e\x1f\xb8\x4a\xc3\x92\x5e\x7f\x60\xb1\xd8\xc2\xe9\x4a\x35\xf7\x08\x1b\x6d\xce\x23\xa9\x40", 245, 256},
		{"alpha tundra mosaic velvet cobalt ginger pylon", 95, 130},
	} {
		if got := strength([]byte(c.secret)); got < c.low || got > c.high {
			t.Errorf("%q: %.1f bits, want %v to %v", c.secret, got, c.low, c.high)
		}
	}
}

func TestShortSecrets(t *testing.T) {
	const hint = `is short, easy to guess or published, write "0x" and the output of openssl rand -hex 32, at both ends`
	for _, c := range []struct {
		identity, warns string
	}{
		{"secret = '" + strong + "'\n", ""},
		{"secret = 'thisisnotasecurepsk'\n", "identity.secret: " + hint},
		{"secret = 'thisisnotasecurepsk'\ndisabled = true\n", ""},
		{"secret = '" + strong + "'\nppk-id = 'p'\nppk-secret = '" + strong + "'\n", ""},
		{"secret = '" + strong + "'\nppk-id = 'p'\nppk-secret = '" + strong[:34] + "'\n", "identity.ppk-secret: " + hint},
	} {
		_, warnings, err := Parse("f", []byte("[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n[[identity]]\npeer = 'a'\n"+c.identity))
		got := ""
		for _, w := range warnings {
			if strings.HasPrefix(w.Key, "identity") {
				got += w.Key + ": " + w.Message
			}
		}
		if err != nil || got != c.warns {
			t.Errorf("%s: %v\n got  %s\n want %s", c.identity, err, got, c.warns)
		}
	}
	// Of thousands the first are told one by one.
	var file strings.Builder
	file.WriteString("[[peer]]\nname = 'a'\nexchange-mode = 'ike2'\npassive = true\n")
	for i := range 20 {
		fmt.Fprintf(&file, "[[identity]]\npeer = 'a'\nremote-id = 'fqdn:c%d.example.net'\nsecret = 'client%d'\n", i, i)
	}
	_, warnings, err := Parse("f", []byte(file.String()))
	told, rest := 0, ""
	for _, w := range warnings {
		if strings.HasSuffix(w.Message, hint) && w.Line > 0 {
			told++
		} else if w.Key == "identity" {
			rest = w.String()
		}
		if strings.Contains(w.String(), "client") {
			t.Errorf("a secret is told: %s", w)
		}
	}
	if err != nil || told != toldSecrets || !strings.HasPrefix(rest, "f: identity: 12 more secrets are short") {
		t.Errorf("%v, %d told, %s", err, told, rest)
	}
}

// A file with secrets is for one user. One without may be read by everybody.
func TestFilesThatOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are not in the mode of a file here")
	}
	const hint = "has secrets and can be read by others (mode 0%o), run chmod 600 on it, or write secret-file in the place of secret"
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path(name), []byte(text), 0o600), os.Chmod(path(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	peer := "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n"
	inline := "[[identity]]\npeer = 'a'\nsecret = '" + strong + "'\n"
	beside := "[[identity]]\npeer = 'a'\nsecret-file = 'key'\n"
	write("key", strong+"\n", 0o600)
	for _, c := range []struct {
		main, part         string
		mainMode, partMode os.FileMode
		told               string // files, with their modes
		secret             string // files
	}{
		{peer + inline, "", 0o600, 0o644, "", "main"},
		{peer + inline, "", 0o644, 0o600, "main 644", "main"},
		{peer + inline, "", 0o640, 0o600, "main 640", "main"},
		{peer, inline, 0o644, 0o604, "part 604", "part"},
		{inline, peer, 0o604, 0o644, "main 604", "main"},
		{peer, beside, 0o644, 0o644, "", "key"},
		{peer + inline, inline, 0o644, 0o644, "main 644 part 644", "main part"},
	} {
		write("main", "include = 'part'\n"+c.main, c.mainMode)
		write("part", c.part, c.partMode)
		cfg, warnings, snapshot, err := LoadSnapshot(path("main"))
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		var want []string
		for words := strings.Fields(c.told); len(words) > 0; words = words[2:] {
			mode, _ := strconv.ParseUint(words[1], 8, 32)
			want = append(want, path(words[0])+": "+fmt.Sprintf(hint, mode))
		}
		var got []string
		for _, w := range warnings {
			if strings.Contains(w.Message, "read by others") {
				got = append(got, w.String())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v\n got  %q\n want %q", c, got, want)
		}
		var files []string
		for _, f := range cfg.SecretFiles() {
			files = append(files, filepath.Base(f))
		}
		if strings.Join(files, " ") != c.secret {
			t.Errorf("%+v: secrets are in %v", c, files)
		}
		// What was redacted has none.
		open, err := snapshot.Redact(func([]byte) string { return "a name" })
		if err != nil {
			t.Fatal(err)
		}
		_, warnings, err = open.Load()
		for _, w := range warnings {
			if strings.Contains(w.Message, "has secrets") || strings.Contains(w.Message, "short") {
				t.Errorf("%+v, redacted: %s", c, w)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}
