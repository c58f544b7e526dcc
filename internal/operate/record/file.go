package record

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// A recording is one file in a folder of its own:
//
//	file   = magic, version (16), flags (16), start (64, Unix ns), seed (32 bytes), build (length 32, text), frame…
//	frame  = length (32), type (8), body
//	input  = 'I', time (64, ns since the start), input (codec.go)
//	output = 'O', count (32), count × (type name (length 8), digest (8 bytes)), chain (8 bytes)
//	seen   = 'V', count (32), count × seen (witness.go)  in one that is redacted, behind the input
//	lines  = 'L', count (32), count × text, chain (8 bytes)  in one that is redacted, in place of outputs
//	end    = 'E', inputs (64), outputs (64), chain (32 bytes), reason
//
// The chain is one SHA-256 over the header and all frames before, so that a change of any
// byte shows, also of one that changes no output. After each input come its
// outputs. One that is redacted has inputs without secrets (blank.go) and, as
// lines, what the endpoint decided (redact.go). Without an end the recorder was stopped in the middle: what is there
// is good.
const (
	magic   = "culvert recording\n"
	version = 2

	flagRedacted = 1

	frameInput  = 'I'
	frameOutput = 'O'
	frameSeen   = 'V'
	frameLines  = 'L'
	frameEnd    = 'E'

	// FileName is the recording in its folder.
	FileName = "endpoint.recording"

	// maxFrame bounds a frame; a configuration is the largest.
	maxFrame = 128 << 20
	// endRoom is kept for the last frame when the space is up.
	endRoom = 1 << 10
)

// header is what a recording begins with.
type header struct {
	Redacted bool
	Start    time.Time
	Seed     [32]byte // zero in one that is redacted
	Build    string   // version of the binary that recorded
}

func (h *header) append(b []byte) []byte {
	flags := uint16(0)
	if h.Redacted {
		flags |= flagRedacted
	}
	w := writer{append(b, magic...)}
	w.u16(version)
	w.u16(flags)
	w.u64(uint64(h.Start.UnixNano()))
	w.b = append(w.b, h.Seed[:]...)
	w.bytes([]byte(h.Build))
	return w.b
}

// file is a recording that is being written.
type file struct {
	f     *os.File
	w     *bufio.Writer
	chain hash.Hash
	size  int64
	whole int64 // bytes that are in the file for certain; a frame ends there
	limit int64
}

// errFull: the next frame would pass the limit.
var errFull = errors.New("the recording has reached its size limit")

// create makes the folder, if there is none, and the file in it, both for this
// user alone. A recording that is there is kept under another name.
func create(dir string, h *header, limit, total int64) (*file, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	if err := private(dir); err != nil {
		return nil, err
	}
	if err := putAside(dir, limit, total); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	r := &file{f: f, w: bufio.NewWriterSize(f, 64<<10), chain: sha256.New(), limit: limit}
	return r, errors.Join(r.write(h.append(nil)), r.flush())
}

// putAside renames the recording of an earlier life after the time of its last
// write, and removes the oldest of those that were put aside while all of them,
// and the one that is to come, could pass total.
func putAside(dir string, limit, total int64) error {
	path := filepath.Join(dir, FileName)
	st, err := os.Lstat(path)
	if err == nil {
		aside := path + st.ModTime().UTC().Format("-20060102T150405.000000000Z")
		if _, err := os.Lstat(aside); err == nil {
			return fmt.Errorf("%s is there already: move it away", aside)
		}
		if err := os.Rename(path, aside); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if total <= 0 {
		return nil
	}
	old, err := filepath.Glob(path + "-*Z") // in the order of time
	if err != nil {
		return err
	}
	sizes, sum := make([]int64, len(old)), limit
	for i, name := range old {
		st, err := os.Lstat(name)
		if err != nil {
			return err
		}
		sizes[i] = st.Size()
		sum += sizes[i]
	}
	for i := 0; i < len(old) && sum > total; i++ {
		if err := os.Remove(old[i]); err != nil {
			return err
		}
		sum -= sizes[i]
	}
	return nil
}

// flush has the file hold all frames that were written.
func (r *file) flush() error {
	if err := r.w.Flush(); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	r.whole = r.size
	return nil
}

// cut closes a file that cannot be written, behind the last frame that it has in
// whole, so that it plays up to there.
func (r *file) cut() error { return errors.Join(r.f.Truncate(r.whole), r.f.Close()) }

// private refuses a folder that was there before and is open to others.
func private(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	if othersMayEnter(st.Mode()) {
		return fmt.Errorf("recording: %s can be opened by others, and secrets would be in it: chmod 700 %[1]s, or name a folder that does not exist", dir)
	}
	return nil
}

func (r *file) write(b []byte) error {
	r.chain.Write(b)
	r.size += int64(len(b))
	if _, err := r.w.Write(b); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	return nil
}

// frame writes one frame, or errFull.
func (r *file) frame(t byte, body []byte) error {
	if r.limit > 0 && t != frameEnd && r.size+int64(len(body))+5+endRoom > r.limit {
		return errFull
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)+1))
	return errors.Join(r.write(append(b, t)), r.write(body))
}

func (r *file) sum() (s [32]byte) { r.chain.Sum(s[:0]); return s }

func (r *file) end(inputs, outputs uint64, reason string) error {
	w := writer{}
	w.u64(inputs)
	w.u64(outputs)
	sum := r.sum()
	w.b = append(append(w.b, sum[:]...), reason[:min(len(reason), endRoom/2)]...)
	return errors.Join(r.frame(frameEnd, w.b), r.flush(), r.f.Sync(), r.f.Close())
}

// source is a recording that is being read.
type source struct {
	header
	r     *bufio.Reader
	chain hash.Hash
	at    int64 // of the next frame
}

// ErrFormat: the file is not a recording, or one of another version, or ends in
// the middle of a frame.
var ErrFormat = errors.New("not a recording that this culvert can read")

func open(r io.Reader) (*source, error) {
	s := &source{r: bufio.NewReaderSize(r, 64<<10), chain: sha256.New()}
	fixed := make([]byte, len(magic)+2+2+8+32+4)
	if err := s.read(fixed); err != nil {
		return nil, err
	}
	c := reader{s: cryptobyte.String(fixed[len(magic):]), ok: true}
	v, flags, start := c.u16(), c.u16(), c.u64()
	if string(fixed[:len(magic)]) != magic || flags&^flagRedacted != 0 {
		return nil, ErrFormat
	}
	if v != version {
		return nil, fmt.Errorf("%w: it is of version %d, this is %d", ErrFormat, v, version)
	}
	s.Redacted, s.Start = flags&flagRedacted != 0, time.Unix(0, int64(start)).UTC()
	c.s.CopyBytes(s.Seed[:])
	build := make([]byte, min(binary.BigEndian.Uint32(fixed[len(fixed)-4:]), 1<<10))
	if err := s.read(build); err != nil {
		return nil, err
	}
	s.Build = string(build)
	return s, nil
}

func (s *source) read(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	if err != nil && !errors.Is(err, io.EOF) { // which is: no byte more
		return fmt.Errorf("%w: it ends in the middle, at byte %d", ErrFormat, s.at+int64(n))
	}
	if err == nil {
		s.chain.Write(b)
		s.at += int64(n)
	}
	return err
}

// frame reads the next frame; before is the chain up to it. io.EOF: there is none.
func (s *source) frame() (t byte, body []byte, before [32]byte, err error) {
	s.chain.Sum(before[:0])
	var head [5]byte
	if err := s.read(head[:]); err != nil {
		return 0, nil, before, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n == 0 || n > maxFrame {
		return 0, nil, before, fmt.Errorf("%w: a frame of %d bytes at byte %d", ErrFormat, n, s.at)
	}
	body, err = s.body(int(n - 1))
	return head[4], body, before, err
}

// body reads in pieces, so that a length that lies costs no more than the file has.
func (s *source) body(n int) ([]byte, error) {
	var b []byte
	for len(b) < n {
		piece := make([]byte, min(n-len(b), 1<<20))
		if err := s.read(piece); err != nil {
			return nil, fmt.Errorf("%w: it ends in the middle, at byte %d", ErrFormat, s.at)
		}
		b = append(b, piece...)
	}
	return b, nil
}
