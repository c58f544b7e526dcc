package gateway

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/gateway/view"
	"culvert/internal/host/guard"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

// kernel is a host's kernel as explain asks it.
type kernel struct {
	ways  func(tun.Query) tun.Decision
	guard func(guard.Packet) guard.Verdict
	asked []tun.Query
	fail  error
}

func (k *kernel) Lookup(q tun.Query) (tun.Decision, error) {
	k.asked = append(k.asked, q)
	return k.ways(q), k.fail
}

func (k *kernel) Judge(p guard.Packet) (guard.Verdict, error) { return k.guard(p), k.fail }

const mark = 0xC0150

// asPlanned is a gateway's kernel when all is well: 10.1.101.0/24 is behind lan0, the
// world behind eth0, and the policies' traffic goes to the device.
func asPlanned(q tun.Query) tun.Decision {
	far := netip.MustParsePrefix("10.1.102.0/24")
	switch {
	case q.Mark == mark:
		return tun.Decision{Device: "eth0", Table: 254, Gateway: netip.MustParseAddr("192.0.2.254"), Src: westAddr}
	case q.Dst == netip.MustParseAddr("10.1.101.1") || q.Dst == westAddr:
		return tun.Decision{Device: "lo", Table: 255, Local: true}
	case netip.MustParsePrefix("10.1.101.0/24").Contains(q.Dst):
		return tun.Decision{Device: "lan0", Table: 254}
	case far.Contains(q.Dst):
		return tun.Decision{Device: "culvert0", Table: 50500}
	}
	return tun.Decision{Device: "eth0", Table: 254, Gateway: netip.MustParseAddr("192.0.2.254")}
}

func guards(p guard.Packet) guard.Verdict {
	far := netip.MustParsePrefix("10.1.102.0/24")
	if far.Contains(p.Src) || far.Contains(p.Dst) {
		return guard.Verdict{Drop: true, Chain: "drop-out"}
	}
	return guard.Verdict{Chain: "postrouting"}
}

// What becomes of a packet is what the kernel does with it, whatever was planned.
func TestExplainTheKernel(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	past := func(q tun.Query) tun.Decision { // the rules were flushed
		if way := asPlanned(q); way.Device != "culvert0" {
			return way
		}
		return tun.Decision{Device: "eth0", Table: 254}
	}
	none := func(guard.Packet) guard.Verdict { return guard.Verdict{Absent: true} }
	nowhere := func(q tun.Query) tun.Decision {
		if way := asPlanned(q); way.Device != "culvert0" {
			return way
		}
		return tun.Decision{Nowhere: "unreachable"}
	}
	differ := []string{"5 rules were removed"}
	for _, c := range []struct {
		name    string
		query   string
		inbound bool
		ways    func(tun.Query) tun.Decision
		guard   func(guard.Packet) guard.Verdict
		differ  []string
		verdict string
		counter string
		device  string
		want    []string
	}{
		{"as planned", "10.1.101.5 10.1.102.6 tcp 443", false, asPlanned, guards, nil, "protect", "", "culvert0",
			[]string{"the kernel routes it, which arrives on lan0, to culvert0, table 50500", "it leaves through the SA 0x"}},
		{"from this host", "10.1.101.1 10.1.102.6 tcp 443", false, asPlanned, guards, nil, "protect", "", "culvert0", []string{"the kernel routes it to culvert0, table 50500"}},
		{"without rules", "10.1.101.5 10.1.102.6 tcp 443", false, past, guards, differ, "drop", "guard-out", "eth0",
			[]string{"to eth0, table 254", "it does not reach culvert0: it leaves through eth0 in clear, and the guard drops it there (chain drop-out)", "not as the gateway has set it up, and the gateway is repairing it: 5 rules were removed"}},
		{"without both", "10.1.101.5 10.1.102.6 tcp 443", false, past, none, differ, "pass-unprotected", "", "eth0", []string{"in clear, and no guard is in force"}},
		{"without the device's routes", "10.1.101.5 10.1.102.6 tcp 443", false, nowhere, guards, differ, "drop", "", "", []string{"nowhere: unreachable", "the kernel drops it (unreachable)"}},
		{"no policy", "10.1.101.5 10.1.103.6 udp 53", false, asPlanned, guards, nil, "pass-unprotected", "out-policy-errors", "eth0",
			[]string{"to eth0 via 192.0.2.254, table 254", "it leaves through eth0 in clear, and the guard allows it"}},
		{"into the device without a policy", "10.1.101.5 10.1.103.6 udp 53", false, func(q tun.Query) tun.Decision {
			if q.Src.IsValid() {
				return tun.Decision{Device: "culvert0", Table: 50500}
			}
			return asPlanned(q)
		}, guards, nil, "drop", "out-policy-errors", "culvert0", []string{"although no policy matches it"}},
		{"in", "10.1.102.6 10.1.101.5 icmp", true, asPlanned, guards, nil, "deliver", "", "lan0",
			[]string{"it leaves culvert0, and the kernel routes it to lan0, table 254", "if it arrived in clear on eth0, the guard would drop it (chain drop-out)"}},
		{"in, for this host", "10.1.102.6 10.1.101.1 icmp", true, asPlanned, none, nil, "deliver", "", "lo", []string{"routes it to this host itself", "if it arrived in clear on eth0, nothing would stop it"}},
		{"in, refused", "10.1.102.6 10.1.101.5 icmp", true, func(q tun.Query) tun.Decision {
			if q.In != "" {
				return tun.Decision{Nowhere: "rp_filter"}
			}
			return asPlanned(q)
		}, guards, nil, "drop", "", "", []string{"the kernel drops it: rp_filter"}},
	} {
		k := &kernel{ways: c.ways, guard: c.guard}
		v := w.west.view()
		v.Host = view.Host{Prober: k, Guard: k, Device: "culvert0", Mark: mark, Differences: func() []string { return c.differ }}
		q := query(c.query)
		q.Inbound = c.inbound
		x, err := v.ExplainPacket(q)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(x.Why, "\n")
		if x.Verdict != c.verdict || x.Counter != c.counter || x.Device != c.device || len(x.Differences) != len(c.differ) {
			t.Errorf("%s: %s %q by %q, differences %q\n%s", c.name, x.Verdict, x.Counter, x.Device, x.Differences, text)
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", c.name, want, text)
			}
		}
	}
	// The kernel is asked with the device by which the packet comes, and with its ports.
	k := &kernel{ways: asPlanned, guard: guards}
	v, q := w.west.view(), query("10.1.101.5 10.1.102.6 tcp 443")
	v.Host = view.Host{Prober: k, Guard: k, Device: "culvert0", Mark: mark, Differences: func() []string { return nil }}
	if _, err := v.ExplainPacket(q); err != nil {
		t.Fatal(err)
	}
	if want := (tun.Query{Src: netip.MustParseAddr(q.Src), Dst: netip.MustParseAddr(q.Dst), Proto: 6, DstPort: 443, In: "lan0"}); !slices.Contains(k.asked, want) {
		t.Errorf("asked %+v, want %+v among them", k.asked, want)
	}
	k.fail = errors.New("no netlink")
	if x, err := v.ExplainPacket(q); err != nil || !strings.Contains(strings.Join(x.Why, "\n"), "no netlink") {
		t.Errorf("%q, %v", x.Why, err)
	}
}

// leased is an endpoint to which a peer gave an address.
type leased struct {
	view.IKE
	addr string
}

func (l leased) SAs() []core.SAInfo {
	return []core.SAInfo{{Peer: "other", State: "established", Initiator: true, Leased: []netip.Addr{netip.MustParseAddr(l.addr)}}}
}

// A verdict is what the kernel says, also where the data path alone would decide otherwise. What
// nobody can say is no verdict.
func TestExplainReadsTheVerdict(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	none := func(guard.Packet) guard.Verdict { return guard.Verdict{Absent: true} }
	but := func(change func(q tun.Query, d *tun.Decision)) func(tun.Query) tun.Decision {
		return func(q tun.Query) tun.Decision {
			d := asPlanned(q)
			change(q, &d)
			return d
		}
	}
	there := netip.MustParseAddr("10.1.102.6")
	past := but(func(_ tun.Query, d *tun.Decision) {
		if d.Device == "culvert0" {
			*d = tun.Decision{Device: "eth0", Table: 254}
		}
	})
	for _, c := range []struct {
		name     string
		query    string
		alter    func(*view.View, *kernel)
		verdict  string
		counter  string
		want     string
		unwanted string
	}{
		{"for this host", "10.1.101.5 10.1.102.6 tcp 443", func(_ *view.View, k *kernel) {
			k.ways = but(func(q tun.Query, d *tun.Decision) {
				if q.Dst == there {
					*d = tun.Decision{Device: "lo", Table: 255, Local: true}
				}
			})
		}, "local", "", "an address of this host", ""},
		{"from behind the tunnel", "10.1.102.9 10.1.102.6 tcp 443", nil, "unknown", "", "no network behind this host has the address 10.1.102.9", ""},
		{"the kernel does not answer", "10.1.101.5 10.1.102.6 tcp 443", func(_ *view.View, k *kernel) { k.fail = errors.New("no netlink") }, "unknown", "", "no netlink", ""},
		{"the guard does not answer", "10.1.101.5 10.1.102.6 tcp 443", func(v *view.View, k *kernel) {
			v.Host.Prober = &kernel{ways: past}
			k.fail = errors.New("no nftables")
		}, "unknown", "", "no nftables", ""},
		{"no route to the peer", "10.1.101.5 10.1.102.6 tcp 443", func(_ *view.View, k *kernel) {
			k.ways = but(func(q tun.Query, d *tun.Decision) {
				if q.Mark == mark {
					*d = tun.Decision{Nowhere: "there is no route"}
				}
			})
		}, "drop", "", "the kernel drops ESP to 192.0.2.2: there is no route", ""},
		{"the peer is behind the tunnel", "10.1.101.5 10.1.102.6 tcp 443", func(_ *view.View, k *kernel) {
			k.ways = but(func(q tun.Query, d *tun.Decision) {
				if q.Mark == mark {
					*d = tun.Decision{Device: "culvert0", Table: 50500}
				}
			})
		}, "drop", "", "the rule for the gateway's mark is missing", ""},
		{"our address was removed", "10.1.101.5 10.1.102.6 tcp 443", func(_ *view.View, k *kernel) {
			k.ways = but(func(q tun.Query, d *tun.Decision) {
				if q.Dst == westAddr {
					d.Local = false
				}
			})
		}, "drop", "", "192.0.2.1, from which the SA sends, is not an address of this host", ""},
		{"no SA, no rules, no guard", "10.1.101.5 10.1.102.6 tcp 443", func(v *view.View, k *kernel) {
			k.ways, k.guard, v.Path = past, none, noSAs{v.Path}
		}, "pass-unprotected", "", "it does not reach culvert0: it leaves through eth0 in clear, and no guard is in force", "is asked"},
		{"policy none, routed to us", "10.1.101.5 10.1.102.6 tcp 443", func(v *view.View, _ *kernel) { v.Path = noPolicy{v.Path} },
			"drop", "out-policy-errors", "it reaches culvert0 although no policy matches it", "own routes"},
		{"the lease is not on the host", "10.1.101.5 10.1.102.6 tcp 443", func(v *view.View, _ *kernel) { v.IKE = leased{v.IKE, "10.1.101.5"} },
			"drop", "", "peer other gave this host the address 10.1.101.5, and the host does not have it", ""},
		{"another source has the tunnel", "10.1.101.1 10.1.103.6 udp 53", func(_ *view.View, k *kernel) {
			k.ways = but(func(q tun.Query, d *tun.Decision) {
				if q.Dst == netip.MustParseAddr("10.1.103.6") && !q.Src.IsValid() {
					*d = tun.Decision{Device: "culvert0", Table: 50500, Src: netip.MustParseAddr("10.1.101.9")}
				}
			})
		}, "pass-unprotected", "out-policy-errors", "a program that chooses no source address sends from 10.1.101.9, through culvert0: ask with --src 10.1.101.9", ""},
	} {
		k := &kernel{ways: asPlanned, guard: guards}
		v := w.west.view()
		v.Host = view.Host{Prober: k, Guard: k, Device: "culvert0", Mark: mark, Differences: func() []string { return nil }}
		if c.alter != nil {
			c.alter(v, k)
		}
		x, err := v.ExplainPacket(query(c.query))
		text := strings.Join(x.Why, "\n")
		if err != nil || x.Verdict != c.verdict || x.Counter != c.counter || x.Acquire || x.Assumes != "" {
			t.Errorf("%s: %s, counted in %q, %+v, %v\n%s", c.name, x.Verdict, x.Counter, x, err, text)
		}
		if !strings.Contains(text, c.want) || c.unwanted != "" && strings.Contains(text, c.unwanted) {
			t.Errorf("%s: %q is missing, or %q is there:\n%s", c.name, c.want, c.unwanted, text)
		}
	}
	// Without a kernel to ask, the answer says what it assumes.
	for q, want := range map[string]string{
		"10.1.101.5 10.1.102.6 tcp 443": "the host routes it to culvert0",
		"10.1.101.5 10.1.103.6 udp 53":  "the host does not route it to culvert0",
	} {
		v := w.west.view()
		v.Host = view.Host{Device: "culvert0"}
		if x, err := v.ExplainPacket(query(q)); err != nil || x.Assumes != want {
			t.Errorf("%s: assumes %q, %v", q, x.Assumes, err)
		}
	}
}

// noSAs and noPolicy are data paths that lack something.
type noSAs struct{ view.Path }

func (p noSAs) ExplainOut(now time.Time, f *wire.Flow) datapath.Explanation {
	return datapath.Explanation{Reason: datapath.OutNoStates, Policy: p.Path.ExplainOut(now, f).Policy, Acquire: true}
}

type noPolicy struct{ view.Path }

func (noPolicy) ExplainOut(time.Time, *wire.Flow) datapath.Explanation {
	return datapath.Explanation{Reason: datapath.OutPolicyErrors}
}
