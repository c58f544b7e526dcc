package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What the table does with a packet, as the kernel has the table: for people who ask.
// It knows the expressions that build uses, and says so where somebody else put
// another one there.

// Judge: see Explainer.
func (k *kernel) Judge(p Packet) (Verdict, error) {
	mine, err := k.tables()
	if err != nil {
		return Verdict{}, fmt.Errorf("cannot read the guard's table: %w", err)
	}
	for _, t := range mine {
		if t.Name != k.name {
			continue
		}
		f, err := k.read(t)
		if err != nil {
			return Verdict{}, err
		}
		return f.judge(p)
	}
	return Verdict{Absent: true}, nil
}

// judge follows the packet through the chains of its hook.
func (f *form) judge(p Packet) (Verdict, error) {
	if f.flags&nftTableDormant != 0 {
		return Verdict{Absent: true}, nil
	}
	hook := nftables.ChainHookPostrouting
	switch {
	case p.Inbound && p.Local:
		hook = nftables.ChainHookInput
	case p.Inbound:
		hook = nftables.ChainHookForward
	}
	for name, c := range f.chains {
		if c.base != nil && *c.base == *hook {
			drop, where, _, err := f.follow(name, &p, 0)
			return Verdict{Drop: drop, Chain: where}, err
		}
	}
	return Verdict{Absent: true}, nil
}

// nftTableDormant is NFT_TABLE_F_DORMANT of linux/netfilter/nf_tables.h: the table's
// chains are not in force.
const nftTableDormant = 1

// maxJumps is how deep the kernel lets chains nest (NFT_JUMP_STACK_SIZE).
const maxJumps = 16

// follow goes through a chain. decided is false where the chain ends without a verdict.
func (f *form) follow(name string, p *Packet, depth int) (drop bool, where string, decided bool, err error) {
	c := f.chains[name]
	if c == nil || depth > maxJumps {
		return false, name, false, fmt.Errorf("chain %q of the guard's table leads nowhere", name)
	}
	for _, r := range c.rules {
		v, err := f.rule(r, p)
		if err != nil {
			return false, name, false, fmt.Errorf("chain %s of the guard's table: %w", name, err)
		}
		if v == nil {
			continue
		}
		switch v.Kind {
		case expr.VerdictAccept:
			return false, name, true, nil
		case expr.VerdictDrop:
			return true, name, true, nil
		case expr.VerdictReturn:
			return false, name, false, nil
		case expr.VerdictJump, expr.VerdictGoto:
			drop, where, decided, err = f.follow(v.Chain, p, depth+1)
			if err != nil || decided || v.Kind == expr.VerdictGoto {
				return drop, where, decided, err
			}
		}
	}
	return false, name, false, nil
}

// errNoMatch ends a rule that does not match.
var errNoMatch = errors.New("no match")

// rule is the verdict of a rule; nil: it does not match, or has none.
func (f *form) rule(exprs []expr.Any, p *Packet) (v *expr.Verdict, err error) {
	registers := map[uint32][]byte{}
	for _, e := range exprs {
		if verdict, ok := e.(*expr.Verdict); ok {
			return verdict, nil
		}
		if v, err = f.expression(e, p, registers); v != nil || err == errNoMatch {
			return v, nil
		} else if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (f *form) expression(e expr.Any, p *Packet, registers map[uint32][]byte) (*expr.Verdict, error) {
	switch e := e.(type) {
	case *expr.Counter:
	case *expr.Immediate:
		registers[e.Register] = e.Data
	case *expr.Meta:
		if e.SourceRegister { // it sets what the packet has
			if e.Key != expr.MetaKeyMARK || len(registers[e.Register]) != 4 {
				return nil, fmt.Errorf("setting meta key %d is not understood", e.Key)
			}
			p.Mark = binary.NativeEndian.Uint32(registers[e.Register])
			return nil, nil
		}
		switch e.Key {
		case expr.MetaKeyNFPROTO:
			registers[e.Register] = []byte{unix.NFPROTO_IPV4}
			if p.Src.Is6() {
				registers[e.Register] = []byte{unix.NFPROTO_IPV6}
			}
		case expr.MetaKeyL4PROTO:
			registers[e.Register] = []byte{p.Proto}
		case expr.MetaKeyMARK:
			registers[e.Register] = native32(p.Mark)
		case expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME:
			if (e.Key == expr.MetaKeyIIFNAME) != p.Inbound {
				return nil, errNoMatch
			}
			registers[e.Register] = ifname(p.Device)
		default:
			return nil, fmt.Errorf("meta key %d is not understood", e.Key)
		}
	case *expr.Payload:
		from := p.network()
		if e.Base == expr.PayloadBaseTransportHeader {
			from = p.transport()
		}
		if int(e.Offset+e.Len) > len(from) {
			return nil, errNoMatch // as where a fragment does not show it
		}
		registers[e.DestRegister] = from[e.Offset : e.Offset+e.Len]
	case *expr.Bitwise:
		in, out := registers[e.SourceRegister], make([]byte, e.Len)
		for i := range min(len(in), len(out), len(e.Mask), len(e.Xor)) {
			out[i] = in[i]&e.Mask[i] ^ e.Xor[i]
		}
		registers[e.DestRegister] = out
	case *expr.Cmp:
		got := registers[e.Register]
		is := bytes.Equal(got[:min(len(got), len(e.Data))], e.Data)
		if e.Op != expr.CmpOpEq && e.Op != expr.CmpOpNeq {
			return nil, fmt.Errorf("comparison %d is not understood", e.Op)
		}
		if is != (e.Op == expr.CmpOpEq) {
			return nil, errNoMatch
		}
	case *expr.Fib:
		kind := uint32(unix.RTN_UNICAST)
		switch {
		case !e.ResultADDRTYPE:
			return nil, errors.New("a look-up of a route is not understood")
		case e.FlagSADDR && p.FromUs, e.FlagDADDR && p.Local:
			kind = unix.RTN_LOCAL
		case e.FlagDADDR && p.Dst.IsMulticast():
			kind = unix.RTN_MULTICAST
		case e.FlagDADDR && p.Broadcast:
			kind = unix.RTN_BROADCAST
		}
		registers[e.Register] = native32(kind)
	case *expr.Ct:
		// A packet that is asked about begins a conversation.
		if e.Key != expr.CtKeyDIRECTION {
			return nil, fmt.Errorf("conntrack key %d is not understood", e.Key)
		}
		registers[e.Register] = []byte{0} // IP_CT_DIR_ORIGINAL
	case *expr.Lookup:
		v := inMap(f.maps[e.SetName], registers[e.SourceRegister])
		if v == nil {
			return nil, errNoMatch
		}
		return v, nil
	default:
		return nil, fmt.Errorf("expression %T is not understood", e)
	}
	return nil, nil
}

// inMap is the verdict of the interval that has a key.
func inMap(elements []nftables.SetElement, key []byte) *expr.Verdict {
	sorted := slices.SortedFunc(slices.Values(elements), func(a, b nftables.SetElement) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return btoi(!a.IntervalEnd) - btoi(!b.IntervalEnd) // an end goes before the beginning of the next
	})
	var v *expr.Verdict
	for _, e := range sorted {
		if bytes.Compare(e.Key, key) > 0 {
			break
		}
		if v = e.VerdictData; e.IntervalEnd {
			v = nil
		}
	}
	return v
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// network is as much of the IP header as rules look at.
func (p *Packet) network() []byte {
	if p.Src.Is6() {
		b := make([]byte, 40)
		b[0], b[6] = 6<<4, p.Proto
		copy(b[8:], p.Src.AsSlice())
		copy(b[24:], p.Dst.AsSlice())
		return b
	}
	b := make([]byte, 20)
	b[0], b[9] = 4<<4|5, p.Proto
	copy(b[12:], p.Src.AsSlice())
	copy(b[16:], p.Dst.AsSlice())
	return b
}

// transport is the beginning of what follows it; nothing where that is not known.
func (p *Packet) transport() []byte {
	if p.Opaque {
		return nil
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.SrcPort), p.DstPort)
}
