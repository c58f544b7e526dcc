//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/internal/testing/lab"
)

// brood is a cell about what CHILD SAs cover: several of one IKE SA, narrowing,
// ports and protocols.
type brood struct {
	name         string
	what         string // for the table
	theyInitiate bool
	ours         []string    // our policies: src-address dst-address, and further lines
	theirs       [][2]string // strongSwan's children: local_ts, remote_ts
	pairs        []string    // what strongSwan's CHILD SAs cover then, "local => remote"
	flows        [][2]string // TCP, from our address to theirs
	pings        [][2]string
	says         []string // of our log
	silent       bool     // the refused child of strongSwan's is the last one
}

const addressOf = "src-address = %q\ndst-address = %q\n"

func policyLines(src, dst string, more ...string) string {
	return fmt.Sprintf(addressOf, src, dst) + strings.Join(more, "\n")
}

// childrenCells: both sides begin, where it makes a difference.
func childrenCells() []cell {
	threeOurs := []string{policyLines("10.1.0.0/24", "10.2.0.0/24"), policyLines("10.1.1.0/24", "10.2.1.0/24"), policyLines("10.1.2.0/24", "10.2.2.0/24")}
	threeTheirs := [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}, {"10.2.1.0/24", "10.1.1.0/24"}, {"10.2.2.0/24", "10.1.2.0/24"}}
	threePairs := []string{"10.2.0.0/24 => 10.1.0.0/24", "10.2.1.0/24 => 10.1.1.0/24", "10.2.2.0/24 => 10.1.2.0/24"}
	threeFlows := [][2]string{{"10.1.0.1", "10.2.0.1"}, {"10.1.1.1", "10.2.1.1"}, {"10.1.2.1", "10.2.2.1"}}
	first := threeFlows[:1]
	tcp := `protocol = "tcp"`
	var cs []cell
	for _, b := range []brood{
		{name: "three-children-we-initiate", what: "three policies, one IKE SA, which is rekeyed", ours: threeOurs, theirs: threeTheirs, pairs: threePairs, flows: threeFlows},
		{name: "three-children-they-initiate", what: "three policies, one IKE SA, which is rekeyed", theyInitiate: true, ours: threeOurs, theirs: threeTheirs, pairs: threePairs, flows: threeFlows},
		{name: "we-narrow", what: "strongSwan asks for 10.0.0.0/8, culvert leaves a /24 of it", theyInitiate: true,
			ours: threeOurs[:1], theirs: [][2]string{{"10.2.0.0/16", "10.0.0.0/8"}}, pairs: threePairs[:1], flows: first},
		{name: "they-narrow", what: "culvert asks for /16, strongSwan leaves a /24 of it",
			ours: []string{policyLines("10.1.0.0/16", "10.2.0.0/16")}, theirs: threeTheirs[:1], pairs: threePairs[:1], flows: first},
		{name: "several-selectors-they-initiate", what: "two networks in one CHILD SA", theyInitiate: true,
			ours: []string{policyLines("10.1.0.0/16", "10.2.0.0/16")}, theirs: [][2]string{{"10.2.0.0/24,10.2.1.0/24", "10.1.0.0/24,10.1.1.0/24"}},
			pairs: []string{"10.2.0.0/24,10.2.1.0/24 => 10.1.0.0/24,10.1.1.0/24"}, flows: threeFlows[:2]},
		{name: "several-selectors-we-initiate", what: "two networks in one CHILD SA",
			ours: []string{policyLines("10.1.0.0/16", "10.2.0.0/16")}, theirs: [][2]string{{"10.2.0.0/24,10.2.1.0/24", "10.1.0.0/24,10.1.1.0/24"}},
			pairs: []string{"10.2.0.0/24,10.2.1.0/24 => 10.1.0.0/24,10.1.1.0/24"}, flows: threeFlows[:2]},
		{name: "port-we-initiate", what: "TCP to one port", ours: []string{policyLines("10.1.0.0/24", "10.2.0.0/24", tcp, "dst-port = 7000")},
			theirs: [][2]string{{"10.2.0.0/24[tcp/7000]", "10.1.0.0/24[tcp]"}}, pairs: []string{"10.2.0.0/24[tcp/7000] => 10.1.0.0/24[tcp]"}, flows: first},
		{name: "port-they-initiate", what: "TCP to one port", theyInitiate: true, ours: []string{policyLines("10.1.0.0/24", "10.2.0.0/24", tcp, "dst-port = 7000")},
			theirs: [][2]string{{"10.2.0.0/24[tcp/7000]", "10.1.0.0/24[tcp]"}}, pairs: []string{"10.2.0.0/24[tcp/7000] => 10.1.0.0/24[tcp]"}, flows: first},
		{name: "protocols-side-by-side", what: "ICMP and TCP, a CHILD SA each",
			ours:   []string{policyLines("10.1.0.0/24", "10.2.0.0/24", `protocol = "icmp"`), policyLines("10.1.0.0/24", "10.2.0.0/24", tcp)},
			theirs: [][2]string{{"10.2.0.0/24[icmp]", "10.1.0.0/24[icmp]"}, {"10.2.0.0/24[tcp]", "10.1.0.0/24[tcp]"}},
			pairs:  []string{"10.2.0.0/24[icmp] => 10.1.0.0/24[icmp]", "10.2.0.0/24[tcp] => 10.1.0.0/24[tcp]"}, flows: first, pings: first},
		{name: "we-narrow-to-a-protocol", what: "strongSwan asks for all protocols, culvert leaves ICMP", theyInitiate: true,
			ours: []string{policyLines("10.1.0.0/24", "10.2.0.0/24", `protocol = "icmp"`)}, theirs: threeTheirs[:1],
			pairs: []string{"10.2.0.0/24[icmp] => 10.1.0.0/24[icmp]"}, pings: first},
		{name: "we-refuse-selectors", what: "culvert refuses the second CHILD SA, the first stays", theyInitiate: true, silent: true,
			ours: threeOurs[:1], theirs: threeTheirs[:2], pairs: threePairs[:1], flows: first,
			says: []string{"event=ts-unacceptable", `theirs="[10.1.1.0/24 => 10.2.1.0/24]"`, "10.1.0.0/24 => 10.2.0.0/24]", "hint="}},
		{name: "they-refuse-selectors", what: "strongSwan refuses the second CHILD SA, the first stays",
			ours: threeOurs[:2], theirs: threeTheirs[:1], pairs: threePairs[:1], flows: first,
			says: []string{"event=ts-unacceptable", "10.1.1.0/24 => 10.2.1.0/24", "hint="}},
	} {
		cs = append(cs, cell{group: "What CHILD SAs cover", name: b.name, theyInitiate: b.theyInitiate, scene: b.run, event: event{name: b.what}})
	}
	return cs
}

func (b *brood) swanctl() string {
	var children strings.Builder
	for i, c := range b.theirs {
		fmt.Fprintf(&children, "\t\t\tc%d {\n\t\t\t\tlocal_ts = %s\n\t\t\t\tremote_ts = %s\n\t\t\t\tesp_proposals = aes128gcm16\n\t\t\t}\n", i, c[0], c[1])
	}
	return fmt.Sprintf(`connections {
	t {
		version = 2
		local_addrs = 192.0.2.2
		remote_addrs = 192.0.2.1
		proposals = aes256-sha256-ecp256
		local {
			auth = psk
			id = 192.0.2.2
		}
		remote {
			auth = psk
			id = 192.0.2.1
		}
		children {
%s		}
	}
}
secrets {
	ike-1 {
		secret = %q
	}
}
`, children.String(), secret)
}

func (b *brood) toml() string {
	text := fmt.Sprintf(`
[[profile]]
name = "interop"
enc-algorithm = "aes-256"
hash-algorithm = "sha256"
dh-group = "ecp256"

[[proposal]]
name = "interop"
enc-algorithms = "aes-128-gcm"
pfs-group = "none"

[[peer]]
name = "strongswan"
address = "192.0.2.2/32"
exchange-mode = "ike2"
profile = "interop"
passive = %t

[[identity]]
peer = "strongswan"
secret = %q
`, b.theyInitiate, secret)
	for _, p := range b.ours {
		text += "\n[[policy]]\npeer = \"strongswan\"\ntunnel = true\nproposal = \"interop\"\n" + p + "\n"
	}
	return text
}

func (b *brood) run(ctx context.Context, t *testing.T, l *lab.Lab) {
	us, them := l.Node("we"), l.Node("they")
	for i := range 3 {
		us.Inner(netip.MustParseAddr(fmt.Sprintf("10.1.%d.1", i)))
		them.Inner(netip.MustParseAddr(fmt.Sprintf("10.2.%d.1", i)))
	}
	l.Wire(lab.End{Node: us, Device: "eth0", Prefix: netip.MustParsePrefix("192.0.2.1/24")},
		lab.End{Node: them, Device: "eth0", Prefix: netip.MustParsePrefix("192.0.2.2/24")})
	swan := them.StrongSwan(ctx, b.swanctl())
	ours := us.Culvert(ctx, "", b.toml())
	if b.theyInitiate {
		for i := range b.theirs {
			refused := b.silent && i == len(b.theirs)-1
			if err := swan.InitiateChild(ctx, fmt.Sprintf("c%d", i)); (err != nil) != refused {
				t.Fatalf("child c%d: %v", i, err)
			}
		}
	}
	b.carries(ctx, t, us, them, swan)
	for _, text := range b.says {
		if err := lab.Until(ctx, func() error {
			if !strings.Contains(ours.Log(), text) {
				return fmt.Errorf("our log does not say %q", text)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	before, err := swan.SAs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Command(ctx, "active-peers", "rekey"); err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(ctx, func() error {
		now, err := swan.SAs(ctx)
		if err == nil && (len(now) != 1 || now[0].InitiatorSPI == before[0].InitiatorSPI) {
			err = errors.New("the IKE SA is not rekeyed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	b.carries(ctx, t, us, them, swan)
	if _, err := ours.Command(ctx, "installed-sa", "rekey"); err != nil {
		t.Fatal(err)
	}
	b.carries(ctx, t, us, them, swan)
}

// carries proves that every flow gets through, and that strongSwan has one IKE SA
// with the CHILD SAs that it shall have.
func (b *brood) carries(ctx context.Context, t *testing.T, us, them *lab.Node, swan *lab.StrongSwan) {
	t.Helper()
	for _, f := range b.pings {
		if err := lab.Until(ctx, func() error {
			if out, err := us.Try("ping", "-c", "1", "-W", "2", "-I", f[0], f[1]); err != nil {
				return fmt.Errorf("ping %s => %s: %w\n%s", f[0], f[1], err, out)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range b.flows {
		if err := us.Transfer(ctx, netip.MustParseAddr(f[0]), them, netip.MustParseAddr(f[1]), 100_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := lab.Until(ctx, func() error {
		sas, err := swan.SAs(ctx)
		if err != nil || len(sas) != 1 {
			return errors.Join(err, fmt.Errorf("strongSwan has %d IKE SAs", len(sas)))
		}
		var pairs []string
		for _, c := range sas[0].Children {
			if c.State == "INSTALLED" {
				pair := strings.Join(c.LocalTS, ",") + " => " + strings.Join(c.RemoteTS, ",")
				pairs = append(pairs, strings.ReplaceAll(pair, "tcp/bbs", "tcp/7000")) // names ports as /etc/services does
			}
		}
		slices.Sort(pairs)
		if !slices.Equal(pairs, b.pairs) {
			return fmt.Errorf("strongSwan's CHILD SAs cover %q", pairs)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
