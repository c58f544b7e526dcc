package sad

import (
	"net/netip"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/esp"
)

// Row is one line of installed-sa print: one half of a CHILD SA.
type Row struct {
	Child    uint64
	Policy   uint32
	Peer     string
	Line     int // see Params.Line
	Inbound  bool
	Protocol uint8 // ProtocolESP or ProtocolAH
	Tunnel   bool
	UDP      bool
	SPI      uint32
	Src, Dst netip.AddrPort // outer addresses in the direction of the packets
	State    string
	Encr     *suite.Encr
	Integ    *suite.Integ // nil with an AEAD
	// EncKey and IntegKey are copies, only if they were asked for and the SA is still there.
	EncKey, IntegKey secret.Bytes
	ESN              bool
	Replay           int // packets; of the inbound half, 0: none
	Added            time.Time
	Soft, Hard       time.Duration
	// ExpiresIn is the time until the next limit: the soft one, then the hard
	// one, then 0. 0 too where there is no limit.
	ExpiresIn            time.Duration
	SoftBytes, HardBytes uint64
	Packets, Bytes       uint64 // of inner packets
	LastUse              time.Time
}

// States of an SA, as the manual's installed-sa prints them.
const (
	StateLarval = "larval" // stands by: opens, does not seal yet
	StateMature = "mature"
	StateDying  = "dying" // a soft limit has passed, or it was retired
	StateDead   = "dead"  // a hard limit was met
)

// State is one of State….
func (c *Child) State(now time.Time) string {
	fired := Events(c.fired.Load())
	switch {
	case c.dead.Load(), fired&HardExpired != 0, c.hardAt != 0 && now.UnixNano() >= c.hardAt:
		return StateDead
	case c.stage.Load() == stageRetired, fired&SoftExpired != 0, c.Soft > 0 && !now.Before(c.Added.Add(c.Soft)):
		return StateDying
	case c.stage.Load() == stageStandby:
		return StateLarval
	}
	return StateMature
}

// Rows describes the inbound and the outbound half. With keys, copies of the
// keys are in it, the caller's to wipe.
func (c *Child) Rows(now time.Time, keys bool) [2]Row {
	e := c.Endpoint()
	row := Row{
		Child: c.ID, Policy: c.Policy, Peer: c.Peer, Line: c.Line, Protocol: c.Protocol, Tunnel: c.Tunnel, UDP: e.UDP,
		State: c.State(now), Added: c.Added, Soft: c.Soft, Hard: c.Hard, ExpiresIn: c.expiresIn(now),
		SoftBytes: c.SoftBytes, HardBytes: c.HardBytes,
	}
	in, out := row, row
	in.Inbound, in.Src, in.Dst, in.Replay = true, e.Remote, e.Local, c.in.replay.size()
	out.Src, out.Dst = e.Local, e.Remote
	c.in.usage.fill(&in)
	c.out.usage.fill(&out)

	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	keys = keys && !c.wiped
	fillParams(&in, &c.params[0], keys)
	fillParams(&out, &c.params[1], keys)
	return [2]Row{in, out}
}

func (c *Child) expiresIn(now time.Time) time.Duration {
	age := now.Sub(c.Added)
	for _, limit := range [...]time.Duration{c.Soft, c.Hard} {
		if limit > age {
			return limit - age
		}
	}
	return 0
}

func (u *usage) fill(r *Row) {
	r.Packets, r.Bytes = u.packets.Load(), u.bytes.Load()
	if last := u.last.Load(); last != 0 {
		r.LastUse = time.Unix(0, last)
	}
}

func fillParams(r *Row, p *esp.Params, keys bool) {
	r.SPI, r.Encr, r.Integ, r.ESN = p.SPI, p.Encr, p.Integ, p.ESN
	if keys {
		r.EncKey, r.IntegKey = p.EncKey.Clone(), p.IntegKey.Clone()
	}
}
