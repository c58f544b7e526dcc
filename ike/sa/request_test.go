package sa

import (
	"errors"
	"net/netip"
	"testing"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// What a peer gets is decided without a message of any version of IKE: the policy of the
// table, one made from a template, or a refusal that says what to change.
func TestRequests(t *testing.T) {
	net := func(s string) []selector.TS { return []selector.TS{selector.FromPrefix(netip.MustParsePrefix(s))} }
	w := newWorld(t)
	gcm := core.Proposal{Encrs: []*suite.Encr{suite.EncrByName("aes-128-gcm")}, ESN: []bool{false}}
	w.owner.cfg.Policies[0].Proposal.Encrs, w.owner.cfg.Policies[0].Proposal.ESN = gcm.Encrs, gcm.ESN
	w.owner.cfg.Templates = []*core.Template{{Ref: core.FirstTemplate, Group: "branches", Tunnel: true, Protocol: core.ProtoESP,
		Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.3.0.0/16"), Proposal: gcm}}
	id := w.sa.Peer.Identities[0]
	w.sa.Identity = id
	id.Group = "branches"
	ask := func(remote string) (*Choice, error) {
		r := Request{SA: w.sa, Local: net("10.1.0.0/16"), Remote: net(remote), Offered: core.ChildOffer(w.owner.cfg.Policies[0], false).Alternatives()}
		return r.Choose()
	}
	if c, err := ask("10.2.7.0/24"); err != nil || c.Policy != w.owner.cfg.Policies[0] || c.Pairs[0].Remote != net("10.2.7.0/24")[0] {
		t.Errorf("of the table: %+v, %v", c, err)
	}
	var r *Refusal
	if c, err := ask("10.3.7.0/24"); !errors.As(err, &r) || r.Cause != BadSelectors || r.Detail == nil || r.Detail.Part != "dst-address" {
		t.Errorf("without generate-policy: %+v, %v", c, err)
	}
	id.Generate = core.GenerateStrict
	if c, err := ask("10.3.7.0/24"); err != nil || c.Policy.Made == nil || c.Policy.Made.Template != core.FirstTemplate || c.Policy.Pair.Remote != net("10.3.7.0/24")[0] {
		t.Errorf("of the template: %+v, %v", c, err)
	}
	if c, err := ask("172.16.0.0/12"); !errors.As(err, &r) || r.Cause != BadSelectors {
		t.Errorf("outside the template: %+v, %v", c, err)
	}
}
