package sad

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds and age of a path MTU in bytes of whole outer packets.
const (
	// MinPMTU4 and MinPMTU6 are what a learned MTU never goes below, so that a
	// forged ICMP message cannot stop an SA (RFC 4301 §8.2.1, RFC 8200 §5).
	MinPMTU4 = 576
	MinPMTU6 = 1280
	// MaxPMTU is that of a path of which nothing is known.
	MaxPMTU = 65535
	// PMTUAge is after how long a learned MTU is forgotten and a longer packet tries
	// the path again (RFC 1191 §6.3, RFC 8201 §4).
	PMTUAge = 10 * time.Minute
)

// Path is the way between two outer addresses. All SAs between them share one, so
// that what was learned outlives a rekey. Its methods are for any goroutine and
// take no lock; those of a nil Path are of one that is not known.
type Path struct {
	Local, Remote netip.Addr

	refs    int           // under paths.mu
	link    atomic.Uint32 // MTU of the way's first link; 0: not known
	learned atomic.Uint64 // MTU<<48 | Unix seconds when; 0: nothing
}

// near is Child.near of the path.
func (p *Path) near() uint64 { return uint64(p.link.Load()) + p.learned.Load() }

// MTU is the longest outer packet, header included, that is known to fit through
// the path; now is in Unix ns.
func (p *Path) MTU(now int64) int {
	if p == nil {
		return MaxPMTU
	}
	mtu := MaxPMTU
	if link := p.link.Load(); link != 0 {
		mtu = int(link)
	}
	if v := p.learned.Load(); v != 0 && now/int64(time.Second)-int64(v&(1<<48-1)) < int64(PMTUAge/time.Second) {
		mtu = min(mtu, int(v>>48))
	}
	return mtu
}

// plateaus are the MTUs of links, for routers that do not tell theirs (RFC 1191 §7.1).
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, MinPMTU4}

// Learn notes that a packet was too long for the path, which takes mtu bytes; 0:
// the router did not say how many. It only ever lowers the MTU, within the
// bounds; true: it is lower now.
func (p *Path) Learn(mtu int, now int64) bool {
	if p == nil {
		return false
	}
	known := p.MTU(now)
	if mtu == 0 {
		for _, mtu = range plateaus {
			if mtu < known {
				break
			}
		}
	}
	least := MinPMTU4
	if !p.Remote.Is4() {
		least = MinPMTU6
	}
	if mtu = max(mtu, least); mtu >= known {
		return false
	}
	p.learned.Store(uint64(mtu)<<48 | uint64(now/int64(time.Second)))
	return true
}

// SetLink notes the MTU of the way's first link; 0: not known.
func (p *Path) SetLink(mtu int) { p.link.Store(uint32(min(max(mtu, 0), MaxPMTU))) }

// paths are those of the installed SAs, and the SAs by what a message about one
// of their packets can say.
type paths struct {
	mu   sync.RWMutex
	way  map[[2]netip.Addr]*Path
	to   map[netip.Addr]*Path // the last one to a remote address
	sent map[sentKey]*Child
	link func(local, remote netip.Addr) int
}

// sentKey names an SA by its packets on their way out.
type sentKey struct {
	remote   netip.Addr
	spi      uint32
	protocol uint8
}

func (c *Child) sentKey(e *Endpoint) sentKey {
	return sentKey{e.Remote.Addr(), c.params[1].SPI, c.Protocol}
}

// enter notes where the packets of a CHILD SA go from now on.
func (x *paths) enter(c *Child, e *Endpoint) {
	x.mu.Lock()
	defer x.mu.Unlock()
	key := [2]netip.Addr{e.Local.Addr(), e.Remote.Addr()}
	p := x.way[key]
	if p == nil {
		p = &Path{Local: key[0], Remote: key[1]}
		if x.link != nil {
			p.SetLink(x.link(key[0], key[1]))
		}
		if x.way == nil {
			x.way, x.to, x.sent = map[[2]netip.Addr]*Path{}, map[netip.Addr]*Path{}, map[sentKey]*Child{}
		}
		x.way[key], x.to[p.Remote] = p, p
	}
	p.refs++
	x.sent[c.sentKey(e)] = c
	if old := c.path.Swap(p); old != nil {
		x.drop(old)
	}
}

// leave forgets a CHILD SA, or where its packets went before.
func (x *paths) leave(c *Child, e *Endpoint, gone bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if key := c.sentKey(e); x.sent[key] == c {
		delete(x.sent, key)
	}
	if gone {
		x.drop(c.path.Load())
	}
}

func (x *paths) drop(p *Path) {
	if p.refs--; p.refs == 0 {
		delete(x.way, [2]netip.Addr{p.Local, p.Remote})
		if x.to[p.Remote] == p {
			delete(x.to, p.Remote)
		}
	}
}

// OnLink sets what tells the MTU of the link that the way from local to remote
// begins with, in bytes; 0: not known. It is called for each new path and by
// RefreshLinks. Call OnLink before the first Install.
func (t *Table) OnLink(link func(local, remote netip.Addr) int) { t.paths.link = link }

// RefreshLinks asks again for the links of all paths: the host's routes change.
func (t *Table) RefreshLinks() {
	if t.paths.link == nil {
		return
	}
	t.paths.mu.RLock()
	list := make([]*Path, 0, len(t.paths.way))
	for _, p := range t.paths.way {
		list = append(list, p)
	}
	t.paths.mu.RUnlock()
	for _, p := range list {
		p.SetLink(t.paths.link(p.Local, p.Remote))
	}
}

// Sent finds the SA that a packet to remote with this SPI belongs to; nil if
// there is none.
func (t *Table) Sent(protocol uint8, remote netip.Addr, spi uint32) *Child {
	t.paths.mu.RLock()
	defer t.paths.mu.RUnlock()
	return t.paths.sent[sentKey{remote, spi, protocol}]
}

// Path finds the path between two addresses of installed SAs, or, where local is
// not known, to the remote one; nil if there is none.
func (t *Table) Path(local, remote netip.Addr) *Path {
	t.paths.mu.RLock()
	defer t.paths.mu.RUnlock()
	if !local.IsValid() {
		return t.paths.to[remote]
	}
	return t.paths.way[[2]netip.Addr{local, remote}]
}
