package guard

import (
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sink takes the parts of a table: a batch for the kernel, or a table in memory
// to compare the kernel's with.
type sink interface {
	AddTable(*nftables.Table) *nftables.Table
	AddChain(*nftables.Chain) *nftables.Chain
	AddRule(*nftables.Rule) *nftables.Rule
	AddSet(*nftables.Set, []nftables.SetElement) error
	SetAddElements(*nftables.Set, []nftables.SetElement) error
}

// builder makes a table of a plan.
type builder struct {
	conn  sink
	table *nftables.Table
}

// build adds the whole table to the batch. The counters go on from was.
func (k *builder) build(p Plan, was Counts) {
	t := k.conn.AddTable(k.table)
	chain := func(name string) *nftables.Chain { return k.conn.AddChain(&nftables.Chain{Name: name, Table: t}) }
	in, out, quotes := chain("in"), chain("out"), chain("quotes")
	sparedIn, sparedOut := chain("spared-in"), chain("spared-out")
	for name, packets := range map[string]uint64{"drop-in": was.In, "drop-out": was.Out} {
		k.rule(chain(name), &expr.Counter{Packets: packets}, &expr.Verdict{Kind: expr.VerdictDrop})
	}
	for _, e := range k.sparedIn(p) {
		k.rule(sparedIn, append(e, accept)...)
	}
	for _, e := range append(sparedOutside(), dhcpOut()...) {
		k.rule(sparedOut, append(e, accept)...)
	}
	for _, name := range []string{p.Device, "lo"} {
		k.rule(in, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(ifname(name)), accept)
		k.rule(out, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(ifname(name)), accept)
	}
	k.rule(out, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(native32(p.Mark)), accept)
	if p.Errors != 0 {
		k.rule(out, &expr.Verdict{Kind: expr.VerdictJump, Chain: "quotes"})
		k.rule(out, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(native32(p.Errors)), &expr.Verdict{Kind: expr.VerdictGoto, Chain: "drop-out"})
	}
	for v := family4; v <= family6; v++ {
		f := compile(p.Flows, v == family6)
		if len(f.spans) == 0 {
			continue
		}
		k.direction(in, v, f, true)
		k.direction(out, v, f, false)
		if p.Errors != 0 {
			k.errors(quotes, v, f, p.Errors)
		}
	}
	for _, h := range []struct {
		name     string
		kind     nftables.ChainType
		hook     *nftables.ChainHook
		priority int32
		to       string
	}{
		{"input", nftables.ChainTypeFilter, nftables.ChainHookInput, -10, "in"},
		{"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, -10, "in"},
		{"postrouting", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, 90, "out"},
		{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -140, "quotes"},
		{"output", nftables.ChainTypeRoute, nftables.ChainHookOutput, -140, "quotes"}, // which asks for the route anew
	} {
		if h.to == "quotes" && p.Errors == 0 {
			continue
		}
		c := k.conn.AddChain(&nftables.Chain{Name: h.name, Table: t, Type: h.kind, Hooknum: h.hook, Priority: nftables.ChainPriorityRef(nftables.ChainPriority(h.priority))})
		if h.name == "prerouting" { // what comes out of the tunnel is on its way in
			k.rule(c, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(ifname(p.Device)), accept)
		}
		if h.to == "quotes" {
			k.rule(c, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(native32(p.Mark)), accept)
		}
		k.rule(c, &expr.Verdict{Kind: expr.VerdictGoto, Chain: h.to})
	}
}

// elements is how many elements go into one message, whose length has 16 bits.
const elements = 256

// direction adds the chains of a family and the map that leads to them.
func (k *builder) direction(from *nftables.Chain, v int, f family, inbound bool) {
	name, ip := "out"+"46"[v:v+1], header[v]
	remote, local := ip.dst, ip.src
	if inbound {
		name, remote, local = "in"+"46"[v:v+1], ip.src, ip.dst
	}
	for i, flows := range f.chains {
		c := k.conn.AddChain(&nftables.Chain{Name: name + "-" + strconv.Itoa(i), Table: k.table})
		spared, drop := "spared-out", "drop-out"
		if inbound {
			spared, drop = "spared-in", "drop-in"
		}
		k.rule(c, &expr.Verdict{Kind: expr.VerdictJump, Chain: spared})
		for _, w := range flows {
			match := w.match(local, inbound)
			switch {
			case w.Own && inbound:
				continue
			case w.Own:
				match = append(match, source(unix.RTN_LOCAL)...)
				if !w.Pass {
					k.rule(c, append(append(slices.Clip(match), answer()...), accept)...)
				}
			}
			verdict := accept
			if !w.Pass {
				verdict = &expr.Verdict{Kind: expr.VerdictGoto, Chain: drop}
			}
			k.rule(c, append(match, verdict)...)
		}
	}
	k.lookUp(from, name, v, f, expr.VerdictGoto, all(
		[]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{ip.nfproto})},
		[]expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: remote, Len: ip.len}}))
}

// errors marks the ICMP errors of a family that quote packets of protected flows, so
// that they are led to the device, and are known where they would leave in clear.
func (k *builder) errors(from *nftables.Chain, v int, f family, mark uint32) {
	name, ip := "quote"+"46"[v:v+1], header[v]
	for i, flows := range f.chains {
		c := k.conn.AddChain(&nftables.Chain{Name: name + "-" + strconv.Itoa(i), Table: k.table})
		for _, w := range flows {
			switch {
			case w.Own:
			case w.Pass:
				k.rule(c, append(w.quoted(v), &expr.Verdict{Kind: expr.VerdictReturn})...)
			default:
				k.rule(c, all(w.quoted(v), setMark(mark), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})...)
			}
		}
	}
	c := k.conn.AddChain(&nftables.Chain{Name: name, Table: k.table})
	for _, e := range icmpErrors(v) {
		k.rule(from, append(e, &expr.Verdict{Kind: expr.VerdictJump, Chain: name})...)
	}
	k.lookUp(c, name+"-of", v, f, expr.VerdictJump, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: quotation + ip.src, Len: ip.len}})
}

// lookUp adds to a chain that the address which load puts into register 1 leads to
// the chain of its flows, by a map.
func (k *builder) lookUp(from *nftables.Chain, name string, v int, f family, kind expr.VerdictKind, load []expr.Any) {
	ip, chains := header[v], strings.TrimSuffix(name, "-of")
	set := &nftables.Set{Table: k.table, Name: name, IsMap: true, Interval: true, KeyType: ip.kind, DataType: nftables.TypeVerdict}
	var list []nftables.SetElement
	for _, s := range f.spans {
		list = append(list, nftables.SetElement{Key: s.from.AsSlice(),
			VerdictData: &expr.Verdict{Kind: kind, Chain: chains + "-" + strconv.Itoa(s.chain)}})
		if next := s.to.Next(); next.IsValid() {
			list = append(list, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	first := list[:min(len(list), elements)]
	// Only a set that is too big for the kernel's names makes an error here, and
	// Flush reports it.
	_ = k.conn.AddSet(set, first)
	for rest := list[len(first):]; len(rest) > 0; rest = rest[min(len(rest), elements):] {
		_ = k.conn.SetAddElements(set, rest[:min(len(rest), elements)])
	}
	k.rule(from, append(load, &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: set.Name, SetID: set.ID})...)
}

func (k *builder) rule(c *nftables.Chain, exprs ...expr.Any) {
	k.conn.AddRule(&nftables.Rule{Table: k.table, Chain: c, Exprs: exprs})
}
