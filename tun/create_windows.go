package tun

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

func systemName(name string) string { return name }

func bringUp(string) error { return nil }

func ofPacket(error) bool { return false }

func ofWatch(error) bool { return false }

// What a full ring drops the package does not say: nobody counts it.
func writeAll(dev wgtun.Device, bufs [][]byte, offset int) (int, error) {
	return writeOn(dev.Write, bufs, offset)
}

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
