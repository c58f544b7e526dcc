package ike

import (
	"testing"

	"culvert/ike/message"
)

// Every response to IKE_SA_INIT says that IKE_AUTH may be without CHILD SA, and it
// may; the CHILD SA comes later.
func TestChildless(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	if _, in := p.open(p.got); findNotify(in, message.NotifyChildlessIKEv2Supported) == nil {
		t.Errorf("the response is %q", describe(in))
	}
	says(t, p.auth(p.authPayloads()...), "IDr AUTH")
	if r.established() != 1 || len(r.kids) != 0 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs", r.established(), len(r.kids))
	}
	says(t, p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(5))...), "SA Nonce TSi TSr")
	if len(r.kids) != 1 {
		t.Errorf("%d CHILD SAs after CREATE_CHILD_SA", len(r.kids))
	}
}
