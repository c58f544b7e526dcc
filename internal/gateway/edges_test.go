package gateway

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// What the system says in a word comes with what to do, and is a fault of the machine.
func TestAdviceOfTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		err    error
		advice string
	}{
		{&os.PathError{Op: "open", Path: "/dev/net/tun", Err: syscall.EMFILE}, "LimitNOFILE="},
		{&os.SyscallError{Syscall: "socket", Err: syscall.ENFILE}, "fs.file-max"},
		{&os.PathError{Op: "mkdir", Path: "/run/culvert", Err: syscall.EROFS}, "--tmpfs /run/culvert"},
		{fs.ErrPermission, ""},
	} {
		err := environment(c.err)
		if !errors.Is(err, ErrEnvironment) || !errors.Is(err, c.err) || !strings.HasPrefix(err.Error(), c.err.Error()) || !strings.Contains(err.Error(), c.advice) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	if err := environment(io.ErrUnexpectedEOF); errors.Is(err, ErrEnvironment) {
		t.Errorf("not of the machine: %v", err)
	}
}

// The lines of the data path get processors of their own, once, unless the environment says how many there are.
func TestAddProcessors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("lines keep processors on Linux alone")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	defer func() { processorsAdded = sync.Once{} }()
	for _, c := range []struct {
		env  string
		want int
	}{{"3", 3}, {"", 5}} {
		processorsAdded = sync.Once{}
		t.Setenv("GOMAXPROCS", c.env)
		addProcessors(2)
		addProcessors(2)
		if n := runtime.GOMAXPROCS(0); n != c.want {
			t.Errorf("GOMAXPROCS=%s: %d processors, want %d", c.env, n, c.want)
		}
	}
}
