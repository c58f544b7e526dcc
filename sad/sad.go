package sad

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/esp"
	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// AH and ESP as IKE numbers protocols (RFC 7296 §3.3.1).
const (
	ProtocolAH  = 2
	ProtocolESP = 3
)

// Params is a CHILD SA to install, both directions of it. The table owns the
// keys from the call of Install on, whatever comes of it, and wipes them.
type Params struct {
	ID       uint64 // names the CHILD SA in every later call; not in use
	Policy   uint32 // whose traffic the outbound half carries
	Peer     string // for people
	Protocol uint8  // ProtocolESP, or ProtocolAH: then In and Out have no Encr
	Tunnel   bool
	In, Out  esp.Params // In.SPI is one of AllocSPIs, or anybody's with Manual
	// Client names whose traffic it is where several may have the same addresses
	// (level unique): all CHILD SAs of one client have the same. 0: it is not told apart.
	Client uint64
	// Line is whose outbound packets go by the SA, of several lines of the data path: 1 and more name one
	// line, which has the SA for itself. 0: it is for all of them. NoLine: it is for none of them, and opens
	// what the peer sends (RFC 9611).
	Line int
	// Manual: the SPIs and keys were given by people, not negotiated.
	Manual bool
	// Bundled ESP is sealed and opened only within the AH SA that names it in Under.
	Bundled bool
	// Under is the ID of the bundled ESP SA that this AH SA is around; 0: none. Such
	// an SA seals nothing by itself.
	Under uint64
	// Pairs is what the SA covers, Local being our side; at least one. The table
	// keeps the list, which must not change.
	Pairs []selector.Pair
	// Local and Remote are the outer addresses, with the ports of the UDP encapsulation.
	Local, Remote netip.AddrPort
	UDP           bool
	ReplayWindow  int  // packets, brought into MinReplayWindow..MaxReplayWindow; 0: no replay is seen
	TFC           int  // bytes that inner packets are padded to, tunnel mode of ESP only; 0: none
	Dummies       int  // packets a second, see Due; 0: none
	Watched       bool // it is to be said when it sends and gets nothing, see Silent
	Standby       bool // opens at once, seals after Activate
	Added         time.Time
	// Soft and Hard count from Added; Hard ends the use of the SA. 0: no limit.
	Soft, Hard time.Duration
	// SoftBytes and HardBytes count for each direction of its own, in bytes of
	// inner packets with their TFC padding. A packet may still pass as long as fewer than HardBytes have
	// passed before it. 0: no limit.
	SoftBytes, HardBytes uint64
}

// NoLine is the line of a CHILD SA that the peer has for one of its own, while each line here has another. It seals
// only where nothing else is left.
const NoLine = -1

// Errors of Install.
var (
	ErrDuplicate = errors.New("sad: a CHILD SA of this ID is installed; remove it first")
	ErrSPI       = errors.New("sad: the inbound SPI is not reserved; take one from AllocSPIs")
	ErrProtocol  = errors.New("sad: only AH (protocol 2) and ESP (protocol 3) can be installed")
	ErrTaken     = errors.New("sad: the inbound SPI is below 256 or another SA has it; choose another")
	ErrUnder     = errors.New("sad: an AH SA goes around a bundled ESP SA that is installed and has none yet")
	ErrPairs     = errors.New("sad: a CHILD SA needs at least one selector pair")
)

// Table is the database. Make it with NewTable.
type Table struct {
	slots    slots
	policies policyIndex
	paths    paths
	manual   atomic.Pointer[map[uint32]*Inbound] // those whose SPI is not of slots; the map never changes

	epoch    atomic.Uint64 // grows with each SA that leaves
	waiting  atomic.Int64  // len(doomed)
	crowded  atomic.Bool   // len(children) is above crowded
	standby  sync.Map      // how many CHILD SAs of a policy stand by: uint32 to int; written under mu
	standing atomic.Int64  // how many stand by in all
	watching atomic.Int64  // len(watched)

	mu          sync.Mutex
	children    map[uint64]*Child
	first, last *Child         // in order of installation
	serial      uint64         // of the last installation
	watched     []*Child       // of Params.Watched, in order of installation
	noisy       []*Child       // those with dummies, in order of installation
	clients     map[uint64]int // how many CHILD SAs each has
	workers     []*Worker
	doomed      []doomed
}

// NewTable makes a table for at most limit CHILD SAs, reservations included
// (at most 2^24). The seed decides which SPIs come out in which order; a gateway
// takes a random one, a test a fixed one.
func NewTable(limit int, seed uint64) *Table {
	t := &Table{children: map[uint64]*Child{}, clients: map[uint64]int{}}
	t.slots.init(limit, seed)
	t.policies.init()
	t.epoch.Store(1) // 0 is a worker that holds nothing
	return t
}

// AllocSPIs reserves up to n inbound SPIs; fewer when the table is full. Each is
// the caller's until Install or FreeSPI.
func (t *Table) AllocSPIs(n int) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var spis []uint32
	for range n {
		spi := t.slots.reserve()
		for spi != 0 && t.given(spi) != nil {
			t.slots.release(spi) // the slot comes again with another generation
			spi = t.slots.reserve()
		}
		if spi == 0 {
			break
		}
		spis = append(spis, spi)
	}
	return spis
}

// FreeSPI ends a reservation. An SPI that is not reserved, or has been installed, is left alone.
func (t *Table) FreeSPI(spi uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sl := t.slots.at(spi); sl != nil && sl.use() == slotReserved {
		t.slots.release(spi)
	}
}

// Install puts both halves of a CHILD SA into the table: it opens from now on,
// and seals unless it stands by. On an error nothing is installed, the
// reservation stands and the keys are wiped.
func (t *Table) Install(p Params) (*Child, error) {
	c, err := newChild(&p)
	if err == nil {
		err = t.insert(c, p.Standby)
	}
	if err != nil {
		wipeParams(&p.In)
		wipeParams(&p.Out)
		return nil, fmt.Errorf("CHILD SA %d of peer %q: %w", p.ID, p.Peer, err)
	}
	return c, nil
}

func (t *Table) insert(c *Child, standby bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.children[c.ID] != nil {
		return ErrDuplicate
	}
	if err := t.place(c); err != nil {
		return err
	}
	if c.Dummies > 0 {
		t.noisy = append(t.noisy, c)
	}
	if c.watch {
		t.watched = append(t.watched, c)
		t.watching.Add(1)
	}
	t.serial++
	c.table, c.serial = t, t.serial
	t.children[c.ID] = c
	t.crowded.Store(len(t.children) > crowded)
	if c.Client != 0 {
		t.clients[c.Client]++
	}
	t.append(c)
	if standby {
		t.stands(c, 1)
	} else {
		c.stage.Store(stageActive)
		t.lead(c)
	}
	return nil
}

// place makes c's inbound half known by its SPI, and c to the SA that it is around.
func (t *Table) place(c *Child) error {
	sl := t.slots.at(c.in.spi)
	switch {
	case c.manual && (c.in.spi < minSPI || sl != nil && sl.use() != slotFree || t.given(c.in.spi) != nil):
		return ErrTaken
	case !c.manual && (sl == nil || sl.use() != slotReserved):
		return ErrSPI
	}
	var inner *Child
	if c.under != 0 {
		inner = t.children[c.under]
		if inner == nil || !inner.Bundled || c.Protocol != ProtocolAH || inner.over.Load() != nil {
			return ErrUnder
		}
	}
	t.paths.enter(c, c.endpoint.Load())
	if inner != nil {
		c.inner = inner
		inner.over.Store(c)
	}
	if c.manual {
		t.setGiven(c.in.spi, &c.in)
	} else {
		sl.mark(slotInstalled)
		sl.in.Store(&c.in)
	}
	return nil
}

// lead lets the policy find c; what is around another SA is found through that.
func (t *Table) lead(c *Child) {
	if c.inner == nil {
		t.policies.add(c.Policy, &c.out)
	}
}

// given finds an SA among those whose SPI people have given.
func (t *Table) given(spi uint32) *Inbound {
	if m := t.manual.Load(); m != nil {
		return (*m)[spi]
	}
	return nil
}

// setGiven replaces the map, nil taking an SPI out.
func (t *Table) setGiven(spi uint32, in *Inbound) {
	next := map[uint32]*Inbound{}
	if m := t.manual.Load(); m != nil {
		next = maps.Clone(*m)
	}
	if in != nil {
		next[spi] = in
	} else {
		delete(next, spi)
	}
	if len(next) == 0 {
		t.manual.Store(nil)
		return
	}
	t.manual.Store(&next)
}

// Activate lets a CHILD SA that stands by seal. False: there is none of this ID that stands by.
func (t *Table) Activate(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.children[id]
	if c == nil || c.stage.Load() != stageStandby {
		return false
	}
	c.stage.Store(stageActive)
	t.stands(c, -1)
	t.lead(c)
	return true
}

// stands counts the CHILD SAs that stand by.
func (t *Table) stands(c *Child, by int) {
	t.standing.Add(int64(by))
	n, _ := t.standby.Load(c.Policy)
	was, _ := n.(int)
	if was+by == 0 {
		t.standby.Delete(c.Policy)
		return
	}
	t.standby.Store(c.Policy, was+by)
}

// StandsBy reports whether a policy has a CHILD SA that stands by. It takes no lock.
func (t *Table) StandsBy(policy uint32) bool {
	if t.standing.Load() == 0 {
		return false // the usual answer, without the key of the map, which is allocated
	}
	_, ok := t.standby.Load(policy)
	return ok
}

// Retire stops a CHILD SA from sealing; it still opens. False: there is none of this ID that could seal.
func (t *Table) Retire(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.children[id]
	if c == nil || c.stage.Load() == stageRetired {
		return false
	}
	t.retire(c)
	return true
}

func (t *Table) retire(c *Child) {
	switch c.stage.Swap(stageRetired) {
	case stageStandby:
		t.stands(c, -1)
	case stageActive:
		if c.inner == nil {
			t.policies.remove(c.Policy, &c.out)
		}
	}
}

// Remove takes a CHILD SA out; its keys are wiped as soon as no worker can hold
// it. False: there is none of this ID.
func (t *Table) Remove(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.children[id]
	if c == nil {
		return false
	}
	t.remove(c)
	return true
}

func (t *Table) remove(c *Child) {
	t.retire(c)
	if c.inner != nil {
		t.retire(c.inner) // which must not go without it
	}
	if c.manual {
		t.setGiven(c.in.spi, nil)
	} else {
		t.slots.release(c.in.spi)
	}
	delete(t.children, c.ID)
	t.crowded.Store(len(t.children) > crowded)
	if t.clients[c.Client]--; t.clients[c.Client] <= 0 {
		delete(t.clients, c.Client)
	}
	if c.watch {
		t.watched = slices.DeleteFunc(t.watched, func(d *Child) bool { return d == c })
		t.watching.Add(-1)
	}
	t.noisy = slices.DeleteFunc(t.noisy, func(d *Child) bool { return d == c })
	t.paths.leave(c, c.endpoint.Load(), true)
	t.unlink(c)
	t.doom(c)
}

// Move gives a CHILD SA new outer addresses. False: there is none of this ID.
func (t *Table) Move(id uint64, local, remote netip.AddrPort, udp bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.children[id]
	if c == nil {
		return false
	}
	e := &Endpoint{local, remote, udp}
	t.paths.leave(c, c.endpoint.Swap(e), false)
	t.paths.enter(c, e)
	return true
}

// Child returns an installed CHILD SA by ID; nil if there is none.
func (t *Table) Child(id uint64) *Child {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.children[id]
}

// Len is how many CHILD SAs are installed.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.children)
}

// Children lists the CHILD SAs in order of installation.
func (t *Table) Children() []*Child {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*Child, 0, len(t.children))
	for c := t.first; c != nil; c = c.next {
		list = append(list, c)
	}
	return list
}

// Close removes every CHILD SA. Unwiped tells whether workers still hold some.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.first != nil {
		t.remove(t.first)
	}
	t.wipe(len(t.doomed))
}

// Inbound finds the SA that a packet's SPI names; nil if there is none.
func (t *Table) Inbound(spi uint32) *Inbound {
	if in := t.slots.find(spi); in != nil {
		return in
	}
	return t.given(spi)
}

// Larval reports whether an SPI is given out to an SA that is not installed yet.
func (t *Table) Larval(spi uint32) bool { return t.slots.larval(spi) }

// Outbound finds the newest SA of a policy that may seal a packet: active, and
// with a selector pair that contains the flow. nil if there is none. One that is for
// all lines goes before those that are for one.
func (t *Table) Outbound(policy uint32, f *wire.Flow) *Outbound { return t.OutboundOn(0, policy, f) }

// OutboundOn is Outbound for a packet of a line: the newest SA that the line has for itself,
// else the newest that is for all, else whatever may seal the packet (Params.Line).
func (t *Table) OutboundOn(line int, policy uint32, f *wire.Flow) *Outbound {
	active := t.policies.find(policy, line)
	for i := range active {
		if s := &active[i]; s.covers(f) {
			return s.out
		}
	}
	return nil
}

// OutboundOf is OutboundOn among the SAs of one client.
func (t *Table) OutboundOf(line int, policy uint32, client uint64, f *wire.Flow) *Outbound {
	active := t.policies.find(policy, line)
	for i := range active {
		if s := &active[i]; s.client == client && s.covers(f) {
			return s.out
		}
	}
	return nil
}

// OutboundSole is OutboundOn where the SAs that may seal the packet are all of one
// client, and otherwise reports that several have one.
func (t *Table) OutboundSole(line int, policy uint32, f *wire.Flow) (out *Outbound, several bool) {
	var client uint64
	active := t.policies.find(policy, line)
	for i := range active {
		switch s := &active[i]; {
		case out != nil && s.client == client || !s.covers(f):
		case out != nil:
			return nil, true
		default:
			out, client = s.out, s.client
		}
	}
	return out, false
}

// HasClient reports whether a client has a CHILD SA in the table, in whatever state.
func (t *Table) HasClient(client uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clients[client] > 0
}

// Seals reports whether a policy has an SA that may seal at all, whatever its selectors.
func (t *Table) Seals(policy uint32) bool { return len(t.policies.find(policy, 0)) > 0 }

func (t *Table) append(c *Child) {
	c.prev = t.last
	if t.last == nil {
		t.first = c
	} else {
		t.last.next = c
	}
	t.last = c
}

func (t *Table) unlink(c *Child) {
	if c.prev == nil {
		t.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		t.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}
