package datapath

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/sad"
	"culvert/spd"
)

func TestPacketsCrossTheTunnel(t *testing.T) {
	for _, c := range ciphers {
		t.Run(c.name, func(t *testing.T) {
			u := newTunnel(t, c)
			u.connect(1, 1, nil)
			u.connect(2, 2, nil)
			sent, bytesSent := uint64(0), uint64(0)
			for size := 0; size < 1500; size += 37 {
				for _, ends := range [][2]string{{"10.1.0.1", "10.2.0.1"}, {"fd01::1", "fd02::1"}} {
					pkt := udp(ends[0], ends[1], size)
					if r := u.left.path.SendPlain(start, pkt); r != Passed {
						t.Fatalf("out: %v", r)
					}
					onWire := u.left.conn.take()
					if len(onWire) != 1 || bytes.Contains(onWire[0], pkt[:28]) {
						t.Fatal("not one sealed packet")
					}
					if r := u.right.path.Receive(start, datagram(onWire[0])); r != Passed {
						t.Fatalf("in: %v", r)
					}
					if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], pkt) {
						t.Fatalf("%d packets arrived, or another one", len(got))
					}
					sent++
					bytesSent += uint64(len(pkt))
				}
			}
			p := u.left.conn.last
			if p.Local != leftAddr || p.Remote != rightAddr || p.Kind != underlay.ESP || !p.NATT {
				t.Errorf("sent from %v to %v as kind %d", p.Local, p.Remote, p.Kind)
			}
			u.left.moved(t, nil, map[string]uint64{"tx-packets": sent, "tx-bytes": bytesSent})
			u.right.moved(t, nil, map[string]uint64{"rx-packets": sent, "rx-bytes": bytesSent})
			u.right.log.want(t, "used 1", "heard 1", "used 2", "heard 2")
			rows := u.right.sads.Child(1).Rows(start, false)
			if rows[0].Packets != sent/2 || rows[1].Packets != 0 || !rows[0].LastUse.Equal(start) {
				t.Errorf("the SA counted %d in, %d out", rows[0].Packets, rows[1].Packets)
			}
			// And back.
			if r := u.right.path.SendPlain(start, udp("10.2.0.1", "10.1.0.1", 10)); r != Passed {
				t.Fatal(r)
			}
			if r := u.left.path.Receive(start, datagram(u.right.conn.take()[0])); r != Passed {
				t.Fatal(r)
			}
		})
	}
}

// step provokes one reason at one end; n is how often the line has to give it.
type step struct {
	name  string
	want  Reason
	extra map[string]uint64 // other counters that have to move, by how much in all
	setup func(u *tunnel)
	do    func(u *tunnel) Reason // on the left for out-…, on the right for in-…
	told  string                 // what Notify hears, joined by commas
}

const times = 3

func TestEachReasonAndOnlyIt(t *testing.T) {
	for _, s := range allSteps() {
		t.Run(s.name, func(t *testing.T) {
			u := newTunnel(t, ciphers[0])
			u.connect(1, 1, nil)
			if s.setup != nil {
				s.setup(u)
			}
			g := u.left
			if strings.HasPrefix(s.want.String(), "in-") || strings.HasPrefix(s.name, "in ") {
				g = u.right
			}
			g.log.lines = nil
			before := g.values()
			for range times {
				if r := s.do(u); r != s.want {
					t.Fatalf("%v, want %v", r, s.want)
				}
			}
			want := map[string]uint64{}
			if s.want != Passed {
				want[s.want.String()] = times
				if g.path.Counters().Get(s.want) != before[s.want.String()]+times {
					t.Error("Get and Snapshot differ")
				}
			}
			for name, n := range s.extra {
				want[name] = n
			}
			g.moved(t, before, want)
			if told := strings.Join(g.log.lines, ","); told != s.told {
				t.Errorf("notified of %q, want %q", told, s.told)
			}
		})
	}
}

func plainStep(u *tunnel) Reason {
	return u.left.path.SendPlain(start, udp("10.1.0.1", "10.2.0.1", 100))
}

func plainFrom(src, dst string) func(u *tunnel) Reason {
	return func(u *tunnel) Reason { return u.left.path.SendPlain(start, udp(src, dst, 100)) }
}

func leftPolicy(change func(*spd.Policy)) func(u *tunnel) {
	return func(u *tunnel) {
		pols := leftPolicies()
		change(&pols[0])
		u.left.pols.Replace(pols)
	}
}

// reconnect puts an SA with other parameters in the place of the first.
func reconnect(change func(left, right *sad.Params)) func(u *tunnel) {
	return func(u *tunnel) {
		u.left.sads.Remove(1)
		u.right.sads.Remove(1)
		u.connect(1, 1, change)
	}
}

func outSteps() []step {
	return []step{
		{name: "not an IP packet", want: OutErrors, do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, []byte{0x45, 0, 0}) }},
		{name: "empty", want: OutErrors, do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, nil) }},
		{name: "too long", want: OutErrors, do: func(u *tunnel) Reason { return u.left.path.SendPlain(start, make([]byte, 65536)) }},
		{name: "network refuses", want: OutErrors, setup: func(u *tunnel) { u.left.conn.refuse = times }, do: plainStep},
		{name: "no policy", want: OutPolicyErrors, do: plainFrom("10.1.0.1", "10.9.0.1")},
		{name: "no policy, to a group of the link", want: OutLinkLocal, do: plainFrom("fe80::1", "ff02::16")},
		{name: "no policy, to a group of the link in IPv4", want: OutLinkLocal, do: plainFrom("10.1.0.1", "224.0.0.22")},
		{name: "no policy, to a group that is routed", want: OutPolicyErrors, do: plainFrom("10.1.0.1", "239.1.1.1")},
		{name: "discard", want: OutPolicyBlocked, setup: leftPolicy(func(p *spd.Policy) { p.Action = spd.Discard }), do: plainStep},
		{name: "none", want: OutUnprotected, setup: leftPolicy(func(p *spd.Policy) { p.Action = spd.None }), do: plainStep},
		{name: "use without SA", want: OutUnprotected, setup: func(u *tunnel) {
			u.left.sads.Remove(1)
			leftPolicy(func(p *spd.Policy) { p.Level = spd.Use })(u)
		}, do: plainStep},
		{name: "none, and a way", want: Passed, extra: map[string]uint64{"tx-unprotected": times}, do: plainStep,
			setup: func(u *tunnel) {
				leftPolicy(func(p *spd.Policy) { p.Action = spd.None })(u)
				u.left.path.cfg.Clear = &inClear{}
			}},
		{name: "use without SA, and a way", want: Passed, extra: map[string]uint64{"tx-unprotected": times}, do: plainStep,
			setup: func(u *tunnel) {
				u.left.sads.Remove(1)
				leftPolicy(func(p *spd.Policy) { p.Level = spd.Use })(u)
				u.left.path.cfg.Clear = &inClear{}
			}},
		{name: "none, and a way that fails", want: OutErrors, do: plainStep, setup: func(u *tunnel) {
			leftPolicy(func(p *spd.Policy) { p.Action = spd.None })(u)
			u.left.path.cfg.Clear = &inClear{refuse: times}
		}},
		{name: "require without SA", want: OutNoStates, setup: func(u *tunnel) { u.left.sads.Remove(1) }, do: plainStep, told: "acquire 1"},
		{name: "dead", want: OutPolicyDead, setup: func(u *tunnel) {
			u.left.sads.Remove(1)
			leftPolicy(func(p *spd.Policy) { p.Dead = true })(u)
		}, do: plainStep},
		{name: "dead, level use", want: OutUnprotected, setup: func(u *tunnel) {
			u.left.sads.Remove(1)
			leftPolicy(func(p *spd.Policy) { p.Dead, p.Level = true, spd.Use })(u)
		}, do: plainStep},
		{name: "unique without SA of its own", want: OutNoStates, setup: leftPolicy(func(p *spd.Policy) {
			p.Level, p.Ref = spd.Unique, 9
		}), do: plainStep, told: "acquire 9"},
		{name: "retired", want: OutNoStates, setup: func(u *tunnel) { u.left.sads.Retire(1) }, do: plainStep, told: "acquire 1"},
		{name: "SA does not cover", want: OutNoStates, do: plainStep, told: "acquire 1", setup: reconnect(func(l, r *sad.Params) {
			l.Pairs[0] = pair("10.1.7.0/24", "10.2.0.0/16")
		})},
		{name: "transport SA", want: OutStateModeErrors, setup: reconnect(func(l, r *sad.Params) { l.Tunnel = false }), do: plainStep},
		{name: "expired by time", want: OutStateExpired, told: "expire 1 true", setup: reconnect(func(l, r *sad.Params) {
			l.Added, l.Hard = start.Add(-time.Hour), time.Hour
		}), do: plainStep},
		{name: "expired by bytes", want: OutStateExpired, setup: func(u *tunnel) {
			reconnect(func(l, r *sad.Params) { l.HardBytes = 10 })(u)
			plainStep(u)
		}, do: plainStep},
		{name: "sequence numbers at their end", want: OutStateSequenceErrors, told: "expire 1 true", setup: func(u *tunnel) {
			reconnect(func(l, r *sad.Params) { l.Out.ESN = false })(u)
			u.left.sads.Child(1).Outbound().Reserve(1<<32 - 1)
			u.left.sads.Child(1).TakeEvents()
		}, do: plainStep},
	}
}

// sealed makes an ESP packet of the right's SA with any payload and next header.
func sealed(u *tunnel, payload []byte, next uint8) []byte {
	out := u.left.sads.Child(1).Outbound()
	seq, _ := out.Reserve(1)
	buf := make([]byte, 64+len(payload)+128)
	copy(buf[64:], payload)
	from, to := out.Transform().Seal(buf, 64, len(payload), seq, next)
	return buf[from:to]
}

// An SA without a replay window lets a packet in as often as it comes.
func TestWithoutReplayWindow(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, func(_, r *sad.Params) { r.ReplayWindow = 0 })
	pkt := sealed(u, udp("10.1.0.1", "10.2.0.1", 100), 4)
	for range 3 {
		if r := raw(bytes.Clone(pkt))(u); r != Passed {
			t.Errorf("%v", r)
		}
	}
	u.right.moved(t, nil, map[string]uint64{"rx-packets": 3, "rx-bytes": 3 * 128})
}

func receive(payload []byte, next uint8) func(u *tunnel) Reason {
	return func(u *tunnel) Reason { return u.right.path.Receive(start, datagram(sealed(u, payload, next))) }
}

func raw(data []byte) func(u *tunnel) Reason {
	return func(u *tunnel) Reason { return u.right.path.Receive(start, datagram(data)) }
}

func rightPolicies(change func(pols []spd.Policy) []spd.Policy) func(u *tunnel) {
	return func(u *tunnel) { u.right.pols.Replace(change(reversed(leftPolicies()))) }
}

func inSteps() []step {
	good := udp("10.1.0.1", "10.2.0.1", 100)
	good6 := udp("fd01::1", "fd02::1", 100)
	heard := "used 1,heard 1"
	spiOf := func(u *tunnel) []byte {
		return binary.BigEndian.AppendUint32(nil, u.right.sads.Child(1).Inbound().SPI())
	}
	return []step{
		{name: "shorter than a header", want: InHeaderErrors, do: raw(make([]byte, esp.HeaderLen-1))},
		{name: "shorter than an ICV", want: InHeaderErrors, do: func(u *tunnel) Reason {
			return raw(append(spiOf(u), 0, 0, 0, 1, 2, 3))(u)
		}},
		{name: "unknown SPI", want: InNoStates, told: "unknown from 192.0.2.1:4500 at 192.0.2.2:4500, true, 1", do: raw(make([]byte, 100))},
		{name: "removed SA", want: InNoStates, told: "unknown from 192.0.2.1:4500 at 192.0.2.2:4500, true, 0", do: func(u *tunnel) Reason {
			pkt := sealed(u, good, 4)
			u.right.sads.Remove(1)
			return raw(pkt)(u)
		}},
		{name: "expired", want: InStateExpired, told: "expire 1 true", do: receive(good, 4), setup: reconnect(func(l, r *sad.Params) {
			r.Added, r.Hard = start.Add(-time.Hour), time.Hour
		})},
		{name: "transport SA", want: InStateModeErrors, do: receive(good, 4), told: heard, setup: reconnect(func(l, r *sad.Params) { r.Tunnel = false })},
		{name: "replay", want: InStateSequenceErrors, extra: map[string]uint64{"rx-packets": times, "rx-bytes": times * uint64(len(good))}, told: heard,
			do: func(u *tunnel) Reason {
				pkt := sealed(u, good, 4)
				raw(pkt)(u)
				return raw(pkt)(u)
			}},
		{name: "sequence number 0", want: InStateSequenceErrors, do: func(u *tunnel) Reason {
			return raw(append(spiOf(u), make([]byte, 100)...))(u)
		}},
		{name: "ICV", want: InStateProtocolErrors, do: func(u *tunnel) Reason {
			pkt := sealed(u, good, 4)
			pkt[len(pkt)-1] ^= 1
			return raw(pkt)(u)
		}},
		{name: "no IP inside", want: InStateModeErrors, do: receive(good, 6), told: heard},
		{name: "in dummy", want: Passed, do: receive(make([]byte, 50), 59), told: heard, extra: map[string]uint64{"rx-dummies": times}},
		{name: "bad inner header", want: InHeaderErrors, do: receive(good[:60], 4), told: heard},
		{name: "version and next header differ", want: InHeaderErrors, do: receive(good6, 4), told: heard},
		{name: "source outside the SA", want: InTemplateMismatches, do: receive(udp("10.3.0.1", "10.2.0.1", 1), 4), told: heard},
		{name: "family outside the SA", want: InTemplateMismatches, do: receive(good6, 41), told: heard},
		{name: "policy gone", want: InNoPolicies, do: receive(good, 4), told: heard,
			setup: rightPolicies(func([]spd.Policy) []spd.Policy { return nil })},
		{name: "policy discards", want: InPolicyBlocked, do: receive(good, 4), told: heard,
			setup: rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Action = spd.Discard; return p })},
		{name: "policy wants clear", want: InTemplateMismatches, do: receive(good, 4), told: heard,
			setup: rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Action = spd.None; return p })},
		{name: "policy dead", want: InPolicyErrors, do: receive(good, 4), told: heard,
			setup: rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Ref, p[0].Dead = 77, true; return p })},
		{name: "in another policy above", want: Passed, do: receive(good, 4), told: heard,
			extra: map[string]uint64{"rx-packets": times, "rx-bytes": times * uint64(len(good))},
			setup: rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Ref = 77; return p })},
		{name: "device refuses", want: InErrors, do: receive(good, 4), told: heard, setup: func(u *tunnel) { u.right.host.refuse = times }},
		{name: "in padding behind the packet", want: Passed, do: receive(append(bytes.Clone(good), make([]byte, 70)...), 4), told: heard,
			extra: map[string]uint64{"rx-packets": times, "rx-bytes": times * uint64(len(good))}},
		{name: "in keepalive", want: Passed, extra: map[string]uint64{"rx-keepalives": times}, do: func(u *tunnel) Reason {
			p := datagram([]byte{0xff})
			p.Kind = underlay.Keepalive
			return u.right.path.Receive(start, p)
		}},
		{name: "too short for anything", want: InErrors, do: func(u *tunnel) Reason {
			p := datagram([]byte{1, 2, 3})
			p.Kind = underlay.Runt
			return u.right.path.Receive(start, p)
		}},
		{name: "in IKE", want: Passed, extra: map[string]uint64{"rx-ike": times}, told: "ike hello,ike hello,ike hello", do: func(u *tunnel) Reason {
			p := datagram([]byte("hello"))
			p.Kind = underlay.IKE
			return u.right.path.Receive(start, p)
		}},
	}
}

// What goes on in clear is the packet itself, without what a device put behind it.
func TestClearIsThePacket(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	leftPolicy(func(p *spd.Policy) { p.Action = spd.None })(u)
	way := &inClear{}
	u.left.path.cfg.Clear = way
	pkt := udp("10.1.0.1", "10.2.0.1", 72)
	if r := u.left.path.SendPlain(start, append(bytes.Clone(pkt), 1, 2, 3)); r != Passed {
		t.Fatal(r)
	}
	if len(way.sent) != 1 || !bytes.Equal(way.sent[0], pkt) || u.left.conn.n != 0 {
		t.Fatalf("in clear %x, protected %d packets", way.sent, u.left.conn.n)
	}
}

func TestInboundByteLimitIsExact(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	pkt := udp("10.1.0.1", "10.2.0.1", 72) // 100 bytes
	u.connect(1, 1, func(l, r *sad.Params) { r.SoftBytes, r.HardBytes = 300, 500 })
	want := []Reason{Passed, Passed, Passed, Passed, Passed, InStateExpired, InStateExpired}
	for i, w := range want {
		if r := receive(pkt, 4)(u); r != w {
			t.Fatalf("packet %d: %v, want %v", i, r, w)
		}
	}
	u.right.log.want(t, "used 1", "heard 1", "expire 1 false", "expire 1 true")
}

// In a batch, too, the last packet that the limit allows leaves, and none after it.
func TestOutboundByteLimitIsExactInABatch(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, func(l, r *sad.Params) { l.SoftBytes, l.HardBytes = 300, 500 })
	w := newOutWorker(u.left.path, u.left.path.edges(), 8, maxPacket)
	defer w.sads.Close()
	pkt := udp("10.1.0.1", "10.2.0.1", 72) // 100 bytes
	for i := range 8 {
		w.sizes[i] = copy(w.bufs[i][underlay.Headroom:], pkt)
	}
	if r := w.batch(start.UnixNano(), 8); r != OutStateExpired {
		t.Errorf("the last packet: %v", r)
	}
	if n := len(u.left.conn.take()); n != 5 {
		t.Errorf("%d packets of 100 bytes left, and the limit is 500", n)
	}
	u.left.moved(t, nil, map[string]uint64{"tx-packets": 5, "tx-bytes": 500, "out-state-expired": 3})
	u.left.log.want(t, "expire 1 false", "expire 1 true")
}

func TestMovedPeerIsHeard(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	late := datagram(sealed(u, udp("10.1.0.1", "10.2.0.1", 10), 4))
	forged := datagram(sealed(u, udp("10.1.0.1", "10.2.0.1", 10), 4))
	forged.Data()[forged.Len-1] ^= 1
	elsewhere := netip.MustParseAddrPort("203.0.113.9:61000") // a NAT forgot its mapping
	forged.Remote = elsewhere
	if r := u.right.path.Receive(start, forged); r != InStateProtocolErrors {
		t.Fatal(r)
	}
	u.right.log.want(t)
	from := func(remote netip.AddrPort, at time.Duration) {
		t.Helper()
		p := datagram(sealed(u, udp("10.1.0.1", "10.2.0.1", 10), 4))
		p.Remote = remote
		if r := u.right.path.Receive(start.Add(at), p); r != Passed {
			t.Fatal(r)
		}
	}
	from(elsewhere, 0)
	u.right.log.want(t, "moved 1 192.0.2.2:4500 203.0.113.9:61000", "used 1", "heard 1")
	from(elsewhere, 1) // once in a while
	u.right.log.want(t)
	u.right.sads.Move(1, rightAddr, elsewhere, true)
	from(elsewhere, sad.HeardEvery)
	u.right.log.want(t, "heard 1")
	// What was under way since before the move says nothing.
	if r := u.right.path.Receive(start.Add(2*sad.HeardEvery), late); r != Passed {
		t.Fatal(r)
	}
	u.right.log.want(t, "heard 1")
	from(leftAddr, 3*sad.HeardEvery)
	u.right.log.want(t, "moved 1 192.0.2.2:4500 192.0.2.1:4500", "heard 1")
}

func TestMoveChangesWhereTo(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	to := netip.MustParseAddrPort("203.0.113.9:61000")
	u.left.sads.Move(1, leftAddr, to, true)
	if r := plainStep(u); r != Passed || u.left.conn.last.Remote != to {
		t.Fatal(r, u.left.conn.last.Remote)
	}
}

func TestAcquireIsAskedOnce(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	g := u.left
	send := func(at time.Duration, dst string) {
		t.Helper()
		src := "10.1.0.1"
		if strings.Contains(dst, ":") {
			src = "fd01::1"
		}
		if r := g.path.SendPlain(start.Add(at), udp(src, dst, 1)); r != OutNoStates {
			t.Fatal(r)
		}
	}
	send(0, "10.2.0.1")
	send(1, "10.2.0.2")
	send(2, "fd02::1")
	g.log.want(t, "acquire 1", "acquire 2")
	// The daemon gave up: the next packet asks again, of that policy alone.
	g.path.Acquired(1)
	send(3, "10.2.0.1")
	send(4, "fd02::1")
	send(5, "10.2.0.1")
	g.log.want(t, "acquire 1")
	// The daemon is silent: asked again after a while.
	send(AcquireAgain+2, "fd02::1")
	g.log.want(t, "acquire 2")
	send(AcquireAgain+3, "10.2.0.1")
	send(AcquireAgain+4, "10.2.0.1")
	g.log.want(t, "acquire 1")
	// An SA came and went: asked again at once.
	u.connect(1, 1, nil)
	if r := g.path.SendPlain(start.Add(AcquireAgain+5), udp("10.1.0.1", "10.2.0.1", 1)); r != Passed {
		t.Fatal(r)
	}
	g.sads.Remove(1)
	send(AcquireAgain+6, "10.2.0.1")
	g.log.want(t, "acquire 1")
	// More answers than the log holds: everything is forgotten, so both ask again.
	for i := range uint32(3 * acquireLog) {
		g.path.Acquired(100 + i)
	}
	send(AcquireAgain+7, "10.2.0.1")
	send(AcquireAgain+8, "fd02::1")
	g.log.want(t, "acquire 1", "acquire 2")
}

// N goroutines hand in the same datagrams: each is delivered once.
func TestSameDatagramAtOnce(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	// A window for all: what a slow goroutine brings left of it would, with ESN,
	// pass for the next lap and fail at the ICV.
	u.connect(1, 1, func(l, r *sad.Params) { r.ReplayWindow = 256 })
	const packets, goroutines = 200, 4
	var onWire [][]byte
	for i := range packets {
		onWire = append(onWire, sealed(u, udp("10.1.0.1", "10.2.0.1", i), 4))
	}
	// Each goroutine is a worker of its own, as a path with more of them would have.
	hosts := make([]host, goroutines)
	var counts [goroutines]*counters
	var wg sync.WaitGroup
	for i := range goroutines {
		cfg := u.right.path.cfg
		cfg.Device, cfg.Notify = &hosts[i], &log{quiet: true}
		path := New(cfg)
		w := newInWorker(path, path.edges(), 1)
		counts[i] = w.count
		wg.Go(func() {
			for _, pkt := range onWire {
				w.batch(start.UnixNano(), []underlay.Packet{*datagram(pkt)})
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	replays := uint64(0)
	for i := range hosts {
		for _, pkt := range hosts[i].take() {
			seen[string(pkt)]++
		}
		replays += counts[i].n[InStateSequenceErrors].Load()
	}
	for _, n := range seen {
		if n != 1 {
			t.Fatalf("a packet was delivered %d times", n)
		}
	}
	if len(seen) != packets || replays != packets*(goroutines-1) {
		t.Fatalf("%d packets delivered, %d replays", len(seen), replays)
	}
}

// Whatever arrives, it is counted once and nothing is delivered that was not sealed.
func TestRandomBytes(t *testing.T) {
	u := newTunnel(t, ciphers[1])
	u.connect(1, 1, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	good := sealed(u, udp("10.1.0.1", "10.2.0.1", 300), 4)
	for i := range 20000 {
		data := make([]byte, rng.IntN(200))
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		switch rng.IntN(3) {
		case 0:
			if len(data) >= 4 {
				binary.BigEndian.PutUint32(data, u.right.sads.Child(1).Inbound().SPI())
			}
		case 1:
			data = bytes.Clone(good)
			data[rng.IntN(len(data))] ^= byte(1 + rng.IntN(255))
		}
		before := u.right.values()
		r := u.right.path.Receive(start, datagram(data))
		if r == Passed {
			t.Fatalf("packet %d passed: %x", i, data)
		}
		u.right.moved(t, before, map[string]uint64{r.String(): 1})
		r = u.left.path.SendPlain(start, data)
		if r != OutErrors && r != OutPolicyErrors {
			t.Fatalf("out: %v for %x", r, data)
		}
	}
	if u.right.host.n != 0 {
		t.Fatal("delivered")
	}
}

func TestBatchesOfSeveralSAs(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	u.connect(2, 2, nil)
	w := newOutWorker(u.left.path, u.left.path.edges(), 8, maxPacket)
	defer w.sads.Close()
	packets := [][]byte{
		udp("10.1.0.1", "10.2.0.1", 1), udp("10.1.0.1", "10.2.0.1", 2), udp("fd01::1", "fd02::1", 3), udp("10.1.0.1", "10.9.0.1", 4),
		udp("10.1.0.1", "10.2.0.1", 5), udp("fd01::1", "fd02::1", 6), udp("fd01::1", "fd02::1", 7), udp("10.1.0.1", "10.2.0.1", 8),
	}
	for i, pkt := range packets {
		w.sizes[i] = copy(w.bufs[i][underlay.Headroom:], pkt)
	}
	if r := w.batch(start.UnixNano(), len(packets)); r != OutPolicyErrors {
		t.Fatal(r)
	}
	onWire := u.left.conn.take()
	in := newInWorker(u.right.path, u.right.path.edges(), 8)
	defer in.sads.Close()
	var arrived []underlay.Packet
	for _, data := range onWire {
		arrived = append(arrived, *datagram(data))
	}
	arrived = append(arrived, *datagram(onWire[0])) // one replay in the same batch
	if r := in.batch(start.UnixNano(), arrived); r != InStateSequenceErrors {
		t.Fatal(r)
	}
	got := u.right.host.take()
	want := append(append([][]byte{}, packets[:3]...), packets[4:]...)
	if len(got) != len(want) {
		t.Fatalf("%d packets arrived, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("packet %d is another one", i)
		}
	}
	u.left.moved(t, nil, map[string]uint64{"tx-packets": 7, "tx-bytes": total(want), "out-policy-errors": 1})
	u.right.moved(t, nil, map[string]uint64{"rx-packets": 7, "rx-bytes": total(want), "in-state-sequence-errors": 1})
	u.right.log.want(t, "used 1", "heard 1", "used 2", "heard 2")
}

func total(packets [][]byte) (n uint64) {
	for _, p := range packets {
		n += uint64(len(p))
	}
	return n
}

func TestCountersAreTheManuals(t *testing.T) {
	list := New(Config{}).Counters().Snapshot()
	if len(list) != counterCount || list[0].Name != "in-errors" || list[ManualCounters-1].Name != "out-policy-errors" || ManualCounters != 25 {
		t.Fatalf("%d counters, %d of the manual, ending with %s", len(list), ManualCounters, list[ManualCounters-1].Name)
	}
	seen := map[string]bool{"": true}
	for _, c := range list {
		if seen[c.Name] {
			t.Errorf("name %q is empty or there twice", c.Name)
		}
		seen[c.Name] = true
	}
	if Passed.String() != "passed" || Reason(200).String() != "unknown" {
		t.Error("names of no drops")
	}
}
