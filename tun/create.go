package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"

	wgtun "golang.zx2c4.com/wireguard/tun"

	"culvert/internal/packet/wire"
)

// What can be wrong with the machine or the name; every error of Create that
// has such a cause wraps one of these and says what to do.
var (
	ErrNoDriver  = errors.New("no TUN driver")
	ErrPrivilege = errors.New("not permitted")
	ErrNameTaken = errors.New("name taken")
	ErrBadName   = errors.New("bad device name")
)

const (
	// Offset is a good offset for Read and Write: the kernel's offload header
	// (10 bytes on Linux) goes in front of each packet.
	Offset = 16
	// MinMTU is what IPv4 needs (RFC 791); a device that carries IPv6 needs 1280.
	MinMTU = 576
	// MaxMTU is the largest IP packet.
	MaxMTU = 65535
)

// Filer is what a Device has whose packets can be read and written as the
// kernel's super-packets (Linux: each with a virtio_net_hdr in front).
type Filer interface {
	// File stays the device's: it must not be closed. Nil where there is none.
	File() *os.File
}

// Create makes a TUN device and brings it up. The system may choose another
// name than the one asked for (macOS: utunN): Name tells. The device vanishes
// with Close or the end of the process.
//
// Read hands out whole packets with their checksums complete, however the
// kernel passed them: on Linux all that are there, until half of the buffers are full.
// Write joins neighbouring segments of one flow where the system takes
// them so (Linux); offset must be at least 10.
// Both return os.ErrClosed after Close.
func Create(name string, mtu int) (Device, error) { return CreateQueued(name, mtu, 1) }

// CreateQueued is Create for a device of so many queues, if the system has devices of several (Linux):
// Queues lists those that it has. The system chooses the queue of a packet by its flow. The Read and Write
// of the device are those of the first queue.
func CreateQueued(name string, mtu, queues int) (Device, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if mtu < MinMTU || mtu > MaxMTU {
		return nil, fmt.Errorf("MTU %d of %s: give one from %d to %d", mtu, name, MinMTU, MaxMTU)
	}
	dev, more, err := open(systemName(name), mtu, queues)
	if err != nil {
		return nil, explainCreate(name, err)
	}
	got, err := dev.Name()
	if err == nil {
		err = bringUp(got)
	}
	if err != nil {
		closeAll(more)
		dev.Close()
		return nil, explainCreate(name, err)
	}
	d := &device{dev: dev, files: more, asked: queues, name: got, drops: newDrops(got)}
	d.events.Go(func() {
		// The package blocks on events that nobody takes.
		for range dev.Events() {
		}
	})
	if err := d.connect(); err != nil {
		return nil, errors.Join(explainCreate(name, err), d.Close())
	}
	return d, nil
}

func checkName(name string) error {
	ok := name != "" && len(name) <= 15 && name != "." && name != ".."
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("%w: %q is not a device name: write 1 to 15 letters, digits, '-', '_' or '.' (key tun in [gateway])", ErrBadName, name)
	}
	return nil
}

type device struct {
	queue           // the first
	more   []*queue // the others
	files  []*os.File
	asked  int // how many queues were wanted
	dev    wgtun.Device
	name   string
	events sync.WaitGroup
	drops  *drops
	waits  []func() error // end what waits in Read
	// offloads says what connect found.
	offloads func() []wire.Offload
}

// queue is one of a device.
type queue struct {
	read  func(bufs [][]byte, sizes []int, offset int) (int, error)
	write func(bufs [][]byte, offset int) (int, error)
	batch int
}

func (q *queue) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	return q.read(bufs, sizes, offset)
}

// Queues are those of the device.
func (d *device) Queues() []Queue {
	list := []Queue{&d.queue}
	for _, q := range d.more {
		list = append(list, q)
	}
	return list
}

func closeAll(files []*os.File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// readOn is for the package's devices, which report what is not about packets, too.
func readOn(dev wgtun.Device) func(bufs [][]byte, sizes []int, offset int) (int, error) {
	return func(bufs [][]byte, sizes []int, offset int) (int, error) {
		for {
			n, err := dev.Read(bufs, sizes, offset)
			switch {
			case err == nil:
				return n, nil
			case ofPacket(err):
				return max(n, 0), fmt.Errorf("%w: %w", ErrPacket, err)
			case n > 0 || !ofWatch(err):
				return n, err
			}
		}
	}
}

// Write returns how many packets the system took; one that it refuses does not
// keep the others back. Refused packets are not written again: a full queue is
// waited for (EAGAIN), and what else the system says (the
// device is down, this is no IP packet, there is no memory) a second try a moment
// later would hear as well.
func (q *queue) Write(bufs [][]byte, offset int) (int, error) {
	if len(bufs) == 0 {
		return 0, nil
	}
	return q.write(bufs, offset)
}

func (q *queue) BatchSize() int     { return q.batch }
func (d *device) Name() string      { return d.name }
func (d *device) MTU() (int, error) { return d.dev.MTU() }
func (d *device) File() *os.File    { return d.dev.File() }

// Offloads says what the system does for many packets of the device at once.
func (d *device) Offloads() []wire.Offload {
	list := d.offloads()
	for i := range list {
		list[i].Place = d.name
	}
	return list
}

// Drops is how many packets the system has dropped because the device's queue was full.
func (d *device) Drops() uint64 { return d.drops.read() }

func (d *device) Close() error {
	d.drops.close()
	var err error
	for _, end := range d.waits {
		err = errors.Join(err, end())
	}
	err = errors.Join(err, closeAll(d.files), d.dev.Close())
	d.events.Wait()
	return err
}
