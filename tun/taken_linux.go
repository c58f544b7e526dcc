package tun

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rules of others with a lower preference than ours are asked first, those of Tailscale
// (from 5210 on) or of an administrator. Where their table has a route to a network of a
// policy, its packets never come to the device, and nothing else would say so.

// maxTaken bounds the warnings of one Apply.
const maxTaken = 20

// taken warns of the rules in front of ours that lead packets of the plan elsewhere.
func (k *kernel) taken(p Plan) (list []string, err error) {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := listAll(func() ([]netlink.Rule, error) { return k.h.RuleList(family) })
		errs = append(errs, err)
		for i := range rules {
			if r := &rules[i]; k.inFront(r) {
				found, err := k.takenBy(r, family, p)
				list, errs = append(list, found...), append(errs, err)
			}
		}
	}
	return list[:min(len(list), maxTaken)], errors.Join(errs...)
}

// inFront reports whether a rule of somebody else comes before ours and may be about
// packets without a mark. The first rule, of the host's own addresses, stays out: what
// it leads is for the host.
func (k *kernel) inFront(r *netlink.Rule) bool {
	return r.Priority < k.o.Pref && r.Protocol != Protocol && r.Mark == 0 && r.Goto < 0 &&
		r.Table > 0 && r.Table != unix.RT_TABLE_LOCAL && r.Table != k.o.Table
}

// takenBy finds the first policy whose packets a rule leads elsewhere.
func (k *kernel) takenBy(r *netlink.Rule, family int, p Plan) ([]string, error) {
	routes, err := retry(func() ([]netlink.Route, error) {
		return k.h.RouteListFiltered(family, &netlink.Route{Table: r.Table}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, err
	}
	from, to := fromIPNet(r.Src), fromIPNet(r.Dst)
	for _, want := range p.Routes {
		switch {
		case want.Pass || want.Optional || want.Remote.Addr().Is6() != (family == unix.AF_INET6):
			continue
		case from.IsValid() && !from.Overlaps(want.Local), to.IsValid() && !to.Overlaps(want.Remote):
			continue
		}
		for i := range routes {
			dst := routeTo(&routes[i], family)
			if routes[i].Type == unix.RTN_THROW || dst.Bits() <= r.SuppressPrefixlen || !dst.Overlaps(want.Remote) || k.isDevice(&routes[i]) {
				continue
			}
			return []string{fmt.Sprintf("the rule with preference %d stands in front of the gateway's (from %d on), and its table %d has a route to %v%s: packets of the policy %v => %v go there and not to %s; "+
				"give the rule a preference above %d, or take the network out of its table (\"ip rule\", \"ip route show table %d\")",
				r.Priority, k.o.Pref, r.Table, dst, k.by(&routes[i]), want.Local, want.Remote, k.o.Device, k.o.Pref+PrefSpan, r.Table)}, nil
		}
	}
	return nil, nil
}

func (k *kernel) isDevice(r *netlink.Route) bool {
	link, err := k.link()
	return err == nil && r.LinkIndex == link.Attrs().Index
}

// by is " by DEVICE".
func (k *kernel) by(r *netlink.Route) string {
	if link, err := k.h.LinkByIndex(r.LinkIndex); r.LinkIndex > 0 && err == nil {
		return " by " + link.Attrs().Name
	}
	return ""
}

// routeTo is a route's destination; the kernel does not tell a default route from none.
func routeTo(r *netlink.Route, family int) netip.Prefix {
	if dst := fromIPNet(r.Dst); dst.IsValid() {
		return dst
	}
	return anyPrefix(family == unix.AF_INET6)
}
