package ike

import (
	"net/netip"
	"strings"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// What a peer that has proved who it is may have by asking for it: the addresses that
// somebody gave it, and no more.

// claim is what a peer asks a server with a template for.
type claim struct {
	change   func(*core.Config)
	nets     []string // of the host
	natted   bool
	tsi, tsr string // "" as tsr: everything
	udp      bool   // for udp, and port 1701 at our end
	want     string // the policy; "": it is refused
	why      string // the event of a refusal, or of what was narrowed
	where    string // of the refusal
}

func dst(prefix string) func(*core.Config) {
	return func(c *core.Config) { c.Templates[0].Remote = netip.MustParsePrefix(prefix) }
}

func both(fs ...func(*core.Config)) func(*core.Config) {
	return func(c *core.Config) {
		for _, f := range fs {
			f(c)
		}
	}
}

func given(p string) func(*core.Config) {
	return func(c *core.Config) { c.Given = append(c.Given, netip.MustParsePrefix(p)) }
}

func ours(p string) func(*core.Config) {
	return func(c *core.Config) { c.Ours = append(c.Ours, netip.MustParsePrefix(p)) }
}

// anothers has a policy of another peer for a network, at a place of the table. The template is policy 5.
func anothers(remote string, index int) func(*core.Config) {
	return func(c *core.Config) {
		site, _ := pairConfigs()
		p := site.Policies[0]
		p.Ref, p.Index, p.Peer.Name, p.Peer.Passive = 77, index, "site", true
		p.Peer.Address = netip.MustParsePrefix("198.51.100.1/32")
		p.Pair.Remote = selector.FromPrefix(netip.MustParsePrefix(remote))
		c.Peers, c.Policies = append(c.Peers, p.Peer), append(c.Policies, p)
	}
}

const (
	everything = "0.0.0.0/0"
	toOuter    = "0.0.0.0/0 => 192.0.2.2/32"
	noNetwork  = "the template names no network"
)

// claims are the ways to ask for too much, and beside each what has to work.
var claimCases = map[string]claim{
	// No network in the template: the peer's own address.
	"everything":                    {tsi: everything, want: toOuter, why: noNetwork},
	"everything, dst-address 0/0":   {change: dst("0.0.0.0/0"), tsi: everything, want: toOuter, why: noNetwork},
	"its half of everything":        {tsi: "128.0.0.0/1", want: toOuter, why: noNetwork},
	"the other half of everything":  {tsi: "0.0.0.0/1", why: noNetwork, where: "site.toml:12 dst-address"},
	"its own address":               {tsi: "192.0.2.2/32", want: toOuter},
	"its own network":               {tsi: "192.0.2.0/24", want: toOuter, why: noNetwork},
	"another address":               {tsi: "198.51.100.9/32", why: "198.51.100.9 is not the peer's address, which is 192.0.2.2", where: "site.toml:12 dst-address"},
	"a private address without NAT": {change: unique, tsi: "192.168.1.10/32", why: "192.168.1.10 is not the peer's address", where: "site.toml:12 dst-address"},
	"a network":                     {tsi: "192.168.1.0/24", why: noNetwork, where: "site.toml:12 dst-address"},
	"everything of IPv6":            {tsi: "::/0", tsr: "::/0", why: noNetwork, where: "site.toml:12 dst-address"},
	"everything, dst-address ::/0 of AH": {change: func(c *core.Config) {
		c.Templates[0].Protocol = core.ProtoAH
	}, tsi: everything, why: "no proposal of the peer fits"},
	"everything of one port":                {tsi: everything, udp: true, want: "0.0.0.0/0[udp/1701] => 192.0.2.2/32[udp]", why: noNetwork},
	"everything of one port, port-override": {change: func(c *core.Config) { c.Peers[0].Identities[0].Generate = core.GenerateOverride }, tsi: everything, udp: true, want: "0.0.0.0/0[udp] => 192.0.2.2/32[udp]", why: noNetwork},
	"everything, to one host":               {tsi: everything, tsr: "10.1.0.1/32", want: "10.1.0.1/32 => 192.0.2.2/32", why: noNetwork},
	"everything, of a template for udp":     {change: func(c *core.Config) { c.Templates[0].Proto = 17 }, tsi: everything, want: "0.0.0.0/0[udp] => 192.0.2.2/32[udp]", why: noNetwork},

	// A network in the template: that, as far as it is nobody else's.
	"everything of a network":              {change: dst("10.2.0.0/16"), tsi: everything, want: "0.0.0.0/0 => 10.2.0.0/16"},
	"a part of it":                         {change: dst("10.2.0.0/16"), tsi: "10.2.5.0/24", want: "0.0.0.0/0 => 10.2.5.0/24"},
	"its own address instead":              {change: dst("10.2.0.0/16"), tsi: "192.0.2.2/32", why: "::/0 => 10.2.0.0/16", where: "site.toml:12 "},
	"half of the world, named":             {change: dst("128.0.0.0/1"), tsi: everything, want: "0.0.0.0/0 => 128.0.0.0/1"},
	"a network around this host's":         {change: dst("10.2.0.0/16"), nets: []string{"10.2.9.0/24"}, tsi: everything, why: "10.2.9.0/24 is this host's", where: "site.toml:12 dst-address"},
	"a host in this host's network":        {change: dst("10.2.0.0/16"), nets: []string{"10.2.9.0/24"}, tsi: "10.2.9.7/32", why: "10.2.9.0/24 is this host's", where: "site.toml:12 dst-address"},
	"a network beside this host's":         {change: dst("10.2.0.0/16"), nets: []string{"10.2.9.0/24"}, tsi: "10.2.5.0/24", want: "0.0.0.0/0 => 10.2.5.0/24"},
	"a network within a wider route":       {change: dst("10.2.0.0/16"), nets: []string{"10.0.0.0/8"}, tsi: everything, want: "0.0.0.0/0 => 10.2.0.0/16"},
	"this host's address":                  {change: dst("192.0.2.0/24"), nets: []string{"192.0.2.0/24", "192.0.2.1/32"}, tsi: everything, why: "192.0.2.1/32 is this host's", where: "site.toml:12 dst-address"},
	"a network behind this gateway":        {change: both(dst("10.0.0.0/8"), ours("10.1.0.0/16")), tsi: "10.1.0.0/16", why: "10.1.0.0/16 is a network behind this gateway", where: "site.toml:12 dst-address"},
	"addresses of a pool":                  {change: both(dst("10.2.0.0/16"), given("10.2.7.0/24")), tsi: "10.2.7.3/32", why: "10.2.7.0/24 is for those who are given an address by mode-config", where: "site.toml:12 dst-address"},
	"all addresses of a pool":              {change: both(dst("10.2.7.0/24"), given("10.2.7.0/24")), tsi: everything, why: "10.2.7.0/24 is for those who are given an address by mode-config", where: "site.toml:12 dst-address"},
	"another peer's network":               {change: both(dst("10.0.0.0/8"), anothers("10.3.0.0/16", 9)), tsi: "10.3.1.0/24", why: "10.3.0.0/16 is another peer's by policy 9", where: "site.toml:12 dst-address"},
	"another peer's network, around it":    {change: both(dst("10.0.0.0/8"), anothers("10.3.0.0/16", 9)), tsi: everything, why: "10.3.0.0/16 is another peer's by policy 9", where: "site.toml:12 dst-address"},
	"around one whose policy comes first":  {change: both(dst("10.0.0.0/8"), anothers("10.3.0.0/16", 2)), tsi: everything, want: "0.0.0.0/0 => 10.0.0.0/8"},
	"beside another peer's full tunnel":    {change: both(dst("10.0.0.0/8"), anothers("0.0.0.0/0", 9)), tsi: everything, want: "0.0.0.0/0 => 10.0.0.0/8"},
	"a host of a network, by two families": {change: dst("fd00:2::/32"), tsi: "fd00:2::7/128", tsr: "::/0", want: "::/0 => fd00:2::7/128"},

	// Behind a NAT: the NAT's address, and at level unique one private address of its own.
	"everything behind a NAT":                  {natted: true, tsi: everything, want: toOuter, why: noNetwork},
	"everything behind a NAT, unique":          {change: unique, natted: true, tsi: everything, want: toOuter, why: noNetwork},
	"its private address":                      {natted: true, tsi: "192.168.1.10/32", why: "192.168.1.10 is the peer's address behind its NAT, which others may have too", where: "site.toml:12 level"},
	"its private address, unique":              {change: unique, natted: true, tsi: "192.168.1.10/32", want: "0.0.0.0/0 => 192.168.1.10/32"},
	"… of a provider's NAT":                    {change: unique, natted: true, tsi: "100.64.3.4/32", want: "0.0.0.0/0 => 100.64.3.4/32"},
	"… of IPv6":                                {change: unique, natted: true, tsi: "fd00::7/128", tsr: "::/0", want: "::/0 => fd00::7/128"},
	"a private network":                        {change: unique, natted: true, tsi: "192.168.1.0/24", why: noNetwork, where: "site.toml:12 dst-address"},
	"a public address behind it":               {change: unique, natted: true, tsi: "198.51.100.9/32", why: "neither the peer's address, which is 192.0.2.2, nor a private one", where: "site.toml:12 dst-address"},
	"a private address of this host":           {change: unique, nets: []string{"192.168.1.10/32"}, natted: true, tsi: "192.168.1.10/32", why: "192.168.1.10/32 is this host's", where: "site.toml:12 dst-address"},
	"a private address in a route":             {change: unique, nets: []string{"192.168.0.0/16"}, natted: true, tsi: "192.168.1.10/32", why: "192.168.0.0/16 is this host's, or it has a route to it", where: "site.toml:12 dst-address"},
	"a private address beside the routes":      {change: unique, nets: []string{"192.168.0.0/24"}, natted: true, tsi: "192.168.1.10/32", want: "0.0.0.0/0 => 192.168.1.10/32"},
	"a private address behind this gateway":    {change: both(unique, ours("192.168.0.0/16")), natted: true, tsi: "192.168.1.10/32", why: "192.168.0.0/16 is a network behind this gateway", where: "site.toml:12 dst-address"},
	"a private address of a pool":              {change: both(unique, given("192.168.1.0/24")), natted: true, tsi: "192.168.1.10/32", why: "192.168.1.0/24 is for those who are given an address", where: "site.toml:12 dst-address"},
	"a private address of another peer":        {change: both(unique, anothers("192.168.0.0/16", 2)), natted: true, tsi: "192.168.1.10/32", why: "192.168.0.0/16 is another peer's by policy 2", where: "site.toml:12 dst-address"},
	"a private address and another's full way": {change: both(unique, anothers("0.0.0.0/0", 2)), natted: true, tsi: "192.168.1.10/32", want: "0.0.0.0/0 => 192.168.1.10/32"},
}

// Each is asked for in IKE_AUTH and in CREATE_CHILD_SA, of a server that the peer connects to and
// of one that connects to the peer.
func TestClaims(t *testing.T) {
	for name, c := range claimCases {
		for _, how := range []string{"at first", "later", "we connect"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				r := newRig(t, l2tpServer, func(cfg *core.Config) {
					cfg.Templates[0].Index = 5
					cfg.Where = func(entry any, key string) string {
						if entry == any(cfg.Templates[0]) {
							return "site.toml:12 " + key
						}
						return ""
					}
					if c.change != nil {
						c.change(cfg)
					}
					if how == "we connect" { // for a policy that is gone when the peer asks
						initiates(cfg)
						p, _ := pairConfigs()
						pol := p.Policies[0]
						pol.Peer, pol.Index = cfg.Peers[0], 1
						pol.Pair = selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("203.0.113.77/32")), Remote: selector.FromPrefix(netip.MustParsePrefix("203.0.113.78/32"))}
						cfg.Policies = append(cfg.Policies, pol)
					}
				})
				var nets []netip.Prefix
				for _, n := range c.nets {
					nets = append(nets, netip.MustParsePrefix(n))
				}
				r.in(core.LocalNets{Nets: nets})
				p := newPuppet(r, 1)
				p.natted = c.natted
				tsr := c.tsr
				if tsr == "" {
					tsr = everything
				}
				offer := func() []message.Payload {
					tsi, tsr := ts(true, c.tsi), ts(false, tsr)
					if c.udp {
						tsi, tsr = l2tp(tsi), l2tp(tsr)
					}
					return p.offer(tsi, tsr)
				}
				var ps []message.Payload
				switch how {
				case "at first":
					p.init()
					ps = p.auth(p.authPayloads(offer()...)...)
				case "later":
					p.init()
					p.auth(p.authPayloads()...)
					ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{nonce(3)}, offer()...)...)
				case "we connect":
					p.acceptInit()
					h, ps1 := p.asked(message.ExchangeIKEAuth)
					p.note(ps1)
					p.spi++
					p.answer(h, p.authPayloads(saOf(withSPI(espProposal, u32(p.spi))), ts(true, "203.0.113.77/32"), ts(false, "203.0.113.78/32"))...)
					h, _ = p.asked(message.ExchangeInformational)
					p.answer(h)
					without := *r.cfg
					without.Policies = without.Policies[:len(without.Policies)-1]
					r.in(core.Reconfigure{Config: &without})
					h, _ = p.asked(message.ExchangeInformational)
					p.answer(h)
					p.nextID = 0
					ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{nonce(3)}, offer()...)...)
				}
				added := seen[core.AddPolicy](r)
				if c.want != "" {
					if len(added) != 1 || len(added[0].Pairs) != 1 || added[0].Pairs[0].String() != c.want || !added[0].Tunnel {
						t.Fatalf("policies %+v, not %s; %s; events %s", added, c.want, describe(ps), r.reasons())
					}
					var made *child
					for _, k := range r.children {
						if k.Policy == added[0].Ref {
							made = k
						}
					}
					if made == nil || len(made.Pairs) != 1 || !added[0].Pairs[0].Covers(made.Pairs[0]) {
						t.Errorf("CHILD SAs for %v", r.pairs())
					}
					if said := r.event(core.EvChildUp).Reason; strings.Contains(said, "it asked for") != (c.why != "") || !strings.Contains(said, c.why) {
						t.Errorf("the event says %q, not %q", said, c.why)
					}
					return
				}
				if len(added) != 0 {
					t.Fatalf("policies %+v; %s", added, describe(ps))
				}
				if !strings.Contains(r.reasons(), c.why) {
					t.Errorf("the events are %s, without %q", r.reasons(), c.why)
				}
				if c.where == "" {
					return
				}
				e := r.event(core.EvTSUnacceptable)
				if e.Detail == nil || e.Detail.Where != c.where || !strings.Contains(e.Reason, "template 5 (site.toml:12") || e.Detail.Hint == "" {
					t.Errorf("the event says %q with %+v, not %q", e.Reason, e.Detail, c.where)
				}
			})
		}
	}
}

// claims has a client ask for addresses of its own: in IKE_AUTH, and from then on in CREATE_CHILD_SA.
func (p *puppet) claims(tsi string) []message.Payload {
	p.t.Helper()
	if p.nextID < 2 {
		return p.auth(p.authPayloads(p.offer(ts(true, tsi), wholeSpace(false))...)...)
	}
	return p.request(message.ExchangeCreateChildSA, append([]message.Payload{nonce(3)}, p.offer(ts(true, tsi), wholeSpace(false))...)...)
}

// Nobody has what another client has, nor a part of it, nor more around it. At level unique two may have the
// same, and no part of it.
func TestClaimsOfWhatAnotherHas(t *testing.T) {
	for name, c := range map[string]struct {
		dst, first, second string
		alike              [2]bool // is the second served: otherwise, at level unique
	}{
		"the same network":               {"10.2.0.0/16", "10.2.5.0/24", "10.2.5.0/24", [2]bool{false, true}},
		"a host of it":                   {"10.2.0.0/16", "10.2.5.0/24", "10.2.5.7/32", [2]bool{false, false}},
		"a network around it":            {"10.2.0.0/16", "10.2.5.0/24", "10.2.4.0/23", [2]bool{false, false}},
		"everything, of which some":      {"10.2.0.0/16", "10.2.5.7/32", everything, [2]bool{false, false}},
		"the network beside it":          {"10.2.0.0/16", "10.2.5.0/24", "10.2.6.0/24", [2]bool{true, true}},
		"the host beside it":             {"10.2.0.0/16", "10.2.5.7/32", "10.2.5.8/32", [2]bool{true, true}},
		"the NAT's address":              {"::/0", everything, everything, [2]bool{false, true}},
		"a private address":              {"::/0", "192.168.1.10/32", "192.168.1.10/32", [2]bool{false, true}},
		"another private address":        {"::/0", "192.168.1.10/32", "192.168.1.11/32", [2]bool{false, true}},
		"a private address in a network": {"10.2.0.0/16", "10.2.0.0/16", "10.2.1.10/32", [2]bool{false, false}},
	} {
		for i, level := range []func(*core.Config){func(*core.Config) {}, unique} {
			r := newRig(t, l2tpServer, dst(c.dst), level)
			one, two := r.hidden(1, fqdn("one"), 40001), r.hidden(2, fqdn("two"), 40002)
			one.claims(c.first)
			ps := two.claims(c.second)
			if got := findPayload[*message.SA](ps) != nil; got != c.alike[i] {
				t.Errorf("%s, unique %v: %s; events %s", name, i == 1, describe(ps), r.reasons())
			}
			if !c.alike[i] && c.dst != "::/0" && !strings.Contains(r.event(core.EvTSUnacceptable).Reason, "another peer has a policy for [0.0.0.0/0 => "+c.first) {
				t.Errorf("%s: the event says %q", name, r.event(core.EvTSUnacceptable).Reason)
			}
			if len(r.children) == 2 && i == 1 {
				if cl := r.clients(); cl[40001] == 0 || cl[40001] == cl[40002] {
					t.Errorf("%s: clients %x", name, cl)
				}
			}
			// What it has itself is no hindrance, and what the other one had is free when that is gone.
			if ps := one.claims(c.first); i == 1 && findPayload[*message.SA](ps) == nil {
				t.Errorf("%s: its own again: %s; events %s", name, describe(ps), r.reasons())
			}
			one.request(message.ExchangeInformational, deleteIKE())
			if ps := two.claims(c.second); (i == 1 || c.dst != "::/0") && findPayload[*message.SA](ps) == nil {
				t.Errorf("%s, unique %v: when the first has left: %s; events %s", name, i == 1, describe(ps), r.reasons())
			}
		}
	}
}

// Of the addresses behind its NAT a client has one.
func TestOnePrivateAddressEach(t *testing.T) {
	r := newRig(t, l2tpServer, unique)
	p := r.hidden(1, fqdn("one"), 40001)
	says(t, p.claims("192.168.1.10/32"), "IDr AUTH SA TSi TSr")
	says(t, p.claims("192.168.1.11/32"), "N(TS_UNACCEPTABLE)")
	if e := r.event(core.EvTSUnacceptable); !strings.Contains(e.Reason, "has a tunnel for 192.168.1.10 already") {
		t.Errorf("the event says %q", e.Reason)
	}
	says(t, p.claims("192.168.1.10/32"), "SA Nonce TSi TSr")
	if added := seen[core.AddPolicy](r); len(added) != 1 {
		t.Errorf("policies %+v", added)
	}
}

// Under one secret an ID that is an address or a key-id, or that is ignored, names nobody: two who say the same
// from two places are two. A name, or an ID that the configuration has, is one client's.
func TestAnIDThatProvesNothingIsNoClaim(t *testing.T) {
	for name, c := range map[string]struct {
		id     core.ID
		change func(*core.Identity)
		same   bool
	}{
		"a private address":               {privateID, func(*core.Identity) {}, false},
		"a key-id":                        {core.ID{Type: core.IDKeyID, Data: "group"}, func(*core.Identity) {}, false},
		"a name":                          {fqdn("one"), func(*core.Identity) {}, true},
		"a name that is ignored":          {fqdn("one"), func(id *core.Identity) { id.Ignore = true }, false},
		"an address that is in remote-id": {privateID, func(id *core.Identity) { id.RemoteID = privateID }, true},
	} {
		r := newRig(t, l2tpServer, dst("10.2.0.0/16"), func(cfg *core.Config) {
			cfg.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0")
			c.change(cfg.Peers[0].Identities[0])
		})
		one, two := r.hidden(1, c.id, 40001), r.hidden(2, c.id, 40002)
		two.addr = netip.MustParseAddrPort("198.51.100.9:40002")
		one.claims("10.2.5.0/24")
		if got := findPayload[*message.SA](two.claims("10.2.5.0/24")) != nil; got != c.same {
			t.Errorf("%s: served %v; events %s", name, got, r.reasons())
		}
	}
}

// A tunnel that a template made for where the peer was goes with the peer from there; one for a network stays.
func TestClaimOfAnAddressThatWasLeft(t *testing.T) {
	for _, c := range []struct {
		dst   string
		moves string
		stays bool
	}{
		{"::/0", "198.51.100.9:40001", false},
		{"::/0", "192.0.2.2:45555", true}, // the port alone
		{"10.2.0.0/16", "198.51.100.9:40001", true},
		{"192.0.2.2/32", "198.51.100.9:40001", true}, // the template names the address
	} {
		r := newRig(t, l2tpServer, dst(c.dst), func(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") })
		p := r.hidden(1, fqdn("one"), 40001)
		if ps := p.claims(everything); findPayload[*message.SA](ps) == nil || len(r.children) != 1 {
			t.Fatalf("%d CHILD SAs; events %s", len(r.children), r.reasons())
		}
		p.addr = netip.MustParseAddrPort(c.moves)
		says(t, p.request(message.ExchangeInformational), "")
		live := 0
		for _, k := range r.children {
			if !k.retired {
				live++
			}
		}
		if (live == 1) != c.stays {
			t.Errorf("%+v: %d CHILD SAs go on", c, live)
		}
	}
}

// A client that says by MOBIKE that it is elsewhere gets nothing for that address before it has answered from
// there: anybody can send with a foreign address.
func TestClaimOfAnAddressThatIsNotProven(t *testing.T) {
	r := newRig(t, l2tpServer, func(c *core.Config) {
		c.Peers[0].Profile.MOBIKE = true
		c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0")
	})
	p := newPuppet(r, 1)
	p.init()
	says(t, p.auth(p.authPayloads(append([]message.Payload{note(message.NotifyMOBIKESupported)}, p.offer(wholeSpace(true), wholeSpace(false))...)...)...),
		"IDr AUTH SA TSi TSr N(MOBIKE_SUPPORTED)")
	home := p.addr
	p.addr = netip.MustParseAddrPort("198.51.100.9:4500")
	p.update(&message.Notify{Kind: message.NotifyCookie2, Data: []byte("cookie of the peer")})
	h, ask := p.asked(message.ExchangeInformational)
	r.take()
	p.addr = home
	says(t, p.claims(everything), "N(TEMPORARY_FAILURE)")
	if added := seen[core.AddPolicy](r); len(added) != 1 {
		t.Errorf("policies %+v", added)
	}
	p.addr = netip.MustParseAddrPort("198.51.100.9:4500")
	p.answer(h, findNotify(ask, message.NotifyCookie2))
	h, _ = p.asked(message.ExchangeInformational) // the tunnel for the address that was left is deleted
	p.answer(h)
	says(t, p.claims(everything), "SA Nonce TSi TSr")
	if added := seen[core.AddPolicy](r); len(added) != 2 || added[1].Pairs[0].String() != "0.0.0.0/0 => 198.51.100.9/32" {
		t.Errorf("policies %+v", added)
	}
}

// Who has an address from us has a tunnel for that, whatever the template says, and no policy of the table gives it
// another one of the pool: not to who was given one, nor to who asked for none.
func TestClaimsOfWhoHasAnAddress(t *testing.T) {
	table := func(remote string) func(*core.Config) {
		return func(c *core.Config) {
			p, _ := pairConfigs()
			pol := p.Policies[0]
			pol.Peer, pol.Pair.Remote = c.Peers[0], selector.FromPrefix(netip.MustParsePrefix(remote))
			c.Policies = []*core.Policy{pol}
		}
	}
	pool := given("192.168.77.0/24")
	for name, c := range map[string]struct {
		change func(*core.Config)
		leased bool
		tsi    string
		want   string // TSi of the response, or the notify
	}{
		"everything, of the manual's template":  {func(c *core.Config) { c.Templates[0].Remote = netip.MustParsePrefix("::/0") }, true, everything, "192.168.77.9/32"},
		"everything, of a template's network":   {func(*core.Config) {}, true, everything, "192.168.77.9/32"},
		"another address":                       {func(*core.Config) {}, true, "192.168.77.10/32", "TS_UNACCEPTABLE"},
		"its outer address":                     {func(c *core.Config) { c.Templates[0].Remote = netip.MustParsePrefix("::/0") }, true, "192.0.2.2/32", "TS_UNACCEPTABLE"},
		"none asked for":                        {func(*core.Config) {}, false, everything, "FAILED_CP_REQUIRED"},
		"everything, of the table":              {table("192.168.77.0/24"), true, everything, "192.168.77.9/32"},
		"another address, of the table":         {table("192.168.77.0/24"), true, "192.168.77.10/32", "TS_UNACCEPTABLE"},
		"the pool, of the table, and no lease":  {table("192.168.77.0/24"), false, everything, "FAILED_CP_REQUIRED"},
		"a network of the table beside a lease": {table("10.9.0.0/16"), true, "10.9.0.0/16", "10.9.0.0/16"},
		"a network of the table without lease":  {table("10.9.0.0/16"), false, "10.9.0.0/16", "10.9.0.0/16"},
	} {
		r := newRig(t, givesLeases, pool, c.change)
		p := newPuppet(r, 1)
		p.init()
		var ps []message.Payload
		if offer := p.offer(ts(true, c.tsi), wholeSpace(false)); c.leased {
			ps = p.authLeased("192.168.77.9", p.authPayloads(append([]message.Payload{asksAddress()}, offer...)...)...)
		} else {
			ps = p.auth(p.authPayloads(offer...)...)
		}
		got := ""
		if tsi, _ := selectorsOf(ps); tsi != nil {
			got = tsi.Selectors[0].String()
		} else if n, ok := ps[len(ps)-1].(*message.Notify); ok {
			got = n.Kind.String()
		}
		if got != c.want {
			t.Errorf("%s: %s, not %s; %s", name, got, c.want, describe(ps))
		}
	}
}

// As the client of a gateway that gave us an address we let it make CHILD SAs for that address and its
// networks alone.
func TestClaimsOfTheGatewayThatGaveUsAnAddress(t *testing.T) {
	for _, c := range []struct{ tsi, tsr, want string }{ // its end, ours
		{"10.5.8.0/24", "192.168.77.254/32", "192.168.77.254/32 => 10.5.8.0/24"},
		{everything, everything, "192.168.77.254/32 => 10.5.8.0/24"},
		{"10.6.0.0/16", "192.168.77.254/32", ""},
		{"10.5.8.0/24", "192.168.1.0/24", ""},
	} {
		r := newRig(t, asksLease)
		p := newPuppet(r, 1)
		p.acceptInit()
		h, ps := p.asked(message.ExchangeIKEAuth)
		p.note(ps)
		p.answer(h, p.authPayloads(cp(2, message.Attribute{Type: 1, Value: []byte{192, 168, 77, 254}}, subnet(10, 5, 8, 24)), note(message.NotifyTSUnacceptable))...)
		r.take()
		p.nextID = 0
		ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{nonce(3)}, p.offer(ts(true, c.tsi), ts(false, c.tsr))...)...)
		got := ""
		if added := seen[core.AddPolicy](r); len(added) > 0 {
			got = added[0].Pairs[0].String()
		}
		if got != c.want {
			t.Errorf("%s => %s: %q, not %q; %s", c.tsr, c.tsi, got, c.want, describe(ps))
		}
	}
}
