package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// send is a command of udp-source: datagrams at a rate for a time. Each carries the
// trial and its tunnel.
type send struct {
	Trial uint32
	Rate  float64 // datagrams a second
	For   time.Duration
}

// sent is its answer. Datagrams that the kernel refused count: they are lost.
type sent struct {
	Datagrams, Bytes uint64
	Took             time.Duration
}

// count is a command of udp-sink: at that time, what has arrived of a trial.
type count struct {
	Trial uint32
	At    time.Time
}

type arrived struct {
	Datagrams, Bytes uint64
	Tunnels          int // from how many of them
}

const (
	udpBatch  = 32                   // datagrams, or bursts, in one call
	udpBehind = 2 * time.Millisecond // as much of what a sender was late is sent at once
	udpHeader = 8                    // trial and tunnel
)

// mmsghdr is struct mmsghdr of sendmmsg and recvmmsg.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// mmsg calls sendmmsg or recvmmsg for all of the messages; done is how many were.
func mmsg(call uintptr, fd int, msgs []mmsghdr, flags uintptr) (done int, err error) {
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func udpSocket(address string, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 32<<20); err != nil {
			return -1, err
		}
	}
	return fd, unix.Bind(fd, inet(address, port))
}

func inet(address string, port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(address).To4()), Port: port}
}

func (j job) udpSource() error {
	from := "10.1.0.1"
	if j.Tunnels > 0 {
		from = "0.0.0.0" // each datagram says which
	}
	fd, err := udpSocket(from, udpPort)
	if err != nil {
		return err
	}
	burst := max(1, j.Burst)
	var (
		msgs  [udpBatch]mmsghdr
		iovs  [udpBatch]unix.Iovec
		names [udpBatch]unix.RawSockaddrInet4
		bufs  [udpBatch][]byte
		ctrl  [udpBatch][]byte
	)
	for i := range msgs {
		size := j.Sizes[i%len(j.Sizes)]
		bufs[i] = make([]byte, size*burst)
		iovs[i].Base = &bufs[i][0]
		iovs[i].SetLen(len(bufs[i]))
		msgs[i].hdr.Iov, msgs[i].hdr.Iovlen = &iovs[i], 1
		names[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte{10, 2, 0, 1}}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&names[i].Port))[:], udpPort)
		msgs[i].hdr.Name, msgs[i].hdr.Namelen = (*byte)(unsafe.Pointer(&names[i])), uint32(unsafe.Sizeof(names[i]))
		switch {
		case burst > 1:
			ctrl[i] = segmentControl(uint16(size))
		case j.Tunnels > 0:
			ctrl[i] = sourceControl()
		}
		if ctrl[i] != nil {
			msgs[i].hdr.Control = &ctrl[i][0]
			msgs[i].hdr.SetControllen(len(ctrl[i]))
		}
	}
	tunnel, at := 0, 0
	ring := udpBatch / len(j.Sizes) * len(j.Sizes) // messages with whole turns of the sizes
	return serve(func(s send) (sent, error) {
		var out sent
		start := time.Now()
		per := time.Duration(float64(burst) / s.Rate * float64(time.Second))
		next := start
		for {
			now := time.Now()
			if now.Sub(start) >= s.For {
				out.Took = now.Sub(start)
				return out, nil
			}
			if behind := now.Sub(next); behind > udpBehind {
				next = now.Add(-udpBehind)
			}
			due := int(now.Sub(next)/max(per, 1)) + 1
			if now.Before(next) {
				// What is asked for sleeps of this length comes late by 50 µs, and is made up for.
				time.Sleep(min(next.Sub(now), 200*time.Microsecond))
				continue
			}
			due = min(due, ring-at)
			for i := at; i < at+due; i++ {
				for b := bufs[i]; len(b) > 0; b = b[len(bufs[i])/burst:] {
					binary.BigEndian.PutUint32(b, s.Trial)
					binary.BigEndian.PutUint32(b[4:], uint32(tunnel))
				}
				if j.Tunnels > 0 {
					names[i].Addr = tunnelBytes(2, tunnel)
					source := tunnelBytes(1, tunnel)
					copy(ctrl[i][unix.CmsgLen(0)+4:], source[:]) // in_pktinfo.ipi_spec_dst
					tunnel = (tunnel + 1) % j.Tunnels
				}
				out.Bytes += uint64(len(bufs[i]))
			}
			out.Datagrams += uint64(due * burst)
			next = next.Add(time.Duration(due) * per)
			for end := at + due; at < end; {
				n, err := mmsg(unix.SYS_SENDMMSG, fd, msgs[at:end], 0)
				switch {
				case err == unix.ENOBUFS, err == unix.EPERM, err == unix.EAGAIN:
					at++ // lost
				case err == unix.EINTR:
				case err != nil:
					return out, fmt.Errorf("send: %w", err)
				default:
					at += n
				}
			}
			at %= ring
		}
	})
}

func tunnelBytes(end, tunnel int) [4]byte {
	tunnel++
	return [4]byte{10, byte(end), byte(tunnel >> 8), byte(tunnel)}
}

// segmentControl is the control message that has the kernel cut a payload.
func segmentControl(size uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return b
}

// sourceControl is the control message that says the source of a datagram.
func sourceControl() []byte {
	b := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	return b
}

func (j job) udpSink() error {
	fd, err := udpSocket("0.0.0.0", udpPort)
	if err != nil {
		return err
	}
	size := 2048
	if j.GRO {
		size = 65536
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			return err
		}
	}
	// The trial and what arrived of it; both are of one goroutine but for being read.
	var trial atomic.Uint32
	var datagrams, bytes atomic.Uint64
	seen := make([]atomic.Uint32, max(1, j.Tunnels)) // the last trial of each
	go func() {
		var (
			msgs [udpBatch]mmsghdr
			iovs [udpBatch]unix.Iovec
			bufs [udpBatch][]byte
			ctrl [udpBatch][64]byte
		)
		for i := range msgs {
			bufs[i] = make([]byte, size)
			iovs[i].Base = &bufs[i][0]
			iovs[i].SetLen(size)
			msgs[i].hdr.Iov, msgs[i].hdr.Iovlen = &iovs[i], 1
		}
		for {
			for i := range msgs {
				msgs[i].hdr.Control = &ctrl[i][0]
				msgs[i].hdr.SetControllen(len(ctrl[i]))
			}
			n, err := mmsg(unix.SYS_RECVMMSG, fd, msgs[:], unix.MSG_WAITFORONE)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "receive:", err)
				os.Exit(1)
			}
			for i := range n {
				length := int(msgs[i].n)
				if length < udpHeader {
					continue
				}
				of, tunnel := binary.BigEndian.Uint32(bufs[i]), int(binary.BigEndian.Uint32(bufs[i][4:]))
				if now := trial.Load(); of < now {
					continue // a straggler
				} else if of > now {
					datagrams.Store(0)
					bytes.Store(0)
					trial.Store(of)
				}
				segment := length
				if j.GRO {
					segment = segmentOf(ctrl[i][:msgs[i].hdr.Controllen], length)
				}
				datagrams.Add(uint64((length + segment - 1) / segment))
				bytes.Add(uint64(length))
				if tunnel < len(seen) {
					seen[tunnel].Store(of)
				}
			}
		}
	}()
	return serve(func(c count) (arrived, error) {
		time.Sleep(time.Until(c.At))
		if trial.Load() != c.Trial {
			return arrived{}, nil
		}
		a := arrived{Datagrams: datagrams.Load(), Bytes: bytes.Load()}
		for i := range seen {
			if seen[i].Load() == c.Trial {
				a.Tunnels++
			}
		}
		return a, nil
	})
}

// segmentOf is the size of the datagrams that were joined; without a control message
// there is one.
func segmentOf(control []byte, length int) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return length
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_UDP && m.Header.Type == unix.UDP_GRO && len(m.Data) >= 4 {
			return max(1, int(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return length
}
