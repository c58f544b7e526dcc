package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// form is a table in memory: what build makes of a plan, or what the kernel reports.
// Handles, counters and the numbers of sets are not in it.
type form struct {
	flags  uint32
	chains map[string]*chainForm
	maps   map[string][]nftables.SetElement
}

type chainForm struct {
	base  *nftables.ChainHook // nil: others jump to it
	hook  string              // type, hook, priority and policy; "" where there is none
	rules [][]expr.Any
}

// form is a sink.

func (f *form) AddTable(t *nftables.Table) *nftables.Table { return t }

func (f *form) AddChain(c *nftables.Chain) *nftables.Chain {
	text := ""
	if c.Hooknum != nil && c.Priority != nil {
		policy := nftables.ChainPolicyAccept // what the kernel takes for none
		if c.Policy != nil {
			policy = *c.Policy
		}
		text = fmt.Sprintf("type %s hook %d priority %d policy %d", c.Type, *c.Hooknum, *c.Priority, policy)
	}
	f.chains[c.Name] = &chainForm{base: c.Hooknum, hook: text}
	return c
}

func (f *form) AddRule(r *nftables.Rule) *nftables.Rule {
	c := f.chains[r.Chain.Name]
	c.rules = append(c.rules, r.Exprs)
	return r
}

func (f *form) AddSet(s *nftables.Set, elements []nftables.SetElement) error {
	return f.SetAddElements(s, elements)
}

func (f *form) SetAddElements(s *nftables.Set, elements []nftables.SetElement) error {
	f.maps[s.Name] = append(f.maps[s.Name], elements...)
	return nil
}

func newForm() *form {
	return &form{chains: map[string]*chainForm{}, maps: map[string][]nftables.SetElement{}}
}

// formOf is the table of a plan.
func formOf(p Plan) *form {
	f := newForm()
	(&builder{f, &nftables.Table{Family: nftables.TableFamilyINet}}).build(p, Counts{})
	return f
}

// read is a table as the kernel has it.
func (k *kernel) read(t *nftables.Table) (*form, error) {
	f := newForm()
	// The library reads the flags in the machine's byte order; they are in the network's.
	f.flags = binary.BigEndian.Uint32(native32(t.Flags))
	chains, err := k.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("cannot list the guard's chains: %w", err)
	}
	for _, c := range chains {
		if c.Table == nil || c.Table.Name != t.Name {
			continue
		}
		f.AddChain(c)
		rules, err := k.conn.GetRules(t, c)
		if err != nil {
			return nil, fmt.Errorf("cannot read the guard's chain %s: %w", c.Name, err)
		}
		for _, r := range rules {
			f.AddRule(&nftables.Rule{Chain: c, Exprs: r.Exprs})
		}
	}
	sets, err := k.conn.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("cannot list the guard's maps: %w", err)
	}
	for _, s := range sets {
		elements, err := k.conn.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("cannot read the guard's map %s: %w", s.Name, err)
		}
		for i := range elements {
			if len(elements[i].Val) > 0 {
				elements[i].VerdictData, elements[i].Val = verdictOf(elements[i].Val), nil
			}
		}
		f.maps[s.Name] = elements
	}
	return f, nil
}

// verdictOf is the verdict of a map's element, as netlink attributes (NFTA_VERDICT_CODE
// and NFTA_VERDICT_CHAIN), which the library leaves as they are.
func verdictOf(b []byte) *expr.Verdict {
	v := &expr.Verdict{}
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			break
		}
		value := b[unix.SizeofNlAttr:length]
		switch binary.NativeEndian.Uint16(b[2:]) & nlaType {
		case unix.NFTA_VERDICT_CODE:
			if len(value) == 4 {
				v.Kind = expr.VerdictKind(int32(binary.BigEndian.Uint32(value)))
			}
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = strings.TrimRight(string(value), "\x00")
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return v
}

// Texts by which what build made and what the kernel reports compare.

func ruleText(exprs []expr.Any) string {
	var b strings.Builder
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Counter: // counts on
			b.WriteString("counter; ")
		case *expr.Lookup: // the number of the set is the batch's
			fmt.Fprintf(&b, "lookup %s %d %d %v %v; ", e.SetName, e.SourceRegister, e.DestRegister, e.IsDestRegSet, e.Invert)
		default:
			fmt.Fprintf(&b, "%T%+v; ", e, e)
		}
	}
	return b.String()
}

func (c *chainForm) text() string {
	var b strings.Builder
	b.WriteString(c.hook)
	for _, r := range c.rules {
		b.WriteString("\n" + ruleText(r))
	}
	return b.String()
}

func mapText(elements []nftables.SetElement) string {
	list := make([]string, len(elements))
	for i, e := range elements {
		verdict := ""
		if v := e.VerdictData; v != nil {
			verdict = fmt.Sprintf("%d %s", v.Kind, v.Chain)
		}
		list[i] = fmt.Sprintf("%x %v %s", e.Key, e.IntervalEnd, verdict)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// differences says how now differs from what is wanted.
func (f *form) differences(name string, now *form) (list []string) {
	say := func(format string, a ...any) { list = append(list, fmt.Sprintf(format, a...)) }
	if now.flags != f.flags {
		say("the flags of the guard's table %s were changed", name)
	}
	for _, c := range slices.Sorted(maps.Keys(f.chains)) {
		switch there := now.chains[c]; {
		case there == nil:
			say("chain %s of the guard's table %s was removed", c, name)
		case there.text() != f.chains[c].text():
			say("chain %s of the guard's table %s was changed", c, name)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(f.maps)) {
		switch there, ok := now.maps[m]; {
		case !ok:
			say("map %s of the guard's table %s was removed", m, name)
		case mapText(there) != mapText(f.maps[m]):
			say("map %s of the guard's table %s was changed", m, name)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(now.chains)) {
		if f.chains[c] == nil {
			say("chain %s was added to the guard's table %s", c, name)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(now.maps)) {
		if _, ok := f.maps[m]; !ok {
			say("set %s was added to the guard's table %s", m, name)
		}
	}
	if n := len(list) - maxNamed; n > 0 {
		list = append(list[:maxNamed], fmt.Sprintf("and %d more differences of the guard's table %s", n, name))
	}
	return list
}

// maxNamed is how many differences are named before the rest is only counted.
const maxNamed = 4

// compare says how the kernel's tables differ from the plan in force.
func (k *kernel) compare() ([]string, error) {
	mine, err := k.tables()
	if err != nil {
		return nil, fmt.Errorf("cannot read the guard's table: %w", err)
	}
	var list []string
	found := false
	for _, t := range mine {
		if t.Name != k.name {
			list = append(list, "table "+t.Name+", which stands in for the guard's while that is made, was left")
			continue
		}
		found = true
		now, err := k.read(t)
		switch {
		case errors.Is(err, unix.EPERM):
			return nil, err
		case err != nil: // something is in it that is not ours, and it is made anew
			list = append(list, fmt.Sprintf("the guard's table %s has what is not the guard's (%v)", k.name, err))
		default:
			list = append(list, formOf(*k.plan).differences(k.name, now)...)
		}
	}
	if !found {
		list = append(list, fmt.Sprintf("the guard's table %s was removed", k.name))
	}
	return list, nil
}

// nlaType is NLA_TYPE_MASK of linux/netlink.h: an attribute's type without its flags.
const nlaType = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
