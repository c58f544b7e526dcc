package gateway

import (
	"testing"

	"culvert/internal/underlay"
	"culvert/internal/wire"
)

// Strangers' messages take a bounded amount of memory, however long they are,
// and do not keep out what takes none.
func TestInboxBytes(t *testing.T) {
	b := newInbox()
	p := underlay.Packet{Buf: make([]byte, underlay.Headroom+underlay.MaxDatagram), Off: underlay.Headroom, Len: underlay.MaxDatagram}
	fit := inboxBytes / underlay.MaxDatagram
	for range fit + 10 {
		b.IKE(&p)
	}
	b.Acquire(1, wire.Flow{})
	if n, dropped := len(b.take()), b.dropped.Load(); n != fit+1 || dropped != 10 {
		t.Errorf("%d kept, %d dropped; want %d and 10", n, dropped, fit+1)
	}
	b.IKE(&p)
	if n := len(b.take()); n != 1 {
		t.Errorf("%d kept once there was room", n)
	}
}
