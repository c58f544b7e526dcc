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
	// ClaimsEvery is how often an unproven claim about one path is passed on to be
	// checked. Each check costs a message to the peer and its response.
	ClaimsEvery = 10 * time.Second
	// SurePMTU is how long outer packets may be without anybody asking the peer whether
	// they arrive.
	SurePMTU = 1280
	// MeasureEvery is how often the peer is asked at most, while longer packets leave. A path that
	// becomes narrower, and whose routers do not say so, is noticed after that time, and so is one that becomes wider.
	MeasureEvery = 5 * time.Minute
)

// Path is the path between two outer addresses. All SAs between them share one, so
// that what was learned outlives a rekey. Its methods are for any goroutine and
// take no lock; those of a nil Path are of one that is not known.
type Path struct {
	Local, Remote netip.Addr

	first    atomic.Uint32 // MTU of its first link; 0: not known
	learned  atomic.Uint64 // MTU<<48 | Unix seconds when; 0: nothing
	measured atomic.Uint64 // MTU<<48 | Unix seconds when; 0: nothing
	asked    atomic.Int64  // Unix ns when the peer was last to be asked whether long packets arrive; 0: never
	told     atomic.Bool   // people were told that the path is narrow
	claimed  atomic.Int64  // Unix ns of the last claim that was passed on
	users    *Child        // the SAs that use it, in a list; under paths.mu
}

// near is Child.near of the path.
func (p *Path) near() uint64 {
	return uint64(p.first.Load()) + p.learned.Load() + p.measured.Load() + uint64(p.asked.Load())
}

// MTU is the longest outer packet, header included, that is known to fit through
// the path; now is in Unix ns.
func (p *Path) MTU(now int64) int {
	if p == nil {
		return MaxPMTU
	}
	mtu := p.byRouters(now)
	if v := p.measured.Load(); v != 0 {
		mtu = min(mtu, int(v>>48))
	}
	return mtu
}

// byRouters is the MTU without what was measured.
func (p *Path) byRouters(now int64) int {
	mtu := MaxPMTU
	if link := p.first.Load(); link != 0 {
		mtu = int(link)
	}
	if v := p.learned.Load(); v != 0 && now/int64(time.Second)-int64(v&(1<<48-1)) < int64(PMTUAge/time.Second) {
		mtu = min(mtu, int(v>>48))
	}
	return mtu
}

// Measured is how long a packet was that was shown to fit, when the peer was last asked, and when that was, in Unix
// seconds. 0: it was not.
func (p *Path) Measured() (mtu int, at int64) {
	if p == nil {
		return 0, 0
	}
	v := p.measured.Load()
	return int(v >> 48), int64(v & (1<<48 - 1))
}

// Measure notes what fits, as the peer has shown by an answer. It holds until it is measured again.
// true: the path is narrower than anybody has said, for the first time; now is in Unix ns.
func (p *Path) Measure(mtu int, now int64) bool {
	if p == nil {
		return false
	}
	mtu = min(max(mtu, p.least()), MaxPMTU)
	p.measured.Store(uint64(mtu)<<48 | uint64(now/int64(time.Second)))
	return mtu < p.byRouters(now)-maxUnsure && p.told.CompareAndSwap(false, true)
}

// maxUnsure is how much a measured MTU may be too small, since IKE with a block cipher cannot make packets of every length.
const maxUnsure = 15

// Unmeasured reports whether the peer of c may be asked how long packets may be. Where the first link is not known
// nothing is, and SAs with manual keys have nobody to be asked. now is in Unix ns.
func (c *Child) Unmeasured(now int64) bool {
	p := c.Path()
	if p == nil || c.manual || p.first.Load() == 0 {
		return false
	}
	last := p.asked.Load()
	return last == 0 || now-last >= int64(MeasureEvery)
}

// ToMeasure takes the question, if Unmeasured still says so: of those who call it at once one gets true, and the MTU
// that is to be tried.
func (c *Child) ToMeasure(now int64) (mtu int, ok bool) {
	if !c.Unmeasured(now) {
		return 0, false
	}
	p := c.Path()
	last := p.asked.Load()
	ok = (last == 0 || now-last >= int64(MeasureEvery)) && p.asked.CompareAndSwap(last, now)
	return p.byRouters(now), ok
}

// least is what an MTU that others tell never goes below.
func (p *Path) least() int {
	if p.Remote.Is4() {
		return MinPMTU4
	}
	return MinPMTU6
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
	mtu, lower := p.lower(mtu, now)
	if lower {
		p.learned.Store(uint64(mtu)<<48 | uint64(now/int64(time.Second)))
	}
	return lower
}

// lower is the MTU that a message about a packet that was too long leaves the path,
// and whether it is lower than what is known.
func (p *Path) lower(mtu int, now int64) (int, bool) {
	known := p.MTU(now)
	if mtu == 0 {
		for _, mtu = range plateaus {
			if mtu < known {
				break
			}
		}
	}
	mtu = max(mtu, p.least())
	return mtu, mtu < known
}

// SetLink notes the MTU of its first link; 0: not known. If that is another one than before, the path is to be
// measured again.
func (p *Path) SetLink(mtu int) {
	v := uint32(min(max(mtu, 0), MaxPMTU))
	if p.first.Swap(v) != v {
		p.asked.Store(0)
	}
}

// paths are those of the installed SAs, and the SAs by what a message about one
// of their packets can say.
type paths struct {
	mu     sync.RWMutex
	byEnds map[[2]netip.Addr]*Path
	to     map[netip.Addr]*Path // the last one to a remote address
	sent   map[sentKey]*Child
	link   func(local, remote netip.Addr) int
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
	p := x.byEnds[key]
	if p == nil {
		p = &Path{Local: key[0], Remote: key[1]}
		if x.link != nil {
			p.SetLink(x.link(key[0], key[1]))
		}
		if x.byEnds == nil {
			x.byEnds, x.to, x.sent = map[[2]netip.Addr]*Path{}, map[netip.Addr]*Path{}, map[sentKey]*Child{}
		}
		x.byEnds[key], x.to[p.Remote] = p, p
	}
	old := c.path.Swap(p)
	if old != nil {
		old.unlink(c)
	}
	p.link(c)
	x.sent[c.sentKey(e)] = c
	if old != nil {
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
		p := c.path.Load()
		p.unlink(c)
		x.drop(p)
	}
}

// link enters c in the list of the path's users, unlink takes it out.
func (p *Path) link(c *Child) {
	c.onPath.next, c.onPath.prev = p.users, nil
	if p.users != nil {
		p.users.onPath.prev = c
	}
	p.users = c
}

func (p *Path) unlink(c *Child) {
	if c.onPath.prev != nil {
		c.onPath.prev.onPath.next = c.onPath.next
	} else {
		p.users = c.onPath.next
	}
	if c.onPath.next != nil {
		c.onPath.next.onPath.prev = c.onPath.prev
	}
	c.onPath.next, c.onPath.prev = nil, nil
}

// drop forgets a path that has no users.
func (x *paths) drop(p *Path) {
	if p.users == nil {
		delete(x.byEnds, [2]netip.Addr{p.Local, p.Remote})
		if x.to[p.Remote] == p {
			delete(x.to, p.Remote)
		}
	}
}

// OnLink sets what tells the MTU of the link that the path from local to remote
// begins with, in bytes; 0: not known. It is called for each new path and by
// RefreshLinks. Call OnLink before the first Install.
func (t *Table) OnLink(link func(local, remote netip.Addr) int) { t.paths.link = link }

// RefreshLinks asks again for the links of all paths: the host's routes change.
func (t *Table) RefreshLinks() {
	if t.paths.link == nil {
		return
	}
	t.paths.mu.RLock()
	list := make([]*Path, 0, len(t.paths.byEnds))
	for _, p := range t.paths.byEnds {
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
	return t.paths.byEnds[[2]netip.Addr{local, remote}]
}

// PathMTU is the MTU of the path between two addresses, in bytes of outer packets, what was measured, and when that was, in Unix
// seconds. 0: it is not known, or was not measured. now is in Unix ns.
func (t *Table) PathMTU(local, remote netip.Addr, now int64) (mtu, measured int, at int64) {
	p := t.Path(local, remote)
	if mtu = p.MTU(now); mtu == MaxPMTU {
		mtu = 0
	}
	measured, at = p.Measured()
	return mtu, measured, at
}

// Claim takes in an unproven claim that the path of UDP-encapsulated SAs from local
// to remote takes only mtu bytes (0: not told). It changes no MTU. If the claim
// would lower the MTU and no other claim about the path was passed on within
// ClaimsEvery, ok is set, and child is an SA on that path whose peer can be asked
// whether packets of more than size bytes arrive. SAs with manual keys have no
// peer that could be asked. now is in Unix ns.
func (t *Table) Claim(local netip.Addr, remote netip.AddrPort, mtu int, now int64) (child uint64, size int, ok bool) {
	t.paths.mu.RLock()
	defer t.paths.mu.RUnlock()
	p := t.paths.byEnds[[2]netip.Addr{local, remote.Addr()}]
	if p == nil {
		return 0, 0, false
	}
	size, lower := p.lower(mtu, now)
	last := p.claimed.Load()
	if !lower || last != 0 && now-last < int64(ClaimsEvery) || !p.claimed.CompareAndSwap(last, now) {
		return 0, 0, false
	}
	for c := p.users; c != nil; c = c.onPath.next {
		if e := c.endpoint.Load(); e.UDP && e.Remote == remote && !c.manual {
			return c.ID, size, true
		}
	}
	return 0, 0, false
}
