package gateway

import (
	"strings"
	"testing"
	"time"

	"culvert/internal/operate/control"
	"culvert/internal/testing/simnet"
)

// A line of the data path that is busy gets SAs for itself: installed-sa print and explain packet show them. At the other
// end, which has one line, they are for none.
func TestLinesAreShown(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.west.conn.WithRaw()
	w.east.conn.WithRaw()
	w.west.lines = 4
	w.up()
	lines := func(n *node) (text string) {
		for _, r := range n.view().InstalledSAs(false) {
			text += " " + r.Policy + ":" + r.Line
		}
		return strings.TrimSpace(text)
	}
	before := lines(w.west)
	if strings.Contains(strings.ReplaceAll(before+" ", ": ", " "), ":") {
		t.Fatalf("before: %s", before)
	}
	shared := w.west.plane.SAs.Children()[0]
	for range 3 {
		w.west.plane.Inbox.Busy(shared.ID, 2)
		w.west.settle()
		w.run(time.Second)
	}
	w.run(5 * time.Second)
	policy := w.west.view().InstalledSAs(false)[0].Policy
	if got, want := lines(w.west), before+" "+policy+":2 "+policy+":2"; got != want {
		t.Errorf("west has %q, want %q", got, want)
	}
	if got := lines(w.east); strings.Count(got, ":none") != 2 {
		t.Errorf("east has %q", got)
	}
	pair := shared.Pairs[0]
	q := control.PacketQuery{Src: pair.Local.Lo.Next().String(), Dst: pair.Remote.Lo.Next().String(), Protocol: "tcp", DstPort: 80}
	x, err := w.west.view().ExplainPacket(q)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(x.Why, "\n"); !strings.Contains(all, "packets of the lines 2 of the data path leave through SAs of their own") {
		t.Errorf("explain packet: %s", all)
	}
	w.west.plane.SAs.Retire(shared.ID) // then the one of line 2 is all that is left
	if x, err = w.west.view().ExplainPacket(q); err != nil || x.Line != "2" || !strings.Contains(strings.Join(x.Why, "\n"), "the SA is for line 2 of the data path alone") {
		t.Errorf("explain packet: %q, %v, %v", x.Line, x.Why, err)
	}
}
