package gateway

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
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
