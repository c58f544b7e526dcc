package core

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"culvert/spd/selector"
)

func tsOf(text string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(text)) }

// What a template allows: in both families where an end names none, and of a protocol only.
func TestTemplates(t *testing.T) {
	for _, c := range []struct {
		local, remote string
		proto         uint8
		pairs         string
		names         bool
	}{
		{"::/0", "::/0", 0, "[0.0.0.0/0 => 0.0.0.0/0 ::/0 => ::/0]", false},
		{"10.1.0.0/16", "::/0", 0, "[10.1.0.0/16 => 0.0.0.0/0]", false},
		{"2001:db8::/32", "::/0", 0, "[2001:db8::/32 => ::/0]", false},
		{"::/0", "10.2.0.0/16", 6, "[0.0.0.0/0[tcp] => 10.2.0.0/16[tcp]]", true},
		{"0.0.0.0/0", "0.0.0.0/0", 0, "[0.0.0.0/0 => 0.0.0.0/0]", false},
		{"10.1.0.0/16", "2001:db8::/32", 0, "[]", true},
	} {
		x := Template{Local: netip.MustParsePrefix(c.local), Remote: netip.MustParsePrefix(c.remote), Proto: c.proto}
		if got := fmt.Sprint(x.Pairs()); got != c.pairs || x.Names() != c.names {
			t.Errorf("%s to %s: %s, names %v, want %s, %v", c.local, c.remote, got, x.Names(), c.pairs, c.names)
		}
	}
	any := Template{Local: anyFamily, Remote: anyFamily}
	four := Template{Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.2.0.0/16")}
	for _, c := range []struct {
		t             *Template
		local, remote []selector.TS
		covers        bool
		l, r          int // selectors that are left when it is narrowed
	}{
		{&any, []selector.TS{tsOf("10.1.0.0/24"), tsOf("2001:db8::/32")}, []selector.TS{tsOf("10.2.0.0/24"), tsOf("2001:db8::/32")}, true, 2, 2},
		{&four, []selector.TS{tsOf("10.1.0.0/24")}, []selector.TS{tsOf("10.2.0.0/16")}, true, 1, 1},
		{&four, []selector.TS{tsOf("10.1.0.0/24"), tsOf("10.9.0.0/24")}, []selector.TS{tsOf("10.2.0.0/16")}, false, 1, 1},
		{&four, []selector.TS{tsOf("10.1.0.0/24")}, []selector.TS{tsOf("10.2.0.0/16"), tsOf("0.0.0.0/0")}, false, 1, 1},
		{&four, []selector.TS{tsOf("10.9.0.0/24")}, []selector.TS{tsOf("10.2.0.0/16")}, false, 0, 0},
	} {
		if got := c.t.Covers(c.local, c.remote); got != c.covers {
			t.Errorf("%v to %v covers: %v", c.local, c.remote, got)
		}
		if l, r, ok := c.t.Narrow(c.local, c.remote); len(l) != c.l || len(r) != c.r || ok != (c.l > 0) {
			t.Errorf("%v to %v narrows to %v and %v, %v", c.local, c.remote, l, r, ok)
		}
	}
	cfg := Config{Templates: []*Template{{Ref: 1, Group: "a", Tunnel: true}, {Ref: 2, Group: "b", Tunnel: true}, {Ref: 3, Group: "a", Transport: true}, {Ref: 4, Group: "a", Tunnel: true, Transport: true}}}
	refs := func(list []*Template) (out []PolicyRef) {
		for _, x := range list {
			out = append(out, x.Ref)
		}
		return out
	}
	group := cfg.TemplatesOf("a")
	if got := refs(group); !slices.Equal(got, []PolicyRef{1, 3, 4}) {
		t.Errorf("of the group: %v", got)
	}
	if got := refs(ForTunnels(group)); !slices.Equal(got, []PolicyRef{1, 4}) || len(group) != 3 || group[1].Ref != 3 {
		t.Errorf("for tunnels: %v of %v", got, refs(group))
	}
	if cfg.Template(2) != cfg.Templates[1] || cfg.Template(9) != nil {
		t.Error("by its ref")
	}
}

// TestDial checks that a client that asks for an address also asks for everything that the first template of its group allows.
func TestDial(t *testing.T) {
	any := &Template{Ref: FirstTemplate, Group: "g", Local: anyFamily, Remote: anyFamily, Tunnel: true, Unique: true, Index: 7}
	cfg := func(change func(*Peer, *Template)) (*Config, *Peer) {
		x := *any
		p := &Peer{Address: netip.MustParsePrefix("192.0.2.1/32"), Identities: []*Identity{{Mode: &ModeConfig{}, Generate: GenerateStrict, Group: "g"}, {}}}
		change(p, &x)
		return &Config{Templates: []*Template{{Group: "g", Transport: true}, &x}, Peers: []*Peer{p}}, p
	}
	for name, change := range map[string]func(*Peer, *Template){
		"a peer that waits":     func(p *Peer, _ *Template) { p.Passive = true },
		"nobody":                func(p *Peer, _ *Template) { p.Identities = nil },
		"no mode-config":        func(p *Peer, _ *Template) { p.Identities[0].Mode = nil },
		"who gives addresses":   func(p *Peer, _ *Template) { p.Identities[0].Mode.Responder = true },
		"no policies":           func(p *Peer, _ *Template) { p.Identities[0].Generate = GenerateNo },
		"another group":         func(p *Peer, _ *Template) { p.Identities[0].Group = "h" },
		"a template for a host": func(_ *Peer, x *Template) { x.Tunnel = false },
	} {
		c, p := cfg(change)
		if got := c.Dial(p); got != nil {
			t.Errorf("%s dials: %+v", name, got)
		}
	}
	c, p := cfg(func(*Peer, *Template) {})
	got := c.Dial(p)
	if got == nil || !got.Made.Dial || !got.Tunnel || !got.Unique || got.Index != 7 || got.Peer != p || got.Made.Template != any.Ref || fmt.Sprint(got.Pairs()) != "[0.0.0.0/0 => 0.0.0.0/0 ::/0 => ::/0]" || got.Pair != got.Pairs()[0] {
		t.Errorf("%+v", got)
	}
	local, remote := got.Selectors()
	if len(local) != 2 || len(remote) != 2 {
		t.Errorf("%v to %v", local, remote)
	}
	if l, r, ok := got.Narrow([]selector.TS{tsOf("2001:db8:1::/64")}, []selector.TS{tsOf("2001:db8:2::/64")}); !ok || fmt.Sprint(l, r) != "[2001:db8:1::/64] [2001:db8:2::/64]" {
		t.Errorf("%v to %v", l, r)
	}
	table := Policy{Pair: selector.Pair{Local: tsOf("10.1.0.0/16"), Remote: tsOf("10.2.0.0/16")}}
	local, remote = table.Selectors()
	if len(local) != 1 || len(remote) != 1 || local[0] != table.Pair.Local || remote[0] != table.Pair.Remote || len(table.Pairs()) != 1 || table.Pairs()[0] != table.Pair {
		t.Errorf("%v to %v", local, remote)
	}
	if l, r, ok := table.Narrow([]selector.TS{tsOf("0.0.0.0/0")}, []selector.TS{tsOf("10.2.3.0/24")}); !ok || fmt.Sprint(l, r) != "[10.1.0.0/16] [10.2.3.0/24]" {
		t.Errorf("%v to %v", l, r)
	}
	if l, r, ok := got.Narrow([]selector.TS{tsOf("10.9.0.7/32")}, []selector.TS{tsOf("10.2.3.0/24"), tsOf("2001:db8::/32")}); !ok || fmt.Sprint(l, r) != "[10.9.0.7/32] [10.2.3.0/24]" {
		t.Errorf("%v to %v", l, r)
	}
}
