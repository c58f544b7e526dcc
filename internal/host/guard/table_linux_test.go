package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const ourMark, errorsMark = 0xc0150, 0x400c0150

func planOf(flows ...Flow) Plan {
	return Plan{Device: "culvert0", Mark: ourMark, Errors: errorsMark, Ports: []uint16{500, 4500}, Flows: flows}
}

func between(local, remote string) Flow {
	return Flow{Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote)}
}

// packet is one in clear, by eth0.
func packet(src, dst string, proto uint8, sport, dport uint16) Packet {
	return Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: proto, SrcPort: sport, DstPort: dport, Device: "eth0"}
}

// The table does with a packet what the list of flows says, whatever they are.
func TestTableIsTheList(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		v6 := seed%2 == 1
		addr := func() netip.Addr {
			b := []byte{10, 0, 0, byte(r.IntN(256))}
			if v6 {
				b = append([]byte{0xfd, 14: 0}, b[3])
			}
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		var flows []Flow
		for range 1 + r.IntN(12) {
			a, b := addr(), addr()
			bits := func() int {
				return []int{0, a.BitLen() - 9, a.BitLen() - 8, a.BitLen() - 5, a.BitLen() - 1, a.BitLen()}[r.IntN(6)]
			}
			w := Flow{Local: netip.PrefixFrom(a, bits()), Remote: netip.PrefixFrom(b, bits()), Pass: r.IntN(3) == 0, Own: r.IntN(4) == 0}
			if r.IntN(2) == 0 {
				w.Proto, w.LocalPort, w.RemotePort = 17, []uint16{0, 1001, 1002}[r.IntN(3)], []uint16{0, 1001, 1002}[r.IntN(3)]
			}
			flows = append(flows, w)
		}
		f, list := formOf(planOf(flows...)), widened(flows, v6)
		for range 200 {
			p := Packet{Src: addr(), Dst: addr(), Proto: []uint8{6, 17}[r.IntN(2)], SrcPort: uint16(1000 + r.IntN(3)), DstPort: uint16(1000 + r.IntN(3)),
				Inbound: r.IntN(2) == 0, Local: r.IntN(2) == 0, FromUs: r.IntN(2) == 0, Device: "eth0"}
			want := ""
			if p.Inbound {
				want = walk(list, false, p.Dst, p.Src, p.Proto, p.DstPort, p.SrcPort)
			} else {
				want = walk(list, p.FromUs, p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort)
			}
			v, err := f.judge(p)
			if err != nil || v.Absent || v.Drop != (want == "drop") {
				t.Fatalf("seed %d: %+v: %+v, %v, want %s\n%v", seed, p, v, err, want, flows)
			}
		}
	}
}

// A map of more elements than one message takes leads every address to its chain, and none beside them.
func TestTableOfManyNetworks(t *testing.T) {
	for _, n := range []int{1, elements/2 - 1, elements / 2, elements/2 + 1, elements, 3 * elements} {
		var flows []Flow
		remote := func(i int) string { return fmt.Sprintf("10.%d.%d.4", i/256, i%256) }
		for i := range n {
			flows = append(flows, between("192.0.2.0/24", remote(i)+"/31"))
		}
		f := formOf(planOf(flows...))
		for i := range n {
			for last, want := range map[string]bool{"3": false, "4": true, "5": true, "6": false} {
				to := strings.TrimSuffix(remote(i), "4") + last
				if v, err := f.judge(packet("192.0.2.1", to, 6, 1, 2)); err != nil || v.Drop != want {
					t.Fatalf("%d networks, to %s: %+v, %v", n, to, v, err)
				}
			}
		}
	}
}

// What has to go in clear where a policy protects everything, and what is next to it and may not.
func TestSpared(t *testing.T) {
	f := formOf(planOf(between("0.0.0.0/0", "0.0.0.0/0"), between("::/0", "::/0")))
	here := func(p *Packet) { p.Inbound, p.Local = true, true }
	forOthers := func(p *Packet) { p.Inbound = true }
	ours := func(p *Packet) { p.FromUs = true }
	leaves := func(*Packet) {}
	icmp := func(kind, code byte) uint16 { return uint16(kind)<<8 | uint16(code) }
	v4 := func(proto uint8, sport, dport uint16) Packet {
		return packet("10.2.0.1", "10.1.0.1", proto, sport, dport)
	}
	v6 := func(proto uint8, sport, dport uint16) Packet {
		return packet("fd02::1", "fd01::1", proto, sport, dport)
	}
	type row struct {
		what   string
		p      Packet
		how    func(*Packet)
		passes bool
	}
	rows := []row{
		{"IKE", v4(17, 9, 500), here, true}, {"IKE behind NAT", v4(17, 9, 4500), here, true}, {"IKE in IPv6", v6(17, 9, 500), here, true},
		{"beside IKE", v4(17, 9, 501), here, false}, {"from the port of IKE", v4(17, 500, 9), here, false}, {"TCP to the port of IKE", v4(6, 9, 500), here, false},
		{"IKE for others", v4(17, 9, 500), forOthers, false}, {"IKE of others that leaves", v4(17, 9, 500), leaves, false},
		{"ESP", v4(50, 0, 0), here, true}, {"AH", v4(51, 0, 0), here, true}, {"ESP for others", v4(50, 0, 0), forOthers, false}, {"49", v4(49, 0, 0), here, false}, {"52", v4(52, 0, 0), here, false},
		{"an answer of DHCP", v4(17, 67, 68), here, true}, {"an answer of DHCPv6", v6(17, 547, 546), here, true},
		{"a request of DHCP comes", v4(17, 68, 67), here, false}, {"a request of DHCPv6 comes", v6(17, 546, 547), here, false},
		{"our request of DHCP", v4(17, 68, 67), ours, true}, {"our request of DHCPv6", v6(17, 546, 547), ours, true},
		{"a request of others", v4(17, 68, 67), leaves, false}, {"our answer of DHCP", v4(17, 67, 68), ours, false},
		{"from a link-local address", packet("fe80::1", "fd01::1", 6, 1, 2), here, true}, {"to a link-local address", packet("fd01::1", "fe80::1", 6, 1, 2), leaves, true},
		{"the last link-local address", packet("febf:ffff::1", "fd01::1", 6, 1, 2), forOthers, true}, {"behind it", packet("fec0::1", "fd01::1", 6, 1, 2), here, false},
		{"IPv4 whose bytes look like it", packet("254.128.0.1", "10.1.0.1", 6, 1, 2), here, false},
		{"multicast", packet("10.1.0.1", "224.0.0.1", 17, 1, 2), leaves, true}, {"multicast of IPv6", packet("fd01::1", "ff02::1", 17, 1, 2), leaves, true},
		{"before multicast", packet("10.1.0.1", "223.255.255.255", 17, 1, 2), leaves, false},
		{"broadcast", packet("10.1.0.1", "10.1.0.255", 17, 1, 2), func(p *Packet) { p.Broadcast = true }, true}, {"no broadcast", packet("10.1.0.1", "10.1.0.255", 17, 1, 2), leaves, false},
		{"by the device", v4(6, 1, 2), func(p *Packet) { p.Device = "culvert0" }, true}, {"out of the device", v4(6, 1, 2), func(p *Packet) { p.Device, p.Inbound = "culvert0", true }, true},
		{"by a device of a longer name", v4(6, 1, 2), func(p *Packet) { p.Device = "culvert01" }, false},
		{"by lo", v4(6, 1, 2), func(p *Packet) { p.Device = "lo" }, true}, {"out of lo", v4(6, 1, 2), func(p *Packet) { p.Device, p.Inbound = "lo", true }, true},
		{"our mark", v4(6, 1, 2), func(p *Packet) { p.Mark = ourMark }, true}, {"another mark", v4(6, 1, 2), func(p *Packet) { p.Mark = ourMark + 1 }, false},
		{"the mark of an error", v4(6, 1, 2), func(p *Packet) { p.Mark = errorsMark }, false},
		{"our mark comes", v4(6, 1, 2), func(p *Packet) { p.Mark, p.Inbound = ourMark, true }, false},
	}
	for kind := range 256 {
		k := byte(kind)
		comes4, comes6 := k == 3 || k == 11 || k == 12, k >= 1 && k <= 4
		both := k >= 133 && k <= 137
		rows = append(rows, row{fmt.Sprint("ICMP ", k), v4(1, icmp(k, 7), 0), here, comes4}, row{fmt.Sprint("ICMP for others ", k), v4(1, icmp(k, 7), 0), forOthers, false},
			row{fmt.Sprint("ICMPv6 ", k), v6(58, icmp(k, 0), 0), here, comes6 || both}, row{fmt.Sprint("ICMPv6 leaves ", k), v6(58, icmp(k, 0), 0), leaves, both},
			row{fmt.Sprint("ICMPv6 for others ", k), v6(58, icmp(k, 0), 0), forOthers, both})
	}
	for _, c := range rows {
		c.how(&c.p)
		if v, err := f.judge(c.p); err != nil || v.Drop == c.passes || v.Absent {
			t.Errorf("%s: %+v, %v, passes %v", c.what, v, err, c.passes)
		}
	}
}

// chains is a table of chains with rules; "hook" is the one for what leaves.
func chains(rules map[string][][]expr.Any) *form {
	f := newForm()
	for name, list := range rules {
		f.chains[name] = &chainForm{rules: list}
		if name == "hook" {
			f.chains[name].base = nftables.ChainHookPostrouting
		}
	}
	return f
}

func to(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// How a packet goes through chains, and where it ends.
func TestFollow(t *testing.T) {
	accepts, drops, returns := to(expr.VerdictAccept, ""), to(expr.VerdictDrop, ""), to(expr.VerdictReturn, "")
	no := append([]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{99})}, drops...)
	deep := func(n int) map[string][][]expr.Any {
		m := map[string][][]expr.Any{"hook": {to(expr.VerdictJump, "1")}}
		for i := 1; i < n; i++ {
			m[fmt.Sprint(i)] = [][]expr.Any{to(expr.VerdictJump, fmt.Sprint(i+1))}
		}
		m[fmt.Sprint(n)] = [][]expr.Any{drops}
		return m
	}
	for what, c := range map[string]struct {
		rules map[string][][]expr.Any
		want  Verdict
		err   string
	}{
		"no rule":                  {map[string][][]expr.Any{"hook": {}}, Verdict{Chain: "hook"}, ""},
		"no match":                 {map[string][][]expr.Any{"hook": {no, accepts}}, Verdict{Chain: "hook"}, ""},
		"no match, then a drop":    {map[string][][]expr.Any{"hook": {no, no, drops, accepts}}, Verdict{Drop: true, Chain: "hook"}, ""},
		"a rule without a verdict": {map[string][][]expr.Any{"hook": {{&expr.Counter{}}, drops}}, Verdict{Drop: true, Chain: "hook"}, ""},
		"return":                   {map[string][][]expr.Any{"hook": {returns, drops}}, Verdict{Chain: "hook"}, ""},
		"a jump comes back":        {map[string][][]expr.Any{"hook": {to(expr.VerdictJump, "a"), drops}, "a": {returns, accepts}}, Verdict{Drop: true, Chain: "hook"}, ""},
		"a jump to its end":        {map[string][][]expr.Any{"hook": {to(expr.VerdictJump, "a"), drops}, "a": {no}}, Verdict{Drop: true, Chain: "hook"}, ""},
		"a jump that decides":      {map[string][][]expr.Any{"hook": {to(expr.VerdictJump, "a"), drops}, "a": {accepts}}, Verdict{Chain: "a"}, ""},
		"a goto does not":          {map[string][][]expr.Any{"hook": {to(expr.VerdictGoto, "a"), drops}, "a": {no}}, Verdict{Chain: "a"}, ""},
		"a goto that decides":      {map[string][][]expr.Any{"hook": {to(expr.VerdictGoto, "a")}, "a": {no, drops}}, Verdict{Drop: true, Chain: "a"}, ""},
		"to no chain":              {map[string][][]expr.Any{"hook": {to(expr.VerdictGoto, "a")}}, Verdict{}, `chain "a" of the guard's table leads nowhere`},
		"in a circle":              {map[string][][]expr.Any{"hook": {to(expr.VerdictJump, "hook")}}, Verdict{}, `chain "hook" of the guard's table leads nowhere`},
		"as deep as may be":        {deep(maxJumps), Verdict{Drop: true, Chain: fmt.Sprint(maxJumps)}, ""},
		"one deeper":               {deep(maxJumps + 1), Verdict{}, "leads nowhere"},
		"no hook":                  {map[string][][]expr.Any{"in": {drops}}, Verdict{Absent: true}, ""},
		"not understood":           {map[string][][]expr.Any{"hook": {to(expr.VerdictJump, "a")}, "a": {{&expr.Limit{}}}}, Verdict{}, "chain a of the guard's table: expression *expr.Limit is not understood"},
	} {
		v, err := chains(c.rules).judge(packet("10.1.0.1", "10.2.0.1", 6, 1, 2))
		if c.err == "" && (err != nil || v != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %+v, %v, want %+v %s", what, v, err, c.want, c.err)
		}
	}
	f := chains(map[string][][]expr.Any{"hook": {drops}})
	f.flags = nftTableDormant
	if v, err := f.judge(packet("10.1.0.1", "10.2.0.1", 6, 1, 2)); err != nil || !v.Absent || v.Drop {
		t.Errorf("dormant: %+v, %v", v, err)
	}
	f.flags = nftTableDormant << 1
	if v, err := f.judge(packet("10.1.0.1", "10.2.0.1", 6, 1, 2)); err != nil || !v.Drop {
		t.Errorf("another flag: %+v, %v", v, err)
	}
}

// What each expression finds in a packet; what somebody else put there is named.
func TestExpressions(t *testing.T) {
	is := func(e expr.Any, data ...byte) []expr.Any { return []expr.Any{e, equal(data)} }
	payload := func(base expr.PayloadBase, offset, n uint32) expr.Any {
		return &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: n}
	}
	opaque := func(p *Packet) { p.Opaque = true }
	for what, c := range map[string]struct {
		exprs   []expr.Any
		change  func(*Packet)
		matches bool
		err     string
	}{
		"version":              {is(payload(expr.PayloadBaseNetworkHeader, 0, 1), 0x45), nil, true, ""},
		"protocol":             {is(payload(expr.PayloadBaseNetworkHeader, 9, 1), 17), nil, true, ""},
		"source":               {is(payload(expr.PayloadBaseNetworkHeader, 12, 4), 10, 1, 0, 1), nil, true, ""},
		"destination":          {is(payload(expr.PayloadBaseNetworkHeader, 16, 4), 10, 2, 0, 1), nil, true, ""},
		"behind the header":    {is(payload(expr.PayloadBaseNetworkHeader, 17, 4), 2, 0, 1, 0), nil, false, ""},
		"ports":                {is(payload(expr.PayloadBaseTransportHeader, 0, 4), 0, 7, 1, 0), nil, true, ""},
		"behind the ports":     {is(payload(expr.PayloadBaseTransportHeader, 1, 4), 7, 1, 0, 0), nil, false, ""},
		"ports of a fragment":  {is(payload(expr.PayloadBaseTransportHeader, 0, 2), 0, 7), opaque, false, ""},
		"in":                   {is(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, ifname("eth0")...), nil, false, ""},
		"out":                  {is(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, ifname("eth0")...), nil, true, ""},
		"out, a part":          {is(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, 'e', 't'), nil, true, ""},
		"other than":           {[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{17}}}, nil, false, ""},
		"other than another":   {[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{6}}}, nil, true, ""},
		"family":               {is(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, unix.NFPROTO_IPV4), nil, true, ""},
		"mark":                 {is(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, native32(5)...), func(p *Packet) { p.Mark = 5 }, true, ""},
		"mark that is set":     {append(setMark(6), is(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, native32(6)...)...), nil, true, ""},
		"masked":               {[]expr.Any{payload(expr.PayloadBaseNetworkHeader, 12, 4), &expr.Bitwise{SourceRegister: 1, DestRegister: 2, Len: 4, Mask: []byte{255, 0, 0, 255}, Xor: []byte{1, 2, 0, 0}}, &expr.Cmp{Register: 2, Data: []byte{11, 2, 0, 1}}}, nil, true, ""},
		"an address of others": {is(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, native32(unix.RTN_UNICAST)...), nil, true, ""},
		"an address of ours":   {is(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, native32(unix.RTN_LOCAL)...), func(p *Packet) { p.Local = true }, true, ""},
		"source of ours":       {is(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true}, native32(unix.RTN_LOCAL)...), func(p *Packet) { p.FromUs = true }, true, ""},
		"source of others":     {is(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true}, native32(unix.RTN_LOCAL)...), func(p *Packet) { p.Local = true }, false, ""},
		"source, multicast":    {is(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true}, native32(unix.RTN_UNICAST)...), func(p *Packet) { p.Dst, p.Broadcast = netip.MustParseAddr("224.0.0.1"), true }, true, ""},
		"no answer":            {is(&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}, 0), nil, true, ""},
		"a map that is gone":   {[]expr.Any{payload(expr.PayloadBaseNetworkHeader, 12, 4), &expr.Lookup{SourceRegister: 1, SetName: "none"}}, nil, false, ""},

		"another key":        {[]expr.Any{&expr.Meta{Key: expr.MetaKeySKUID, Register: 1}}, nil, false, "meta key 10 is not understood"},
		"setting another":    {[]expr.Any{&expr.Immediate{Register: 1, Data: native32(1)}, &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1}}, nil, false, "setting meta key 2 is not understood"},
		"a mark of 3 bytes":  {[]expr.Any{&expr.Immediate{Register: 1, Data: make([]byte, 3)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}, nil, false, "setting meta key 3 is not understood"},
		"a mark of 5 bytes":  {[]expr.Any{&expr.Immediate{Register: 1, Data: make([]byte, 5)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}, nil, false, "setting meta key 3 is not understood"},
		"less than":          {[]expr.Any{&expr.Cmp{Op: expr.CmpOpLt, Register: 1}}, nil, false, "comparison 2 is not understood"},
		"a look-up of route": {[]expr.Any{&expr.Fib{Register: 1, ResultOIF: true, FlagDADDR: true}}, nil, false, "a look-up of a route is not understood"},
		"state":              {[]expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}}, nil, false, "conntrack key 0 is not understood"},
	} {
		p := packet("10.1.0.1", "10.2.0.1", 17, 7, 256)
		if c.change != nil {
			c.change(&p)
		}
		v, err := chains(map[string][][]expr.Any{"hook": {append(c.exprs, to(expr.VerdictDrop, "")...)}}).judge(p)
		if c.err == "" && (err != nil || v.Drop != c.matches) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %+v, %v, want %v %s", what, v, err, c.matches, c.err)
		}
	}
	p := packet("fd01::1", "fd02::2", 6, 1, 2)
	want := append(append([]byte{0x60, 0, 0, 0, 0, 0, 6, 0}, p.Src.AsSlice()...), p.Dst.AsSlice()...)
	if got := p.network(); !reflect.DeepEqual(got, want) {
		t.Errorf("the header of IPv6 is %x, want %x", got, want)
	}
}

// Intervals of a map begin with their first key and end before their last.
func TestInMap(t *testing.T) {
	a, b := &expr.Verdict{Chain: "a"}, &expr.Verdict{Chain: "b"}
	list := []nftables.SetElement{{Key: []byte{9}, VerdictData: b}, {Key: []byte{7}, IntervalEnd: true}, {Key: []byte{5}, IntervalEnd: true}, {Key: []byte{5}, VerdictData: b}, {Key: []byte{2}, VerdictData: a}}
	for key, want := range map[byte]*expr.Verdict{0: nil, 1: nil, 2: a, 4: a, 5: b, 6: b, 7: nil, 8: nil, 9: b, 255: b} {
		if got := inMap(list, []byte{key}); got != want {
			t.Errorf("%d: %+v, want %+v", key, got, want)
		}
	}
}

// A verdict is read from the kernel's attributes, however these are cut.
func TestVerdictOf(t *testing.T) {
	attr := func(kind uint16, value ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	code := func(k expr.VerdictKind) []byte {
		return attr(unix.NFTA_VERDICT_CODE, binary.BigEndian.AppendUint32(nil, uint32(k))...)
	}
	chain := attr(unix.NFTA_VERDICT_CHAIN, []byte("in4-0\x00")...)
	whole := append(code(expr.VerdictGoto), chain...)
	for what, c := range map[string]struct {
		b    []byte
		want expr.Verdict
	}{
		"both":                 {whole, expr.Verdict{Kind: expr.VerdictGoto, Chain: "in4-0"}},
		"the other order":      {append(append([]byte{}, chain...), code(expr.VerdictGoto)...), expr.Verdict{Kind: expr.VerdictGoto, Chain: "in4-0"}},
		"nested":               {attr(unix.NFTA_VERDICT_CHAIN|unix.NLA_F_NESTED, 'x'), expr.Verdict{Chain: "x"}},
		"accept":               {code(expr.VerdictAccept), expr.Verdict{Kind: expr.VerdictAccept}},
		"a code of 3 bytes":    {append(attr(unix.NFTA_VERDICT_CODE, 1, 2, 3), chain...), expr.Verdict{Chain: "in4-0"}},
		"a code of 5 bytes":    {append(attr(unix.NFTA_VERDICT_CODE, 1, 2, 3, 4, 5), chain...), expr.Verdict{Chain: "in4-0"}},
		"another attribute":    {append(attr(99, 1), chain...), expr.Verdict{Chain: "in4-0"}},
		"an attribute of 0":    {append([]byte{0, 0, 0, 0}, chain...), expr.Verdict{}},
		"an empty attribute":   {append(attr(99), chain...), expr.Verdict{Chain: "in4-0"}},
		"one that is too long": {binary.NativeEndian.AppendUint16(nil, 9), expr.Verdict{}},
		"nothing":              {nil, expr.Verdict{}},
	} {
		if got := verdictOf(c.b); *got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
	for n := range whole {
		if got := verdictOf(whole[:n]); n >= 8 && got.Kind != expr.VerdictGoto || n < len(whole)-2 && got.Chain != "" {
			t.Errorf("%d bytes: %+v", n, got)
		}
	}
}

// Each difference is named, up to some, and the rest is counted.
func TestDifferences(t *testing.T) {
	plan := planOf(between("10.1.0.0/24", "10.2.0.0/24"), between("fd01::/64", "fd02::/64"))
	want := formOf(plan)
	if list := want.differences("t", formOf(plan)); len(list) != 0 {
		t.Errorf("the same: %q", list)
	}
	changes := []struct {
		say    string
		change func(*form)
	}{
		{"the flags of the guard's table t were changed", func(f *form) { f.flags = 1 }},
		{"chain in of the guard's table t was removed", func(f *form) { delete(f.chains, "in") }},
		{"chain out of the guard's table t was changed", func(f *form) { f.chains["out"].rules = f.chains["out"].rules[1:] }},
		{"map in4 of the guard's table t was removed", func(f *form) { delete(f.maps, "in4") }},
		{"map out4 of the guard's table t was changed", func(f *form) { f.maps["out4"] = f.maps["out4"][1:] }},
		{"chain x was added to the guard's table t", func(f *form) { f.chains["x"] = &chainForm{} }},
		{"set y was added to the guard's table t", func(f *form) { f.maps["y"] = nil }},
	}
	for n := range changes {
		now := formOf(plan)
		changes[n].change(now)
		if list := want.differences("t", now); !reflect.DeepEqual(list, []string{changes[n].say}) {
			t.Errorf("%q, want %q", list, changes[n].say)
		}
		now = formOf(plan)
		var says []string
		for _, c := range changes[:n+1] {
			c.change(now)
			says = append(says, c.say)
		}
		if more := len(says) - 4; more > 0 {
			says = append(says[:4], fmt.Sprintf("and %d more differences of the guard's table t", more))
		}
		if list := want.differences("t", now); !reflect.DeepEqual(list, says) {
			t.Errorf("%d changes: %q, want %q", n+1, list, says)
		}
	}
	// What is not a difference: the order of a map, what counters count, the batch's number of a set.
	now := formOf(plan)
	for name, list := range now.maps {
		reversed := make([]nftables.SetElement, len(list))
		for i, e := range list {
			reversed[len(list)-1-i] = e
		}
		now.maps[name] = reversed
	}
	for _, c := range now.chains {
		for _, r := range c.rules {
			for i, e := range r {
				switch e := e.(type) {
				case *expr.Counter:
					r[i] = &expr.Counter{Packets: 5, Bytes: 500}
				case *expr.Lookup:
					other := *e
					other.SetID = 99
					r[i] = &other
				}
			}
		}
	}
	if list := want.differences("t", now); len(list) != 0 {
		t.Errorf("no difference: %q", list)
	}
	// And what is one, wherever it stands in a rule, a hook or an element.
	for what, change := range map[string]func(*form){
		"a lookup in another map": func(f *form) {
			for _, r := range f.chains["in"].rules {
				for i, e := range r {
					if l, ok := e.(*expr.Lookup); ok {
						other := *l
						other.Invert = true
						r[i] = &other
					}
				}
			}
		},
		"another priority": func(f *form) { f.chains["input"].hook += "1" },
		"another verdict":  func(f *form) { f.maps["in4"][0].VerdictData = &expr.Verdict{Kind: expr.VerdictDrop} },
		"another key":      func(f *form) { f.maps["in4"][0].Key = []byte{9, 9, 9, 9} },
		"another end":      func(f *form) { f.maps["in4"][0].IntervalEnd = !f.maps["in4"][0].IntervalEnd },
	} {
		now := formOf(plan)
		change(now)
		if list := want.differences("t", now); len(list) == 0 {
			t.Errorf("%s: no difference", what)
		}
	}
	hooks := newForm()
	drop := nftables.ChainPolicyDrop
	base := &nftables.Chain{Name: "c", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(-10)}
	hooks.AddChain(base)
	silent := hooks.chains["c"].hook
	base.Policy = &drop
	if hooks.AddChain(base); silent == "" || hooks.chains["c"].hook == silent {
		t.Errorf("the policy is not part of %q", silent)
	}
}

func TestCommitter(t *testing.T) {
	attr := func(kind uint16, value ...byte) syscall.NetlinkRouteAttr {
		return syscall.NetlinkRouteAttr{Attr: syscall.RtAttr{Type: kind}, Value: value}
	}
	name := attr(unix.NFTA_GEN_PROC_NAME, []byte("nft\x00")...)
	for what, c := range map[string]struct {
		attrs []syscall.NetlinkRouteAttr
		want  string
	}{
		"both":          {[]syscall.NetlinkRouteAttr{attr(unix.NFTA_GEN_ID, 0, 0, 0, 1), attr(unix.NFTA_GEN_PROC_PID, 0, 0, 1, 0), name}, "nft (process 256)"},
		"no process":    {[]syscall.NetlinkRouteAttr{name}, "nft (process 0)"},
		"half a number": {[]syscall.NetlinkRouteAttr{name, attr(unix.NFTA_GEN_PROC_PID, 0, 1, 0)}, "nft (process 0)"},
		"no name":       {[]syscall.NetlinkRouteAttr{attr(unix.NFTA_GEN_PROC_PID, 0, 0, 1, 0)}, ""},
	} {
		if got := committer(c.attrs); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

// The guard in memory remembers what it was given, as it was then.
func TestMemory(t *testing.T) {
	m := &Memory{Leftover: true}
	p := planOf(between("10.1.0.0/24", "10.2.0.0/24"))
	if err := errors.Join(m.Apply(p), m.Apply(Plan{})); err != nil {
		t.Fatal(err)
	}
	p.Ports[0], p.Flows[0].Pass = 1, true
	if got := m.Plans(); len(got) != 2 || got[0].Ports[0] != 500 || got[0].Flows[0].Pass || !m.Left() {
		t.Errorf("%+v", got)
	}
	m.Plans()[0] = Plan{}
	if m.Plans()[0].Device != "culvert0" {
		t.Error("the plans are shared")
	}
	changed := m.Changed()
	for range 2 { // one report is enough
		m.Disturb("nft", "a", "b")
	}
	m.Disturb("", "c")
	if len(changed) != 1 {
		t.Errorf("%d reports", len(changed))
	}
	want := []string{"a", "b", "a", "b", "c"}
	for range 2 { // looking changes nothing
		if list, err := m.Differences(); err != nil || !reflect.DeepEqual(list, want) {
			t.Errorf("%q, %v", list, err)
		}
	}
	what, by, err := m.Restore()
	if err != nil || !reflect.DeepEqual(what, want) || !reflect.DeepEqual(by, []string{"nft", "nft"}) {
		t.Errorf("%q by %q, %v", what, by, err)
	}
	what, by, err = m.Restore()
	if list, _ := m.Differences(); err != nil || len(what)+len(by)+len(list) > 0 || m.restored != 2 {
		t.Errorf("again: %q by %q, %v", what, by, err)
	}
	if err := m.Leave(); err != nil || m.Closed() {
		t.Errorf("left: %v, closed %v", err, m.Closed())
	}
	if err := m.Close(); err != nil || !m.Closed() || !errors.Is(m.Apply(p), os.ErrClosed) || len(m.Plans()) != 2 {
		t.Errorf("closed: %v, %+v", err, m.Plans())
	}
}

// Errors that quote protected packets are looked for in what neither comes out of the
// device nor is sent by the gateway itself.
func TestWhereQuotesAreLookedFor(t *testing.T) {
	f := formOf(planOf(between("10.1.0.0/24", "10.2.0.0/24")))
	for _, c := range []struct {
		chain  string
		change func(*Packet)
		where  string
	}{
		{"output", func(*Packet) {}, "quotes"}, {"prerouting", func(p *Packet) { p.Inbound = true }, "quotes"},
		{"output", func(p *Packet) { p.Mark = ourMark }, "output"}, {"prerouting", func(p *Packet) { p.Inbound, p.Mark = true, ourMark }, "prerouting"},
		{"prerouting", func(p *Packet) { p.Inbound, p.Device = true, "culvert0" }, "prerouting"}, {"output", func(p *Packet) { p.Device = "culvert0" }, "quotes"},
	} {
		p := packet("10.1.0.1", "10.4.0.1", 1, 0x0301, 0)
		c.change(&p)
		if drop, where, _, err := f.follow(c.chain, &p, 0); drop || where != c.where || err != nil {
			t.Errorf("%s, %+v: %v in %s, %v, want %s", c.chain, p, drop, where, err, c.where)
		}
	}
	plan := planOf(between("10.1.0.0/24", "10.2.0.0/24"))
	plan.Errors = 0
	if f := formOf(plan); f.chains["output"] != nil || f.chains["prerouting"] != nil {
		t.Error("errors are looked for without a mark")
	}
}

// Behind a flow that takes everything no rule is made, and behind one that takes a protocol all are.
func TestNothingBehindEverything(t *testing.T) {
	all, icmp := between("0.0.0.0/0", "10.2.0.0/24"), between("0.0.0.0/0", "10.2.0.0/24")
	icmp.Pass, icmp.Proto = true, 1
	own := all
	own.Own = true
	part := between("10.1.0.0/24", "10.2.0.0/24")
	for i, c := range []struct {
		flows []Flow
		want  int
	}{{[]Flow{all, part, icmp}, 1}, {[]Flow{part, all, icmp}, 2}, {[]Flow{icmp, all, part}, 2}, {[]Flow{own, all, part}, 2}} {
		if f := compile(c.flows, false); len(f.chains) != 1 || len(f.chains[0]) != c.want {
			t.Errorf("%d: %v", i, f.chains)
		}
	}
}

// Which instances have a guard is read from the names of tables.
func TestTables(t *testing.T) {
	w := newWire(t)
	for _, name := range []string{"culvert-9", "culvert-12", "culvert-9-next", "culvert-3-next", "culvert-0", "culvert-x", "culvert", "culvert--1", "xculvert-5", "other"} {
		w.run("nft add table inet " + name)
	}
	w.run("nft add table ip culvert-77")
	if list, err := Tables(); err != nil || !reflect.DeepEqual(list, []int{3, 9, 12}) {
		t.Errorf("%v, %v", list, err)
	}
}

// Without a plan there is nothing to compare, and without a difference nothing to restore.
func TestGuardWithout(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	if list, err := g.(Watcher).Differences(); err != nil || len(list) > 0 {
		t.Errorf("no plan: %q, %v", list, err)
	}
	if list, _, err := g.(Watcher).Restore(); err != nil || len(list) > 0 {
		t.Errorf("no plan: restored %q, %v", list, err)
	}
	apply(t, g, plan(flow("10.1.0.0/24", "10.2.0.0/24")))
	if list, _, err := g.(Watcher).Restore(); err != nil || len(list) > 0 {
		t.Errorf("no difference: restored %q, %v", list, err)
	}
	if err := g.Leave(); err != nil {
		t.Fatal(err)
	}
	if list, err := Tables(); err != nil || len(list) != 1 {
		t.Errorf("it goes on guarding: %v, %v", list, err)
	}
}
