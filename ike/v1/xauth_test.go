package v1

import (
	"fmt"
	"strings"
	"testing"

	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// The answer has what the request asks for, and a type only where the request has one. With CHAP the password does not
// leave this host.
func TestCredentials(t *testing.T) {
	id := &core.XAuth{Name: "anna", Password: secret.Bytes("pw")}
	empty := func(kinds ...uint16) (list []isakmp.Attribute) {
		for _, k := range kinds {
			list = append(list, isakmp.Variable(k, nil))
		}
		return list
	}
	generic, chap, otp := isakmp.Basic(isakmp.XAuthType, isakmp.XAuthGeneric), isakmp.Basic(isakmp.XAuthType, isakmp.XAuthRADIUSCHAP), isakmp.Basic(isakmp.XAuthType, isakmp.XAuthOTP)
	for _, c := range []struct {
		name string
		have []isakmp.Attribute
		want string
	}{
		{"name and password", empty(isakmp.XAuthUserName, isakmp.XAuthPassword), "16521=anna 16522=pw"},
		{"nothing", nil, "16521=anna 16522=pw"},
		{"a type", append(empty(isakmp.XAuthUserName, isakmp.XAuthPassword), generic), "16520=\x00\x00 16521=anna 16522=pw"},
		{"a passcode, in a second round", append(empty(isakmp.XAuthPasscode), isakmp.Variable(isakmp.XAuthMessage, []byte("code?"))), "16523=pw"},
		{"an answer", append(empty(isakmp.XAuthUserName, isakmp.XAuthAnswer), otp), "16520=\x00\x02 16521=anna 16529=pw"},
		{"a domain", empty(isakmp.XAuthUserName, isakmp.XAuthPassword, isakmp.XAuthDomain), "16521=anna 16522=pw 16526="},
		{"CHAP without a challenge", append(empty(isakmp.XAuthUserName, isakmp.XAuthPassword), chap), "16520=\x00\x01 16521=anna 16522=pw"},
	} {
		var got []string
		for _, a := range credentials(core.NewEnv([32]byte{1}), id, &isakmp.Attributes{CfgType: isakmp.CfgRequest, List: c.have}) {
			got = append(got, fmt.Sprintf("%d=%s", a.Type, a.Value))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	challenge := isakmp.Variable(isakmp.XAuthChallenge, []byte("challenge"))
	list := credentials(core.NewEnv([32]byte{1}), id, &isakmp.Attributes{List: append(empty(isakmp.XAuthUserName, isakmp.XAuthPassword), chap, challenge)})
	if n := len(list); n != 3 || string(list[2].Value) != string(auth.CHAP(list[2].Value[0], id.Password, []byte("challenge"))) {
		t.Errorf("CHAP: %v", list)
	}
}

// Whatever stands in a transaction, what is kept of it is bounded, and no request has us say a password that it did not ask for.
func FuzzTransaction(f *testing.F) {
	for _, list := range [][]isakmp.Attribute{
		{isakmp.Variable(1, []byte{192, 0, 2, 9}), isakmp.Variable(isakmp.UnitySplitInclude, []byte{10, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0}), isakmp.Variable(isakmp.UnityBanner, []byte("hello"))},
		{isakmp.Basic(isakmp.XAuthType, 1), isakmp.Variable(isakmp.XAuthChallenge, []byte{1}), isakmp.Variable(isakmp.XAuthPassword, nil)},
	} {
		_, b := isakmp.AppendPayloads(nil, []isakmp.Payload{&isakmp.Attributes{CfgType: isakmp.CfgReply, List: list}})
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := isakmp.ParsePayloads(isakmp.TypeAttributes, b)
		if err != nil {
			return
		}
		a := find[*isakmp.Attributes](c.Payloads)
		sa := bareSA()
		s, l := &setup{sa: sa}, &ikesa.Lease{}
		for _, x := range attributesOf(a) {
			l.Take(x)
		}
		for _, x := range a.List {
			s.unity(l, x)
		}
		if len(l.Addrs) > 2 || len(l.DNS) > ikesa.MaxDNS || len(l.Subnets) > ikesa.MaxSubnets {
			t.Fatalf("%d addresses, %d servers, %d networks", len(l.Addrs), len(l.DNS), len(l.Subnets))
		}
		if got := credentials(sa.base.Env, &core.XAuth{Name: "anna", Password: secret.Bytes("pw")}, a); len(got) > 6 {
			t.Fatalf("%d attributes in the answer", len(got))
		}
		wipePasswords(c.Payloads)
		for _, x := range a.List {
			if secretAttributes[x.Type] && strings.Trim(string(x.Value), "\x00") != "" {
				t.Fatalf("a password is left: %v", x)
			}
		}
	})
}
