package config

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// Snapshot is everything that a configuration was read from, secrets and all:
// enough to read it again when the files have changed or are elsewhere.
type Snapshot struct {
	Path  string // what Load was given
	Files []SnapshotFile
	Globs []SnapshotGlob
	// Redacted: there are no secrets in it; see Redact.
	Redacted bool
}

// SnapshotFile is one file as it was.
type SnapshotFile struct {
	Path string
	Mode fs.FileMode
	Data []byte
}

// SnapshotGlob is what a pattern of an include matched.
type SnapshotGlob struct {
	Pattern string
	Paths   []string
}

// disk is where the files of a configuration are.
type disk interface {
	read(path string) ([]byte, fs.FileMode, error)
	glob(pattern string) ([]string, error)
	redacted() bool // keys of certificates were left out
}

type machine struct{}

func (machine) read(path string) ([]byte, fs.FileMode, error) { return readFile(path) }
func (machine) glob(pattern string) ([]string, error)         { return filepath.Glob(pattern) }

func (machine) redacted() bool  { return false }
func (s stored) redacted() bool { return s.Redacted }

// copying is the machine's disk that keeps what was read of it.
type copying struct{ *Snapshot }

func (copying) redacted() bool { return false }

func (c copying) read(path string) ([]byte, fs.FileMode, error) {
	data, mode, err := readFile(path)
	if err == nil {
		c.Files = append(c.Files, SnapshotFile{path, mode, slices.Clone(data)}) // who reads a secret clears it
	}
	return data, mode, err
}

func (c copying) glob(pattern string) ([]string, error) {
	paths, err := filepath.Glob(pattern)
	if err == nil {
		c.Globs = append(c.Globs, SnapshotGlob{pattern, slices.Clone(paths)})
	}
	return paths, err
}

// stored is a Snapshot as a disk.
type stored struct{ *Snapshot }

func (s stored) read(path string) ([]byte, fs.FileMode, error) {
	for _, f := range s.Files {
		if f.Path == path {
			return slices.Clone(f.Data), f.Mode, nil
		}
	}
	return nil, 0, fmt.Errorf("%s is not in the snapshot: %w", path, fs.ErrNotExist)
}

func (s stored) glob(pattern string) ([]string, error) {
	for _, g := range s.Globs {
		if g.Pattern == pattern {
			return slices.Clone(g.Paths), nil
		}
	}
	return nil, nil
}

// LoadSnapshot is Load that also keeps what was read.
func LoadSnapshot(path string) (*Config, []Warning, *Snapshot, error) {
	s := &Snapshot{Path: path}
	c, w, err := load(copying{s}, path)
	return c, w, s, err
}

// Load reads the configuration from the snapshot alone.
func (s *Snapshot) Load() (*Config, []Warning, error) { return load(stored{s}, s.Path) }

func load(d disk, path string) (*Config, []Warning, error) {
	data, mode, err := d.read(path)
	if err != nil {
		return nil, nil, Faults{{File: path, Message: fmt.Sprintf(unreadable, err)}}
	}
	return parse(d, path, data, mode)
}
