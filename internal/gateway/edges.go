package gateway

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"runtime"
	"slices"
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

// Edges is what a gateway has of the machine. In-memory twins of all of them
// make a gateway that needs no privilege.
type Edges struct {
	Host   tun.Host
	Conn   underlay.Conn
	Device tun.Device
	// Clear is the way past the policies; nil: there is none.
	Clear underlay.Clear
	// Guard keeps plaintext off the wire; nil: there is none, because of NoGuard.
	Guard   guard.Guard
	NoGuard error
	// Source is the local address that leads to remote. It is called from any goroutine.
	Source func(remote netip.Addr) (netip.Addr, error)
	// Resolver asks for names, and fetches, past the policies; nil: that goes the system's way.
	Resolver *resolver.Resolver
	// LinkMTU is what the first link of the way from local to remote takes, in bytes;
	// 0: not known. Nil: it never is. It is called from any goroutine.
	LinkMTU func(local, remote netip.Addr) int
	// Networks are those that the host is in, but for the device's. Nil: none is known.
	Networks func() ([]config.OwnNetwork, error)
	// LANs are the private networks on the host's links; nil: there are none.
	LANs func() ([]netip.Prefix, error)
	// Store opens what outlives the process; nil: it is in the state directory.
	Store func(stateDir string) (store.Store, error)
	// Watch calls changed with the addresses that peers can reach this host at, at
	// first and each time that they have changed, until done is closed. Nil: they
	// never change.
	Watch func(done <-chan struct{}, changed func([]netip.Addr))
	// WatchRoutes calls changed each time that a route of the host that is not the gateway's has
	// changed, until done is closed. Nil: none ever changes.
	WatchRoutes func(done <-chan struct{}, changed func())
	// Nets lists the host's own addresses and networks (core.LocalNets), and WatchNets calls
	// changed with them each time that they have changed. Nil: there are none.
	Nets      func() ([]netip.Prefix, error)
	WatchNets func(done <-chan struct{}, changed func([]netip.Prefix))
}

// lans are the private networks on the host's links, where a plan asks for them:
// with many routes it takes time to find them.
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

// JudgeState is what the command of Options.Judge calls with the path that it is given.
func JudgeState(verdict io.Writer, path string) error { return store.WriteVerdict(verdict, path) }

// Self is the program that runs, for Options.Judge.
func Self() string { return store.Self() }

// close takes back in the reverse order: nothing is led to the device any more
// when it goes. What guards stays: who could not start leaves what a killed run
// left, and who ends well takes it away at the very end.
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

// OpenEdges opens the real ones: the lock and what an earlier run left behind,
// the sockets, the device. What was opened before an error is closed again.
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
	e.Resolver = resolver.New(underlay.Dialer(mark).DialContext)
	e.LinkMTU = func(local, remote netip.Addr) int { return underlay.LinkMTU(local, remote, mark) }
	// Only on Linux a host has a lock and leftovers, and only there the device's
	// name is known beforehand.
	if runtime.GOOS == "linux" {
		if e.Host, err = newHost(g, g.Tun); err != nil {
			return e, err
		}
	}
	if e.Guard, e.NoGuard = guard.New(guard.Options{Table: int(g.Table)}); e.NoGuard != nil && g.Guard && g.Written("guard") {
		return e, e.NoGuard
	}
	// What a killed gateway had goes a moment after its lock.
	var patience time.Time
	if h, ok := e.Host.(interface{ Left() bool }); ok && h.Left() {
		patience = time.Now().Add(startWait)
	}
	if err = until(patience, underlay.ErrPortInUse, func() (err error) { e.Conn, err = sockets(g); return err }); err != nil {
		return e, err
	}
	// A gateway that may not open raw sockets goes without.
	if e.Clear, err = underlay.OpenClear(g.Mark); err != nil && !errors.Is(err, underlay.ErrPrivilege) {
		return e, err
	}
	mtu := g.MTU
	if mtu == 0 {
		mtu = compile.AutoMTU
	}
	if err = until(patience, tun.ErrNameTaken, func() (err error) { e.Device, err = tun.Create(g.Tun, mtu); return err }); err != nil {
		return e, err
	}
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

// until calls open until it has another error than busy, or the time has come.
func until(end time.Time, busy error, open func() error) error {
	for {
		err := open()
		if !errors.Is(err, busy) || !time.Now().Before(end) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// listening is local, if there is a socket for it, or else the first address of
// its family that has one; no addresses at all are sockets for all.
func listening(addrs []netip.Addr, local netip.Addr) (netip.Addr, error) {
	if len(addrs) == 0 || slices.Contains(addrs, local) {
		return local, nil
	}
	for _, a := range addrs {
		if a.Is4() == local.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the way to the peer begins at %v, and listen in [gateway] has no address of its family: add one", local)
}

// sockets opens them, raw ones too where ESP may go without UDP. Where
// that is left to us and the system has none, all goes by UDP.
func sockets(g *config.Gateway) (underlay.Conn, error) {
	o := underlay.Options{IKEPort: g.Port, NATTPort: g.NATTPort, Mark: g.Mark, Listen: g.Listen, Join: true, Raw: g.Encapsulation != config.UDP}
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
		return nil, fmt.Errorf("%w: run as root, or as a user with the capability NET_ADMIN who may write there", err)
	}
	return h, err
}

// ErrEnvironment is what an error of Run is where the machine, and not the
// configuration, is the cause: a privilege, the TUN device or a port is missing.
// The error's text says what to do.
var ErrEnvironment = errors.New("a privilege, the TUN device or a port is missing")

type environmentError struct{ error }

func (environmentError) Is(target error) bool { return target == ErrEnvironment }
func (e environmentError) Unwrap() error      { return e.error }

// causes are what the machine can be missing, as its edges tell.
var causes = []error{
	tun.ErrNoDriver, tun.ErrPrivilege, tun.ErrNameTaken, tun.ErrTableInUse,
	underlay.ErrPortInUse, underlay.ErrPrivilege, underlay.ErrNoAddress, underlay.ErrNoRaw,
	fs.ErrPermission, syscall.EADDRINUSE, store.ErrInUse, guard.ErrNone,
	syscall.EMFILE, syscall.ENFILE, syscall.EROFS,
}

// advices are for causes that the system tells in a word, whatever was to be opened.
var advices = []struct {
	cause  error
	advice string
}{
	{syscall.EMFILE, "this process may not open more: raise the limit (LimitNOFILE= in the unit of systemd, ulimit -n in a shell)"},
	{syscall.ENFILE, "the whole system may not open more: raise fs.file-max by sysctl, or end what has them (lsof)"},
	{syscall.EROFS, "the gateway needs to write there: mount a tmpfs at /run/culvert (in a container --tmpfs /run/culvert), or choose another control or state-dir in [gateway]"},
}

// advised is an error with what to do about it, if nobody who knows more has said that.
func advised(err error) error {
	for _, a := range advices {
		if errors.Is(err, a.cause) {
			return fmt.Errorf("%w: %s", err, a.advice)
		}
	}
	return err
}

// environment marks an error whose cause is the machine.
func environment(err error) error {
	for _, c := range causes {
		if errors.Is(err, c) {
			return environmentError{advised(err)}
		}
	}
	return err
}
