package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// echo is a command of ping: requests at an interval for a time. The far kernel
// answers, so that no process but the gateways is on the way.
type echo struct{ For, Every time.Duration }

// echoed is its answer: the round trips in nanoseconds, and how many requests there were.
type echoed struct {
	Sent   int
	Trips  []int64
	Strays int // answers to nothing
}

func (j job) ping() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, inet("10.1.0.1", 0)); err != nil {
		return err
	}
	if err := unix.Connect(fd, inet("10.2.0.1", 0)); err != nil {
		return err
	}
	id := uint16(os.Getpid())
	var mu sync.Mutex
	sentAt := map[uint16]time.Time{}
	var out echoed
	go func() {
		buf := make([]byte, 2048)
		for {
			n, err := unix.Read(fd, buf)
			now := time.Now()
			if err != nil {
				fmt.Fprintln(os.Stderr, "receive:", err)
				if err == unix.EINTR {
					continue
				}
				os.Exit(1)
			}
			seq, ok := echoReply(buf[:n], id)
			if !ok {
				continue
			}
			mu.Lock()
			if at, is := sentAt[seq]; is {
				out.Trips = append(out.Trips, now.Sub(at).Nanoseconds())
				delete(sentAt, seq)
			} else {
				out.Strays++
			}
			mu.Unlock()
		}
	}()
	seq := uint16(0)
	return serve(func(e echo) (echoed, error) {
		mu.Lock()
		clear(sentAt)
		out = echoed{}
		mu.Unlock()
		for end := time.Now().Add(e.For); time.Now().Before(end); time.Sleep(e.Every) {
			seq++
			packet := echoRequest(id, seq)
			mu.Lock()
			sentAt[seq] = time.Now()
			out.Sent++
			mu.Unlock()
			if _, err := unix.Write(fd, packet); err != nil && err != unix.ENOBUFS {
				return echoed{}, fmt.Errorf("send: %w", err)
			}
		}
		time.Sleep(200 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return echoed{out.Sent, append([]int64(nil), out.Trips...), out.Strays}, nil
	})
}

// echoRequest is an ICMP echo request of 64 bytes (RFC 792).
func echoRequest(id, seq uint16) []byte {
	b := make([]byte, 64)
	b[0] = 8
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return b
}

// echoReply is the sequence number of an answer to us, in an IPv4 packet.
func echoReply(packet []byte, id uint16) (seq uint16, ok bool) {
	if len(packet) < 20 {
		return 0, false
	}
	header := int(packet[0]&15) * 4
	if len(packet) < header+8 || packet[header] != 0 || binary.BigEndian.Uint16(packet[header+4:]) != id {
		return 0, false
	}
	return binary.BigEndian.Uint16(packet[header+6:]), true
}
