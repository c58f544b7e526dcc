package plane

import (
	"net/netip"
	"testing"

	"culvert/ike/core"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
)

// Messages take a bounded amount of memory, however long they are, those of
// strangers a part of it, and they do not keep out what takes none.
func TestInboxBytes(t *testing.T) {
	b := NewInbox()
	p := underlay.Packet{Buf: make([]byte, underlay.Headroom+underlay.MaxDatagram), Off: underlay.Headroom, Len: underlay.MaxDatagram}
	for _, most := range []int{InboxBytes, 1 << 20} {
		b.Most.Store(int64(most))
		const each = underlay.MaxDatagram + InboxMessage
		p.Data()[15] = 0
		strangers := most / InboxFreshShare / each
		for range strangers + 10 {
			b.IKE(&p)
		}
		p.Data()[15] = 1 // an SPI of ours
		fit := most/each - strangers
		for range fit + 7 {
			b.IKE(&p)
		}
		b.Acquire(1, wire.Flow{})
		if n, dropped := len(b.Take()), b.Dropped.Swap(0); n != strangers+fit+1 || dropped != 17 {
			t.Errorf("%d kept, %d dropped; want %d and 17", n, dropped, strangers+fit+1)
		}
		b.IKE(&p)
		if n := len(b.Take()); n != 1 {
			t.Errorf("%d kept once there was room", n)
		}
	}
}

// Those who begin do not keep out those whose SAs are up.
func TestInboxStrangers(t *testing.T) {
	b := NewInbox()
	message := func(spir byte) *underlay.Packet {
		p := &underlay.Packet{Buf: make([]byte, underlay.Headroom+28), Off: underlay.Headroom, Len: 28}
		p.Data()[15] = spir
		return p
	}
	for range InboxFresh + 10 {
		b.IKE(message(0))
	}
	for range 100 {
		b.IKE(message(1))
	}
	if n, dropped := len(b.Take()), b.Dropped.Load(); n != InboxFresh+100 || dropped != 10 {
		t.Errorf("%d kept, %d dropped; want %d and 10", n, dropped, InboxFresh+100)
	}
	b.IKE(message(0))
	if n := len(b.Take()); n != 1 {
		t.Errorf("%d kept once there was room", n)
	}
}

// That fragments wait makes the loop look at its deadlines, and is no input.
func TestWaitsWakes(t *testing.T) {
	b := NewInbox()
	b.Waits()
	select {
	case <-b.Wake:
	default:
		t.Error("nobody is woken")
	}
	if list := b.Take(); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

func TestPairOfFlow(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		flow wire.Flow
		want string
	}{
		{wire.Flow{Src: a, Dst: b, Proto: 6, SrcPort: 1025, DstPort: 80}, "10.0.0.1/32[tcp/1025] => 10.0.0.2/32[tcp/80]"},
		{wire.Flow{Src: a, Dst: b, Proto: 1, SrcPort: 8 << 8}, "10.0.0.1/32[icmp/8:0] => 10.0.0.2/32[icmp]"},
		{wire.Flow{Src: a, Dst: b, Proto: 47}, "10.0.0.1/32[gre] => 10.0.0.2/32[gre]"},
		{wire.Flow{Src: a, Dst: b, Proto: 17, Opaque: true}, "10.0.0.1/32[udp] => 10.0.0.2/32[udp]"},
	} {
		if got := PairOfFlow(&c.flow).String(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.flow, got, c.want)
		}
	}
}

// What can be lost is bounded, what cannot is kept.
func TestInboxBounds(t *testing.T) {
	b := NewInbox()
	pkt := &underlay.Packet{Buf: make([]byte, 28), Len: 28}
	pkt.Buf[8] = 1 // of an SA that there is
	for range InboxLimit + 10 {
		b.IKE(pkt)
	}
	b.Used(1)
	b.Expire(2, true)
	b.Heard(3)
	if got := b.Dropped.Load(); got != 10 {
		t.Errorf("%d dropped", got)
	}
	list := b.Take()
	if len(list) != InboxLimit+2 || list[InboxLimit] != (core.Used{Child: 1}) || list[InboxLimit+1] != (core.Expire{Child: 2, Hard: true}) {
		t.Errorf("%d inputs, the last %v", len(list), list[len(list)-1])
	}
	b.Heard(3)
	if list = b.Take(); len(list) != 1 {
		t.Errorf("after take: %v", list)
	}
}
