package sad

import (
	"net/netip"
	"testing"
	"time"
)

// What a path takes: its link, what was learned while it is fresh, and nothing
// below the bounds.
func TestPathMTU(t *testing.T) {
	at := func(d time.Duration) int64 { return time.Unix(1_700_000_000, 0).Add(d).UnixNano() }
	v4 := &Path{Remote: netip.MustParseAddr("192.0.2.1")}
	v6 := &Path{Remote: netip.MustParseAddr("2001:db8::1")}
	for _, c := range []struct {
		name  string
		path  *Path
		link  int
		learn int
		after time.Duration
		want  int
		lower bool
	}{
		{"nothing is known", v4, 0, 70000, 0, MaxPMTU, false},
		{"the link", v4, 1500, 1500, 0, 1500, false},
		{"more than the link takes", v4, 1500, 1501, 0, 1500, false},
		{"less than the link takes", v4, 1500, 1499, 0, 1499, true},
		{"the bound of IPv4", v4, 1500, MinPMTU4, 0, 576, true},
		{"below the bound of IPv4", v4, 1500, 68, 0, 576, true},
		{"the bound of IPv6", v6, 1500, 1279, 0, 1280, true},
		{"a router that does not say", v4, 1500, 0, 0, 1492, true},
		{"a router that does not say, loopback", v4, 0, 0, 0, 32000, true},
		{"a router that does not say at the last plateau", v4, 576, 0, 0, 576, false},
		{"a link below the bound", v4, 400, 300, 0, 400, false},
		{"nearly too old", v4, 1500, 1400, PMTUAge - time.Second, 1400, true},
		{"too old", v4, 1500, 1400, PMTUAge, 1500, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.path.learned.Store(0)
			c.path.SetLink(c.link)
			if lower := c.path.Learn(c.learn, at(0)); lower != c.lower {
				t.Errorf("Learn: %v", lower)
			}
			if got := c.path.MTU(at(c.after)); got != c.want {
				t.Errorf("MTU %d, want %d", got, c.want)
			}
		})
	}
	// Step by step down, and an old MTU makes room for a new one.
	v4.SetLink(1500)
	v4.learned.Store(0)
	for _, mtu := range []int{1492, 1400, 1280} {
		if !v4.Learn(mtu, at(0)) || v4.MTU(at(0)) != mtu {
			t.Error(mtu)
		}
	}
	if v4.Learn(1400, at(0)) || v4.MTU(at(0)) != 1280 {
		t.Error("a message raised the MTU")
	}
	if !v4.Learn(1400, at(PMTUAge)) || v4.MTU(at(PMTUAge)) != 1400 {
		t.Error("what was forgotten still counts")
	}
	var none *Path
	if none.Learn(600, 0) || none.MTU(0) != MaxPMTU {
		t.Error("a path that is not known")
	}
}

// SAs between two addresses share the path, which lives as long as one of them;
// they are found by what they send.
func TestPathsOfSAs(t *testing.T) {
	table := NewTable(10, 1)
	links := map[netip.Addr]int{}
	table.OnLink(func(_, remote netip.Addr) int { return links[remote] })
	p := params(t, table, 1)
	local, remote := p.Local.Addr(), p.Remote.Addr()
	links[remote] = 1500
	one := install(t, table, p)
	q := params(t, table, 2)
	q.Out.SPI++
	two := install(t, table, q)
	path := one.Path()
	if path == nil || two.Path() != path || table.Path(local, remote) != path || path.MTU(0) != 1500 {
		t.Fatalf("%+v", path)
	}
	path.Learn(1300, 0)
	if table.Sent(ProtocolESP, remote, p.Out.SPI) != one || table.Sent(ProtocolESP, remote, q.Out.SPI) != two ||
		table.Sent(ProtocolAH, remote, p.Out.SPI) != nil || table.Sent(ProtocolESP, local, p.Out.SPI) != nil {
		t.Error("Sent")
	}
	links[remote] = 1400
	table.RefreshLinks()
	if path.MTU(int64(PMTUAge)) != 1400 {
		t.Error("RefreshLinks")
	}
	// Another port is the same path, another address another one.
	port := netip.AddrPortFrom(remote, 1024)
	table.Move(1, p.Local, port, true)
	if one.Path() != path || table.Sent(ProtocolESP, remote, p.Out.SPI) != one {
		t.Error("moved to another port")
	}
	elsewhere := netip.MustParseAddrPort("198.51.100.7:4500")
	table.Move(1, p.Local, elsewhere, true)
	if one.Path() == path || one.Path().MTU(0) != MaxPMTU ||
		table.Sent(ProtocolESP, remote, p.Out.SPI) != nil || table.Sent(ProtocolESP, elsewhere.Addr(), p.Out.SPI) != one {
		t.Error("moved to another address")
	}
	table.Remove(2)
	if table.Path(local, remote) != nil || table.Sent(ProtocolESP, remote, q.Out.SPI) != nil {
		t.Error("a path outlives its SAs")
	}
	table.Close()
	if len(table.paths.byEnds)+len(table.paths.sent) != 0 {
		t.Errorf("%d paths, %d SAs are left", len(table.paths.byEnds), len(table.paths.sent))
	}
}
