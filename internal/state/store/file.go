package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// FileName is the database in the state directory.
const FileName = "culvert.db"

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = 2 * time.Second

// openWait is how long Open waits for a disk that does not answer.
const openWait = 10 * time.Second

var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("in use by another process")
	// ErrSlow: a file could not be judged in time, because of the disk.
	ErrSlow = errors.New("the disk does not answer")
)

// Options of Open. Zero values take the defaults.
type Options struct {
	// Judge says whether a file is sound: nil, an error that wraps ErrDamaged, ErrInUse
	// or ErrSlow, or another one if it cannot say. The default is Judge, in this process, which a
	// damaged file may end; see JudgeBy.
	Judge func(path string) error
	// Log is told what happens to the file; slog.Default().
	Log *slog.Logger

	after    func(time.Duration) <-chan time.Time
	now      func() time.Time
	lockWait time.Duration
}

// Open opens the database in dir, which it makes where it is missing. Only its owner can
// read the file. The errors of the file system are wrapped.
//
// What the file has is in memory from then on, and a transaction does not depend on the
// disk: Update waits for it for a second at most. What a full, read-only or slow disk did
// not take is kept and tried again, and the log has one line when that begins and one
// when it ends.
//
// A damaged file is set aside, under a name with the date, and the store begins empty.
// If that is noticed while the store is open, a new file is made of what is in memory.
func Open(dir string, o Options) (Store, error) {
	if o.Judge == nil {
		o.Judge = Judge
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.after == nil {
		o.after = time.After
	}
	f := &file{dir: dir, path: filepath.Join(dir, FileName), o: o, opened: make(chan struct{})}
	var had changes
	var err error
	go func() {
		defer close(f.opened)
		had, err = f.open()
	}()
	all := changes{}
	select {
	case <-f.opened:
		if err != nil {
			return nil, err
		}
		all = had
	case <-o.after(openWait):
		// What it has is added to once it answers, and read by the next start.
		o.Log.Error("the disk with the state does not answer: the gateway goes on with an empty one in memory", "file", f.path)
	}
	return newBehind(all, f, o.Log, o.after), nil
}

// file is a bbolt database as a disk. The gateway itself never looks at the file while
// it runs, but writing reads the pages that it changes, from mapped memory: what is not
// there any more is a fault of the process, which protect turns into an error.
type file struct {
	dir, path string
	o         Options
	opened    chan struct{} // closed when open has returned
	db        *bolt.DB      // nil: to be opened, and to be given everything
	raw       *os.File      // db's
	size      int64         // of the file after the last write
}

// open opens the file and reads all of it.
func (f *file) open() (changes, error) {
	if err := os.MkdirAll(f.dir, 0o700); passing(err) {
		return changes{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("cannot make the state directory (key state-dir in [gateway]): %w", err)
	}
	err := f.sound()
	if err != nil && !passing(err) {
		return nil, err
	}
	had := changes{}
	if err == nil {
		err = f.openSound(false)
	}
	switch {
	case errors.Is(err, ErrInUse):
		return nil, fmt.Errorf("%s is %w: give each gateway of this machine its own state-dir in [gateway]", f.path, ErrInUse)
	case passing(err):
		// The disk takes nothing now: the gateway goes on with what can be read. A damaged
		// file, which cannot be set aside, is not.
		if errors.Is(err, syscall.EROFS) && !errors.Is(err, ErrDamaged) && f.openSound(true) == nil {
			if had, err = f.read(); err != nil {
				had = changes{}
			}
			_ = f.close()
		}
		return had, nil
	case err != nil:
		return nil, fmt.Errorf("cannot open %s: %w", f.path, err)
	}
	if had, err = f.read(); errors.Is(err, ErrDamaged) {
		return changes{}, f.letGo(err)
	}
	return had, err
}

// passing reports whether an error is of a disk that may take something later.
func passing(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, ErrSlow}, func(e error) bool { return errors.Is(err, e) })
}

// sound sets a damaged file aside.
func (f *file) sound() error {
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	st, err := os.Stat(f.path) // a symbolic link leads somewhere
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", f.path, err)
	}
	if !st.Mode().IsRegular() {
		return f.setAside(fmt.Errorf("%w: it is not a regular file", ErrDamaged))
	}
	if st.Size() == 0 {
		return nil // made, and never written
	}
	switch err := f.o.Judge(f.path); {
	case errors.Is(err, ErrDamaged):
		return f.setAside(err)
	case errors.Is(err, ErrInUse), err == nil:
		return nil // Open waits for its turn
	default:
		return fmt.Errorf("cannot open %s: %w", f.path, err)
	}
}

// openSound opens a file that is sound, or makes it.
func (f *file) openSound(readOnly bool) error {
	_, err := os.Stat(f.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	err = protect(func() (err error) {
		f.db, err = bolt.Open(f.path, 0o600, &bolt.Options{Timeout: cmp.Or(f.o.lockWait, lockWait), ReadOnly: readOnly,
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				raw, err := os.OpenFile(name, flag, perm)
				f.raw = raw
				if err == nil && !readOnly {
					err = private(raw)
				}
				return raw, err
			}})
		return err
	})
	if err != nil {
		f.abandon()
		if fresh && !errors.Is(err, berrors.ErrTimeout) {
			_ = os.Remove(f.path) // begun, and not finished: the disk is full
		}
		if errors.Is(err, berrors.ErrTimeout) {
			return ErrInUse
		}
		return err
	}
	return f.measure()
}

// private lets nobody but the owner read the file, where the system knows that.
func private(raw *os.File) error {
	err := raw.Chmod(0o600)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

func (f *file) measure() error {
	st, err := f.raw.Stat()
	if err == nil {
		f.size = st.Size()
	}
	return err
}

// read is everything that the file has.
func (f *file) read() (changes, error) {
	all := changes{}
	err := protect(func() error {
		return f.db.View(func(tx *bolt.Tx) error {
			return walk(tx, func(bucket, key, value []byte) {
				all.set(string(bucket), string(key), append([]byte{}, value...))
			})
		})
	})
	return all, err
}

// write is disk.write. Where the file is not what it was, it is made anew.
func (f *file) write(c changes, all func() changes) error {
	<-f.opened
	if f.db != nil {
		err := f.there()
		if err == nil {
			err = f.update(c)
		}
		if !errors.Is(err, ErrDamaged) {
			return err
		}
		if err := f.letGo(err); err != nil {
			return err
		}
	} else if err := f.sound(); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	if err := f.openSound(false); err != nil {
		return err
	}
	// A file that could not be read has more than the memory, which stays in it.
	everything := all()
	for bucket, keys := range c {
		for key, value := range keys {
			if value == nil {
				everything.set(bucket, key, nil)
			}
		}
	}
	if err := f.update(everything); err != nil {
		return errors.Join(err, f.letGo(err))
	}
	return nil
}

// letGo ends with the database after an error. A damaged one is set aside: a fault may have
// left it locked, as long as this process lives.
func (f *file) letGo(why error) error {
	if errors.Is(why, ErrDamaged) {
		f.abandon()
		return f.setAside(why)
	}
	return f.close()
}

// there compares the file with what was opened and written last.
func (f *file) there() error {
	at, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it was removed", ErrDamaged)
	} else if err != nil {
		return err
	}
	here, err := f.raw.Stat()
	switch {
	case err != nil:
		return err
	case !os.SameFile(at, here):
		return fmt.Errorf("%w: another file stands in its place", ErrDamaged)
	case here.Size() < f.size:
		return fmt.Errorf("%w: it was cut from %d to %d bytes", ErrDamaged, f.size, here.Size())
	}
	return nil
}

func (f *file) update(c changes) error {
	err := protect(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			for bucket, keys := range c {
				b, err := tx.CreateBucketIfNotExists([]byte(bucket))
				if err != nil {
					return err
				}
				for key, value := range keys {
					if value == nil {
						err = b.Delete([]byte(key))
					} else {
						err = b.Put([]byte(key), value)
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	return f.measure()
}

func (f *file) close() error {
	if f.db == nil {
		return nil
	}
	err := protect(f.db.Close)
	f.db, f.raw = nil, nil
	return err
}

// abandon lets go of a database without its help: after a fault it may hold its own
// locks for ever. Its mapping stays until the process ends.
func (f *file) abandon() {
	_ = f.raw.Close() // of no file: an error
	f.db, f.raw = nil, nil
}

// maxAside is how many damaged files stay.
const maxAside = 8

// aside goes before the date in the name of a file that was set aside.
const aside = ".damaged-"

// setAside renames what stands in the place of the file, and says why. Of too many that
// were set aside the oldest goes.
func (f *file) setAside(why error) error {
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		f.o.Log.Error("the file with the state is gone, and a new one is made", "file", f.path, "reason", why)
		return nil
	}
	name := f.path + aside + f.o.now().UTC().Format("20060102T150405Z")
	to := name
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); err != nil {
			break
		}
		to = fmt.Sprintf("%s-%d", name, n)
	}
	if err := os.Rename(f.path, to); err != nil {
		return fmt.Errorf("%w, and it cannot be set aside: %w", why, err)
	}
	f.o.Log.Error("the file with the state was damaged and is set aside; a new one begins", "file", f.path, "aside", to, "reason", why)
	old, _ := os.ReadDir(f.dir) // in order, the oldest first
	old = slices.DeleteFunc(old, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), FileName+aside) })
	for _, e := range old[:max(len(old)-maxAside, 0)] {
		_ = os.Remove(filepath.Join(f.dir, e.Name()))
	}
	return nil
}

// protect turns what a damaged file does to who reads its mapped memory (SIGBUS, SIGSEGV, a
// panic of the database) into an error that wraps ErrDamaged. It works for the goroutine
// that calls it alone.
func protect(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	err = do()
	for _, e := range []error{berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}
