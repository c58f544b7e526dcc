package gateway

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/config"
	"culvert/internal/gateway/compile"
	"culvert/internal/host/addresses"
	"culvert/internal/host/guard"
	"culvert/internal/host/resolver"
	"culvert/internal/packet/underlay"
	"culvert/internal/state/store"
	"culvert/tun"
)

// Edges are the interfaces of a gateway to the machine. With in-memory implementations of all of them,
// a gateway needs no privilege.
type Edges struct {
	Host   tun.Host
	Conn   underlay.Conn
	Device tun.Device
	// Clear sends packets that bypass the policies; nil: that is not possible.
	Clear underlay.Clear
	// Guard blocks plaintext; nil: there is none, because of NoGuard.
	Guard   guard.Guard
	NoGuard error
	// Source is the local address for packets to remote. It may be called from any goroutine.
	Source func(remote netip.Addr) (netip.Addr, error)
	// Resolver asks for names, and fetches, past the policies; nil: that goes the system's way.
	Resolver *resolver.Resolver
	// LinkMTU is the MTU of the first link from local to remote, in bytes;
	// 0: not known. Nil: it is never known. It may be called from any goroutine.
	LinkMTU func(local, remote netip.Addr) int
	// Strays reports whether packets from an address of the host would leave towards a peer by a link that does not
	// have it. Nil: none do, as far as is known. It may be called from any goroutine.
	Strays func(local, remote netip.Addr) bool
	// Networks are the networks that the host is in, without the device's. Nil: none is known.
	Networks func() ([]config.OwnNetwork, error)
	// LANs are the private networks on the host's links; nil: there are none.
	LANs func() ([]netip.Prefix, error)
	// Store opens the store of what outlives the process; nil: it is in the state directory.
	Store func(stateDir string) (store.Store, error)
	// Watch calls changed with the addresses at which peers can reach this host, at
	// first and after each change, until done is closed. Nil: they
	// never change.
	Watch func(done <-chan struct{}, changed func([]netip.Addr))
	// WatchRoutes calls changed each time that a route of the host that is not the gateway's has
	// changed, until done is closed. Nil: none ever changes.
	WatchRoutes func(done <-chan struct{}, changed func())
	// Clocks reads the wall clock and the monotonic clock (clocks.go). Nil: the system's.
	Clocks func() (wall time.Time, running time.Duration)
	// Nets lists the host's own addresses and networks (core.LocalNets), and WatchNets calls
	// changed with them each time that they have changed. Nil: there are none.
	Nets      func() ([]netip.Prefix, error)
	WatchNets func(done <-chan struct{}, changed func([]netip.Prefix))
}

// lans are the private networks on the host's links, if a plan needs them. Finding them
// takes time if there are many routes.
func (e *Edges) lans(p tun.Plan, always bool) ([]netip.Prefix, error) {
	if e.LANs == nil || !p.LANBypass || !always && !slices.ContainsFunc(p.Routes, tun.Route.Everywhere) {
		return nil, nil
	}
	return e.LANs()
}

// openStore opens what outlives the process.
func (g *gateway) openStore() (store.Store, error) {
	dir := g.cfg.Gateway.StateDir
	if g.edges.Store != nil {
		return g.edges.Store(dir)
	}
	o := store.Options{Log: g.log}
	if judge := g.o.Judge; len(judge) > 0 {
		o.Judge = store.JudgeBy(judge[0], judge[1:]...)
	}
	return store.Open(dir, o)
}

// JudgeState checks the state file at path and writes the verdict. The command of Options.Judge calls it.
func JudgeState(verdict io.Writer, path string) error { return store.WriteVerdict(verdict, path) }

// Self is the path of this program, for Options.Judge.
func Self() string { return store.Self() }

// close closes the edges in reverse order, so that nothing is routed to the device any more when it is
// removed. It does not close the guard: if the start failed, the guard of a killed gateway
// stays, and Run closes the guard last.
func (e *Edges) close() error {
	var errs []error
	if e.Host != nil {
		errs = append(errs, e.Host.Close())
	}
	if e.Device != nil {
		errs = append(errs, e.Device.Close())
	}
	if e.Conn != nil {
		errs = append(errs, e.Conn.Close())
	}
	if e.Clear != nil {
		errs = append(errs, e.Clear.Close())
	}
	return errors.Join(errs...)
}

// OpenEdges opens the edges of this machine: the lock, what an earlier run left behind,
// the sockets and the device. On an error, what was opened is closed again.
func OpenEdges(g *config.Gateway) (e Edges, err error) {
	defer func() {
		if err != nil {
			_ = e.close()
			e, err = Edges{}, environment(err)
		}
	}()
	mark, listen := g.Mark, g.Listen
	e.Source = func(remote netip.Addr) (netip.Addr, error) {
		local, err := underlay.SourceFor(remote, mark)
		if err != nil {
			return local, err
		}
		return listening(listen, local)
	}
	e.Strays = func(local, remote netip.Addr) bool { return underlay.Strays(local, remote, mark) }
	e.Resolver = resolver.New(underlay.Dialer(mark).DialContext)
	e.LinkMTU = func(local, remote netip.Addr) int { return underlay.LinkMTU(local, remote, mark) }
	// Only Linux has the lock and what a killed run left behind, and only there is the device's
	// name known before it is created.
	if runtime.GOOS == "linux" {
		if e.Host, err = newHost(g, g.Tun); err != nil {
			return e, err
		}
	}
	if e.Guard, e.NoGuard = guard.New(guard.Options{Table: int(g.Table)}); e.NoGuard != nil && g.Guard && g.Written("guard") {
		return e, e.NoGuard
	}
	// The system releases what a killed gateway had a moment after its lock.
	var patience time.Time
	if h, ok := e.Host.(interface{ Left() bool }); ok && h.Left() {
		patience = time.Now().Add(startWait)
	}
	if err = until(patience, underlay.ErrPortInUse, func() (err error) { e.Conn, err = sockets(g); return err }); err != nil {
		return e, err
	}
	// A gateway without the privilege for raw sockets runs without it.
	if e.Clear, err = underlay.OpenClear(g.Mark); err != nil && !errors.Is(err, underlay.ErrPrivilege) {
		return e, err
	}
	mtu := g.MTU
	if mtu == 0 {
		mtu = compile.AutoMTU
	}
	if err = until(patience, tun.ErrNameTaken, func() (err error) { e.Device, err = tun.CreateQueued(g.Tun, mtu, g.Workers); return err }); err != nil {
		return e, err
	}
	addProcessors(2 * g.Workers)
	device := e.Device.Name()
	e.LANs = func() ([]netip.Prefix, error) { return tun.LANs(device) }
	e.Networks = (&addresses.Reachable{Device: device}).Networks
	e.Watch = (&addresses.Reachable{Device: device, Listen: g.Listen}).Watch
	e.WatchRoutes = (&addresses.Routes{Device: device, Table: uint32(g.Table)}).Watch
	own := &addresses.Own{Device: device}
	e.Nets, e.WatchNets = own.List, own.Watch
	if e.Host == nil {
		e.Host, err = newHost(g, e.Device.Name())
	}
	return e, err
}

var processorsAdded sync.Once

// addProcessors adds those that the lines of the data path keep while they wait (internal/packet/poll), so that IKE and
// commands never wait for one. A number that the environment gives stays as it is.
func addProcessors(lines int) {
	if runtime.GOOS == "linux" && os.Getenv("GOMAXPROCS") == "" {
		processorsAdded.Do(func() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + lines) })
	}
}

// until calls open until its error is not busy, or until the time end.
func until(end time.Time, busy error, open func() error) error {
	for {
		err := open()
		if !errors.Is(err, busy) || !time.Now().Before(end) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// listening is local if there is a socket for it, or else the first address of
// its family with one. If addrs is empty, there are sockets for all addresses.
func listening(addrs []netip.Addr, local netip.Addr) (netip.Addr, error) {
	if len(addrs) == 0 || slices.Contains(addrs, local) {
		return local, nil
	}
	for _, a := range addrs {
		if a.Is4() == local.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("packets to the peer would leave from %v, and listen in [gateway] has no address of its family: add one", local)
}

// sockets opens the sockets, and raw ones if ESP may be sent without UDP. If encapsulation is "detect" and
// raw sockets are not available, all ESP is sent in UDP.
func sockets(g *config.Gateway) (underlay.Conn, error) {
	o := underlay.Options{IKEPort: g.Port, NATTPort: g.NATTPort, Mark: g.Mark, Listen: g.Listen, Join: true, Queues: g.Workers, Raw: g.Encapsulation != config.UDP}
	c, err := underlay.Listen(o)
	if o.Raw && g.Encapsulation == config.Detect && (errors.Is(err, underlay.ErrNoRaw) || errors.Is(err, underlay.ErrPrivilege)) {
		o.Raw = false
		return underlay.Listen(o)
	}
	return c, err
}

func newHost(g *config.Gateway, device string) (tun.Host, error) {
	h, err := tun.NewHost(tun.Options{Device: device, Table: int(g.Table), Mark: g.Mark, LockWait: startWait})
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: run as root, or as a user with the capability NET_ADMIN and write permission there", err)
	}
	return h, err
}

// ErrEnvironment matches the errors of Run whose cause is the machine and not the
// configuration: a privilege is missing, or the TUN device or a port is not available.
// The error's text says what to do.
var ErrEnvironment = errors.New("a privilege is missing, or the TUN device or a port is not available")

type environmentError struct{ error }

func (environmentError) Is(target error) bool { return target == ErrEnvironment }
func (e environmentError) Unwrap() error      { return e.error }

// causes are the errors of the edges that match ErrEnvironment.
var causes = []error{
	tun.ErrNoDriver, tun.ErrPrivilege, tun.ErrNameTaken, tun.ErrTableInUse,
	underlay.ErrPortInUse, underlay.ErrPrivilege, underlay.ErrNoAddress, underlay.ErrNoRaw,
	fs.ErrPermission, syscall.EADDRINUSE, store.ErrInUse, guard.ErrNone,
	syscall.EMFILE, syscall.ENFILE, syscall.EROFS,
}

// advices say what to do about errors of the system that do not say it themselves.
var advices = []struct {
	cause  error
	advice string
}{
	{syscall.EMFILE, "this process has reached its limit of open files: raise it (LimitNOFILE= in the systemd unit, ulimit -n in a shell)"},
	{syscall.ENFILE, "the system has reached its limit of open files: raise fs.file-max with sysctl, or end the program that has opened them (see lsof)"},
	{syscall.EROFS, "the gateway must be able to write there: mount a tmpfs at /run/culvert (in a container --tmpfs /run/culvert), or choose another control or state-dir in [gateway]"},
}

// advised adds to an error what to do about it.
func advised(err error) error {
	for _, a := range advices {
		if errors.Is(err, a.cause) {
			return fmt.Errorf("%w: %s", err, a.advice)
		}
	}
	return err
}

// environment makes an error match ErrEnvironment if its cause is the machine.
func environment(err error) error {
	for _, c := range causes {
		if errors.Is(err, c) {
			return environmentError{advised(err)}
		}
	}
	return err
}
