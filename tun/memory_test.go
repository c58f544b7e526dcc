package tun

import (
	"errors"
	"os"
	"slices"
	"testing"
)

// buffers is what Read takes for n packets of up to 2000 bytes.
func buffers(n int) (bufs [][]byte, sizes []int) {
	for range n {
		bufs = append(bufs, make([]byte, Offset+2000))
	}
	return bufs, make([]int, n)
}

func TestMemory(t *testing.T) {
	m := NewMemory("mem0", 1400)
	if mtu, err := m.MTU(); mtu != 1400 || err != nil || m.Name() != "mem0" || m.BatchSize() < 1 {
		t.Error(m.Name(), mtu, err)
	}
	pkt := []byte("one")
	m.Inject(pkt)
	pkt[0] = 'X' // what was injected is a copy
	m.Inject([]byte("second"))
	m.Inject([]byte("third"))
	bufs, sizes := buffers(2)
	n, err := m.Read(bufs, sizes, Offset)
	if n != 2 || err != nil || string(bufs[0][Offset:][:sizes[0]]) != "one" || string(bufs[1][Offset:][:sizes[1]]) != "second" {
		t.Fatal(n, err, sizes)
	}
	if n, err = m.Read(bufs, sizes, Offset); n != 1 || err != nil || sizes[0] != 5 {
		t.Fatal(n, err)
	}
	if n, err := m.Write([][]byte{append(make([]byte, Offset), "a"...), append(make([]byte, Offset), "b"...)}, Offset); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if a, b := <-m.Outgoing(), <-m.Outgoing(); string(a)+string(b) != "ab" {
		t.Errorf("%q %q", a, b)
	}
	m.Inject(make([]byte, 2001))
	if _, err := m.Read(bufs, sizes, Offset); !errors.Is(err, ErrPacket) {
		t.Errorf("a packet larger than its buffer: %v", err)
	}
}

func TestMemoryFull(t *testing.T) {
	m := NewMemory("mem0", 1400)
	for range memoryQueue {
		if err := m.Inject([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if n, err := m.Write([][]byte{{1}}, 0); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := m.Inject([]byte{1}); err != ErrFull {
		t.Error(err)
	}
	if n, err := m.Write([][]byte{{1}}, 0); n != 0 || err != ErrFull {
		t.Error(n, err)
	}
}

func TestMemoryCloseWakesRead(t *testing.T) {
	m := NewMemory("mem0", 1400)
	done := make(chan error)
	go func() {
		bufs, sizes := buffers(1)
		_, err := m.Read(bufs, sizes, Offset)
		done <- err
	}()
	m.Close()
	m.Close()
	if err := <-done; err != os.ErrClosed {
		t.Error(err)
	}
	if err := m.Inject([]byte{1}); err != os.ErrClosed {
		t.Error(err)
	}
	if _, err := m.Write([][]byte{{1}}, 0); err != os.ErrClosed {
		t.Error(err)
	}
}

func TestMemoryHost(t *testing.T) {
	var h MemoryHost
	p := Plan{Bypass: []uint16{500}, MTU: 1400}
	if err := h.Apply(p); err != nil {
		t.Fatal(err)
	}
	p.Bypass[0] = 1 // what was recorded is a copy
	failure := errors.New("no")
	h.Fail(failure)
	if err := h.Apply(p); err != failure {
		t.Error(err)
	}
	h.Fail(nil)
	if plans := h.Plans(); len(plans) != 1 || !slices.Equal(plans[0].Bypass, []uint16{500}) {
		t.Error(plans)
	}
	h.Disturb("somebody", "a rule was removed")
	<-h.Changed()
	if list, err := h.Differences(); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
	if what, by, err := h.Restore(); err != nil || len(what) != 1 || len(by) != 1 {
		t.Error(what, by, err)
	}
	if list, _ := h.Differences(); len(list) != 0 || h.Restores() != 1 {
		t.Error(list)
	}
	h.Close()
	if err := h.Apply(p); err != os.ErrClosed || !h.Closed() {
		t.Error(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "a b", "name-of-16-chars", "tun%d"} {
		if _, err := Create(name, 1400); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, mtu := range []int{-1, 0, 575, 65536} {
		if _, err := Create("culvert0", mtu); err == nil {
			t.Error("MTU", mtu)
		}
	}
}

// Refuse has packets not taken, until there is no rule any more.
func TestMemoryRefuse(t *testing.T) {
	m := NewMemory("mem0", 1400)
	no := errors.New("no")
	m.Refuse(func(pkt []byte) error {
		if pkt[0] == 'a' {
			return no
		}
		return nil
	})
	batch := [][]byte{[]byte("_a"), []byte("_b")}
	if n, err := m.Write(batch, 1); n != 1 || err != no {
		t.Error(n, err)
	}
	m.Refuse(nil)
	if n, err := m.Write(batch, 1); n != 2 || err != nil {
		t.Error(n, err)
	}
	if a, b, c := <-m.Outgoing(), <-m.Outgoing(), <-m.Outgoing(); string(a)+string(b)+string(c) != "bab" {
		t.Errorf("%q %q %q", a, b, c)
	}
	m.SetMTU(1300)
	if mtu, err := m.MTU(); mtu != 1300 || err != nil {
		t.Error(mtu, err)
	}
}

// A host that cannot restore says why each time, and does not forget what there is to do.
func TestMemoryHostFails(t *testing.T) {
	var h MemoryHost
	no := errors.New("no")
	h.Disturb("", "a route was removed")
	h.Disturb("somebody", "a rule was removed")
	h.Fail(no)
	for range 2 {
		if what, by, err := h.Restore(); err != no || what != nil || by != nil {
			t.Error(what, by, err)
		}
	}
	h.Fail(nil)
	if what, by, err := h.Restore(); err != nil || !slices.Equal(what, []string{"a route was removed", "a rule was removed"}) || !slices.Equal(by, []string{"somebody"}) || h.Restores() != 3 {
		t.Error(what, by, err)
	}
	if what, by, err := h.Restore(); err != nil || what != nil || by != nil {
		t.Error(what, by, err)
	}
	select {
	case <-h.Changed():
	default:
		t.Error("nothing was told")
	}
	select {
	case <-h.Changed():
		t.Error("what was told is told again")
	default:
	}
	if err := h.Apply(Plan{}); err != nil {
		t.Fatal(err)
	}
	if h.ForgetPlans(); len(h.Plans()) != 0 {
		t.Error(h.Plans())
	}
	if err := h.Close(); err != nil || !h.Closed() {
		t.Error(err)
	}
}
