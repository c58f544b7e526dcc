package sa

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// crowd is an Others that knows some SAs.
type crowd struct {
	*toyOwner
	list []*SA
}

func (c *crowd) Siblings(sa *SA) iter.Seq[*SA] {
	return func(yield func(*SA) bool) {
		for _, s := range c.list {
			if s != sa && !yield(s) {
				return
			}
		}
	}
}

func (c *crowd) Namesakes(sa *SA) (list []*SA) {
	for s := range c.Siblings(sa) {
		if s.PeerID == sa.PeerID {
			list = append(list, s)
		}
	}
	return list
}

// among is the SA of a world, established, and others of the same peer.
func among(w *world, n int) *crowd {
	c := &crowd{toyOwner: w.owner}
	w.sa.Others = c
	w.sa.Identity, w.sa.State = w.sa.Peer.Identities[0], Established
	c.list = []*SA{w.sa}
	for i := range n {
		s := New(w.env, w.sa.Owner, w.sa.Peer, Path{Local: w.sa.Local, Remote: netip.AddrPortFrom(w.sa.Remote.Addr(), uint16(1000+i))})
		s.Identity, s.State, s.Protocol = w.sa.Identity, Established, &toy{sa: s}
		s.Heard = w.now.Add(time.Duration(i) * time.Second)
		c.list = append(c.list, s)
	}
	return c
}

func nets(list ...string) (ts []selector.TS) {
	for _, s := range list {
		ts = append(ts, selector.FromPrefix(netip.MustParsePrefix(s)))
	}
	return ts
}

// placed tells where entries of the configuration stand.
func placed(entry any, key string) string {
	if p, ok := entry.(*core.Policy); ok {
		return fmt.Sprintf("site.toml:%d%s", p.Index, key)
	}
	return "site.toml:" + key
}

// What one peer may have up is bounded; the one that was silent for longest goes, and of two of them the
// older one. Whoever is chosen by a certificate is known by it, whatever ID it claims.
func TestBoundSame(t *testing.T) {
	for _, certificate := range []bool{false, true} {
		w := newWorld(t)
		c := among(w, maxSame+2)
		w.sa.Identity.Auth, w.sa.Identity.MatchCert = core.AuthSignature, certificate
		if certificate {
			for i, s := range c.list {
				s.PeerID = core.ID{Type: core.IDFQDN, Data: fmt.Sprint(i)}
			}
		}
		c.list[5].Heard, c.list[6].Heard = w.now.Add(-time.Minute), w.now.Add(-time.Minute)
		// Two do not count, and so all are few enough: one is proven in another way, one was replaced.
		c.list[1].Identity, c.list[2].State = &core.Identity{Auth: core.AuthSignature}, Replaced
		c.list[1].Heard, c.list[2].Heard = w.now.Add(-time.Hour), w.now.Add(-time.Hour)
		extra := c.list[len(c.list)-1]
		c.list = c.list[:len(c.list)-1]
		ended := func() (ended []int) {
			for i, s := range c.list {
				if s.State == Ended {
					ended = append(ended, i)
				}
			}
			return ended
		}
		if w.sa.BoundSame(); ended() != nil {
			t.Errorf("certificate %v: of %d ended %v", certificate, maxSame, ended())
		}
		c.list = append(c.list, extra)
		if w.sa.BoundSame(); !slices.Equal(ended(), []int{5}) {
			t.Errorf("certificate %v: of one too many ended %v", certificate, ended())
		}
	}
}

// What is a gateway of its own has an address or a name of its own in the configuration.
func TestOneGateway(t *testing.T) {
	single, net := netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("192.0.2.0/24")
	for _, c := range []struct {
		peer core.Peer
		id   *core.Identity
		want bool
	}{
		{core.Peer{Address: single}, &core.Identity{}, true}, {core.Peer{DNSName: "b.example"}, &core.Identity{}, true}, {core.Peer{Address: net}, &core.Identity{}, false},
		{core.Peer{Address: single}, nil, false}, {core.Peer{Address: single}, &core.Identity{Ignore: true}, false},
		{core.Peer{DNSName: "b.example"}, &core.Identity{Generate: core.GenerateStrict}, false},
	} {
		if got := oneGateway(&c.peer, c.id); got != c.want {
			t.Errorf("%+v, %+v: %v", c.peer.Address, c.id, got)
		}
	}
}

// The first message goes out from another address of ours only if the system names one, and nobody has answered.
func TestSeekSource(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.77")
	for _, c := range []struct {
		name   string
		answer []byte
		err    error
		silent bool
		moves  bool
	}{
		{"another", other.AsSlice(), nil, true, true}, {"another, mapped into IPv6", netip.AddrFrom16(other.As16()).AsSlice(), nil, true, true},
		{"the same", []byte{192, 0, 2, 1}, nil, true, false}, {"another, and an answer came", other.AsSlice(), nil, false, false},
		{"none", nil, errors.New("no route"), true, false}, {"another, and an error", other.AsSlice(), errors.New("no route"), true, false}, {"no address", []byte{1, 2, 3}, nil, true, false},
	} {
		w := newWorld(t)
		w.sa.State = Connecting
		moved := 0
		SeekSource(w.sa, func() bool { return c.silent }, func() { moved++ })
		ask, ok := poll[core.Ask](w)
		if !ok {
			t.Fatalf("%s: nobody was asked", c.name)
		}
		w.env.Answered(core.Answer{ID: ask.ID, Data: secret.Bytes(c.answer), Err: c.err})
		want := netip.MustParseAddrPort("192.0.2.1:500")
		if c.moves {
			want = netip.AddrPortFrom(other, 500)
		}
		if w.sa.Local != want || (moved == 1) != c.moves {
			t.Errorf("%s: from %v, moved %d times", c.name, w.sa.Local, moved)
		}
	}
	for name, change := range map[string]func(*SA){
		"a local address is configured": func(sa *SA) { sa.State, sa.Peer.Local = Connecting, netip.MustParseAddr("192.0.2.1") }, "it is up": func(sa *SA) { sa.State = Established },
	} {
		w := newWorld(t)
		change(w.sa)
		SeekSource(w.sa, func() bool { return true }, func() {})
		if _, ok := poll[core.Ask](w); ok {
			t.Errorf("%s: the system was asked", name)
		}
	}
}

// poll is the first output of a kind.
func poll[T any](w *world) (found T, ok bool) {
	for out, more := w.env.Poll(); more; out, more = w.env.Poll() {
		if x, is := out.(T); is {
			return x, true
		}
	}
	return found, false
}

// What a policy or a template asks for stays as it is, unless it is for an address that the peer gives.
func TestDialedIsForALease(t *testing.T) {
	w := newWorld(t)
	ag := &Agreement{Local: nets("10.1.0.0/16"), Remote: nets("10.2.0.0/16")}
	for name, p := range map[string]*core.Policy{"of the table": {}, "of a template": {Made: &core.Made{}}} {
		if got, err := dialed(w.sa, p, ag); got != p || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	var r *Refusal
	if got, err := dialed(w.sa, &core.Policy{Made: &core.Made{Dial: true}}, ag); got != nil || !errors.As(err, &r) || r.Cause != NoAddress {
		t.Errorf("without an address: %+v, %v", got, err)
	}
}

// Each of the peer's networks that the first CHILD SA has nothing of gets a policy.
func TestUncovered(t *testing.T) {
	w := newWorld(t)
	w.sa.Identity = &core.Identity{Group: "g"}
	w.sa.Lease = &Lease{Asked: true}
	w.owner.cfg.Templates = []*core.Template{{Ref: core.FirstTemplate, Group: "g", Tunnel: true, Protocol: core.ProtoESP, Local: netip.MustParsePrefix("0.0.0.0/0"), Remote: netip.MustParsePrefix("10.0.0.0/8")}}
	addUncovered(w.sa, &core.Policy{}, nets("10.9.0.5/32"), nets("10.2.0.0/16", "10.3.0.0/16", "192.168.0.0/16", "10.4.0.0/16"), nets("10.2.0.0/24"))
	var got []selector.TS
	for _, p := range w.sa.Lease.Made {
		got = append(got, p.Pair.Remote)
	}
	if want := nets("10.3.0.0/16", "10.4.0.0/16"); !slices.Equal(got, want) {
		t.Errorf("policies for %v, want %v", got, want)
	}
}

// A template for everything gives nobody what a policy names, its own included: it is to be asked for by
// that policy. One for a network gives a peer what is its own.
func TestElses(t *testing.T) {
	w := newWorld(t)
	w.sa.Identity = w.sa.Peer.Identities[0]
	own := w.owner.cfg.Policies[0]
	other := *own
	other.Peer, other.Index = &core.Peer{Name: "c"}, 5
	template := &core.Template{Index: 3, Tunnel: true}
	local, ts := nets("10.1.0.0/16"), nets("10.2.7.0/24")[0]
	r := &Request{SA: w.sa}
	for _, c := range []struct {
		name string
		p    *core.Policy
		bits int
		free bool
	}{
		{"its own, by a template for everything", own, 0, false}, {"its own", own, 8, true}, {"another's", &other, 8, false}, {"another's, by a template for everything", &other, 0, false},
		{"another's that is named as exactly", &other, 16, true},
	} {
		w.owner.cfg.Policies = []*core.Policy{c.p}
		if got := r.elses(template, local, ts, c.bits); (got == "") != c.free {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	first := other
	first.Index = 1
	w.owner.cfg.Policies = []*core.Policy{&first}
	if got := r.elses(template, local, ts, 8); got != "" {
		t.Errorf("what stands in front of the template: %q", got)
	}
}

// Whoever has proved itself, and whom we began with, is told why; of strangers only some.
func TestExplains(t *testing.T) {
	for _, s := range []State{HalfOpen, Connecting, Established} {
		w := newWorld(t)
		w.sa.State = s
		told := 0
		for range 1000 {
			if (Explainer{w.sa}).explains() {
				told++
			}
		}
		if told == 0 || (told == 1000) != (s != HalfOpen) {
			t.Errorf("%v: %d of 1000 are explained", s, told)
		}
	}
}

// Where no policy has the selectors that a peer asks for, the one that is nearest is named, and what of it
// differs; those for another identity are not the peer's.
func TestSelectorParts(t *testing.T) {
	w := newWorld(t)
	w.owner.cfg.Where = placed
	id := w.sa.Peer.Identities[0]
	w.sa.Identity = id
	base := w.owner.cfg.Policies[0]
	policy := func(index int, local, remote string, change ...func(*core.Policy)) *core.Policy {
		p := *base
		p.Index, p.Pair = index, selector.Pair{Local: nets(local)[0], Remote: nets(remote)[0]}
		for _, f := range change {
			f(&p)
		}
		return &p
	}
	theirs := func(p *core.Policy) { p.Peer = &core.Peer{Name: "c"} }
	another := func(p *core.Policy) { p.Identity = &core.Identity{} }
	for _, c := range []struct {
		name     string
		policies []*core.Policy
		ours     int
		part     string
		hint     string
	}{
		{"none", nil, 0, "", `no policy names peer "b"`}, {"of others", []*core.Policy{policy(1, "10.1.0.0/16", "10.2.0.0/16", theirs)}, 0, "", `no policy names peer "b"`},
		{"our end", []*core.Policy{policy(1, "10.9.0.0/16", "10.2.0.0/16")}, 1, "src-address", "src-address: policy 1 has 10.9.0.0/16"},
		{"its end", []*core.Policy{policy(1, "10.1.0.0/16", "10.9.0.0/16")}, 1, "dst-address", "dst-address: policy 1 has 10.9.0.0/16"},
		{"both", []*core.Policy{policy(1, "10.8.0.0/16", "10.9.0.0/16")}, 1, "src-address", `no policy of peer "b" is for`},
		{"the nearer one is the second", []*core.Policy{policy(1, "10.8.0.0/16", "10.9.0.0/16"), policy(2, "10.1.0.0/16", "10.9.0.0/16")}, 2, "dst-address", "dst-address: policy 2 has"},
		{"the first of two is as near", []*core.Policy{policy(1, "10.1.0.0/16", "10.9.0.0/16"), policy(2, "10.9.0.0/16", "10.2.0.0/16")}, 2, "dst-address", "dst-address: policy 1 has"},
		{"for another identity", []*core.Policy{policy(1, "10.1.0.0/16", "10.2.0.0/16", another)}, 1, "identity", "identity: policy 1 is for another identity"},
		{"of another identity, and not what is asked for", []*core.Policy{policy(1, "10.1.0.0/16", "10.9.0.0/16", another)}, 0, "", `no policy names peer "b"`},
		{"beside one of another identity", []*core.Policy{policy(1, "10.1.0.0/16", "10.9.0.0/16", another), policy(2, "10.9.0.0/16", "10.2.0.0/16")}, 1, "src-address", "src-address: policy 2 has"},
		{"of another identity, behind others", []*core.Policy{policy(1, "10.9.0.0/16", "10.2.0.0/16"), policy(2, "10.1.0.0/16", "10.2.0.0/16", another)}, 2, "identity", "identity: policy 2 is"},
	} {
		w.owner.cfg.Policies = c.policies
		m := Explainer{w.sa}.SelectorParts(nets("10.1.0.0/24"), nets("10.2.0.0/24"))
		if m.Part != c.part || !strings.HasPrefix(m.Hint, c.hint) || len(m.Ours) != c.ours || !slices.Equal(m.Theirs, []string{"10.1.0.0/24 => 10.2.0.0/24"}) {
			t.Errorf("%s: part %q, hint %q, ours %q, theirs %q", c.name, m.Part, m.Hint, m.Ours, m.Theirs)
		}
		if c.part != "" && (m.Where == "" || !strings.HasSuffix(m.Hint, "("+m.Where+")")) {
			t.Errorf("%s: it does not say where: %q, %q", c.name, m.Where, m.Hint)
		}
	}
	if m := (Explainer{w.sa}).SelectorParts(nil, nets("10.2.0.0/24")); m.Hint != "the peer asks for nothing" {
		t.Error(m.Hint)
	}
}

// What to compare where the peer refused who we are.
func TestProofRefused(t *testing.T) {
	w := newWorld(t)
	w.owner.cfg.Where = placed
	name := core.ID{Type: core.IDFQDN, Data: "b.example"}
	for _, c := range []struct {
		name    string
		id      *core.Identity
		resumed bool
		has     []string
		not     []string
	}{
		{"a secret", &core.Identity{Auth: core.AuthPSK, RemoteID: name}, false, []string{"we ask for fqdn:b.example", "its log does", "(site.toml:)"}, []string{"ppk-id"}},
		{"a secret, and a PPK", &core.Identity{Auth: core.AuthPSK, PPK: &core.PPK{}}, false, []string{"; compare ppk-id and ppk-secret, too (site.toml:)"}, []string{"we ask for"}},
		{"an ID that is not compared", &core.Identity{Auth: core.AuthPSK, RemoteID: name, Ignore: true}, false, nil, []string{"we ask for"}},
		{"a ticket", &core.Identity{Auth: core.AuthPSK}, true, []string{"resumption = false", "(site.toml:)"}, []string{"its log does"}},
		{"none", nil, false, []string{"its log does"}, []string{"ppk-id"}},
	} {
		w.sa.Identity, w.sa.Resumed = c.id, c.resumed
		m := Explainer{w.sa}.ProofRefused()
		text := strings.Join(m.Ours, "; ") + "; " + m.Hint
		for _, s := range c.has {
			if !strings.Contains(text, s) {
				t.Errorf("%s: no %q in %q", c.name, s, text)
			}
		}
		for _, s := range c.not {
			if strings.Contains(text, s) {
				t.Errorf("%s: %q in %q", c.name, s, text)
			}
		}
	}
}

// A peer whose NAT gave it another port is followed, also where the system does not say where its packet
// arrived.
func TestRebound(t *testing.T) {
	local, moved := netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.2:7000")
	elsewhere := netip.MustParseAddrPort("192.0.2.9:4500")
	for _, c := range []struct {
		name  string
		at    netip.AddrPort
		sa    func(*SA)
		local netip.AddrPort // where it is followed to; not valid: it is not
	}{
		{"to where it arrived", elsewhere, nil, elsewhere}, {"nothing is said", netip.AddrPort{}, nil, local}, {"it arrived anywhere", netip.MustParseAddrPort("0.0.0.0:4500"), nil, local},
		{"it will tell us", elsewhere, func(sa *SA) { sa.Told = true }, netip.AddrPort{}}, {"we are behind a NAT", elsewhere, func(sa *SA) { sa.NAT.Local = true }, netip.AddrPort{}},
		{"it is behind none", elsewhere, func(sa *SA) { sa.NAT.Remote = false }, netip.AddrPort{}}, {"without NAT traversal", elsewhere, func(sa *SA) { sa.NATT = false }, netip.AddrPort{}},
	} {
		w := newWorld(t)
		w.sa.Local, w.sa.Remote = local, netip.MustParseAddrPort("192.0.2.2:4500")
		w.sa.NATT, w.sa.NAT.Remote = true, true
		if c.sa != nil {
			c.sa(w.sa)
		}
		was := w.sa.Path
		rebound(w.sa, Path{Local: c.at, Remote: moved, NATT: true})
		want := was
		if c.local.IsValid() {
			want = Path{Local: c.local, Remote: moved, NATT: true}
		}
		if w.sa.Path != want {
			t.Errorf("%s: %+v, want %+v", c.name, w.sa.Path, want)
		}
	}
}

// Through a NAT each selector of one address becomes that of the path; networks and the other family stay.
func TestReaddressed(t *testing.T) {
	list := nets("10.0.0.1/32", "10.2.0.0/24", "2001:db8::1/128", "10.0.0.2/32")
	at := netip.MustParseAddr("192.0.2.2")
	want := nets("192.0.2.2/32", "10.2.0.0/24", "2001:db8::1/128", "192.0.2.2/32")
	if got := readdressed(list, true, at); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for name, got := range map[string][]selector.TS{
		"no NAT": readdressed(list, false, at), "no address": readdressed(list, true, netip.Addr{}), "any address": readdressed(list, true, netip.IPv4Unspecified()),
	} {
		if !slices.Equal(got, list) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// In transport mode the traffic of two peers behind one NAT has one address: the second is refused, unless
// both policies tell flows apart.
func TestClash(t *testing.T) {
	pairs := []selector.Pair{{Local: nets("192.0.2.1/32")[0], Remote: nets("192.0.2.2/32")[0]}}
	for _, c := range []struct {
		name   string
		change func(c *Choice, other *SA, child *Child)
		clash  bool
	}{
		{"behind the same NAT", func(*Choice, *SA, *Child) {}, true},
		{"both are unique", func(c *Choice, _ *SA, d *Child) { c.Policy.Unique, d.Policy.Unique = true, true }, false},
		{"this one is unique", func(c *Choice, _ *SA, _ *Child) { c.Policy.Unique = true }, true},
		{"the other one is unique", func(_ *Choice, _ *SA, d *Child) { d.Policy.Unique = true }, true},
		{"this one is a tunnel", func(c *Choice, _ *SA, _ *Child) { c.Policy.Tunnel = true }, false},
		{"the other one is a tunnel", func(_ *Choice, _ *SA, d *Child) { d.Policy.Tunnel = true }, false},
		{"no NAT", func(c *Choice, _ *SA, _ *Child) { c.sa.NAT.Remote = false }, false},
		{"for other traffic", func(_ *Choice, _ *SA, d *Child) {
			d.Pairs = []selector.Pair{{Local: pairs[0].Local, Remote: nets("192.0.2.3/32")[0]}}
		}, false},
		{"its CHILD SA is gone", func(_ *Choice, _ *SA, d *Child) { d.Gone = true }, false},
		{"it is gone", func(_ *Choice, s *SA, _ *Child) { s.State = Ended }, false},
		{"it is the same one", func(c *Choice, s *SA, _ *Child) { s.PeerID = c.sa.PeerID }, false},
		{"it is at the same port", func(c *Choice, s *SA, _ *Child) { s.Remote = c.sa.Remote }, false},
	} {
		w := newWorld(t)
		list := among(w, 2).list
		w.sa.PeerID, list[1].PeerID, list[2].PeerID = core.ID{Type: core.IDFQDN, Data: "a"}, core.ID{Type: core.IDFQDN, Data: "b"}, core.ID{Type: core.IDFQDN, Data: "c"}
		w.sa.NAT.Remote = true
		mine, theirs := *w.owner.cfg.Policies[0], *w.owner.cfg.Policies[0]
		mine.Tunnel, theirs.Tunnel = false, false
		child := &Child{SA: list[2], Policy: &theirs}
		child.Pairs = pairs
		list[2].Children = []*Child{child}
		choice := &Choice{Policy: &mine, sa: w.sa}
		choice.Pairs = pairs
		c.change(choice, list[2], child)
		var r *Refusal
		if err := choice.clash(); (err != nil) != c.clash || err != nil && (!errors.As(err, &r) || r.Cause != BadSelectors) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The hint about a template says where that template stands, or who should name one.
func TestTemplateParts(t *testing.T) {
	w := newWorld(t)
	w.owner.cfg.Where = placed
	w.sa.Identity = &core.Identity{Group: "g"}
	template := &core.Template{Ref: core.FirstTemplate, Group: "g", Tunnel: true, Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.3.0.0/16")}
	w.owner.cfg.Templates = []*core.Template{template}
	r := &Request{SA: w.sa}
	m := r.templateParts(nets("10.1.0.0/24"), nets("10.2.0.0/24", "10.4.0.0/24"))
	if len(m.Ours) != 1 || len(m.Theirs) != 2 || m.Where != "site.toml:" || !strings.HasSuffix(m.Hint, `of policy-group "g", or have the peer ask for less (site.toml:)`) {
		t.Errorf("%+v", m)
	}
	r.denied = []denial{{template: template, key: "dst-address", hint: "widen it"}}
	if m := r.templateParts(nets("10.1.0.0/24"), nets("10.2.0.0/24")); m.Part != "dst-address" || m.Hint != "dst-address: widen it (site.toml:dst-address)" {
		t.Errorf("%+v", m)
	}
	w.owner.cfg.Where = func(entry any, key string) string {
		if entry == template {
			return "" // it was not written
		}
		return placed(entry, key)
	}
	if m := r.templateParts(nets("10.1.0.0/24"), nets("10.2.0.0/24")); m.Where != "site.toml:policy-template-group" || !strings.Contains(m.Hint, "is the one that is there without being written") || !strings.HasSuffix(m.Hint, "(site.toml:policy-template-group)") {
		t.Errorf("%+v", m)
	}
}
