package tun

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gone is a file whose calls are made, or fail before they are.
type gone struct {
	syscall.RawConn
	err error
}

func (g gone) Control(f func(fd uintptr)) error {
	if g.err == nil {
		f(0)
	}
	return g.err
}

// What the system refuses is not written again, but what it may only not take joined is; what
// counts as taken is what it has.
func TestWriterOnWhatIsRefused(t *testing.T) {
	seg := func(name byte, port string, k uint32) []byte {
		return tcp("10.0.0.1:1", "10.0.0.2:"+port, 1+4*k, flagACK, string([]byte{name, name, name, name}))
	}
	var flows [][]byte // a, b, c are of one flow, d and e of another, f alone
	for i, name := range []byte("abc") {
		flows = append(flows, seg(name, "80", uint32(i)))
	}
	for i, name := range []byte("de") {
		flows = append(flows, seg(name, "81", uint32(i)))
	}
	flows = append(flows, seg('f', "82", 0))
	for _, c := range []struct {
		name  string
		rule  func(calls int, payload string) unix.Errno
		fails error // of the file itself
		tried []string
		taken int
		want  error
	}{
		{"all are taken", func(int, string) unix.Errno { return 0 }, nil, []string{"abc", "de", "f"}, 6, nil},
		{"nothing joined is taken", func(_ int, s string) unix.Errno {
			if len(s) > 1 {
				return unix.EINVAL
			}
			return 0
		}, nil, []string{"abc", "a", "b", "c", "de", "d", "e", "f"}, 6, nil},
		{"nothing joined is taken, nor is b", func(_ int, s string) unix.Errno {
			if len(s) > 1 || s == "b" {
				return unix.EINVAL
			}
			return 0
		}, nil, []string{"abc", "a", "b", "c", "de", "d", "e", "f"}, 5, unix.EINVAL},
		{"no packet of a flow is taken", func(_ int, s string) unix.Errno {
			if s[0] < 'd' {
				return unix.EINVAL
			}
			return 0
		}, nil, []string{"abc", "a", "b", "c", "de", "f"}, 3, unix.EINVAL},
		{"the one that is alone is not", func(_ int, s string) unix.Errno {
			if s == "f" {
				return unix.EINVAL
			}
			return 0
		}, nil, []string{"abc", "de", "f"}, 5, unix.EINVAL},
		{"no memory for one flow", func(_ int, s string) unix.Errno {
			if s == "abc" {
				return unix.ENOMEM
			}
			return 0
		}, nil, []string{"abc", "de", "f"}, 3, unix.ENOMEM},
		{"the device is down", func(int, string) unix.Errno { return unix.EIO }, nil, []string{"abc", "de", "f"}, 0, unix.EIO},
		{"the device goes", func(calls int, _ string) unix.Errno {
			if calls == 1 {
				return unix.EBADFD
			}
			return 0
		}, nil, []string{"abc", "de"}, 3, os.ErrClosed},
		{"the device goes while packets are written one by one", func(calls int, s string) unix.Errno {
			switch {
			case calls == 2:
				return unix.EBADFD
			case len(s) > 1:
				return unix.EINVAL
			}
			return 0
		}, nil, []string{"abc", "a", "b"}, 1, os.ErrClosed},
		{"the file is closed", nil, os.ErrClosed, nil, 0, os.ErrClosed},
		{"the file fails", nil, unix.ENXIO, nil, 0, os.ErrClosed},
	} {
		var bufs [][]byte
		for _, p := range flows {
			bufs = append(bufs, append(make([]byte, Offset), p...))
		}
		var tried []string
		w := &writer{file: gone{err: c.fails}}
		w.call = func(uintptr) {
			var heads []byte
			for i, v := range w.iovs { // of each packet its first byte of payload
				b := unsafe.Slice(v.Base, v.Len)
				if i == 0 {
					b = b[offloadLen+40:]
				}
				heads = append(heads, b[0])
			}
			w.errno = c.rule(len(tried), string(heads))
			tried = append(tried, string(heads))
		}
		n, err := w.write(bufs, Offset)
		if n != c.taken || !errors.Is(err, c.want) || !slices.Equal(tried, c.tried) {
			t.Errorf("%s: %d, %v, tried %q, want %d, %v, %q", c.name, n, err, tried, c.taken, c.want, c.tried)
		}
		for _, v := range w.iovs {
			if v.Base != nil {
				t.Errorf("%s: the caller's memory is kept", c.name)
			}
		}
	}
}

// Errors of the device's file, of one packet, and of the socket that watches the device.
func TestWhatAnErrorIsOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{os.ErrClosed, "file"}, {&os.PathError{Op: "read", Path: "/dev/net/tun", Err: unix.EINVAL}, "file"},
		{unix.ENOBUFS, "watch"}, {errors.Join(errors.New("route"), unix.EINTR), "watch"}, {errors.New("too many segments"), "packet"},
	} {
		got := ""
		for name, is := range map[string]bool{"file": ofFile(c.err), "watch": ofWatch(c.err), "packet": ofPacket(c.err)} {
			if is {
				got += name
			}
		}
		if got != c.want {
			t.Errorf("%v is of %q, want %q", c.err, got, c.want)
		}
	}
}

// fdFile is a file by its number.
type fdFile struct {
	syscall.RawConn
	fd int
}

func (f fdFile) Control(call func(fd uintptr)) error {
	call(uintptr(f.fd))
	return nil
}

// A device that is full is waited for, and not for ever: what it does not take then is lost.
func TestWriterOnAFullDevice(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	page := make([]byte, 4096)
	for {
		if _, err := unix.Write(pipe[1], page); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	w := &writer{file: fdFile{fd: pipe[1]}}
	w.call = w.writev
	write := func() unix.Errno {
		w.iovs = append(w.iovs[:0], iovec(page))
		errno, err := w.flush()
		if err != nil {
			t.Fatal(err)
		}
		return errno
	}
	began := time.Now()
	if errno := write(); errno != unix.EAGAIN || time.Since(began) < fullTimeout*time.Millisecond {
		t.Errorf("%v after %v", errno, time.Since(began))
	}
	if _, err := unix.Read(pipe[0], page); err != nil {
		t.Fatal(err)
	}
	if errno := write(); errno != 0 {
		t.Error(errno)
	}
}
