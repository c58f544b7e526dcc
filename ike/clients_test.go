package ike

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Several clients at the same addresses, which one policy of level unique serves.

// unique makes policies and templates of that level.
func unique(c *core.Config) {
	for _, p := range c.Policies {
		p.Unique = true
	}
	for _, t := range c.Templates {
		t.Unique = true
	}
}

// hidden is a client behind the NAT at puppetAddr, which has given it a port.
func (r *rig) hidden(seed byte, id core.ID, port uint16) *puppet {
	p := newPuppet(r, seed)
	p.natted, p.id = true, id
	p.init()
	p.addr = netip.AddrPortFrom(p.addr.Addr(), port)
	return p
}

// joins asks for transport mode, as a client of L2TP; more goes into IKE_AUTH.
func (p *puppet) joins(more ...message.Payload) []message.Payload {
	return p.auth(p.authPayloads(append(more, p.l2tpOffer(natCase{puppet: true})...)...)...)
}

const (
	served  = "IDr AUTH N(USE_TRANSPORT_MODE) SA TSi TSr"
	refused = "IDr AUTH N(TS_UNACCEPTABLE)"
)

// clients are the numbers of the CHILD SAs that live, by the peer's port.
func (r *rig) clients() map[uint16]uint64 {
	r.t.Helper()
	list := map[uint16]uint64{}
	for _, k := range r.children {
		if k.retired {
			continue
		}
		if was, ok := list[k.Remote.Port()]; ok && was != k.Client {
			r.t.Errorf("port %d is of two clients, %x and %x", k.Remote.Port(), was, k.Client)
		}
		list[k.Remote.Port()] = k.Client
	}
	return list
}

var privateID = core.ID{Type: core.IDIPv4, Data: string(netip.MustParseAddr("10.255.0.1").AsSlice())}

// Two hosts behind one NAT ask for the same ports, under a policy of the table or one of a
// template: at level unique both are served, by one policy, and each has its number,
// which outlives rekeys of either SA; at another level the second is told of it.
func TestTwoBehindOneNATWithTheSamePorts(t *testing.T) {
	for name, server := range map[string]func(*core.Config){"of the table": hostToHost, "of a template": l2tpServer} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, server)
			says(t, r.hidden(1, fqdn("one"), 40001).joins(), served)
			says(t, r.hidden(2, fqdn("two"), 40002).joins(), refused)
			if e := r.event(core.EvTSUnacceptable); !strings.Contains(e.Reason, `level = "unique"`) {
				t.Errorf("the event says %q", e.Reason)
			}
			for _, k := range r.children {
				if k.Client != 0 {
					t.Errorf("a client is told apart: %x", k.Client)
				}
			}

			r = newRig(t, server, unique)
			one, two := r.hidden(1, fqdn("one"), 40001), r.hidden(2, fqdn("two"), 40002)
			says(t, one.joins(), served)
			says(t, two.joins(), served)
			was := r.clients()
			if was[40001] == 0 || was[40002] == 0 || was[40001] == was[40002] {
				t.Fatalf("clients %x", was)
			}
			same := func(what string, n int) {
				t.Helper()
				if now := r.clients(); len(now) != 2 || now[40001] != was[40001] || now[40002] != was[40002] || len(r.children) != n {
					t.Errorf("after %s: %d CHILD SAs of clients %x, were %x", what, len(r.children), now, was)
				}
			}
			says(t, two.request(message.ExchangeCreateChildSA, append([]message.Payload{rekeySA(two.spi), nonce(4)}, two.l2tpOffer(natCase{puppet: true})...)...),
				"N(USE_TRANSPORT_MODE) SA Nonce TSi TSr")
			same("a rekey of the CHILD SA", 3)
			two.request(message.ExchangeInformational, deleteESP(two.spi-1))
			next := two.rekeyed(true, 0xaaaa, 3, two.request(message.ExchangeCreateChildSA, two.ikeRekey(0xaaaa, 3)...))
			two.request(message.ExchangeInformational, deleteIKE())
			next.addr, next.spi = two.addr, two.spi
			says(t, next.request(message.ExchangeCreateChildSA, append([]message.Payload{rekeySA(next.spi), nonce(5)}, next.l2tpOffer(natCase{puppet: true})...)...),
				"N(USE_TRANSPORT_MODE) SA Nonce TSi TSr")
			r.pass(10 * time.Second)
			same("a rekey of both", 3)

			// The policy serves the other one when the first has left.
			one.request(message.ExchangeInformational, deleteIKE())
			if left := r.clients(); len(left) != 1 || left[40002] != was[40002] || len(seen[core.DropPolicy](r)) != 0 {
				t.Errorf("left are %x", left)
			}
			next.request(message.ExchangeInformational, deleteIKE())
			if added, dropped := seen[core.AddPolicy](r), seen[core.DropPolicy](r); len(added) != len(dropped) || name == "of a template" && len(added) != 1 || len(r.children) != 0 {
				t.Errorf("policies %v came and %v went", added, dropped)
			}
		})
	}
}

// Some ports of the one are those of the other: both are served at level unique, each by
// a policy of its own.
func TestTwoBehindOneNATWithOverlappingPorts(t *testing.T) {
	for _, level := range []func(*core.Config){func(*core.Config) {}, unique} {
		r := newRig(t, l2tpServer, level)
		strict := r.hidden(1, fqdn("one"), 40001)
		from := l2tp(ts(true, puppetInside))
		from.Selectors[0].PortLo, from.Selectors[0].PortHi = 1701, 1701
		says(t, strict.auth(strict.authPayloads(append([]message.Payload{note(message.NotifyUseTransportMode)}, strict.offer(from, l2tp(ts(false, rigInside)))...)...)...), served)
		want, policies := refused, 1
		if r.cfg.Templates[0].Unique {
			want, policies = served, 2
		}
		says(t, r.hidden(2, fqdn("two"), 40002).joins(), want)
		if added := seen[core.AddPolicy](r); len(added) != policies {
			t.Errorf("policies %+v", added)
		}
	}
}

// Two clients with one network that the template names, in tunnel mode: as with one address.
func TestTwoTunnelsWithTheSameNetwork(t *testing.T) {
	for _, level := range []func(*core.Config){func(*core.Config) {}, unique} {
		r := newRig(t, l2tpServer, level, dst("192.168.0.0/16"))
		join := func(seed byte, id string) []message.Payload {
			p := r.hidden(seed, fqdn(id), 40000+uint16(seed))
			return p.auth(p.authPayloads(p.offer(ts(true, "192.168.1.0/24"), ts(false, "10.1.0.0/16"))...)...)
		}
		says(t, join(1, "one"), "IDr AUTH SA TSi TSr")
		if r.cfg.Templates[0].Unique {
			says(t, join(2, "two"), "IDr AUTH SA TSi TSr")
			if c := r.clients(); c[40001] == c[40002] || len(c) != 2 {
				t.Errorf("clients %x", c)
			}
			continue
		}
		says(t, join(2, "two"), refused)
		if e := r.event(core.EvTSUnacceptable); !strings.Contains(e.Reason, `another peer has a policy for`) || !strings.Contains(e.Reason, `level = "unique"`) {
			t.Errorf("the event says %q", e.Reason)
		}
	}
}

// Who is who. An ID names one client, wherever it connects from, if it is proven or the
// configuration names it; under a secret that many share it counts together with
// where it comes from. INITIAL_CONTACT ends what was of the same client; a private address, which
// each network may have once, is no client's name.
func TestWhoIsTheSameClient(t *testing.T) {
	named := func(c *core.Config) { c.Peers[0].Identities[0].RemoteID = fqdn("one") }
	shared := func(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") }
	contact := note(message.NotifyInitialContact)
	for name, c := range map[string]struct {
		change      func(*core.Config)
		id          core.ID
		from        [2]uint16
		contact     bool
		stays, same bool // the first one's SA; and the two are one client
	}{
		"a name that the configuration knows": {named, fqdn("one"), [2]uint16{40001, 40001}, false, true, true},
		"… from elsewhere, beside the first":  {named, fqdn("one"), [2]uint16{40001, 40002}, false, true, false},
		"… from elsewhere, after the first":   {named, fqdn("one"), [2]uint16{40001, 40002}, true, false, false},
		"a name under a shared secret":        {shared, fqdn("one"), [2]uint16{40001, 40002}, true, false, false},
		"… from the same place":               {shared, fqdn("one"), [2]uint16{40001, 40001}, true, false, true},
		"a private address":                   {shared, privateID, [2]uint16{40001, 40002}, true, true, false},
		"… from the same place again":         {shared, privateID, [2]uint16{40001, 40001}, true, false, true},
		"… that the configuration names": {func(c *core.Config) { c.Peers[0].Identities[0].RemoteID = privateID }, privateID,
			[2]uint16{40001, 40002}, true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, l2tpServer, unique, c.change)
			var got [2]uint64
			for i, port := range c.from {
				p := r.hidden(byte(i+1), c.id, port)
				before := map[core.ChildID]bool{}
				for id := range r.children {
					before[id] = true
				}
				var more []message.Payload
				if c.contact {
					more = append(more, contact)
				}
				says(t, p.joins(more...), served)
				for id, k := range r.children {
					if !before[id] {
						got[i] = k.Client
					}
				}
				r.pass(time.Minute)
				p.request(message.ExchangeInformational)
			}
			if n := r.established(); n != 1 && !c.stays || n != 2 && c.stays {
				t.Errorf("%d IKE SAs; events %s", n, r.reasons())
			}
			if got[0] == 0 || got[1] == 0 || (got[0] == got[1]) != c.same {
				t.Errorf("clients %x", got)
			}
		})
	}
}

// A client whose NAT gives it another port, or address, is still the same one.
func TestAClientThatMoves(t *testing.T) {
	r := newRig(t, hostToHost, unique)
	one, two := r.hidden(1, fqdn("one"), 40001), r.hidden(2, fqdn("two"), 40002)
	one.joins()
	two.joins()
	was := r.clients()
	two.addr = netip.AddrPortFrom(two.addr.Addr(), 45555)
	says(t, two.request(message.ExchangeCreateChildSA, append([]message.Payload{rekeySA(two.spi), nonce(4)}, two.l2tpOffer(natCase{puppet: true})...)...),
		"N(USE_TRANSPORT_MODE) SA Nonce TSi TSr")
	if now := r.clients(); len(now) != 2 || now[45555] != was[40002] || now[40001] != was[40001] {
		t.Errorf("clients %x, were %x; events %s", now, was, r.reasons())
	}
}
