package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	mdlnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"culvert/internal/host/nlwatch"
)

// The table, as nft prints it:
//
//	table inet culvert-50500 {
//		map in4  { type ipv4_addr : verdict; flags interval; elements = { 10.2.0.0/24 : goto in4-0, … } }
//		chain input       { type filter hook input priority filter - 10; goto in }
//		chain forward     { type filter hook forward priority filter - 10; goto in }
//		chain postrouting { type filter hook postrouting priority srcnat - 10; goto out }
//		chain prerouting  { type filter hook prerouting priority mangle + 10; iifname "culvert0" accept; meta mark 0xc0150 accept; goto quotes }
//		chain output      { type route hook output priority mangle + 10; meta mark 0xc0150 accept; goto quotes }
//		chain in  { iifname "culvert0" accept; iifname "lo" accept; ip saddr vmap @in4; ip6 saddr vmap @in6 }
//		chain out { oifname …; meta mark 0xc0150 accept; jump quotes; meta mark 0x400c0150 goto drop-out; ip daddr vmap @out4; … }
//		chain in4-0  { jump spared-in; ip daddr 10.1.0.0/24 goto drop-in }
//		chain out4-0 { jump spared-out; ip saddr 10.1.0.0/24 goto drop-out }
//		chain spared-in { what has to arrive in clear: IKE, ESP, AH, errors and neighbours }
//		chain quotes { icmp type destination-unreachable jump quote4; … }
//		chain quote4 { @th,160,32 vmap @quote4-of }   the source of what is quoted
//		chain quote4-0 { @th,192,24 0x0a0100 meta mark set 0x400c0150 return }   … and its destination
//		chain drop-in { counter drop }
//		…
//	}
//
// Packets for this host are looked at when they are whole (hook input), those
// for others behind destination NAT, and what leaves in front of source NAT: by
// the addresses that the policies are about. A fragment that others sent and
// that is not the first has no ports: it meets the first flow without ports.

const (
	family4 = iota
	family6
)

// Options of New.
type Options struct {
	// Table names the instance, as it does with routes.
	Table int
}

// New makes the guard of an instance. What a killed run of it left goes on
// guarding until the first Apply. It belongs to the network namespace in which it was made.
func New(o Options) (Guard, error) {
	var port uint32
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *mdlnetlink.Conn) (err error) {
		// A change of thousands of policies is one message to the kernel, and it
		// answers each part.
		if err = errors.Join(c.SetWriteBuffer(1<<26), c.SetReadBuffer(1<<26)); err == nil {
			port, err = portOf(c)
		}
		return err
	}))
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNone, err)
	}
	name := prefix + strconv.Itoa(o.Table)
	k := &kernel{conn: conn, name: name}
	left, err := k.tables()
	if err != nil {
		_ = conn.CloseLasting()
		return nil, unreadable(err)
	}
	k.left = len(left) > 0
	if err := k.tried(); err != nil {
		_ = conn.CloseLasting()
		return nil, err
	}
	if k.watch, err = newWatch(name, port); err != nil {
		_ = conn.CloseLasting()
		return nil, err
	}
	return k, nil
}

func unreadable(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("nf_tables cannot be read: run as root or with cap_net_admin (%w)", err)
	}
	return fmt.Errorf("%w: load the module nf_tables (%w)", ErrNone, err)
}

// everything is a plan whose table has all that any table has.
var everything = Plan{Device: "lo", Mark: 1, Errors: 2, Ports: []uint16{500}, Flows: []Flow{
	{Local: netip.MustParsePrefix("10.0.0.0/8"), Remote: netip.MustParsePrefix("192.0.2.0/24"), Proto: unix.IPPROTO_UDP, LocalPort: 1, RemotePort: 1},
	{Local: netip.MustParsePrefix("0.0.0.0/0"), Remote: netip.MustParsePrefix("198.51.100.0/24"), Pass: true},
	{Local: netip.MustParsePrefix("fc00::/7"), Remote: netip.MustParsePrefix("2001:db8::/32"), Own: true},
}}

// tried has the kernel build a table with everything, and take it away again in the same batch, so that it is
// never in force. Some kernels have only a part of nf_tables.
func (k *kernel) tried() error {
	t := k.named("-try")
	k.replace(t, everything, Counts{})
	k.conn.DelTable(t)
	return partial(k.flush())
}

// partial is the error of a kernel that has only a part of nf_tables; nil for any other, which Apply will meet.
func partial(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("%w; this kernel has only a part of what it uses: load the modules nft_fib_inet, nft_ct and nft_chain_nat, or use a kernel that has them (%w)", ErrNone, err)
	}
	return nil
}

// flush sends the batch. The kernel answers each of its messages, and those that need what it refused fail
// too: the first error is the cause.
func (k *kernel) flush() error {
	err := k.conn.Flush()
	var all interface{ Unwrap() []error }
	for errors.As(err, &all) {
		err = all.Unwrap()[0]
	}
	return err
}

type kernel struct {
	conn  *nftables.Conn
	name  string
	watch *nlwatch.Watch
	left  bool   // a killed run left a table
	plan  *Plan  // in force; nil: none, and no table
	past  Counts // of tables that stood in for a moment
}

// standIn is the suffix of the table that guards while the table itself is replaced.
const standIn = "-next"

func (k *kernel) named(suffix string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: k.name + suffix}
}

// tables are those of the instance: the table itself and one that stands in,
// also where a killed run left it.
func (k *kernel) tables() (mine []*nftables.Table, err error) {
	list, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.Name == k.name || t.Name == k.name+standIn {
			mine = append(mine, t)
		}
	}
	return mine, nil
}

func (k *kernel) Apply(p Plan) error {
	if len(p.Flows) == 0 {
		return k.remove()
	}
	p.Flows, p.Ports = slices.Clone(p.Flows), slices.Clone(p.Ports)
	mine, err := k.tables()
	if err != nil {
		return fmt.Errorf("cannot read the guard's table: %w", err)
	}
	if len(mine) != 1 || k.plan == nil || !reflect.DeepEqual(*k.plan, p) {
		if err := k.put(p); err != nil {
			return err
		}
	}
	return nil
}

// put makes the table anew.
func (k *kernel) put(p Plan) error {
	was, err := k.Counts()
	if err != nil {
		return err
	}
	// One batch that replaces a table has a moment in which its maps are empty: a
	// packet that is under way then meets nobody. So a second table stands in.
	for _, step := range []func(){
		func() { k.replace(k.named(standIn), p, Counts{}) },
		func() { k.replace(k.named(""), p, was) },
	} {
		step()
		if err := k.flush(); err != nil {
			return fmt.Errorf("cannot set up the guard (\"nft list table inet %s\"): %w", k.name, err)
		}
	}
	n, err := k.counts(k.named(standIn))
	if err != nil {
		return err
	}
	k.past = n
	k.conn.DelTable(k.named(standIn))
	if err := k.flush(); err != nil {
		return fmt.Errorf("cannot remove what stood in for the guard (\"nft list table inet %s\"): %w", k.name+standIn, err)
	}
	k.plan = &p
	return nil
}

// replace puts into the batch that a table is built anew. Adding it first makes
// deleting always right.
func (k *kernel) replace(t *nftables.Table, p Plan, was Counts) {
	k.conn.AddTable(t)
	k.conn.DelTable(t)
	(&builder{k.conn, t}).build(p, was)
}

func (k *kernel) remove() error {
	k.plan = nil
	mine, err := k.tables()
	if err != nil || len(mine) == 0 {
		return err
	}
	for _, t := range mine {
		k.conn.DelTable(t)
	}
	if err := k.flush(); err != nil {
		return fmt.Errorf("cannot remove the guard (\"nft delete table inet %s\"): %w", k.name, err)
	}
	return nil
}

// Left reports whether a killed run left a guard that New found.
func (k *kernel) Left() bool { return k.left }

func (k *kernel) Close() error {
	k.watch.Close()
	return errors.Join(k.remove(), k.conn.CloseLasting())
}

func (k *kernel) Leave() error {
	k.watch.Close()
	return k.conn.CloseLasting()
}

func (k *kernel) Counts() (n Counts, err error) {
	mine, err := k.tables()
	if err != nil {
		return n, err
	}
	n = k.past
	for _, t := range mine {
		c, err := k.counts(t)
		if err != nil {
			return n, err
		}
		n.In, n.Out = n.In+c.In, n.Out+c.Out
	}
	return n, nil
}

// counts are those of one table.
func (k *kernel) counts(t *nftables.Table) (n Counts, err error) {
	for name, to := range map[string]*uint64{"drop-in": &n.In, "drop-out": &n.Out} {
		rules, err := k.conn.GetRules(t, &nftables.Chain{Table: t, Name: name})
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return n, fmt.Errorf("cannot read the guard's counters: %w", err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if c, ok := e.(*expr.Counter); ok {
					*to = c.Packets
				}
			}
		}
	}
	return n, nil
}
