package ike

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/internal/testing/testcert"
	"culvert/spd/selector"
)

// The ways to fail of IKEv1, as TestFailures has those of IKEv2: for what is refused a line with what each side has, and how to mend
// it; for what never came, which message.
func TestFailuresV1(t *testing.T) {
	for i := range failuresV1 {
		f := &failuresV1[i]
		t.Run(f.name, func(t *testing.T) {
			got := slices.Compact(f.run(t)) // what is said again is told again
			if strings.Join(got, "\n") != strings.Join(f.lines, "\n") {
				t.Errorf("said\n\t`%s`,\nwant\n\t`%s`,", strings.Join(got, "`,\n\t`"), strings.Join(f.lines, "`,\n\t`"))
			}
		})
	}
}

// mainly is a difference between two ends in main mode, and aggressively one in aggressive mode.
func mainly(differ ...func(a, b *core.Config)) func(a, b *core.Config) {
	return func(a, b *core.Config) {
		inMainMode(a, b)
		for _, f := range differ {
			f(a, b)
		}
	}
}

func aggressively(differ ...func(a, b *core.Config)) func(a, b *core.Config) {
	return mainly(append([]func(a, b *core.Config){inAggressiveMode}, differ...)...)
}

var failuresV1 = []failure{
	// --- phase 1 ---
	{name: "encryption of phase 1", differ: mainly(func(a, _ *core.Config) { profileOf(a).Encrs = []*suite.Encr{suite.EncrByIKEName("aes-256")} }), lines: []string{
		`responder bad-message: the peer says NO-PROPOSAL-CHOSEN, which anybody could`,
		`responder no-proposal-chosen in main mode: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => encryption: we allow aes-128, the peer offers aes-256: add aes-256 to enc-algorithm of profile "default" (b.toml:enc-algorithm)`,
	}},
	{name: "hash of phase 1", differ: mainly(func(a, _ *core.Config) {
		profileOf(a).Integs, profileOf(a).PRFs = []*suite.Integ{suite.IntegByName("sha512")}, []*suite.PRF{suite.PRFByName("sha512")}
	}), lines: []string{
		`responder bad-message: the peer says NO-PROPOSAL-CHOSEN, which anybody could`,
		`responder no-proposal-chosen in main mode: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => prf: we allow sha256, the peer offers sha512: add sha512 to hash-algorithm of profile "default" (b.toml:hash-algorithm)`,
	}},
	{name: "group of phase 1", differ: mainly(func(a, _ *core.Config) { profileOf(a).Groups = groupNamed("modp2048") }), lines: []string{
		`responder bad-message: the peer says NO-PROPOSAL-CHOSEN, which anybody could`,
		`responder no-proposal-chosen in main mode: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => group: we allow ecp256, the peer offers modp2048: add modp2048 to dh-group of profile "default" (b.toml:dh-group)`,
	}},
	{name: "encryption and group of phase 1", differ: aggressively(func(a, _ *core.Config) {
		profileOf(a).Encrs, profileOf(a).Groups = []*suite.Encr{suite.EncrByIKEName("3des")}, groupNamed("modp1024")
	}), lines: []string{
		`responder bad-message: the peer says NO-PROPOSAL-CHOSEN, which anybody could`,
		`responder no-proposal-chosen in aggressive mode: no proposal of the peer fits profile "default": compare enc-algorithm, hash-algorithm and dh-group on both sides => encryption: we allow aes-128, the peer offers 3des: add 3des to enc-algorithm of profile "default" (b.toml:enc-algorithm)`,
	}},
	{name: "the way to prove oneself", differ: mainly(func(_, b *core.Config) { identityOf(b).XAuth = &core.XAuth{Asks: true} }), lines: []string{
		`responder bad-message: the peer says NO-PROPOSAL-CHOSEN, which anybody could`,
		`responder no-proposal-chosen in main mode: the peer would prove itself by pre-shared key, and no identity of peer "a" has that: set auth-method there or at the peer => auth-method: write the same on both sides (b.toml:auth-method)`,
	}},
	{name: "exchange-mode", differ: mainly(func(a, _ *core.Config) { a.Peers[0].Mode = core.ModeAggressive }), then: func(p *pair) {
		p.b.events = p.b.events[:1]
		p.b.dead = true
		p.run(90 * time.Second)
	}, lines: []string{
		`initiator initiation-failed in aggressive mode: message 2 of aggressive mode, the peer's choice of our proposals and its proof never came, in 12 attempts: check that UDP 500 and 4500 reach the peer, that it is running, and compare exchange-mode, my-id, remote-id and secret on both sides`,
		`responder bad-message: peer "a" is for 192.0.2.1, but it begins phase 1 in another way than the message does: compare exchange-mode on both sides`,
	}},
	{name: "no peer of IKEv1 for the address", differ: mainly(func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("198.51.100.1/32") }), then: func(p *pair) {
		p.b.events = p.b.events[:1]
		p.b.dead = true
		p.run(90 * time.Second)
	}, lines: []string{
		`initiator initiation-failed in main mode: message 2 of main mode, the peer's choice of our proposals never came, in 12 attempts: check that UDP 500 and 4500 reach the peer, that it is running, and compare exchange-mode on both sides`,
		`responder bad-message: no peer is configured for 192.0.2.1: add one whose address covers it`,
	}},
	{name: "another secret, main mode", differ: mainly(func(a, _ *core.Config) { identityOf(a).Secret = secret.Bytes("another secret") }), then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator initiation-failed in main mode: message 6 of main mode, the peer's proof never came, in 12 attempts: check that UDP 500 and 4500 reach the peer, that it is running, and compare secret, my-id and remote-id on both sides: a peer that cannot read our proof says nothing`,
		`responder authentication-failed in main mode: message 5 of main mode cannot be read with the secret of any identity for 192.0.2.1: compare secret on both sides, and the address of the peer here => the secrets of both sides differ: write the same one on both (b.toml:secret)`,
		`responder bad-message: message 5 of main mode cannot be read with the secret of any identity for 192.0.2.1: compare secret on both sides, and the address of the peer here`,
		`responder notify in main mode: the peer did not go on with main mode within 30s: check that UDP 4500 reaches this host, and that fragments of it do`,
		`responder bad-message: main mode for an IKE SA that does not exist`,
		`responder authentication-failed in main mode: message 5 of main mode cannot be read with the secret of any identity for 192.0.2.1: compare secret on both sides, and the address of the peer here => the secrets of both sides differ: write the same one on both (b.toml:secret)`,
		`responder bad-message: message 5 of main mode cannot be read with the secret of any identity for 192.0.2.1: compare secret on both sides, and the address of the peer here`,
	}},
	{name: "another secret, aggressive mode", differ: aggressively(func(a, _ *core.Config) { identityOf(a).Secret = secret.Bytes("another secret") }), then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator authentication-failed in aggressive mode: the peer's proof is wrong: compare the secret of the identity on both sides => the secrets of both sides differ: write the same one on both (a.toml:secret)`,
		`responder bad-message: the peer's proof is wrong: compare the secret of the identity on both sides`,
		`initiator initiation-failed in aggressive mode: message 2 of aggressive mode, the peer's choice of our proposals and its proof never came, in 12 attempts: check that UDP 500 and 4500 reach the peer, that it is running, and compare exchange-mode, my-id, remote-id and secret on both sides`,
		`responder notify in aggressive mode: the peer did not go on with aggressive mode within 30s: check that UDP 4500 reaches this host, and that fragments of it do`,
	}},
	{name: "the responder is somebody else", differ: mainly(func(a, _ *core.Config) { identityOf(a).RemoteID = fqdnID("b.example") }), lines: []string{
		`initiator authentication-failed in main mode: the peer says it is address:192.0.2.2, and remote-id wants fqdn:b.example: write what it is as remote-id, or what remote-id has as my-id at the peer => remote-id: the peer says it is address:192.0.2.2: set remote-id = "address:192.0.2.2" in an identity of peer "b" (a.toml:remote-id), or my-id at the peer to what remote-id has here, "fqdn:b.example"`,
		`responder notify: the peer says INVALID-ID-INFORMATION`,
		`responder ike-down: the peer deleted it`,
	}},
	{name: "the initiator is somebody else", differ: mainly(func(_, b *core.Config) { identityOf(b).RemoteID = fqdnID("a.example") }), lines: []string{
		`responder authentication-failed in main mode: no identity of peer "a" fits the ID address:192.0.2.1: add one with remote-id = "address:192.0.2.1" => remote-id: the peer says it is address:192.0.2.1: set remote-id = "address:192.0.2.1" in an identity of peer "a" (b.toml:remote-id), or my-id at the peer to what remote-id has here, "fqdn:a.example"`,
	}},
	{name: "the initiator is somebody else, aggressive mode", differ: aggressively(func(_, b *core.Config) { identityOf(b).RemoteID = fqdnID("a.example") }), lines: []string{
		`responder bad-message: the peer says INVALID-ID-INFORMATION, which anybody could`,
		`responder authentication-failed in aggressive mode: no identity of peer "a" fits the ID address:192.0.2.1: add one with remote-id = "address:192.0.2.1" => remote-id: the peer says it is address:192.0.2.1: set remote-id = "address:192.0.2.1" in an identity of peer "a"`,
	}},
	// --- phase 2 ---
	{name: "encryption of the CHILD SA", differ: mainly(func(a, _ *core.Config) { proposalOf(a).Encrs = espNamed("aes-256-gcm") }), lines: []string{
		`initiator no-proposal-chosen in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer answered with NO-PROPOSAL-CHOSEN`,
		`responder no-proposal-chosen in quick mode: no CHILD SA: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms, esn and pfs-group on both sides => encryption: we allow aes-128-gcm, the peer offers aes-256-gcm: add aes-256-gcm to enc-algorithms of proposal "default" (b.toml:enc-algorithms)`,
		`responder notify: the peer says NO-PROPOSAL-CHOSEN`,
	}},
	{name: "hash of the CHILD SA", differ: mainly(func(a, b *core.Config) {
		proposalOf(a).Encrs, proposalOf(b).Encrs = espNamed("aes-128-cbc"), espNamed("aes-128-cbc")
		proposalOf(a).Integs, proposalOf(b).Integs = []*suite.Integ{suite.IntegByName("sha512")}, []*suite.Integ{suite.IntegByName("sha256")}
	}), lines: []string{
		`initiator no-proposal-chosen in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer answered with NO-PROPOSAL-CHOSEN`,
		`responder no-proposal-chosen in quick mode: no CHILD SA: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms, esn and pfs-group on both sides => integrity: we allow sha256, the peer offers sha512: add sha512 to auth-algorithms of proposal "default" (b.toml:auth-algorithms)`,
		`responder notify: the peer says NO-PROPOSAL-CHOSEN`,
	}},
	{name: "group of the CHILD SA", differ: mainly(func(a, b *core.Config) {
		proposalOf(a).PFS, proposalOf(b).PFS = []suite.KeyExchange{{Group: suite.GroupByName("ecp256")}}, []suite.KeyExchange{{Group: suite.GroupByName("ecp384")}}
	}), lines: []string{
		`initiator no-proposal-chosen in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer answered with NO-PROPOSAL-CHOSEN`,
		`responder no-proposal-chosen in quick mode: no CHILD SA: no proposal of the peer fits proposal "default": compare enc-algorithms, auth-algorithms, esn and pfs-group on both sides => group: we allow ecp384, the peer offers ecp256: add ecp256 to pfs-group of proposal "default" (b.toml:pfs-group)`,
		`responder notify: the peer says NO-PROPOSAL-CHOSEN`,
	}},
	{name: "networks", differ: mainly(func(a, _ *core.Config) {
		a.Policies[0].Pair.Remote = selector.FromPrefix(netip.MustParsePrefix("10.3.0.0/16"))
	}), lines: []string{
		`initiator ts-unacceptable in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.3.0.0/16: the peer answered with INVALID-ID-INFORMATION`,
		`responder ts-unacceptable in quick mode: no CHILD SA: no policy of peer "a" covers [10.3.0.0/16] => [10.1.0.0/16]: compare src-address and dst-address on both sides => src-address: policy 0 has 10.2.0.0/16, the peer asks for 10.3.0.0/16: set src-address of the policy to it, or the peer's dst-address to ours (b.toml:src-address)`,
		`responder notify: the peer says INVALID-ID-INFORMATION`,
	}},
	{name: "tunnel mode", differ: mainly(func(a, _ *core.Config) { a.Policies[0].Tunnel = false }), lines: []string{
		`initiator no-proposal-chosen in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer answered with NO-PROPOSAL-CHOSEN`,
		`responder no-proposal-chosen in quick mode: no CHILD SA: the peer wants another mode than policy 10.2.0.0/16 => 10.1.0.0/16: tunnel differs on the two sides => tunnel: set tunnel = false in policy 0, or what ours has at the peer (b.toml:tunnel)`,
		`responder notify: the peer says NO-PROPOSAL-CHOSEN`,
	}},
	{name: "proposal-check exact", differ: mainly(func(a, b *core.Config) {
		proposalOf(a).Lifetime = time.Hour
		profileOf(b).Check = core.CheckExact
	}), lines: []string{
		`initiator no-proposal-chosen in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer answered with NO-PROPOSAL-CHOSEN`,
		`responder no-proposal-chosen in quick mode: no CHILD SA: the peer wants a CHILD SA to live for 1h0m0s, proposal "default" has 30m0s: write the same lifetime and lifebytes on both sides (proposal-check exact)`,
		`responder notify: the peer says NO-PROPOSAL-CHOSEN`,
	}},
	{name: "message 2 of quick mode never comes", differ: mainly(), drop: isakmp.ExchangeQuick, then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator notify in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: message 2 of quick mode never came, in 12 attempts: see the peer's log, and compare policy and proposal "default" on both sides`,
	}},
	{name: "nobody asks for XAuth", differ: mainly(xauth), drop: isakmp.ExchangeTransaction, then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator initiation-failed in XAuth: the peer did not ask for name and password (XAuth) within 30s: see its log, and whether it has XAuth for us; without it, write auth-method = "pre-shared-key" or "digital-signature" on both sides`,
		`responder bad-message in XAuth: the peer deleted the IKE SA before XAuth was through: see its log`,
	}},
	{name: "another password", differ: mainly(xauth, passwordOf("anna", "wrong")), then: func(p *pair) { p.a.dead, p.b.dead = true, true }, lines: []string{
		`initiator authentication-failed in XAuth: the peer refused user "anna": compare username and password of the identity with what the peer has`,
		`responder bad-message: informational for an IKE SA that does not exist`,
		`responder authentication-failed in XAuth: the password of user "anna" is wrong: compare it with password of the [[user]]`,
		`responder bad-message: informational for an IKE SA that does not exist`,
	}},
	// --- certificates ---
	{name: "another authority", differ: mainly(certified, func(a, _ *core.Config) { identityOf(a).Own = own(rsaCerts().otherA) }), lines: []string{
		`responder authentication-failed in main mode: the proof of dn:O=Culvert tests, CN=a is refused: the certificate "O=Culvert tests, CN=a" was issued by "O=Culvert tests, CN=other", which no trusted certificate leads to: add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate => add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate (b.toml:remote-certificate)`,
	}},
	{name: "another authority, aggressive mode", differ: aggressively(certified, func(a, _ *core.Config) { identityOf(a).Own = own(rsaCerts().otherA) }), lines: []string{
		`initiator authentication-failed in quick mode: no CHILD SA for the policy 10.1.0.0/16 => 10.2.0.0/16: the peer answered with AUTHENTICATION-FAILED`,
		`responder authentication-failed in aggressive mode: the proof of dn:O=Culvert tests, CN=a is refused: the certificate "O=Culvert tests, CN=a" was issued by "O=Culvert tests, CN=other", which no trusted certificate leads to: add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate => add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate (b.toml:remote-certificate)`,
		`responder bad-message: informational for an IKE SA that does not exist`,
	}},
	{name: "the responder's authority", differ: mainly(certified, func(_, b *core.Config) { identityOf(b).Own = own(rsaCerts().otherB) }), lines: []string{
		`initiator authentication-failed in main mode: the proof of dn:O=Culvert tests, CN=b is refused: the certificate "O=Culvert tests, CN=b" was issued by "O=Culvert tests, CN=other", which no trusted certificate leads to: add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate => add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate (a.toml:remote-certificate)`,
		`responder notify: the peer says AUTHENTICATION-FAILED`,
		`responder ike-down: the peer deleted it`,
	}},
	{name: "an ID that is not in the certificate", differ: mainly(certified, func(a, _ *core.Config) { identityOf(a).MyID = fqdnID("c.example") }), lines: []string{
		`responder authentication-failed in main mode: the peer says it is fqdn:c.example, which its certificate does not: set my-id at the peer to one of its certificate's names, dn:O=Culvert tests, CN=a, have the certificate issued with the name, or set remote-id = "ignore" (dangerous) => set my-id at the peer to one of its certificate's names, dn:O=Culvert tests, CN=a, have the certificate issued with the name, or set remote-id = "ignore" (dangerous) (b.toml:remote-id)`,
	}},
	{name: "a certificate against a secret", differ: mainly(func(a, _ *core.Config) {
		k := rsaCerts()
		sign(a, trustIn(k.root), own(k.a))
	}), lines: []string{
		`responder bad-message: the peer says NO-PROPOSAL-CHOSEN, which anybody could`,
		`responder no-proposal-chosen in main mode: the peer would prove itself by RSA signatures, and no identity of peer "a" has that: set auth-method there or at the peer => auth-method: write the same on both sides (b.toml:auth-method)`,
	}},
	// --- mode config ---
	{name: "no address in the pool", differ: mainly(asksAndGives), then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator notify in mode config: the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here`,
		`responder notify: no address for address:192.0.2.1 from mode-config "rw": this question is for the system, not for a worker`,
	}},
	{name: "nobody answers mode config", differ: mainly(asksAndGives), drop: isakmp.ExchangeTransaction, then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator initiation-failed in mode config: the peer did not answer when it was asked for an address (mode config): give the peer a mode-config for us, or take mode-config out of the identity here`,
		`responder notify: no address for address:192.0.2.1 from mode-config "rw": this question is for the system, not for a worker`,
		`responder ike-down: the peer deleted it`,
		`responder notify: no address for address:192.0.2.1 from mode-config "rw": this question is for the system, not for a worker`,
	}},
	{name: "the peer gives no addresses", differ: mainly(asksAndGives, func(_, b *core.Config) { identityOf(b).Mode = nil }), then: func(p *pair) {
		p.run(80 * time.Second)
		p.a.events, p.b.events = firsts(p.a.events), firsts(p.b.events)
	}, lines: []string{
		`initiator notify in mode config: the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here`,
		`responder notify: the peer asks for an address, and its identity has no mode-config that gives one: write mode-config into the identity, or have the peer ask for none`,
	}},
}

// certified has both ends prove themselves by certificates of one authority.
func certified(a, b *core.Config) {
	k := rsaCerts()
	sign(a, trustIn(k.root), own(k.a))
	sign(b, trustIn(k.root), own(k.b))
}

// firsts are the events up to the first that ends an attempt.
func firsts(events []core.Event) []core.Event {
	for i, e := range events {
		if e.Kind == core.EvInitFailed {
			return events[:i+1]
		}
	}
	return events
}

// rsaCerts are certificates of both ends, and ones of an authority that nobody trusts.
var rsaCerts = sync.OnceValue(func() (k struct{ root, a, b, otherA, otherB *testcert.Pair }) {
	c := newCerts()
	k.root, k.a, k.b = c.root, c.root.Leaf("a", "rsa-2048"), c.root.Leaf("b", "rsa-2048")
	k.otherA, k.otherB = c.other.Leaf("a", "rsa-2048"), c.other.Leaf("b", "rsa-2048")
	return k
})
