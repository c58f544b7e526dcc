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

// What was measured holds until it is measured again, beside what routers say. It is told once that a path
// is narrow of which no router has said so.
func TestMeasuredPathMTU(t *testing.T) {
	at := func(d time.Duration) int64 { return time.Unix(1_700_000_000, 0).Add(d).UnixNano() }
	p := &Path{Remote: netip.MustParseAddr("192.0.2.1")}
	p.SetLink(1500)
	if mtu, when := p.Measured(); mtu != 0 || when != 0 {
		t.Errorf("before: %d at %d", mtu, when)
	}
	for _, c := range []struct {
		name    string
		learn   int
		measure int
		at      time.Duration
		want    int // then, and at the end of the age of what is learned
		later   int
		tell    bool
	}{
		{"as wide as the link", 0, 1500, 0, 1500, 1500, false},
		{"narrower by what a block cipher leaves out", 0, 1485, 0, 1485, 1485, false},
		{"a router has said so", 1400, 1400, time.Hour, 1400, 1400, false},
		{"less than a router has said", 1450, 1420, 2 * time.Hour, 1420, 1420, true},
		{"more than a router has said", 1380, 1500, 3 * time.Hour, 1380, 1500, false},
		{"narrow", 0, 1280, 4 * time.Hour, 1280, 1280, false}, // told before
		{"below the bound", 0, 100, 5 * time.Hour, MinPMTU4, MinPMTU4, false},
		{"wide again", 0, 1500, 6 * time.Hour, 1500, 1500, false},
	} {
		if c.learn != 0 {
			p.Learn(c.learn, at(c.at))
		}
		if tell := p.Measure(c.measure, at(c.at)); tell != c.tell {
			t.Errorf("%s: told: %v", c.name, tell)
		}
		if now, later := p.MTU(at(c.at)), p.MTU(at(c.at+PMTUAge)); now != c.want || later != c.later {
			t.Errorf("%s: %d, later %d, want %d and %d", c.name, now, later, c.want, c.later)
		}
		if mtu, when := p.Measured(); mtu != max(c.measure, MinPMTU4) || when != at(c.at)/int64(time.Second) {
			t.Errorf("%s: %d at %d", c.name, mtu, when)
		}
	}
	var none *Path
	if mtu, when := none.Measured(); none.Measure(1400, at(0)) || mtu != 0 || when != 0 {
		t.Error("a path that is not known")
	}
}

// A path is to be measured once in MeasureEvery, and when its first link is another one. What is to be tried is what link and routers say.
func TestToMeasure(t *testing.T) {
	at := func(d time.Duration) int64 { return time.Unix(1_700_000_000, 0).Add(d).UnixNano() }
	c := &Child{}
	p := &Path{Remote: netip.MustParseAddr("192.0.2.1")}
	if c.Unmeasured(at(0)) {
		t.Error("without a path")
	}
	c.path.Store(p)
	asks := func(after time.Duration, want int) {
		t.Helper()
		if c.Unmeasured(at(after)) != (want != 0) {
			t.Errorf("after %v: Unmeasured is %v", after, want == 0)
		}
		if mtu, ok := c.ToMeasure(at(after)); ok != (want != 0) || ok && mtu != want {
			t.Errorf("after %v: %d, %v, want %d", after, mtu, ok, want)
		}
	}
	asks(0, 0) // the link is not known
	p.SetLink(1500)
	asks(0, 1500)
	p.Measure(1400, at(0))
	asks(MeasureEvery-1, 0)
	asks(MeasureEvery, 1500)
	p.Learn(1390, at(2*MeasureEvery))
	asks(2*MeasureEvery, 1390)
	p.SetLink(1500)
	asks(2*MeasureEvery+1, 0)
	p.SetLink(1440)
	asks(2*MeasureEvery+PMTUAge, 1440)
	c.manual = true
	asks(9*MeasureEvery, 0)
}
