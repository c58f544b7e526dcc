package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/internal/host/nlwatch"
)

// restore waits until a change is reported and has it put right.
func restore(t *testing.T, g Guard) (what, by []string) {
	t.Helper()
	select {
	case <-g.(Watcher).Changed():
	case <-time.After(soon):
		t.Fatal("no change was reported")
	}
	what, by, err := g.(Watcher).Restore()
	if err != nil {
		t.Fatal(err)
	}
	return what, by
}

// same wants the kernel to have what was made, to the last expression.
func same(t *testing.T, g Guard, when string) {
	t.Helper()
	if list, err := g.(Watcher).Differences(); err != nil || len(list) > 0 {
		t.Fatalf("%s: %q, %v", when, list, err)
	}
}

// Whatever others remove, change or add in the guard's table is noticed, named and
// put right, and the guard guards again.
func TestGuardRestores(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	defer g.Close()
	apply(t, g, plan(flow("10.1.0.0/24", "10.2.0.0/24"), flow("fd01::/64", "fd02::/64"), flow("10.1.0.0/24", "10.3.0.0/24")))
	same(t, g, "at first")
	replaced := filepath.Join(t.TempDir(), "ruleset") // as firewalld and nftables.service do it
	if err := os.WriteFile(replaced, []byte("flush ruleset\ntable inet other {\n chain input {\n  type filter hook input priority 0\n }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change string
		want   string
	}{
		{"nft flush ruleset", "the guard's table culvert-50500 was removed"},
		{"nft -f " + replaced, "the guard's table culvert-50500 was removed"},
		{"nft delete table inet culvert-50500", "the guard's table culvert-50500 was removed"},
		{"nft flush table inet culvert-50500", "chain "},
		{"nft flush chain inet culvert-50500 drop-in", "chain drop-in of the guard's table culvert-50500 was changed"},
		{"nft delete rule inet culvert-50500 postrouting handle HANDLE", "chain postrouting of the guard's table culvert-50500 was changed"},
		{"nft delete chain inet culvert-50500 input", "chain input of the guard's table culvert-50500 was removed"},
		{"nft delete element inet culvert-50500 in4 { 10.2.0.0/24 }", "map in4 of the guard's table culvert-50500 was changed"},
		{"nft flush map inet culvert-50500 out6", "map out6 of the guard's table culvert-50500 was changed"},
		{"nft insert rule inet culvert-50500 in accept", "chain in of the guard's table culvert-50500 was changed"},
		{"nft add rule inet culvert-50500 out4-0 counter", "chain out4-0 of the guard's table culvert-50500 was changed"},
		{"nft flush chain inet culvert-50500 quote4-0", "chain quote4-0 of the guard's table culvert-50500 was changed"},
		{"nft flush map inet culvert-50500 quote6-of", "map quote6-of of the guard's table culvert-50500 was changed"},
		{"nft delete chain inet culvert-50500 prerouting", "chain prerouting of the guard's table culvert-50500 was removed"},
		{"nft flush chain inet culvert-50500 output", "chain output of the guard's table culvert-50500 was changed"},
		{"nft add chain inet culvert-50500 mine", "chain mine was added to the guard's table culvert-50500"},
		{"nft add set inet culvert-50500 mine { type ipv4_addr ; }", "set mine was added to the guard's table culvert-50500"},
		{"nft add chain inet culvert-50500 forward { policy drop ; }", "chain forward of the guard's table culvert-50500 was changed"},
		{"nft add table inet culvert-50500 { flags dormant ; }", "the flags of the guard's table culvert-50500 were changed"},
		{"nft add table inet culvert-50500-next", "table culvert-50500-next"},
	} {
		change := c.change
		if strings.Contains(change, "HANDLE") {
			out, err := exec.Command("nft", "-a", "list", "chain", "inet", "culvert-50500", "postrouting").CombinedOutput()
			m := regexp.MustCompile(`goto out # handle (\d+)`).FindStringSubmatch(string(out))
			if err != nil || m == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			change = strings.ReplaceAll(change, "HANDLE", m[1])
		}
		w.run(change)
		what, by := restore(t, g)
		if !strings.Contains(strings.Join(what, "; "), c.want) {
			t.Errorf("%s: said %q, want %q", c.change, what, c.want)
		}
		if len(by) != 1 || !strings.HasPrefix(by[0], "nft (process ") {
			t.Errorf("%s: done by %q", c.change, by)
		}
		same(t, g, c.change)
	}
	w.blocks(g, "restored", func() bool { return w.in("10.2.0.1", "10.1.0.1:9000", not) })
	w.blocks(g, "restored", func() bool { return w.out("fd01::1", "[fd02::1]:9000", 0, not) })
}

// Thousands of policies are compared as well, and what is not ours reports nothing.
func TestGuardRestoresMany(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	defer g.Close()
	var flows []Flow
	for i := range 300 {
		f := flow(fmt.Sprintf("10.1.%d.0/24", i%10), fmt.Sprintf("100.%d.%d.0/24", i/64, i%64))
		f.Proto, f.RemotePort, f.Pass = 6, uint16(i), i%3 == 0
		flows = append(flows, f)
	}
	flows = append(flows, flow("10.1.0.0/24", "240.0.0.0/4"), flow("fd01::/64", "ff00::/8"), flow("0.0.0.0/0", "0.0.0.0/0"))
	apply(t, g, plan(flows[1:]...))
	apply(t, g, plan(flows...)) // our own commits have no suspect
	same(t, g, "many")
	w.run("nft add table inet other", "nft delete table inet other", "nft delete element inet culvert-50500 out4 { 100.3.7.0/24 }")
	what, by := restore(t, g)
	if len(what) != 1 || len(by) != 1 || !strings.HasPrefix(by[0], "nft (process ") {
		t.Errorf("%q by %q", what, by)
	}
	same(t, g, "restored")
}

// The guard says what it does with a packet by the table that there is.
func TestJudge(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	defer g.Close()
	apply(t, g, plan(udpPass(flow("10.1.0.0/24", "10.2.0.0/24"), 9000, 0), flow("10.1.0.0/24", "10.2.0.0/24"), flow("fd01::/64", "fd02::/64")))
	packet := func(src, dst string, in bool, device string) Packet {
		f := flow(src, dst)
		return Packet{Src: f.Local.Addr(), Dst: f.Remote.Addr(), Proto: 17, SrcPort: 7777, DstPort: 9001, Inbound: in, Device: device, Local: in, FromUs: !in}
	}
	with := func(p Packet, change func(p *Packet)) Packet {
		change(&p)
		return p
	}
	out, in := packet("10.1.0.1/32", "10.2.0.1/32", false, "eth0"), packet("10.2.0.1/32", "10.1.0.1/32", true, "eth0")
	for _, c := range []struct {
		name  string
		p     Packet
		drop  bool
		chain string
	}{
		{"out", out, true, "drop-out"},
		{"in", in, true, "drop-in"},
		{"for others", with(in, func(p *Packet) { p.Local = false }), true, "drop-in"},
		{"out, IPv6", packet("fd01::1/128", "fd02::1/128", false, "eth0"), true, "drop-out"},
		{"by the device", with(out, func(p *Packet) { p.Device = "culvert0" }), false, "out"},
		{"out of the device", with(in, func(p *Packet) { p.Device = "culvert0" }), false, "in"},
		{"our own", with(out, func(p *Packet) { p.Mark = mark }), false, "out"},
		{"a port that passes", with(in, func(p *Packet) { p.DstPort = 9000 }), false, "in4-0"},
		{"a fragment of it", with(in, func(p *Packet) { p.DstPort, p.Opaque = 9000, true }), true, "drop-in"},
		{"IKE", with(in, func(p *Packet) { p.DstPort = 500 }), false, "spared-in"},
		{"IKE for others", with(in, func(p *Packet) { p.DstPort, p.Local = 500, false }), true, "drop-in"},
		{"another network", packet("10.1.0.1/32", "10.4.0.1/32", false, "eth0"), false, "postrouting"},
	} {
		v, err := g.(Explainer).Judge(c.p)
		if err != nil || v.Drop != c.drop || v.Absent {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
		if c.drop && v.Chain != c.chain {
			t.Errorf("%s: in chain %s, want %s", c.name, v.Chain, c.chain)
		}
	}
	// What this host begins itself by another of its addresses is no answer.
	apply(t, g, plan(own(flow("0.0.0.0/0", "0.0.0.0/0"))))
	if v, err := g.(Explainer).Judge(out); err != nil || !v.Drop {
		t.Errorf("a connection of this host's own: %+v, %v", v, err)
	}
	apply(t, g, plan(flow("10.1.0.0/24", "10.2.0.0/24")))
	// An error's mark is what the last rule of "out" knows it by.
	if v, err := g.(Explainer).Judge(with(packet("10.9.0.1/32", "10.4.0.1/32", false, "eth0"), func(p *Packet) { p.Mark = mark | 1<<30 })); err != nil || !v.Drop {
		t.Errorf("marked as an error that quotes a protected packet: %+v, %v", v, err)
	}
	// It is the kernel that is asked.
	w.run("nft insert rule inet culvert-50500 out accept")
	if v, err := g.(Explainer).Judge(out); err != nil || v.Drop {
		t.Errorf("somebody lets all out: %+v, %v", v, err)
	}
	w.run("nft add table inet culvert-50500 { flags dormant ; }")
	if v, err := g.(Explainer).Judge(in); err != nil || !v.Absent {
		t.Errorf("dormant: %+v, %v", v, err)
	}
	w.run("nft flush ruleset")
	if v, err := g.(Explainer).Judge(out); err != nil || !v.Absent {
		t.Errorf("flushed: %+v, %v", v, err)
	}
}

// Reports are heard where a commit of somebody else touches our table.
func TestReports(t *testing.T) {
	message := func(kind uint16, port uint32, attrs ...byte) *syscall.NetlinkMessage {
		return &syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, Pid: port}, Data: append([]byte{1, 0, 0, 0}, attrs...)}
	}
	named := func(kind uint16, table string) *syscall.NetlinkMessage {
		a := append([]byte{byte(5 + len(table)), 0, unix.NFTA_TABLE_NAME, 0}, table...)
		for a = append(a, 0); len(a)%4 != 0; {
			a = append(a, 0)
		}
		return message(kind, 0, a...)
	}
	generation := func(port uint32) *syscall.NetlinkMessage {
		return message(unix.NFT_MSG_NEWGEN, port, 8, 0, unix.NFTA_GEN_PROC_PID, 0, 0, 0, 0, 12, 8, 0, unix.NFTA_GEN_PROC_NAME, 0, 'n', 'f', 't', 0)
	}
	const ourPort = 7
	for name, c := range map[string]struct {
		messages []*syscall.NetlinkMessage
		want     []bool
		by       string
	}{
		"ours by others":         {[]*syscall.NetlinkMessage{named(unix.NFT_MSG_DELRULE, "culvert-1"), generation(9)}, []bool{false, true}, "nft (process 12)"},
		"the one that stands in": {[]*syscall.NetlinkMessage{named(unix.NFT_MSG_DELTABLE, "culvert-1-next"), generation(9)}, []bool{false, true}, "nft (process 12)"},
		"ours by us":             {[]*syscall.NetlinkMessage{named(unix.NFT_MSG_DELRULE, "culvert-1"), generation(ourPort)}, []bool{false, false}, ""},
		"of others":              {[]*syscall.NetlinkMessage{named(unix.NFT_MSG_DELRULE, "culvert-12"), generation(9)}, []bool{false, false}, ""},
		"ours, then of others":   {[]*syscall.NetlinkMessage{named(unix.NFT_MSG_DELRULE, "culvert-1"), generation(ourPort), named(unix.NFT_MSG_DELRULE, "x"), generation(9)}, []bool{false, false, false, false}, ""},
		"ours, then lost":        {[]*syscall.NetlinkMessage{named(unix.NFT_MSG_DELRULE, "culvert-1"), nil, generation(9)}, []bool{false, true, false}, ""},
		"of another subsystem":   {[]*syscall.NetlinkMessage{{Header: syscall.NlMsghdr{Type: unix.NFNL_SUBSYS_IPSET<<8 | unix.NFT_MSG_DELRULE}, Data: named(unix.NFT_MSG_DELRULE, "culvert-1").Data}, generation(9)}, []bool{false, false}, ""},
		"too short":              {[]*syscall.NetlinkMessage{{Header: syscall.NlMsghdr{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN}}}, []bool{false}, ""},
		"nonsense":               {[]*syscall.NetlinkMessage{message(unix.NFT_MSG_DELRULE, 0, 99, 0, 1, 0)}, []bool{true}, ""},
	} {
		o, w := &ours{name: "culvert-1", port: ourPort}, &nlwatch.Watch{}
		var got []bool
		for _, m := range c.messages {
			got = append(got, o.judge(w, m))
		}
		if by := strings.Join(w.Suspects(), ", "); !slices.Equal(got, c.want) || by != c.by {
			t.Errorf("%s: %v by %q, want %v by %q", name, got, by, c.want, c.by)
		}
	}
}
