package demo

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway"
	"culvert/internal/operate/control"
	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// office is one side of the example, as it is written down.
type office struct {
	name    string
	gateway netip.Addr // on the network between the offices
	host    netip.Addr // in its LAN
	config  string
}

//go:embed site1.toml
var site1TOML string

//go:embed site2.toml
var site2TOML string

var offices = [2]office{
	{"site1", netip.MustParseAddr("192.168.90.1"), netip.MustParseAddr("10.1.202.10"), site1TOML},
	{"site2", netip.MustParseAddr("192.168.80.1"), netip.MustParseAddr("10.1.101.10"), site2TOML},
}

func (o office) file() string { return o.name + ".toml" }

const (
	deviceMTU = 1400 // fits with any algorithm
	ikePort   = 500
	nattPort  = 4500
)

// site is an office in memory: the LAN's host, the gateway, and the control
// socket of the gateway, which is the only thing that the machine sees of it.
type site struct {
	office
	device *tun.Memory
	conn   *underlay.Memory
	lan    *host
	ended  chan error // delivers what the gateway's Run returned, once
	path   string     // of the control socket
}

// newSite sets an office up and connects it; its gateway does not run yet.
func newSite(o office, dir string, net *network) (*site, error) {
	s := &site{office: o, device: tun.NewMemory("culvert0", deviceMTU), ended: make(chan error, 1), path: controlPath(dir, o.name)}
	s.conn = underlay.NewMemory(o.gateway, ikePort, nattPort, func(p underlay.Packet) { net.send(p.Local, p.Remote, p.Data()) })
	net.join(o.gateway, s.conn.Deliver)
	if err := os.WriteFile(filepath.Join(dir, o.file()), []byte(o.config), 0o600); err != nil {
		return nil, err
	}
	var err error
	s.lan, err = newHost(o.host, s.device)
	return s, err
}

func controlPath(dir, name string) string {
	if runtime.GOOS == "windows" {
		return `\\.\pipe\` + filepath.Base(dir) + "-" + name
	}
	return filepath.Join(dir, name+".sock")
}

// start runs the gateway until ctx ends.
func (s *site) start(ctx context.Context, dir string, tell *story, event func(core.Event)) {
	o := gateway.Options{
		ConfigPath: filepath.Join(dir, s.file()), Control: s.path,
		LogLevel: "error", Stderr: tell, Event: event,
		Edges: func(*config.Gateway) (gateway.Edges, error) {
			return gateway.Edges{
				Host: &tun.MemoryHost{}, Conn: s.conn, Device: s.device,
				Source: func(netip.Addr) (netip.Addr, error) { return s.gateway, nil },
			}, nil
		},
	}
	go func() { s.ended <- gateway.Run(ctx, o) }()
}

// client speaks with the gateway as the command line does.
func (s *site) client() *control.Client { return control.NewClient(s.path) }

// inboundSPIs are those of the SAs that the gateway has installed to receive.
func (s *site) inboundSPIs(ctx context.Context) ([]uint32, error) {
	rows, err := s.client().InstalledSAs(ctx, false)
	if err != nil {
		return nil, err
	}
	var spis []uint32
	for _, r := range rows {
		dst := r.DstAddress
		if ap, err := netip.ParseAddrPort(dst); err == nil {
			dst = ap.Addr().String()
		}
		if dst != s.gateway.String() {
			continue
		}
		spi, err := strconv.ParseUint(r.SPI, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("installed-sa print of %s: %w", s.name, err)
		}
		spis = append(spis, uint32(spi))
	}
	return spis, nil
}
