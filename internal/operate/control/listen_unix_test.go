//go:build unix

package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func endpointIn(t *testing.T, dir string) string {
	t.Helper()
	return filepath.Join(dir, "control.sock")
}

func TestOnlyTheOwnerMayOpenTheSocket(t *testing.T) {
	old := syscall.Umask(0) // the most careless environment
	defer syscall.Umask(old)
	path := start(t, sample())
	for _, c := range []struct {
		path string
		mode os.FileMode
	}{{path, os.ModeSocket | 0o600}, {filepath.Dir(path), os.ModeDir | 0o755}} {
		info, err := os.Lstat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != c.mode {
			t.Errorf("%s: mode %v, want %v", c.path, info.Mode(), c.mode)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the socket there is more: %v, %v", entries, err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := NewClient(path).Policies(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket that nobody answers: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after closing there is still a socket: %v", err)
	}
}

func TestLiveSocketIsNotTaken(t *testing.T) {
	path := start(t, sample())
	_, err := Listen(path)
	if err == nil || !strings.Contains(err.Error(), "another culvert answers there: use --control PATH or stop it") {
		t.Fatalf("second Listen: %v", err)
	}
	if _, err := NewClient(path).Policies(context.Background()); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
}

// Whoever looks whether a socket is alive does not stay connected.
func TestLookingEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(path); err == nil {
		t.Fatal("taken twice")
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestClosingLeavesASuccessorsSocketAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
}

// The name of a socket may be as long as fits into a socket's address, and not longer.
func TestLongestPath(t *testing.T) {
	dir, err := os.MkdirTemp("", "c") // shorter than a test's own
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	longest := filepath.Join(dir, strings.Repeat("s", maxPath-len(dir)-1))
	l, err := Listen(longest)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Listen(longest + "s"); err == nil || !strings.Contains(err.Error(), "too long for a unix socket by 1 bytes") {
		t.Errorf("one more: %v", err)
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
	if _, err := place(here, there); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("what is not there: %v", err)
	}
	if err := os.WriteFile(here, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := place(here, filepath.Join(there, "x")); err == nil || !strings.Contains(err.Error(), "rename") {
		t.Errorf("to where nothing can be: %v", err)
	}
	if info, err := place(here, there); err != nil || info.Mode() != 0o600 || info.Name() != "there" {
		t.Errorf("%v, %v", info, err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, says string }{
		{file, "is not a socket"},
		{filepath.Join(file, "control.sock"), "directory of the control socket"},
		{filepath.Join(dir, strings.Repeat("x", maxPath)), "too long"},
		{filepath.Join(dir, strings.Repeat("x", 300)), "lstat"},
		{"", "rename"}, // what was made where we are is taken away
	} {
		if _, err := Listen(c.path); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.path, err, c.says)
		}
	}
	if _, err := os.Stat("/proc/self"); err == nil { // where nobody can make a folder
		if _, err := Listen("/proc/self/s"); err == nil || !strings.Contains(err.Error(), "mkdir") {
			t.Errorf("/proc: %v", err)
		}
	}
	if list, err := os.ReadFile("/proc/net/unix"); err == nil && regexp.MustCompile(`(?m) \.s\d+/s$`).Match(list) {
		t.Error("the socket of the path that is empty is still open")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was touched")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestClientWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		err := (&Client{path: "p"}).explain(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
		if !errors.Is(err, ErrPermission) {
			t.Errorf("EACCES: %v", err)
		}
		return
	}
	path := start(t, sample())
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Policies(context.Background()); !errors.Is(err, ErrPermission) {
		t.Errorf("no permission: %v", err)
	}
}
