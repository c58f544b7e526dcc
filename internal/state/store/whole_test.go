package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	berrors "go.etcd.io/bbolt/errors"
)

// A file that cannot be judged is not written to.
func TestUnjudgedIsNotWritten(t *testing.T) {
	for _, verdict := range []error{errors.New("no judge"), ErrSlow} {
		dir := t.TempDir()
		kept(t, dir, "a")
		f := &file{dir: dir, path: filepath.Join(dir, FileName), o: quick(&lines{}, func(string) error { return verdict }), opened: make(chan struct{})}
		close(f.opened)
		err := f.write(changes{"x": {"b": []byte("new")}}, func() changes { return changes{} })
		if !errors.Is(err, verdict) || f.db != nil {
			t.Errorf("%v: %v, database %v", verdict, err, f.db)
		}
		if got := holds(t, dir, "x"); got != "a=old " {
			t.Errorf("%v: the file has %q", verdict, got)
		}
	}
}

// What the database says of a damaged file is damage, and so is a fault in reading it.
func TestProtect(t *testing.T) {
	other := errors.New("other")
	for err, damaged := range map[error]bool{berrors.ErrInvalid: true, berrors.ErrVersionMismatch: true, berrors.ErrChecksum: true, berrors.ErrTimeout: false, other: false, nil: false} {
		if got := protect(func() error { return err }); !errors.Is(got, err) || errors.Is(got, ErrDamaged) != damaged {
			t.Errorf("%v: %v", err, got)
		}
	}
	if got := protect(func() error { panic("page 5") }); !errors.Is(got, ErrDamaged) || !strings.Contains(got.Error(), "page 5") {
		t.Errorf("a panic: %v", got)
	}
}

// A transaction that fails leaves nothing behind in any bucket, whether its function
// fails or panics.
func TestUndoOfEveryBucket(t *testing.T) {
	both(t, func(t *testing.T, s Store) {
		for _, b := range []string{"x", "y", "z"} {
			for _, k := range []string{"a", "b"} {
				if err := put(s, b, k, "old"); err != nil {
					t.Fatal(err)
				}
			}
		}
		failed := errors.New("failed")
		change := func(tx Tx) (err error) {
			for _, b := range []string{"x", "y", "z", "new"} {
				err = errors.Join(err, tx.Put(b, []byte("a"), []byte("1")), tx.Put(b, []byte("a"), []byte("2")), tx.Delete(b, []byte("b")), tx.Put(b, []byte("c"), []byte("1")), tx.Delete(b, []byte("c")), tx.Put(b, []byte("d"), []byte("1")))
			}
			return err
		}
		if err := s.Update(func(tx Tx) error { return errors.Join(change(tx), failed) }); !errors.Is(err, failed) {
			t.Error(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = s.Update(func(tx Tx) error { _ = change(tx); panic("failed") })
		}()
		for _, b := range []string{"x", "y", "z"} {
			if got := dump(t, s, b); got != "a=old b=old " {
				t.Errorf("%s: %s", b, got)
			}
		}
		if got := dump(t, s, "new"); got != "" {
			t.Errorf("new: %s", got)
		}
		if err := s.Update(change); err != nil {
			t.Error(err)
		}
		var all []string
		for _, b := range []string{"x", "y", "z", "new"} {
			all = append(all, fmt.Sprintf("%s:%s", b, dump(t, s, b)))
		}
		if got := strings.Join(all, " "); got != "x:a=2 d=1  y:a=2 d=1  z:a=2 d=1  new:a=2 d=1 " {
			t.Error(got)
		}
	})
}
