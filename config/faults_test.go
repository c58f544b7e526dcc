package config

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lent is a disk that lends its buffers out, as the machine's gives new ones away.
type lent struct {
	machine
	lent map[string][]byte
}

func (d lent) read(path string) ([]byte, fs.FileMode, error) {
	data, mode, err := readFile(path)
	d.lent[filepath.Base(path)] = data
	return data, mode, err
}

// What was read of files with secrets is wiped.
func TestFilesAreWiped(t *testing.T) {
	for _, table := range []string{"file = \"full.pem\"\n", "file = \"leaf.pem\"\nkey-file = \"leaf.key\"\n", "file = \"gw.p12\"\npassphrase-file = \"right\"\n"} {
		dir, _ := certFiles(t)
		path := filepath.Join(dir, "site.toml")
		if err := os.WriteFile(path, []byte(peerFor("[[certificate]]\nname = \"gw\"\n"+table, signs)), 0o600); err != nil {
			t.Fatal(err)
		}
		d := lent{lent: map[string][]byte{}}
		if _, _, err := load(d, path); err != nil {
			t.Fatal(err)
		}
		for name, data := range d.lent {
			if name != "site.toml" && !bytes.Equal(data, make([]byte, len(data))) {
				t.Errorf("%s: %s is left", table, name)
			}
		}
		if len(d.lent) != 1+strings.Count(table, "\n") {
			t.Errorf("%s: %d files were read", table, len(d.lent))
		}
	}
}

// TestReadFile reads files of the longest size that is allowed and of one byte more, and what is not a file. A file is
// never read in part.
func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for size, ok := range map[int64]bool{0: true, maxFile: true, maxFile + 1: false} {
		if err := os.WriteFile(path, nil, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		data, mode, err := readFile(path)
		if (err == nil) != ok || ok && (int64(len(data)) != size || !mode.IsRegular()) || !ok && !strings.Contains(err.Error(), fmt.Sprintf("is larger than %d bytes", maxFile)) {
			t.Errorf("%d bytes: %d, %v, %v", size, len(data), mode, err)
		}
		open, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range open {
			if to, _ := os.Readlink(fd); to == path {
				t.Errorf("%d bytes: the file stays open", size)
			}
		}
	}
	if _, _, err := readFile(filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a folder: %v", err)
	}
}

// A file that begins with the mark of its encoding has its lines all the same.
func TestByteOrderMark(t *testing.T) {
	for _, mark := range []string{"", "\ufeff"} {
		_, _, err := Parse("f", []byte(mark+"[gateway]\nport = \"x\"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "f:2: gateway.port: ") {
			t.Errorf("%q: %v", mark, err)
		}
	}
}

// An identity whose peer cannot be told may be that of any peer: until it is put right nothing is
// said of peers without one. Whether others are disabled does not matter.
func TestStrayIdentities(t *testing.T) {
	const peer = "[[peer]]\nname = \"p\"\naddress = \"192.0.2.1/32\"\nexchange-mode = \"ike2\"\n[[policy]]\npeer = \"p\"\nsrc-address = \"10.1.0.0/16\"\ndst-address = \"10.2.0.0/16\"\ntunnel = true\n"
	stray, off := "[[identity]]\nsecret = \"x\"\n", "[[identity]]\nsecret = \"x\"\ndisabled = true\n"
	elsewhere := "[[identity]]\npeer = \"q\"\nsecret = \"x\"\n"
	for _, c := range []struct {
		identities string
		said       bool
	}{
		{"", true}, {off, true}, {stray, false}, {stray + off, false}, {off + stray, false}, {elsewhere, false}, {elsewhere + off, false}, {elsewhere + "disabled = true\n", true}, {stray + elsewhere + "disabled = true\n", false},
	} {
		_, _, err := Parse("f", []byte(peer+c.identities))
		if got := strings.Contains(fmt.Sprint(err), `[[peer]] "p" has no [[identity]]`); got != c.said {
			t.Errorf("%s: said %v: %v", c.identities, got, err)
		}
	}
}

// TestInitiates checks which peers we initiate to: those with one address or a DNS name that are neither passive nor disabled.
func TestInitiates(t *testing.T) {
	for extra, want := range map[string]bool{"address = \"192.0.2.1/32\"": true, "address = \"gw.example\"": true, "address = \"192.0.2.0/24\"": false,
		"address = \"192.0.2.1/32\"\npassive = true": false, "address = \"192.0.2.1/32\"\ndisabled = true": false} {
		c, _, err := Parse("f", []byte("[[peer]]\nname = \"p\"\nexchange-mode = \"ike2\"\n"+extra+"\n[[identity]]\npeer = \"p\"\nsecret = \"x\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Peers[0].Initiates(); got != want {
			t.Errorf("%s: %v", extra, got)
		}
	}
}

// A key that only another table has is not proposed.
func TestProposedKeys(t *testing.T) {
	for table, want := range map[string]string{
		"[[peer]]\nrouting-mar = \"x\"\n":     `did you mean "routing-mark"?`,
		"[[profile]]\nrouting-mark = \"x\"\n": "",
		"[[profile]]\nusernam = \"x\"\n":      "",
		"[[identity]]\nusernam = \"x\"\n":     `did you mean "username"?`,
	} {
		_, _, err := Parse("f", []byte(table))
		if text := fmt.Sprint(err); strings.Contains(text, "did you mean") != (want != "") || !strings.Contains(text, want) {
			t.Errorf("%s%v", table, err)
		}
	}
}
