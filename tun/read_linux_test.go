package tun

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/poll"
)

// took is what a reader with buffers of the given room makes of a packet in one read after the
// other, until nothing is left of it.
func took(t *testing.T, r *reader, room, buffers int, head, pkt []byte) (list [][]byte, reads []int) {
	t.Helper()
	r.bufs, r.sizes, r.offset = make([][]byte, buffers), make([]int, buffers), Offset
	for i := range r.bufs {
		r.bufs[i] = make([]byte, Offset+room)
	}
	copy(r.hold, head)
	copy(r.hold[offloadLen:], pkt)
	r.n, r.err = 0, nil
	for r.packet(offloadLen + len(pkt)); ; r.cutRest() {
		for i := range r.n {
			list = append(list, bytes.Clone(r.bufs[i][Offset:][:r.sizes[i]]))
		}
		reads = append(reads, r.n)
		if r.n = 0; r.rest.left() == 0 || r.err != nil {
			return list, reads
		}
	}
}

// However many buffers there are and however long they are, the packets are the same.
func TestReadsIntoWhatThereIs(t *testing.T) {
	head, pkt := whole(offloadTCPv4, 5000, 1000, flagACK|flagPSH, nil)
	want := cut(t, head, bytes.Clone(pkt))
	for _, c := range []struct {
		room, buffers int
		reads         []int
	}{
		{MaxMTU, 8, []int{5}},
		{MaxMTU, 5, []int{5}},
		{MaxMTU, 4, []int{4, 1}},
		{MaxMTU, 2, []int{2, 2, 1}},
		{MaxMTU - 1, 8, []int{5}},
		{1040, 2, []int{2, 2, 1}}, // just long enough for each packet
	} {
		r := &reader{hold: make([]byte, offloadLen+MaxMTU)}
		got, reads := took(t, r, c.room, c.buffers, head, pkt)
		if r.err != nil || !slices.Equal(reads, c.reads) {
			t.Errorf("%d buffers of %d bytes: reads of %v packets, want %v; %v", c.buffers, c.room, reads, c.reads, r.err)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d buffers of %d bytes: the packets differ", c.buffers, c.room)
		}
	}
	// A packet for itself.
	one := make([]byte, offloadLen)
	for _, room := range []int{MaxMTU, len(pkt)} {
		r := &reader{hold: make([]byte, offloadLen+MaxMTU)}
		if got, reads := took(t, r, room, 2, one, pkt); len(got) != 1 || !bytes.Equal(got[0], pkt) || len(reads) != 1 {
			t.Errorf("a buffer of %d bytes: reads of %v packets; %v", room, reads, r.err)
		}
	}
}

// A packet that is too long for its buffer, or that is none, is lost, and an error says so.
func TestReadsWhatIsLost(t *testing.T) {
	head, pkt := whole(offloadTCPv4, 5000, 1000, flagACK, nil)
	one := make([]byte, offloadLen)
	for name, c := range map[string]struct {
		room int
		head []byte
	}{
		"it stands for several": {1039, head},
		"it stands for itself":  {len(pkt) - 1, one},
	} {
		r := &reader{hold: make([]byte, offloadLen+MaxMTU)}
		if got, _ := took(t, r, c.room, 8, c.head, pkt); len(got) != 0 || !errors.Is(r.err, ErrPacket) {
			t.Errorf("%s: %d packets, %v", name, len(got), r.err)
		}
	}
	r := &reader{hold: make([]byte, offloadLen+MaxMTU), bufs: [][]byte{make([]byte, 100)}, sizes: []int{0}, offset: Offset}
	if r.packet(offloadLen - 1); r.n != 0 || !errors.Is(r.err, ErrPacket) {
		t.Errorf("no offload header: %d packets, %v", r.n, r.err)
	}
}

// What a read of the device's file comes to: a packet, no packet, or an error of the file.
func TestDrain(t *testing.T) {
	drain := func(fd int) *reader {
		r := &reader{hold: make([]byte, offloadLen+MaxMTU), bufs: [][]byte{make([]byte, Offset+100)}, sizes: []int{0}, offset: Offset}
		r.drain(uintptr(fd))
		return r
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	if _, err := unix.Write(pipe[1], append(make([]byte, offloadLen), "packet"...)); err != nil {
		t.Fatal(err)
	}
	if r := drain(pipe[0]); r.n != 1 || r.sizes[0] != 6 || string(r.bufs[0][Offset:][:6]) != "packet" || r.err != nil {
		t.Errorf("a packet: %d packets, %v", r.n, r.err)
	}
	if _, err := unix.Write(pipe[1], make([]byte, offloadLen)); err != nil {
		t.Fatal(err)
	}
	if r := drain(pipe[0]); r.n != 1 || r.sizes[0] != 0 || r.err != nil {
		t.Errorf("a header alone: %d packets, %v", r.n, r.err)
	}
	unix.Close(pipe[1])
	if r := drain(pipe[0]); r.n != 0 || !errors.Is(r.err, ErrPacket) {
		t.Errorf("no header: %d packets, %v", r.n, r.err)
	}
	folder, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(folder)
	if r := drain(folder); !errors.Is(r.err, unix.EISDIR) || errors.Is(r.err, ErrPacket) {
		t.Errorf("what is no device: %v", r.err)
	}
}

// Where there is nothing to read, drain waits: for a packet, and until the set is closed.
func TestDrainWaits(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	ready, err := poll.New()
	if err == nil {
		err = ready.Add(pipe[0], 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{ready: ready, hold: make([]byte, offloadLen+MaxMTU), bufs: [][]byte{make([]byte, Offset+100)}, sizes: []int{0}, offset: Offset}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.drain(uintptr(pipe[0]))
		if r.n != 1 || r.sizes[0] != 6 || r.err != nil {
			t.Errorf("a packet: %d packets, %v", r.n, r.err)
		}
		if r.n = 0; r.err == nil {
			r.drain(uintptr(pipe[0]))
		}
	}()
	if _, err := unix.Write(pipe[1], append(make([]byte, offloadLen), "packet"...)); err != nil {
		t.Fatal(err)
	}
	if err := ready.Close(); err != nil { // at once or while it waits
		t.Error(err)
	}
	<-done
	if !errors.Is(r.err, os.ErrClosed) {
		t.Error(r.err)
	}
}

// Reading allocates nothing.
func TestReadAllocatesNothing(t *testing.T) {
	head, pkt := whole(offloadTCPv4, 5000, 1000, flagACK, nil)
	r := &reader{hold: make([]byte, offloadLen+MaxMTU), offset: Offset, sizes: make([]int, 8)}
	for range cap(r.sizes) {
		r.bufs = append(r.bufs, make([]byte, Offset+MaxMTU))
	}
	for _, h := range [][]byte{head, make([]byte, offloadLen)} {
		if n := testing.AllocsPerRun(100, func() {
			r.n = 0
			copy(r.hold, h)
			copy(r.hold[offloadLen:], pkt)
			r.packet(offloadLen + len(pkt))
		}); n > 0 || r.err != nil {
			t.Errorf("%v allocations, %v", n, r.err)
		}
	}
}
