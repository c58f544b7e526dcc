package gateway

import (
	"os"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/testing/simnet"
)

// tomlBelow are the blocks of TOML below a heading of a document, until the next heading.
func tomlBelow(t *testing.T, path, heading string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no %q", path, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for {
		_, rest, found := strings.Cut(section, "```toml\n")
		if !found {
			return list
		}
		var block string
		block, section, _ = strings.Cut(rest, "```")
		list = append(list, block)
	}
}

// The gateway and the client of docs/tunnels.md meet: the client has an address from the
// pool, and reaches both networks.
func TestRoadWarriorOfTheDocument(t *testing.T) {
	ends := tomlBelow(t, "../../docs/tunnels.md", "## Road warriors")
	if len(ends) != 2 {
		t.Fatalf("%d configurations", len(ends))
	}
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.east.mustConfigure(ends[0])
	w.west.mustConfigure(strings.Replace(ends[1], `address = "192.0.2.1"`, `address = "192.0.2.2"`, 1))
	w.until("a tunnel", func() bool { return w.west.count(core.EvChildUp) >= 1 && w.east.count(core.EvChildUp) >= 1 })
	w.run(10 * time.Second)
	rows := w.east.view().ActivePeers()
	if len(rows) != 1 || rows[0].DynamicAddress != "192.168.77.2" || rows[0].ID != "alice@example.net" {
		t.Errorf("active peers %+v", rows)
	}
	w.carries(w.west, w.east, "192.168.77.2", "10.5.8.9")
	w.carries(w.east, w.west, "192.168.55.9", "192.168.77.2")
}
