package tun

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// A start right after a kill waits until the killed process is gone, and knows it.
func TestLockWaits(t *testing.T) {
	dir := t.TempDir()
	dying, err := takeLock(dir, 7, 0)
	if err != nil || dying.left {
		t.Fatal(err, "left", dying != nil && dying.left)
	}
	if _, err := takeLock(dir, 7, 0); !errors.Is(err, ErrTableInUse) {
		t.Fatal("taken twice:", err)
	}
	if _, err := takeLock(dir, 7, 3*lockPause); !errors.Is(err, ErrTableInUse) {
		t.Fatal("taken twice after a while:", err)
	}
	var gone sync.WaitGroup
	gone.Go(func() {
		time.Sleep(5 * lockPause)
		dying.release() // as the kernel does
	})
	next, err := takeLock(dir, 7, limit)
	if err != nil {
		t.Fatal("nobody waited:", err)
	}
	gone.Wait()
	if !next.left {
		t.Error("who was killed is not known to have been")
	}
	if err := next.remove(); err != nil || len(files(t, dir)) != 0 {
		t.Errorf("after a clean end: %v, %v", files(t, dir), err)
	}
	if next, err = takeLock(dir, 7, 0); err != nil || next.left {
		t.Errorf("after a clean end: %v, left %v", err, next.left)
	}
	next.release()
	if next, err = takeLock(dir, 7, 0); err != nil || !next.left {
		t.Errorf("long after a kill: %v, left %v", err, next.left)
	}
	next.remove()
}

// A lock file that cannot be opened, or a folder that cannot be made, is an error at once, however long is waited for others.
func TestLockThatCannotBeTaken(t *testing.T) {
	dir := t.TempDir()
	ns, err := namespace()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(lockPath(dir, ns, 7), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(dir, 7, limit); err == nil || errors.Is(err, ErrTableInUse) || !strings.Contains(err.Error(), "cannot open the lock file") {
		t.Errorf("a folder in its place: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := takeLock(filepath.Join(dir, "file"), 7, limit); err == nil || !strings.Contains(err.Error(), "cannot make the folder of lock files") {
		t.Errorf("a file in place of the folder: %v", err)
	}
}

// Who only locks changes nothing about what the file tells.
func TestLockAlone(t *testing.T) {
	dir := t.TempDir()
	o := Options{Table: 7, LockDir: dir}
	for _, killed := range []bool{false, true} {
		if killed {
			l, err := takeLock(dir, 7, 0)
			if err != nil {
				t.Fatal(err)
			}
			l.release()
		}
		held, err := Lock(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewHost(Options{Device: "culvert0", Table: 7, LockDir: dir}); !errors.Is(err, ErrTableInUse) {
			t.Error("a gateway starts with a table that is locked:", err)
		}
		if err := held.Close(); err != nil {
			t.Error(err)
		}
		if left := len(files(t, dir)); left != map[bool]int{false: 0, true: 1}[killed] {
			t.Errorf("killed before: %v, files %d", killed, left)
		}
	}
}

// Of many that take a lock and remove its file one after the other, no two have it
// at once: who locked a file that was removed in between tries again.
func TestLockIsOnes(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	var holders sync.Mutex
	for range 8 {
		all.Go(func() {
			for range 200 {
				l, err := takeLock(dir, 7, limit)
				if err != nil {
					t.Error(err)
					return
				}
				if !holders.TryLock() {
					t.Error("two have the lock")
					return
				}
				runtime.Gosched()
				holders.Unlock()
				if err := l.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left := files(t, dir); len(left) != 0 {
		t.Error("left:", left)
	}
}

// Who removes a stale file never removes that of somebody who just took it.
func TestStaleLocks(t *testing.T) {
	dir := t.TempDir()
	ns, err := namespace()
	if err != nil {
		t.Fatal(err)
	}
	killed := func(ns uint64, table int, text string) string {
		path := lockPath(dir, ns, table)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Base(path)
	}
	now := bootID() + " 1\n"
	killed(ns, 1, now)
	killed(ns, 2, "")
	killed(ns+1, 3, "of-another-boot 1\n")
	keep := []string{killed(ns+1, 4, now), killed(ns+1, 5, ""), "netns-1-table-x.lock", "other.lock"}
	for _, name := range keep[2:] {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := takeLock(dir, 6, 0)
	if err != nil {
		t.Fatal(err)
	}
	keep = append(keep, filepath.Base(alive.path))
	removeStale(dir)
	slices.Sort(keep)
	if got := files(t, dir); !slices.Equal(got, keep) {
		t.Errorf("left:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(keep, "\n"))
	}
	// The file of who lives was moved away, and another has one at its path.
	if err := os.Rename(alive.path, alive.path+".old"); err != nil {
		t.Fatal(err)
	}
	other, err := takeLock(dir, 6, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.remove(); err != nil {
		t.Error(err)
	}
	if _, err := takeLock(dir, 6, 0); !errors.Is(err, ErrTableInUse) {
		t.Error("a file of somebody else was removed:", err)
	}
	other.remove()
}

// A clean end leaves no file, and neither does a start leave those of the dead.
func TestHostLockFiles(t *testing.T) {
	lone(t)
	dir := t.TempDir()
	start := func(table int) *host {
		t.Helper()
		h, err := NewHost(Options{Device: "culvert0", LockDir: dir, Table: table, Mark: uint32(table)})
		if err != nil {
			t.Fatal(err)
		}
		return h.(*host)
	}
	first := start(101)
	if first.Left() {
		t.Error("there was nobody before")
	}
	if err := first.Apply(Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/24")}}); err != nil {
		t.Fatal(err)
	}
	first.watch.Close()
	first.release() // as when it is killed
	start(102).Close()
	if left := files(t, dir); len(left) != 0 {
		t.Error("left:", left)
	}
	if out := run(t, "ip rule"); strings.Contains(out, fmt.Sprint(DefaultPref)) {
		t.Error("rules stay:", out)
	}
	first = start(101)
	first.watch.Close()
	first.release()
	second := start(101)
	if !second.Left() {
		t.Error("the one before was killed")
	}
	second.Close()
	if left := files(t, dir); len(left) != 0 {
		t.Error("left:", left)
	}
}
