package tun

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
)

func systemName(name string) string { return name }

func explainCreate(name string, err error) error {
	switch {
	case strings.Contains(err.Error(), "wintun.dll"):
		return fmt.Errorf("%w: put wintun.dll (from https://www.wintun.net, of this machine's architecture) beside culvert.exe (%w)", ErrNoDriver, err)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fmt.Errorf("%w to create TUN device %s: run as administrator or as a service (%w)", ErrPrivilege, name, err)
	case errors.Is(err, windows.ERROR_ALREADY_EXISTS), errors.Is(err, windows.ERROR_DUP_NAME):
		return fmt.Errorf("%w: a network adapter %s exists already: choose another name (key tun in [gateway]) (%w)", ErrNameTaken, name, err)
	}
	return fmt.Errorf("cannot create TUN device %s: %w", name, err)
}
