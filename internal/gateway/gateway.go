package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/gateway/plane"
	"culvert/internal/gateway/view"
	"culvert/internal/operate/control"
	"culvert/internal/operate/record"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// Options of Run. Zero values of all but ConfigPath take the defaults.
type Options struct {
	ConfigPath string
	LogFormat  string // "text" or "json"; empty: as configured
	LogLevel   string // "debug", "info", "warn" or "error"; empty: as configured
	Control    string // path of the control socket; empty: as configured
	Stderr     io.Writer
	// Reload delivers a value each time the configuration is to be read again.
	Reload <-chan struct{}
	// Hurry is closed to end the wait for the peers' answers after ctx has ended.
	Hurry <-chan struct{}
	// Ready is called once, when the configuration is in force and the control socket answers.
	Ready func()
	// Edges opens the edges to the machine; nil: OpenEdges. Run closes them.
	Edges func(*config.Gateway) (Edges, error)
	// Judge is a command that calls JudgeState with the path of the state file, which is appended as
	// an argument. It runs in a process of its own, because a damaged file can crash it. Empty:
	// the file is checked in this process.
	Judge []string
	// Event sees every event, in the gateway's own goroutine.
	Event     func(core.Event)
	Recording Recording
}

// gateway is a running gateway. Its fields belong to the goroutine of Run.
type gateway struct {
	o         Options
	log       *slog.Logger
	level     *slog.LevelVar
	events    *events
	edges     Edges
	plane     *plane.Plane
	services  *services
	state     *state
	cfg       *config.Config  // in force; during the start, the one that is put in force
	compiled  *compile.Result // in force; nil: none yet
	manuals   uint64          // SAs added by hand so far
	unguarded error           // why there is no guard, once that was logged
	lans      []netip.Prefix  // private networks on links that the guard knows
	told      []string        // the last warnings of the host
	lost      []string        // networks of this host that policies cover, as warnLockouts logged them
	calls     chan func()     // from the control server's goroutines
	gone      chan struct{}   // closed when calls are no longer accepted

	clocks    *clocks
	restorer  *restorer
	following time.Time // the earliest time of the next follow
	changing  bool      // a transaction is changing the host

	recorder *record.Recorder // nil: none
	attempts *view.Attempts
}

// tellNets gives the endpoint the networks of this host, before the first peer asks for any.
func (g *gateway) tellNets() {
	if g.edges.Nets == nil {
		return
	}
	list, err := g.edges.Nets()
	if err != nil {
		g.log.Warn("the routes of this host cannot be read: a client that asks for an address of one of its networks is not refused because of that", "error", err)
	}
	g.plane.Inbox.Put(core.LocalNets{Nets: list})
}

// Run runs a gateway until ctx ends or it fails. When ctx ends, it deletes its SAs at the peers,
// undoes what it changed on this host, and returns nil. The error is
// config.Faults if the configuration has faults, and ErrEnvironment if a privilege or
// something of the host is missing. Its text says what to do.
func Run(ctx context.Context, o Options) error {
	cfg, warnings, snapshot, err := o.load()
	if err != nil {
		return err
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Edges == nil {
		o.Edges = OpenEdges
	}
	if o.Control == "" {
		o.Control = cfg.Gateway.Control
	}
	format, level, err := o.logSettings(&cfg.Gateway)
	if err != nil {
		return err
	}
	g := &gateway{o: o, cfg: cfg, level: new(slog.LevelVar), calls: make(chan func()), gone: make(chan struct{})}
	g.level.Set(level)
	g.log = newLogger(o.Stderr, format, g.level)
	g.events = &events{log: g.log}
	g.attempts = view.NewAttempts()
	g.warn(warnings)
	if g.edges, err = o.Edges(&cfg.Gateway); err != nil {
		return err
	}
	door, err := control.Listen(o.Control)
	if err != nil {
		return errors.Join(environment(err), g.edges.close())
	}
	g.state = &state{log: g.log, open: g.openStore}
	err = g.run(ctx, door, snapshot)
	if g.services != nil {
		g.services.close()
	}
	g.state.close()
	return err
}

// run owns the edges and the door, and closes them.
func (g *gateway) run(ctx context.Context, door net.Listener, snapshot *config.Snapshot) error {
	e, err := g.newEndpoint(time.Now())
	if err != nil {
		return errors.Join(err, door.Close(), g.edges.close())
	}
	defer g.closeRecording()
	g.assemble(e, time.Now, serviceTable)
	compile.CarriedBy(g.cfg, underlay.IsRaw(g.edges.Conn))
	if err := g.takeOver(time.Now(), g.cfg, snapshot); err != nil {
		return errors.Join(environment(err), door.Close(), g.edges.close())
	}
	g.warn(g.compiled.Warnings)
	ike, natt := g.edges.Conn.Ports()
	g.log.Info("started", "config", g.o.ConfigPath, "device", g.edges.Device.Name(), "port", ike, "natt-port", natt,
		"peers", len(g.compiled.IKE.Peers), "policies", len(g.compiled.Policies))

	g.restorer = &restorer{log: g.log, now: time.Now, after: func(restored bool) {
		g.plane.Path.DeviceChanged()
		g.warnLockouts()
		g.followLANs()
	}}
	g.clocks = newClocks(g.edges.Clocks)
	g.tellNets()
	path, ctl := make(chan error, 1), make(chan error, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	serving, stopServing := context.WithCancel(context.Background())
	defer stopServing()
	go func() { path <- g.plane.Path.Run(context.Background()) }()
	go func() { ctl <- control.Serve(serving, door, backend{g}) }()
	if g.o.Ready != nil {
		g.o.Ready()
	}
	if watch := g.edges.Watch; watch != nil {
		watching.Go(func() {
			watch(serving.Done(), func(a []netip.Addr) { g.plane.Inbox.Put(core.LocalAddrs{Addrs: a}) })
		})
	}
	if watch := g.edges.WatchRoutes; watch != nil {
		watching.Go(func() {
			watch(serving.Done(), func() { g.plane.Inbox.Put(core.RoutesChanged{}) })
		})
	}
	if watch := g.edges.WatchNets; watch != nil {
		watching.Go(func() {
			watch(serving.Done(), func(list []netip.Prefix) { g.plane.Inbox.Put(core.LocalNets{Nets: list}) })
		})
	}

	pathEnded, ctlEnded, err := g.loop(ctx, path, ctl)
	failed := err != nil // somebody removed the device, for example
	close(g.gone)
	err = errors.Join(err, g.edges.Host.Close(), g.plane.Path.Close())
	if !pathEnded {
		err = errors.Join(err, <-path)
	}
	g.plane.SAs.Close()
	stopServing()
	if !ctlEnded {
		err = errors.Join(err, <-ctl)
	}
	if g.edges.Clear != nil {
		err = errors.Join(err, g.edges.Clear.Close())
	}
	switch {
	case g.edges.Guard == nil:
	case failed:
		g.log.Warn("the guard stays: start the gateway again, or remove the guard with \"culvert guard off\"")
	case g.cfg.Gateway.GuardAlways:
		g.log.Info("the guard stays: remove it with \"culvert guard off\"")
	}
	g.log.Info("stopped")
	switch e := &g.edges; {
	case e.Guard == nil:
	case failed || g.cfg.Gateway.GuardAlways:
		err = errors.Join(err, e.Guard.Leave())
	default:
		err = errors.Join(err, e.Guard.Close())
	}
	return err
}

// assemble makes the plane and the services around an endpoint. Nothing is in force yet.
func (g *gateway) assemble(e plane.Endpoint, now func() time.Time, table []func(serviceEnv) service) {
	g.plane = plane.New(plane.Config{
		Endpoint: e, Conn: g.edges.Conn, Device: g.edges.Device, Clear: g.edges.Clear, Seed: random32(), Now: now,
		DSCP: dscp(&g.cfg.Gateway), DF: dfs[g.cfg.Gateway.DF], ClampMSS: g.cfg.Gateway.ClampMSS, LinkMTU: g.edges.LinkMTU,
		Serve: func(out core.Output) { g.services.take(out) },
		Event: g.event,
		Follow: func() bool {
			if g.changing {
				return false
			}
			g.followNow()
			return true
		},
	})
	g.services = newServices(serviceEnv{
		log: g.log, edges: &g.edges, state: g.state, now: now, answer: g.plane.Answer,
		input: func(in core.Input) { g.plane.Input(now(), in) },
	}, table)
}

// deviceMTU is compile.MTU with the links as they are now.
func (g *gateway) deviceMTU(c *config.Config) int {
	if g.edges.LinkMTU == nil {
		return compile.MTU(c, nil)
	}
	return compile.MTU(c, func(remote netip.Addr) int { return g.edges.LinkMTU(netip.Addr{}, remote) })
}

// event counts and logs an event.
func (g *gateway) event(now time.Time, e core.Event) {
	g.events.event(now, e)
	g.attempts.Note(now, e)
	if g.o.Event != nil {
		g.o.Event(e)
	}
}

// applyHost sets routes, rules and addresses. If routes have to be set by hand, it logs the
// commands and the gateway continues.
func (g *gateway) applyHost(p tun.Plan) error {
	err := g.edges.Host.Apply(p)
	if manual := (*tun.ManualError)(nil); errors.As(err, &manual) {
		g.log.Warn(manual.Error())
		return nil
	}
	if w, ok := g.edges.Host.(tun.Warner); ok && err == nil {
		list := w.Warnings()
		for _, text := range list {
			if !slices.Contains(g.told, text) {
				g.log.Warn(text)
			}
		}
		g.told = list
	}
	return err
}

func (g *gateway) warn(warnings []config.Warning) {
	for _, w := range warnings {
		g.log.Warn("configuration: " + w.String())
	}
}

// random32 is a random seed. crypto/rand crashes the process if it fails.
func random32() (seed [32]byte) {
	_, _ = rand.Read(seed[:])
	return seed
}

// errStopped answers a call to a gateway that is stopping.
var errStopped = fmt.Errorf("the gateway is stopping")

// dfs maps df of the configuration to the data path.
var dfs = map[config.DF]datapath.DF{config.DFCopy: datapath.CopyDF, config.DFSet: datapath.SetDF, config.DFClear: datapath.ClearDF}

// dscp is the DSCP of all outer headers; nil: it is copied from the inner packet.
func dscp(g *config.Gateway) *uint8 {
	if g.DSCP == config.CopyDSCP {
		return nil
	}
	value := uint8(g.DSCP)
	return &value
}
