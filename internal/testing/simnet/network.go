package simnet

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Link is what happens to datagrams under way. The zero Link delivers
// everything at once and in order.
type Link struct {
	// Loss, Dup and Reorder are probabilities, 0 to 1, for each datagram: to be
	// lost, to arrive twice, to be held back until later ones have overtaken it.
	Loss, Dup, Reorder float64
	// Delay is one way. Jitter is the most that is added to it, evenly
	// distributed; it never changes the order of datagrams between two addresses.
	Delay, Jitter time.Duration
}

// holdBack is the least that a reordered datagram comes late.
const holdBack = time.Millisecond

// Delivery is one datagram that arrives. Data is a copy and the receiver's own.
type Delivery struct {
	At       time.Time
	From, To netip.AddrPort
	Data     []byte
}

// Network joins all addresses by links of one kind.
type Network struct {
	// Link may be changed between calls of Send.
	Link Link

	random *rand.Rand
	sites  []site
	last   map[path]time.Time // when the newest datagram in order arrives
}

type path struct{ from, to netip.AddrPort }

// site is a private network behind its NAT.
type site struct {
	inside netip.Prefix
	nat    *NAT
}

// New makes a network whose accidents are decided by the seed.
func New(seed uint64, link Link) *Network {
	return &Network{
		Link:   link,
		random: rand.New(rand.NewPCG(seed, 0x73696d6e6574)),
		last:   map[path]time.Time{},
	}
}

// Behind puts the addresses of a prefix behind a NAT box. Among themselves they
// are not translated.
func (n *Network) Behind(inside netip.Prefix, nat *NAT) {
	n.sites = append(n.sites, site{inside.Masked(), nat})
}

// Send says where and when a datagram that leaves now arrives: nowhere (lost,
// or no mapping in the receiver's NAT), once, or twice. Deliveries are in the
// order of At. The data is only read.
func (n *Network) Send(now time.Time, from, to netip.AddrPort, data []byte) []Delivery {
	// The draws are the same for every datagram, so that one more or less
	// accident does not change the fate of those that follow.
	lost, twice, late := n.chance(n.Link.Loss), n.chance(n.Link.Dup), n.chance(n.Link.Reorder)
	jitter := [2]time.Duration{n.jitter(), n.jitter()}

	from, to, ok := n.translate(from, to)
	if !ok || lost {
		return nil
	}
	copies := 1
	if twice {
		copies = 2
	}
	var ds []Delivery
	for i := range copies {
		at := now.Add(n.Link.Delay + jitter[i])
		if late && i == 0 {
			at = at.Add(n.Link.Delay + n.Link.Jitter + holdBack)
		} else {
			at = n.inOrder(path{from, to}, at)
		}
		ds = append(ds, Delivery{at, from, to, bytes.Clone(data)})
	}
	slices.SortStableFunc(ds, func(a, b Delivery) int { return a.At.Compare(b.At) })
	return ds
}

// inOrder is at, or when the one before arrives if that is later.
func (n *Network) inOrder(p path, at time.Time) time.Time {
	if last := n.last[p]; at.Before(last) {
		at = last
	}
	n.last[p] = at
	return at
}

// translate gives the addresses that the receiver sees.
func (n *Network) translate(from, to netip.AddrPort) (netip.AddrPort, netip.AddrPort, bool) {
	for _, s := range n.sites {
		if s.inside.Contains(from.Addr()) && !s.inside.Contains(to.Addr()) {
			var ok bool
			if from, ok = s.nat.Out(from); !ok {
				return from, to, false
			}
			break
		}
	}
	for _, s := range n.sites {
		if s.nat.Outer() == to.Addr() {
			inner, ok := s.nat.In(to)
			return from, inner, ok
		}
		if s.inside.Contains(to.Addr()) && !s.inside.Contains(from.Addr()) {
			return from, to, false // a private address is not reached from outside
		}
	}
	return from, to, true
}

func (n *Network) chance(p float64) bool { return n.random.Float64() < p }

func (n *Network) jitter() time.Duration {
	return time.Duration(n.random.Float64() * float64(n.Link.Jitter))
}
