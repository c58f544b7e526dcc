package underlay

import (
	"errors"

	"golang.org/x/sys/windows"
)

func cause(err error) error {
	switch {
	case errors.Is(err, windows.WSAEADDRINUSE):
		return ErrPortInUse
	case errors.Is(err, windows.WSAEACCES):
		return ErrPrivilege
	case errors.Is(err, windows.WSAEADDRNOTAVAIL):
		return ErrNoAddress
	}
	return nil
}
