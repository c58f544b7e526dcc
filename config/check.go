package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"culvert/crypto/suite"
)

// check resolves names and looks at what several keys say together.
func (l *loader) check() {
	c := l.config
	d := &directory{
		profiles:     indexOf("profile", c.Profiles, func(p *Profile) *Entry { return &p.Entry }),
		proposals:    indexOf("proposal", c.Proposals, func(p *Proposal) *Entry { return &p.Entry }),
		peers:        indexOf("peer", c.Peers, func(p *Peer) *Entry { return &p.Entry }),
		groups:       indexOf("policy-group", c.Groups, func(g *Group) *Entry { return &g.Entry }),
		pools:        indexOf("pool", c.Pools, func(p *Pool) *Entry { return &p.Entry }),
		certificates: indexOf("certificate", c.Certificates, func(c *Certificate) *Entry { return &c.Entry }),
		modes:        indexOf("mode-config", c.ModeConfigs, func(m *ModeConfig) *Entry { return &m.Entry }),
		identities:   indexOf("identity", c.Identities, func(i *Identity) *Entry { return &i.Entry }),
	}
	l.checkGateway()
	now := time.Now()
	for _, p := range c.Certificates {
		l.checkCertificate(p, now)
	}
	for _, p := range c.Profiles {
		l.checkProfile(p)
	}
	for _, p := range c.Proposals {
		l.checkProposal(p)
	}
	for _, p := range c.Peers {
		l.checkPeer(p, d)
	}
	l.checkPools(d)
	for _, k := range c.Keys {
		checkKey(l, k)
	}
	for _, u := range c.Users {
		l.checkUser(u)
	}
	for _, m := range c.ModeConfigs {
		l.checkModeConfig(m, d)
	}
	for _, i := range c.Identities {
		l.checkIdentity(i, d)
	}
	l.checkUnnamed()
	for i, p := range c.Policies {
		p.Index = i
		l.checkPolicy(p, d)
	}
	if !c.Gateway.Written("lan-bypass") {
		c.Gateway.LANBypass = !slices.ContainsFunc(c.Identities, (*Identity).Requests)
	}
	l.warnPeers(d)
	l.checkIKEv1()
	l.warnIgnored()
	l.checkOnlyV1()
	l.warnWeak()
	l.warnSecrets()
	l.warnTemplates()
	l.warnAmbiguous()
	l.markDuplicates()
	l.faults = append(l.faults, c.Lockouts(c.ownAddresses())...)
}

func (l *loader) faultAt(e *Entry, table, key, format string, args ...any) {
	l.faults = append(l.faults, e.Fault(table, key, format, args...))
}

func (l *loader) warnAt(e *Entry, table, key, format string, args ...any) {
	l.warnings = append(l.warnings, Warning(e.Fault(table, key, format, args...)))
}

// index is a table of named entries.
type index[T any] struct {
	table string
	names []string
	of    map[string]*T
}

func indexOf[T any](table string, list []*T, entry func(*T) *Entry) index[T] {
	x := index[T]{table, nil, make(map[string]*T, len(list))}
	for _, t := range list {
		name := entry(t).Name
		if _, ok := x.of[name]; !ok && name != "" {
			x.of[name] = t
			x.names = append(x.names, name)
		}
	}
	return x
}

// maxHints bounds the names that are looked through for a similar one.
const maxHints = 1000

// refer finds the entry that a key names, or says that there is none.
func refer[T any](l *loader, e *Entry, table, key, name string, in index[T]) *T {
	if e.bad[key] {
		return nil
	}
	t := in.of[name]
	if t == nil {
		known := in.names[:min(len(in.names), maxHints)]
		l.faultAt(e, table, key, "there is no [[%s]] named %q%s", in.table, name, didYouMean(name, known))
	}
	return t
}

// directory is all tables with names.
type directory struct {
	profiles     index[Profile]
	proposals    index[Proposal]
	peers        index[Peer]
	groups       index[Group]
	pools        index[Pool]
	modes        index[ModeConfig]
	certificates index[Certificate]
	identities   index[Identity]
	// stray: there is an identity whose peer could not be told, so that nobody can
	// say which peer has none.
	stray bool
}

func (l *loader) checkGateway() {
	g := &l.config.Gateway
	if g.Port == g.NATTPort && !g.bad["port"] && !g.bad["natt-port"] {
		key := "natt-port"
		if !g.Written(key) {
			key = "port"
		}
		l.faultAt(&g.Entry, "gateway", key, "port and natt-port are both %d, they must differ", g.Port)
	}
	if g.GuardAlways && !g.Guard && !g.bad["guard"] {
		l.faultAt(&g.Entry, "gateway", "guard-always", "is true and guard is false, leave one of them out")
	}
}

func (l *loader) checkProfile(p *Profile) {
	p.exchanges()
	p.Encrs = rows(p.EncAlgorithm, suite.EncrByIKEName)
	if !allAEAD(p.Encrs) {
		p.Integs = rows(p.HashAlgorithm, suite.IntegByName)
	}
	prfs := p.PRFAlgorithm
	if slices.Contains(prfs, "auto") {
		if len(prfs) > 1 {
			l.faultAt(&p.Entry, "profile", "prf-algorithm", "auto cannot be combined with other values, write auto or names")
		}
		prfs = p.HashAlgorithm
	}
	p.PRFs = rows(prfs, suite.PRFByName)
}

func (l *loader) checkProposal(p *Proposal) {
	p.Encrs = rows(p.EncAlgorithms, suite.EncrByName)
	if !allAEAD(p.Encrs) {
		p.Integs = rows(p.AuthAlgorithms, suite.IntegByName)
	}
	p.pfs()
	if p.Written("replay-window") && p.ReplayWindow == 0 && !p.bad["replay-window"] {
		l.warnAt(&p.Entry, "proposal", "replay-window", "0 lets everybody who saw a packet send it again any number of times, write it only for a peer that sends no sequence numbers or the same ones twice")
	}
	if p.TFCDummies > 0 && p.TFC == 0 && !p.bad["tfc"] {
		l.faultAt(&p.Entry, "proposal", "tfc-dummies", "%d need tfc, without which they would not look like other packets", p.TFCDummies)
	}
	if slices.Contains(p.AuthAlgorithms, "sha256") && slices.Contains(p.AuthAlgorithms, "sha256-96") && !p.bad["auth-algorithms"] {
		l.faultAt(&p.Entry, "proposal", "auth-algorithms", "sha256 and sha256-96 have one number in IKE, so that neither end could know which one is meant: write one of them")
	}
	if slices.Contains(p.AuthAlgorithms, "null") && !p.bad["auth-algorithms"] && !p.bad["enc-algorithms"] {
		l.checkNull(p)
	}
}

// checkNull: auth-algorithms null is for ciphers that protect integrity themselves.
func (l *loader) checkNull(p *Proposal) {
	var bare []string
	for _, e := range p.Encrs {
		if !e.AEAD() {
			bare = append(bare, e.Name)
		}
	}
	switch {
	case len(bare) > 0 && len(p.Integs) == 0:
		l.faultAt(&p.Entry, "proposal", "auth-algorithms", "null leaves %s without integrity, add an algorithm such as sha256 "+
			"or let enc-algorithms have AEADs alone, such as aes-256-gcm", accepted(bare))
	case len(bare) == len(p.Encrs):
		l.faultAt(&p.Entry, "proposal", "auth-algorithms", "null is for AEADs such as aes-256-gcm, and enc-algorithms has none, remove null")
	}
}

// rows are the members of names that this build can run.
func rows[R any](names []string, find func(string) *R) []*R {
	var list []*R
	for _, n := range names {
		if r := find(n); r != nil {
			list = append(list, r)
		}
	}
	return list
}

func allAEAD(list []*suite.Encr) bool {
	return !slices.ContainsFunc(list, func(e *suite.Encr) bool { return !e.AEAD() })
}

func (l *loader) checkPeer(p *Peer, d *directory) {
	e := &p.Entry
	p.Profile = refer(l, e, "peer", "profile", p.ProfileName, d.profiles)
	if p.Disabled {
		return
	}
	if p.Profile != nil && p.Profile.Disabled {
		l.faultAt(e, "peer", "profile", "[[profile]] %q is disabled, enable it or disable the peer", p.ProfileName)
	}
	if p.LocalAddress.IsValid() && p.Address.IsValid() && !e.bad["address"] && p.Written("address") && p.LocalAddress.Is4() != p.Address.Addr().Is4() {
		l.faultAt(e, "peer", "local-address", "%s and the peer's address %s are of different address families", p.LocalAddress, p.Address)
	}
	if !l.listens(p.LocalAddress) && !e.bad["local-address"] {
		l.faultAt(e, "peer", "local-address", "%s is not in listen of [gateway], from which all datagrams are sent, add it there or leave one of the two out", p.LocalAddress)
	}
	l.checkRedirect(p)
}

// listens reports whether the gateway has a socket for a local address; an invalid
// one is the system's choice.
func (l *loader) listens(a netip.Addr) bool {
	g := &l.config.Gateway
	return !a.IsValid() || len(g.Listen) == 0 || g.bad["listen"] ||
		slices.ContainsFunc(g.Listen, func(b netip.Addr) bool { return b == a || b.IsUnspecified() && b.Is4() == a.Is4() })
}

// checkRedirect: who is sent to another gateway has to be a client of this one.
func (l *loader) checkRedirect(p *Peer) {
	e := &p.Entry
	switch {
	case p.RedirectAbove > 0 && !p.Redirect.IsSet() && !e.bad["redirect"]:
		l.warnAt(e, "peer", "redirect-above", "says when clients are redirected, and redirect is missing, write redirect")
	case p.Redirect.IsSet() && p.Initiates() && !e.bad["address"]:
		l.faultAt(e, "peer", "redirect", "is for peers that connect to this gateway, and this gateway connects to %q itself, write passive = true", p.Name)
	case p.Redirect.IsSet() && p.Redirect.Addr == p.LocalAddress && p.Redirect.Name == "":
		l.faultAt(e, "peer", "redirect", "%s is this gateway's local-address, name another gateway", p.Redirect)
	}
}

func (l *loader) checkIdentity(i *Identity, d *directory) {
	e := &i.Entry
	l.checkGenerate(i, d)
	l.checkPPK(i)
	if !i.Written("peer") {
		l.faultAt(e, "identity", "peer", "is missing, name a [[peer]]")
		d.stray = d.stray || !i.Disabled
	} else if i.Peer = refer(l, e, "identity", "peer", i.PeerName, d.peers); i.Peer == nil {
		d.stray = d.stray || !i.Disabled
	} else if !i.Disabled {
		i.Peer.Identities = append(i.Peer.Identities, i)
		if i.Redirect.IsSet() && i.Peer.Initiates() {
			l.warnAt(e, "identity", "redirect", "is for peers that connect to this gateway, and this gateway connects to %q itself, write passive = true there", i.PeerName)
		}
	}
	l.checkProof(i, d)
}

func (l *loader) checkPolicy(p *Policy, d *directory) {
	e := &p.Entry
	refer(l, e, "policy", "group", p.Group, d.groups)
	p.Proposal = refer(l, e, "policy", "proposal", p.ProposalName, d.proposals)
	if p.Written("peer") {
		p.Peer = refer(l, e, "policy", "peer", p.PeerName, d.peers)
	}
	l.checkPolicyIdentity(p, d)
	if p.Template && !e.bad["template"] {
		l.checkTemplate(p)
	}
	if p.Template || p.Disabled || e.bad["template"] {
		return
	}
	if p.Action == Encrypt && !p.Tunnel {
		p.fillHosts()
	}
	l.checkSelectors(p)
	if p.Action == Encrypt && !e.bad["action"] {
		l.checkEncrypting(p, d)
	}
}

// fillHosts: transport mode is for the traffic of the two hosts themselves, whose
// addresses need not stand in the policy as well (the manual's src-address and
// dst-address are for tunnels and templates).
func (p *Policy) fillHosts() {
	src, dst := p.SASrcAddress, p.SADstAddress
	if q := p.Peer; q != nil {
		src, dst = q.LocalAddress, netip.Addr{}
		if q.DNSName == "" && q.Address.IsSingleIP() {
			dst = q.Address.Addr()
		}
	}
	for _, end := range []struct {
		key string
		to  *netip.Prefix
		of  netip.Addr
	}{{"src-address", &p.SrcAddress, src}, {"dst-address", &p.DstAddress, dst}} {
		if end.of.IsValid() && !p.Written(end.key) {
			*end.to = netip.PrefixFrom(end.of, end.of.BitLen())
			p.keys[end.key] = p.Entry.at("")
		}
	}
}

func (l *loader) checkSelectors(p *Policy) {
	e := &p.Entry
	whole := true
	for _, key := range []string{"src-address", "dst-address"} {
		switch {
		case p.Written(key):
		case p.Action == Encrypt && !p.Tunnel && p.Written("peer"):
			whose := map[string]string{"src-address": "local-address", "dst-address": "one address"}[key]
			l.faultAt(e, "policy", key, "is missing, write it, or %s in [[peer]] %q, which counts in transport mode (tunnel = false)", whose, p.PeerName)
		default:
			l.faultAt(e, "policy", key, `is missing, write a prefix, "0.0.0.0/0" or "::/0" for any`)
		}
		whole = whole && p.Written(key) && !e.bad[key]
	}
	if whole && p.SrcAddress.Addr().Is4() != p.DstAddress.Addr().Is4() {
		l.faultAt(e, "policy", "dst-address", "%s and src-address %s are of different address families", p.DstAddress, p.SrcAddress)
	}
	if whole {
		l.checkEnds(p)
	}
	for _, end := range []struct {
		key  string
		port Port
	}{{"src-port", p.SrcPort}, {"dst-port", p.DstPort}} {
		if end.port.Exact && !p.Protocol.HasPorts() && !e.bad["protocol"] {
			l.faultAt(e, "policy", end.key, "protocol %s has no ports, write protocol = %s", p.Protocol, `"tcp", "udp", "sctp", "dccp" or "udp-lite"`)
		}
	}
}

// checkEncrypting looks at a policy that is to protect packets.
func (l *loader) checkEncrypting(p *Policy, d *directory) {
	e := &p.Entry
	if !p.Tunnel && !e.bad["tunnel"] && p.Written("src-address") && p.Written("dst-address") && !(p.SrcAddress.IsSingleIP() && p.DstAddress.IsSingleIP()) {
		l.faultAt(e, "policy", "tunnel", "false is transport mode, which protects two hosts themselves, write tunnel = true, or single addresses in src-address and dst-address")
	}
	if len(p.IPsecProtocols) > 1 && p.Peer != nil && !p.Peer.IKEv1() {
		l.faultAt(e, "policy", "ipsec-protocols", "is one of the two with IKEv2, which cannot negotiate both together, write [\"esp\"] or [\"ah\"]")
	}
	l.checkAH(p)
	l.checkOuter(p)
	if p.Proposal != nil && p.Proposal.Disabled {
		l.faultAt(e, "policy", "proposal", "[[proposal]] %q is disabled, enable it or disable the policy", p.ProposalName)
	}
	switch {
	case !p.Written("peer") && (p.Written("sa-src-address") || p.Written("sa-dst-address")):
	case !p.Written("peer"):
		l.faultAt(e, "policy", "peer", "is missing, a policy that encrypts needs a [[peer]], or sa-src-address and sa-dst-address where SAs are added by hand")
	case p.Peer == nil:
	case p.Peer.Disabled:
		l.warnAt(e, "policy", "peer", "[[peer]] %q is disabled, so that what the policy covers is dropped (out-policy-dead), disable the policy as well if it may go in clear", p.PeerName)
	case len(p.Peer.Identities) == 0 && d.stray:
	case len(p.Peer.Identities) == 0:
		l.faultAt(e, "policy", "peer", "[[peer]] %q has no [[identity]], write one with peer = %q", p.PeerName, p.PeerName)
	case !p.Peer.OneHost() && !p.Peer.Passive && !p.Peer.bad["address"]:
		l.warnAt(e, "policy", "peer", "[[peer]] %q has the address %s, so that only the other side can start, write passive = true there if that is meant",
			p.PeerName, p.Peer.Address)
	}
}

// checkAH looks at what AH needs.
func (l *loader) checkAH(p *Policy) {
	if slices.Contains(p.IPsecProtocols, "ah") && l.config.Gateway.Encapsulation == UDP {
		l.faultAt(&p.Entry, "policy", "ipsec-protocols", "AH cannot go by UDP, and encapsulation in [gateway] is \"udp\", write [\"esp\"]")
	}
	if q := p.Proposal; slices.Contains(p.IPsecProtocols, "ah") && q != nil && (p.Template || p.Written("peer")) && len(q.Integs) == 0 && !q.bad["enc-algorithms"] && !q.bad["auth-algorithms"] {
		l.faultAt(&p.Entry, "policy", "proposal", "AH needs auth-algorithms, which [[proposal]] %q does not have beside AEADs, add a cipher such as aes-256-cbc to its enc-algorithms", q.Name)
	}
}

// checkOuter looks at the outer addresses, which a policy has where SAs are added
// by hand (`culvert sa add`).
func (l *loader) checkOuter(p *Policy) {
	e := &p.Entry
	keys := []string{"sa-src-address", "sa-dst-address"}
	switch src, dst := p.Written(keys[0]), p.Written(keys[1]); {
	case !src && !dst:
		return
	case p.Written("peer"):
		for _, key := range keys {
			if p.Written(key) {
				l.faultAt(e, "policy", key, "is for policies whose SAs are added by hand, and this one has a peer, whose addresses count: leave it out")
			}
		}
		return
	case !src:
		l.faultAt(e, "policy", keys[0], "is missing, sa-dst-address alone is not enough")
		return
	case !dst:
		l.faultAt(e, "policy", keys[1], "is missing, sa-src-address alone is not enough")
		return
	case e.bad[keys[0]] || e.bad[keys[1]]:
		return
	}
	if p.SASrcAddress.Is4() != p.SADstAddress.Is4() {
		l.faultAt(e, "policy", keys[1], "%s and sa-src-address %s are of different address families", p.SADstAddress, p.SASrcAddress)
	}
	for _, q := range l.config.Peers {
		if !q.Disabled && q.DNSName == "" && q.Address.IsSingleIP() && q.Address.Addr() == p.SADstAddress {
			l.warnAt(e, "policy", keys[1], "is the address of [[peer]] %q, and the policy gets SAs only by hand (culvert sa add), write peer = %q instead if that is not meant", q.Name, q.Name)
			break
		}
	}
	for i, end := range []struct {
		inner netip.Prefix
		outer netip.Addr
	}{{p.SrcAddress, p.SASrcAddress}, {p.DstAddress, p.SADstAddress}} {
		if !p.Tunnel && end.inner.IsSingleIP() && end.inner.Addr() != end.outer {
			l.faultAt(e, "policy", keys[i], "is %s, and transport mode (tunnel = false) protects the ends themselves, which the policy says are %s: write that", end.outer, end.inner.Addr())
		}
	}
}

// warnPeers names peers that can never be chosen.
func (l *loader) warnPeers(d *directory) {
	type place struct {
		address netip.Prefix
		local   netip.Addr
		mode    string
	}
	first := map[place]*Peer{}
	for _, p := range l.config.Peers {
		if p.Disabled || p.bad["address"] || p.bad["local-address"] {
			continue
		}
		if len(p.Identities) == 0 && !d.stray {
			l.warn(p.at(""), "peer", "%q has no [[identity]] and is not used", p.Name)
		}
		if p.DNSName != "" {
			continue
		}
		if p.IKEv1() {
			continue // told apart by their secrets, IDs or certificates
		}
		at := place{p.Address, p.LocalAddress, p.ExchangeMode}
		if o := first[at]; o != nil {
			l.warnAt(&p.Entry, "peer", "address", "[[peer]] %q has the same address %s and is chosen when the other side starts", o.Name, p.Address)
			continue
		}
		first[at] = p
	}
}

// warnIgnored names the keys of profiles that IKEv2 ignores.
func (l *loader) warnIgnored() {
	for _, p := range l.config.Profiles {
		used := slices.ContainsFunc(l.config.Peers, func(q *Peer) bool { return q.Profile == p && q.ExchangeMode == "ike2" })
		var keys []string
		for _, key := range []string{"proposal-check", "lifebytes", "dpd-maximum-failures", "nat-traversal"} {
			if p.Written(key) {
				keys = append(keys, key)
			}
		}
		if used && len(keys) > 0 {
			l.warn(p.at(""), "profile", "%q: IKEv2 ignores %s", p.Name, strings.Join(keys, ", "))
		}
	}
}

// markDuplicates: of policies with the same selectors the first works, the
// others are invalid.
func (l *loader) markDuplicates() {
	type selectors struct {
		src, dst         netip.Prefix
		srcPort, dstPort Port
		protocol         Protocol
	}
	first := map[selectors]*Policy{}
	for _, p := range l.config.Policies {
		if !p.Works() || p.bad["src-address"] || p.bad["dst-address"] || !p.Written("src-address") || !p.Written("dst-address") {
			continue
		}
		s := selectors{p.SrcAddress, p.DstAddress, p.SrcPort, p.DstPort, p.Protocol}
		if o := first[s]; o != nil {
			p.Invalid = true
			l.warn(p.at(""), "policy", "invalid: the policy at %s has the same addresses, ports and protocol and comes first", o.at(""))
			continue
		}
		first[s] = p
	}
}
