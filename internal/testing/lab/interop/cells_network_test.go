//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"culvert/internal/testing/lab"
)

// networkCells: what the network does to a tunnel.
func networkCells() []cell {
	const g = "Fragments, NAT rebinding, MOBIKE"
	small := cell{group: g, longIDs: true, extra: extra{connection: "fragmentation = force\n", daemon: "fragment_size = 300"},
		ike: ikeSuite{aes256, sha256, modp3072}, esp: espSuite{aes256gcm, sha256, modp3072}, event: rekeysInFragments}
	named := func(c cell, name string, theyInitiate bool) cell {
		c.name, c.theyInitiate = name, theyInitiate
		return c
	}
	still := extra{connection: "mobike = no\n"}
	return []cell{
		named(small, "fragments-we-initiate", false),
		named(small, "fragments-they-initiate", true),
		{group: g, name: "nat-forgets-us", nat: we, extra: still, event: natForgets(we)},
		{group: g, name: "nat-forgets-them", nat: they, theyInitiate: true, extra: still, event: natForgets(they)},
		{group: g, name: "nat-forgets-us-mobike", nat: we, event: natForgets(we)},
		{group: g, name: "nat-forgets-them-mobike", nat: they, theyInitiate: true, extra: extra{connection: "dpd_delay = 3s\n"}, event: natForgetsKnown},
		{group: g, name: "mobike-we-move", event: weMove},
		{group: g, name: "mobike-they-move", theyInitiate: true, event: theyMove},
		{group: g, name: "mobike-we-move-they-lead", theyInitiate: true, event: weMove},
		{group: g, name: "mobike-they-move-we-lead", event: theyMove},
	}
}

// outer6Cells: IPv6 between the gateways.
func outer6Cells() []cell {
	const g = "IPv6 between the gateways"
	all := both("IKE SA and CHILD SA rekeyed by each side", weRekeyIKE, theyRekeyChild, theyRekeyIKE, weRekeyChild)
	return []cell{
		{group: g, name: "outer-ipv6-we-initiate", outer6: true, event: all},
		{group: g, name: "outer-ipv6-they-initiate", outer6: true, theyInitiate: true, event: weDeleteIKE},
		{group: g, name: "ipv6-in-ipv6-we-initiate", outer6: true, v6: true, event: theyDeleteChild},
		{group: g, name: "ipv6-in-ipv6-they-initiate", outer6: true, v6: true, theyInitiate: true, event: all},
	}
}

// rekeysInFragments: each side rekeys both SAs; strongSwan's log has it that
// messages came and went in fragments.
var rekeysInFragments = event{"both sides rekey in turn, in fragments", func(ctx context.Context, r *tunnel) error {
	if err := both("", weRekeyChild, theyRekeyChild, theyRekeyIKE, weRekeyIKE).do(ctx, r); err != nil {
		return err
	}
	signs := []string{"splitting IKE message"}
	if !r.theyInitiate {
		signs = append(signs, "received fragment #2 of 2") // of our IKE_AUTH, with both identities
	}
	for _, sign := range signs {
		if !strings.Contains(r.swan.Log(), sign) {
			return fmt.Errorf("strongSwan's log has no %q", sign)
		}
	}
	return nil
}}

// sameIKE does something and waits until moved agrees. The IKE SA must be the
// same. So would be the CHILD SA, but kernel-libipsec cannot change the addresses
// of one, so that strongSwan rekeys it.
func (r *tunnel) sameIKE(ctx context.Context, do func() error, moved func() error) error {
	oldIKE, old := r.ike, r.child
	if err := do(); err != nil {
		return err
	}
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.ike.InitiatorSPI != oldIKE.InitiatorSPI || r.ike.ResponderSPI != oldIKE.ResponderSPI {
			return errors.New("the IKE SA was replaced")
		}
		r.exchanged = r.exchanged || r.child.SPIIn != old.SPIIn
		return moved()
	})
}

// natForgets: the NAT router forgets its mappings. Who is behind it speaks next,
// from another port.
func natForgets(hidden side) event {
	return event{"the NAT router forgets its mappings", func(ctx context.Context, r *tunnel) error {
		port := r.ike.RemotePort
		return r.sameIKE(ctx, func() error {
			r.router.Run("conntrack", "-F")
			if hidden == they {
				return r.them.Transfer(ctx, r.theyHost, r.us, r.weHost, 1000)
			}
			return r.us.Transfer(ctx, r.weHost, r.them, r.theyHost, 1000)
		}, func() error {
			if hidden == we && r.ike.RemotePort == port {
				return fmt.Errorf("strongSwan still sees us at port %d", port)
			}
			if hidden == they && !strings.Contains(r.culvert.Log(), "event=moved") {
				return errors.New("culvert did not notice that strongSwan's port changed")
			}
			return nil
		})
	}}
}

// natForgetsKnown: strongSwan with MOBIKE compares how it is seen with how it was
// seen when it asked before, first at a dead peer detection.
var natForgetsKnown = event{natForgets(they).name, func(ctx context.Context, r *tunnel) error {
	err := lab.Until(ctx, func() error {
		for line := range strings.Lines(r.swan.Log()) {
			if strings.Contains(line, "parsed INFORMATIONAL response") && strings.Contains(line, "NATD_D_IP") {
				return nil
			}
		}
		return errors.New("strongSwan has not asked yet how it is seen")
	})
	if err != nil {
		return err
	}
	return natForgets(they).do(ctx, r)
}}

// weMove, theyMove: the address of a gateway goes away while it has another one.
var (
	weMove = event{"culvert's address goes away, another is there", func(ctx context.Context, r *tunnel) error {
		next := netip.MustParseAddr("10.9.0.11")
		return r.sameIKE(ctx, func() error { return move(r.us, r.we, next) }, func() error {
			if r.ike.Remote != next.String() {
				return fmt.Errorf("strongSwan sees us at %s", r.ike.Remote)
			}
			return nil
		})
	}}
	theyMove = event{"strongSwan's address goes away, another is there", func(ctx context.Context, r *tunnel) error {
		next := netip.MustParseAddr("10.9.0.12")
		return r.sameIKE(ctx, func() error { return move(r.them, r.they, next) }, func() error {
			peers, err := r.culvert.Print(ctx, "active-peers")
			if err == nil && (len(peers) != 1 || !strings.HasPrefix(peers[0].Text("remote-address"), next.String())) {
				err = fmt.Errorf("culvert's IKE SAs: %v", peers)
			}
			return err
		})
	}}
)

// move gives a node another address on its network and then takes the old one.
func move(n *lab.Node, from, to netip.Addr) error {
	n.Sysctl("net.ipv4.conf.all.promote_secondaries", "1")
	n.Run("ip", "addr", "add", to.String()+"/24", "dev", "eth0")
	time.Sleep(time.Second) // both ends know it before it is needed
	_, err := n.Try("ip", "addr", "del", from.String()+"/24", "dev", "eth0")
	return err
}
