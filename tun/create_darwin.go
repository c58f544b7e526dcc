package tun

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemName: macOS knows utun0, utun1…; for any other name it chooses a number.
func systemName(name string) string {
	if num, ok := strings.CutPrefix(name, "utun"); ok {
		if _, err := strconv.ParseUint(num, 10, 15); err == nil {
			return name
		}
	}
	return "utun"
}

func explainCreate(name string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w to create TUN device %s: run as root (sudo) (%w)", ErrPrivilege, name, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s is in use: write tun = \"utun\" in [gateway] to let the system choose a number (%w)", ErrNameTaken, name, err)
	}
	return fmt.Errorf("cannot create TUN device %s: %w", name, err)
}
