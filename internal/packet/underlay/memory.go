package underlay

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"culvert/internal/packet/wire"
)

// Memory is a Conn without sockets, for simulated networks: what is sent goes
// to a function, Deliver brings what arrives. Framing and demultiplexing are
// those of the real sockets.
type Memory struct {
	addr      netip.Addr
	ike, natt uint16
	raw       bool
	send      func(Packet)
	queue     chan arrived
	closed    chan struct{}
	once      sync.Once
	refuse    atomic.Pointer[func(Packet) error]
}

type arrived struct {
	from netip.AddrPort
	to   netip.AddrPort
	data []byte
	raw  bool
	kind Kind
	tos  uint8
	ttl  uint8
}

// memoryQueue is how many datagrams wait for Recv before they are dropped.
const memoryQueue = 4096

// NewMemory makes the attachment of a gateway with one address. send is called
// for each packet from the goroutine of Send: Local and Remote are complete,
// Data is the datagram as it is on the wire, marker included, and is borrowed
// for the call only.
func NewMemory(addr netip.Addr, ike, natt uint16, send func(Packet)) *Memory {
	return &Memory{addr: addr, ike: ike, natt: natt, send: send, queue: make(chan arrived, memoryQueue), closed: make(chan struct{})}
}

// WithRaw lets m carry ESP and AH without UDP. Call it before m is used.
func (m *Memory) WithRaw() *Memory {
	m.raw = true
	return m
}

// Raw: see Rawer.
func (m *Memory) Raw() bool { return m.raw }

// DeliverRaw brings a copy of what came without UDP: an ESP packet, or a whole
// IP packet with an AH. False where it is dropped: see Deliver.
func (m *Memory) DeliverRaw(kind Kind, from, to netip.Addr, data []byte) bool {
	return m.DeliverPacket(Packet{Buf: data, Len: len(data), Kind: kind,
		Local: netip.AddrPortFrom(from, 0), Remote: netip.AddrPortFrom(to, 0)})
}

// Deliver brings a copy of a datagram as it is on the wire. False where it is
// dropped: for a port without socket, longer than UDP carries, queue full, closed.
func (m *Memory) Deliver(from, to netip.AddrPort, datagram []byte) bool {
	return m.DeliverPacket(Packet{Buf: datagram, Len: len(datagram), NATT: true, Local: from, Remote: to})
}

// DeliverPacket brings a copy of what the function of another Memory was given,
// from p.Local to p.Remote, and its TOS. False where it is dropped: see Deliver.
func (m *Memory) DeliverPacket(p Packet) bool {
	d := arrived{from: p.Local, to: p.Remote, data: append([]byte(nil), p.Data()...), raw: p.isRaw(), kind: p.Kind, tos: p.TOS, ttl: p.TTL}
	switch {
	case !d.raw:
		if port := d.to.Port(); port != m.ike && port != m.natt || len(d.data) > MaxDatagram {
			return false
		}
	case !m.raw || d.to.Addr() != m.addr || len(d.data) > maxIP:
		return false
	case d.kind == AH:
		d.tos = wire.TOS(d.data)
	}
	return m.put(d)
}

func (m *Memory) put(d arrived) bool {
	select {
	case <-m.closed:
		return false
	default:
	}
	select {
	case m.queue <- d:
		return true
	default:
		return false
	}
}

// Recv blocks until a datagram was delivered that is one of the three kinds.
func (m *Memory) Recv(packets []Packet) (int, error) {
	for n := 0; len(packets) > 0; {
		var d arrived
		select {
		case <-m.closed:
			return 0, net.ErrClosed
		default:
		}
		if n == 0 {
			select {
			case <-m.closed:
				return 0, net.ErrClosed
			case d = <-m.queue:
			}
		} else {
			select {
			case d = <-m.queue:
			default:
				return n, nil
			}
		}
		p := &packets[n]
		p.TOS, p.TTL = d.tos, d.ttl
		if len(p.Buf) < Headroom+len(d.data) {
			continue // as a socket truncates
		}
		copy(p.Buf[Headroom:], d.data)
		if d.raw {
			p.Off, p.Len, p.Kind, p.NATT, p.Header = Headroom, len(d.data), d.kind, false, d.kind == AH
			p.Local, p.Remote = d.to, d.from
			n++
		} else {
			p.accept(len(d.data), d.to.Port() == m.natt, d.to, d.from)
			n++
		}
		if n == len(packets) {
			return n, nil
		}
	}
	return 0, nil
}

// Refuse has f asked about each packet that is sent: one for which it returns an
// error does not leave, as with a system that refuses it. nil lets all leave again.
func (m *Memory) Refuse(f func(Packet) error) {
	if f == nil {
		m.refuse.Store(nil)
		return
	}
	m.refuse.Store(&f)
}

// Send hands each packet to the function given to NewMemory.
func (m *Memory) Send(packets []Packet) (n int, err error) {
	for i := range packets {
		select {
		case <-m.closed:
			return n, net.ErrClosed
		default:
		}
		p := &packets[i]
		if f := m.refuse.Load(); f != nil {
			if e := (*f)(*p); e != nil {
				err = e
				continue
			}
		}
		if p.isRaw() {
			if e := m.sendRaw(p); e != nil {
				err = e
				continue
			}
			n++
			continue
		}
		natt, ok := byNATT(p, m.ike, m.natt)
		local := p.Local.Addr()
		if !local.IsValid() {
			local = m.addr
		}
		if !ok || local != m.addr || local.Is4() != p.Remote.Addr().Is4() {
			err = ErrNoSocket
			continue
		}
		data, ok := p.frame(natt)
		if !ok {
			err = ErrFrame
			continue
		}
		out := Packet{Buf: data, Len: len(data), Remote: p.Remote, Kind: p.Kind, NATT: natt, TOS: p.TOS, Whole: p.Whole}
		port := m.ike
		if natt {
			port = m.natt
		}
		out.Local = netip.AddrPortFrom(local, port)
		m.send(out)
		n++
	}
	return n, err
}

// sendRaw hands on what the other side's sockets would hand up: ESP without the
// IP header, AH with it.
func (m *Memory) sendRaw(p *Packet) error {
	if local := p.Local.Addr(); !m.raw || local.IsValid() && local != m.addr || m.addr.Is4() != p.Remote.Addr().Is4() {
		return ErrNoSocket
	}
	data, ok := p.frameRaw()
	if !ok {
		return ErrFrame
	}
	tos, ttl := p.TOS, uint8(64)
	if p.Header {
		tos, ttl = wire.TOS(data), wire.HopLimit(data)
	}
	if p.Kind == ESP && p.Header {
		front, _, _, ok := wire.PathHeaders(data)
		if !ok {
			return ErrFrame
		}
		data = data[front:]
	}
	m.send(Packet{Buf: data, Len: len(data), Kind: p.Kind, Header: p.Kind == AH, TOS: tos, TTL: ttl,
		Local: netip.AddrPortFrom(m.addr, 0), Remote: netip.AddrPortFrom(p.Remote.Addr(), 0)})
	return nil
}

// byNATT chooses the port: by Local.Port where it is given, else by NATT.
func byNATT(p *Packet, ike, natt uint16) (isNATT, ok bool) {
	switch p.Local.Port() {
	case 0:
		return p.NATT, true
	case natt:
		return true, true
	case ike:
		return false, true
	}
	return false, false
}

// Ports are the two local UDP ports.
func (m *Memory) Ports() (ike, natt uint16) { return m.ike, m.natt }

// Close wakes Recv.
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}
