package underlay

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// system stands for sendmmsg: rule says of each message, which is one datagram or
// several that the system would cut, why it is refused. What is not is in left, by
// the datagrams' first byte.
type system struct {
	rule  func(datagrams []byte) unix.Errno
	left  []byte
	tried []string // messages, each as the first bytes of its datagrams
}

func (s *system) sendmmsg(_ int, msgs []mmsghdr) (int, unix.Errno) {
	for i := range msgs {
		var data []byte
		for _, v := range unsafe.Slice(msgs[i].hdr.Iov, msgs[i].hdr.Iovlen) {
			data = append(data, *v.Base)
		}
		s.tried = append(s.tried, string(data))
		if errno := s.rule(data); errno != 0 {
			if i > 0 { // told by the next call, as the system does
				s.tried = s.tried[:len(s.tried)-1]
				return i, 0
			}
			return 0, errno
		}
		s.left = append(s.left, data...)
	}
	return len(msgs), 0
}

// refusing refuses messages that hold a datagram.
func refusing(datagram byte, errno unix.Errno) func([]byte) unix.Errno {
	return func(data []byte) unix.Errno {
		if bytes.IndexByte(data, datagram) >= 0 {
			return errno
		}
		return 0
	}
}

// once gives a few errors, whatever is sent, then none.
func once(list ...unix.Errno) func([]byte) unix.Errno {
	return func([]byte) (errno unix.Errno) {
		if len(list) > 0 {
			errno, list = list[0], list[1:]
		}
		return errno
	}
}

// segments refuses what is to be cut, and single datagrams by another rule.
func segments(errno unix.Errno, single func([]byte) unix.Errno) func([]byte) unix.Errno {
	return func(data []byte) unix.Errno {
		if len(data) > 1 {
			return errno
		}
		return single(data)
	}
}

func room(n int, errno unix.Errno) func([]byte) unix.Errno {
	return func(data []byte) unix.Errno {
		if n < len(data) {
			return errno
		}
		n -= len(data)
		return 0
	}
}

// A batch is sent on behind what the system refuses. What leaves, what is tried again
// and what counts as sent: exactly this.
func TestRefusedMessages(t *testing.T) {
	never := func([]byte) unix.Errno { return 0 }
	for _, c := range []struct {
		name  string
		gso   bool // abcd and efgh are messages to one peer each
		rule  func([]byte) unix.Errno
		left  string
		tried []string
		err   error
	}{
		{"all go", false, never, "abcdefgh", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, nil},
		{"a rule forbids one", false, refusing('c', unix.EPERM), "abdefgh", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, unix.EPERM},
		{"the last", false, refusing('h', unix.EPERM), "abcdefg", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, unix.EPERM},
		{"no buffer for one", false, refusing('c', unix.ENOBUFS), "abdefgh", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, unix.ENOBUFS},
		{"a queue that takes three", false, room(3, unix.ENOBUFS), "abc", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, unix.ENOBUFS},
		{"no route for one", false, refusing('c', unix.ENETUNREACH), "abdefgh", []string{"a", "b", "c", "c", "d", "e", "f", "g", "h"}, unix.ENETUNREACH},
		{"too long", false, refusing('a', unix.EMSGSIZE), "bcdefgh", []string{"a", "a", "b", "c", "d", "e", "f", "g", "h"}, unix.EMSGSIZE},
		{"told of an earlier packet", false, once(unix.ECONNREFUSED), "abcdefgh", []string{"a", "a", "b", "c", "d", "e", "f", "g", "h"}, nil},
		{"interrupted", false, once(unix.EINTR, unix.EINTR, unix.EINTR), "abcdefgh", []string{"a", "a", "a", "a", "b", "c", "d", "e", "f", "g", "h"}, nil},
		{"a send buffer that stays full", false, room(3, unix.EAGAIN), "abc", []string{"a", "b", "c", "d"}, unix.EAGAIN},
		{"the link is down", false, func([]byte) unix.Errno { return unix.ENETDOWN }, "", []string{"a", "b", "c", "d", "e", "f", "g", "h"}, unix.ENETDOWN},

		{"cut by the system", true, never, "abcdefgh", []string{"abcd", "efgh"}, nil},
		{"a rule forbids a peer", true, refusing('c', unix.EPERM), "efgh", []string{"abcd", "efgh"}, unix.EPERM},
		{"cannot be cut", true, segments(unix.EIO, never), "abcdefgh", []string{"abcd", "a", "b", "c", "d", "efgh", "e", "f", "g", "h"}, nil},
		{"need fragments", true, segments(unix.EINVAL, never), "abcdefgh", []string{"abcd", "a", "b", "c", "d", "efgh", "e", "f", "g", "h"}, nil},
		{"one is too long", true, refusing('b', unix.EMSGSIZE), "acdefgh", []string{"abcd", "abcd", "a", "b", "b", "c", "d", "efgh"}, unix.EMSGSIZE},
		{"never room for all at once", true, segments(unix.ENOBUFS, never), "abcdefgh", []string{"abcd", "a", "b", "c", "d", "efgh", "e", "f", "g", "h"}, nil},
		{"no memory for all at once", true, segments(unix.ENOMEM, never), "abcdefgh", []string{"abcd", "a", "b", "c", "d", "efgh", "e", "f", "g", "h"}, nil},
		{"room for two of them", true, room(2, unix.ENOBUFS), "ab", []string{"abcd", "a", "b", "c", "d", "efgh", "e", "h"}, unix.ENOBUFS},
		{"room for one", true, room(1, unix.ENOBUFS), "a", []string{"abcd", "a", "b", "d", "efgh", "e", "h"}, unix.ENOBUFS},
		{"for six", true, room(6, unix.ENOBUFS), "abcdef", []string{"abcd", "efgh", "e", "f", "g", "h"}, unix.ENOBUFS},
		{"cut, and told of an earlier packet", true, once(unix.EHOSTUNREACH), "abcdefgh", []string{"abcd", "abcd", "efgh"}, nil},
		{"one by one, and told of an earlier packet", true, once(unix.EINVAL, unix.ECONNREFUSED, unix.EINTR), "abcdefgh", []string{"abcd", "a", "a", "a", "b", "c", "d", "efgh"}, nil},
		{"one by one, and a full send buffer", true, segments(unix.EINVAL, room(2, unix.EAGAIN)), "ab", []string{"abcd", "a", "b", "c"}, unix.EAGAIN},
	} {
		sys := &system{rule: c.rule}
		b := newBatch()
		b.call = sys.sendmmsg
		s := &socket{gso: c.gso, natt: true}
		b.reset(s)
		for i := range byte(8) {
			p := outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i / 4}), 4500), true, bytes.Repeat([]byte{'a' + i}, 100))
			if !b.put(&p, p.Data()) {
				t.Fatal("full")
			}
		}
		n, err := b.flush()
		if string(sys.left) != c.left || n != len(c.left) || (err != nil) != (c.err != nil) || c.err != nil && !errors.Is(err, c.err) || !slices.Equal(sys.tried, c.tried) {
			t.Errorf("%s: %d sent, %q left, %v; tried %q, want %q, %v, %q", c.name, n, sys.left, err, sys.tried, c.left, c.err, c.tried)
		}
		if cuts := c.name != "cannot be cut"; c.gso && (s.gso != cuts || s.refused.Load() == cuts) {
			t.Errorf("%s: the way out can cut: %v", c.name, s.gso)
		}
	}
}
