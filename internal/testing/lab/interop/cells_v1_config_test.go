//go:build linux

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/internal/testing/lab"
)

// Mode config and XAuth of IKEv1 with strongSwan in both roles. These cells have a network of their own.

func roadWarriorCellsV1() []cell {
	const g = "IKEv1, road warriors: mode config and XAuth"
	var cs []cell
	add := func(theyInitiate bool, name, does string, scene func(ctx context.Context, t *testing.T, l *lab.Lab)) {
		cs = append(cs, cell{group: g, name: "v1-" + name, mode: "main", theyInitiate: theyInitiate, scene: scene, event: event{name: does}})
	}
	for _, c := range []theirClientV1{
		{name: "they-ask-for-an-address"},
		{name: "they-wait-for-an-address", push: true},
		{name: "they-log-in", xauth: true},
		{name: "they-log-in-unity", xauth: true, unity: true},
	} {
		add(true, c.name, "an address from our pool, by mode config"+c.says()+"; phase 1 made anew: the same address", c.run)
	}
	add(true, "they-log-in-with-a-wrong-password", "a wrong password: nobody gets in, and we say which user it was", (*hybrid)(nil).wrongPassword)
	for _, c := range []theirServerV1{
		{name: "we-ask-for-an-address"},
		{name: "we-are-set-an-address", push: true},
		{name: "we-log-in", xauth: true},
		{name: "we-log-in-unity", xauth: true, unity: true},
	} {
		add(false, c.name, "an address from strongSwan's pool, by mode config"+c.says()+"; phase 1 made anew; all of it gone after SIGTERM", c.run)
	}
	add(false, "we-log-in-with-a-wrong-password", "a wrong password: we are not let in, and say so", ourWrongPassword)
	return cs
}

func saysV1(push, xauth, unity bool) (s string) {
	if push {
		s += " (push)"
	}
	if xauth {
		s += " after XAuth"
	}
	if unity {
		s += ", with Cisco Unity's networks"
	}
	return s
}

func yesno(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

const userPassword = "correct horse battery"

// ourServerV1 is culvert as server of IKEv1 road warriors.
func ourServerV1(xauth bool) string {
	s := strings.Replace(ourServer, `exchange-mode = "ike2"`, `exchange-mode = "main"`, 1)
	if xauth {
		s = strings.Replace(s, "[[identity]]\n", "[[user]]\nname = \"anna\"\npassword = \""+userPassword+"\"\n[[identity]]\nauth-method = \"pre-shared-key-xauth\"\n", 1)
	}
	return s
}

// theirClientV1 is strongSwan as road warrior.
type theirClientV1 struct {
	name               string
	push, xauth, unity bool
	password           string
	hybrid             *hybrid // nil: by a pre-shared key
}

func (c theirClientV1) says() string { return saysV1(c.push, c.xauth, c.unity) }

func (c theirClientV1) conf() string {
	login, remote := "", "10.2.0.0/24"
	if c.xauth {
		login = "local-xauth {\n\t\t\tauth = xauth\n\t\t\txauth_id = anna\n\t\t}"
	}
	if c.unity {
		remote = "0.0.0.0/0"
	}
	password := c.password
	if password == "" {
		password = userPassword
	}
	return fmt.Sprintf(`connections {
	t {
		version = 1
		remote_addrs = 10.9.0.1
		vips = 0.0.0.0
		pull = %s
		proposals = %s
		local {
			auth = psk
		}
		%s
		remote {
			auth = psk
			id = office.example.net
		}
		children {
			c {
				remote_ts = %s
				esp_proposals = %s
			}
		}
	}
}
secrets {
	ike-1 {
		secret = %q
	}
	xauth-1 {
		id = anna
		secret = %q
	}
}
`, yesno(!c.push), configIKE, login, remote, configESP, secret, password)
}

func (c theirClientV1) run(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "office", "anna")
	office, anna := nodes[0], nodes[1]
	office.Inner(netip.MustParseAddr(officeHost), netip.MustParseAddr(officeOther))
	us := office.Culvert(ctx, "", c.hybrid.ours(ourServerV1(c.xauth), true))
	tell(t, us)
	s := anna.StrongSwan(ctx, c.hybrid.theirs(anna, c.conf(), false), "cisco_unity = "+yesno(c.unity))
	if err := s.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	hosts := []string{officeHost}
	if c.unity { // all of split-include in one CHILD SA
		hosts = append(hosts, officeOther)
	}
	check := func(what string) string {
		t.Helper()
		addrs, child, err := theirAddress(ctx, s)
		if err != nil || len(addrs) != 1 || !strings.HasPrefix(addrs[0], "192.168.77.") {
			t.Fatalf("%s: %v => %v, %v", what, addrs, child.RemoteTS, err)
		}
		if want := []string{"10.2.0.0/24", "10.3.0.0/24"}[:len(hosts)]; !slices.Equal(child.RemoteTS, want) {
			t.Errorf("%s: strongSwan has %v, want %v", what, child.RemoteTS, want)
		}
		for _, to := range hosts {
			if err := anna.Transfer(ctx, host(addrs[0]), office, netip.MustParseAddr(to), payload/4); err != nil {
				t.Fatalf("%s: to %s: %v", what, to, err)
			}
		}
		return addrs[0]
	}
	first := check("at first")
	if err := lab.Until(ctx, func() error { return leasedV1(ctx, us, first) }); err != nil {
		t.Error(err)
	}
	if err := s.RekeyIKE(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	if again := check("with another phase 1"); again != first {
		t.Errorf("%s, and before %s", again, first)
	}
}

// leasedV1 says whether culvert has one peer that has the address.
func leasedV1(ctx context.Context, us *lab.Culvert, addr string) error {
	rows, err := us.Print(ctx, "active-peers")
	if err != nil || len(rows) != 1 || rows[0].Text("dynamic-address")+"/32" != addr {
		return fmt.Errorf("active-peers %v, %v, want one with %s", rows, err, addr)
	}
	return nil
}

// wrongPassword: strongSwan has another password than our user.
func wrongPassword(ctx context.Context, t *testing.T, l *lab.Lab, h *hybrid) {
	nodes := hub(l, "office", "anna")
	us := nodes[0].Culvert(ctx, "", h.ours(ourServerV1(true), true))
	tell(t, us)
	s := nodes[1].StrongSwan(ctx, h.theirs(nodes[1], theirClientV1{xauth: true, password: "another"}.conf(), false))
	if err := s.InitiateChild(ctx, "c"); err == nil {
		t.Error("strongSwan is in with a wrong password")
	}
	if err := lab.Until(ctx, func() error {
		return logged(us, "the password of user", "anna", "is wrong: compare it with password of the [[user]]")
	}); err != nil {
		t.Error(err)
	}
	if rows, err := us.Print(ctx, "installed-sa"); err != nil || len(rows) > 0 {
		t.Errorf("%v, %v", rows, err)
	}
}

// logged says whether a line of culvert's log has all of some words.
func logged(us *lab.Culvert, words ...string) error {
	for line := range strings.Lines(us.Log()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return nil
		}
	}
	return fmt.Errorf("no line of the log has %q", words)
}

// theirServerV1 is strongSwan with a pool.
type theirServerV1 struct {
	name               string
	push, xauth, unity bool
	hybrid             *hybrid // nil: by a pre-shared key
}

func (c theirServerV1) says() string { return saysV1(c.push, c.xauth, c.unity) }

func (c theirServerV1) conf() string {
	login, nets := "", "10.2.0.0/24"
	if c.xauth {
		login = "remote-xauth {\n\t\t\tauth = xauth\n\t\t}"
	}
	if c.unity {
		nets = "10.2.0.0/24, 10.3.0.0/24"
	}
	return fmt.Sprintf(`connections {
	t {
		version = 1
		local_addrs = 10.9.0.2
		pools = v4
		pull = %s
		proposals = %s
		local {
			auth = psk
			id = office.example.net
		}
		remote {
			auth = psk
		}
		%s
		children {
			c {
				local_ts = %s
				esp_proposals = %s
			}
		}
	}
}
pools {
	v4 {
		addrs = 192.168.78.0/24
		dns = 10.2.0.53
	}
}
secrets {
	ike-1 {
		secret = %q
	}
	xauth-1 {
		id = anna
		secret = %q
	}
}
`, yesno(!c.push), configIKE, login, nets, configESP, secret, userPassword)
}

// ourClientV1 is culvert as IKEv1 road warrior.
func ourClientV1(xauth bool, password string) string {
	s := strings.Replace(ourClient, `exchange-mode = "ike2"`, `exchange-mode = "main"`, 1)
	if xauth {
		s = strings.Replace(s, "[[identity]]\n", "[[identity]]\nauth-method = \"pre-shared-key-xauth\"\nusername = \"anna\"\npassword = \""+password+"\"\n", 1)
	}
	return s
}

func (c theirServerV1) run(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "anna", "office")
	anna, office := nodes[0], nodes[1]
	hosts := []string{officeHost}
	if c.unity {
		hosts = append(hosts, officeOther)
	}
	for _, h := range hosts {
		office.Inner(netip.MustParseAddr(h))
	}
	office.StrongSwan(ctx, c.hybrid.theirs(office, c.conf(), true), "cisco_unity = "+yesno(c.unity))
	bare := anna.Network()
	us := anna.Culvert(ctx, "", c.hybrid.ours(ourClientV1(c.xauth, userPassword), false))
	tell(t, us)
	var from netip.Addr
	err := lab.Until(ctx, func() error {
		rows, err := us.Print(ctx, "active-peers")
		if err != nil || len(rows) != 1 || rows[0].Text("dynamic-address") == "" || rows[0].Text("dns") != "10.2.0.53" || rows[0].Number("ph2-total") != uint64(len(hosts)) {
			return fmt.Errorf("active-peers %v, %v", rows, err)
		}
		from = netip.MustParseAddr(rows[0].Text("dynamic-address"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	transfer := func() {
		t.Helper()
		for _, h := range hosts {
			to := netip.MustParseAddr(h)
			if out := anna.Run("ip", "route", "get", h); !strings.Contains(out, "src "+from.String()) {
				t.Errorf("the way to %s has another source than %v: %s", h, from, out)
			}
			if err := anna.Transfer(ctx, from, office, to, payload/4); err != nil {
				t.Fatalf("to %s: %v", h, err)
			}
		}
	}
	transfer()
	if c.unity { // a policy of level unique for each network
		rows, err := us.Print(ctx, "policy")
		made := slices.DeleteFunc(rows, func(r lab.Row) bool { return r.Text("dynamic") != "true" })
		if err != nil || len(made) != 2 || made[0].Text("level") != "unique" || made[1].Text("level") != "unique" {
			t.Errorf("policies %v, %v", rows, err)
		}
	}
	if _, err := us.Command(ctx, "active-peers", "rekey"); err != nil {
		t.Fatal(err)
	}
	transfer()
	if err := us.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	if left := anna.Network(); left != bare {
		t.Errorf("left behind:\n%s\nbefore:\n%s", left, bare)
	}
}

// ourWrongPassword: we have another password than strongSwan.
func ourWrongPassword(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "anna", "office")
	nodes[1].StrongSwan(ctx, theirServerV1{xauth: true}.conf())
	us := nodes[0].Culvert(ctx, "", ourClientV1(true, "another"))
	tell(t, us)
	if err := lab.Until(ctx, func() error {
		return logged(us, "the peer refused user", "compare username and password of the identity")
	}); err != nil {
		t.Error(err)
	}
	if rows, err := us.Print(ctx, "installed-sa"); err != nil || len(rows) > 0 {
		t.Errorf("%v, %v", rows, err)
	}
}
