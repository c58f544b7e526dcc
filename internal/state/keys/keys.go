package keys

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultStateDir is the state-dir of a gateway that does not write the key.
const DefaultStateDir = "/var/lib/culvert"

// Folder is the folder of the keys in the state directory.
const Folder = "keys"

// Ext is the ending of a key's file.
const Ext = ".pem"

var (
	// ErrExists: a key has the name already.
	ErrExists = errors.New("already exists")
	// ErrMissing: no key has the name.
	ErrMissing = errors.New("does not exist")
	// ErrPublic: a private key was asked for, and the key is a public one.
	ErrPublic = errors.New("is a public key")
)

// Sizes are the key sizes of generate-key in bits, as the manual has them.
var Sizes = []int{1024, 2048, 4096}

// Key is an RSA key with a name.
type Key struct {
	Name    string
	Public  *rsa.PublicKey
	Private *rsa.PrivateKey // nil: only the public key is here
}

// Dir is the state directory; its keys are in the folder keys of it, which is made when it
// is needed. Only its owner can enter the folder and read the files.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), Folder, name+Ext) }

// CheckName says whether a name can be that of a key: it becomes the name of a file.
func CheckName(name string) error {
	allowed := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r)
	}
	if name == "" || len(name) > 64 || name[0] == '.' || strings.ContainsFunc(name, func(r rune) bool { return !allowed(r) }) {
		return fmt.Errorf("%q cannot be the name of a key, accepted: 1 to 64 letters, digits, hyphens, underscores and dots, not with a dot first", name)
	}
	return nil
}

// Generate makes a private key of a size among Sizes.
func (d Dir) Generate(name string, bits int) (*Key, error) {
	if !slices.Contains(Sizes, bits) {
		return nil, fmt.Errorf("key-size %d is unknown, accepted: 1024, 2048, 4096", bits)
	}
	if err := d.free(name); err != nil {
		return nil, err
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("cannot make an RSA key of %d bits: %w", bits, err)
	}
	k := &Key{name, &private.PublicKey, private}
	return k, d.add(k)
}

// Import keeps a key that was read from a file: what Parse takes. It keeps data no longer.
func (d Dir) Import(name string, data []byte) (*Key, error) {
	if err := d.free(name); err != nil {
		return nil, err
	}
	public, private, err := Parse(data)
	if err != nil {
		return nil, err
	}
	k := &Key{name, public, private}
	return k, d.add(k)
}

// Load reads a key. The error of a name that no key has is ErrMissing.
func (d Dir) Load(name string) (*Key, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key %q %w: culvert key print shows those that do", name, ErrMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read key %q: %w", name, err)
	}
	defer clear(data)
	public, private, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.path(name), err)
	}
	return &Key{name, public, private}, nil
}

// Has reports whether there is a key with the name, readable or not.
func (d Dir) Has(name string) bool {
	if CheckName(name) != nil {
		return false
	}
	_, err := os.Lstat(d.path(name))
	return err == nil
}

// List reads all keys, in the order of their names. A folder that is not there has none.
func (d Dir) List() ([]*Key, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), Folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the keys: %w", err)
	}
	var all []*Key
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), Ext)
		if !ok || CheckName(name) != nil {
			continue
		}
		k, err := d.Load(name)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// Remove deletes a key.
func (d Dir) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	err := os.Remove(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("key %q %w: culvert key print shows those that do", name, ErrMissing)
	}
	if err != nil {
		return fmt.Errorf("cannot remove key %q: %w", name, err)
	}
	return nil
}

// free says whether a new key can have the name.
func (d Dir) free(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if d.Has(name) {
		return fmt.Errorf("key %q %w: choose another name, or remove it with culvert key remove %s", name, ErrExists, name)
	}
	return nil
}

// add writes the file whole or not at all, and never over another one.
func (d Dir) add(k *Key) (err error) {
	folder := filepath.Join(string(d), Folder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of the keys: %w", err)
	}
	data, err := k.marshal()
	if err != nil {
		return err
	}
	defer clear(data)
	f, err := os.CreateTemp(folder, ".new-*") // with mode 0600
	if err != nil {
		return fmt.Errorf("cannot write key %q: %w", k.Name, err)
	}
	defer func() {
		_ = os.Remove(f.Name())
		if err != nil {
			err = fmt.Errorf("cannot write key %q: %w", k.Name, err)
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	// A link, unlike a renaming, fails if somebody else made the name meanwhile.
	if err = os.Link(f.Name(), d.path(k.Name)); errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}

// marshal is the content of the file.
func (k *Key) marshal() ([]byte, error) {
	if k.Private == nil {
		return k.PublicPEM()
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		return nil, fmt.Errorf("key %q cannot be written: %w", k.Name, err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicPEM is the public key in PEM, as openssl pkey -pubin reads it.
func (k *Key) PublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("key %q cannot be exported: %w", k.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// String has nothing of the key but its name.
func (k *Key) String() string { return fmt.Sprintf("key %q of %d bits", k.Name, k.Public.N.BitLen()) }

// Format prints the key as String does, whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, k.String()) }
