package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/operate/control/table"
	"culvert/internal/testing/simnet"
)

// Options of Run.
type Options struct {
	Out   io.Writer
	Size  int64 // of the file that is fetched, in bytes
	Width int   // of the terminal that Out is, in columns; 0: tables are as wide as they are
	Plain bool  // no line is written over, even on a terminal
}

const (
	// delay is what the network needs one way.
	delay = time.Millisecond
	// upWithin is how long the tunnel may take to come up.
	upWithin = time.Minute
	// answerWithin is how long a control socket may take to answer the auditor.
	answerWithin = 30 * time.Second
)

// demo is one run.
type demo struct {
	Options
	*story
	dir     string // of the configurations and control sockets
	net     *network
	sites   [2]*site
	payload *payload
	audit   *Auditor
	up      chan struct{} // a value for each gateway that has installed its SAs
	refused chan error    // why there will be no tunnel
}

// Run shows a tunnel: it comes up, a file is fetched through it, and nothing but
// IKE and ESP is seen on the network. The error is nil only where all of that was
// true; it tells what was not, and the last events.
func Run(ctx context.Context, o Options) error {
	d, err := setUp(o, offices)
	if err != nil {
		return err
	}
	defer d.close()
	return errors.Join(d.run(ctx), d.written())
}

// setUp builds both offices and the network; nothing runs yet but the hosts.
func setUp(o Options, both [2]office) (d *demo, err error) {
	if o.Size <= 0 {
		return nil, fmt.Errorf("a file of %d bytes shows nothing: ask for at least 1", o.Size)
	}
	d = &demo{
		Options: o, story: newStory(o), payload: newPayload(),
		up: make(chan struct{}, len(both)), refused: make(chan error, 1),
	}
	d.net = newNetwork(rand.Uint64(), delay, d.tap)
	d.audit = &Auditor{NATTPort: nattPort, Secrets: secretsOf(d.payload, both), Installed: d.installed}
	if d.dir, err = os.MkdirTemp("", "culvert-demo-"); err != nil {
		return nil, fmt.Errorf("a folder for the configurations: %w", err)
	}
	for i, office := range both {
		if d.sites[i], err = newSite(office, d.dir, d.net); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func (d *demo) close() {
	for _, s := range d.sites {
		if s != nil && s.lan != nil {
			s.lan.close()
		}
	}
	_ = os.RemoveAll(d.dir) // what is left lies in the system's temporary folder
}

func (d *demo) run(ctx context.Context) error {
	d.introduce()
	// The network outlives the gateways, which say goodbye over it.
	carry, stop := context.WithCancel(context.WithoutCancel(ctx))
	var carrying sync.WaitGroup
	carrying.Go(func() { d.net.run(carry) })
	err := d.tunnel(ctx)
	stop()
	carrying.Wait()

	report := d.audit.Report()
	d.say("\nOn the network between the gateways: %v.", report)
	if n := d.net.dropped(); n > 0 {
		d.say("%d of them were lost, because a queue was full.", n)
	}
	if err != nil && report.Plaintext == 0 {
		return err
	}
	if err = errors.Join(err, report.Err()); err == nil {
		d.say("Every datagram was IKE, or ESP of an installed SA, and none held a piece of the file, of the\nrequest or of an inner header.")
	}
	return err
}

// tunnel runs the gateways while the file is fetched.
func (d *demo) tunnel(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	gateways, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	var ends [2]error
	d.say("\nThe gateways start; nothing is sent before there is traffic.")
	for i := len(d.sites) - 1; i >= 0; i-- { // who waits is there first
		s := d.sites[i]
		s.start(gateways, d.dir, d.story, func(e core.Event) { d.event(s.name, e) })
		running.Go(func() {
			ends[i] = <-s.ended
			if gateways.Err() == nil {
				fail(fmt.Errorf("the gateway of %s ended early: %w", s.name, cmp.Or(ends[i], errUnasked)))
			}
		})
	}
	err := d.use(ctx)
	if err != nil {
		err = d.explain(err) // before the events of the end
	} else {
		d.say("\nThe gateways stop and tell each other.")
	}
	stop()
	running.Wait()
	if err != nil {
		return err
	}
	return errors.Join(ends[:]...)
}

var errUnasked = errors.New("it was not asked to")

// use brings the tunnel up by traffic and uses it.
func (d *demo) use(ctx context.Context) error {
	if err := d.knock(ctx); err != nil {
		return err
	}
	if err := d.transfer(ctx); err != nil {
		return err
	}
	for _, s := range d.sites {
		if err := d.tables(ctx, s); err != nil {
			return fmt.Errorf("the tables of %s: %w", s.name, err)
		}
	}
	return nil
}

func (d *demo) event(site string, e core.Event) {
	d.story.event(site, e)
	switch {
	case e.Kind == core.EvChildUp:
		select {
		case d.up <- struct{}{}:
		default: // one that was made anew
		}
	case refusals[e.Kind]:
		select {
		case d.refused <- fmt.Errorf("%s: %v: %s", site, e.Kind, e.Reason):
		default:
		}
	}
}

// refusals are the events after which the tunnel will not come up: the
// configurations do not fit together.
var refusals = map[core.EventKind]bool{
	core.EvAuthFailed: true, core.EvNoProposal: true, core.EvTSUnacceptable: true, core.EvPeerDead: true,
}

// knock has the client's host open a connection to the server's: the first
// packet meets a policy without SA, and that brings the tunnel up.
func (d *demo) knock(ctx context.Context) error {
	client, server := d.sites[0], d.sites[1]
	d.say("\n%v opens a connection to %v; the policy asks for a tunnel.", client.host, server.host)
	knocking, stop := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() {
		if c, err := client.lan.dial(knocking, netip.AddrPortFrom(server.lan.addr, httpPort)); err == nil {
			_ = c.Close()
		}
	})
	err := d.awaitUp(ctx)
	stop()
	served.Wait()
	return err
}

func (d *demo) awaitUp(ctx context.Context) error {
	limit := time.NewTimer(upWithin)
	defer limit.Stop()
	for range d.sites {
		select {
		case <-d.up:
		case err := <-d.refused:
			return fmt.Errorf("the tunnel did not come up: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return fmt.Errorf("the tunnel did not come up in %v", upWithin)
		}
	}
	return nil
}

func (d *demo) transfer(ctx context.Context) error {
	client, server := d.sites[0], d.sites[1]
	d.say("\n%v fetches http://%v%s, %s of random bytes, through the tunnel.", client.host, server.host, httpPath, mebi(d.Size))
	t := &transfer{payload: d.payload, size: d.Size}
	moving, stop := context.WithCancel(ctx)
	var showing sync.WaitGroup
	showing.Go(func() { d.follow(moving, t) })
	err := t.run(ctx, client.lan, server.lan)
	stop()
	showing.Wait()
	if err != nil {
		return err
	}
	d.progress("  %s of %s  100 %%", mebi(d.Size), mebi(d.Size))
	d.say("  sent      SHA-256 %x", t.sent)
	d.say("  received  SHA-256 %x", t.received)
	d.say("  equal ✓   %s in %.2f s: %.1f MB/s (%.0f Mbit/s)", mebi(d.Size), t.took.Seconds(), mbps(d.Size, t.took), 8*mbps(d.Size, t.took))
	return nil
}

// follow shows the progress of a transfer until ctx ends.
func (d *demo) follow(ctx context.Context, t *transfer) {
	every := time.Second
	if d.live {
		every = 100 * time.Millisecond
	}
	tick, start := time.NewTicker(every), time.Now()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := t.arrived.Load()
		d.progress("  %s of %s  %3d %%  %.1f MB/s", mebi(n), mebi(t.size), 100*n/t.size, mbps(n, time.Since(start)))
	}
}

func mebi(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// tables shows what the command line shows of a gateway, by the same way.
func (d *demo) tables(ctx context.Context, s *site) error {
	c := s.client()
	policies, err := c.Policies(ctx)
	if err != nil {
		return err
	}
	peers, err := c.ActivePeers(ctx)
	if err != nil {
		return err
	}
	sas, err := c.InstalledSAs(ctx, false)
	if err != nil {
		return err
	}
	return errors.Join(
		show(d, s, "policy print", policies),
		show(d, s, "active-peers print", peers),
		show(d, s, "installed-sa print", sas))
}

func show[T any](d *demo, s *site, command string, rows []T) error {
	var b strings.Builder
	if err := table.Write(&b, rows, d.Width); err != nil {
		return err
	}
	d.say("\n%s> %s\n%s", s.name, command, strings.TrimRight(b.String(), "\n"))
	return nil
}

// tap is the line to the network that is listened to.
func (d *demo) tap(x simnet.Delivery) {
	d.audit.Look(x.From, x.To, x.Data)
	b := x.Data
	if x.To.Port() == nattPort {
		var isIKE bool
		if b, isIKE = bytes.CutPrefix(b, marker); !isIKE {
			return
		}
	}
	if h, err := message.ParseHeader(b); err == nil {
		d.message(x.From.String(), x.To.String(), h, len(x.Data))
	}
}

func (d *demo) installed(gateway netip.Addr) ([]uint32, error) {
	for _, s := range d.sites {
		if s.gateway == gateway {
			ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
			defer cancel()
			return s.inboundSPIs(ctx)
		}
	}
	return nil, fmt.Errorf("there is no gateway at %v", gateway)
}

// secretsOf are what the network must not show: the file, the request and its
// answer, and the header of any packet between the hosts.
func secretsOf(p *payload, o [2]office) []Secret {
	a, b := o[0].host.AsSlice(), o[1].host.AsSlice()
	return []Secret{
		{"a piece of the file", p.mark[:]},
		{"HTTP", []byte("HTTP/1.1")},
		{"a packet from host to host", append(a[:len(a):len(a)], b...)},
		{"a packet from host to host", append(b[:len(b):len(b)], a...)},
	}
}

func (d *demo) introduce() {
	d.say("%s", topology)
	for _, s := range d.sites {
		d.say("\n%s:\n\n%s", s.file(), indent(s.config))
	}
}

const topology = `Two offices in this process. Nothing of this machine is touched, no privilege is needed.

      LAN 10.1.202.0/24                                             LAN 10.1.101.0/24

    +--------------+     +--------------+     +--------------+     +--------------+
    | host, client | TUN |    site1     | ESP |    site2     | TUN | host, server |
    | 10.1.202.10  |-----| 192.168.90.1 |=====| 192.168.80.1 |-----| 10.1.101.10  |
    +--------------+     +--------------+     +--------------+     +--------------+
       TCP/IP stack       culvert gateway   ^  culvert gateway       TCP/IP stack
                                            |
                              every datagram is looked at here`
