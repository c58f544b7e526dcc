package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
)

// tunnels are the shapes with an outer header of their own.
func tunnels() (list []shape) {
	for _, s := range shapes() {
		if s.tunnel {
			list = append(list, s)
		}
	}
	return list
}

// withTOS is a packet between the inner ends.
func (s shape) withTOS(tos, ttl uint8) []byte {
	pkt := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 2, []byte("marked"))
	wire.SetTOS(pkt, tos)
	if s.inner6 {
		pkt[7] = ttl
	} else {
		pkt[8] = ttl
		wire.FillIPv4Checksum(pkt)
	}
	return pkt
}

// outerTOS is the type of service that the left's last packet leaves with.
func (s shape) outerTOS(g *gateway) uint8 {
	if p := g.conn.last; p.Header {
		return wire.TOS(g.conn.sent[0])
	}
	return g.conn.last.TOS
}

// arrive hands the right what the left has sent, with another outer type of service.
func (s shape) arrive(t *testing.T, left, right *gateway, tos uint8) Reason {
	t.Helper()
	p := s.carried(t, left)
	p.TOS = tos
	if p.Kind == underlay.AH {
		wire.SetTOS(p.Data(), tos)
	}
	return right.path.Receive(start, p)
}

// RFC 6040 §4.2, figure 4, in words: what the receiver has to make of inner and
// outer field. ! marks what no sender makes.
var figure4 = map[string][4]string{
	//           outer Not-ECT  ECT(0)      ECT(1)      CE
	"Not-ECT": {"Not-ECT", "Not-ECT!", "Not-ECT!", "drop"},
	"ECT(0)":  {"ECT(0)", "ECT(0)", "ECT(1)", "CE"},
	"ECT(1)":  {"ECT(1)", "ECT(1)!", "ECT(1)", "CE"},
	"CE":      {"CE", "CE", "CE!", "CE"},
}

var codepoints = map[string]uint8{"Not-ECT": 0, "ECT(1)": 1, "ECT(0)": 2, "CE": 3}

// Every pair of fields, in every protocol and family: the inner packet gets the
// field that it has to, and nothing else of it changes.
func TestECNIn(t *testing.T) {
	const dscp = 0x2e << 2
	for _, s := range tunnels() {
		left, right := s.connect(t)
		for inner, row := range figure4 {
			for column, outer := range []string{"Not-ECT", "ECT(0)", "ECT(1)", "CE"} {
				before := right.values()
				pkt := s.withTOS(dscp|codepoints[inner], 9)
				if v := left.path.SendPlain(start, pkt); v != Passed {
					t.Fatal(v)
				}
				// The path remarks the DSCP as well, which stays outside.
				v := s.arrive(t, left, right, 0x14<<2|codepoints[outer])
				got := right.host.take()
				want := map[string]uint64{"rx-packets": 1, "rx-bytes": uint64(len(pkt))}
				verdict := row[column]
				switch {
				case verdict == "drop":
					want = map[string]uint64{"in-header-errors": 1}
					if v != InHeaderErrors || len(got) != 0 {
						t.Errorf("%v: inner %s outer %s: %v", s, inner, outer, v)
					}
				default:
					if verdict[len(verdict)-1] == '!' {
						verdict = verdict[:len(verdict)-1]
						want["rx-ecn-unexpected"] = 1
					}
					wire.SetTOS(pkt, dscp|codepoints[verdict])
					if v != Passed || len(got) != 1 || !bytes.Equal(got[0], pkt) || !wire.VerifyIPv4Checksum(got[0]) {
						t.Errorf("%v: inner %s outer %s: %v, %x, want %x", s, inner, outer, v, got, pkt)
					}
				}
				right.moved(t, before, want)
			}
		}
	}
}

// The outer header has the inner type of service, all 256 of them, or the DSCP of
// the configuration and the inner ECN; the inner packet goes along as it is.
func TestOuterTOS(t *testing.T) {
	for _, s := range shapes() {
		left, right := s.connect(t)
		for _, dscp := range []int{-1, 0, 46, 63} {
			left.path.cfg.DSCP = nil
			if dscp >= 0 {
				value := uint8(dscp)
				left.path.cfg.DSCP = &value
			}
			for tos := range 256 {
				want := uint8(tos)
				if s.tunnel && dscp >= 0 {
					want = uint8(dscp<<2 | tos&3)
				}
				pkt := s.withTOS(uint8(tos), 64)
				if v := left.path.SendPlain(start, pkt); v != Passed {
					t.Fatal(v)
				}
				outer := s.outerTOS(left)
				if outer != want {
					t.Fatalf("%v: inner %#x, DSCP %d: outer %#x, want %#x", s, tos, dscp, outer, want)
				}
				if v := s.arrive(t, left, right, outer); v != Passed {
					t.Fatal(v)
				}
				got := right.host.take()[0]
				if s.protocol == sad.ProtocolAH && !s.tunnel && !s.inner6 { // the identification is ours
					clear(got[4:6])
					wire.FillIPv4Checksum(got)
				}
				if !bytes.Equal(got, pkt) {
					t.Fatalf("%v: %x, want %x", s, got, pkt)
				}
			}
		}
		left.moved(t, nil, map[string]uint64{"tx-packets": 1024, "tx-bytes": 1024 * uint64(len(s.withTOS(0, 0)))})
	}
}

// The TTL is not the data path's: whatever it is, 1 and 0 too, it goes through the
// tunnel unchanged, and a header that is written here begins with 64.
func TestTTLIsLeftAlone(t *testing.T) {
	for _, s := range tunnels() {
		left, right := s.connect(t)
		for _, ttl := range []uint8{0, 1, 2, 64, 255} {
			pkt := s.withTOS(0, ttl)
			if v := left.path.SendPlain(start, pkt); v != Passed {
				t.Fatal(v)
			}
			if on := left.conn.sent[0]; left.conn.last.Header && on[map[bool]int{true: 7, false: 8}[s.outer6]] != 64 {
				t.Errorf("%v: outer header %x", s, on[:20])
			}
			if v := s.arrive(t, left, right, 0); v != Passed {
				t.Fatal(v)
			}
			if got := right.host.take()[0]; !bytes.Equal(got, pkt) {
				t.Errorf("%v: TTL %d: %x, want %x", s, ttl, got, pkt)
			}
		}
	}
}

// A header that is written here has a flow label: with AH alone one for each inner
// flow, around ESP the same for all.
func TestFlowLabel(t *testing.T) {
	for _, s := range tunnels() {
		if !s.outer6 || !s.ah() {
			continue
		}
		left, _ := s.connect(t)
		seen := map[uint32]int{}
		label := func(id uint16) uint32 {
			t.Helper()
			if v := left.path.SendPlain(start, wire.AppendUDPPacket(nil, netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, id), []byte("x"))); v != Passed {
				t.Fatal(v)
			}
			return binary.BigEndian.Uint32(left.conn.take()[0]) & 0xfffff
		}
		for id := range uint16(200) {
			l := label(id)
			if l == 0 || l != label(id) {
				t.Fatalf("%v: flow %d has labels %#x and %#x", s, id, l, label(id))
			}
			seen[l]++
		}
		if s.bundle && len(seen) != 1 || !s.bundle && len(seen) < 195 {
			t.Errorf("%v: %d labels for 200 flows", s, len(seen))
		}
	}
}

// Fragments of one packet have one label, though the others do not have its ports.
func TestFlowLabelOfFragments(t *testing.T) {
	for _, s := range tunnels() {
		if !s.outer6 || s.protocol != sad.ProtocolAH || s.inner6 {
			continue
		}
		left, _ := s.connect(t)
		whole := wire.AppendUDPPacket(nil, netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 2000), make([]byte, 100))
		var labels []uint32
		for _, h := range []wire.IPv4{{More: true}, {FragOffset: 24}} {
			h.ID, h.TTL, h.Proto, h.Src, h.Dst = 7, 64, wire.ProtoUDP, s.leftIn, s.rightIn
			if v := left.path.SendPlain(start, append(h.Append(nil, 24), whole[20+h.FragOffset:][:24]...)); v != Passed {
				t.Fatal(v)
			}
			labels = append(labels, binary.BigEndian.Uint32(left.conn.take()[0])&0xfffff)
		}
		if labels[0] != labels[1] {
			t.Errorf("%v: %x", s, labels)
		}
	}
}

// Marking and unmarking take no memory: TestLinesDoNotAllocate has packets
// without marks.
func TestFieldsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	for _, s := range tunnels() {
		left, right := s.connect(t)
		left.log.quiet, right.log.quiet = true, true
		echo := s.withTOS(0xb8|wire.ECT0, 64)
		p := &underlay.Packet{Buf: make([]byte, underlay.Headroom+2000)}
		if n := testing.AllocsPerRun(100, func() {
			left.conn.n, right.host.n = 0, 0
			left.path.SendPlain(start, echo)
			p.Off, p.Len = underlay.Headroom, copy(p.Buf[underlay.Headroom:], left.conn.sent[0])
			p.Kind, p.NATT, p.Local, p.Remote, p.TOS = left.conn.last.Kind, s.udp, s.right, s.left, wire.CE
			if v := right.path.Receive(start, p); v != Passed {
				t.Fatal(v)
			}
		}); n > 0 {
			t.Errorf("%v: %v allocations", s, n)
		}
		if got := right.host.take()[0]; wire.TOS(got) != 0xb8|wire.CE || !wire.VerifyIPv4Checksum(got) {
			t.Errorf("%v: %x", s, got)
		}
	}
}
