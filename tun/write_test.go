package tun

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
)

// What both kinds of device say of the packets that they refuse comes to the same:
// as many as were taken, and those behind a refused one too.
func TestWritesThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		refused map[int]error
		n       int // taken, of six
		on      int // by a device that is closed at the first os.ErrClosed
	}{
		{"none", nil, 6, 6},
		{"first", map[int]error{0: syscall.EINVAL}, 5, 5},
		{"last", map[int]error{5: syscall.ENOBUFS}, 5, 5},
		{"two in a row", map[int]error{2: syscall.EIO, 3: syscall.ENOMEM}, 4, 4},
		{"all", map[int]error{0: syscall.EIO, 1: syscall.EIO, 2: syscall.EIO, 3: syscall.EIO, 4: syscall.EIO, 5: syscall.EIO}, 0, 0},
		{"closed", map[int]error{2: os.ErrClosed}, 5, 2},
	} {
		var bufs [][]byte
		for i := range 6 {
			bufs = append(bufs, []byte{0, 0, byte(i)})
		}
		var tried []int
		joins := func(bufs [][]byte, offset int) (n int, err error) {
			for _, b := range bufs {
				tried = append(tried, int(b[offset]))
				if e := c.refused[int(b[offset])]; e != nil {
					err = errors.Join(err, e)
				} else {
					n += len(b)
				}
			}
			return n, err
		}
		stops := func(bufs [][]byte, offset int) (int, error) {
			for i, b := range bufs {
				tried = append(tried, int(b[offset]))
				if e := c.refused[int(b[offset])]; e != nil {
					return i, e
				}
			}
			return len(bufs), nil
		}
		n, err := writeJoined(joins, bufs, 2)
		if n != c.n || (err != nil) != (len(c.refused) > 0) || !slices.Equal(tried, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("%s, joined: %d, %v, tried %v", c.name, n, err, tried)
		}
		tried = nil
		if n, err = writeOn(stops, bufs, 2); n != c.on || (err != nil) != (len(c.refused) > 0) {
			t.Errorf("%s, on: %d, %v", c.name, n, err)
		}
		if want := []int{0, 1, 2, 3, 4, 5}; c.on == c.n && !slices.Equal(tried, want) {
			t.Errorf("%s, on: tried %v", c.name, tried)
		}
	}
	// Six that were written as two are refused as two, and are six all the same.
	if n, err := writeJoined(func([][]byte, int) (int, error) {
		return 0, errors.Join(syscall.EIO, syscall.EIO)
	}, make([][]byte, 6), 0); n != 0 || err == nil {
		t.Errorf("%d of none, %v", n, err)
	}
}
