package guard

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What nftables rules are made of.

// header is where the addresses of a family are, and what it is called.
var header = [2]struct {
	src, dst, len uint32
	nfproto       byte
	kind          nftables.SetDatatype
}{
	{12, 16, 4, unix.NFPROTO_IPV4, nftables.TypeIPAddr},
	{8, 24, 16, unix.NFPROTO_IPV6, nftables.TypeIP6Addr},
}

var accept = &expr.Verdict{Kind: expr.VerdictAccept}

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func big16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// ifname is a device's name as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func protocol(p uint8) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{p})}
}

// inHeader compares bytes of the transport header.
func inHeader(offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: uint32(len(want))}, equal(want),
	}
}

// destination compares the kind of the destination address, by the host's routes.
func destination(kind uint32) []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, equal(native32(kind))}
}

// source compares the kind of the source address.
func source(kind uint32) []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true}, equal(native32(kind))}
}

// answer: the packet goes back to who began its connection. Packets without an
// entry of connection tracking are none.
func answer() []expr.Any {
	const reply = 1 // IP_CT_DIR_REPLY
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}, equal([]byte{reply})}
}

// dhcpPorts are the client's and the server's, of IPv4 and IPv6.
var dhcpPorts = [2][2]uint16{{68, 67}, {546, 547}}

// dhcpOut is the renewal of this host's own addresses.
func dhcpOut() (rules [][]expr.Any) {
	for _, p := range dhcpPorts {
		rules = append(rules, all(protocol(unix.IPPROTO_UDP), inHeader(0, append(big16(p[0]), big16(p[1])...)), source(unix.RTN_LOCAL)))
	}
	return rules
}

// address compares the prefix of an address at an offset of the IP header.
func address(offset uint32, p netip.Prefix) []expr.Any {
	return addressIn(expr.PayloadBaseNetworkHeader, offset, p)
}

func addressIn(base expr.PayloadBase, offset uint32, p netip.Prefix) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	size := uint32(p.Addr().BitLen() / 8)
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		equal(p.Masked().Addr().AsSlice()),
	}
}

// match is a flow without its remote address, which led to it.
func (w Flow) match(local uint32, inbound bool) []expr.Any {
	e := address(local, w.Local)
	if w.Proto != 0 {
		e = append(e, protocol(w.Proto)...)
	}
	src, dst := w.LocalPort, w.RemotePort
	if inbound {
		src, dst = dst, src
	}
	if src != 0 {
		e = append(e, inHeader(0, big16(src))...)
	}
	if dst != 0 {
		e = append(e, inHeader(2, big16(dst))...)
	}
	return e
}

func all(lists ...[]expr.Any) (e []expr.Any) {
	for _, l := range lists {
		e = append(e, l...)
	}
	return e
}

// sparedIn is what has to arrive in clear even from where a policy protects
// everything: the gateway's own IKE, ESP and AH, errors that routers on the way
// report about them (RFC 4301 §6.1.1), and what a link needs to work.
func (k *builder) sparedIn(p Plan) (rules [][]expr.Any) {
	here := destination(unix.RTN_LOCAL)
	for _, port := range p.Ports {
		rules = append(rules, all(protocol(unix.IPPROTO_UDP), inHeader(2, big16(port)), here))
	}
	for _, proto := range []uint8{unix.IPPROTO_ESP, unix.IPPROTO_AH} {
		rules = append(rules, all(protocol(proto), here))
	}
	// Destination unreachable, time exceeded, parameter problem.
	for _, kind := range []byte{3, 11, 12} {
		rules = append(rules, all(protocol(unix.IPPROTO_ICMP), inHeader(0, []byte{kind}), here))
	}
	for _, p := range dhcpPorts {
		rules = append(rules, all(protocol(unix.IPPROTO_UDP), inHeader(0, append(big16(p[1]), big16(p[0])...)), here))
	}
	for kind := byte(1); kind <= 4; kind++ {
		rules = append(rules, all(protocol(unix.IPPROTO_ICMPV6), inHeader(0, []byte{kind}), here))
	}
	return append(rules, sparedOutside()...)
}

// sparedOutside goes for both directions: router and neighbour discovery and
// redirects (RFC 4861), broadcast and multicast, link-local addresses. No tunnel carries them.
func sparedOutside() (rules [][]expr.Any) {
	for kind := byte(133); kind <= 137; kind++ {
		rules = append(rules, all(protocol(unix.IPPROTO_ICMPV6), inHeader(0, []byte{kind})))
	}
	rules = append(rules, destination(unix.RTN_BROADCAST), destination(unix.RTN_MULTICAST))
	v6 := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{unix.NFPROTO_IPV6})}
	linkLocal := netip.MustParsePrefix("fe80::/10")
	return append(rules, all(v6, address(header[family6].src, linkLocal)), all(v6, address(header[family6].dst, linkLocal)))
}

// quotation is where an ICMP error quotes an IP header, from the error's own header on.
const quotation = 8

// quoted is a flow without its remote address, as an ICMP error that leaves quotes it:
// a packet from the remote to the local end. With IP options in what is quoted, or
// extension headers, no ports are found.
func (w Flow) quoted(v int) []expr.Any {
	at, protocolAt, ports := header[v], uint32(quotation+9), uint32(quotation+20)
	if v == family6 {
		protocolAt, ports = quotation+6, quotation+40
	}
	e := addressIn(expr.PayloadBaseTransportHeader, quotation+at.dst, w.Local)
	if w.Proto != 0 {
		e = append(e, inHeader(protocolAt, []byte{w.Proto})...)
	}
	if w.RemotePort != 0 {
		e = append(e, inHeader(ports, big16(w.RemotePort))...)
	}
	if w.LocalPort != 0 {
		e = append(e, inHeader(ports+2, big16(w.LocalPort))...)
	}
	return e
}

// icmpErrors are the conditions for the errors of a family: RFC 792, RFC 4443 §2.1.
func icmpErrors(v int) (list [][]expr.Any) {
	proto, kinds := uint8(unix.IPPROTO_ICMP), []byte{3, 4, 5, 11, 12}
	if v == family6 {
		proto, kinds = unix.IPPROTO_ICMPV6, []byte{1, 2, 3, 4}
	}
	for _, kind := range kinds {
		list = append(list, all(protocol(proto), inHeader(0, []byte{kind})))
	}
	return list
}

// setMark gives a packet a mark.
func setMark(mark uint32) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: native32(mark)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}
}
