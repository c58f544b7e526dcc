package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// both runs a test over the file and its twin.
func both(t *testing.T, f func(t *testing.T, s Store)) {
	t.Run("memory", func(t *testing.T) { f(t, &Memory{}) })
	t.Run("file", func(t *testing.T) {
		s, err := Open(t.TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, s)
	})
}

func put(s Store, bucket, key, value string) error {
	return s.Update(func(tx Tx) error { return tx.Put(bucket, []byte(key), []byte(value)) })
}

// dump is all of a bucket as text.
func dump(t *testing.T, s Store, bucket string) (text string) {
	t.Helper()
	err := s.View(func(tx Tx) error {
		return tx.Each(bucket, func(k, v []byte) error {
			text += fmt.Sprintf("%s=%s ", k, v)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestStore(t *testing.T) {
	both(t, func(t *testing.T, s Store) {
		for _, kv := range []string{"b", "a", "c"} {
			if err := put(s, "one", kv, kv+kv); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(s, "two", "x", ""); err != nil {
			t.Fatal(err)
		}
		if got := dump(t, s, "one"); got != "a=aa b=bb c=cc " {
			t.Errorf("one: %s", got)
		}
		if got := dump(t, s, "nothing"); got != "" {
			t.Errorf("nothing: %s", got)
		}
		failed := errors.New("failed")
		err := s.Update(func(tx Tx) error {
			_ = tx.Put("one", []byte("a"), []byte("changed"))
			_ = tx.Delete("one", []byte("b"))
			if got := string(tx.Get("one", []byte("a"))); got != "changed" {
				t.Errorf("a transaction sees what it wrote: %s", got)
			}
			return failed
		})
		if !errors.Is(err, failed) || dump(t, s, "one") != "a=aa b=bb c=cc " {
			t.Errorf("%v, then %s", err, dump(t, s, "one"))
		}
		err = s.Update(func(tx Tx) error { return errors.Join(tx.Delete("one", []byte("b")), tx.Delete("none", []byte("b"))) })
		if err != nil || dump(t, s, "one") != "a=aa c=cc " {
			t.Errorf("%v, then %s", err, dump(t, s, "one"))
		}
		err = s.View(func(tx Tx) error {
			if tx.Get("one", []byte("b")) != nil || string(tx.Get("one", []byte("c"))) != "cc" {
				t.Error("get")
			}
			if tx.Put("one", []byte("z"), nil) == nil || tx.Delete("one", []byte("a")) == nil {
				t.Error("a view can write")
			}
			return nil
		})
		if err != nil || dump(t, s, "one") != "a=aa c=cc " {
			t.Errorf("%v, then %s", err, dump(t, s, "one"))
		}
		n := 0
		err = s.View(func(tx Tx) error {
			return tx.Each("one", func(k, v []byte) error { n++; return failed })
		})
		if !errors.Is(err, failed) || n != 1 {
			t.Errorf("an error ends it: %v after %d", err, n)
		}
		for _, bad := range [][2]string{{"", "key"}, {"one", ""}, {"one", strings.Repeat("k", maxKey+1)}} {
			if put(s, bad[0], bad[1], "x") == nil {
				t.Errorf("bucket %q takes a key of %d bytes", bad[0], len(bad[1]))
			}
		}
		if err := put(s, "one", strings.Repeat("k", maxKey), "x"); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := put(s, "one", "a", "b"); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// What Update returned nil for is there when the process dies the next moment:
// the file as it stands, without Close, opens with all of it.
func TestFileSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 50 {
		if err := put(s, "b", fmt.Sprintf("%02d", i), "v"); err != nil {
			t.Fatal(err)
		}
		if i%10 != 9 {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		left := t.TempDir()
		if err := os.WriteFile(filepath.Join(left, FileName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		again, err := Open(left, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(dump(t, again, "b")); n != (i+1)*5 {
			t.Errorf("after %d writes: %s", i+1, dump(t, again, "b"))
		}
		if st, _ := os.Stat(filepath.Join(left, FileName)); runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", st.Mode())
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileIsOpenOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("waits two seconds for a lock")
	}
	dir := filepath.Join(t.TempDir(), "made", "on the way")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "f"), Options{}); err == nil {
		t.Error("a file is no directory")
	}
}
