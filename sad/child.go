package sad

import (
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"culvert/esp"
	"culvert/spd/selector"
)

// Child is one CHILD SA. Its exported fields never change.
type Child struct {
	ID                   uint64
	Policy               uint32
	Peer                 string
	Client               uint64
	Line                 int // see Params.Line
	Protocol             uint8
	Tunnel               bool
	TFC, Dummies         int
	Bundled              bool // ESP that goes only within AH: see Over
	Pairs                []selector.Pair
	Added                time.Time
	Soft, Hard           time.Duration
	SoftBytes, HardBytes uint64

	table    *Table
	serial   uint64 // order of installation
	watch    bool   // it is in Table.watched
	manual   bool   // its SPI is not of the table's slots
	under    uint64
	inner    *Child                // the ESP SA that this AH SA is around; nil: none
	over     atomic.Pointer[Child] // of a bundled ESP SA: the AH SA around it
	hardAt   int64                 // Unix ns; 0: never
	areas    areas                 // Pairs, compiled
	endpoint atomic.Pointer[Endpoint]
	path     atomic.Pointer[Path]
	stage    atomic.Uint32 // one of stage…

	dead       atomic.Bool   // the hard limit was met: neither half works any more
	fired      atomic.Uint32 // Events that have happened and happen once
	raised     atomic.Uint32 // Events that nobody took yet
	heard      atomic.Int64  // Unix ns of the last Heard
	strays     atomic.Int64  // Unix ns of the last Strayed
	unanswered unanswered

	// Under the table's mutex.
	prev, next *Child
	onPath     struct{ prev, next *Child } // in Path.users; under paths.mu
	silence    silence
	params     [2]esp.Params // inbound, outbound; for print and to be wiped
	wiped      bool
	dummyAt    int64 // Unix ns of the last dummy
	dummyGap   int64 // how long the silence before the next one is, in ns

	in  Inbound
	_   [64]byte // the halves are written by different workers
	out Outbound
}

const (
	stageStandby uint32 = iota
	stageActive
	stageRetired
)

// Endpoint is between whom an SA's packets travel. It never changes; Move makes another one.
type Endpoint struct {
	Local, Remote netip.AddrPort
	UDP           bool
}

// Events is a set of things that happened to a CHILD SA.
type Events uint32

const (
	SoftExpired Events = 1 << iota // a soft byte limit passed, or the hard one is near in time, or sequence numbers near their end; once
	HardExpired                    // the SA ended by time, bytes or sequence numbers; once
	FirstUsed                      // the peer's first packet was opened; once
	WasHeard                       // packets of the peer were opened; at most once in HeardEvery
)

// HeardEvery is how often an SA says at most that its peer was heard, and that it
// strayed.
const HeardEvery = time.Second

// newChild makes a child with transforms of its own; the table does not know it yet.
func newChild(p *Params) (*Child, error) {
	if p.Protocol != ProtocolESP && p.Protocol != ProtocolAH {
		return nil, ErrProtocol
	}
	if len(p.Pairs) == 0 {
		return nil, ErrPairs
	}
	opener, err := newTransform(p.Protocol, p.In, nil)
	if err != nil {
		return nil, fmt.Errorf("inbound SA %#08x: %w", p.In.SPI, err)
	}
	sealer, err := newTransform(p.Protocol, p.Out, opener)
	if err != nil {
		return nil, fmt.Errorf("outbound SA %#08x: %w", p.Out.SPI, err)
	}
	return makeChild(p, opener, sealer), nil
}

func makeChild(p *Params, opener, sealer Transform) *Child {
	c := &Child{
		ID: p.ID, Policy: p.Policy, Peer: p.Peer, Client: p.Client, Line: p.Line, Protocol: p.Protocol, Tunnel: p.Tunnel, Bundled: p.Bundled,
		manual: p.Manual, watch: p.Watched && !p.Manual, under: p.Under, TFC: p.TFC, Dummies: p.Dummies,
		Pairs: p.Pairs,
		Added: p.Added, Soft: p.Soft, Hard: p.Hard, SoftBytes: p.SoftBytes, HardBytes: p.HardBytes,
		params: [2]esp.Params{p.In, p.Out}, areas: compileAreas(p.Pairs),
	}
	if p.Hard > 0 {
		c.hardAt = p.Added.Add(p.Hard).UnixNano()
	}
	c.endpoint.Store(&Endpoint{p.Local, p.Remote, p.UDP})
	c.in.child, c.in.spi, c.in.transform = c, p.In.SPI, opener
	c.in.replay.init(p.ReplayWindow, p.In.ESN)
	c.out.child, c.out.transform = c, sealer
	c.out.limit = lastSequence(p.Out.ESN)
	c.in.usage.init(c)
	c.out.usage.init(c)
	return c
}

// Endpoint is where the SA's packets go to and come from at the moment.
func (c *Child) Endpoint() *Endpoint { return c.endpoint.Load() }

// Path is the path that the packets of the SA take at the moment.
func (c *Child) Path() *Path { return c.path.Load() }

// Over is the AH SA around a bundled ESP SA; nil while there is none.
func (c *Child) Over() *Child { return c.over.Load() }

// Inner is the ESP SA that an AH SA is around; nil: it stands alone.
func (c *Child) Inner() *Child { return c.inner }

// Manual reports whether SPIs and keys were given by people.
func (c *Child) Manual() bool { return c.manual }

// Mismatched reports whether packets that come in UDP, or without, are not for this
// SA. Peers that negotiated may change at any time (RFC 7296 §2.23); where people
// gave the keys, both sides were told.
func (c *Child) Mismatched(udp bool) bool { return c.manual && c.endpoint.Load().UDP != udp }

// Inbound is the half that opens.
func (c *Child) Inbound() *Inbound { return &c.in }

// Outbound is the half that seals.
func (c *Child) Outbound() *Outbound { return &c.out }

// TakeEvents returns what happened since it was last called; each event goes to
// one caller. When nothing happened it costs one load.
func (c *Child) TakeEvents() Events {
	if c.raised.Load() == 0 {
		return 0
	}
	return Events(c.raised.Swap(0))
}

// once raises an event that happens once in the life of the SA.
func (c *Child) once(e Events) {
	if c.fired.Load()&uint32(e) == 0 && c.fired.Or(uint32(e))&uint32(e) == 0 {
		c.raised.Or(uint32(e))
	}
}

// expired reports whether a hard limit has been met; now is in Unix ns.
func (c *Child) expired(now int64) bool {
	if c.dead.Load() {
		return true
	}
	if c.hardAt == 0 || now < c.hardAt {
		return false
	}
	c.end()
	return true
}

func (c *Child) end() {
	c.dead.Store(true)
	c.once(HardExpired)
}

// limited reports whether bytes are limited, so that packets are counted one by one.
func (c *Child) limited() bool { return c.SoftBytes|c.HardBytes != 0 }

// usage counts what one half has done.
type usage struct {
	packets, bytes atomic.Uint64
	last           atomic.Int64 // Unix ns; 0: never

	// Where bytes are limited: at how many the rate is looked at next, and when it was last.
	mark     atomic.Uint64
	markedAt atomic.Int64 // Unix ns; 0: never
}

// rekeyTime is what a rekey may take. An SA that would meet its hard byte limit sooner at
// the rate of its traffic does not wait for the soft one.
const rekeyTime = 10 * time.Second

// The rate is looked at from nine sixteenths of the soft limit on, and then at each
// sixteenth. Soft limits are drawn, so that two ends seldom begin together.
const markFrom, marks = 9, 16

func (u *usage) init(c *Child) {
	if c.SoftBytes == 0 || c.HardBytes == 0 || c.manual {
		u.mark.Store(math.MaxUint64)
		return
	}
	u.mark.Store(c.SoftBytes / marks * markFrom)
}

// hurried reports whether the hard limit would be met within rekeyTime, at the rate since
// the last mark.
func (u *usage) hurried(c *Child, bytes uint64, now int64) bool {
	mark := u.mark.Load()
	step := c.SoftBytes / marks
	if bytes < mark || !u.mark.CompareAndSwap(mark, bytes+step) {
		return false
	}
	since := u.markedAt.Swap(now)
	if since == 0 || now <= since || bytes >= c.HardBytes {
		return false
	}
	left := float64(c.HardBytes-bytes) * float64(now-since) / float64(step)
	return left < float64(rekeyTime)
}

// spend counts packets of together bytes against the limits; false: the hard
// limit was met before, and nothing is counted.
func (u *usage) spend(c *Child, packets, bytes uint64, now int64) bool {
	if c.HardBytes != 0 && u.bytes.Load() >= c.HardBytes {
		c.end()
		return false
	}
	sum := u.bytes.Add(bytes)
	if c.limited() {
		if u.hurried(c, sum, now) {
			c.once(SoftExpired)
		}
		if !c.withinLimits(sum-bytes, sum) {
			u.bytes.Add(-bytes) // others came in between
			return false
		}
	}
	u.packets.Add(packets)
	if u.last.Load() != now {
		u.last.Store(now)
	}
	return true
}

func (c *Child) withinLimits(before, after uint64) bool {
	if c.SoftBytes != 0 && after >= c.SoftBytes {
		c.once(SoftExpired)
	}
	if c.HardBytes != 0 && after >= c.HardBytes {
		c.end()
		return before < c.HardBytes
	}
	return true
}

// wipeKeys is under the table's mutex, or before the table knows the child.
// Nobody may be sealing or opening.
func (c *Child) wipeKeys() {
	c.in.transform.Wipe()
	c.out.transform.Wipe()
	wipeParams(&c.params[0])
	wipeParams(&c.params[1])
	c.wiped = true
}

func wipeParams(p *esp.Params) {
	p.EncKey.Wipe()
	p.IntegKey.Wipe()
	clear(p.IVKey[:])
}
