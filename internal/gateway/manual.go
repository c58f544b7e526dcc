package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/operate/control"
	"culvert/internal/packet/underlay"
	"culvert/sad"
	"culvert/spd/selector"
)

// SAs that are added by hand to policies without a peer. The endpoint does not know
// them. They live until they are deleted, reach their lifetime, or lose
// their policy. They are not kept over a restart, because a key must not be used again
// with the same sequence numbers.

// manualIDs is the first ID of such SAs. The IDs of the endpoint begin at 1.
const manualIDs = 1 << 63

func (b backend) AddSA(ctx context.Context, sa control.ManualSA) ([]string, error) {
	return call(ctx, b.g, func(now time.Time) ([]string, error) { return b.g.addSA(now, sa) })
}

func (b backend) DeleteSA(ctx context.Context, spi uint32) error {
	_, err := call(ctx, b.g, func(time.Time) (struct{}, error) { return struct{}{}, b.g.deleteSA(spi) })
	return err
}

// manualPolicy finds the policy by its number in policy print.
func (g *gateway) manualPolicy(number int) (core.PolicyRef, *config.Policy, error) {
	for ref, n := range planeView(g.plane, g.cfg, g.compiled, time.Time{}).PolicyNumbers() {
		if n != number || g.compiled.Rows[ref] == nil {
			continue
		}
		if p := g.compiled.Rows[ref]; p.Manual() {
			return ref, p, nil
		}
		return 0, nil, fmt.Errorf("policy %d gets its SAs from a peer, or has none: choose a policy with sa-src-address and sa-dst-address and without peer", number)
	}
	return 0, nil, fmt.Errorf("there is no policy %d, or it handles no packets: see `culvert policy print`", number)
}

func (g *gateway) addSA(now time.Time, sa control.ManualSA) (warnings []string, err error) {
	ref, row, err := g.manualPolicy(sa.Policy)
	if err != nil {
		return nil, err
	}
	ends := g.compiled.Manual[ref]
	wanted := strings.Join(row.IPsecProtocols, " and ")
	if (sa.ESP != nil) != ends.ESP || (sa.AH != nil) != ends.AH {
		return nil, fmt.Errorf("policy %d uses %s: give SPIs and keys for exactly that", sa.Policy, wanted)
	}
	if sa.UDP && ends.AH {
		return nil, errors.New("AH cannot be sent in UDP: leave out udp")
	}
	if !sa.UDP && !underlay.IsRaw(g.edges.Conn) {
		return nil, errors.New("this gateway sends ESP in UDP only (encapsulation in [gateway]): add udp")
	}
	if sa.ReplayWindow != 0 && (sa.ReplayWindow < sad.MinReplayWindow || sa.ReplayWindow > sad.MaxReplayWindow) {
		return nil, fmt.Errorf("replay-window is %d: write %d to %d packets, or 0 for no replay check", sa.ReplayWindow, sad.MinReplayWindow, sad.MaxReplayWindow)
	}
	if sa.Lifetime < 0 {
		return nil, fmt.Errorf("lifetime is %v: write a positive duration, or 0 for no limit", sa.Lifetime)
	}
	base := g.manualParams(now, sa, ref, row)
	var list []sad.Params
	defer func() {
		for i := range list { // also those of a half that was not whole; Install has wiped what it got
			for _, k := range []secret.Bytes{list[i].In.EncKey, list[i].In.IntegKey, list[i].Out.EncKey, list[i].Out.IntegKey} {
				k.Wipe()
			}
		}
	}()
	if sa.ESP != nil {
		p := base
		p.ID, p.Protocol, p.Bundled, p.Standby = g.manualID(), sad.ProtocolESP, ends.AH, ends.AH
		list = append(list, p)
		if warnings, err = g.manualHalves(&list[0], sa.ESP, sa.ESN); err != nil {
			return nil, fmt.Errorf("esp: %w", err)
		}
	}
	if sa.AH != nil {
		p := base
		p.ID, p.Protocol = g.manualID(), sad.ProtocolAH
		if ends.ESP {
			p.Under = list[0].ID
		}
		list = append(list, p)
		of, err := g.manualHalves(&list[len(list)-1], sa.AH, sa.ESN)
		if err != nil {
			return nil, fmt.Errorf("ah: %w", err)
		}
		warnings = append(warnings, of...)
	}
	last := core.ChildID(list[len(list)-1].ID)
	if g.plane.Lead(ref, last); g.plane.Replan { // the answers to the first packets go by the SA
		g.followNow()
	}
	if err := g.installManual(list); err != nil {
		g.plane.NoLead(ref, last)
		return nil, err
	}
	list = nil
	g.plane.Path.Acquired(uint32(ref))
	return append([]string{}, warnings...), nil
}

// installManual installs all of list or nothing.
func (g *gateway) installManual(list []sad.Params) error {
	for i, p := range list {
		_, err := g.plane.SAs.Install(p)
		if err == nil {
			continue
		}
		for _, q := range list[:i] {
			g.plane.SAs.Remove(q.ID)
		}
		if errors.Is(err, sad.ErrTaken) {
			return fmt.Errorf("another SA has the inbound SPI %s: choose another SPI, or delete that SA: see `culvert installed-sa print`", control.SPI(p.In.SPI))
		}
		return err
	}
	if list[0].Bundled {
		g.plane.SAs.Activate(list[0].ID)
	}
	return nil
}

func (g *gateway) manualID() uint64 {
	g.manuals++
	return manualIDs + g.manuals
}

func (g *gateway) manualParams(now time.Time, sa control.ManualSA, ref core.PolicyRef, row *config.Policy) sad.Params {
	port := uint16(0)
	if sa.UDP {
		port = g.compiled.Ports[1]
	}
	remote := netip.AddrPortFrom(row.SADstAddress, 0)
	if sa.UDP {
		remote = netip.AddrPortFrom(row.SADstAddress, 4500)
	}
	p := sad.Params{
		Policy: uint32(ref), Peer: "manual", Tunnel: row.Tunnel, Manual: true, Pairs: []selector.Pair{compile.PairOf(row)},
		Local: netip.AddrPortFrom(row.SASrcAddress, port), Remote: remote, UDP: sa.UDP,
		ReplayWindow: sa.ReplayWindow, Added: now, Hard: sa.Lifetime, HardBytes: sa.Lifebytes,
	}
	p.Soft, p.SoftBytes = p.Hard-p.Hard/10, p.HardBytes-p.HardBytes/10
	return p
}

// manualHalves are algorithms and keys of both directions.
func (g *gateway) manualHalves(p *sad.Params, k *control.ManualKeys, esn bool) (warnings []string, err error) {
	encr, integ := suite.EncrByName(k.EncAlgorithm), suite.IntegByName(k.AuthAlgorithm)
	switch {
	case p.Protocol == sad.ProtocolAH && k.EncAlgorithm != "":
		return nil, errors.New("AH does not encrypt: leave out enc-algorithm")
	case p.Protocol == sad.ProtocolESP && encr == nil:
		return nil, fmt.Errorf("enc-algorithm %q is unknown: write one of enc-algorithms in [[proposal]], such as aes-256-gcm", k.EncAlgorithm)
	case integ == nil && k.AuthAlgorithm != "":
		return nil, fmt.Errorf("auth-algorithm %q is unknown: write md5, sha1, sha256, sha384 or sha512", k.AuthAlgorithm)
	case integ == nil && (encr == nil || !encr.AEAD()):
		return nil, errors.New("auth-algorithm is missing: write one, or an enc-algorithm with built-in integrity such as aes-256-gcm")
	case integ != nil && encr != nil && encr.AEAD():
		return nil, fmt.Errorf("%s has built-in integrity: leave out auth-algorithm", encr.Name)
	}
	for _, half := range []struct {
		to        *esp.Params
		spi       uint32
		enc, auth string
		name      string
	}{{&p.In, k.SPIIn, k.EncKeyIn, k.AuthKeyIn, "in"}, {&p.Out, k.SPIOut, k.EncKeyOut, k.AuthKeyOut, "out"}} {
		if half.spi < 256 {
			return nil, fmt.Errorf("spi-%s is %d: SPIs below 256 are reserved, write a larger one", half.name, half.spi)
		}
		*half.to = esp.Params{SPI: half.spi, Encr: encr, Integ: integ, ESN: esn}
		need := 0
		if encr != nil {
			need = encr.MaterialLen()
		}
		if half.to.EncKey, err = manualKey("enc-key-"+half.name, half.enc, need); err != nil {
			return nil, err
		}
		need = 0
		if integ != nil {
			need = integ.KeyLen
		}
		if half.to.IntegKey, err = manualKey("auth-key-"+half.name, half.auth, need); err != nil {
			return nil, err
		}
		g.plane.Random.Read(half.to.IVKey[:]) //nolint:errcheck // never fails
	}
	return g.manualWarnings(p, encr, integ), nil
}

// manualWarnings are about weak algorithms and keys, which are accepted. The IV of a counter mode
// begins at a random number of 64 bits.
func (g *gateway) manualWarnings(p *sad.Params, encr *suite.Encr, integ *suite.Integ) (list []string) {
	var weak []string
	if encr != nil && encr.Weak {
		weak = append(weak, encr.Name)
	}
	if integ != nil && integ.Weak {
		weak = append(weak, integ.Name)
	}
	if len(weak) > 0 {
		list = append(list, fmt.Sprintf("weak algorithms: %s; use them only for a peer that supports nothing better", strings.Join(weak, ", ")))
	}
	if encr == nil || encr.IVLen != 8 || encr.RandomIV {
		return list
	}
	p.Out.IVStart = g.plane.Random.Uint64()
	list = append(list, fmt.Sprintf("%s is broken if a counter value repeats under one key: never use this key again, neither for another SA nor after a restart", encr.Name))
	if p.In.EncKey.Equal(p.Out.EncKey) {
		list = append(list, "both directions have the same key, and both ends may use the same counter values: use two keys")
	}
	return list
}

func manualKey(name, text string, need int) (secret.Bytes, error) {
	key, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if err != nil {
		return nil, fmt.Errorf("%s is not hexadecimal: write pairs of the digits 0-9 and a-f", name)
	}
	if len(key) != need {
		clear(key)
		return nil, fmt.Errorf("%s has %d bytes: the algorithm needs %d", name, len(key), need)
	}
	return key, nil
}

func (g *gateway) deleteSA(spi uint32) error {
	in := g.plane.SAs.Inbound(spi)
	if in == nil {
		return fmt.Errorf("there is no SA with the inbound SPI %s: see `culvert installed-sa print`", control.SPI(spi))
	}
	c := in.Child()
	if !c.Manual() {
		return fmt.Errorf("the SA %s was negotiated with peer %s and was not added by hand: use `culvert installed-sa flush`, or `active-peers kill-connections`", control.SPI(spi), c.Peer)
	}
	g.removeManual(c)
	return nil
}

// removeManual removes both SAs of a bundle, AH first.
func (g *gateway) removeManual(c *sad.Child) {
	both := []*sad.Child{c.Over(), c, c.Inner()}
	for _, x := range both {
		if x != nil {
			g.plane.NoLead(core.PolicyRef(x.Policy), core.ChildID(x.ID))
			g.plane.SAs.Remove(x.ID)
		}
	}
}

// dropManual removes the SAs that have lost their policy, or all.
func (g *gateway) dropManual(all bool) {
	for _, c := range g.plane.SAs.Children() {
		if _, ok := g.compiled.Manual[core.PolicyRef(c.Policy)]; c.Manual() && (all || !ok) {
			g.removeManual(c)
		}
	}
}
