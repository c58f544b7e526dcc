package tun

import (
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// drops reads what the system has dropped on its way into a device.
type drops struct {
	mu     sync.Mutex
	handle *netlink.Handle // in the device's network namespace
	index  int
	last   uint64
}

func newDrops(name string) *drops {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil
	}
	return &drops{handle: handle, index: link.Attrs().Index}
}

// read is the number as far as it is known.
func (d *drops) read() uint64 {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handle == nil {
		return d.last
	}
	if link, err := d.handle.LinkByIndex(d.index); err == nil && link.Attrs().Statistics != nil {
		d.last = max(d.last, link.Attrs().Statistics.TxDropped)
	}
	return d.last
}

func (d *drops) close() {
	if d == nil {
		return
	}
	d.read()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handle != nil {
		d.handle.Close()
		d.handle = nil
	}
}
