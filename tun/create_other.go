//go:build !linux

package tun

import "culvert/internal/packet/wire"

func bringUp(string) error { return nil }

func ofPacket(error) bool { return false }

func ofWatch(error) bool { return false }

// connect says how packets come from the device and get to it. What a full ring of Windows
// drops the package does not say: nobody counts it.
func (d *device) connect() {
	d.read, d.write = readOn(d.dev), func(bufs [][]byte, offset int) (int, error) { return writeOn(d.dev.Write, bufs, offset) }
	d.offloads = func() []wire.Offload { return nil }
}
