//go:build linux

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

// attackCells: a flood of messages with spoofed sources, while one road warrior
// works and another one comes in.
func attackCells() []cell {
	const g = "Under attack"
	flood := func(name, what string, kinds ...string) cell {
		return cell{group: g, name: name, theyInitiate: true, limit: 5 * time.Minute,
			scene: func(ctx context.Context, t *testing.T, l *lab.Lab) { underFlood(ctx, t, l, kinds) },
			event: event{name: fmt.Sprintf("%d %s a second from spoofed addresses; a newcomer connects, a ping goes on", floodRate, what)}}
	}
	return []cell{
		flood("flood-of-handshakes", "IKE_SA_INIT", lab.FloodInit, lab.FloodModp),
		flood("flood-of-everything", "handshakes with wrong cookies, fragments, garbage, tickets, IKE_AUTH and ESP for no SA",
			lab.FloodInit, lab.FloodModp, lab.FloodCookie, lab.FloodGarbage, lab.FloodFragment, lab.FloodAuth, lab.FloodResume, lab.FloodESP),
	}
}

// What a flood may cost. The number of half-open SAs is exact; the rest has room
// for a machine that does other things too.
const (
	floodRate     = 10_000
	floodFor      = 12 * time.Second
	floodHalfOpen = 64 + 2   // COOKIEs from the 64th on; the honest ones beside them
	floodMemory   = 24 << 20 // bytes of resident memory more than before
	floodLines    = 60       // of the log
	floodLoss     = 10       // per cent of the pings
)

func underFlood(ctx context.Context, t *testing.T, l *lab.Lab, kinds []string) {
	nodes := hub(l, "office", "anna", "late", "mob")
	office, anna, late, mob := nodes[0], nodes[1], nodes[2], nodes[3]
	office.Inner(netip.MustParseAddr(officeHost))
	office.Run("ip", "route", "add", lab.FloodFrom.String(), "via", "10.9.0.4")
	us := office.Culvert(ctx, "", strings.Replace(ourServer, `dh-group = "ecp256"`, `dh-group = ["ecp256", "x25519", "modp2048"]`, 1))
	tell(t, us)
	swan := anna.StrongSwan(ctx, theirClient("anna@example.net", "0.0.0.0", "10.2.0.0/24"))
	if err := swan.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	addrs, _, err := theirAddress(ctx, swan)
	if err != nil {
		t.Fatal(err)
	}
	newcomer := late.StrongSwan(ctx, theirClient("late@example.net", "0.0.0.0", "10.2.0.0/24"))
	before, lines, cpu := us.Resident(), strings.Count(us.Log(), "\n"), us.CPU()

	flood := mob.Flood(netip.MustParseAddr("10.9.0.1"), floodRate, floodFor, kinds...)
	time.Sleep(2 * time.Second) // it is there
	pinged := make(chan error, 1)
	var loss float64
	go func() {
		var err error
		loss, err = pings(anna, host(addrs[0]), netip.MustParseAddr(officeHost), floodFor-4*time.Second)
		pinged <- err
	}()
	start := time.Now()
	if err := newcomer.InitiateChild(ctx, "c"); err != nil {
		t.Errorf("the newcomer does not get in: %v", err)
	}
	in, middle := time.Since(start), us.Resident()
	most := 0
	for !flood.Ended() {
		rows, err := us.Print(ctx, "active-peers")
		if err != nil {
			t.Errorf("culvert does not answer: %v", err)
		}
		halfOpen := 0
		for _, r := range rows {
			if r.Text("state") != "established" {
				halfOpen++
			}
		}
		most = max(most, halfOpen)
		time.Sleep(500 * time.Millisecond)
	}
	sent, err := flood.Result(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-pinged; err != nil {
		t.Error(err)
	}
	after, spent := us.Resident(), us.CPU()-cpu
	more := strings.Count(us.Log(), "\n") - lines
	t.Logf("%d messages in %v (%d/s; %v); newcomer in after %v; %.1f %% of the pings lost; at most %d half-open; "+
		"memory %d → %d → %d KiB; %d log lines; CPU %v, %v a message", sent.All, sent.Took.Round(time.Millisecond), int(float64(sent.All)/sent.Took.Seconds()),
		sent.Sent, in.Round(time.Millisecond), loss, most, before>>10, middle>>10, after>>10, more, spent, spent/time.Duration(max(1, sent.All)))
	if most == 0 && slices.Contains(kinds, lab.FloodInit) {
		t.Error("the flood made no half-open SA: it does not reach the gateway")
	}
	if most > floodHalfOpen {
		t.Errorf("%d half-open SAs, more than %d", most, floodHalfOpen)
	}
	if after > before+floodMemory {
		t.Errorf("memory grew from %d to %d KiB", before>>10, after>>10)
	}
	if more > floodLines {
		t.Errorf("%d log lines", more)
	}
	if loss > floodLoss {
		t.Errorf("%.1f %% of the pings were lost", loss)
	}
	// Both tunnels carry afterwards.
	addrs2, _, err := theirAddress(ctx, newcomer)
	if err != nil {
		t.Fatal(err)
	}
	for n, a := range map[*lab.Node]string{anna: addrs[0], late: addrs2[0]} {
		if err := n.Transfer(ctx, host(a), office, netip.MustParseAddr(officeHost), payload/4); err != nil {
			t.Error(err)
		}
	}
}

var lossText = regexp.MustCompile(`([\d.]+)% packet loss`)

// pings is the loss in per cent of pings, twenty a second, from an address of a node.
func pings(n *lab.Node, from, to netip.Addr, d time.Duration) (float64, error) {
	out, _ := n.Try("ping", "-q", "-i", "0.05", "-c", strconv.Itoa(int(d/(50*time.Millisecond))), "-W", "2", "-I", from.String(), to.String())
	m := lossText.FindStringSubmatch(out)
	if m == nil {
		return 100, fmt.Errorf("ping: %s", out)
	}
	return strconv.ParseFloat(m[1], 64)
}
