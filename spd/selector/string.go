package selector

import "strconv"

// protoNames are the manual's names; other protocols print as numbers.
var protoNames = [256]string{
	0: "all", 1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6-encap",
	47: "gre", 50: "ipsec-esp", 51: "ipsec-ah", 58: "icmpv6", 89: "ospf", 112: "vrrp",
	115: "l2tp", 132: "sctp", 136: "udp-lite",
}

// String is t in the manual's manner: "10.1.202.0/24", "10.0.0.1-10.0.0.9" for
// what is no prefix, and protocol and ports where they matter:
// "10.1.0.0/16[tcp/80]", "10.1.0.0/16[udp]", "10.1.0.0/16[icmp/8:0]".
func (t TS) String() string {
	var b []byte
	if p, ok := t.Prefix(); ok {
		b = p.AppendTo(b)
	} else {
		b = t.Lo.AppendTo(b)
		b = append(b, '-')
		b = t.Hi.AppendTo(b)
	}
	if t.Proto == 0 && t.AnyPort() {
		return string(b)
	}
	b = append(b, '[')
	if name := protoNames[t.Proto]; name != "" {
		b = append(b, name...)
	} else {
		b = strconv.AppendUint(b, uint64(t.Proto), 10)
	}
	switch {
	case t.AnyPort():
	case t.IsOpaque():
		b = append(b, "/opaque"...)
	default:
		b = append(b, '/')
		b = t.appendPort(b, t.PortLo)
		if t.PortHi != t.PortLo {
			b = append(b, '-')
			b = t.appendPort(b, t.PortHi)
		}
	}
	return string(append(b, ']'))
}

func (t TS) appendPort(b []byte, port uint16) []byte {
	if !Typed(t.Proto) {
		return strconv.AppendUint(b, uint64(port), 10)
	}
	b = strconv.AppendUint(b, uint64(port>>8), 10)
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(port&0xff), 10)
}

// String is "local => remote".
func (p Pair) String() string { return p.Local.String() + " => " + p.Remote.String() }
