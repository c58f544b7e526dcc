package record

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// kind is the first byte of an input. Numbers are for ever.
type kind uint8

const (
	kindDatagram kind = iota + 1
	kindAcquire
	kindExpire
	kindUsed
	kindAlive
	kindMoved
	kindLocalAddrs
	kindAnswer
	kindSPIs
	kindReconfigure
	kindCommand
	kindTick
	kindTicketKeys
	kindLocalNets
	kindPathClaim
	kindRoutesChanged
	kindUnanswered
	kindSilent
	kindUnknownSPI
	kindWoke
	kindPathUntried
	kindBusy
)

// Reconfigure stands for core.Reconfigure: not the compiled configuration but
// what it was compiled from.
type Reconfigure struct {
	Ports [2]uint16 // IKE and NAT-T, as the sockets have them
	Raw   bool      // the sockets carry ESP and AH without UDP
	From  config.Snapshot
}

// errInput: the bytes are not an input.
var errInput = errors.New("this is not an input")

// appendInput encodes an input. in is one of core's, or a Reconfigure in place
// of core's. All numbers are big-endian; a list or a string has its length in
// front, in 32 bits; an address has its length in 8.
func appendInput(b []byte, in any) ([]byte, error) {
	w := writer{b}
	switch in := in.(type) {
	case core.Datagram:
		w.kind(kindDatagram)
		w.addrPort(in.Local)
		w.addrPort(in.Remote)
		w.flag(in.NATT)
		w.bytes(in.Data)
	case core.Acquire:
		w.kind(kindAcquire)
		w.u32(uint32(in.Policy))
		w.ts(in.Flow.Local)
		w.ts(in.Flow.Remote)
	case core.Expire:
		w.kind(kindExpire)
		w.u64(uint64(in.Child))
		w.flag(in.Hard)
	case core.Used:
		w.kind(kindUsed)
		w.u64(uint64(in.Child))
	case core.Alive:
		w.kind(kindAlive)
		w.u64(uint64(in.Child))
	case core.Moved:
		w.kind(kindMoved)
		w.u64(uint64(in.Child))
		w.addrPort(in.Local)
		w.addrPort(in.Remote)
	case core.PathClaim:
		w.kind(kindPathClaim)
		w.u64(uint64(in.Child))
		w.u32(uint32(in.MTU))
	case core.PathUntried:
		w.kind(kindPathUntried)
		w.u64(uint64(in.Child))
		w.u32(uint32(in.MTU))
	case core.Unanswered:
		w.kind(kindUnanswered)
		w.u64(uint64(in.Child))
	case core.Silent:
		w.kind(kindSilent)
		w.u64(uint64(in.Child))
	case core.Busy:
		w.kind(kindBusy)
		w.u64(uint64(in.Child))
		w.u32(uint32(in.Line))
	case core.UnknownSPI:
		w.kind(kindUnknownSPI)
		w.addrPort(in.Local)
		w.addrPort(in.Remote)
		w.flag(in.NATT)
		w.u32(in.SPI)
		w.u64(uint64(in.Child))
	case core.Woke:
		w.kind(kindWoke)
		w.u64(uint64(in.Apart))
	case core.RoutesChanged:
		w.kind(kindRoutesChanged)
	case core.LocalAddrs:
		w.kind(kindLocalAddrs)
		w.u32(uint32(len(in.Addrs)))
		for _, a := range in.Addrs {
			w.addr(a)
		}
	case core.LocalNets:
		w.kind(kindLocalNets)
		w.u32(uint32(len(in.Nets)))
		for _, p := range in.Nets {
			w.addr(p.Addr())
			w.u8(uint8(p.Bits()))
		}
	case core.Answer:
		w.kind(kindAnswer)
		w.u64(uint64(in.ID))
		w.flag(in.Data != nil)
		w.bytes(in.Data)
		w.fault(in.Err)
	case core.SPIs:
		w.kind(kindSPIs)
		w.u32(uint32(len(in.SPIs)))
		for _, spi := range in.SPIs {
			w.u32(spi)
		}
	case Reconfigure:
		w.kind(kindReconfigure)
		w.u16(in.Ports[0])
		w.u16(in.Ports[1])
		w.flag(in.Raw)
		w.snapshot(&in.From)
	case core.Command:
		w.kind(kindCommand)
		w.u8(uint8(in.Do))
		w.u64(uint64(in.SA))
		if in.Do == core.RedirectPeers {
			w.addr(in.To.Addr)
			w.bytes([]byte(in.To.Name))
			w.bytes([]byte(in.Peer))
			w.u64(uint64(in.Within))
		}
	case core.Tick:
		w.kind(kindTick)
	case core.TicketKeys:
		w.kind(kindTicketKeys)
		w.u32(uint32(len(in.Keys)))
		for _, k := range in.Keys {
			w.short(k.ID[:])
			w.bytes(k.Secret)
			w.u64(uint64(k.Since))
		}
	default:
		return b, fmt.Errorf("a %T cannot be recorded", in)
	}
	return w.b, nil
}

// parseInput is the reverse: one of core's inputs, or a Reconfigure. b is borrowed.
func parseInput(b []byte) (any, error) {
	r := reader{s: cryptobyte.String(b), ok: true}
	var in any
	switch kind(r.u8()) {
	case kindDatagram:
		in = core.Datagram{Local: r.addrPort(), Remote: r.addrPort(), NATT: r.flag(), Data: r.bytes()}
	case kindAcquire:
		in = core.Acquire{Policy: core.PolicyRef(r.u32()), Flow: selector.Pair{Local: r.ts(), Remote: r.ts()}}
	case kindExpire:
		in = core.Expire{Child: core.ChildID(r.u64()), Hard: r.flag()}
	case kindUsed:
		in = core.Used{Child: core.ChildID(r.u64())}
	case kindAlive:
		in = core.Alive{Child: core.ChildID(r.u64())}
	case kindMoved:
		in = core.Moved{Child: core.ChildID(r.u64()), Local: r.addrPort(), Remote: r.addrPort()}
	case kindPathClaim:
		in = core.PathClaim{Child: core.ChildID(r.u64()), MTU: int(r.u32())}
	case kindPathUntried:
		in = core.PathUntried{Child: core.ChildID(r.u64()), MTU: int(r.u32())}
	case kindUnanswered:
		in = core.Unanswered{Child: core.ChildID(r.u64())}
	case kindSilent:
		in = core.Silent{Child: core.ChildID(r.u64())}
	case kindBusy:
		in = core.Busy{Child: core.ChildID(r.u64()), Line: int(r.u32())}
	case kindUnknownSPI:
		in = core.UnknownSPI{Local: r.addrPort(), Remote: r.addrPort(), NATT: r.flag(), SPI: r.u32(), Child: core.ChildID(r.u64())}
	case kindWoke:
		in = core.Woke{Apart: time.Duration(r.u64())}
	case kindRoutesChanged:
		in = core.RoutesChanged{}
	case kindLocalAddrs:
		l := core.LocalAddrs{}
		for range r.count(1) {
			l.Addrs = append(l.Addrs, r.addr())
		}
		in = l
	case kindLocalNets:
		l := core.LocalNets{}
		for range r.count(2) {
			l.Nets = append(l.Nets, r.prefix())
		}
		in = l
	case kindAnswer:
		in = r.answer()
	case kindSPIs:
		l := core.SPIs{}
		for range r.count(4) {
			l.SPIs = append(l.SPIs, r.u32())
		}
		in = l
	case kindReconfigure:
		in = Reconfigure{Ports: [2]uint16{r.u16(), r.u16()}, Raw: r.flag(), From: r.snapshot()}
	case kindCommand:
		in = r.command()
	case kindTick:
		in = core.Tick{}
	case kindTicketKeys:
		l := core.TicketKeys{}
		for range r.count(8 + 4 + 8) {
			l.Keys = append(l.Keys, r.ticketKey())
		}
		in = l
	default:
		return nil, errInput
	}
	if !r.ok || !r.s.Empty() {
		return nil, errInput
	}
	return in, nil
}

type writer struct{ b []byte }

func (w *writer) kind(k kind) { w.b = append(w.b, byte(k)) }
func (w *writer) u8(v uint8)  { w.b = append(w.b, v) }
func (w *writer) u16(v uint16) {
	w.b = append(w.b, byte(v>>8), byte(v))
}
func (w *writer) u32(v uint32) {
	w.u16(uint16(v >> 16))
	w.u16(uint16(v))
}
func (w *writer) u64(v uint64) {
	w.u32(uint32(v >> 32))
	w.u32(uint32(v))
}
func (w *writer) flag(v bool) {
	if v {
		w.u8(1)
		return
	}
	w.u8(0)
}
func (w *writer) bytes(v []byte) {
	w.u32(uint32(len(v)))
	w.b = append(w.b, v...)
}
func (w *writer) short(v []byte) {
	w.u8(uint8(len(v)))
	w.b = append(w.b, v...)
}

func (w *writer) texts(list []string) {
	w.u32(uint32(len(list)))
	for _, s := range list {
		w.bytes([]byte(s))
	}
}

// longestZone is that of an address which is kept whole.
const longestZone = 200

// addr: netip's own encoding never fails; an address with a longer zone than
// fits cannot come from a socket and is kept without it.
func (w *writer) addr(a netip.Addr) {
	if len(a.Zone()) > longestZone {
		a = a.WithZone("")
	}
	b, _ := a.MarshalBinary()
	w.short(b)
}
func (w *writer) addrPort(a netip.AddrPort) {
	w.addr(a.Addr())
	w.u16(a.Port())
}
func (w *writer) ts(t selector.TS) {
	w.addr(t.Lo)
	w.addr(t.Hi)
	w.u8(t.Proto)
	w.u16(t.PortLo)
	w.u16(t.PortHi)
}
func (w *writer) snapshot(s *config.Snapshot) {
	w.bytes([]byte(s.Path))
	w.u32(uint32(len(s.Files)))
	for _, f := range s.Files {
		w.bytes([]byte(f.Path))
		w.u32(uint32(f.Mode))
		w.bytes(f.Data)
	}
	w.u32(uint32(len(s.Globs)))
	for _, g := range s.Globs {
		w.bytes([]byte(g.Pattern))
		w.u32(uint32(len(g.Paths)))
		for _, p := range g.Paths {
			w.bytes([]byte(p))
		}
	}
}

// reader reads what writer wrote. ok is false once anything was short or not as
// writer would have written it.
type reader struct {
	s  cryptobyte.String
	ok bool
}

func (r *reader) u8() (v uint8)   { r.ok = r.ok && r.s.ReadUint8(&v); return v }
func (r *reader) u16() (v uint16) { r.ok = r.ok && r.s.ReadUint16(&v); return v }
func (r *reader) u32() (v uint32) { r.ok = r.ok && r.s.ReadUint32(&v); return v }
func (r *reader) u64() (v uint64) { r.ok = r.ok && r.s.ReadUint64(&v); return v }
func (r *reader) flag() bool {
	v := r.u8()
	r.ok = r.ok && v <= 1
	return v == 1
}

func (r *reader) bytes() []byte {
	n := r.u32()
	var v []byte
	r.ok = r.ok && uint64(n) <= uint64(len(r.s)) && r.s.ReadBytes(&v, int(n))
	if !r.ok {
		return nil
	}
	return v
}

func (r *reader) text() string { return string(r.bytes()) }

// count is the length of a list whose members have at least size bytes.
func (r *reader) count(size int) int {
	n := r.u32()
	r.ok = r.ok && uint64(n)*uint64(size) <= uint64(len(r.s))
	if !r.ok {
		return 0
	}
	return int(n)
}

func (r *reader) addr() (a netip.Addr) {
	n := r.u8()
	var v []byte
	r.ok = r.ok && r.s.ReadBytes(&v, int(n)) && a.UnmarshalBinary(v) == nil && len(a.Zone()) <= longestZone
	return a
}

func (r *reader) addrPort() netip.AddrPort { return netip.AddrPortFrom(r.addr(), r.u16()) }

func (r *reader) prefix() netip.Prefix {
	a, bits := r.addr(), int(r.u8())
	r.ok = r.ok && a.IsValid() && a.Zone() == "" && bits <= a.BitLen()
	return netip.PrefixFrom(a, bits)
}

func (r *reader) ts() selector.TS {
	return selector.TS{Lo: r.addr(), Hi: r.addr(), Proto: r.u8(), PortLo: r.u16(), PortHi: r.u16()}
}

func (r *reader) answer() core.Answer {
	a := core.Answer{ID: core.AskID(r.u64())}
	some, data := r.flag(), r.bytes()
	if some {
		a.Data = append(secret.Bytes{}, data...)
	}
	r.ok = r.ok && (some || len(data) == 0)
	a.Err = r.fault()
	return a
}

// How an Answer failed: not at all, for a reason in words, or for one that the
// endpoint makes a difference of.
const (
	faultNone = iota
	faultText
	faultRefusal
)

func (w *writer) fault(err error) {
	var f *auth.Refusal
	switch {
	case err == nil:
		w.u8(faultNone)
	case errors.As(err, &f):
		w.u8(faultRefusal)
		for _, s := range []string{f.Check, f.Why, f.Hint} {
			w.bytes([]byte(s))
		}
	default:
		w.u8(faultText)
		w.bytes([]byte(err.Error()))
	}
}

func (r *reader) fault() error {
	switch r.u8() {
	case faultNone:
	case faultText:
		return errors.New(r.text())
	case faultRefusal:
		return &auth.Refusal{Check: r.text(), Why: r.text(), Hint: r.text()}
	default:
		r.ok = false
	}
	return nil
}

func (r *reader) ticketKey() (k core.TicketKey) {
	r.ok = r.ok && r.u8() == uint8(len(k.ID)) && r.s.CopyBytes(k.ID[:])
	k.Secret, k.Since = r.bytes(), int64(r.u64())
	return k
}

func (r *reader) snapshot() (s config.Snapshot) {
	s.Path = r.text()
	for range r.count(12) {
		s.Files = append(s.Files, config.SnapshotFile{Path: r.text(), Mode: fs.FileMode(r.u32()), Data: r.bytes()})
	}
	for range r.count(8) {
		g := config.SnapshotGlob{Pattern: r.text()}
		for range r.count(4) {
			g.Paths = append(g.Paths, r.text())
		}
		s.Globs = append(s.Globs, g)
	}
	return s
}

func (r *reader) command() core.Command {
	c := core.Command{Do: core.CommandKind(r.u8()), SA: core.SAID(r.u64())}
	if c.Do == core.RedirectPeers {
		c.To.Addr, c.To.Name, c.Peer = r.addr(), string(r.bytes()), string(r.bytes())
		c.Within = time.Duration(r.u64())
	}
	return c
}
