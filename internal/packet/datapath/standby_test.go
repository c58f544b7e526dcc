package datapath

import (
	"bytes"
	"testing"
	"time"

	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// rightStandsBy connects two gateways of which the right one's SA stands by.
func rightStandsBy(t *testing.T) (left, right *gateway, s shape) {
	for _, s = range shapes() {
		if s.tunnel && s.udp && !s.outer6 && !s.inner6 {
			break
		}
	}
	installed := 0
	left, right = s.connectTo(t, func(p *sad.Params) { installed++; p.Standby = p.Local == s.right })
	if installed != 2 || !right.sads.StandsBy(1) || left.sads.StandsBy(1) {
		t.Fatal("not the right one stands by")
	}
	return left, right, s
}

// numbered is a packet of the right one's with n bytes.
func (s shape) numbered(n int) []byte { return udp(s.rightIn.String(), s.leftIn.String(), n) }

// opened takes what the right has sent through the left's line, and wants packets with so many bytes, in this order.
func (s shape) opened(t *testing.T, left, right *gateway, sizes ...int) {
	t.Helper()
	left.host.got, left.host.n = nil, 0
	for _, data := range right.conn.take() {
		p := datagram(data)
		p.Local, p.Remote = s.left, s.right
		if r := left.path.Receive(start, p); r != Passed {
			t.Fatal(r)
		}
	}
	if len(left.host.got) != len(sizes) {
		t.Fatalf("%d packets were delivered, want %d", len(left.host.got), len(sizes))
	}
	for i, n := range sizes {
		if !bytes.Equal(left.host.got[i], s.numbered(n)) {
			t.Errorf("packet %d is not the one of %d bytes", i, n)
		}
	}
}

// The daemon activates the SA: what waited leaves in its order, and nothing is counted as dropped.
func TestPacketsWaitForTheSA(t *testing.T) {
	left, right, s := rightStandsBy(t)
	before := right.values()
	for n := range 3 {
		if r := right.path.SendPlain(start, s.numbered(n)); r != Passed {
			t.Fatal(r)
		}
	}
	right.log.want(t, "acquire 1", "waits")
	if len(right.conn.take()) != 0 {
		t.Fatal("an SA that stands by sealed")
	}
	right.moved(t, before, nil)
	if !right.path.Activate(start, 1) || right.path.Activate(start, 1) || right.path.Activate(start, 99) {
		t.Fatal("Activate")
	}
	s.opened(t, left, right, 0, 1, 2)
	right.path.SendPlain(start, s.numbered(3))
	s.opened(t, left, right, 3)
	if right.values()["tx-packets"]-before["tx-packets"] != 4 || right.drops() != 0 {
		t.Error("not counted as they left")
	}
	if _, waits := right.path.GiveUpAt(); waits {
		t.Error("something still waits")
	}
}

// The peer's first packet activates it, before the daemon has heard of that.
func TestThePeersFirstPacketActivates(t *testing.T) {
	left, right, s := rightStandsBy(t)
	right.path.SendPlain(start, s.numbered(7))
	right.log.want(t, "acquire 1", "waits")
	left.path.SendPlain(start, udp(s.leftIn.String(), s.rightIn.String(), 5))
	if r := right.path.Receive(start, s.carried(t, left)); r != Passed {
		t.Fatal(r)
	}
	right.log.want(t, "used 1", "heard 1")
	s.opened(t, left, right, 7)
	if right.sads.StandsBy(1) || right.path.Activate(start, 1) {
		t.Error("it still stands by")
	}
}

// One that cannot open is no sign of the peer.
func TestADamagedPacketActivatesNothing(t *testing.T) {
	left, right, s := rightStandsBy(t)
	left.path.SendPlain(start, udp(s.leftIn.String(), s.rightIn.String(), 5))
	p := s.carried(t, left)
	p.Data()[p.Len-1] ^= 1
	if r := right.path.Receive(start, p); r != InStateProtocolErrors {
		t.Fatal(r)
	}
	if !right.sads.StandsBy(1) {
		t.Error("it does not stand by any more")
	}
}

// Time is up, or the SA goes: they are dropped, and counted once.
func TestPacketsThatWaitInVain(t *testing.T) {
	_, right, s := rightStandsBy(t)
	before := right.values()
	right.path.SendPlain(start, s.numbered(1))
	right.path.SendPlain(start.Add(time.Second), s.numbered(2))
	at, waits := right.path.GiveUpAt()
	if !waits || !at.Equal(start.Add(StandbyWait)) {
		t.Fatalf("due %v, %v", at, waits)
	}
	if right.path.GiveUp(at.Add(-1)) || !right.path.GiveUp(at) {
		t.Error("GiveUp at the wrong time")
	}
	right.moved(t, before, map[string]uint64{"out-no-states": 1})
	right.sads.Remove(1)
	if right.sads.StandsBy(1) {
		t.Error("one that is gone stands by")
	}
	if r := right.path.SendPlain(at, s.numbered(3)); r != OutNoStates {
		t.Errorf("without an SA: %v", r)
	}
	at, _ = right.path.GiveUpAt()
	right.path.GiveUp(at)
	right.moved(t, before, map[string]uint64{"out-no-states": 3})
	if at, waits := right.path.GiveUpAt(); waits {
		t.Errorf("something is due at %v", at)
	}
}

// What waits is bounded, in packets of a policy and in bytes of all; of other policies nothing waits.
func TestPacketsThatWaitAreBounded(t *testing.T) {
	left, right, s := rightStandsBy(t)
	for n := range StandbyPackets + 1 {
		want := Passed
		if n == StandbyPackets {
			want = OutNoStates
		}
		if r := right.path.SendPlain(start, s.numbered(n)); r != want {
			t.Fatalf("packet %d: %v, want %v", n, r, want)
		}
	}
	right.pols.Replace([]spd.Policy{
		{Ref: 1, Pair: hostPair(s.rightIn, s.leftIn), Action: spd.Encrypt, Tunnel: true},
		{Ref: 2, Pair: pair("10.3.0.0/16", "10.4.0.0/16"), Action: spd.Encrypt, Tunnel: true},
	})
	if r := right.path.SendPlain(start, udp("10.3.0.1", "10.4.0.1", 9)); r != OutNoStates {
		t.Errorf("of another policy: %v", r)
	}
	right.path.Activate(start, 1)
	sizes := make([]int, StandbyPackets)
	for n := range sizes {
		sizes[n] = n
	}
	s.opened(t, left, right, sizes...)

	_, right, s = rightStandsBy(t)
	for n, big := 1, s.numbered(60_000); ; n++ {
		if full := n*(len(big)+standbyCost) > StandbyBytes; (right.path.SendPlain(start, big) == OutNoStates) != full {
			t.Fatalf("packet %d of %d bytes: full is %v", n, len(big), full)
		} else if full {
			break
		}
	}
}

// An SA takes what waits for its own policy, and makes room by that.
func TestPacketsWaitForTheirOwnPolicy(t *testing.T) {
	left, right, s := rightStandsBy(t)
	other := pair("10.3.0.0/16", "10.4.0.0/16")
	right.pols.Replace([]spd.Policy{
		{Ref: 1, Pair: hostPair(s.rightIn, s.leftIn), Action: spd.Encrypt, Tunnel: true},
		{Ref: 2, Pair: other, Action: spd.Encrypt, Tunnel: true},
	})
	spi := right.sads.AllocSPIs(1)[0]
	if _, err := right.sads.Install(sad.Params{ID: 2, Policy: 2, Protocol: s.protocol, Tunnel: true, In: s.half(spi, 5), Out: s.half(spi, 6),
		Pairs: []selector.Pair{other}, Local: s.right, Remote: s.left, UDP: true, ReplayWindow: 64, Added: start, Standby: true}); err != nil {
		t.Fatal(err)
	}
	right.path.SendPlain(start, udp("10.3.0.1", "10.4.0.1", 9))
	for range 3 {
		if r := right.path.SendPlain(start, s.numbered(1)); r != Passed {
			t.Fatal(r)
		}
	}
	right.path.Activate(start.Add(time.Second), 1)
	s.opened(t, left, right, 1, 1, 1)
	if at, waits := right.path.GiveUpAt(); !waits || !at.Equal(start.Add(StandbyWait)) {
		t.Errorf("the packet of the other policy waits until %v", at)
	}
	if before := right.values(); !right.path.Activate(start, 2) || right.values()["tx-packets"] != before["tx-packets"]+1 {
		t.Error("the packet of the other policy did not wait for its own SA")
	}
	if right.path.standby.bytes != 0 || right.drops() != 0 {
		t.Errorf("%d bytes are still counted, %d packets dropped", right.path.standby.bytes, right.drops())
	}
}
