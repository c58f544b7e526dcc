package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// NewHost takes the routing table (ErrTableInUse where another gateway has it)
// and removes what instances left behind that are gone, of this table and of
// others whose lock files are in LockDir. It belongs to the
// network namespace in which it was made. Safe for concurrent use.
func NewHost(o Options) (Host, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(o.LockDir, o.Table)
	if err != nil {
		return nil, err
	}
	k, err := newKernel(o)
	if err != nil {
		lock.Close()
		return nil, err
	}
	h := &host{o: o, kernel: k, lock: lock}
	if h.watch, err = newWatch(h.intact); err != nil {
		k.close()
		lock.Close()
		return nil, err
	}
	current, err := k.read()
	if err == nil {
		_, err = k.change(current, state{addrs: current.addrs})
	}
	if err == nil {
		err = k.sweep()
	}
	if err != nil {
		h.watch.close()
		h.release()
		return nil, fmt.Errorf("cannot remove rules and routes that an earlier run left (\"ip rule\", \"ip route show table %d\"): %w", o.Table, err)
	}
	return h, nil
}

type host struct {
	o        Options
	kernel   *kernel
	lock     *os.File
	mu       sync.Mutex
	closed   bool
	addrs    []netip.Prefix // on the device by us
	warnings []string
	watch    *watch

	// What the last Apply made, and of which addresses of the host.
	applied bool
	made    state
	own     []netip.Addr // less addrs
}

func (h *host) Apply(p Plan) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	if err := h.kernel.setMTU(p.MTU); err != nil {
		return err
	}
	own, err := h.kernel.hostAddresses()
	if err != nil {
		return err
	}
	w, err := compile(p, h.o.Mark, own)
	if err != nil {
		return err
	}
	current, err := h.kernel.read()
	if err != nil {
		return err
	}
	current.addrs = h.addrs
	next := state{addrs: w.addrs, routes: w.routes, fences: w.fences}
	if next.rules, err = w.place(current.rules, h.o.Pref); err != nil {
		return err
	}
	for _, a := range p.Addresses {
		if !slices.Contains(own, a.Addr()) {
			own = append(own, a.Addr()) // on the device in a moment
		}
	}
	h.warnings = warnings(p, own)
	reached, err := h.kernel.change(current, next)
	if err != nil {
		back, _ := h.kernel.change(reached, current)
		h.addrs = back.addrs
		return err
	}
	h.addrs = next.addrs
	h.applied, h.made, h.own = true, next, others(own, h.addrs)
	if link, err := h.kernel.link(); err == nil {
		h.watch.device.Store(uint32(link.Attrs().Index))
	}
	return nil
}

// Warnings are what the last Apply found.
func (h *host) Warnings() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.warnings)
}

func (h *host) Close() error {
	h.mu.Lock()
	was := h.closed
	h.closed = true
	h.mu.Unlock()
	if was {
		return nil
	}
	h.watch.close()
	h.mu.Lock()
	defer h.mu.Unlock()
	current, err := h.kernel.read()
	if err == nil {
		current.addrs = h.addrs
		_, err = h.kernel.change(current, state{})
	}
	return errors.Join(err, h.release())
}

func (h *host) release() error {
	h.kernel.close()
	return h.lock.Close()
}

// warnings finds what keeps hosts behind the gateway from using it.
func warnings(p Plan, own []netip.Addr) []string {
	var behind [2]bool
	for _, r := range p.Routes {
		if r.Pass || !r.Local.IsValid() || r.Local.IsSingleIP() && slices.Contains(own, r.Local.Addr()) {
			continue
		}
		behind[index(r.Local.Addr().Is6())] = true
	}
	var out []string
	for i, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		if behind[i] && err == nil && strings.TrimSpace(string(text)) == "0" {
			out = append(out, key+" is 0: this host does not forward for others; if it is their gateway, run \"sysctl -w "+key+"=1\" and write it to /etc/sysctl.d")
		}
	}
	return out
}

func (k *kernel) setMTU(mtu int) error {
	if mtu == 0 {
		return nil
	}
	link, err := k.link()
	if err != nil || link.Attrs().MTU == mtu {
		return err
	}
	if err := k.h.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("cannot set MTU %d on %s: %w", mtu, k.o.Device, err)
	}
	return nil
}

// hostAddresses are the host's unicast addresses of global scope, those that the
// system prefers first.
func (k *kernel) hostAddresses() ([]netip.Addr, error) {
	list, err := retry(func() ([]netlink.Addr, error) { return k.h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("cannot list the host's addresses: %w", err)
	}
	var first, second []netip.Addr
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		switch {
		case !ok || !usable(ip, a):
		case a.Flags&lesser != 0:
			second = append(second, ip)
		default:
			first = append(first, ip)
		}
	}
	return append(first, second...), nil
}
