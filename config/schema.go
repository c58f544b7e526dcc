package config

import (
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// field is one key of a table: how it is read and where it goes.
type field[T any] struct {
	name string
	read func(value, *T) bool
}

func of[T, V any](name string, parse parser[V], at func(*T) *V) field[T] {
	return field[T]{name, func(v value, dst *T) bool {
		x, ok := parse(v)
		if ok {
			*at(dst) = x
		}
		return ok
	}}
}

// table is one table of the file.
type table struct {
	name  string
	array bool // [[name]]
	keys  []string
	// convert reads one table into the configuration.
	convert func(l *loader, f *source, path string, raw map[string]any)
}

// tables are the tables of this build. A key that also has a row in notYet is
// refused all the same.
var tables = []table{
	single("gateway", gatewayFields, func(c *Config) (*Gateway, *Entry) { return &c.Gateway, &c.Gateway.Entry }),
	single("settings", settingsFields, func(c *Config) (*Settings, *Entry) { return &c.Settings, &c.Settings.Entry }),
	many("profile", true, profileFields, defaultProfile, func(p *Profile) *Entry { return &p.Entry },
		func(l *loader, p *Profile) {
			place(l, "profile", &l.config.Profiles, p, func(p *Profile) *Entry { return &p.Entry })
		}),
	many("proposal", true, proposalFields, defaultProposal, func(p *Proposal) *Entry { return &p.Entry },
		func(l *loader, p *Proposal) {
			place(l, "proposal", &l.config.Proposals, p, func(p *Proposal) *Entry { return &p.Entry })
		}),
	many("peer", true, peerFields, defaultPeer, func(p *Peer) *Entry { return &p.Entry },
		func(l *loader, p *Peer) {
			place(l, "peer", &l.config.Peers, p, func(p *Peer) *Entry { return &p.Entry })
		}),
	many("identity", false, identityFields, defaultIdentity, func(i *Identity) *Entry { return &i.Entry },
		func(l *loader, i *Identity) {
			place(l, "identity", &l.config.Identities, i, func(i *Identity) *Entry { return &i.Entry })
		}),
	many("certificate", true, certificateFields, defaultCertificate, func(c *Certificate) *Entry { return &c.Entry },
		func(l *loader, c *Certificate) {
			place(l, "certificate", &l.config.Certificates, c, func(c *Certificate) *Entry { return &c.Entry })
		}),
	many("key", true, keyFields, func() *Key { return &Key{} }, func(k *Key) *Entry { return &k.Entry },
		func(l *loader, k *Key) {
			place(l, "key", &l.config.Keys, k, func(k *Key) *Entry { return &k.Entry })
		}),
	many("policy", false, policyFields, defaultPolicy, func(p *Policy) *Entry { return &p.Entry },
		func(l *loader, p *Policy) { l.config.Policies = append(l.config.Policies, p) }),
	many("policy-group", true, []field[Group]{}, defaultGroup, func(g *Group) *Entry { return &g.Entry },
		func(l *loader, g *Group) {
			place(l, "policy-group", &l.config.Groups, g, func(g *Group) *Entry { return &g.Entry })
		}),
	many("pool", true, poolFields, func() *Pool { return &Pool{NextPool: none} }, func(p *Pool) *Entry { return &p.Entry },
		func(l *loader, p *Pool) {
			place(l, "pool", &l.config.Pools, p, func(p *Pool) *Entry { return &p.Entry })
		}),
	many("user", true, userFields, func() *User { return &User{} }, func(u *User) *Entry { return &u.Entry },
		func(l *loader, u *User) {
			place(l, "user", &l.config.Users, u, func(u *User) *Entry { return &u.Entry })
		}),
	many("mode-config", true, modeConfigFields, defaultModeConfig, func(m *ModeConfig) *Entry { return &m.Entry },
		func(l *loader, m *ModeConfig) {
			place(l, "mode-config", &l.config.ModeConfigs, m, func(m *ModeConfig) *Entry { return &m.Entry })
		}),
}

var gatewayFields = []field[Gateway]{
	of("tun", tunName, func(g *Gateway) *string { return &g.Tun }),
	of("mtu", orNumber("auto", 0, 576, 65535), func(g *Gateway) *int { return &g.MTU }),
	of("listen", list(address), func(g *Gateway) *[]netip.Addr { return &g.Listen }),
	of("port", integer[uint16](1, 65535), func(g *Gateway) *uint16 { return &g.Port }),
	of("natt-port", integer[uint16](1, 65535), func(g *Gateway) *uint16 { return &g.NATTPort }),
	of("encapsulation", oneOf[Encapsulation]("detect", "udp", "raw"), func(g *Gateway) *Encapsulation { return &g.Encapsulation }),
	of("guard", boolean, func(g *Gateway) *bool { return &g.Guard }),
	of("guard-always", boolean, func(g *Gateway) *bool { return &g.GuardAlways }),
	of("lan-bypass", boolean, func(g *Gateway) *bool { return &g.LANBypass }),
	of("table", routingTable, func(g *Gateway) *uint32 { return &g.Table }),
	of("mark", integer[uint32](1, math.MaxUint32), func(g *Gateway) *uint32 { return &g.Mark }),
	of("control", absolutePath, func(g *Gateway) *string { return &g.Control }),
	of("state-dir", absolutePath, func(g *Gateway) *string { return &g.StateDir }),
	of("df", oneOf[DF]("copy", "set", "clear"), func(g *Gateway) *DF { return &g.DF }),
	of("clamp-mss", boolean, func(g *Gateway) *bool { return &g.ClampMSS }),
	of("dscp", orNumber("copy", CopyDSCP, 0, 63), func(g *Gateway) *int { return &g.DSCP }),
	of("workers", integer[int](1, 64), func(g *Gateway) *int { return &g.Workers }),
	of("stranger-memory", integer[int](4<<20, math.MaxInt32), func(g *Gateway) *int { return &g.StrangerMemory }),
	of("log-format", oneOf[LogFormat]("text", "json"), func(g *Gateway) *LogFormat { return &g.LogFormat }),
	of("log-level", logLevel, func(g *Gateway) *slog.Level { return &g.LogLevel }),
}

var settingsFields = []field[Settings]{
	of("accounting", boolean, func(s *Settings) *bool { return &s.Accounting }),
	of("interim-update", duration(0, 365*day), func(s *Settings) *Duration { return &s.InterimUpdate }),
	of("xauth-use-radius", boolean, func(s *Settings) *bool { return &s.XAuthUseRADIUS }),
}

const day = 24 * time.Hour

var profileFields = []field[Profile]{
	of("dh-group", list(keyExchange()), func(p *Profile) *[]string { return &p.DHGroup }),
	of("dpd-interval", dpdInterval, func(p *Profile) *Duration { return &p.DPDInterval }),
	of("dpd-maximum-failures", integer[int](1, 100), func(p *Profile) *int { return &p.DPDMaximumFailures }),
	of("enc-algorithm", list(oneOf[string](ikeNames()...)),
		func(p *Profile) *[]string { return &p.EncAlgorithm }),
	of("fragmentation", boolean, func(p *Profile) *bool { return &p.Fragmentation }),
	of("hash-algorithm", list(oneOf[string](hashNames()...)), func(p *Profile) *[]string { return &p.HashAlgorithm }),
	of("lifebytes", integer[uint64](0, math.MaxUint32), func(p *Profile) *uint64 { return &p.Lifebytes }),
	of("lifetime", duration(time.Second, 365*day), func(p *Profile) *Duration { return &p.Lifetime }),
	of("mobike", boolean, func(p *Profile) *bool { return &p.MOBIKE }),
	of("nat-traversal", boolean, func(p *Profile) *bool { return &p.NATTraversal }),
	of("prf-algorithm", list(oneOf[string](append([]string{"auto"}, names(suite.PRFs, func(p *suite.PRF) string { return p.Name })...)...)),
		func(p *Profile) *[]string { return &p.PRFAlgorithm }),
	of("reauth", duration(10*time.Second, 365*day), func(p *Profile) *Duration { return &p.Reauth }),
	of("resumption", boolean, func(p *Profile) *bool { return &p.Resumption }),
	of("proposal-check", oneOf[string]("claim", "exact", "obey", "strict"), func(p *Profile) *string { return &p.ProposalCheck }),
}

var proposalFields = []field[Proposal]{
	of("auth-algorithms", list(oneOf[string](append(integNames(), "null")...)),
		func(p *Proposal) *[]string { return &p.AuthAlgorithms }),
	of("enc-algorithms", list(oneOf[string](names(suite.Encrs, func(e *suite.Encr) string { return e.Name })...)),
		func(p *Proposal) *[]string { return &p.EncAlgorithms }),
	of("esn", oneOf[ESN]("no", "yes", "both"), func(p *Proposal) *ESN { return &p.ESN }),
	of("lifebytes", integer[uint64](0, math.MaxInt64), func(p *Proposal) *uint64 { return &p.Lifebytes }),
	of("lifetime", duration(time.Second, 365*day), func(p *Proposal) *Duration { return &p.Lifetime }),
	of("pfs-group", list(keyExchange("none")), func(p *Proposal) *[]string { return &p.PFSGroup }),
	of("replay-window", replayWindow, func(p *Proposal) *int { return &p.ReplayWindow }),
	of("tfc", orNumber("mtu", TFCToMTU, 0, TFCToMTU), func(p *Proposal) *int { return &p.TFC }),
	of("tfc-dummies", integer[int](0, 100), func(p *Proposal) *int { return &p.TFCDummies }),
}

var peerFields = []field[Peer]{
	{"address", peerAddress},
	of("childless", oneOf[string]("no", "prefer", "require"), func(p *Peer) *string { return &p.Childless }),
	of("exchange-mode", oneOf[string]("main", "aggressive", "base", "ike2"), func(p *Peer) *string { return &p.ExchangeMode }),
	of("local-address", address, func(p *Peer) *netip.Addr { return &p.LocalAddress }),
	of("natt-port", integer[uint16](1, 65535), func(p *Peer) *uint16 { return &p.NATTPort }),
	of("on-demand", boolean, func(p *Peer) *bool { return &p.OnDemand }),
	of("passive", boolean, func(p *Peer) *bool { return &p.Passive }),
	of("port", integer[uint16](1, 65535), func(p *Peer) *uint16 { return &p.Port }),
	of("profile", label, func(p *Peer) *string { return &p.ProfileName }),
	of("redirect", host, func(p *Peer) *Host { return &p.Redirect }),
	of("redirect-above", integer[int](0, math.MaxInt32), func(p *Peer) *int { return &p.RedirectAbove }),
	of("send-initial-contact", boolean, func(p *Peer) *bool { return &p.SendInitialContact }),
}

var identityFields = []field[Identity]{
	of("auth-method", oneOf[string]("digital-signature", "eap", "eap-radius", "pre-shared-key", "pre-shared-key-xauth", "rsa-key",
		"rsa-signature-hybrid"), func(i *Identity) *string { return &i.AuthMethod }),
	of("certificate", label, func(i *Identity) *string { return &i.CertificateName }),
	of("generate-policy", oneOf[string]("no", "port-override", "port-strict"), func(i *Identity) *string { return &i.GeneratePolicy }),
	of("ignore-initial-contact", boolean, func(i *Identity) *bool { return &i.IgnoreContact }),
	of("key", label, func(i *Identity) *string { return &i.KeyName }),
	of("match-by", oneOf[string]("remote-id", "certificate"), func(i *Identity) *string { return &i.MatchBy }),
	of("mode-config", label, func(i *Identity) *string { return &i.ModeConfig }),
	of("my-id", identityID(), func(i *Identity) *ID { return &i.MyID }),
	of("name", label, func(i *Identity) *string { return &i.Name }),
	of("password", password, func(i *Identity) *secret.Bytes { return &i.Password }),
	of("password-file", passwordFile, func(i *Identity) *secret.Bytes { return &i.Password }),
	of("peer", label, func(i *Identity) *string { return &i.PeerName }),
	of("policy-template-group", label, func(i *Identity) *string { return &i.PolicyTemplateGroup }),
	of("redirect", host, func(i *Identity) *Host { return &i.Redirect }),
	of("remote-auth-method", oneOf[string](AuthSignature, AuthPSK), func(i *Identity) *string { return &i.RemoteAuthMethod }),
	of("remote-certificate", label, func(i *Identity) *string { return &i.RemoteCertificateName }),
	of("ppk-id", label, func(i *Identity) *string { return &i.PPKID }),
	of("ppk-required", boolean, func(i *Identity) *bool { return &i.PPKRequired }),
	of("ppk-secret", psk, func(i *Identity) *secret.Bytes { return &i.PPKSecret }),
	of("ppk-secret-file", pskFile, func(i *Identity) *secret.Bytes { return &i.PPKSecret }),
	of("remote-key", label, func(i *Identity) *string { return &i.RemoteKeyName }),
	of("remote-id", remoteID, func(i *Identity) *ID { return &i.RemoteID }),
	of("secret", psk, func(i *Identity) *secret.Bytes { return &i.Secret }),
	of("secret-file", pskFile, func(i *Identity) *secret.Bytes { return &i.Secret }),
	of("username", label, func(i *Identity) *string { return &i.Username }),
}

var policyFields = []field[Policy]{
	of("action", oneOf[Action]("discard", "encrypt", "none"), func(p *Policy) *Action { return &p.Action }),
	of("dst-address", prefix, func(p *Policy) *netip.Prefix { return &p.DstAddress }),
	of("dst-port", port, func(p *Policy) *Port { return &p.DstPort }),
	of("group", label, func(p *Policy) *string { return &p.Group }),
	of("identity", label, func(p *Policy) *string { return &p.IdentityName }),
	of("ipsec-protocols", list(oneOf[string]("ah", "esp")), func(p *Policy) *[]string { return &p.IPsecProtocols }),
	of("level", oneOf[Level]("require", "unique", "use"), func(p *Policy) *Level { return &p.Level }),
	of("peer", label, func(p *Policy) *string { return &p.PeerName }),
	of("proposal", label, func(p *Policy) *string { return &p.ProposalName }),
	of("protocol", protocol, func(p *Policy) *Protocol { return &p.Protocol }),
	of("sa-dst-address", address, func(p *Policy) *netip.Addr { return &p.SADstAddress }),
	of("sa-src-address", address, func(p *Policy) *netip.Addr { return &p.SASrcAddress }),
	of("src-address", prefix, func(p *Policy) *netip.Prefix { return &p.SrcAddress }),
	of("src-port", port, func(p *Policy) *Port { return &p.SrcPort }),
	of("template", boolean, func(p *Policy) *bool { return &p.Template }),
	of("tunnel", plainBoolean, func(p *Policy) *bool { return &p.Tunnel }),
}

// names lists the names of a table of crypto/suite.
func names[R any](rows []R, name func(*R) string) []string {
	list := make([]string, len(rows))
	for i := range rows {
		list[i] = name(&rows[i])
	}
	return list
}

// ikeNames are the ciphers of profiles.
func ikeNames() []string {
	all := names(suite.Encrs, func(e *suite.Encr) string { return e.IKEName })
	return slices.DeleteFunc(all, func(n string) bool { return n == "" })
}

func integNames() []string { return names(suite.Integs, func(a *suite.Integ) string { return a.Name }) }

func groupNames() []string { return names(suite.Groups, func(g *suite.Group) string { return g.Name }) }

// hashNames are hashes that give both an integrity algorithm and a PRF.
func hashNames() []string {
	return slices.DeleteFunc(integNames(), func(n string) bool { return suite.PRFByName(n) == nil })
}
