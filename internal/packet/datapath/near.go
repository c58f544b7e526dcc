package datapath

import (
	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// near has what a group of packets will need fetched from memory before the
// first of them is judged, where there are so many SAs that no cache holds them. It decides nothing.
type near struct {
	flows  [nearGroup]wire.Flow
	pols   [nearGroup]*spd.Policy
	in     [nearGroup]*sad.Inbound
	out    [nearGroup]*sad.Outbound
	unused uint64 // what was read
}

// nearGroup is how many packets are looked after at once: few enough for what
// they need to stay in the nearest caches.
const nearGroup = 16

// incoming is for packets that are about to be opened.
func (n *near) incoming(sads *sad.Table, packets []underlay.Packet) {
	found, last := 0, uint32(0)
	for i := range packets[:min(len(packets), nearGroup)] {
		p := &packets[i]
		if p.Kind != underlay.ESP || p.Len < esp.HeaderLen {
			continue
		}
		spi := esp.SPI(p.Data())
		if spi == last { // a run
			continue
		}
		last = spi
		if in := sads.Inbound(spi); in != nil {
			n.in[found] = in
			found++
		}
	}
	for _, in := range n.in[:found] {
		n.unused += in.Near()
	}
	for _, in := range n.in[:found] {
		n.unused += in.Nearer()
	}
}

// outgoing is for packets in bufs that are about to be judged.
func (n *near) outgoing(line int, cfg *Config, cache *spd.Cache, bufs [][]byte, sizes []int) {
	found := 0
	for i := range bufs[:min(len(bufs), nearGroup)] {
		f := &n.flows[found]
		if _, ok := wire.ParseFlow(bufs[i][underlay.Headroom:][:sizes[i]], f); !ok || found > 0 && f.Is(&n.flows[found-1]) {
			continue
		}
		n.pols[found] = cache.Lookup(cfg.Policies, f)
		found++
	}
	for _, pol := range n.pols[:found] {
		if pol != nil {
			n.unused += uint64(pol.Ref)
		}
	}
	sealing := 0
	for i, pol := range n.pols[:found] {
		if pol == nil || pol.Action != spd.Encrypt {
			continue
		}
		if out := cfg.SAs.OutboundOn(line, pol.Ref, &n.flows[i]); out != nil {
			n.out[sealing] = out
			sealing++
		}
	}
	for _, out := range n.out[:sealing] {
		n.unused += out.Near()
	}
	for _, out := range n.out[:sealing] {
		n.unused += out.Nearer()
	}
}
