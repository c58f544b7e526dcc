package underlay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	memInfoDrops = 8 // SK_MEMINFO_DROPS, the index of what a socket has dropped
	memInfoLen   = 9
)

// Drops are the datagrams that the system has dropped at the sockets since Listen: their
// queues were full, or the UDP checksum was wrong.
func (c *conn) Drops() uint64 {
	c.dmu.Lock()
	defer c.dmu.Unlock()
	if c.closed.Load() {
		return c.drops
	}
	for _, s := range c.all() {
		var info [memInfoLen]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && uintptr(size) == unsafe.Sizeof(info) { // Linux before 4.12 has no SO_MEMINFO
			c.drops += uint64(info[memInfoDrops] - s.dropped) // the system's number wraps around
			s.dropped = info[memInfoDrops]
		}
	}
	return c.drops
}
