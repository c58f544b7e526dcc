package gateway

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
)

// hostToHost makes of the site's configuration one with a transport mode policy.
func hostToHost(here, peer netip.Addr, replace ...string) string {
	text := site(peer, "101", "102")
	text = text[:strings.Index(text, "[[policy]]")]
	text += "[[policy]]\npeer = \"other\"\nsrc-address = \"" + here.String() + "\"\ndst-address = \"" + peer.String() +
		"\"\nproposal = \"ike2\"\ntunnel = false\nipsec-protocols = [\"esp\"]\n"
	return strings.NewReplacer(replace...).Replace(text)
}

// Transport mode and AH are negotiated and carry packets both ways, through a
// rekey too: without UDP where the sockets can, in UDP where they cannot.
func TestModesAreNegotiated(t *testing.T) {
	ah := []string{`["esp"]`, `["ah"]`}
	both := []string{`["esp"]`, `["esp", "ah"]`, `exchange-mode = "ike2"`, `exchange-mode = "main"`, `dh-group = "x25519"`, `dh-group = "ecp256"`, `pfs-group = "x25519"`, `pfs-group = "ecp256"`}
	for name, c := range map[string]struct {
		raw     bool
		proto   uint16 // that carries it; 0: UDP
		replace []string
	}{
		"ESP transport in UDP":   {false, 0, nil},
		"ESP transport":          {true, wire.ProtoESP, nil},
		"ESP transport but UDP":  {true, 0, []string{"[[profile]]", "[gateway]\nencapsulation = \"udp\"\n[[profile]]"}},
		"ESP transport, AES-GCM": {true, wire.ProtoESP, []string{"aes-128-cbc", "aes-256-gcm"}},
		"AH transport":           {true, wire.ProtoAH, ah},
		"ESP tunnel":             {true, 0, []string{"tunnel = false", "tunnel = true"}}, // between two Culverts
		"ESP tunnel but raw":     {true, wire.ProtoESP, []string{"tunnel = false", "tunnel = true", "[[profile]]", "[gateway]\nencapsulation = \"raw\"\n[[profile]]"}},
		"AH tunnel":              {true, wire.ProtoAH, append([]string{"tunnel = false", "tunnel = true"}, ah...)},
		"AH with ESP transport":  {true, wire.ProtoAH, both},
		"AH with ESP tunnel":     {true, wire.ProtoAH, append([]string{"tunnel = false", "tunnel = true"}, both...)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
			if c.raw {
				w.west.conn.WithRaw()
				w.east.conn.WithRaw()
			}
			if err := w.west.configure(hostToHost(westAddr, eastAddr, c.replace...)); err != nil {
				t.Fatal(err)
			}
			if err := w.east.configure(hostToHost(eastAddr, westAddr, c.replace...)); err != nil {
				t.Fatal(err)
			}
			w.clock.Run(w.clock.Now().Add(3 * time.Second))
			exchange := func() {
				t.Helper()
				for _, n := range []*node{w.west, w.east} {
					far := w.west
					if n == w.west {
						far = w.east
					}
					for drained := false; !drained; {
						select {
						case <-far.device.Outgoing():
						default:
							drained = true
						}
					}
					echo := wire.AppendEcho(nil, n.addr, far.addr, false, 1, 7, bytes.Repeat([]byte{5}, 500))
					if r := n.plane.Send(w.clock.Now(), echo); r != datapath.Passed {
						t.Fatalf("%v: %v, events %v", n.addr, r, n.events)
					}
					w.clock.Run(w.clock.Now().Add(time.Second))
					select {
					case got := <-far.device.Outgoing():
						if !bytes.Equal(got[28:], echo[28:]) || got[9] != wire.ProtoICMP {
							t.Fatalf("%x, want %x", got, echo)
						}
					default:
						t.Fatalf("nothing arrived at %v: %+v", far.addr, far.plane.Path.Counters().Snapshot())
					}
				}
			}
			exchange()
			for i := range 2 {
				if proto := []uint16{wire.ProtoESP, wire.ProtoAH}[i]; (w.raw[proto] > 0) != (c.proto == proto) {
					t.Errorf("%d packets of protocol %d", w.raw[proto], proto)
				}
			}
			w.clock.Run(w.clock.Now().Add(40 * time.Minute)) // the proposal's lifetime is 30 minutes
			exchange()
			var protocols [2]int // rows of ESP, of AH
			for _, r := range w.west.installed() {
				if r.State == "" {
					t.Errorf("%+v", r)
				}
				if protocols[1]++; r.ESP {
					protocols[0], protocols[1] = protocols[0]+1, protocols[1]-1
				}
			}
			all := strings.Join(c.replace, "")
			if esp, ah := !strings.Contains(all, `["ah"]`), strings.Contains(all, `"ah"`); protocols[0] > 0 != esp || protocols[1] > 0 != ah {
				t.Errorf("%d SAs of ESP, %d of AH", protocols[0], protocols[1])
			}
		})
	}
}

// One side wants a tunnel, the other transport mode: there is no CHILD SA, and
// the reason says where they differ.
func TestModesThatDiffer(t *testing.T) {
	for _, tunnelWest := range []bool{false, true} {
		w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
		texts := []string{hostToHost(westAddr, eastAddr), hostToHost(eastAddr, westAddr)}
		i := 1
		if tunnelWest {
			i = 0
		}
		texts[i] = strings.Replace(texts[i], "tunnel = false", "tunnel = true", 1)
		for j, n := range []*node{w.west, w.east} {
			if err := n.configure(texts[j]); err != nil {
				t.Fatal(err)
			}
		}
		w.clock.Run(w.clock.Now().Add(3 * time.Second))
		said := ""
		for _, n := range []*node{w.west, w.east} {
			for _, e := range n.events {
				said += e.Reason + "\n"
			}
			if n.plane.SAs.Len() != 0 && !tunnelWest {
				t.Errorf("%v has %d CHILD SAs", n.addr, n.plane.SAs.Len())
			}
		}
		if !strings.Contains(said, "tunnel differs on the two sides") {
			t.Errorf("tunnel in the west %v: %s", tunnelWest, said)
		}
	}
}

func (n *node) installed() []struct {
	ESP   bool
	State string
} {
	var rows []struct {
		ESP   bool
		State string
	}
	for _, r := range n.view().InstalledSAs(false) {
		rows = append(rows, struct {
			ESP   bool
			State string
		}{r.ESP, r.State})
	}
	return rows
}

// A firewall drops IP protocol 50 and lets IKE pass: within ten seconds of pings ESP goes in UDP, and explain peer says why
// nothing came where the peer has to begin.
func TestESPIsBlocked(t *testing.T) {
	for _, passive := range []bool{false, true} {
		w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
		w.west.conn.WithRaw()
		w.east.conn.WithRaw()
		west, east := hostToHost(westAddr, eastAddr), hostToHost(eastAddr, westAddr)
		if passive {
			west = replaceOnce(t, west, "[[identity]]", "passive = true\n[[identity]]")
		} else {
			east = replaceOnce(t, east, "[[identity]]", "passive = true\n[[identity]]")
		}
		w.west.mustConfigure(west)
		w.east.mustConfigure(east)
		w.run(3 * time.Second)
		w.blocks = wire.ProtoESP
		arrived := 0
		for i := range 12 {
			echo := wire.AppendEcho(nil, westAddr, eastAddr, false, 1, uint16(i), make([]byte, 40))
			w.west.plane.Send(w.clock.Now(), echo)
			w.west.settle()
			w.run(time.Second)
			for len(w.east.device.Outgoing()) > 0 {
				<-w.east.device.Outgoing()
				arrived++
			}
		}
		x, err := w.west.view().ExplainPeer("other")
		if err != nil {
			t.Fatal(err)
		}
		if told := w.west.count(core.EvESPBlocked); told != 1 {
			t.Errorf("passive %v: told %d times", passive, told)
		}
		if passive != (arrived == 0) || passive != strings.Contains(x.Note, "nothing of it comes by ESP") || !passive && arrived < 3 {
			t.Errorf("passive %v: %d packets arrived; explain peer says %q", passive, arrived, x.Note)
		}
	}
}
