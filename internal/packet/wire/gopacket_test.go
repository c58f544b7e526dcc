package wire

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Packets that gopacket builds are seen alike, and packets that are built here
// are seen by gopacket as meant, checksums included.
func TestAgreesWithGopacket(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		payload := make([]byte, r.IntN(100))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		src, dst := randomAddr(r), netip.Addr{}
		for dst = randomAddr(r); dst.BitLen() != src.BitLen(); dst = randomAddr(r) {
		}
		sp, dp := ports(src, uint16(r.Uint32())), ports(dst, uint16(r.Uint32()))
		kind := r.IntN(4)
		theirs := build(t, sp, dp, kind, payload)
		var f Flow
		info, ok := ParseFlow(theirs, &f)
		want := Flow{Src: src, Dst: dst, SrcPort: sp.Port(), DstPort: dp.Port()}
		var ours []byte
		switch kind {
		case 0:
			want.Proto = ProtoTCP
			ours = AppendTCPPacket(nil, TCP{Seq: 1, Ack: 2, Flags: 0x12, Window: 3}, sp, dp, payload)
		case 1:
			want.Proto = ProtoUDP
			ours = AppendUDPPacket(nil, sp, dp, payload)
		case 2: // echo
			want.SrcPort, want.DstPort, want.Proto = 0x0800, 0, ProtoICMP
			if src.Is6() {
				want.SrcPort, want.Proto = 0x8000, ProtoICMPv6
			}
			ours = AppendEcho(nil, src, dst, false, 4, 5, payload)
		case 3: // SCTP, of which the header is not built here
			want.Proto = ProtoSCTP
			ours = theirs
		}
		if !ok || f != want || info.Total != len(theirs) {
			t.Fatalf("gopacket's %x is seen as %v %+v %+v, want %+v", theirs, ok, info, f, want)
		}
		if kind == 3 {
			if !VerifyIPv4Checksum(theirs) {
				t.Fatalf("header checksum of %x", theirs)
			}
			continue
		}
		if string(ours) != string(theirs) {
			t.Fatalf("kind %d\n ours %x\ntheirs %x", kind, ours, theirs)
		}
		if !VerifyChecksum(theirs, info) || !VerifyIPv4Checksum(theirs) {
			t.Fatalf("checksums of %x are refused", theirs)
		}
		FillChecksum(theirs, info)
		if string(ours) != string(theirs) {
			t.Fatalf("FillChecksum changed a right checksum: %x", theirs)
		}
	}
}

// gopacket takes an atomic fragment for a part, and knows routing type 0 alone.
var unknownToGopacket = map[string]bool{
	"atomic fragment6 (RFC 6946)":           true,
	"hop-by-hop, options, routing, options": true,
}

// gopacket's own walk over extension headers arrives where ours does.
func TestExtensionHeadersAgreeWithGopacket(t *testing.T) {
	for _, c := range good {
		if c.info.Version != 6 || c.info.Fragment() || c.flow.Opaque || c.info.Proto != ProtoUDP {
			continue
		}
		p := gopacket.NewPacket(c.pkt, layers.LayerTypeIPv6, gopacket.Default)
		u, ok := p.TransportLayer().(*layers.UDP)
		if !ok && unknownToGopacket[c.name] {
			continue
		}
		if !ok || uint16(u.SrcPort) != c.flow.SrcPort || uint16(u.DstPort) != c.flow.DstPort {
			t.Errorf("%s: gopacket sees %v", c.name, p)
		}
	}
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, 0, byte(r.Uint32()), byte(r.Uint32())})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 13: byte(r.Uint32()), 15: byte(r.Uint32())})
}

func build(t *testing.T, src, dst netip.AddrPort, kind int, payload []byte) []byte {
	t.Helper()
	v4 := src.Addr().Is4()
	var upper []gopacket.SerializableLayer
	proto := layers.IPProtocol(0)
	var network gopacket.NetworkLayer
	ip4 := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, SrcIP: net.IP(src.Addr().AsSlice()), DstIP: net.IP(dst.Addr().AsSlice())}
	ip6 := &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: net.IP(src.Addr().AsSlice()), DstIP: net.IP(dst.Addr().AsSlice())}
	if network = ip6; v4 {
		network = ip4
	}
	var err error
	switch {
	case kind == 0:
		h := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: 1, Ack: 2, SYN: true, ACK: true, Window: 3}
		err = h.SetNetworkLayerForChecksum(network)
		proto, upper = layers.IPProtocolTCP, append(upper, h)
	case kind == 1:
		h := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		err = h.SetNetworkLayerForChecksum(network)
		proto, upper = layers.IPProtocolUDP, append(upper, h)
	case kind == 2 && v4:
		proto, upper = layers.IPProtocolICMPv4, append(upper, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 4, Seq: 5})
	case kind == 2:
		h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		err = h.SetNetworkLayerForChecksum(network)
		proto, upper = layers.IPProtocolICMPv6, append(upper, h, &layers.ICMPv6Echo{Identifier: 4, SeqNumber: 5})
	default:
		proto, upper = layers.IPProtocolSCTP, append(upper, &layers.SCTP{SrcPort: layers.SCTPPort(src.Port()), DstPort: layers.SCTPPort(dst.Port())})
	}
	if err != nil {
		t.Fatal(err)
	}
	var ip gopacket.SerializableLayer = ip6
	ip4.Protocol, ip6.NextHeader = proto, proto
	if v4 {
		ip = ip4
	}
	b := gopacket.NewSerializeBuffer()
	all := append(append([]gopacket.SerializableLayer{ip}, upper...), gopacket.Payload(payload))
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
