package tun

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"culvert/internal/host/nlwatch"
)

// NewHost takes the routing table (ErrTableInUse where another gateway has it)
// and removes what instances with other tables left behind that are gone and whose
// lock files are in LockDir. What an earlier run left of this table stays until the
// first Apply replaces it, or Close removes it: until then it keeps plaintext in.
// The Host belongs to the network namespace in which it was made. Safe for concurrent use.
func NewHost(o Options) (Host, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(o.LockDir, o.Table, o.LockWait)
	if err != nil {
		return nil, err
	}
	k, err := newKernel(o)
	if err != nil {
		lock.release()
		return nil, err
	}
	h := &host{o: o, kernel: k, lock: lock}
	if h.watch, err = newWatch(o); err != nil {
		k.close()
		lock.release()
		return nil, err
	}
	if err := k.sweep(); err != nil {
		h.watch.Close()
		h.release()
		return nil, fmt.Errorf("cannot remove rules and routes that other gateways left (\"ip rule\", \"ip route show table all\"): %w", err)
	}
	return h, nil
}

// LANs are the private networks on the links of this host, but for those of a
// device, in order. It asks the network namespace of the calling thread.
func LANs(device string) ([]netip.Prefix, error) {
	k, err := newKernel(Options{Device: device})
	if err != nil {
		return nil, err
	}
	defer k.close()
	lans, err := k.allLANs()
	return slices.SortedFunc(maps.Keys(lans), comparePrefix), err
}

type host struct {
	o        Options
	kernel   *kernel
	lock     *lock
	mu       sync.Mutex
	closed   bool
	addrs    []netip.Prefix // on the device by us
	warnings []string
	watch    *nlwatch.Watch

	// The desired state: the last plan that was applied and what it means.
	applied bool
	plan    Plan
	made    state
	found   []string // what an Apply put right besides, for Restore to tell
}

func (h *host) Apply(p Plan) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	if err := h.kernel.setUp(p.MTU); err != nil {
		return err
	}
	v, err := h.look(p, nil)
	if err != nil {
		return err
	}
	if h.applied {
		h.found = append(h.found, v.differ...)
	}
	h.warnings = warnings(p, v.own)
	if errs := h.kernel.drop(v.current.foreign); len(errs) > 0 {
		return errors.Join(errs...)
	}
	reached, err := h.kernel.change(v.current.state, v.next)
	if err != nil {
		back, _ := h.kernel.change(reached, v.current.state)
		h.addrs = back.addrs
		return err
	}
	h.addrs = v.next.addrs
	h.applied, h.plan, h.made = true, clonePlan(p), v.next
	// Whoever cannot be asked has taken nothing that is known.
	taken, _ := h.kernel.taken(p)
	h.warnings = append(h.warnings, taken...)
	return nil
}

// view is the system compared with a plan.
type view struct {
	own     []netip.Addr // of the host, those of the plan included
	current held
	next    state    // what the plan means, with the host's addresses as they are now
	differ  []string // what of the desired state is not so, if there is one
	gone    bool     // the device
}

// look compares. Rules keep the places that they have in keep, or in the kernel where that is nil.
func (h *host) look(p Plan, keep []placed) (v view, err error) {
	if v.own, err = h.kernel.hostAddresses(); err != nil {
		return v, err
	}
	lans, err := h.kernel.lans(p)
	if err != nil {
		return v, err
	}
	w, err := compile(p, h.o.Mark, v.own, lans)
	if err != nil {
		return v, err
	}
	if v.current, err = h.kernel.read(); err != nil {
		return v, err
	}
	link, gone := h.kernel.link()
	var there []netip.Prefix
	if gone == nil {
		if there, err = h.kernel.addressesOf(link); err != nil {
			return v, err
		}
	}
	for _, a := range there {
		if slices.Contains(h.addrs, a) || slices.Contains(w.addrs, a) {
			v.current.addrs = append(v.current.addrs, a)
		}
	}
	v.next = state{addrs: w.addrs, routes: w.routes, near: w.near, fences: w.fences}
	if keep == nil {
		keep = v.current.rules
	}
	if v.next.rules, err = w.places(keep, h.o.Pref); err != nil {
		return v, err
	}
	for _, a := range p.Addresses {
		if !slices.Contains(v.own, a.Addr()) {
			v.own = append(v.own, a.Addr()) // on the device in a moment
		}
	}
	v.gone = gone != nil
	if h.applied {
		v.differ = differences(h.o, link, h.plan.MTU, v.current, h.made, lans)
	}
	return v, nil
}

// Differences: see Watcher.
func (h *host) Differences() ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || !h.applied {
		return nil, nil
	}
	v, err := h.look(h.plan, h.made.rules)
	return v.differ, err
}

// Restore: see Watcher.
func (h *host) Restore() (restored, by []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || !h.applied {
		return nil, nil, nil
	}
	by = h.watch.Suspects()
	v, err := h.look(h.plan, h.made.rules)
	if err != nil {
		return nil, by, err
	}
	restored, h.found = append(h.found, v.differ...), nil
	errs := h.kernel.drop(v.current.foreign)
	if !v.gone {
		errs = append(errs, h.kernel.setUp(h.plan.MTU))
	}
	_, err = h.kernel.goOver(v.current.state, v.next, true)
	h.addrs, h.made = v.next.addrs, v.next
	return restored, by, errors.Join(append(errs, err)...)
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
	h.watch.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	current, err := h.kernel.read()
	if err == nil {
		current.addrs = h.addrs
		_, err = h.kernel.change(current.state, state{})
		err = errors.Join(append(h.kernel.drop(current.foreign), err)...)
	}
	h.kernel.close()
	if err != nil { // the next start has to clean up
		return errors.Join(err, h.lock.release())
	}
	return h.lock.remove()
}

func (h *host) release() error {
	h.kernel.close()
	return h.lock.release()
}

// Left reports whether the last instance with this table was killed, and so may
// not be gone entirely: its device and sockets go a moment after its lock.
func (h *host) Left() bool { return h.lock.left }

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

// setUp sets the device up again, and its MTU.
func (k *kernel) setUp(mtu int) error {
	link, err := k.link()
	if err != nil {
		return err
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := k.h.LinkSetUp(link); err != nil {
			return fmt.Errorf("cannot set %s up: %w", k.o.Device, hint(err))
		}
	}
	return k.setMTU(mtu)
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
