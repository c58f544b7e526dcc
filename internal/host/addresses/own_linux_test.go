package addresses

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// beside runs f in a goroutine that is in the network namespace of this test.
func beside(t *testing.T, f func()) (ended <-chan struct{}) {
	t.Helper()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		defer home.Close()
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	return end
}

// batch runs many commands of ip at once.
func batch(t *testing.T, commands string) {
	t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// gone waits until no goroutine is in a function, as a stack names it.
func gone(t *testing.T, function string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		text := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(text, function) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s goes on:\n%s", function, text)
		}
	}
}

// hear waits for one piece of news.
func hear(t *testing.T, what string, news <-chan struct{}) {
	t.Helper()
	select {
	case <-news:
	case <-time.After(limit):
		t.Fatalf("%s: nothing is told", what)
	}
}

// site makes a host with an uplink, the gateway's device, a link that is down and one without a carrier.
func site(t *testing.T) {
	t.Helper()
	isolate(t)
	for _, name := range []string{"eth0", "culvert0", "down0", "cut0"} {
		ip(t, "link add "+name+" type veth peer name far-"+name)
		ip(t, "link set "+name+" addrgenmode none")
		ip(t, "link set far-"+name+" addrgenmode none")
		if name != "cut0" {
			ip(t, "link set far-"+name+" up")
		}
		if name != "down0" {
			ip(t, "link set "+name+" up")
		}
	}
	ip(t, "link set lo up")
	ip(t, "addr add 10.99.0.1/32 dev lo")
	ip(t, "addr add 192.0.2.1/24 dev eth0")
	ip(t, "addr add 203.0.113.5/32 dev eth0")
	ip(t, "addr add 2001:db8:1::1/64 dev eth0 nodad")
	ip(t, "addr add 169.254.3.4/16 dev eth0")
	ip(t, "addr add 10.50.0.1/24 dev culvert0")
	ip(t, "addr add 10.60.0.1/24 dev down0")
	ip(t, "addr add 172.20.0.1/24 dev cut0")
	for end := time.Now().Add(limit); !running(t, "eth0") || !running(t, "culvert0"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the links have no carrier")
		}
	}
}

func running(t *testing.T, name string) bool {
	t.Helper()
	l, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Flags&net.FlagRunning != 0
}

// Peers reach the addresses of links that have a carrier, and of those only the ones that are listened on.
func TestReachableOfASite(t *testing.T) {
	site(t)
	for _, c := range []struct{ device, listen, want string }{
		{"culvert0", "", "[192.0.2.1 203.0.113.5 2001:db8:1::1]"},
		{"culvert0", "2001:db8:1::1 10.50.0.1", "[2001:db8:1::1]"},
		{"culvert0", "10.99.0.1", "[]"},
		{"culvert9", "", "[192.0.2.1 203.0.113.5 2001:db8:1::1 10.50.0.1]"},
	} {
		a := &Reachable{Device: c.device}
		for _, text := range strings.Fields(c.listen) {
			a.Listen = append(a.Listen, netip.MustParseAddr(text))
		}
		if list, err := a.List(); err != nil || fmt.Sprint(list) != c.want {
			t.Errorf("device %s, listening on %q: %v, %v, not %s", c.device, c.listen, list, err, c.want)
		}
	}
	networks, err := (&Reachable{Device: "culvert0", Listen: []netip.Addr{netip.MustParseAddr("10.50.0.1")}}).Networks()
	if want := "[{192.0.2.1 192.0.2.0/24 eth0} {203.0.113.5 203.0.113.5/32 eth0} {2001:db8:1::1 2001:db8:1::/64 eth0}]"; err != nil || fmt.Sprint(networks) != want {
		t.Errorf("networks %v, %v, not %s", networks, err, want)
	}
}

// This host's are the addresses of links that are up, of loopback too, their networks, and what the
// main table leads to behind NATs, but for the gateway's device.
func TestOwnOfASite(t *testing.T) {
	site(t)
	for _, route := range []string{
		"default via 192.0.2.254", "10.9.0.0/16 via 192.0.2.254", "198.51.100.0/24 via 192.0.2.254", "100.64.9.0/24 dev eth0",
		"10.8.0.0/16 dev culvert0", "10.7.0.0/16 dev eth0 table 99", "fd00:9::/48 dev eth0", "2001:db8:9::/48 dev eth0", "blackhole 192.168.66.0/24",
	} {
		ip(t, "route add "+route)
	}
	common := "10.9.0.0/16 10.99.0.1/32 100.64.9.0/24 172.20.0.0/24 172.20.0.1/32 192.0.2.0/24 192.0.2.1/32 192.168.66.0/24 203.0.113.5/32 " +
		"2001:db8:1::/64 2001:db8:1::1/128 fd00:9::/48"
	for _, c := range []struct{ device, want string }{
		{"culvert0", common},
		{"culvert9", common + " 10.8.0.0/16 10.50.0.0/24 10.50.0.1/32"},
	} {
		var want []netip.Prefix
		for _, text := range strings.Fields(c.want) {
			want = append(want, netip.MustParsePrefix(text))
		}
		slices.SortFunc(want, netip.Prefix.Compare)
		if list, err := (&Own{Device: c.device}).List(); err != nil || !slices.Equal(list, want) {
			t.Errorf("device %s: %v, %v\nnot %v", c.device, list, err, want)
		}
	}
}

// Where there are very many routes, all that is behind NATs is this host's.
func TestOwnOfManyRoutes(t *testing.T) {
	isolate(t)
	ip(t, "link set lo up")
	var routes strings.Builder
	for n := range maxNets {
		fmt.Fprintf(&routes, "route add 10.%d.%d.0/24 dev lo\n", n/256, n%256)
	}
	batch(t, routes.String())
	list, err := (&Own{}).List()
	if err != nil || len(list) != maxNets || list[maxNets-1] != netip.MustParsePrefix("10.15.255.0/24") {
		t.Errorf("%d routes are %d networks, %v", maxNets, len(list), err)
	}
	ip(t, "route add 10.16.0.0/24 dev lo")
	if list, err := (&Own{}).List(); err != nil || fmt.Sprint(list) != "[10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 fc00::/7]" {
		t.Errorf("one more than %d routes are %d networks, the first of them %v, %v", maxNets, len(list), list[:min(len(list), 5)], err)
	}
}

// A route leads somewhere if its destination is a network that has a name.
func TestDestination(t *testing.T) {
	for text, want := range map[string]string{
		"10.9.0.0/16": "10.9.0.0/16 true", "fd00:9::/48": "fd00:9::/48 true", "192.0.2.1/32": "192.0.2.1/32 true",
		"0.0.0.0/0": "0.0.0.0/0 false", "::/0": "::/0 false", "224.0.0.0/4": "224.0.0.0/4 false", "fe80::/64": "fe80::/64 false",
	} {
		_, dst, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := destination(&netlink.Route{Dst: dst})
		if got := fmt.Sprint(p, ok); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
	for what, r := range map[string]netlink.Route{
		"no destination":           {},
		"no address":               {Dst: &net.IPNet{IP: net.IP{1, 2, 3}, Mask: net.CIDRMask(8, 32)}},
		"a mask of another family": {Dst: &net.IPNet{IP: net.IPv4(10, 9, 0, 0).To4(), Mask: net.CIDRMask(112, 128)}},
	} {
		if p, ok := destination(&r); ok || p != (netip.Prefix{}) {
			t.Errorf("%s: %v, %v", what, p, ok)
		}
	}
}

// tells makes a change, if there is one, and expects what a watch tells then.
func tells(t *testing.T, told <-chan string, change, want string) {
	t.Helper()
	if change != "" {
		ip(t, change)
	}
	select {
	case got := <-told:
		if got != want {
			t.Errorf("%q: %s, not %s", change, got, want)
		}
	case <-time.After(limit):
		t.Fatalf("%q is not told", change)
	}
}

// A watch tells the addresses of this host at once, and again when one came.
func TestWatchReachable(t *testing.T) {
	site(t)
	done, told := make(chan struct{}), make(chan string, 100)
	a := &Reachable{Device: "culvert0"}
	ended := beside(t, func() { a.Watch(done, func(list []netip.Addr) { told <- fmt.Sprint(list) }) })
	for _, c := range []struct{ change, want string }{
		{"", "[192.0.2.1 203.0.113.5 2001:db8:1::1]"},
		{"addr add 192.0.2.7/24 dev eth0", "[192.0.2.1 203.0.113.5 192.0.2.7 2001:db8:1::1]"},
		{"link set far-eth0 down", "[]"},
	} {
		tells(t, told, c.change, c.want)
	}
	close(done)
	<-ended
	gone(t, "addresses.addrNews")
}

// A watch tells the networks of this host at once, and again when an address or a route came.
func TestWatchOwn(t *testing.T) {
	isolate(t)
	ip(t, "link set lo up")
	ip(t, "addr add 10.99.0.1/32 dev lo")
	done, told := make(chan struct{}), make(chan string, 100)
	n := &Own{Device: "culvert0"}
	ended := beside(t, func() { n.Watch(done, func(list []netip.Prefix) { told <- fmt.Sprint(list) }) })
	for _, c := range []struct{ change, want string }{
		{"", "[10.99.0.1/32]"},
		{"addr add 10.99.0.2/32 dev lo", "[10.99.0.1/32 10.99.0.2/32]"},
		{"route add 10.9.0.0/16 dev lo", "[10.9.0.0/16 10.99.0.1/32 10.99.0.2/32]"},
	} {
		tells(t, told, c.change, c.want)
	}
	close(done)
	<-ended
	gone(t, "addresses.netNews")
	gone(t, "addresses.addrNews")
	gone(t, "netlink.routeSubscribeAt")
}

// counted takes each piece of news as soon as it comes. What it returns says how many there were.
func counted(news <-chan struct{}, done <-chan struct{}) func() int {
	heard := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-news:
				n++
			case heard <- n:
			case <-done:
				return
			}
		}
	}()
	return func() int { return <-heard }
}

// once makes changes that are not to be told and then one that is.
func once(t *testing.T, heard func() int, others []string, change string) {
	t.Helper()
	batch(t, strings.Join(others, "\n")+"\n")
	ip(t, change) // the kernel tells it after the others
	for end := time.Now().Add(limit); heard() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is not told", change)
		}
	}
	if n := heard(); n != 1 {
		t.Errorf("%s, among %d changes that are not to be told, is told %d times", change, len(others), n)
	}
}

// Of routes only those that lead behind NATs change what is this host's.
func TestNewsOfNetworks(t *testing.T) {
	isolate(t)
	ip(t, "link set lo up")
	done := make(chan struct{})
	defer close(done)
	heard := counted(netNews(done), done)
	others := []string{"route add default dev lo"}
	for n := range 200 {
		others = append(others, fmt.Sprintf("route add 198.18.%d.0/24 dev lo", n))
	}
	once(t, heard, others, "route add 10.9.0.0/16 dev lo")
}

// The gateway's own routes are not told.
func TestNewsOfRoutes(t *testing.T) {
	isolate(t)
	ip(t, "link set lo up")
	done := make(chan struct{})
	defer close(done)
	r := &Routes{Device: "culvert0", Table: 50500}
	heard := counted(r.news(done), done)
	var others []string
	for n := range 100 {
		others = append(others, fmt.Sprintf("route add 10.%d.0.0/16 dev lo table 50500", n), fmt.Sprintf("route add 10.%d.0.0/16 dev lo table %d", n, 50500+nearBit))
	}
	once(t, heard, others, "route add 10.9.0.0/16 dev lo")
	if !r.foreign(&netlink.Route{Table: unix.RT_TABLE_MAIN, LinkIndex: 1}) {
		t.Error("without the gateway's device no route of another table is of others")
	}
}

// A subscription that has more to tell when its watch ends does not wait for ever.
func TestNewsEnd(t *testing.T) {
	isolate(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	change := func() {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(32, 32)}}
		for _, do := range []func(netlink.Link, *netlink.Addr) error{netlink.AddrAdd, netlink.AddrDel} {
			if err := do(lo, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 100 {
		done := make(chan struct{})
		news := addrNews(done)
		change()
		hear(t, "an address", news)
		change()
		close(done)
		change()
	}
	gone(t, "addresses.addrNews")
	gone(t, "netlink.addrSubscribeAt")
	gone(t, "netlink.linkSubscribeAt")
}

// told are the sockets that the kernel tells a group of changes to.
func told(group uint) (fds []int) {
	for fd := range 1024 {
		name, err := unix.Getsockname(fd)
		if n, ok := name.(*unix.SockaddrNetlink); err == nil && ok && n.Groups&(1<<(group-1)) != 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// small subscribes so that the socket for a group of changes holds next to nothing.
func small(t *testing.T, group uint, subscribe func() <-chan struct{}) <-chan struct{} {
	t.Helper()
	before := told(group)
	news := subscribe()
	after := slices.DeleteFunc(told(group), func(fd int) bool { return slices.Contains(before, fd) })
	if len(after) != 1 {
		t.Fatalf("%d new sockets of group %d", len(after), group)
	}
	if err := unix.SetsockoptInt(after[0], unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	return news
}

// Where more happens at once than a socket holds, it is time to look every now and then.
func TestNewsAfterTooMuch(t *testing.T) {
	subscriptions := []string{"addrSubscribeAt", "linkSubscribeAt", "routeSubscribeAt"}
	for _, f := range subscriptions {
		gone(t, "netlink."+f) // of the tests before
	}
	isolate(t)
	ip(t, "link set lo up")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	addrs := func() <-chan struct{} { return addrNews(done) }
	news := map[string]<-chan struct{}{
		"addresses":          small(t, unix.RTNLGRP_IPV4_IFADDR, addrs),
		"links":              small(t, unix.RTNLGRP_LINK, addrs),
		"routes":             small(t, unix.RTNLGRP_IPV4_ROUTE, func() <-chan struct{} { return (&Routes{Device: "culvert0", Table: 50500}).news(done) }),
		"this host's routes": small(t, unix.RTNLGRP_IPV4_ROUTE, func() <-chan struct{} { return netNews(done) }),
	}
	// A subscription has two goroutines, of which one ends with its socket's overflow.
	lost := func() bool {
		buf := make([]byte, 1<<20)
		text := string(buf[:runtime.Stack(buf, true)])
		for i, left := range []int{3 + 2, 3 + 2, 1 + 1} {
			if strings.Count(text, "created by github.com/vishvananda/netlink."+subscriptions[i]) != left {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(limit); !lost(); {
		if time.Now().After(end) {
			t.Fatal("no socket holds too little")
		}
		for n := range 100 {
			a := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, 1), Mask: net.CIDRMask(24, 32)}}
			if err := errors.Join(netlink.AddrAdd(lo, a), netlink.LinkSetMTU(lo, 2000+n), netlink.AddrDel(lo, a)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // the first may be of a change
		for what, c := range news {
			hear(t, what, c)
		}
	}
	close(done)
	gone(t, "addresses.addrNews")
	gone(t, "addresses.netNews")
}

// The ends of subscriptions may have more to tell when nobody listens any more.
func TestDrain(t *testing.T) {
	for _, more := range [][2]int{{0, 0}, {3, 0}, {0, 3}, {3, 3}} {
		addrs, links := make(chan netlink.AddrUpdate), make(chan netlink.LinkUpdate)
		ended := make(chan struct{}, 2)
		go func() {
			for range more[0] {
				addrs <- netlink.AddrUpdate{}
			}
			close(addrs)
			ended <- struct{}{}
		}()
		go func() {
			for range more[1] {
				links <- netlink.LinkUpdate{}
			}
			close(links)
			ended <- struct{}{}
		}()
		drain(addrs, links)
		hear(t, fmt.Sprintf("%v: the first end", more), ended)
		hear(t, fmt.Sprintf("%v: the other end", more), ended)
	}
	drain(nil, nil)
}

// What cannot be read is an error: it is not a host without addresses.
func TestUnreadable(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	none := old
	none.Cur = 0 // no socket can be opened any more
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	reachable, err1 := (&Reachable{}).List()
	networks, err2 := (&Reachable{}).Networks()
	own, err3 := (&Own{}).List()
	routed, err4 := routes("culvert0")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err1 == nil || err2 == nil || err3 == nil || err4 == nil || len(reachable)+len(networks)+len(own)+len(routed) > 0 {
		t.Errorf("addresses %v, %v; networks %v, %v; own %v, %v; routes %v, %v", reachable, err1, networks, err2, own, err3, routed, err4)
	}
}
