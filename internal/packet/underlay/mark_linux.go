package underlay

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// setMark puts SO_MARK on a socket; 0 sets none.
func setMark(c syscall.RawConn, mark uint32) error {
	if mark == 0 {
		return nil
	}
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	}); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("SO_MARK: %w", err)
	}
	return nil
}
