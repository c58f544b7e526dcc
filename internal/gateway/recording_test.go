package gateway

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/operate/record"
	"culvert/internal/packet/underlay"
	"culvert/internal/testing/simnet"
)

// recorded puts a recorder around a node's endpoint, which is still new.
func (n *node) recorded(dir string, redact bool) *record.Recorder {
	n.w.t.Helper()
	seed := [32]byte{9, 9}
	r, err := record.New(ike.New(seed), record.Options{Dir: dir, Redact: redact, Seed: seed, Build: "test", Start: n.w.clock.Now(),
		Stopped: func(err error) { n.w.t.Errorf("the recording stopped: %v", err) }})
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.plane.Config.Endpoint = r
	return r
}

func (n *node) configureRecorded(r *record.Recorder, text string) {
	n.w.t.Helper()
	r.From(&config.Snapshot{Path: "test.toml", Files: []config.SnapshotFile{{Path: "test.toml", Mode: 0o600, Data: []byte(text)}}}, [2]uint16{500, 4500}, false)
	n.mustConfigure(text)
}

// storm is an hour on a bad network with everything that an operator can do.
func (w *world) storm(r *record.Recorder) {
	w.t.Helper()
	east, west := site(westAddr, "102", "101"), site(eastAddr, "101", "102")
	w.east.mustConfigure(east)
	w.west.configureRecorded(r, west)
	rng := rand.New(rand.NewPCG(4, 2))
	for i := range 120 {
		switch i % 20 {
		case 5:
			w.west.input(core.Command{Do: core.RekeyIKE})
			w.east.input(core.Command{Do: core.RekeyIKE})
		case 9:
			w.west.input(core.Command{Do: core.RekeyChildren})
		case 13:
			w.east.input(core.Command{Do: core.KillAll})
		case 15:
			w.west.configureRecorded(r, "# "+strings.Repeat("another line\n# ", i)+"\n"+west)
		case 17:
			w.west.configureRecorded(r, strings.Replace(west, "aes-128-cbc", []string{"aes-128-gcm", "aes-128-cbc"}[i/20%2], 1))
		case 18:
			w.west.input(core.Command{Do: core.FlushSAs})
		}
		for range rng.IntN(4) {
			w.west.plane.Send(w.clock.Now(), echo("10.1.101.5", "10.1.102.6", uint16(i)))
			w.west.settle()
			w.east.plane.Send(w.clock.Now(), echo("10.1.102.6", "10.1.101.5", uint16(i)))
			w.east.settle()
		}
		w.run(time.Duration(rng.IntN(60)) * time.Second)
		for _, n := range []*node{w.west, w.east} {
			for len(n.device.Outgoing()) > 0 {
				<-n.device.Outgoing()
			}
		}
	}
}

// A recording of a storm plays to the byte, and every change of it shows.
func TestRecordingOfAStorm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storm")
	w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.2, Dup: 0.1, Reorder: 0.1})
	r := w.west.recorded(dir, false)
	w.storm(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Replay(dir, "", nil)
	if err != nil || got.Difference != nil {
		t.Fatalf("%v, %v", got.Difference, err)
	}
	if got.Ended != "closed" || got.Inputs < 500 || got.Outputs < 500 || w.west.count(core.EvIKEUp) < 5 {
		t.Errorf("%+v, %d IKE SAs", got, w.west.count(core.EvIKEUp))
	}
	t.Logf("%d inputs, %d outputs", got.Inputs, got.Outputs)

	path := filepath.Join(dir, record.FileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		bad := bytes.Clone(good)
		i := rng.IntN(len(bad) - 100)
		bad[i] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Replay(dir, "", nil); err == nil && got.Difference == nil {
			t.Errorf("byte %d of %d was changed: %+v", i, len(bad), got)
		}
	}
	// A byte of the peer's first answer: the outputs part there.
	bad := bytes.Clone(good)
	from := bytes.Index(bad, append(eastAddr.AsSlice(), 1, 244)) // 192.0.2.2:500
	bad[from+6+5+40] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = Replay(dir, "", nil)
	if err != nil || got.Difference == nil || !strings.Contains(got.Difference.String(), "Datagram 192.0.2.1:500 from 192.0.2.2:500, IKE_SA_INIT") {
		t.Errorf("%v, %v", got.Difference, err)
	}
}

// The gateway as a process records and plays.
func TestRunRecords(t *testing.T) {
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	dir := filepath.Join(t.TempDir(), "rec")
	east := launch(t, c, "east", eastAddr, passive(site(westAddr, "102", "101")))
	west := launch(t, c, "west", westAddr, site(eastAddr, "101", "102"), func(o *Options) { o.Recording.Dir = dir })
	eventually(t, "established", func() bool {
		rows, err := west.client().InstalledSAs(context.Background(), false)
		return err == nil && len(rows) == 4
	})
	writeFile(t, west.path, "# moved\n"+site(eastAddr, "101", "102"))
	if _, err := west.client().Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := west.end(); err != nil {
		t.Fatal(err)
	}
	if err := east.end(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(west.path); err != nil {
		t.Fatal(err)
	}
	got, err := Replay(dir, "", nil)
	if err != nil || got.Difference != nil || got.Ended != "closed" || got.Inputs < 10 {
		t.Errorf("%+v, %v", got, err)
	}
	if log := west.log.String(); !strings.Contains(log, "the keys of every SA") {
		t.Errorf("no warning in\n%s", log)
	}
}
