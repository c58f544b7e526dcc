package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

func systemName(name string) string { return name }

// queue is how many packets wait for Read before the system drops one (docs/performance.md). A packet
// that is not cut yet is one.
const queue = 4000

// bringUp sets the link up. It gets no link-local address: nobody on the other
// side would answer router solicitations.
func bringUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	// Fails where the kernel has no IPv6, which is no harm.
	_ = netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE)
	// The system's own length will do where this one is refused.
	_ = netlink.LinkSetTxQLen(link, queue)
	return netlink.LinkSetUp(link)
}

// reads is how packets come from the device.
func reads(dev wgtun.Device) func(bufs [][]byte, sizes []int, offset int) (int, error) {
	if r := newReader(dev); r != nil {
		return r.read
	}
	return readOn(dev)
}

// offloadFile is the device's file if it has an offload header in front of each packet, otherwise nil.
// It then has set called with the open file.
func offloadFile(dev wgtun.Device, set func(fd int)) syscall.RawConn {
	file := dev.File()
	if file == nil {
		return nil
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil
	}
	header := false
	_ = raw.Control(func(fd uintptr) { // a closed file has none
		ifr, _ := unix.NewIfreq("")
		if header = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, ifr) == nil && ifr.Uint16()&unix.IFF_VNET_HDR != 0; header {
			set(int(fd))
		}
	})
	if !header {
		return nil
	}
	return raw
}

// writes is how packets get to the device.
func writes(dev wgtun.Device) func(bufs [][]byte, offset int) (int, error) {
	if w := newWriter(dev); w != nil {
		return w.write
	}
	return func(bufs [][]byte, offset int) (int, error) { return writeJoined(dev.Write, bufs, offset) }
}

// The errors of a Read: of the device's file, of one packet that cannot be split,
// or of the netlink socket by which the package watches the device, which says
// nothing of packets.

func ofFile(err error) bool {
	var path *fs.PathError
	return errors.Is(err, os.ErrClosed) || errors.As(err, &path)
}

func ofWatch(err error) bool {
	var errno unix.Errno
	return !ofFile(err) && errors.As(err, &errno)
}

func ofPacket(err error) bool { return !ofFile(err) && !ofWatch(err) }

func explainCreate(name string, err error) error {
	_, stat := os.Stat("/dev/net/tun")
	switch {
	case stat != nil || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: /dev/net/tun is missing: load it with \"modprobe tun\"; in a container start it with --device /dev/net/tun --cap-add NET_ADMIN (%w)", ErrNoDriver, err)
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w to create TUN device %s: run as root or give the program cap_net_admin (setcap cap_net_admin,cap_net_raw,cap_net_bind_service+ep); in a container: --device /dev/net/tun --cap-add NET_ADMIN (%w)", ErrPrivilege, name, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL) && exists(name):
		return fmt.Errorf("%w: a network device %s exists already: stop what made it (\"ip link show %s\"), or choose another name (key tun in [gateway]) (%w)", ErrNameTaken, name, name, err)
	}
	return fmt.Errorf("cannot create TUN device %s: %w", name, err)
}

func exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}
