package tun

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A lock file for each table and network namespace says whether an instance lives:
// its process has the lock, which ends with the process. The file is removed at a
// clean end. One that is still there tells that its instance was killed, and may
// have left rules and routes.

// lock is a lock file that this process has locked.
type lock struct {
	file *os.File
	path string
	left bool // the last who had it did not end by itself
}

const (
	lockPause = 20 * time.Millisecond
	lockSize  = 256 // more than what a file says
)

// takeLock makes this process the one that has the table in this network
// namespace (namespaces may share the folder). It waits for somebody who has it,
// such as a process that was killed and is not gone yet.
func takeLock(dir string, table int, wait time.Duration) (*lock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the folder of lock files: %w", err)
	}
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	path := lockPath(dir, ns, table)
	waited := false
	for end := time.Now().Add(wait); ; time.Sleep(lockPause) {
		l, err := tryLock(path, os.O_CREATE|os.O_RDWR)
		switch {
		case err == nil:
			l.left = waited || l.says() != ""
			if err := l.sign(); err != nil {
				l.release()
				return nil, fmt.Errorf("cannot write the lock file: %w", err)
			}
			return l, nil
		case errors.Is(err, errMoved):
			continue // somebody removed it in this moment
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("cannot open the lock file: %w", err)
		case !time.Now().Before(end):
			return nil, fmt.Errorf("%w: another gateway on this host has table %d (%s): stop it, or choose another table and mark in [gateway]", ErrTableInUse, table, path)
		}
		waited = true
	}
}

// errMoved: the file that was locked is not the one at its path any more.
var errMoved = errors.New("the lock file was replaced")

// tryLock opens a file and locks it. The file may have been removed between both,
// by who had the lock before, and another made; hence the inodes are compared.
func tryLock(path string, flags int) (*lock, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && !same(f, path) {
		err = errMoved
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &lock{file: f, path: path}, nil
}

// same reports whether a path leads to an open file.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// sign writes into the file since which start of the system it counts.
func (l *lock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt(fmt.Appendf(nil, "%s %d\n", bootID(), os.Getpid()), 0)
	return err
}

// says is what the file has: the start of the system and the process of the last who had it.
func (l *lock) says() string {
	b := make([]byte, lockSize)
	n, _ := l.file.ReadAt(b, 0)
	return strings.TrimSpace(string(b[:n]))
}

// release lets go of the lock, and leaves the file.
func (l *lock) release() error { return l.file.Close() }

// remove removes the file while it is locked, so that nobody else's goes.
func (l *lock) remove() error {
	var err error
	if same(l.file, l.path) {
		err = os.Remove(l.path)
	}
	return errors.Join(err, l.file.Close())
}

// Close implements io.Closer. What an instance left that was killed before is still
// there, and so is the file that tells of it.
func (l *lock) Close() error {
	if l.left {
		return l.release()
	}
	return l.remove()
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "-"
	}
	return strings.TrimSpace(string(b))
}

// namespace is the network namespace of the calling thread.
func namespace() (uint64, error) { return namespaceAt("/proc/thread-self/ns/net") }

func namespaceAt(path string) (uint64, error) {
	var ns unix.Stat_t
	if err := unix.Stat(path, &ns); err != nil {
		return 0, fmt.Errorf("cannot tell the network namespace: %w", err)
	}
	return ns.Ino, nil
}

func lockPath(dir string, ns uint64, table int) string {
	return filepath.Join(dir, fmt.Sprintf("netns-%d-table-%d.lock", ns, table))
}

// takeLeftLock takes the lock of an instance with another table, if that one is
// gone: its lock file is in our folder, and nobody has it. Without the file nobody
// knows; it may live in a container with a folder of its own. nil: leave it.
func takeLeftLock(dir string, table int) *lock {
	ns, _ := namespace() // 0, where it cannot be told, has no file
	l, _ := tryLock(lockPath(dir, ns, table), os.O_RDWR)
	return l
}

// removeStale removes the lock files of instances that are gone and have left
// nothing: those of this network namespace, which were swept before, and of others
// from before the system started. In another namespace that may still be there, a
// file tells that somebody's rules may have stayed.
func removeStale(dir string) {
	ns, err := namespace()
	list, err2 := os.ReadDir(dir)
	if err != nil || err2 != nil {
		return
	}
	boot := bootID()
	for _, e := range list {
		theirs, ok := lockNamespace(e.Name())
		if !ok || e.Type() != 0 && e.Type()&fs.ModeType != 0 {
			continue
		}
		l, err := tryLock(filepath.Join(dir, e.Name()), os.O_RDWR)
		if err != nil {
			continue // it lives, or somebody else removes it
		}
		before, _, signed := strings.Cut(l.says(), " ")
		if theirs == ns || signed && before != boot {
			_ = l.remove()
		} else {
			_ = l.release()
		}
	}
}

// lockNamespace is the namespace in the name of a lock file.
func lockNamespace(name string) (ns uint64, ok bool) {
	rest, ok1 := strings.CutPrefix(name, "netns-")
	number, table, ok2 := strings.Cut(strings.TrimSuffix(rest, ".lock"), "-table-")
	ns, err := strconv.ParseUint(number, 10, 64)
	_, err2 := strconv.ParseUint(table, 10, 32)
	return ns, ok1 && ok2 && strings.HasSuffix(rest, ".lock") && err == nil && err2 == nil
}

// Lock takes the routing table of Options as NewHost does, and changes nothing
// else: until it is closed no gateway starts with that table. ErrTableInUse where
// one has it.
func Lock(o Options) (io.Closer, error) {
	o.Device = "-" // none is needed
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return takeLock(o.LockDir, o.Table, o.LockWait)
}
