package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"culvert/internal/operate/control"
)

func (g *tables) ExplainPeer(_ context.Context, name string) (control.PeerExplanation, error) {
	if name == "fresh" {
		return control.PeerExplanation{Peer: name, Address: "192.0.2.9/32", State: "down", Note: "passive: the other side has to begin",
			SAs:    []control.PeerSA{{State: "established", Side: "initiator", LocalAddress: "192.168.90.1:500", RemoteAddress: "192.0.2.9:500", Since: 2, PathMTU: 1500}},
			Offers: []control.Offering{{What: `IKE, profile "default"`, Lines: []string{"encryption: aes-128", "group: modp2048"}}}}, g.fault
	}
	return control.PeerExplanation{Peer: name, Where: "site.toml:14", Address: "192.168.80.1/32", State: "connecting",
		SAs: []control.PeerSA{{State: "connecting", Side: "initiator", LocalAddress: "192.168.90.1:500", RemoteAddress: "192.168.80.1:500", Since: 2, PathMTU: 1380, Measured: 1400, MeasuredAgo: 600},
			{State: "established", Side: "responder", LocalAddress: "192.168.90.1:4500", RemoteAddress: "192.168.80.1:4500", Since: 3720, Children: 1, MyID: "192.168.90.1", ID: "site2.example.net",
				PathMTU: 1400, Measured: 1400, MeasuredAgo: 125,
				Negotiated: control.Negotiated{EncAlgorithm: "aes-256-gcm", PRFAlgorithm: "sha384", DHGroup: "x25519+ml-kem-768", RekeyIn: 5400}}},
		Policies: []string{"policy 1 (site.toml:26): 10.1.202.0/24 => 10.1.101.0/24"},
		Attempts: []control.Attempt{{
			Ago: 12, Times: 3, Since: "2026-01-02T03:04:05Z", Side: "responder", LocalAddress: "192.168.90.1:500", RemoteAddress: "192.168.80.1:500",
			Exchange: "IKE_SA_INIT", Result: "no-proposal-chosen", Reason: "refused the peer's IKE_SA_INIT", What: "IKE proposal", Part: "encryption",
			Ours: []string{"encryption: aes-128", "prf: sha256"}, Theirs: []string{"encryption: 3des, aes-256", "prf: sha256"},
			Hint: `encryption: we allow aes-128, the peer offers 3des, aes-256: add aes-256 to enc-algorithm of profile "ike2-site2" (site.toml:4)`,
		}, {
			Ago: 3720, Times: 1, Side: "initiator", Result: "initiation-failed", Reason: "no route to 192.168.80.1\x1b[2J: check the host's routes or set local-address",
		}}}, g.fault
}

func (g *tables) ExplainPacket(_ context.Context, q control.PacketQuery) (control.PacketExplanation, error) {
	g.asked = q
	return control.PacketExplanation{Packet: "10.1.202.5:0 => 10.1.101.7:443 tcp", Verdict: "protect", Policy: 1,
		Why: []string{"policy 1 (site.toml:26) is the first that matches: 10.1.202.0/24 => 10.1.101.0/24, action encrypt, level require, peer site2",
			"it leaves through the SA 0x0ABC1234 of peer site2, mature, 192.168.90.1:4500 to 192.168.80.1:4500, which covers 10.1.202.0/24 => 10.1.101.0/24"}}, g.fault
}

func TestExplain(t *testing.T) {
	g := sample()
	serve(t, g)
	for _, c := range []struct{ name, args string }{
		{"explain-peer.txt", "explain peer site2"},
		{"explain-peer-fresh.txt", "explain peer fresh"},
		{"explain-packet.txt", "explain packet --src 10.1.202.5 --dst 10.1.101.7 --protocol tcp --dst-port 443"},
	} {
		code, out, stderr := call(strings.Fields(c.args)...)
		if code != exitOK || stderr != "" {
			t.Errorf("%s: %d %s", c.args, code, stderr)
		}
		golden(t, c.name, out)
	}
	if want := (control.PacketQuery{Src: "10.1.202.5", Dst: "10.1.101.7", Protocol: "tcp", DstPort: 443}); g.asked != want {
		t.Errorf("asked for %+v, want %+v", g.asked, want)
	}
	_, out, _ := call("explain", "peer", "site2", "--json")
	var x control.PeerExplanation
	if err := json.Unmarshal([]byte(out), &x); err != nil || len(x.Attempts) != 2 || x.Attempts[0].Part != "encryption" {
		t.Errorf("%v: %s", err, out)
	}
	for _, c := range []struct {
		args string
		want control.PacketQuery
	}{ // a ping, unless a type or a code is given
		{"--protocol icmp", control.PacketQuery{Protocol: "icmp", SrcPort: 8}},
		{"--protocol 1 --inbound", control.PacketQuery{Protocol: "1", SrcPort: 8, Inbound: true}},
		{"--protocol icmpv6", control.PacketQuery{Protocol: "icmpv6", SrcPort: 128}},
		{"--protocol icmp --src-port 0", control.PacketQuery{Protocol: "icmp"}},
		{"--protocol icmp --dst-port 0", control.PacketQuery{Protocol: "icmp"}},
		{"--protocol icmp --src-port 3 --dst-port 4", control.PacketQuery{Protocol: "icmp", SrcPort: 3, DstPort: 4}},
		{"--protocol icmp --fragment", control.PacketQuery{Protocol: "icmp", Fragment: true}},
		{"--protocol udp", control.PacketQuery{Protocol: "udp"}},
	} {
		call(strings.Fields("explain packet --src 10.0.0.1 --dst 10.0.0.2 " + c.args)...)
		c.want.Src, c.want.Dst = "10.0.0.1", "10.0.0.2"
		if g.asked != c.want {
			t.Errorf("%s: asked for %+v, want %+v", c.args, g.asked, c.want)
		}
	}
	call(strings.Fields("explain packet --src 10.1.101.7 --dst 10.1.202.5 --protocol icmp --src-port 8 --inbound --spi 0x0ABC1234 --fragment --json")...)
	if want := (control.PacketQuery{Src: "10.1.101.7", Dst: "10.1.202.5", Protocol: "icmp", SrcPort: 8, Inbound: true, SPI: "0x0ABC1234", Fragment: true}); g.asked != want {
		t.Errorf("asked for %+v, want %+v", g.asked, want)
	}
	if code, _, stderr := call("explain", "packet", "--src", "10.0.0.1"); code != exitUsage || !strings.Contains(stderr, "--dst") {
		t.Errorf("half a packet: %d %s", code, stderr)
	}
}

// Lines for people fit 80 columns, or the terminal where that is narrower, and nothing
// is lost; what has no space stays whole.
func TestExplainFolds(t *testing.T) {
	for _, c := range []struct {
		width, indent int
		text, want    string
	}{
		{20, 0, "short", "short\n"},
		{20, 0, "exactly twenty chars", "exactly twenty chars\n"},
		{20, 0, "one two three four five", "one two three four\n    five\n"},
		{20, 1, "one two three four five six", "  one two three four\n      five six\n"},
		{20, 0, "a-word-that-is-longer-than-the-line b", "a-word-that-is-longer-than-the-line\n    b\n"},
		{20, 0, "grün grün grün grün", "grün grün grün grün\n"},
		{0, 0, strings.Repeat("x ", 39) + "xx", strings.Repeat("x ", 39) + "xx\n"},
		{0, 0, strings.Repeat("x ", 39) + "xxx", strings.Repeat("x ", 38) + "x\n    xxx\n"},
		{200, 0, strings.Repeat("x ", 39) + "xxx", strings.Repeat("x ", 38) + "x\n    xxx\n"},
	} {
		w := text{width: c.width}
		w.line(c.indent, "%s", c.text)
		if got := w.b.String(); got != c.want {
			t.Errorf("%d columns: %q, want %q", c.width, got, c.want)
		}
	}
	serve(t, sample())
	_, out, _ := call("explain", "peer", "site2")
	for line := range strings.Lines(out) {
		if n := len([]rune(line)) - 1; n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// Every verdict has its words, and what it assumes stands behind them.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct{ verdict, assumes, want string }{
		{"protect", "the host routes it to culvert0", "protected and sent to the peer, if the host routes it to culvert0"},
		{"deliver", "", "accepted"},
		{"drop", "", "dropped"},
		{"hold", "", "held until all fragments have arrived"},
		{"pass-unprotected", "the host does not route it to culvert0", "sent in clear, by the host's own routes, if the host does not route it to culvert0"},
		{"local", "", "delivered to this host itself"},
		{"unknown", "", "not known"},
	} {
		if got := verdictText(&control.PacketExplanation{Verdict: c.verdict, Assumes: c.assumes}); got != c.want {
			t.Errorf("%s: %q", c.verdict, got)
		}
	}
}
