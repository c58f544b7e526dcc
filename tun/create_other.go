//go:build !linux

package tun

import wgtun "golang.zx2c4.com/wireguard/tun"

func bringUp(string) error { return nil }

func ofPacket(error) bool { return false }

func ofWatch(error) bool { return false }

func reads(dev wgtun.Device) func(bufs [][]byte, sizes []int, offset int) (int, error) {
	return readOn(dev)
}

// What a full ring of Windows drops the package does not say: nobody counts it.
func writes(dev wgtun.Device) func(bufs [][]byte, offset int) (int, error) {
	return func(bufs [][]byte, offset int) (int, error) { return writeOn(dev.Write, bufs, offset) }
}
