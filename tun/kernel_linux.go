package tun

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernel reads and changes addresses, routes and rules of one instance by
// rtnetlink. Its socket stays in the namespace in which it was opened.
type kernel struct {
	o    Options
	h    *netlink.Handle
	asks *nl.SocketHandle // for what the handle has no call for
}

func newKernel(o Options) (*kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot open rtnetlink: %w", err)
	}
	asks, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("cannot open rtnetlink: %w", err)
	}
	return &kernel{o: o, h: h, asks: &nl.SocketHandle{Socket: asks}}, nil
}

func (k *kernel) close() {
	k.asks.Close()
	k.h.Close()
}

func (k *kernel) link() (netlink.Link, error) {
	link, err := k.h.LinkByName(k.o.Device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w; it must exist before routes lead to it", k.o.Device, err)
	}
	return link, nil
}

// listAll is what list returns; nothing where the kernel does not have the address family.
func listAll[T any](list func() ([]T, error)) ([]T, error) {
	all, err := retry(list)
	if noFamily(err) {
		return nil, nil
	}
	return all, err
}

// retry lists again where the kernel's list changed meanwhile.
func retry[T any](list func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := list()
		if err == nil || try == 10 || !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			return v, err
		}
	}
}

// otherTables are those of rules of other instances.
func (k *kernel) otherTables() (tables []int, err error) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := listAll(func() ([]netlink.Rule, error) { return k.h.RuleList(family) })
		if err != nil {
			return nil, fmt.Errorf("cannot list rules: %w", err)
		}
		for _, r := range rules {
			table := r.Table &^ nearBit
			if table == unix.RT_TABLE_MAIN {
				table = r.SuppressIfgroup
			}
			if r.Protocol == Protocol && table > 0 && table != k.o.Table && !slices.Contains(tables, table) {
				tables = append(tables, table)
			}
		}
	}
	return tables, nil
}

// sweep removes what instances with other tables left that are gone.
func (k *kernel) sweep() error {
	tables, err := k.otherTables()
	for _, table := range tables {
		left := takeLeftLock(k.o.LockDir, table)
		if left == nil {
			continue
		}
		gone := *k
		gone.o.Table = table
		current, e := gone.read()
		if e == nil {
			_, e = gone.change(current.state, state{addrs: current.addrs})
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("table %d: %w", table, e))
			left.release()
		} else {
			left.remove()
		}
	}
	if err == nil {
		removeStale(k.o.LockDir)
	}
	return err
}

const (
	// lesser are addresses that the system does not choose by itself.
	lesser = unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY
	// actNop is FR_ACT_NOP of linux/fib_rules.h.
	actNop = 3
)

func usable(ip netip.Addr, a netlink.Addr) bool {
	return ip.IsGlobalUnicast() && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&(unix.IFA_F_DADFAILED|unix.IFA_F_TENTATIVE) == 0
}

// held is what the kernel holds: of ours (our protocol number and table), and of
// others where only ours belongs.
type held struct {
	state                   // but for addrs
	foreign []netlink.Route // routes of others in our tables
}

// read lists the rules and routes. Which addresses of the device are ours only who
// added them knows: see addressesOf.
func (k *kernel) read() (held, error) {
	s := held{state: state{routes: map[netip.Prefix]netip.Addr{}, near: map[netip.Prefix]link{}}}
	device := 0
	if link, err := k.link(); err == nil {
		device = link.Attrs().Index
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := listAll(func() ([]netlink.Rule, error) { return k.h.RuleList(family) })
		if err != nil {
			return s, fmt.Errorf("cannot list rules: %w", err)
		}
		for _, r := range rules {
			if p, ok := k.decode(r, family == unix.AF_INET6); ok {
				s.rules = append(s.rules, p)
			}
		}
		filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC} // of all tables
		routes, err := listAll(func() ([]netlink.Route, error) {
			return k.h.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return s, fmt.Errorf("cannot list routes: %w", err)
		}
		for _, r := range routes {
			s.take(r, k.o.Table, device, family == unix.AF_INET6)
		}
	}
	return s, nil
}

// take enters a route of any table. Ours are in the table of the instance, to the device or the fence, and
// in that of the networks on links, as we make them.
func (s *held) take(r netlink.Route, table, device int, v6 bool) {
	if r.Table&^nearBit != table {
		return
	}
	dst := anyPrefix(v6)
	if r.Dst != nil {
		dst = fromIPNet(r.Dst)
	}
	plain := r.Protocol == Protocol && r.Gw == nil && r.Via == nil && r.Encap == nil && len(r.MultiPath) == 0
	to := plain && r.Type == unix.RTN_UNICAST && r.Priority == defaultMetric(dst) // a link
	src, _ := netip.AddrFromSlice(r.Src)
	switch near := r.Table != table; {
	case near && to:
		s.near[dst] = link{r.LinkIndex, src.Unmap()}
	case !near && to && r.LinkIndex == device:
		s.routes[dst] = src.Unmap()
	case !near && plain && r.Type == unix.RTN_UNREACHABLE && dst.Bits() == 0 && r.Priority == fenceMetric:
		s.fences[index(v6)] = true
	default:
		s.foreign = append(s.foreign, r)
	}
}

// lans are the private networks on the host's links, where a plan asks for them:
// destinations for which the kernel itself made a route when an address was added
// (proto kernel), without a router. Routes that a DHCP client or a router
// advertisement adds are of other protocols.
func (k *kernel) lans(p Plan) (map[netip.Prefix]link, error) {
	if !p.asksLANs() {
		return nil, nil
	}
	return k.allLANs()
}

func (k *kernel) allLANs() (map[netip.Prefix]link, error) {
	out := map[netip.Prefix]link{}
	own := 0
	if l, err := k.link(); err == nil {
		own = l.Attrs().Index
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL, Type: unix.RTN_UNICAST}
		routes, err := listAll(func() ([]netlink.Route, error) {
			return k.h.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TYPE)
		})
		if err != nil {
			return nil, fmt.Errorf("cannot list the main routing table: %w", err)
		}
		best := map[netip.Prefix]int{}
		for _, r := range routes {
			if r.Dst == nil || r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0 || r.LinkIndex == own ||
				family == unix.AF_INET && r.Scope != netlink.SCOPE_LINK {
				continue
			}
			dst := fromIPNet(r.Dst)
			if metric, ok := best[dst]; !isPrivate(dst) || ok && metric <= r.Priority {
				continue
			}
			src, _ := netip.AddrFromSlice(r.Src)
			best[dst], out[dst] = r.Priority, link{r.LinkIndex, src.Unmap()}
		}
	}
	return out, nil
}

// addressesOf are the addresses of a device.
func (k *kernel) addressesOf(link netlink.Link) (list []netip.Prefix, err error) {
	all, err := retry(func() ([]netlink.Addr, error) { return k.h.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("cannot list the addresses of %s: %w", k.o.Device, err)
	}
	for _, a := range all {
		list = append(list, fromIPNet(a.IPNet))
	}
	return list, nil
}

// defaultMetric is what the kernel gives a route that comes without one.
func defaultMetric(dst netip.Prefix) int {
	if dst.Addr().Is6() {
		return 1024 // IP6_RT_PRIO_USER
	}
	return 0
}

// noFamily: the kernel has no IPv6.
func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}

func (k *kernel) decode(r netlink.Rule, v6 bool) (placed, bool) {
	p := placed{pref: r.Priority}
	p.v6, p.proto, p.mark, p.own = v6, uint8(r.IPProto), r.Mark, r.IifName == "lo"
	p.from, p.to = fromIPNet(r.Src), fromIPNet(r.Dst)
	if r.Sport != nil {
		p.sport = r.Sport.Start
	}
	if r.Dport != nil {
		p.dport = r.Dport.Start
	}
	switch {
	case r.Protocol != Protocol:
		return p, false
	case r.Table == k.o.Table|nearBit:
		p.act = toNear
	case r.Table == unix.RT_TABLE_MAIN && r.SuppressIfgroup == k.o.Table:
		p.act = toMain
	case r.Table != k.o.Table:
		return p, false
	case r.Goto >= 0 && r.Invert:
		p.act, p.past = gate, r.Goto
	case r.Goto >= 0:
		p.act = toEnd
	case r.Priority == k.o.Pref+PrefSpan:
		p.act = nop
	default:
		p.act = toTable
	}
	return p, true
}

// encode carries our table in every rule, with nearBit where that is the table to
// look up: it is how rules are known as this instance's. Those of earlier versions
// that look up the main table carry it as the number of an interface group.
func (k *kernel) encode(p placed) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = unix.AF_INET
	if p.v6 {
		r.Family = unix.AF_INET6
	}
	r.Priority, r.Protocol, r.Table = p.pref, Protocol, k.o.Table
	r.Src, r.Dst = toIPNet(p.from), toIPNet(p.to)
	r.IPProto, r.Mark = int(p.proto), p.mark
	if p.own {
		r.IifName = "lo"
	}
	if p.sport != 0 {
		r.Sport = netlink.NewRulePortRange(p.sport, p.sport)
	}
	if p.dport != 0 {
		r.Dport = netlink.NewRulePortRange(p.dport, p.dport)
	}
	switch p.act {
	case toEnd:
		r.Goto = k.o.Pref + PrefSpan
	case gate:
		r.Invert, r.Goto = true, p.past
	case toNear:
		r.Table = k.o.Table | nearBit
	case toMain:
		r.Table, r.SuppressPrefixlen, r.SuppressIfgroup = unix.RT_TABLE_MAIN, 0, k.o.Table
	case nop:
		r.Type = actNop
	}
	return r
}

// fromIPNet: a prefix that covers all addresses is the same as none.
func fromIPNet(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ip, _ := netip.AddrFromSlice(n.IP)
	bits, total := n.Mask.Size()
	if total == 32 {
		ip = ip.Unmap()
	}
	return netip.PrefixFrom(ip, bits)
}

func toIPNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() || p.Bits() == 0 {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// change goes from one state to the other: first everything new, addresses
// and fences before the routes that name or hide them before the rules that lead there (the end
// of the list first, since others jump to it), then everything old the other
// way round. Gates that do not stay go before all of that and new ones come after it, so that
// none ever leads past a rule that it does not cover. It stops at the first thing that cannot be added; reached is where
// it stopped.
func (k *kernel) change(from, to state) (reached state, err error) {
	return k.goOver(from, to, false)
}

// goOver is change, or with on goes on behind what cannot be added, so that as much
// as possible holds; then nothing old is left either.
func (k *kernel) goOver(from, to state, on bool) (reached state, err error) {
	reached = state{addrs: slices.Clone(from.addrs), routes: maps.Clone(from.routes), near: maps.Clone(from.near), fences: from.fences, rules: slices.Clone(from.rules)}
	if reached.routes == nil {
		reached.routes = map[netip.Prefix]netip.Addr{}
	}
	if reached.near == nil {
		reached.near = map[netip.Prefix]link{}
	}
	var errs []error
	failed := func(err error) (stop bool) {
		errs = append(errs, err)
		return !on
	}
	var device netlink.Link
	if len(to.addrs)+len(to.routes) > 0 {
		if device, err = k.link(); err != nil && failed(err) {
			return reached, err
		}
	}
	old, added, gates := gateSteps(from.rules, to.rules)
	for _, g := range old {
		if err := unlessGone(k.h.RuleDel(k.encode(g))); err != nil {
			if err = fmt.Errorf("cannot remove rule %v: %w", g, hint(err)); failed(err) {
				return reached, err
			}
			continue
		}
		reached.rules = slices.DeleteFunc(reached.rules, func(p placed) bool { return p == g })
	}
	for _, a := range to.addrs {
		if device == nil || slices.Contains(from.addrs, a) {
			continue
		}
		if err := k.addAddress(device, a); err != nil {
			if failed(err) {
				return reached, err
			}
			continue
		}
		reached.addrs = append(reached.addrs, a)
	}
	for i, wanted := range to.fences {
		if !wanted || from.fences[i] {
			continue
		}
		if err := k.h.RouteReplace(k.fence(i == 1)); err != nil {
			if err = fmt.Errorf("cannot add the unreachable route behind the device's: %w", hint(err)); failed(err) {
				return reached, err
			}
			continue
		}
		reached.fences[i] = true
	}
	for dst, src := range to.routes {
		if old, ok := from.routes[dst]; device == nil || ok && old == src {
			continue
		}
		if err := k.h.RouteReplace(k.route(device, dst, src)); err != nil {
			if err = fmt.Errorf("cannot add route to %v: %w", dst, hint(err)); failed(err) {
				return reached, err
			}
			continue
		}
		reached.routes[dst] = src
	}
	for dst, l := range to.near {
		if from.near[dst] == l {
			continue
		}
		// A link or an address that has gone again in the meantime is no fault: what is
		// for that network goes into the tunnel then.
		if err := k.h.RouteReplace(k.nearRoute(dst, l)); err == nil {
			reached.near[dst] = l
		}
	}
	add := func(rules []placed) (stop bool) {
		for _, p := range rules {
			if err := k.h.RuleAdd(k.encode(p)); err != nil && !errors.Is(err, unix.EEXIST) {
				if failed(fmt.Errorf("cannot add rule %v: %w", p, hint(err))) {
					return true
				}
				continue
			}
			reached.rules = append(reached.rules, p)
		}
		return false
	}
	if add(added) {
		return reached, errors.Join(errs...)
	}
	whole, missing := len(errs) == 0, set(gates)
	if whole {
		reached = to
		reached.rules = slices.DeleteFunc(slices.Clone(to.rules), func(p placed) bool { return missing[p] })
	}
	left := k.remove(device, from, to)
	if !add(gates) && whole && len(errs) == 0 {
		reached = to
	}
	return reached, errors.Join(append(errs, left)...)
}

// drop removes routes of others from our table.
func (k *kernel) drop(foreign []netlink.Route) (errs []error) {
	for _, r := range foreign {
		if err := unlessGone(k.h.RouteDel(&r)); err != nil {
			errs = append(errs, fmt.Errorf("cannot remove %s: %w", foreignText(r), hint(err)))
		}
	}
	return errs
}

// remove removes what from has and to has not; what is gone already is fine.
func (k *kernel) remove(device netlink.Link, from, to state) error {
	var errs []error
	keep := set(to.rules)
	for _, p := range from.rules {
		if !keep[p] && p.act != gate {
			errs = append(errs, unlessGone(k.h.RuleDel(k.encode(p))))
		}
	}
	for dst := range from.routes {
		if _, ok := to.routes[dst]; !ok {
			errs = append(errs, unlessGone(k.h.RouteDel(anyScope(k.route(nil, dst, netip.Addr{})))))
		}
	}
	for dst := range from.near {
		if _, ok := to.near[dst]; !ok {
			errs = append(errs, unlessGone(k.h.RouteDel(anyScope(k.nearRoute(dst, link{})))))
		}
	}
	for i, there := range from.fences {
		if there && !to.fences[i] {
			errs = append(errs, unlessGone(k.h.RouteDel(k.fence(i == 1))))
		}
	}
	for _, a := range from.addrs {
		if slices.Contains(to.addrs, a) {
			continue
		}
		if device == nil {
			var err error
			if device, err = k.link(); err != nil {
				break // the addresses went with the device
			}
		}
		errs = append(errs, unlessGone(k.h.AddrDel(device, &netlink.Addr{IPNet: hostNet(a)})))
	}
	return errors.Join(errs...)
}

func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

func hostNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addAddress adds an address without the route to its prefix that the kernel
// would add: routes are the plan's.
func (k *kernel) addAddress(link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: hostNet(p), Flags: unix.IFA_F_NOPREFIXROUTE}
	if p.Addr().Is6() {
		a.Flags |= unix.IFA_F_NODAD
	}
	if err := k.h.AddrReplace(link, a); err != nil {
		return fmt.Errorf("cannot add address %v to %s: %w", p, k.o.Device, hint(err))
	}
	return nil
}

// fence is what a packet of a policy meets when the device's routes are gone.
func (k *kernel) fence(v6 bool) *netlink.Route {
	return &netlink.Route{Table: k.o.Table, Protocol: Protocol, Dst: hostNet(anyPrefix(v6)), Type: unix.RTN_UNREACHABLE, Priority: fenceMetric}
}

// fenceMetric is behind every metric that the system gives by itself.
const fenceMetric = 0xFFFFFFFE

func (k *kernel) route(link netlink.Link, dst netip.Prefix, src netip.Addr) *netlink.Route {
	// Of link scope the route would also answer who asks by which link a router is
	// reached, and a route of the system's own by that router would lead to our device.
	r := &netlink.Route{Table: k.o.Table, Protocol: Protocol, Scope: netlink.SCOPE_UNIVERSE, Dst: hostNet(dst), Type: unix.RTN_UNICAST}
	if link != nil {
		r.LinkIndex = link.Attrs().Index
	}
	if src.IsValid() {
		r.Src = src.AsSlice()
	}
	return r
}

// anyScope is a route to delete, of whichever scope it is: earlier versions gave another one.
func anyScope(r *netlink.Route) *netlink.Route {
	r.Scope = netlink.SCOPE_NOWHERE
	return r
}

// nearRoute is the copy of a route to a network on a link.
func (k *kernel) nearRoute(dst netip.Prefix, l link) *netlink.Route {
	r := k.route(nil, dst, l.src)
	r.Table, r.LinkIndex = k.o.Table|nearBit, l.index
	if dst.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

// hint says what an error of the kernel asks for.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run as root or give the program cap_net_admin (%w)", ErrPrivilege, err)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("the device is down: set it up with \"ip link set up\" (%w)", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("IPv6 may be disabled on the device (sysctl net.ipv6.conf.all.disable_ipv6) (%w)", err)
	}
	return err
}
