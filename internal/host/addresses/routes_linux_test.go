package addresses

import (
	"fmt"
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

// limit is for how long a test waits for what has to come, on a busy machine too.
const limit = time.Minute

// isolate puts the rest of the test into a network namespace of its own. The thread is never given
// back: it ends with the test's goroutine.
func isolate(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace:", err)
	}
}

func ip(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", command, err, out)
	}
}

// The routes of others are told, and not the gateway's.
func TestWatchRoutes(t *testing.T) {
	isolate(t)
	for _, name := range []string{"eth0", "culvert0"} {
		ip(t, "link add "+name+" type veth peer name far-"+name)
		ip(t, "link set far-"+name+" up")
		ip(t, "link set "+name+" up")
	}
	ip(t, "addr add 192.0.2.1/24 dev eth0")
	r := &Routes{Device: "culvert0", Table: 50500}
	done := make(chan struct{})
	defer close(done)
	news := r.news(done) // in the namespace of this thread
	updates := make(chan netlink.RouteUpdate, 100)
	if err := netlink.RouteSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change  string
		foreign bool
	}{
		{"route add default via 192.0.2.254", true}, {"route del default via 192.0.2.254", true},
		{"route add 198.51.100.0/24 dev eth0 table 99", true}, {"route add 10.9.0.0/16 dev culvert0 table 50500", false},
		{"route add 10.9.0.0/16 dev culvert0", false}, {"route add 10.9.0.0/16 dev eth0 table 1073792324", false},
		{"route add local 192.0.2.9 dev eth0 table local", false},
	} {
		for len(updates) > 0 {
			<-updates
		}
		ip(t, c.change)
		want := strings.TrimSuffix(strings.TrimPrefix(strings.Fields(c.change)[2], "default"), "local")
		for found := false; !found; {
			select {
			case u := <-updates:
				if found = strings.HasPrefix(u.Dst.String(), want) && u.Dst.IP.To4() != nil; found && r.foreign(&u.Route) != c.foreign {
					t.Errorf("%s: of others %v", c.change, !c.foreign)
				}
			case <-time.After(limit):
				t.Fatalf("%s: the kernel does not tell", c.change)
			}
		}
	}
	select {
	case <-news:
	case <-time.After(limit):
		t.Error("nothing is told")
	}
}

// What is told comes together, and ends with the watch.
func TestWatchRoutesTogether(t *testing.T) {
	isolate(t)
	ip(t, "link add eth0 type veth peer name far")
	ip(t, "link set far up")
	ip(t, "link set eth0 up")
	r := &Routes{Device: "culvert0", Table: 50500}
	done, told := make(chan struct{}), make(chan struct{}, 1000)
	begun, ended := make(chan struct{}), make(chan struct{})
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		close(begun)
		r.Watch(done, func() { told <- struct{}{} })
	}()
	<-begun
	for n, end := 0, time.Now().Add(limit); len(told) == 0; n++ { // the first may come before it listens
		if time.Now().After(end) {
			t.Fatal("no route is told")
		}
		ip(t, fmt.Sprintf("route replace 198.51.100.%d/32 dev eth0", n%250))
		time.Sleep(20 * time.Millisecond)
	}
	<-told
	var changes strings.Builder
	for n := range 250 {
		fmt.Fprintf(&changes, "route replace 198.18.0.%d/32 dev eth0\n", n)
	}
	batch(t, changes.String())
	hear(t, "250 routes", told)
	close(done)
	<-ended
	if len(told) > 100 {
		t.Errorf("250 changes are told %d times", len(told)+1)
	}
}

// An address whose link has no carrier is none that peers reach this host at.
func TestReachableNeedsACarrier(t *testing.T) {
	isolate(t)
	ip(t, "link add eth0 type veth peer name far")
	ip(t, "addr add 192.0.2.1/24 dev eth0")
	ip(t, "link set eth0 up")
	ip(t, "link set far up")
	has := func() bool {
		list, err := (&Reachable{}).List()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(list, netip.MustParseAddr("192.0.2.1"))
	}
	until := func(what string, want bool) {
		t.Helper()
		for end := time.Now().Add(limit); has() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: reachable is %v", what, !want)
			}
		}
	}
	until("with carrier", true)
	ip(t, "link set far down")
	until("without carrier", false)
	ip(t, "link set far up")
	until("with carrier again", true)
}
