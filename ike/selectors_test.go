package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// anotherTemplate adds one more to those of a client of givesLeases.
func anotherTemplate(local, remote string, change ...func(t *core.Template)) func(c *core.Config) {
	return func(c *core.Config) {
		t := *c.Templates[0]
		t.Ref, t.Index = t.Ref+core.PolicyRef(len(c.Templates)), t.Index+len(c.Templates)
		t.Local, t.Remote = netip.MustParsePrefix(local), netip.MustParsePrefix(remote)
		for _, f := range change {
			f(&t)
		}
		c.Templates = append(c.Templates, &t)
	}
}

// withoutLease has the template say which networks the peers may have.
func withoutLease(c *core.Config) { c.Peers[0].Identities[0].Mode = nil }

// IPv4 and IPv6 by one template each, in one CHILD SA, which goes with either of the templates.
func TestBothFamiliesByTwoTemplates(t *testing.T) {
	r := newRig(t, givesLeases, anotherTemplate("2001:db8:1::/48", "2001:db8:77::/64"))
	p := newPuppet(r, 1)
	p.init()
	both := func(initiator bool) *message.TS { return ts(initiator, "0.0.0.0/0", "::/0") }
	id := p.nextID
	p.nextID++
	r.hold = true
	asks := cp(1, message.Attribute{Type: 1}, message.Attribute{Type: 8})
	r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, id, false), p.authPayloads(append([]message.Payload{asks}, p.offer(both(true), both(false))...)...)...))
	r.hold = false
	r.in(core.Answer{ID: r.asks[0].ID, Data: core.AppendLease(nil, []netip.Addr{netip.MustParseAddr("192.168.77.9"), netip.MustParseAddr("2001:db8:77::9")}, nil)})
	says(t, p.response(message.ExchangeIKEAuth, id), "IDr AUTH CP SA TSi TSr")
	want := []string{"10.1.0.0/16 => 192.168.77.9/32", "2001:db8:1::/48 => 2001:db8:77::9/128"}
	if got := r.pairs(); !slices.Equal(got, want) {
		t.Fatalf("%q; %s", got, r.reasons())
	}
	if added := seen[core.AddPolicy](r); len(added) != 1 || len(added[0].Pairs) != 2 {
		t.Errorf("policies %+v", added)
	}
	cfg := *r.cfg
	cfg.Templates = cfg.Templates[:1]
	r.in(core.Reconfigure{Config: &cfg})
	h, ps := p.asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	p.answer(h)
	if len(r.pairs()) != 0 {
		t.Error("the CHILD SA outlives the template of its second pair")
	}
}

// What the policies allow of the peer's selectors, in one CHILD SA or, where that is not possible,
// with ADDITIONAL_TS_POSSIBLE (RFC 7296 §2.9).
func TestSeveralSelectors(t *testing.T) {
	unlike := func(t *core.Template) { t.Proposal.Name, t.Proposal.ESN = "other", []bool{false} }
	for _, v := range []struct {
		name     string
		change   []func(c *core.Config)
		tsi, tsr *message.TS
		pairs    []string
		more     string // the note of the CHILD SA; empty: no notify
	}{
		{"two policies", []func(c *core.Config){twoPolicies}, ts(true, "10.2.0.0/16", "10.3.0.0/16"), ts(false, "10.1.0.0/16"),
			[]string{"10.1.0.0/16 => 10.2.0.0/16"}, "policy 1: 10.1.0.0/16 => 10.3.0.0/16"},
		{"two policies, and a packet of the first", []func(c *core.Config){twoPolicies}, ts(true, "10.3.7.7/32", "10.3.0.0/16"), ts(false, "10.1.7.7/32", "10.1.0.0/16"),
			[]string{"10.1.0.0/16 => 10.3.0.0/16"}, ""},
		{"one policy, and nothing for the rest", nil, ts(true, "10.2.0.0/16", "10.9.0.0/16"), ts(false, "10.1.0.0/16"), []string{"10.1.0.0/16 => 10.2.0.0/16"}, ""},
		{"2 x 2 in one policy", []func(c *core.Config){func(c *core.Config) {
			wide := selector.FromPrefix(netip.MustParsePrefix("10.0.0.0/8"))
			c.Policies[0].Pair = selector.Pair{Local: wide, Remote: wide}
		}}, ts(true, "10.2.0.0/16", "10.3.0.0/16"), ts(false, "10.1.0.0/16", "10.4.0.0/16"),
			[]string{"10.1.0.0/16 => 10.2.0.0/16", "10.1.0.0/16 => 10.3.0.0/16", "10.4.0.0/16 => 10.2.0.0/16", "10.4.0.0/16 => 10.3.0.0/16"}, ""},
		{"two templates with the same local network", []func(c *core.Config){givesLeases, withoutLease, anotherTemplate("10.1.0.0/16", "10.9.0.0/16")},
			ts(true, "192.168.77.0/24", "10.9.0.0/16"), ts(false, "10.1.0.0/16"), []string{"10.1.0.0/16 => 192.168.77.0/24", "10.1.0.0/16 => 10.9.0.0/16"}, ""},
		{"two templates, of which each has pairs of its own", []func(c *core.Config){givesLeases, withoutLease, anotherTemplate("10.8.0.0/16", "10.9.0.0/16")},
			ts(true, "192.168.77.0/24", "10.9.0.0/16"), ts(false, "10.1.0.0/16", "10.8.0.0/16"), []string{"10.1.0.0/16 => 192.168.77.0/24"}, "template 5"},
		{"two templates with other proposals", []func(c *core.Config){givesLeases, withoutLease, anotherTemplate("10.1.0.0/16", "10.9.0.0/16", unlike)},
			ts(true, "192.168.77.0/24", "10.9.0.0/16"), ts(false, "10.1.0.0/16"), []string{"10.1.0.0/16 => 192.168.77.0/24"}, "template 5"},
	} {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, v.change...)
			p := newPuppet(r, 1)
			p.init()
			in := p.auth(p.authPayloads(p.offer(v.tsi, v.tsr)...)...)
			if got := r.pairs(); !slices.Equal(got, v.pairs) {
				t.Errorf("%q; %s", got, r.reasons())
			}
			if said := findNotify(in, message.NotifyAdditionalTSPossible) != nil; said != (v.more != "") {
				t.Errorf("answered with %s", describe(in))
			}
			if why := r.event(core.EvChildUp).Reason; v.more != "" && (!strings.Contains(why, v.more) || !strings.Contains(why, "ADDITIONAL_TS_POSSIBLE")) {
				t.Errorf("it says %q", why)
			}
		})
	}
}
