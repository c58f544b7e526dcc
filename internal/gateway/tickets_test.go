package gateway

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/internal/packet/underlay"
	"culvert/internal/state/store"
	"culvert/internal/testing/simnet"
)

func resuming(text string) string {
	return strings.Replace(text, "[[profile]]", "[[profile]]\nresumption = true", 1)
}

// outage cuts the network until the west gives its IKE SA up; meanwhile is what
// happens then.
func (w *world) outage(meanwhile func()) {
	w.t.Helper()
	was := w.net
	w.net = simnet.New(1, simnet.Link{Loss: 1})
	before := w.west.count(core.EvPeerDead)
	if !w.clock.RunUntil(w.clock.Now().Add(10*time.Minute), func() bool { return w.west.count(core.EvPeerDead) > before }) {
		w.t.Fatal("the west does not notice that the network is gone")
	}
	if meanwhile != nil {
		meanwhile()
	}
	w.net = was
	w.until("up again", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.run(10 * time.Second)
}

// resumed reports whether both ends have nothing but one resumed IKE SA.
func (w *world) resumed() bool {
	for _, n := range []*node{w.west, w.east} {
		rows := n.view().ActivePeers()
		if len(rows) != 1 || !rows[0].Resumed || rows[0].State != "established" {
			return false
		}
	}
	return true
}

// Two whole gateways: the client loses its network, and then the other gateway is
// killed and started again. It resumes both times, and packets pass. A gateway that
// has lost its state makes a new IKE SA.
func TestGatewaysResume(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
	east, west := resuming(passive(site(westAddr, "102", "101"))), resuming(site(eastAddr, "101", "102"))
	w.east.mustConfigure(east)
	w.west.mustConfigure(west)
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.run(10 * time.Second)
	w.carriesAll()

	w.outage(nil)
	if !w.resumed() {
		t.Fatalf("not resumed after an outage: %v", kinds(w.west.events))
	}
	w.carriesAll()

	kill := func(state bool) func() {
		return func() {
			old := w.east
			if old.timer != nil {
				old.timer.Stop()
			}
			w.east = w.node(eastAddr, 8, 3)
			if state {
				keys, err := readTicketKeys(&old.state)
				if err != nil || len(keys) != 1 {
					t.Fatalf("%d keys, %v", len(keys), err)
				}
				w.east.input(core.TicketKeys{Keys: keys})
			}
			w.east.mustConfigure(east)
		}
	}
	w.outage(kill(true))
	if !w.resumed() {
		t.Fatalf("not resumed by a gateway that was killed: %v", kinds(w.west.events))
	}
	w.carriesAll()

	w.outage(kill(false))
	if w.resumed() || w.west.count(core.EvIKEUp) != 4 {
		t.Errorf("resumed by a gateway without state: %v", kinds(w.west.events))
	}
	w.carriesAll()
	told := false
	for _, e := range w.east.events {
		told = told || e.Kind == core.EvNotify && e.Peer == "other" && e.Exchange == "IKE_SESSION_RESUME" && strings.Contains(e.Reason, "no key")
	}
	if !told {
		t.Errorf("explain peer has nothing to tell: %v", kinds(w.east.events))
	}
}

// The keys are written, all of them and no others, and read again.
func TestTicketKeysAreKept(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	key := func(b byte) core.TicketKey {
		return core.TicketKey{ID: [8]byte{b}, Secret: secret.Bytes(strings.Repeat(string(rune('a'+b)), core.TicketKeyLen)), Since: int64(b)}
	}
	for _, keys := range [][]core.TicketKey{{key(1)}, {key(2), key(1)}, {key(3), key(2)}, nil} {
		if err := writeTicketKeys(s, keys); err != nil {
			t.Fatal(err)
		}
		got, err := readTicketKeys(s)
		if err != nil || len(got) != len(keys) {
			t.Fatalf("%d keys, %v", len(got), err)
		}
		for _, k := range keys {
			found := false
			for _, g := range got {
				found = found || g.ID == k.ID && g.Since == k.Since && g.Secret.Equal(k.Secret)
			}
			if !found {
				t.Errorf("key %d is not there", k.ID[0])
			}
		}
	}
	err = s.Update(func(tx store.Tx) error { return tx.Put(ticketKeys, []byte("short"), []byte("of another version")) })
	if keys, readErr := readTicketKeys(s); err != nil || readErr != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v, %v", len(keys), err, readErr)
	}
}

// kept is a store that outlives the gateways that have it open one after the other.
type kept struct{ store.Store }

func (kept) Close() error { return nil }

// Run keeps the keys in the state store, and the next run goes on with them.
func TestRunKeepsTicketKeys(t *testing.T) {
	var memory store.Memory
	withState := func(o *Options) {
		edges := o.Edges
		o.Edges = func(g *config.Gateway) (Edges, error) {
			e, err := edges(g)
			e.Store = func(string) (store.Store, error) { return kept{&memory}, nil }
			return e, err
		}
	}
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	ctx := context.Background()
	var first []core.TicketKey
	for round := range 2 {
		east := launch(t, c, "east", eastAddr, resuming(passive(site(westAddr, "102", "101"))), withState)
		eventually(t, "the east answering", func() bool { _, err := east.client().Peers(ctx); return err == nil })
		west := launch(t, c, "west", westAddr, resuming(site(eastAddr, "101", "102")), func(o *Options) {
			edges := o.Edges
			o.Edges = func(g *config.Gateway) (Edges, error) {
				e, err := edges(g)
				e.Store = func(string) (store.Store, error) { return &store.Memory{}, nil }
				return e, err
			}
		})
		eventually(t, "both up", func() bool { return west.up() && east.up() })
		var keys []core.TicketKey
		eventually(t, "one key is written", func() (ok bool) {
			var err error
			keys, err = readTicketKeys(&memory)
			return err == nil && len(keys) == 1
		})
		if round == 0 {
			first = keys
		} else if keys[0].ID != first[0].ID || !keys[0].Secret.Equal(first[0].Secret) {
			t.Error("the second run has drawn another key")
		}
		for _, p := range []*process{west, east} {
			if err := p.end(); err != nil {
				t.Error(err)
			}
			if strings.Contains(p.log.String(), first[0].Secret.Reveal()) {
				t.Error("the key is in the log")
			}
		}
	}
}
