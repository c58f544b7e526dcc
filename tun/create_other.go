//go:build !linux

package tun

import (
	"os"

	wgtun "golang.zx2c4.com/wireguard/tun"

	"culvert/internal/packet/wire"
)

func bringUp(string) error { return nil }

func ofPacket(error) bool { return false }

func ofWatch(error) bool { return false }

// open opens a device. These systems have no devices of several queues.
func open(name string, mtu, _ int) (dev wgtun.Device, more []*os.File, err error) {
	dev, err = wgtun.CreateTUN(name, mtu)
	return dev, nil, err
}

// connect says how packets come from the device and get to it. What a full ring of Windows
// drops the package does not say: nobody counts it.
func (d *device) connect() error {
	d.queue = queue{readOn(d.dev), func(bufs [][]byte, offset int) (int, error) { return writeOn(d.dev.Write, bufs, offset) }, d.dev.BatchSize()}
	d.offloads = func() []wire.Offload { return nil }
	return nil
}
