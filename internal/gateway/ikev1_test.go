package gateway

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/operate/control"
	"culvert/internal/testing/simnet"
)

// inIKEv1 makes of the site's configuration one in main mode, or another mode of IKEv1.
func inIKEv1(text, mode string) string {
	return strings.NewReplacer(`exchange-mode = "ike2"`, `exchange-mode = "`+mode+`"`, "x25519", "ecp256").Replace(text)
}

// logsIn has a client of IKEv1 log in, and asks for an address; asksFor is the gateway that lets users in and gives it.
func logsIn(text, user, password string) string {
	return strings.Replace(text, `secret = "thisisnotasecurepsk"`, fmt.Sprintf("secret = \"thisisnotasecurepsk\"\nauth-method = \"pre-shared-key-xauth\"\nusername = %q\npassword = %q\nmode-config = \"request-only\"", user, password), 1)
}

func asksFor(text, user, password string) string {
	text = strings.Replace(text, `secret = "thisisnotasecurepsk"`, "secret = \"thisisnotasecurepsk\"\nauth-method = \"pre-shared-key-xauth\"\nmode-config = \"rw\"", 1)
	return passive(text) + fmt.Sprintf("\n[[user]]\nname = %q\npassword = %q\n[[pool]]\nname = \"rw\"\nranges = [\"192.168.77.2-192.168.77.9\"]\n[[mode-config]]\nname = \"rw\"\naddress-pool = \"rw\"\n", user, password)
}

// Recordings of IKEv1 play, in each mode, at both ends of XAuth and mode config, and through rekeys of both phases. One without secrets
// has no password.
func TestRecordingOfIKEv1(t *testing.T) {
	const password = "correct-horse-battery"
	for _, mode := range []string{"main", "aggressive", "base"} {
		for _, west := range []string{"client", "server"} {
			for _, redact := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/redacted %v", mode, west, redact), func(t *testing.T) {
					dir := filepath.Join(t.TempDir(), "rec")
					w := newWorld(t, simnet.Link{Delay: 30 * time.Millisecond, Loss: 0.1, Dup: 0.1})
					texts := []string{asksFor(inIKEv1(site(eastAddr, "101", "102"), mode), "anna", password), logsIn(inIKEv1(site(westAddr, "102", "101"), mode), "anna", password)}
					if west == "client" {
						texts = []string{logsIn(inIKEv1(site(eastAddr, "101", "102"), mode), "anna", password), asksFor(inIKEv1(site(westAddr, "102", "101"), mode), "anna", password)}
					}
					r, g := w.west.recorded(dir, false), (*gleaner)(nil)
					if redact {
						if err := r.Close(); err != nil {
							t.Fatal(err)
						}
						dir += "2"
						r, g = w.redacted(dir)
					}
					w.east.mustConfigure(texts[1])
					w.west.configureRecorded(r, texts[0])
					w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
					for _, do := range []core.CommandKind{core.RekeyChildren, core.RekeyIKE, core.FlushSAs} {
						w.run(10 * time.Second)
						w.west.input(core.Command{Do: do})
						w.run(10 * time.Second)
						w.east.input(core.Command{Do: do})
					}
					w.run(time.Minute)
					if err := r.Close(); err != nil {
						t.Fatal(err)
					}
					var lines []string
					got, err := Replay(dir, "", func(_ time.Time, text string) { lines = append(lines, text) })
					if err != nil || got.Difference != nil || got.Redacted != redact || got.Inputs < 40 {
						t.Fatalf("%+v, %v, %v", got, got.Difference, err)
					}
					if !redact {
						return
					}
					g.clean(t, dir, "thisisnotasecurepsk", password)
					all := strings.Join(lines, "\n")
					for _, want := range []string{"in clear: " + mode + " mode", "in clear: quick mode", "HASH(32 bytes), SA(1: protocol 3 12 ", "in clear: transaction", "{HASH(32 bytes), ATTRIBUTES(kind ", "Event ike-up", "Event child-rekeyed"} {
						if !strings.Contains(all, want) {
							t.Errorf("%q is missing in\n%s", want, all[:min(len(all), 3000)])
						}
					}
				})
			}
		}
	}
}

// What the commands print of IKEv1: who the peer is, also as a user, what was negotiated in both phases, and that phase 1 is over while
// the CHILD SAs go on.
func TestPrintedOfIKEv1(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	short := func(text string) string {
		text = strings.Replace(text, "[[profile]]\n", "[[profile]]\nlifetime = \"10m\"\ndpd-interval = \"disable-dpd\"\n", 1)
		return strings.Replace(text, "[[proposal]]\n", "[[proposal]]\nlifetime = \"8h\"\n", 1)
	}
	w.west.mustConfigure(short(asksFor(inIKEv1(site(eastAddr, "101", "102"), "main"), "anna", "correct horse")))
	w.east.mustConfigure(short(logsIn(inIKEv1(site(westAddr, "102", "101"), "main"), "anna", "correct horse")))
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	check := func(state string) {
		t.Helper()
		for _, n := range []*node{w.west, w.east} {
			user, side := "", "initiator"
			if n == w.west {
				user, side = "anna", "responder"
			}
			rows := n.view().ActivePeers()
			if len(rows) != 1 {
				t.Fatalf("%+v", rows)
			}
			p := rows[0]
			if p.State != state || p.User != user || p.Side != side || p.Ph2Total != 2 || p.Peer != "other" || p.DynamicAddress == "" || p.EncAlgorithm != "aes-128" || p.HashAlgorithm != "sha256" || p.DHGroup != "ecp256" {
				t.Errorf("%+v", p)
			}
			if (p.RekeyIn == 0) != (state == "expired") {
				t.Errorf("%s, and to be rekeyed in %v", state, p.RekeyIn)
			}
			sas := n.view().InstalledSAs(false)
			if len(sas) != 4 || slices.ContainsFunc(sas, func(s control.InstalledSA) bool {
				return s.State != "mature" || !s.ESP || s.EncAlgorithm != "aes-cbc" || s.AuthAlgorithm != "sha256" || s.SrcAddress == "" || s.DstAddress == ""
			}) {
				t.Errorf("%+v", sas)
			}
			x, err := n.view().ExplainPeer("other")
			if err != nil || x.State != state || len(x.SAs) != 1 || x.SAs[0].State != state || x.SAs[0].Children != 2 || x.SAs[0].DHGroup != "ecp256" {
				t.Errorf("%+v, %v", x, err)
			}
			if strings.Contains(x.Note, "phase 1 is over") != (state == "expired") {
				t.Errorf("%s: %q", state, x.Note)
			}
		}
	}
	check("established")
	w.run(20 * time.Minute)
	check("expired")
}

// Why there is no tunnel by IKEv1, as `explain peer` says it.
func TestExplainPeerOfIKEv1(t *testing.T) {
	for name, c := range map[string]struct {
		west, east [2]string // what is written otherwise
		what       string    // of the west's attempts
		ours       string
		theirs     string
		hint       string
	}{
		"another group":    {east: [2]string{"dh-group = \"ecp256\"", "dh-group = \"modp2048\""}, what: "profile", ours: "ecp256", theirs: "modp2048", hint: "dh-group"},
		"another proposal": {east: [2]string{"aes-128-cbc", "aes-256-cbc"}, what: "proposal", ours: "aes-128-cbc", theirs: "aes-256-cbc", hint: "enc-algorithms"},
		"a wrong secret":   {east: [2]string{"thisisnotasecurepsk", "anotherone"}, hint: "secret"},
	} {
		w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
		west, east := passive(inIKEv1(site(eastAddr, "101", "102"), "main")), inIKEv1(site(westAddr, "102", "101"), "main")
		w.west.mustConfigure(strings.ReplaceAll(west, c.west[0], c.west[1]))
		w.east.mustConfigure(strings.ReplaceAll(east, c.east[0], c.east[1]))
		w.run(20 * time.Second)
		v := w.west.view()
		v.Attempts.Configured(w.west.comp)
		for _, e := range w.west.events {
			v.Attempts.Note(w.clock.Now(), e)
		}
		x, err := v.ExplainPeer("other")
		if err != nil || len(x.Attempts) == 0 {
			t.Errorf("%s: %+v, %v", name, x, err)
			continue
		}
		text := ""
		for _, a := range x.Attempts {
			text += fmt.Sprintln(a.What, a.Reason, a.Ours, a.Theirs, a.Hint)
		}
		for _, want := range []string{c.what, c.ours, c.theirs, c.hint} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in %s", name, want, text)
			}
		}
	}
}
