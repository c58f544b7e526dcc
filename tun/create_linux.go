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

	"culvert/internal/packet/wire"
)

func systemName(name string) string { return name }

// queueLen is how many packets wait for Read before the system drops one (docs/performance.md). A packet
// that is not cut yet is one.
const queueLen = 4000

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
	_ = netlink.LinkSetTxQLen(link, queueLen)
	return netlink.LinkSetUp(link)
}

// open opens a device of up to so many queues, and returns the files of all but the first. A device has several
// queues only if its kernel takes that at the first one. The package opens it where the kernel knows no offload header.
func open(name string, mtu, queues int) (dev wgtun.Device, more []*os.File, err error) {
	var several uint16
	if queues > 1 {
		several = unix.IFF_MULTI_QUEUE
	}
	first, err := openQueue(name, several)
	if errors.Is(err, unix.EINVAL) && !exists(name) {
		if queues > 1 {
			return open(name, mtu, 1)
		}
		dev, err = wgtun.CreateTUN(name, mtu)
		return dev, nil, err
	}
	if err != nil {
		return nil, nil, err
	}
	for len(more) < queues-1 {
		file, err := openQueue(name, several)
		if err != nil {
			break // no more, which Queues tells
		}
		more = append(more, file)
	}
	if dev, err = wgtun.CreateTUNFromFile(first, mtu); err != nil {
		return nil, nil, errors.Join(err, closeAll(more), first.Close())
	}
	return dev, more, nil
}

// openQueue opens a queue that does not block. The runtime's poller does not know its file, which it would watch for
// nothing (internal/packet/poll).
func openQueue(name string, several uint16) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | several)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "/dev/net/tun")
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// connect says how packets come from the device and get to it.
func (d *device) connect() error {
	r, err := newReader(d.dev.File())
	if err != nil {
		return err
	}
	w := newWriter(d.dev.File())
	d.queue = queue{read: readOn(d.dev), write: func(bufs [][]byte, offset int) (int, error) { return writeJoined(d.dev.Write, bufs, offset) }, batch: d.dev.BatchSize()}
	if r != nil {
		d.read = r.read
		d.waits = append(d.waits, r.ready.Close)
	}
	if w != nil {
		d.write = w.write
	}
	for _, file := range d.files {
		r, err := newReader(file)
		if err != nil {
			return err
		}
		if w := newWriter(file); r != nil && w != nil {
			d.more = append(d.more, &queue{r.read, w.write, d.batch})
			d.waits = append(d.waits, r.ready.Close)
		}
	}
	d.offloads = func() []wire.Offload {
		list := offloads(r != nil, w != nil, w != nil && w.join.udp)
		if d.asked > 1 {
			list = append(list, severalQueues(1+len(d.more), d.asked))
		}
		return list
	}
	return nil
}

// severalQueues is about the queues of a device, of which more than one were wanted.
func severalQueues(has, wanted int) wire.Offload {
	o := wire.Offload{Name: "read-queues", InUse: has > 1, Detail: fmt.Sprintf("%d queues, and the system chooses one by the flow (IFF_MULTI_QUEUE)", has)}
	if has < wanted {
		o.Detail = fmt.Sprintf("%d of %d queues (workers in [gateway]): the system has no more", has, wanted)
	}
	return o
}

// offloads are those of a device: whether packets of TCP are read and written joined, and those of UDP.
func offloads(read, write, udp bool) []wire.Offload {
	list := []wire.Offload{
		{Name: "read-tcp-joined", InUse: read, Detail: "segments of the hosts' TCP connections come as one (TSO)"},
		{Name: "read-udp-joined", InUse: read && udp, Detail: "datagrams that a host sent with one call come as one (USO)"},
		{Name: "write-tcp-joined", InUse: write, Detail: "segments of one TCP connection get to the hosts as one"},
		{Name: "write-udp-joined", InUse: write && udp, Detail: "datagrams of one flow get to the hosts as one"},
	}
	for i := range list {
		switch o := &list[i]; {
		case o.InUse:
		case !read || !write:
			o.Detail = "the device has no offload header (IFF_VNET_HDR): packets pass one by one"
		default:
			o.Detail = "the kernel refuses TUN_F_USO4 and TUN_F_USO6, which Linux 6.2 has: datagrams pass one by one"
		}
	}
	return list
}

// offloadFile is a device's file if it has an offload header in front of each packet, otherwise nil.
// It then has set called with the open file.
func offloadFile(file *os.File, set func(fd int)) syscall.RawConn {
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
