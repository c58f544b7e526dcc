//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// maxPath is what fits into sockaddr_un on the smallest of our systems.
const maxPath = 103

// Listen opens the control socket at path. Its directory is made if it is
// missing (mode 0755); the socket itself can be opened by its owner only (mode
// 0600), from its first moment on. A socket that a dead instance left behind is
// replaced; one that answers is not.
func Listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory of the control socket: %w", err)
	}
	if err := checkFree(path); err != nil {
		return nil, err
	}
	// Between bind and chmod the umask decides who may open a socket, so it is
	// bound where nobody else can reach it and moved into place afterwards.
	tmp, err := os.MkdirTemp(dir, ".s")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer os.RemoveAll(tmp)
	hidden := filepath.Join(tmp, "s")
	if n := max(len(hidden), len(path)); n > maxPath {
		return nil, fmt.Errorf("control socket: the path %s is too long for a unix socket by %d bytes: use a shorter --control PATH", path, n-maxPath)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would unlink the name that was bound
	own, err := place(hidden, path)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &listener{UnixListener: l, path: path, own: own}, nil
}

// place makes the socket private, moves it to path and returns what it looks like there.
func place(hidden, path string) (fs.FileInfo, error) {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(hidden, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// checkFree returns nil if nothing is at path or a socket that nobody answers.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s exists and is not a socket: remove it or use --control PATH", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := dial(ctx, path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("control socket %s: another culvert answers there: use --control PATH or stop it", path)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // left behind by an instance that is gone
	}
	return fmt.Errorf("control socket %s is in use or not ours: use --control PATH: %w", path, err)
}

// listener removes its socket when it is closed, unless somebody else's is
// there by then.
type listener struct {
	*net.UnixListener
	path  string
	own   fs.FileInfo
	close sync.Once
	err   error
}

func (l *listener) Close() error {
	l.close.Do(func() {
		if now, _ := os.Lstat(l.path); os.SameFile(now, l.own) { // nothing is the same as no file
			_ = os.Remove(l.path)
		}
		l.err = l.UnixListener.Close()
	})
	return l.err
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
