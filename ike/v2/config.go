package v2

import (
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// The Configuration payload in IKE_AUTH (RFC 7296 §2.19, §3.15): a road warrior
// asks for an inner address and gets one, with what belongs to it.
//
//	…, AUTH, CP(CFG_REQUEST), SAi2, TSi, TSr  -->
//	                   <--  …, AUTH, CP(CFG_REPLY), SAr2, TSi, TSr
//
// The address is the IKE SA's until it ends; a successor at a rekey takes it over. Package sa
// decides what is asked for, given and kept, and knows the attributes.

const (
	cfgRequest = 1
	cfgReply   = 2
)

// modeConfig asks for an address, or gives one.
type modeConfig struct {
	noop
	child *pendingChild
}

func (t *modeConfig) request(x *exchange) error {
	if sa := x.sa.base; sa.Mode(false) != nil {
		x.out = append(x.out, configPayload(cfgRequest, ikesa.AskedFor(sa, t.child.policy).Attributes()))
	}
	return nil
}

func (t *modeConfig) admit(x *exchange) error {
	if m := x.sa.base.Mode(true); m != nil {
		t.lease(x, m)
	}
	return nil
}

func (t *modeConfig) reply(x *exchange) error {
	if m, req := x.sa.base.Mode(true), configOf(x.in, cfgRequest); m != nil && req != nil && t.child.refuse == nil {
		x.out = append(x.out, configPayload(cfgReply, ikesa.Given(x.sa.base, m, ikesa.RequestOf(attributes(req))).Attributes()))
	}
	return nil
}

func (t *modeConfig) complete(x *exchange) error {
	if x.sa.base.Mode(false) != nil {
		t.child.refuse = readConfig(x)
	}
	return nil
}

func (t *modeConfig) settle(x *exchange) error {
	ikesa.LeaseProven(x.sa.base, x.mine)
	return nil
}

func configOf(in []message.Payload, kind uint8) *message.Config {
	for _, p := range in {
		if c, ok := p.(*message.Config); ok && c.CfgType == kind {
			return c
		}
	}
	return nil
}

func attributes(c *message.Config) (list []ikesa.Attribute) {
	for _, a := range c.Attributes {
		list = append(list, ikesa.Attribute(a))
	}
	return list
}

func configPayload(kind uint8, list []ikesa.Attribute) *message.Config {
	c := &message.Config{CfgType: kind}
	for _, a := range list {
		c.Attributes = append(c.Attributes, message.Attribute(a))
	}
	return c
}

// readConfig takes what the peer gives.
func readConfig(x *exchange) error {
	l := ikesa.NewLease(x.sa.base)
	if c := configOf(x.in, cfgReply); c != nil {
		for _, a := range attributes(c) {
			l.Take(a)
		}
	}
	if n := notify(x.in, message.NotifyInternalAddressFailure); n != nil && len(l.Addrs) == 0 {
		return peerSaid(n)
	}
	return inNotify(ikesa.TakeLease(x.sa.base, l))
}

// lease asks for an address for the peer, if the peer asks for one.
func (t *modeConfig) lease(x *exchange, m *core.ModeConfig) {
	req := configOf(x.in, cfgRequest)
	if req == nil {
		return
	}
	asked := ikesa.RequestOf(attributes(req))
	if !asked.V4 && !asked.V6 {
		return
	}
	w := core.Lease{V4: asked.V4, V6: asked.V6, Wishes: asked.Wishes}
	x.waiting++
	x.sa.base.RequestLease(m, w, x.madeContact(), func() bool { return x.over }, func(err error) {
		if x.waiting--; err != nil {
			t.child.refuse = refuse(message.NotifyInternalAddressFailure, "%v", err)
		}
		x.proceed()
	})
}
