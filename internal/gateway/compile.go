package gateway

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/spd"
	"culvert/spd/selector"
	"culvert/tun"
)

// compiled is a configuration as the two planes want it. It is never changed;
// the next one is compiled from it, so that what stays keeps its name.
type compiled struct {
	core      *core.Config
	policies  []spd.Policy
	routes    []route
	ports     [2]uint16 // IKE, NAT-T
	mtu       int
	lan       bool // lan-bypass
	strangers int  // bytes: a part of stranger-memory

	refs  map[policyKey]core.PolicyRef
	last  core.PolicyRef                    // the highest ref given out so far
	from  map[*config.Policy]core.PolicyRef // of the policies that work
	byRef map[core.PolicyRef]*core.Policy   // those that encrypt
	peers map[string]*core.Peer             // by name
	props map[string]*core.Proposal         // by name
	rows  map[core.PolicyRef]*config.Policy // back from a ref to the table
	hands map[core.PolicyRef]manualEnds     // of those whose SAs are added by hand
	uses  map[core.PolicyRef]bool           // level use: its route follows its SAs
	where places

	templates    map[core.PolicyRef]*template
	templateRefs map[templateKey]core.PolicyRef
	lastTemplate core.PolicyRef // counts those given out so far
}

// route is what one policy wants of the host.
type route struct {
	tun.Route
	ref core.PolicyRef
	use bool // level use: passes by the device while there is no SA
	// template: not a route, but where those of a template stand.
	template *template
}

// policyKey is the content of a policy. Two policies with equal keys are one
// policy to the planes. Peers and proposals with equal content are one pointer
// (keepPeer, keepProposal), so that pointers stand for content.
type policyKey struct {
	pair     selector.Pair
	action   spd.Action
	level    spd.Level
	tunnel   bool
	protocol core.Protocol
	dead     bool // its peer is disabled; peer and proposal are nil
	peer     *core.Peer
	identity *core.Identity // one of the peer's; nil: any
	proposal *core.Proposal
	outer    manualEnds // of a policy whose SAs are added by hand
}

// compile makes the planes' view of c. ports are those that the sockets have;
// prev is what was in force before, nil at the start.
func compile(c *config.Config, ports [2]uint16, prev *compiled) *compiled {
	if prev == nil {
		prev = &compiled{}
	}
	n := &compiled{
		core: &core.Config{Encapsulation: encapsulations[c.Gateway.Encapsulation], IKEPort: ports[0], NATTPort: ports[1],
			StrangerBytes: c.Gateway.StrangerMemory / strangerParts * endpointParts},
		strangers: c.Gateway.StrangerMemory / strangerParts,
		ports:     ports, mtu: mtuOf(c, nil), lan: c.Gateway.LANBypass, last: prev.last, lastTemplate: prev.lastTemplate,
		refs: map[policyKey]core.PolicyRef{}, from: map[*config.Policy]core.PolicyRef{},
		byRef: map[core.PolicyRef]*core.Policy{}, rows: map[core.PolicyRef]*config.Policy{}, hands: map[core.PolicyRef]manualEnds{},
		peers: map[string]*core.Peer{}, props: map[string]*core.Proposal{}, uses: map[core.PolicyRef]bool{}, where: places{},
		templates: map[core.PolicyRef]*template{}, templateRefs: map[templateKey]core.PolicyRef{},
	}
	n.core.Where = n.where.where
	store := storeOf(c.Certificates)
	n.core.Trust = store.trust
	for _, p := range c.Peers {
		// A peer without identity cannot prove anything; config has warned of it.
		if p.Disabled || len(p.Identities) == 0 {
			continue
		}
		peer := keepPeer(prev.peers[p.Name], corePeer(p, store))
		n.peers[p.Name] = peer
		n.where.peer(peer, p)
		n.redirect(peer, p)
		n.core.Peers = append(n.core.Peers, peer)
	}
	used := groupsInUse(c.Identities)
	for _, p := range c.Policies {
		switch {
		case p.Works():
			n.policy(p, prev)
		case p.Template && used[p.Group]:
			n.template(p, prev)
		}
	}
	n.giveTo(c.Identities)
	n.core.Given, n.core.Ours = reserved(c, used)
	return n
}

// reserved is what no peer gets by asking for it: given is what mode-configs give to
// clients, ours the networks that policies, templates in use and mode-configs say are behind this
// gateway. Prefixes of length 0 say nothing.
func reserved(c *config.Config, used map[string]bool) (given, ours []netip.Prefix) {
	for _, i := range c.Identities {
		if !i.Disabled && i.Mode != nil && i.Mode.Responder {
			given = append(given, addressesOf(i.Mode)...)
			ours = append(ours, i.Mode.SplitInclude...)
		}
	}
	for _, p := range c.Policies {
		if p.Works() && p.Action == config.Encrypt || p.Template && !p.Disabled && used[p.Group] {
			ours = append(ours, p.SrcAddress)
		}
	}
	tidy := func(list []netip.Prefix) []netip.Prefix {
		slices.SortFunc(list, netip.Prefix.Compare)
		list = slices.Compact(list)
		return slices.DeleteFunc(list, func(p netip.Prefix) bool { return p.Bits() == 0 })
	}
	return tidy(given), tidy(ours)
}

func (n *compiled) policy(p *config.Policy, prev *compiled) {
	key := policyKey{pair: pairOf(p), action: actions[p.Action]}
	switch {
	case p.Manual():
		key.level, key.tunnel, key.outer = levels[p.Level], p.Tunnel, manualEndsOf(p)
	case p.Dead():
		key.level, key.tunnel, key.dead = levels[p.Level], p.Tunnel, true
	case p.Action == config.Encrypt:
		key.level, key.tunnel, key.protocol = levels[p.Level], p.Tunnel, core.ProtoESP
		if slices.Contains(p.IPsecProtocols, "ah") {
			key.protocol = core.ProtoAH
		}
		key.peer = n.peers[p.PeerName]
		key.identity = identityOf(key.peer, p)
		key.proposal = n.proposal(p.Proposal, prev)
		if key.peer == nil || key.proposal == nil {
			return // config does not let such a policy through
		}
	}
	ref, kept := prev.refs[key]
	if !kept {
		n.last++
		ref = n.last
	}
	n.refs[key], n.from[p], n.rows[ref] = ref, ref, p
	if p.Manual() {
		n.hands[ref] = key.outer
	}
	n.policies = append(n.policies, spd.Policy{
		Ref: uint32(ref), Pair: key.pair, Action: key.action, Level: key.level, Tunnel: key.tunnel, Dead: key.dead,
	})
	r := route{Route: routeOf(p), ref: ref}
	if key.action == spd.Encrypt && key.level == spd.Use {
		r.use, n.uses[ref] = true, true
	}
	n.routes = append(n.routes, r)
	if key.peer != nil {
		n.encrypting(p, key, ref, prev.byRef[ref])
	}
}

// identityOf is the identity that a policy is for: the peer has them in the same order.
func identityOf(peer *core.Peer, p *config.Policy) *core.Identity {
	if peer == nil || p.Identity == nil {
		return nil
	}
	return peer.Identities[slices.Index(p.Peer.Identities, p.Identity)]
}

func (n *compiled) encrypting(p *config.Policy, key policyKey, ref core.PolicyRef, was *core.Policy) {
	pol := &core.Policy{
		Ref: ref, Index: p.Index, Peer: key.peer, Identity: key.identity, Pair: key.pair, Tunnel: key.tunnel,
		Unique: key.level == spd.Unique, Protocol: key.protocol, Proposal: *key.proposal,
	}
	if was != nil && was.Index == pol.Index {
		pol = was
	}
	n.byRef[ref] = pol
	n.where.policy(pol, p)
	n.core.Policies = append(n.core.Policies, pol)
}

func (n *compiled) proposal(p *config.Proposal, prev *compiled) *core.Proposal {
	if p == nil {
		return nil
	}
	if n.props[p.Name] == nil {
		n.props[p.Name] = keepProposal(prev.props[p.Name], &core.Proposal{
			Name: p.Name, Encrs: p.Encrs, Integs: p.Integs, PFS: p.PFS, ESN: p.ESN.Accepts(),
			Lifetime: time.Duration(p.Lifetime), Lifebytes: p.Lifebytes, ReplayWindow: p.ReplayWindow, TFC: p.TFC, Dummies: p.TFCDummies,
		})
	}
	return n.props[p.Name]
}

func keepPeer(was, is *core.Peer) *core.Peer {
	if was != nil && reflect.DeepEqual(was, is) {
		return was
	}
	return is
}

func keepProposal(was, is *core.Proposal) *core.Proposal {
	if was != nil && reflect.DeepEqual(was, is) {
		return was
	}
	return is
}

// dfs are what the data path calls df.
var dfs = map[config.DF]datapath.DF{config.DFCopy: datapath.CopyDF, config.DFSet: datapath.SetDF, config.DFClear: datapath.ClearDF}

// dscp is that of all outer headers; nil: copied from the inner packet.
func dscp(g *config.Gateway) *uint8 {
	if g.DSCP == config.CopyDSCP {
		return nil
	}
	value := uint8(g.DSCP)
	return &value
}

var childless = map[string]core.Childless{"no": core.ChildlessNo, "prefer": core.ChildlessPrefer, "require": core.ChildlessRequire}

func corePeer(p *config.Peer, store *certStore) *core.Peer {
	peer := &core.Peer{
		Name: p.Name, Address: p.Address, DNSName: p.DNSName, Local: p.LocalAddress, Port: p.Port, NATTPort: p.NATTPort, Version: core.IKEv2,
		Passive: p.Passive, OnDemand: p.OnDemand, Childless: childless[p.Childless], InitialContact: p.SendInitialContact,
		Profile: core.Profile{
			Name: p.Profile.Name, Encrs: p.Profile.Encrs, PRFs: p.Profile.PRFs, Integs: p.Profile.Integs,
			Groups: p.Profile.Groups, Lifetime: time.Duration(p.Profile.Lifetime), DPD: time.Duration(p.Profile.DPDInterval),
			Fragmentation: p.Profile.Fragmentation, MOBIKE: p.Profile.MOBIKE, Reauth: time.Duration(p.Profile.Reauth),
			Resumption: p.Profile.Resumption,
		},
	}
	for _, i := range p.Identities {
		peer.Identities = append(peer.Identities, store.identity(i))
	}
	corePPKs(peer.Identities, p.Identities)
	if p.Profile.Additional() {
		peer.Profile.KeyExchanges = p.Profile.KeyExchanges
	}
	coreModes(peer.Identities, p.Identities)
	return peer
}

var idTypes = map[config.IDKind]core.IDType{
	config.IDFQDN: core.IDFQDN, config.IDUserFQDN: core.IDUser, config.IDKeyID: core.IDKeyID,
}

// coreID is an ID as it goes into an ID payload; auto and ignore are none.
func coreID(id config.ID) core.ID {
	if id.Kind == config.IDAddress {
		t := core.IDIPv6
		if id.Addr.Is4() {
			t = core.IDIPv4
		}
		return core.ID{Type: t, Data: string(id.Addr.AsSlice())}
	}
	if t, ok := idTypes[id.Kind]; ok {
		return core.ID{Type: t, Data: id.Data()}
	}
	return core.ID{}
}

var (
	actions = map[config.Action]spd.Action{config.Encrypt: spd.Encrypt, config.Discard: spd.Discard, config.None: spd.None}
	levels  = map[config.Level]spd.Level{config.Require: spd.Require, config.Unique: spd.Unique, config.Use: spd.Use}
)

// carried makes of a configuration that leaves open what carries ESP one that
// says what the sockets can. What is in force then stays until the next start.
func carried(c *config.Config, raw bool) {
	if !raw {
		c.Gateway.Encapsulation = config.UDP
	}
}

var encapsulations = map[config.Encapsulation]core.Encapsulation{
	config.Detect: core.EncapDetect, config.UDP: core.EncapUDP, config.Raw: core.EncapRaw,
}

func pairOf(p *config.Policy) selector.Pair {
	end := func(a netip.Prefix, port config.Port) selector.TS {
		ts := selector.FromPrefix(a)
		ts.Proto = uint8(p.Protocol)
		ts.PortLo, ts.PortHi = port.Range()
		return ts
	}
	return selector.Pair{Local: end(p.SrcAddress, p.SrcPort), Remote: end(p.DstAddress, p.DstPort)}
}

// routeOf leads a policy's traffic to the device: also what is to be discarded,
// which meets its end there. What shall pass is kept away from it.
func routeOf(p *config.Policy) tun.Route {
	return tun.Route{
		Local: p.SrcAddress, Remote: p.DstAddress, Proto: uint8(p.Protocol),
		LocalPort: p.SrcPort.Number, RemotePort: p.DstPort.Number, Pass: p.Action == config.None,
	}
}

// plan is the wanted state of the host. has tells whether a policy has an SA
// that seals: without one, a policy of level use lets its traffic pass by.
func (n *compiled) plan(has func(core.PolicyRef) bool) tun.Plan {
	p := tun.Plan{Bypass: n.ports[:], MTU: n.mtu, LANBypass: n.lan, Routes: n.planRoutes(has, nil, nil)}
	if n.core.Encapsulation != core.EncapUDP {
		p.Protocols = []uint8{wire.ProtoESP, wire.ProtoAH}
	}
	return p
}

// planRoutes are the routes in order; made are those of policies made from templates,
// open tells of policies for any port of the peer's; nil: none is.
func (n *compiled) planRoutes(has func(core.PolicyRef) bool, made map[*template][]tun.Route, open func(core.PolicyRef) bool) (routes []tun.Route) {
	for _, r := range n.routes {
		if t := r.template; t != nil {
			routes = append(append(routes, t.routesTo()...), made[t]...)
			continue
		}
		if r.use {
			r.Pass, r.Optional = !has(r.ref), true
		}
		if open != nil && open(r.ref) {
			r.RemotePort = 0
		}
		routes = append(routes, r.Route)
	}
	return routes
}
