package view

import (
	"net/netip"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// View is a running gateway at one moment. It holds for as long as the gateway's goroutine does
// nothing else. What its methods return belongs to the caller.
type View struct {
	Now      time.Time
	Config   *config.Config  // in force
	Compiled *compile.Result // of Config
	IKE      IKE
	SAs      SAs
	Policy   []spd.Policy     // of the data path, in order
	Made     []core.AddPolicy // policies from templates, in the order of their making
	Path     Path
	Host     Host
	Refused  map[netip.Addr]error // addresses that this host refused to send to last, and why
	Attempts *Attempts
	Leases   func(pool string) (inUse, kept int)
	Counts   Counts
	Offload  []wire.Offload // of the device and the sockets
}

// IKE is what a view asks the endpoint.
type IKE interface {
	SAs() []core.SAInfo
	Holds() []core.Hold
}

// SAs is what a view asks the table of CHILD SAs.
type SAs interface {
	Children() []*sad.Child
	Child(id uint64) *sad.Child
	PathMTU(local, remote netip.Addr, now int64) (mtu, measured int, at int64)
}

// Path is what a view asks the data path.
type Path interface {
	ExplainOut(now time.Time, f *wire.Flow) datapath.Explanation
	ExplainIn(now time.Time, f *wire.Flow, spi uint32) datapath.Explanation
}
