package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"culvert/ike/message"
)

// What a flood may consist of. Each message has other SPIs, nonces and values, and
// comes from another address of FloodFrom and another port.
const (
	FloodInit     = "init"       // IKE_SA_INIT with x25519, as an honest client sends it
	FloodModp     = "modp2048"   // the same with modp2048
	FloodCookie   = "cookie"     // IKE_SA_INIT with a COOKIE that nobody gave
	FloodGarbage  = "garbage"    // random bytes behind a header of IKE_SA_INIT
	FloodFragment = "fragment"   // fragments of IKE_AUTH for IKE SAs that do not exist
	FloodAuth     = "auth"       // IKE_AUTH for IKE SAs that do not exist
	FloodResume   = "resume"     // IKE_SESSION_RESUME with a ticket of random bytes
	FloodESP      = "esp-in-udp" // ESP for SAs that do not exist
)

// FloodFrom is where floods come from: who is under attack needs a route back.
var FloodFrom = netip.MustParsePrefix("198.18.0.0/15")

// Flooded is what a flood was.
type Flooded struct {
	Sent map[string]int // by kind
	All  int
	Took time.Duration
}

// Flood is one that goes on.
type Flood struct{ *Process }

// Flood begins to send rate messages a second for a while to the IKE ports of
// target, of the kinds in turn, with spoofed source addresses.
func (n *Node) Flood(target netip.Addr, rate int, d time.Duration, kinds ...string) *Flood {
	n.lab.TB.Helper()
	args := fmt.Sprintf("flood %s %d %.3f %s", target, rate, d.Seconds(), strings.Join(kinds, ","))
	return &Flood{n.Start("flood-"+n.Name, []string{helperEnv + "=" + args}, testBinary())}
}

// Result waits for its end.
func (f *Flood) Result(ctx context.Context) (Flooded, error) {
	if err := f.Wait(ctx); err != nil {
		return Flooded{}, fmt.Errorf("flood: %w: %s", err, f.Log())
	}
	lines := strings.Split(strings.TrimSpace(f.Log()), "\n")
	var r Flooded
	err := json.Unmarshal([]byte(lines[len(lines)-1]), &r)
	return r, err
}

// flood is the helper: `flood TARGET RATE SECONDS KIND,KIND,…`.
func flood(args []string) error {
	target, err1 := netip.ParseAddr(args[0])
	rate, err2 := strconv.Atoi(args[1])
	seconds, err3 := strconv.ParseFloat(args[2], 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	kinds := strings.Split(args[3], ",")
	f := Flooded{Sent: map[string]int{}}
	start := time.Now()
	random := rand.New(rand.NewPCG(uint64(start.UnixNano()), 0))
	length := time.Duration(seconds * float64(time.Second))
	for f.Took = 0; f.Took < length; f.Took = time.Since(start) {
		for due := int(f.Took.Seconds() * float64(rate)); f.All < due; f.All++ {
			kind := kinds[f.All%len(kinds)]
			pkt := spoofed(random, target, kind)
			if pkt == nil {
				return fmt.Errorf("unknown kind of flood %q", kind)
			}
			to := syscall.SockaddrInet4{Addr: target.As4()}
			if err := syscall.Sendto(fd, pkt, 0, &to); err != nil && !errors.Is(err, syscall.ENOBUFS) {
				return err
			}
			f.Sent[kind]++
		}
		time.Sleep(time.Millisecond)
	}
	out, err := json.Marshal(f)
	fmt.Println(string(out))
	return err
}

// spoofed is one IPv4 packet of a flood; the kernel fills in its checksum.
func spoofed(r *rand.Rand, target netip.Addr, kind string) []byte {
	data, port := floodMessage(r, kind), uint16(500)
	if data == nil {
		return nil
	}
	switch kind {
	case FloodESP:
		port = 4500
	case FloodAuth, FloodFragment:
		port = 4500
		data = slices.Insert(data, 0, 0, 0, 0, 0) // the non-ESP marker
	}
	pkt := make([]byte, 28, 28+len(data))
	pkt[0], pkt[8], pkt[9] = 0x45, 64, syscall.IPPROTO_UDP
	from := FloodFrom.Addr().As4()
	binary.BigEndian.PutUint32(pkt[12:], binary.BigEndian.Uint32(from[:])|r.Uint32()>>FloodFrom.Bits())
	to := target.As4()
	copy(pkt[16:], to[:])
	binary.BigEndian.PutUint16(pkt[20:], uint16(1024+r.IntN(60000)))
	binary.BigEndian.PutUint16(pkt[22:], port)
	binary.BigEndian.PutUint16(pkt[24:], uint16(8+len(data)))
	return append(pkt, data...)
}

// floodMessage is what it carries; nil if there is no such kind.
func floodMessage(r *rand.Rand, kind string) []byte {
	h := message.Header{SPIi: r.Uint64() | 1, Version: 0x20, Exchange: message.ExchangeIKESAInit, Flags: message.FlagInitiator}
	group, public := uint16(31), 32
	var first []message.Payload
	switch kind {
	case FloodInit:
	case FloodModp:
		group, public = 14, 256
	case FloodCookie:
		first = []message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: noise(r, 32)}}
	case FloodGarbage:
		return append((&message.Message{Header: h}).Append(nil), noise(r, 200)...)
	case FloodESP:
		return noise(r, 120)
	case FloodAuth, FloodFragment:
		h.SPIr, h.Exchange, h.ID = r.Uint64()|1, message.ExchangeIKEAuth, 1
		b := append((&message.Message{Header: h}).Append(nil), noise(r, 220)...)
		b[16] = byte(message.TypeSK)
		body := b[message.HeaderLen:]
		body[0], body[1] = 0, 0
		binary.BigEndian.PutUint16(body[2:], uint16(len(body)))
		if kind == FloodFragment {
			b[16] = byte(message.TypeSKF)
			binary.BigEndian.PutUint32(body[4:], 1<<16|50) // the first of 50
		}
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
		return b
	case FloodResume: // RFC 5723: nonce and TICKET_OPAQUE
		h.Exchange = 38
		m := message.Message{Header: h, Payloads: []message.Payload{&message.Nonce{Data: noise(r, 32)},
			&message.Notify{Kind: 16413, Data: noise(r, 180)}}}
		return m.Append(nil)
	default:
		return nil
	}
	m := message.Message{Header: h, Payloads: append(first,
		&message.SA{Proposals: []message.Proposal{{Number: 1, Protocol: 1, Transforms: []message.Transform{
			{Type: 1, ID: 12, KeyBits: 256}, {Type: 1, ID: 12, KeyBits: 128}, {Type: 2, ID: 5}, {Type: 2, ID: 7}, {Type: 3, ID: 12}, {Type: 3, ID: 14},
			{Type: 4, ID: 31}, {Type: 4, ID: 14}}}}},
		&message.KE{Group: group, Data: noise(r, public)}, &message.Nonce{Data: noise(r, 32)},
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: noise(r, 20)},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: noise(r, 20)})}
	return m.Append(nil)
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if n == 256 {
		b[0] &= 0x7f // below the prime of modp2048
	}
	return b
}
