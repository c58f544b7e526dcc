package compile

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/packet/wire"
	"culvert/spd"
	"culvert/spd/selector"
	"culvert/tun"
)

// Result is a compiled configuration. It is never changed. The next one is compiled with it
// as the previous result, so that unchanged entries keep their refs and pointers.
type Result struct {
	IKE           *core.Config
	Policies      []spd.Policy
	routes        []route
	Ports         [2]uint16 // IKE, NAT-T
	MTU           int
	lan           bool // lan-bypass
	StrangerShare int  // bytes: a part of stranger-memory

	ByContent map[policyKey]core.PolicyRef
	last      core.PolicyRef                    // the highest ref given out so far
	Refs      map[*config.Policy]core.PolicyRef // of the policies that work
	ByRef     map[core.PolicyRef]*core.Policy   // those that encrypt
	Peers     map[string]*core.Peer             // by name
	props     map[string]*core.Proposal         // by name
	Rows      map[core.PolicyRef]*config.Policy // back from a ref to the table
	Manual    map[core.PolicyRef]manualEnds     // of those whose SAs are added by hand
	Uses      map[core.PolicyRef]bool           // level use: its route follows its SAs
	where     places

	Templates    map[core.PolicyRef]*Template
	templateRefs map[templateKey]core.PolicyRef
	lastTemplate core.PolicyRef // counts those given out so far

	faults   config.Faults    // that Compile returns
	Warnings []config.Warning // of what has no effect
}

// route is what one policy wants of the host.
type route struct {
	tun.Route
	ref core.PolicyRef
	use bool // level use: passes by the device while there is no SA
	// template: not a route, but where those of a template stand.
	template *Template
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
	ah       bool // with protocol ESP: AH goes around it
	dead     bool // its peer is disabled; peer and proposal are nil
	peer     *core.Peer
	identity *core.Identity // one of the peer's; nil: any
	proposal *core.Proposal
	outer    manualEnds // of a policy whose SAs are added by hand
}

// Compile compiles c. ports are those of the sockets. prev is the result that is in force,
// nil at the start. The error is config.Faults with all that
// is wrong in a configuration that loads; it depends on c alone, so that `culvert check` finds it.
func Compile(c *config.Config, ports [2]uint16, prev *Result) (*Result, error) {
	if prev == nil {
		prev = &Result{}
	}
	n := &Result{
		IKE: &core.Config{Encapsulation: encapsulations[c.Gateway.Encapsulation], IKEPort: ports[0], NATTPort: ports[1], Lines: c.Gateway.Workers,
			StrangerBytes: c.Gateway.StrangerMemory / StrangerParts * endpointParts},
		StrangerShare: c.Gateway.StrangerMemory / StrangerParts,
		Ports:         ports, MTU: MTU(c, nil), lan: c.Gateway.LANBypass, last: prev.last, lastTemplate: prev.lastTemplate,
		ByContent: map[policyKey]core.PolicyRef{}, Refs: map[*config.Policy]core.PolicyRef{},
		ByRef: map[core.PolicyRef]*core.Policy{}, Rows: map[core.PolicyRef]*config.Policy{}, Manual: map[core.PolicyRef]manualEnds{},
		Peers: map[string]*core.Peer{}, props: map[string]*core.Proposal{}, Uses: map[core.PolicyRef]bool{}, where: places{},
		Templates: map[core.PolicyRef]*Template{}, templateRefs: map[templateKey]core.PolicyRef{},
	}
	n.IKE.Where = n.where.where
	n.users(c)
	store := storeOf(c.Certificates)
	n.IKE.Trust = store.trust
	for _, p := range c.Peers {
		// A peer without identity cannot prove anything; config has warned of it.
		if p.Disabled || len(p.Identities) == 0 {
			continue
		}
		peer := keepPeer(prev.Peers[p.Name], corePeer(p, store))
		n.Peers[p.Name] = peer
		n.where.peer(peer, p)
		n.redirect(peer, p)
		n.IKE.Peers = append(n.IKE.Peers, peer)
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
	n.IKE.Given, n.IKE.Ours = reserved(c, used)
	n.values(c)
	n.sizes(c)
	if len(n.faults) > 0 {
		return nil, n.faults
	}
	return n, nil
}

func (n *Result) users(c *config.Config) {
	for _, u := range c.Users {
		if u.Disabled {
			continue
		}
		if n.IKE.Users == nil {
			n.IKE.Users = map[string]*core.User{}
		}
		n.IKE.Users[u.Name] = &core.User{Name: u.Name, Password: u.Password}
	}
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

func (n *Result) policy(p *config.Policy, prev *Result) {
	key := policyKey{pair: PairOf(p), action: actions[p.Action]}
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
		if len(p.IPsecProtocols) > 1 {
			key.protocol, key.ah = core.ProtoESP, true
		}
		key.peer = n.Peers[p.PeerName]
		key.identity = identityOf(key.peer, p)
		key.proposal = n.proposal(p.Proposal, prev)
		switch {
		case key.peer == nil:
			n.fault(&p.Entry, "policy", "peer", "[[peer]] %q has no [[identity]] in force, enable one, or disable the policy", p.PeerName)
			return
		case key.proposal == nil:
			n.fault(&p.Entry, "policy", "proposal", "there is no [[proposal]] %q in force, name another one, or disable the policy", p.ProposalName)
			return
		}
	}
	ref, kept := prev.ByContent[key]
	if !kept {
		n.last++
		ref = n.last
	}
	n.ByContent[key], n.Refs[p], n.Rows[ref] = ref, ref, p
	if p.Manual() {
		n.Manual[ref] = key.outer
	}
	n.Policies = append(n.Policies, spd.Policy{
		Ref: uint32(ref), Pair: key.pair, Action: key.action, Level: key.level, Tunnel: key.tunnel, Dead: key.dead,
	})
	r := route{Route: routeOf(p), ref: ref}
	if key.action == spd.Encrypt && key.level == spd.Use {
		r.use, n.Uses[ref] = true, true
	}
	n.routes = append(n.routes, r)
	if key.peer != nil {
		n.encrypting(p, key, ref, prev.ByRef[ref])
	}
}

// identityOf is the identity that a policy is for: the peer has them in the same order.
func identityOf(peer *core.Peer, p *config.Policy) *core.Identity {
	if peer == nil || p.Identity == nil {
		return nil
	}
	return peer.Identities[slices.Index(p.Peer.Identities, p.Identity)]
}

func (n *Result) encrypting(p *config.Policy, key policyKey, ref core.PolicyRef, was *core.Policy) {
	pol := &core.Policy{
		Ref: ref, Index: p.Index, Peer: key.peer, Identity: key.identity, Pair: key.pair, Tunnel: key.tunnel,
		Unique: key.level == spd.Unique, Protocol: key.protocol, AH: key.ah, Proposal: *key.proposal,
	}
	if was != nil && was.Index == pol.Index {
		pol = was
	}
	n.ByRef[ref] = pol
	n.where.policy(pol, p)
	n.IKE.Policies = append(n.IKE.Policies, pol)
}

func (n *Result) proposal(p *config.Proposal, prev *Result) *core.Proposal {
	if p == nil {
		return nil
	}
	if n.props[p.Name] == nil {
		n.props[p.Name] = keepProposal(prev.props[p.Name], &core.Proposal{
			Name: p.Name, Encrs: p.Encrs, Integs: p.Integs, PFS: p.PFS, AnyPFS: p.AnyPFS, ESN: p.ESN.Accepts(),
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
	if p.IKEv1() {
		ikev1(peer, p)
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

// ikev1 is what is particular to a peer that speaks IKEv1. What only IKEv2 has is left out, so that
// a change of it is no change of the peer.
func ikev1(peer *core.Peer, p *config.Peer) {
	peer.Version, peer.Mode, peer.Childless = core.IKEv1, exchangeModes[p.ExchangeMode], core.ChildlessNo
	q := &peer.Profile
	q.Reauth, q.MOBIKE, q.Resumption = 0, false, false
	q.NoNATT, q.DPDFailures = !p.Profile.NATTraversal, p.Profile.DPDMaximumFailures
	q.Lifebytes, q.Check = p.Profile.Lifebytes, proposalChecks[p.Profile.ProposalCheck]
}

var proposalChecks = map[string]core.ProposalCheck{
	"obey": core.CheckObey, "strict": core.CheckStrict, "claim": core.CheckClaim, "exact": core.CheckExact,
}

var exchangeModes = map[string]core.Mode{"main": core.ModeMain, "aggressive": core.ModeAggressive, "base": core.ModeBase}

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

// CarriedBy decides what carries ESP, by what the sockets support, if the configuration
// leaves it open. What is in force then stays until the next start.
func CarriedBy(c *config.Config, raw bool) {
	if !raw {
		c.Gateway.Encapsulation = config.UDP
	}
}

var encapsulations = map[config.Encapsulation]core.Encapsulation{
	config.Detect: core.EncapDetect, config.UDP: core.EncapUDP, config.Raw: core.EncapRaw,
}

// PairOf is what a policy covers.
func PairOf(p *config.Policy) selector.Pair {
	end := func(a netip.Prefix, port config.Port) selector.TS {
		ts := selector.FromPrefix(a)
		ts.Proto = uint8(p.Protocol)
		ts.PortLo, ts.PortHi = port.Range()
		return ts
	}
	return selector.Pair{Local: end(p.SrcAddress, p.SrcPort), Remote: end(p.DstAddress, p.DstPort)}
}

// routeOf is the route of a policy. Traffic to be protected or discarded is routed to the device;
// traffic that may pass in clear bypasses it.
func routeOf(p *config.Policy) tun.Route {
	return tun.Route{
		Local: p.SrcAddress, Remote: p.DstAddress, Proto: uint8(p.Protocol),
		LocalPort: p.SrcPort.Number, RemotePort: p.DstPort.Number, Pass: p.Action == config.None,
	}
}

// Plan is the desired state of the host. has reports whether a policy has an active SA: without
// one, the traffic of a policy of level use bypasses the device.
func (n *Result) Plan(has func(core.PolicyRef) bool) tun.Plan {
	p := tun.Plan{Bypass: n.Ports[:], MTU: n.MTU, LANBypass: n.lan, Routes: n.Routes(has, nil, nil)}
	if n.IKE.Encapsulation != core.EncapUDP {
		p.Protocols = []uint8{wire.ProtoESP, wire.ProtoAH}
	}
	return p
}

// Routes are the routes in order; made are those of policies made from templates,
// open tells of policies for any port of the peer's; nil: none is.
func (n *Result) Routes(has func(core.PolicyRef) bool, made map[*Template][]tun.Route, open func(core.PolicyRef) bool) (routes []tun.Route) {
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

// manualEnds is what makes such a policy another one when it changes.
type manualEnds struct {
	src, dst netip.Addr
	AH, ESP  bool
}

func manualEndsOf(p *config.Policy) manualEnds {
	return manualEnds{p.SASrcAddress, p.SADstAddress, slices.Contains(p.IPsecProtocols, "ah"), slices.Contains(p.IPsecProtocols, "esp")}
}

// The memory for strangers, stranger-memory, is divided into parts: one
// for the messages in the inbox, one for those that the loop has taken, one for
// the attempts that explain peer shows, and the rest for the endpoint.
const (
	StrangerParts = 16
	endpointParts = StrangerParts - 3
)

// Running is next with those keys of [gateway] as they are that a running
// gateway cannot take over.
func Running(old, next *config.Config) *config.Config {
	c, gw := *next, old.Gateway
	gw.Guard, gw.GuardAlways, gw.LANBypass, gw.LogLevel = next.Gateway.Guard, next.Gateway.GuardAlways, next.Gateway.LANBypass, next.Gateway.LogLevel
	c.Gateway = gw
	return &c
}
