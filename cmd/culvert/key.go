package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"culvert/internal/state/keys"
)

// The manual's key menu. The keys are files in the state directory, so these commands need no
// running gateway, and do not tell one: it reads the keys when it reads its configuration.

// keyFlags is what all commands about keys have.
type keyFlags struct {
	StateDir string `default:"/var/lib/culvert" placeholder:"DIR" help:"State directory of the gateway: the key state-dir of [gateway] (default /var/lib/culvert)."`
}

func (f keyFlags) dir() keys.Dir { return keys.Dir(f.StateDir) }

// maxKeyFile is the largest file that import reads, in bytes.
const maxKeyFile = 64 << 10

// keyRow is a line of key print.
type keyRow struct {
	Number  int  `json:"number"`
	Private bool `json:"private-key" flag:"P"`
	RSA     bool `json:"rsa" flag:"R"`

	Name string `json:"name"`
	Size int    `json:"key-size"` // bits
}

type keyPrint struct {
	keyFlags
	output
}

func (keyPrint) Help() string {
	return `Prints the RSA keys in the state directory. A key with flag P is a private key, which also has the public one; a key without it is the public key of a peer. The keys themselves are never printed. No gateway needs to run.

Example:

    culvert key print`
}

func (c *keyPrint) Run(s *session) error {
	return show(s, c.output, func(context.Context) ([]keyRow, error) {
		all, err := c.dir().List()
		rows := []keyRow{}
		for i, k := range all {
			rows = append(rows, keyRow{Number: i, Private: k.Private != nil, RSA: true, Name: k.Name, Size: k.Public.N.BitLen()})
		}
		return rows, err
	})
}

type keyGenerate struct {
	keyFlags
	Name    string `arg:"" name:"NAME" help:"Name of the new key."`
	KeySize int    `default:"2048" placeholder:"BITS" help:"Size in bits: 1024, 2048 or 4096 (default 2048)."`
}

func (keyGenerate) Help() string {
	return `Makes an RSA private key in the state directory, in a file that only its owner can read. Give the peer the public key, which export-pub-key writes, and import the peer's. Keys of 1024 bits are weak and only for peers that cannot use longer ones.

Example:

    culvert key generate-key ours --key-size 2048
    culvert key export-pub-key ours ours.pem
    culvert key import theirs theirs.pem`
}

// Validate wants a name and a size that exist. kong calls it.
func (c *keyGenerate) Validate() error {
	if !slices.Contains(keys.Sizes, c.KeySize) {
		return fmt.Errorf("--key-size %d is unknown, accepted: 1024, 2048, 4096", c.KeySize)
	}
	return keys.CheckName(c.Name)
}

func (c *keyGenerate) Run(s *session) error {
	k, err := c.dir().Generate(c.Name, c.KeySize)
	if err != nil {
		return err
	}
	return made(s, k, "generated")
}

// made says what was done, and what is weak about it.
func made(s *session, k *keys.Key, done string) error {
	kind := "public"
	if k.Private != nil {
		kind = "private"
	}
	if n := k.Public.N.BitLen(); n < 2048 {
		fmt.Fprintf(s.stderr, "warning: %d bits are weak for an RSA key, use 2048 or more unless the peer cannot\n", n)
	}
	_, err := fmt.Fprintf(s.stdout, "%s %s key %q of %d bits\n", done, kind, k.Name, k.Public.N.BitLen())
	return err
}

type keyExport struct {
	keyFlags
	Key    string `arg:"" name:"NAME" help:"Name of the key."`
	File   string `arg:"" name:"FILE" help:"File to write; - for standard output."`
	Format string `default:"pem" enum:"pem,rfc3110" placeholder:"FORMAT" help:"pem or rfc3110 (default pem)."`
}

func (keyExport) Help() string {
	return `Writes the public key of a private key to a file, for the peer. pem is what RouterOS and OpenSSL read. rfc3110 is what leftrsasigkey and rightrsasigkey of strongSwan and Libreswan take. A file that exists is not overwritten.

Example:

    culvert key export-pub-key ours ours.pem
    culvert key export-pub-key ours - --format rfc3110`
}

func (c *keyExport) Run(s *session) error {
	k, err := c.dir().Load(c.Key)
	if err != nil {
		return err
	}
	data := k.PublicRFC3110()
	if c.Format == "pem" {
		if data, err = k.PublicPEM(); err != nil {
			return err
		}
	}
	if c.File == "-" {
		_, err := s.stdout.Write(data)
		return err
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists and is not overwritten, choose another file or remove it first", c.File)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "wrote the public key of %s to %s\n", strconv.Quote(k.Name), c.File)
	return err
}

type keyImport struct {
	keyFlags
	Name string `arg:"" name:"NAME" help:"Name of the new key."`
	File string `arg:"" name:"FILE" help:"File with the key; - for standard input."`
}

func (keyImport) Help() string {
	return `Reads an RSA key from a file into the state directory. The file has a private or a public key in PEM, without a passphrase, or a public key in the form of RFC 3110: base64 (with or without 0s before it), hexadecimal after 0x, or binary. The file stays where it is; if it has a private key, remove it afterwards.

Example:

    culvert key import theirs theirs.pem
    ipsec showhostkey --left --rsaid AwEAAb | sed -n 's/.*rsasigkey=//p' | culvert key import theirs -`
}

// Validate wants a name that a key can have. kong calls it.
func (c *keyImport) Validate() error { return keys.CheckName(c.Name) }

func (c *keyImport) Run(s *session) error {
	var in io.Reader = os.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	defer func() { clear(data) }()
	if err != nil {
		return err
	}
	if len(data) > maxKeyFile {
		return fmt.Errorf("%s has more than %d bytes and is not a key", c.File, maxKeyFile)
	}
	k, err := c.dir().Import(c.Name, data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return made(s, k, "imported")
}

type keyRemove struct {
	keyFlags
	Name string `arg:"" name:"NAME" help:"Name of the key."`
}

func (keyRemove) Help() string {
	return `Deletes a key from the state directory. A private key cannot be restored. A running gateway uses the key until its configuration is read again.

Example:

    culvert key remove theirs`
}

func (c *keyRemove) Run(s *session) error {
	if err := c.dir().Remove(c.Name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.stdout, "removed key %q\n", c.Name)
	return err
}
