package ike

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
)

var (
	other500 = netip.MustParseAddrPort("192.0.2.77:500")
	third500 = netip.MustParseAddrPort("192.0.2.78:500")
)

// A gateway asks the puppets of these tests, which are users of a group, for name and password.

func asksForXAuth(c *core.Config) {
	c.Peers[0].Identities[0].XAuth = &core.XAuth{Asks: true}
	c.Users = map[string]*core.User{"anna": {Name: "anna", Password: secret.Bytes("correct horse")}, "bert": {Name: "bert", Password: secret.Bytes("battery staple")}}
}

// asked is main mode with XAuth, up to the endpoint's request.
func (p *puppet1) asked(more ...isakmp.Payload) *dialog {
	p.t.Helper()
	p.offer.Auth = isakmp.AuthXAuthInitPreShared
	p.ask(p.clear(isakmp.ExchangeMain, p.sa()))
	p.heardKeys(p.ask(p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni})).Payloads)
	p.derive(true)
	id := p.idPayload()
	out := p.say(p.seal(isakmp.ExchangeMain, 0, &p.iv, append([]isakmp.Payload{id, &isakmp.Hash{Data: p.hashI(id)}}, more...)...))
	if len(out) != 2 {
		p.t.Fatalf("%d messages, not the proof and the request: %s", len(out), p.r.reasons())
	}
	m, err := isakmp.Parse(out[0])
	if err != nil {
		p.t.Fatal(err)
	}
	p.proven(p.open(m, &p.iv))
	return p.heard(out[1])
}

// dialog is one transaction from the puppet's end.
type dialog struct {
	p    *puppet1
	id   uint32
	iv   []byte
	last *isakmp.Attributes // what the endpoint said
}

func (p *puppet1) dialog(id uint32) *dialog {
	h := sha256.Sum256(slices.Concat(p.iv, u32(id)))
	return &dialog{p: p, id: id, iv: h[:16]}
}

// heard is a transaction that the endpoint begins.
func (p *puppet1) heard(raw []byte) *dialog {
	p.t.Helper()
	m, err := isakmp.Parse(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	d := p.dialog(m.ID)
	d.hear(m)
	return d
}

func (d *dialog) hear(m *isakmp.Message) {
	d.p.t.Helper()
	c := d.p.open(m, &d.iv)
	h, a := c.Payloads[0].(*isakmp.Hash), c.Payloads[1].(*isakmp.Attributes)
	if m.Exchange != isakmp.ExchangeTransaction || !bytes.Equal(h.Data, mac(d.p.a, u32(d.id), c.After(0))) {
		d.p.t.Fatalf("HASH of %v is wrong", a)
	}
	d.last = a
}

// say says something in it and returns what the endpoint answers in other exchanges; what it answers in this one is last.
func (d *dialog) say(kind uint8, id uint16, list ...isakmp.Attribute) (others []*dialog) {
	d.p.t.Helper()
	a := &isakmp.Attributes{CfgType: kind, ID: id, List: list}
	_, rest := isakmp.AppendPayloads(nil, []isakmp.Payload{a})
	d.last = nil
	for _, raw := range d.p.say(d.p.seal(isakmp.ExchangeTransaction, d.id, &d.iv, &isakmp.Hash{Data: mac(d.p.a, u32(d.id), rest)}, a)) {
		m, err := isakmp.Parse(raw)
		if err != nil {
			d.p.t.Fatal(err)
		}
		switch {
		case m.ID == d.id:
			d.hear(m)
		case m.Exchange == isakmp.ExchangeTransaction:
			others = append(others, d.p.heard(raw))
		}
	}
	return others
}

// replies answers name and password, and returns the endpoint's SET.
func (d *dialog) replies(name, password string) *dialog {
	d.p.t.Helper()
	out := d.say(isakmp.CfgReply, d.last.ID, isakmp.Variable(isakmp.XAuthUserName, []byte(name)), isakmp.Variable(isakmp.XAuthPassword, []byte(password)))
	if len(out) != 1 {
		d.p.t.Fatalf("%d transactions, not one: %s", len(out), d.p.r.reasons())
	}
	return out[0]
}

// status is what a SET says of XAuth; -1: nothing.
func (d *dialog) status() int {
	if a, ok := d.last.Find(isakmp.XAuthStatus); ok && d.last.CfgType == isakmp.CfgSet {
		v, _ := a.Uint()
		return int(v)
	}
	return -1
}

// logsIn is a whole XAuth.
func (p *puppet1) logsIn(name, password string) {
	p.t.Helper()
	set := p.asked().replies(name, password)
	if set.status() != 1 {
		p.t.Fatalf("the endpoint said %d: %s", set.status(), p.r.reasons())
	}
	set.say(isakmp.CfgAck, set.last.ID, isakmp.Basic(isakmp.XAuthStatus, 1))
}

// Android puts a NUL behind name and password, some peers answer with another identifier, and some with a passcode.
func TestXAuthAnswersOfPeers(t *testing.T) {
	user, password := isakmp.Variable(isakmp.XAuthUserName, []byte("anna")), isakmp.Variable(isakmp.XAuthPassword, []byte("correct horse"))
	for name, c := range map[string]struct {
		id   uint16
		list []isakmp.Attribute
		want int
	}{
		"as it should be":       {0, []isakmp.Attribute{user, password}, 1},
		"a NUL behind it":       {0, []isakmp.Attribute{isakmp.Variable(isakmp.XAuthUserName, []byte("anna\x00")), isakmp.Variable(isakmp.XAuthPassword, []byte("correct horse\x00"))}, 1},
		"two of them":           {0, []isakmp.Attribute{user, isakmp.Variable(isakmp.XAuthPassword, []byte("correct horse\x00\x00"))}, 0},
		"another identifier":    {77, []isakmp.Attribute{user, password}, 1},
		"with a type":           {0, []isakmp.Attribute{isakmp.Basic(isakmp.XAuthType, 0), user, password}, 1},
		"a passcode":            {0, []isakmp.Attribute{user, isakmp.Variable(isakmp.XAuthPasscode, []byte("correct horse"))}, 1},
		"the last name is none": {0, []isakmp.Attribute{user, password, isakmp.Variable(isakmp.XAuthUserName, []byte("bert"))}, 1},
		"no password":           {0, []isakmp.Attribute{user}, 0},
		"nothing":               {0, nil, 0},
		"it gives up":           {0, []isakmp.Attribute{isakmp.Basic(isakmp.XAuthStatus, 0)}, 0},
		"another's password":    {0, []isakmp.Attribute{user, isakmp.Variable(isakmp.XAuthPassword, []byte("battery staple"))}, 0},
	} {
		r := newRig(t, inMainModeRig, fromAnywhere, asksForXAuth)
		d := newPuppet1(r, 1).asked()
		out := d.say(isakmp.CfgReply, d.last.ID+c.id, c.list...)
		if len(out) != 1 || out[0].status() != c.want || (r.established() == 1) != (c.want == 1) {
			t.Errorf("%s: %d transactions, %d established: %s", name, len(out), r.established(), r.reasons())
		}
	}
}

// Whoever has the secret of the group and is no user yet gets nothing, and has no say about others.
func TestAStrangerInAGroup(t *testing.T) {
	r := newRig(t, inMainModeRig, fromAnywhere, asksForXAuth)
	group := core.ID{Type: core.IDFQDN, Data: "group.example"} // a name, which would be somebody's
	anna := newPuppet1(r, 1)
	anna.id = group
	anna.logsIn("anna", "correct horse")
	anna.quick(0xaaaa0001)
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs: %s", r.established(), len(r.children), r.reasons())
	}
	stranger := newPuppet1(r, 2)
	stranger.id, stranger.addr = group, other500
	contact := &isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyInitialContact}
	d := stranger.asked(contact)
	stranger.inform(contact)
	stranger.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{anna.cookies()}})
	stranger.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoESP, SPIs: [][]byte{u32(0xaaaa0001)}})
	config := stranger.dialog(0x7001)
	if out := config.say(isakmp.CfgRequest, 1, isakmp.Variable(1, nil)); len(out) > 0 || config.last != nil {
		t.Errorf("an answer to mode config before XAuth: %v", config.last)
	}
	set := stranger.dialog(0x7002)
	if set.say(isakmp.CfgSet, 1, isakmp.Basic(isakmp.XAuthStatus, 1)); r.established() != 1 {
		t.Error("it says itself that it is in")
	}
	if r.established() != 1 || len(r.children) != 1 {
		t.Errorf("%d IKE SAs, %d CHILD SAs: %s", r.established(), len(r.children), r.reasons())
	}
	// As bert it is somebody else than anna, though both say the same ID and INITIAL-CONTACT.
	if d.replies("bert", "battery staple").status() != 1 || r.established() != 2 || len(r.children) != 1 {
		t.Errorf("%d IKE SAs, %d CHILD SAs: %s", r.established(), len(r.children), r.reasons())
	}
	// A third one is anna again, from elsewhere, and has forgotten what she had.
	again := newPuppet1(r, 3)
	again.id, again.addr = group, third500
	r.pass(time.Second)
	if again.asked(contact).replies("anna", "correct horse").status() != 1 || r.established() != 2 || len(r.children) != 0 {
		t.Errorf("%d IKE SAs, %d CHILD SAs: %s", r.established(), len(r.children), r.reasons())
	}
}

// A peer that makes phase 1 anew and begins quick mode without XAuth is the user that it was; one that comes from
// elsewhere is nobody.
func TestQuickModeWithoutXAuth(t *testing.T) {
	for _, same := range []bool{true, false} {
		r := newRig(t, inMainModeRig, fromAnywhere, asksForXAuth)
		p := newPuppet1(r, 1)
		p.logsIn("anna", "correct horse")
		r.pass(time.Minute)
		q := newPuppet1(r, 2)
		if !same {
			q.addr = other500
			q.id = p.id
		}
		q.asked()
		if r.established() != 1 {
			t.Fatalf("%d established", r.established())
		}
		if same {
			q.quick(0xbbbb0001)
		} else {
			q.inform(&isakmp.Notify{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, Kind: isakmp.NotifyRUThere, Data: u32(1)})
			h := q.header(isakmp.ExchangeQuick, 0x9999)
			if out := q.say(isakmp.AppendSealed(nil, h, isakmp.TypeHash, make([]byte, 64))); len(out) > 0 {
				t.Error("quick mode is answered")
			}
		}
		if same != (len(r.children) == 1) || same != strings.Contains(r.event(core.EvIKEUp).Reason, "anna") && same {
			t.Errorf("same %v: %d CHILD SAs: %s", same, len(r.children), r.reasons())
		}
	}
}
