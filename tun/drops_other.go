//go:build !linux

package tun

// drops: these systems do not tell what they have dropped on the way into a device.
type drops struct{}

func newDrops(string) *drops { return nil }

func (*drops) read() uint64 { return 0 }
func (*drops) close()       {}
