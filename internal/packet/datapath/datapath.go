package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/tun"
)

// Notify is told what the daemon has to know. It is called from the workers: it
// must return at once, and must not call back into the Path but for Acquired.
type Notify interface {
	// IKE is a message for the daemon. The packet is borrowed: copy what stays.
	IKE(p *underlay.Packet)
	// Acquire says that f met a policy that has no SA: once per policy until
	// Acquired is called, an SA was there, or AcquireAgain has passed.
	Acquire(policy uint32, f wire.Flow)
	// Expire says that a CHILD SA is near its end by bytes or sequence numbers,
	// or, hard, that it ended. Each once per CHILD SA.
	Expire(child uint64, hard bool)
	// Used says that the first packet of the peer was opened (RFC 7296 §2.8).
	Used(child uint64)
	// Heard says that packets of the peer were opened, at most once in
	// sad.HeardEvery (RFC 7296 §2.4).
	Heard(child uint64)
	// Moved says that the newest packet of the peer came from remote, and the SA's
	// packets go elsewhere (RFC 7296 §2.23); at most once in sad.HeardEvery.
	Moved(child uint64, local, remote netip.AddrPort)
	// Claim says that somebody claims, without proof, that packets of more than mtu
	// bytes do not arrive where those of a CHILD SA go, header included; at most
	// once in sad.ClaimsEvery for each path.
	Claim(child uint64, mtu int)
	// Unmeasured says that packets longer than sad.SurePMTU leave by a CHILD SA, and that nobody knows whether its
	// path takes packets of mtu bytes, header included; at most once in sad.MeasureEvery for each path.
	Unmeasured(child uint64, mtu int)
	// Unanswered says that packets that ask for an answer leave by a CHILD SA, and that nothing has
	// come by it since; at most once in sad.AskedAgain for each SA.
	Unanswered(child uint64)
	// Silent says that packets leave by a watched CHILD SA and none has come by it for a while; at most once in
	// sad.SilentAgain for each SA.
	Silent(child uint64)
	// Busy says that packets of a line leave by a CHILD SA that the line has not for itself; at most once in BusyEvery.
	Busy(child uint64, line int)
	// Unknown says that a packet came whose SPI no SA has. Not every such packet is told of.
	Unknown(u Unknown)
	// Waits says that fragments wait for the rest of their packets, or packets for an SA that stands by,
	// or that watched SAs are to be looked at, so that GiveUp is to be called by GiveUpAt: once until that finds that none do.
	Waits()
}

// Local takes packets for the gateway itself, which the host does not get. Whoever answers them uses SendPlain, in another
// goroutine.
type Local interface {
	// Take reports whether it takes a packet that came by a CHILD SA and was allowed in. It is called from the
	// workers. The packet is borrowed: copy what stays.
	Take(pkt []byte, child uint64) bool
}

// Config is what a Path stands between. All fields but Clear and Local are needed; Now only
// by Run.
type Config struct {
	Device   tun.Device
	Conn     underlay.Conn
	Policies *spd.Database
	SAs      *sad.Table
	Notify   Notify
	Now      func() time.Time
	// Clear takes what may leave unprotected; nil: it is dropped.
	Clear underlay.Clear
	// Local takes packets that are for the gateway itself; nil: there is none.
	Local Local
	// DSCP of outer headers in tunnel mode, 0 to 63; nil: that of the inner packet.
	DSCP *uint8
	// DF of outer headers.
	DF DF
	// ClampMSS lowers the MSS of TCP connections to what fits through their tunnel.
	ClampMSS bool
	// Seed of the places in tables that peers can fill; a gateway takes a random one.
	Seed uint64
}

// Path is a gateway's data path. Run starts its workers. SendPlain and Receive
// take one packet through the same lines in the caller's goroutine instead, for
// tests on virtual time; a Path may be used in both ways.
type Path struct {
	cfg      Config
	counters Counters
	late     *counters     // of what no worker counts
	device   atomic.Int32  // MTU of the device, in bytes
	fragment atomic.Uint32 // identification of the last IPv6 packet that was cut
	acquires acquires
	waiting  waiting
	standby  standby
	looks    looks
	flows    flows

	// What is sealed and opened apart from the lines; crew is nil before Run.
	crew              *crew
	leaving, arriving sequence
	arriver           *inWorker // of the tasks that arrive
	shared            *shared   // nil: there is one outbound line

	mu      sync.Mutex // of the synchronous lines
	syncOut *outWorker
	syncIn  *inWorker
	syncOne []underlay.Packet

	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error
}

// New makes a Path; nothing moves before Run.
func New(cfg Config) *Path {
	p := &Path{cfg: cfg, closed: make(chan struct{})}
	p.late = p.counters.worker()
	p.flows.seed = cfg.Seed
	if cfg.SAs != nil {
		p.flows.alive = cfg.SAs.HasClient
	}
	p.device.Store(maxPacket)
	p.DeviceChanged()
	return p
}

// DeviceChanged says that the device may have another MTU now. Safe for any goroutine.
func (p *Path) DeviceChanged() {
	if p.cfg.Device == nil {
		return // nothing moves
	}
	if mtu, err := p.cfg.Device.MTU(); err == nil && mtu > 0 {
		p.device.Store(int32(min(mtu, maxPacket)))
	}
}

// Counters are those of this Path.
func (p *Path) Counters() *Counters { return &p.counters }

// Acquired says that the daemon is done with an Acquire, with or without an SA:
// traffic of the policy that still has none asks again.
func (p *Path) Acquired(policy uint32) { p.acquires.done(policy) }

// Run moves packets, with a line for each queue of the device and of the network, until ctx ends, Close is called, or the device or the
// sockets fail for good; then both are closed. The error is nil after ctx and
// Close. Call it once.
func (p *Path) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.Close() })
	defer stop()
	out, in := tun.Queues(p.cfg.Device), underlay.Queues(p.cfg.Conn)
	var workers sync.WaitGroup
	errs := make([]error, len(out)+len(in))
	start := func(i int, line func() error) {
		workers.Go(func() {
			errs[i] = line()
			_ = p.Close() // one line less is of no use
		})
	}
	p.crew, p.arriver = newCrew(), newInWorker(p, p.edges(), taskPackets)
	if len(out) > 1 {
		p.shared = &shared{}
	}
	for i := range out {
		start(i, func() error { return p.runOut(i, edges{out[i], in[i%len(in)]}) })
	}
	for i := range in {
		start(len(out)+i, func() error { return p.runIn(edges{out[i%len(out)], in[i]}) })
	}
	workers.Go(p.watchLinks)
	workers.Wait()
	p.crew.close()
	return errors.Join(errs...)
}

// edges are what one line is between: queues of the device and of the network.
type edges struct {
	device tun.Queue
	conn   underlay.Queue
}

func (p *Path) edges() edges { return edges{p.cfg.Device, p.cfg.Conn} }

// linksEvery is how often the host is asked what the links take.
const linksEvery = time.Minute

func (p *Path) watchLinks() {
	tick := time.NewTicker(linksEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.closed:
			return
		case <-tick.C:
			p.cfg.SAs.RefreshLinks()
		}
	}
}

// Close closes the device and the sockets, which ends Run.
func (p *Path) Close() error {
	p.closeOnce.Do(func() {
		close(p.closed)
		p.closeErr = errors.Join(p.cfg.Device.Close(), p.cfg.Conn.Close())
	})
	return p.closeErr
}

// maxFailures is how many reads in a row may fail before a line gives up: a
// device that went away must not spin, one odd packet must not end the gateway.
const maxFailures = 16

// failures counts reads that failed in a row.
type failures int

// over decides about a read that returned n packets and err: whether the line
// ends, and with which error.
func (p *Path) over(f *failures, n int, err error, what string) (bool, error) {
	if err == nil || n > 0 {
		*f = 0
		return false, nil
	}
	select {
	case <-p.closed:
		return true, nil
	default:
	}
	if errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return true, nil
	}
	if *f++; *f < maxFailures {
		return false, nil
	}
	return true, fmt.Errorf("datapath: %s fails again and again; see whether the interface is still there: %w", what, err)
}

// report passes what happened to a CHILD SA to the daemon. The peer's first packet shows that it has the SA: it is
// activated at once, and not when the daemon has heard of it.
func (p *Path) report(c *sad.Child, now int64) {
	ev := c.TakeEvents()
	if ev == 0 {
		return
	}
	n := p.cfg.Notify
	if ev&sad.FirstUsed != 0 {
		p.activate(c, now)
		n.Used(c.ID)
	}
	if ev&sad.WasHeard != 0 {
		n.Heard(c.ID)
	}
	if ev&sad.SoftExpired != 0 {
		n.Expire(c.ID, false)
	}
	if ev&sad.HardExpired != 0 {
		n.Expire(c.ID, true)
	}
}
