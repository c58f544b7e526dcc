package gateway

import (
	"encoding/json"
	"testing"
	"time"

	"culvert/internal/operate/control"
	"culvert/internal/state/store"
	"culvert/internal/testing/simnet"
)

const fuzzPolicies = byHand + `[[policy]]
src-address = "10.1.0.0/16"
dst-address = "10.4.0.0/16"
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.2"
tunnel = true
ipsec-protocols = ["ah", "esp"]
[[policy]]
src-address = "192.0.2.1/32"
dst-address = "192.0.2.2/32"
sa-src-address = "192.0.2.1"
sa-dst-address = "192.0.2.2"
tunnel = false
ipsec-protocols = ["ah"]
`

// still is a gateway without goroutines, for calls that people make.
func still(t *testing.T, text string) *gateway {
	w := newWorld(t, simnet.Link{})
	w.west.conn.WithRaw()
	w.west.mustConfigure(text)
	return &gateway{plane: w.west.plane, cfg: w.west.cfg, compiled: w.west.comp, edges: Edges{Conn: w.west.conn}}
}

// FuzzAddSA: an SA that somebody adds is there, in both directions, or is refused and
// leaves nothing behind.
func FuzzAddSA(f *testing.F) {
	for _, s := range []string{
		`{"policy":1,"replay-window":128,"udp":true,"esp":{"spi-in":4097,"spi-out":4098,"enc-algorithm":"aes-128-gcm","enc-key-in":"0101010101010101010101010101010101010101","enc-key-out":"0x0202020202020202020202020202020202020202"}}`,
		`{"policy":1,"replay-window":4096,"esp":{"spi-in":4097,"spi-out":4098,"enc-algorithm":"null","auth-algorithm":"md5","auth-key-in":"01010101010101010101010101010101","auth-key-out":"01010101010101010101010101010101"}}`,
		`{"policy":4,"esn":true,"replay-window":64,"lifetime":1000000000,"ah":{"spi-in":4097,"spi-out":4098,"auth-algorithm":"md5","auth-key-in":"01010101010101010101010101010101","auth-key-out":"01010101010101010101010101010101"}}`,
		`{"policy":3,"replay-window":32,"lifebytes":1000,"esp":{"spi-in":4097,"spi-out":4098,"enc-algorithm":"null","auth-algorithm":"md5","auth-key-in":"01010101010101010101010101010101","auth-key-out":"01010101010101010101010101010101"},"ah":{"spi-in":4099,"spi-out":4100,"auth-algorithm":"md5","auth-key-in":"01010101010101010101010101010101","auth-key-out":"01010101010101010101010101010101"}}`,
		`{"policy":2,"lifetime":-1}`,
	} {
		f.Add([]byte(s))
	}
	var g *gateway
	f.Fuzz(func(t *testing.T, text []byte) {
		if g == nil {
			g = still(t, fuzzPolicies)
		}
		var sa control.ManualSA
		if json.Unmarshal(text, &sa) != nil {
			return
		}
		_, err := g.addSA(start, sa)
		want := 0
		if err == nil {
			for _, k := range []*control.ManualKeys{sa.ESP, sa.AH} {
				if k == nil {
					continue
				}
				want++
				if in := g.plane.SAs.Inbound(k.SPIIn); in == nil || !in.Child().Manual() {
					t.Fatalf("%s: no SA", text)
				}
			}
		}
		if n := len(g.plane.SAs.Children()); n != want || err == nil && want == 0 {
			t.Fatalf("%s: %d SAs, %v", text, n, err)
		}
		for _, row := range planeView(g.plane, g.cfg, g.compiled, start.Add(time.Hour)).InstalledSAs(true) {
			if row.SPI == "" {
				t.Fatalf("%s: %+v", text, row)
			}
		}
		g.dropManual(true)
		if n := len(g.plane.SAs.Children()); n != 0 {
			t.Fatalf("%s: %d SAs are left", text, n)
		}
	})
}

// FuzzExplainPacket: a packet as people write it is explained or refused.
func FuzzExplainPacket(f *testing.F) {
	f.Add("10.1.0.1", "10.2.0.1", "udp", 1, 2, false, false, "")
	f.Add("10.1.0.1", "10.3.0.1", "icmp", 8, 0, false, false, "")
	f.Add("10.2.0.1", "10.1.0.1", "tcp", 80, 1024, true, true, "0x1001")
	f.Add("fd00::1%eth0", "::ffff:10.2.0.1", "47", 0, 0, true, false, "4097")
	var g *gateway
	f.Fuzz(func(t *testing.T, src, dst, protocol string, from, to int, inbound, fragment bool, spi string) {
		if g == nil {
			g = still(t, fuzzPolicies)
			if _, err := g.addSA(start, control.ManualSA{Policy: 1, UDP: true, ReplayWindow: 128, ESP: &control.ManualKeys{SPIIn: 0x1001, SPIOut: 0x1002, EncAlgorithm: "aes-128-gcm",
				EncKeyIn: "0101010101010101010101010101010101010101", EncKeyOut: "0101010101010101010101010101010101010101"}}); err != nil {
				t.Fatal(err)
			}
		}
		q := control.PacketQuery{Src: src, Dst: dst, Protocol: protocol, SrcPort: from, DstPort: to, Inbound: inbound, Fragment: fragment, SPI: spi}
		x, err := planeView(g.plane, g.cfg, g.compiled, start).ExplainPacket(q)
		if err == nil && (x.Verdict == "" || len(x.Why) == 0) {
			t.Fatalf("%+v: %+v", q, x)
		}
	})
}

// FuzzTicketKeys: what is in the store of an earlier run is a key or nothing.
func FuzzTicketKeys(f *testing.F) {
	f.Add([]byte("12345678"), make([]byte, 40))
	f.Fuzz(func(t *testing.T, id, value []byte) {
		var s store.Memory
		if err := s.Update(func(tx store.Tx) error { return tx.Put(ticketKeys, id, value) }); err != nil {
			return
		}
		keys, err := readTicketKeys(&s)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeTicketKeys(&s, keys); err != nil {
			t.Fatal(err)
		}
		again, err := readTicketKeys(&s)
		if err != nil || len(again) != len(keys) {
			t.Fatalf("%d keys became %d, %v", len(keys), len(again), err)
		}
	})
}
