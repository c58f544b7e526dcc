package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

var start = time.Unix(1_700_000_000, 0)

var errRefused = errors.New("refused")

// network is an underlay.Conn for lines without goroutines: what is sent is
// kept, in memory that is used again, so that it does not allocate.
type network struct {
	sent   [][]byte
	last   underlay.Packet // the last one's addresses
	n      int
	refuse int // how many of the next packets to refuse
}

func (c *network) Send(packets []underlay.Packet) (int, error) {
	left := 0
	for i := range packets {
		if c.refuse > 0 {
			c.refuse--
			continue
		}
		if c.n == len(c.sent) {
			c.sent = append(c.sent, make([]byte, 0, 70000))
		}
		c.sent[c.n] = append(c.sent[c.n][:0], packets[i].Data()...)
		c.last = packets[i]
		c.n++
		left++
	}
	if left < len(packets) {
		return left, errRefused
	}
	return left, nil
}

// take returns what was sent since the last take.
func (c *network) take() [][]byte {
	list := make([][]byte, c.n)
	for i := range list {
		list[i] = bytes.Clone(c.sent[i])
	}
	c.n = 0
	return list
}

func (c *network) Recv([]underlay.Packet) (int, error) { return 0, os.ErrClosed }
func (c *network) Ports() (uint16, uint16)             { return 500, 4500 }
func (c *network) Close() error                        { return nil }

// host is a tun.Device of the same kind.
type host struct {
	got    [][]byte
	n      int
	refuse int
}

func (d *host) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs { // which a device may do
		for i := range offset {
			b[i] = 0xEE
		}
	}
	taken := 0
	for _, b := range bufs {
		if d.refuse > 0 {
			d.refuse--
			continue
		}
		if d.n == len(d.got) {
			d.got = append(d.got, make([]byte, 0, 70000))
		}
		d.got[d.n] = append(d.got[d.n][:0], b[offset:]...)
		d.n++
		taken++
	}
	if taken < len(bufs) {
		return taken, errRefused
	}
	return taken, nil
}

func (d *host) take() [][]byte {
	list := make([][]byte, d.n)
	for i := range list {
		list[i] = bytes.Clone(d.got[i])
	}
	d.n = 0
	return list
}

func (d *host) Read([][]byte, []int, int) (int, error) { return 0, os.ErrClosed }
func (d *host) BatchSize() int                         { return 8 }
func (d *host) Name() string                           { return "host" }
func (d *host) MTU() (int, error)                      { return 1420, nil }
func (d *host) Close() error                           { return nil }

// inClear is a way past the policies.
type inClear struct {
	sent   [][]byte
	refuse int
}

func (c *inClear) Send(pkt []byte) error {
	if c.refuse > 0 {
		c.refuse--
		return errRefused
	}
	c.sent = append(c.sent, bytes.Clone(pkt))
	return nil
}

func (c *inClear) Close() error { return nil }

// log is a Notify that writes down what it was told.
type log struct {
	lines   []string
	unknown []Unknown
	quiet   bool
}

func (l *log) add(format string, args ...any) {
	if !l.quiet {
		l.lines = append(l.lines, fmt.Sprintf(format, args...))
	}
}
func (l *log) IKE(p *underlay.Packet)          { l.add("ike %s", p.Data()) }
func (l *log) Acquire(ref uint32, _ wire.Flow) { l.add("acquire %d", ref) }
func (l *log) Expire(child uint64, hard bool)  { l.add("expire %d %v", child, hard) }
func (l *log) Used(child uint64)               { l.add("used %d", child) }
func (l *log) Heard(child uint64)              { l.add("heard %d", child) }
func (l *log) Moved(child uint64, local, remote netip.AddrPort) {
	l.add("moved %d %v %v", child, local, remote)
}

func (l *log) Claim(child uint64, mtu int) { l.add("claim %d %d", child, mtu) }
func (l *log) Unmeasured(child uint64, mtu int) {
	l.add("unmeasured %d %d", child, mtu)
}
func (l *log) Unanswered(child uint64)     { l.add("unanswered %d", child) }
func (l *log) Silent(child uint64)         { l.add("silent %d", child) }
func (l *log) Busy(child uint64, line int) { l.add("busy %d, line %d", child, line) }
func (l *log) Unknown(u Unknown) {
	if !l.quiet { // its arguments are allocated
		l.add("unknown from %v at %v, %v, %d", u.Remote, u.Local, u.NATT, u.Child)
	}
	l.unknown = append(l.unknown, u)
}
func (l *log) Waits() { l.add("waits") }

// want compares what was told since the last time.
func (l *log) want(t *testing.T, lines ...string) {
	t.Helper()
	if !slices.Equal(l.lines, lines) {
		t.Errorf("notified of %q, want %q", l.lines, lines)
	}
	l.lines = nil
}

// gateway is one end with in-memory edges.
type gateway struct {
	path *Path
	conn *network
	host *host
	log  *log
	sads *sad.Table
	pols *spd.Database
}

func newGateway() *gateway {
	g := &gateway{conn: &network{}, host: &host{}, log: &log{}, sads: sad.NewTable(1000, 5), pols: spd.New()}
	g.path = New(Config{Device: g.host, Conn: g.conn, Policies: g.pols, SAs: g.sads, Notify: g.log,
		Now: func() time.Time { return start }})
	return g
}

func pair(local, remote string) selector.Pair {
	return selector.Pair{
		Local:  selector.FromPrefix(netip.MustParsePrefix(local)),
		Remote: selector.FromPrefix(netip.MustParsePrefix(remote)),
	}
}

// Left protects 10.1/16 to 10.2/16 and fd01::/16 to fd02::/16, right the reverse.
func leftPolicies() []spd.Policy {
	return []spd.Policy{
		{Ref: 1, Pair: pair("10.1.0.0/16", "10.2.0.0/16"), Action: spd.Encrypt, Tunnel: true},
		{Ref: 2, Pair: pair("fd01::/16", "fd02::/16"), Action: spd.Encrypt, Tunnel: true},
	}
}

func reversed(pols []spd.Policy) []spd.Policy {
	pols = slices.Clone(pols)
	for i := range pols {
		pols[i].Pair = pols[i].Pair.Reverse()
	}
	return pols
}

var leftAddr, rightAddr = netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.2:4500")

type cipherCase struct {
	name  string
	encr  *suite.Encr
	integ *suite.Integ
}

var ciphers = []cipherCase{
	{"aes-256-gcm", suite.EncrByName("aes-256-gcm"), nil},
	{"aes-256-cbc", suite.EncrByName("aes-256-cbc"), suite.IntegByName("sha256")},
}

func (c cipherCase) params(spi uint32, fill byte, esn bool) esp.Params {
	p := esp.Params{SPI: spi, Encr: c.encr, EncKey: bytes.Repeat([]byte{fill}, c.encr.MaterialLen()), ESN: esn, IVKey: [16]byte{fill}}
	if c.integ != nil {
		p.Integ, p.IntegKey = c.integ, bytes.Repeat([]byte{fill + 1}, c.integ.KeyLen)
	}
	return p
}

// tunnel is two gateways with policies and, after connect, SAs.
type tunnel struct {
	t           testing.TB
	left, right *gateway
	cipher      cipherCase
}

func newTunnel(t testing.TB, c cipherCase) *tunnel {
	u := &tunnel{t: t, left: newGateway(), right: newGateway(), cipher: c}
	u.left.pols.Replace(leftPolicies())
	u.right.pols.Replace(reversed(leftPolicies()))
	return u
}

// connect installs CHILD SA id for a policy at both ends; change may alter both.
func (u *tunnel) connect(id uint64, policy uint32, change func(left, right *sad.Params)) {
	u.t.Helper()
	l, r := u.left.sads.AllocSPIs(1)[0], u.right.sads.AllocSPIs(1)[0]
	pairs := []selector.Pair{leftPolicies()[policy-1].Pair}
	left := sad.Params{
		ID: id, Policy: policy, Peer: "right", Protocol: sad.ProtocolESP, Tunnel: true,
		In: u.cipher.params(l, 1, true), Out: u.cipher.params(r, 2, true),
		Pairs: pairs, Local: leftAddr, Remote: rightAddr, UDP: true, ReplayWindow: 128, Added: start,
	}
	right := left
	right.Peer, right.Local, right.Remote = "left", rightAddr, leftAddr
	right.In, right.Out = u.cipher.params(r, 2, true), u.cipher.params(l, 1, true)
	right.Pairs = []selector.Pair{pairs[0].Reverse()}
	if change != nil {
		change(&left, &right)
	}
	if _, err := u.left.sads.Install(left); err != nil {
		u.t.Fatal(err)
	}
	if _, err := u.right.sads.Install(right); err != nil {
		u.t.Fatal(err)
	}
}

// datagram makes of bytes on the wire what the underlay hands up.
func datagram(data []byte) *underlay.Packet {
	p := &underlay.Packet{Buf: make([]byte, underlay.Headroom+len(data)+64), Off: underlay.Headroom, Len: len(data),
		Local: rightAddr, Remote: leftAddr, Kind: underlay.ESP, NATT: true}
	copy(p.Data(), data)
	return p
}

// udp is a plain packet from host src to host dst.
func udp(src, dst string, size int) []byte {
	return wire.AppendUDPPacket(nil, netip.AddrPortFrom(netip.MustParseAddr(src), 1000),
		netip.AddrPortFrom(netip.MustParseAddr(dst), 2000), bytes.Repeat([]byte{0xab}, size))
}

// values is a snapshot by name.
func (g *gateway) values() map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range g.path.Counters().Snapshot() {
		m[c.Name] = c.Value
	}
	return m
}

// moved checks that since before only the counters of want have moved, by exactly that.
func (g *gateway) moved(t *testing.T, before map[string]uint64, want map[string]uint64) {
	t.Helper()
	for name, v := range g.values() {
		if v-before[name] != want[name] {
			t.Errorf("%s moved by %d, want %d", name, v-before[name], want[name])
		}
	}
}
