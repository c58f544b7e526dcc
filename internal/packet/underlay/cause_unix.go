//go:build unix

package underlay

import (
	"errors"

	"golang.org/x/sys/unix"
)

func cause(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return ErrPortInUse
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return ErrPrivilege
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return ErrNoAddress
	}
	return nil
}
