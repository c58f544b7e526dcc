package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/internal/host/hardware"
	"culvert/internal/operate/control"
	"culvert/sad"
	"culvert/spd/selector"
)

// The rows of the print menus.

// phase2 counts the CHILD SAs of a policy.
type phase2 struct {
	mature, other, dead int
	endpoint            *sad.Endpoint // of the newest
}

// count leaves out SAs that have been replaced and are about to be removed.
func (p phase2) count() int {
	if p.mature > 0 {
		return p.mature
	}
	return p.other
}

func (p phase2) state() string {
	switch {
	case p.count() > 0:
		return "established"
	case p.dead > 0:
		return "expired"
	}
	return "no-phase2"
}

// Policies are the rows of `policy print`.
func (v *View) Policies() []control.Policy {
	of := map[core.PolicyRef]phase2{}
	for _, child := range v.SAs.Children() {
		p := of[core.PolicyRef(child.Policy)]
		switch child.State(v.Now) {
		case sad.StateMature:
			p.mature++
		case sad.StateDead:
			p.dead++
		default:
			p.other++
		}
		p.endpoint = child.Endpoint()
		of[core.PolicyRef(child.Policy)] = p
	}
	rows := make([]control.Policy, 0, len(v.Config.Policies)+len(v.Made))
	byTemplate := v.byTemplate()
	for _, p := range v.Config.Policies {
		ph2 := of[v.Compiled.Refs[p]] // no policy has the ref 0
		row := control.Policy{
			Number: len(rows), Template: p.Template, Disabled: p.Disabled, Dynamic: p.Dynamic, Invalid: p.Invalid,
			Active: ph2.count() > 0, Default: p.Default,
			SrcAddress: p.SrcAddress.String(), SrcPort: p.SrcPort.String(),
			DstAddress: p.DstAddress.String(), DstPort: p.DstPort.String(), Protocol: p.Protocol.String(),
			Action: string(p.Action), Level: string(p.Level), IPsecProtocols: strings.Join(p.IPsecProtocols, ","),
			Tunnel: control.Chosen(p.Tunnel), Proposal: p.ProposalName, Peer: p.PeerName,
			Ph2Count: ph2.count(), Ph2State: ph2.state(), Comment: p.Comment,
		}
		if p.AnyMode {
			row.Tunnel = control.Open
		}
		if p.Template {
			row.Group = p.Group
		} else {
			row.SASrcAddress, row.SADstAddress = outer(p, ph2.endpoint)
		}
		rows = append(rows, row)
		for _, m := range byTemplate[p] {
			rows = append(rows, madeRows(m, p, of[m.Ref], len(rows))...)
		}
	}
	return rows
}

// madeRows are the rows of a policy that was made from the template p.
func madeRows(m core.AddPolicy, p *config.Policy, ph2 phase2, number int) (rows []control.Policy) {
	src, dst := "::", "::"
	if e := ph2.endpoint; e != nil {
		src, dst = e.Local.Addr().String(), e.Remote.Addr().String()
	}
	for _, pair := range m.Pairs {
		rows = append(rows, control.Policy{
			Number: number + len(rows), Dynamic: true, Active: ph2.count() > 0,
			SrcAddress: addressText(pair.Local), SrcPort: portText(pair.Local), DstAddress: addressText(pair.Remote), DstPort: portText(pair.Remote),
			Protocol: config.Protocol(pair.Local.Proto).String(), Action: string(config.Encrypt), Level: string(p.Level),
			IPsecProtocols: strings.Join(p.IPsecProtocols, ","), Tunnel: control.Chosen(m.Tunnel), SASrcAddress: src, SADstAddress: dst,
			Proposal: p.ProposalName, Peer: m.Peer, Ph2Count: ph2.count(), Ph2State: ph2.state(),
		})
	}
	return rows
}

func addressText(t selector.TS) string {
	if p, ok := t.Prefix(); ok {
		return p.String()
	}
	return t.Lo.String() + "-" + t.Hi.String()
}

func portText(t selector.TS) string {
	switch {
	case t.AnyPort():
		return "any"
	case t.PortLo == t.PortHi:
		return strconv.Itoa(int(t.PortLo))
	}
	return fmt.Sprintf("%d-%d", t.PortLo, t.PortHi)
}

// byTemplate are the policies that were made from each template.
func (v *View) byTemplate() map[*config.Policy][]core.AddPolicy {
	of := map[*config.Policy][]core.AddPolicy{}
	for _, m := range v.Made {
		if t := v.Compiled.Templates[m.Template]; t != nil {
			of[t.Row] = append(of[t.Row], m)
		}
	}
	return of
}

// PolicyNumbers are the numbers of `policy print`.
func (v *View) PolicyNumbers() map[core.PolicyRef]int {
	of, n, byTemplate := map[core.PolicyRef]int{}, 0, v.byTemplate()
	for _, p := range v.Config.Policies {
		if ref := v.Compiled.Refs[p]; ref != 0 {
			of[ref] = n
		}
		n++
		for _, m := range byTemplate[p] {
			of[m.Ref] = n
			n += len(m.Pairs)
		}
	}
	return of
}

// outer is sa-src-address and sa-dst-address: of an SA if there is one, else from the
// configuration.
func outer(p *config.Policy, e *sad.Endpoint) (src, dst string) {
	if e != nil {
		return e.Local.Addr().String(), e.Remote.Addr().String()
	}
	if p.Manual() {
		return p.SASrcAddress.String(), p.SADstAddress.String()
	}
	src, dst = "::", "::" // the manual writes this if it is not known
	if p.Peer != nil && p.Peer.LocalAddress.IsValid() {
		src = p.Peer.LocalAddress.String()
	}
	if p.Peer != nil && p.Peer.Address.IsSingleIP() {
		dst = p.Peer.Address.Addr().String()
	}
	return src, dst
}

// Peers are the rows of `peer print`.
func (v *View) Peers() []control.Peer {
	var rows []control.Peer
	for i, p := range v.Config.Peers {
		row := control.Peer{
			Number: i, Disabled: p.Disabled, Dynamic: p.Dynamic, Responder: p.Passive || !p.OneHost(),
			Name: p.Name, Address: p.AddressText(), Port: int(p.Port), NATTPort: int(p.NATTPort), Profile: p.ProfileName,
			ExchangeMode: p.ExchangeMode, Childless: p.Childless, Passive: p.Passive, OnDemand: p.OnDemand, SendInitialContact: p.SendInitialContact, Comment: p.Comment,
			Redirect: p.Redirect.String(), RedirectAbove: p.RedirectAbove,
		}
		if p.LocalAddress.IsValid() {
			row.LocalAddress = p.LocalAddress.String()
		}
		rows = append(rows, row)
	}
	return rows
}

// Identities are the rows of `identity print`.
func (v *View) Identities(secrets bool) []control.Identity {
	var rows []control.Identity
	for n, i := range v.Config.Identities {
		row := control.Identity{
			Number: n, Disabled: i.Disabled, Dynamic: i.Dynamic, Peer: i.PeerName, AuthMethod: i.AuthMethod,
			Certificate: i.CertificateName, RemoteCertificate: i.RemoteCertificateName, Key: i.KeyName, RemoteKey: i.RemoteKeyName, Username: i.Username,
			MyID: i.MyID.String(), RemoteID: i.RemoteID.String(), MatchBy: i.MatchBy, GeneratePolicy: i.GeneratePolicy,
			PolicyTemplateGroup: i.PolicyTemplateGroup, ModeConfig: i.ModeConfig, PPKID: i.PPKID, Redirect: i.Redirect.String(), Comment: i.Comment,
		}
		if secrets {
			row.Secret = reveal(i.Secret)
			row.Password = string(i.Password)
			if i.PPKID != "" {
				row.PPKSecret = reveal(i.PPKSecret)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// reveal is a secret as it can be written in the configuration: text, or "0x" and hexadecimal.
func reveal(s secret.Bytes) string {
	text := string(s)
	printable := !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
	if printable && !strings.HasPrefix(text, "0x") {
		return text
	}
	return "0x" + s.Reveal()
}

// Profiles are the rows of `profile print`.
func (v *View) Profiles() []control.Profile {
	var rows []control.Profile
	for i, p := range v.Config.Profiles {
		rows = append(rows, control.Profile{
			Number: i, Default: p.Default, Name: p.Name, HashAlgorithm: join(p.HashAlgorithm), PRFAlgorithm: join(p.PRFAlgorithm),
			EncAlgorithm: join(p.EncAlgorithm), DHGroup: join(p.DHGroup), Lifetime: control.InSeconds(time.Duration(p.Lifetime)), Lifebytes: p.Lifebytes,
			ProposalCheck: p.ProposalCheck, NATTraversal: p.NATTraversal, DPDInterval: control.DPDInterval(control.InSeconds(time.Duration(p.DPDInterval))),
			DPDMaximumFailures: p.DPDMaximumFailures, Comment: p.Comment,
		})
	}
	return rows
}

// Proposals are the rows of `proposal print`.
func (v *View) Proposals() []control.Proposal {
	var rows []control.Proposal
	for i, p := range v.Config.Proposals {
		rows = append(rows, control.Proposal{
			Number: i, Disabled: p.Disabled, Default: p.Default, Name: p.Name, AuthAlgorithms: join(p.AuthAlgorithms),
			EncAlgorithms: join(p.EncAlgorithms), Lifetime: control.InSeconds(time.Duration(p.Lifetime)), Lifebytes: p.Lifebytes,
			PFSGroup: join(p.PFSNames()), ESN: string(p.ESN), ReplayWindow: p.ReplayWindow, TFC: p.TFC, TFCDummies: p.TFCDummies, Comment: p.Comment,
		})
	}
	return rows
}

func join(names []string) string { return strings.Join(names, ",") }

// ActivePeers are the rows of `active-peers print`. They count IKE messages and the inner
// packets of the CHILD SAs.
func (v *View) ActivePeers() []control.ActivePeer {
	var rows []control.ActivePeer
	for i, sa := range v.IKE.SAs() {
		row := control.ActivePeer{
			Number: i, Responder: !sa.Initiator, NATTPeer: sa.NAT, Resumed: sa.Resumed, ID: idText(sa.RemoteID), User: sa.User, Peer: sa.Peer,
			LocalAddress: sa.Local.Addr().String(), RemoteAddress: sa.Remote.Addr().String(), DynamicAddress: addrsText(sa.Leased), DNS: addrsText(sa.DNS), State: sa.State,
			Side: "responder", Uptime: since(v.Now, sa.Established), LastSeen: since(v.Now, sa.LastSeen), Ph2Total: len(sa.Children),
			RxBytes: sa.RxBytes, RxPackets: sa.RxPackets, TxBytes: sa.TxBytes, TxPackets: sa.TxPackets,
			MyID: idText(sa.LocalID), Negotiated: v.negotiated(&sa),
		}
		if sa.Initiator {
			row.Side = "initiator"
		}
		for _, id := range sa.Children {
			c := v.SAs.Child(uint64(id))
			if c == nil {
				continue
			}
			halves := c.Rows(v.Now, false)
			row.RxBytes += halves[0].Bytes
			row.RxPackets += halves[0].Packets
			row.TxBytes += halves[1].Bytes
			row.TxPackets += halves[1].Packets
		}
		rows = append(rows, row)
	}
	return rows
}

// negotiated is what was negotiated for an IKE SA.
func (v *View) negotiated(sa *core.SAInfo) (n control.Negotiated) {
	if sa.Encr != nil {
		n.EncAlgorithm = cmp.Or(sa.Encr.IKEName, sa.Encr.Name)
	}
	if sa.Integ != nil {
		n.HashAlgorithm = sa.Integ.Name
	}
	if sa.PRF != nil {
		n.PRFAlgorithm = sa.PRF.Name
	}
	n.DHGroup = sa.KeyExchange()
	if sa.RekeyAt.After(v.Now) {
		n.RekeyIn = control.Until(control.InSeconds(sa.RekeyAt.Sub(v.Now)))
	}
	return n
}

// idText is an ID without its type; empty if the peer has not sent it yet.
func idText(id core.ID) string {
	if id.Type == core.IDNone {
		return ""
	}
	_, text, _ := strings.Cut(id.String(), ":")
	return text
}

func since(now, then time.Time) control.Seconds {
	if then.IsZero() {
		return 0
	}
	return control.InSeconds(now.Sub(then))
}

// InstalledSAs are the rows of `installed-sa print`.
func (v *View) InstalledSAs(keys bool) []control.InstalledSA {
	var rows []control.InstalledSA
	numbers := v.PolicyNumbers()
	for _, child := range v.SAs.Children() {
		halves := child.Rows(v.Now, keys)
		for i := range halves {
			r := installedRow(&halves[i])
			r.Number = len(rows)
			if n, ok := numbers[core.PolicyRef(child.Policy)]; ok {
				r.Policy = strconv.Itoa(n)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func installedRow(h *sad.Row) control.InstalledSA {
	r := control.InstalledSA{
		AH: h.Protocol == sad.ProtocolAH, ESP: h.Protocol == sad.ProtocolESP, SPI: control.SPI(h.SPI), State: h.State,
		SrcAddress: h.Src.String(), DstAddress: h.Dst.String(),
		AddLifetime: control.Lifetime{Soft: control.InSeconds(h.Soft), Hard: control.InSeconds(h.Hard)}, Addtime: control.Time(h.Added), ExpiresIn: control.InSeconds(h.ExpiresIn),
		CurrentBytes: h.Bytes, CurrentPackets: h.Packets, Replay: h.Replay, Peer: h.Peer,
		EncKey: h.EncKey.Reveal(), AuthKey: h.IntegKey.Reveal(), Line: lineText(h.Line),
	}
	if !h.UDP {
		r.SrcAddress, r.DstAddress = h.Src.Addr().String(), h.Dst.Addr().String()
	}
	if h.Encr != nil {
		r.EncAlgorithm, r.EncKeySize = h.Encr.SAName, 8*h.Encr.KeyLen
	}
	if h.Integ != nil {
		r.AuthAlgorithm = h.Integ.Name
	}
	r.HWAEAD, _ = hardware.Accelerated(h.Encr, h.Integ)
	h.EncKey.Wipe()
	h.IntegKey.Wipe()
	return r
}

// lineText is the line that an SA is for; empty: it is for all.
func lineText(line int) string {
	switch line {
	case 0:
		return ""
	case sad.NoLine:
		return "none"
	}
	return strconv.Itoa(line)
}

func addrsText(list []netip.Addr) string {
	text := make([]string, len(list))
	for i, a := range list {
		text[i] = a.String()
	}
	return strings.Join(text, ",")
}

// ModeConfigs are the rows of `mode-config print`.
func (v *View) ModeConfigs() []control.ModeConfig {
	var rows []control.ModeConfig
	for i, m := range v.Config.ModeConfigs {
		row := control.ModeConfig{
			Number: i, Disabled: m.Disabled, Default: m.Default, Name: m.Name, Responder: m.Responder,
			StaticDNS: addrsText(m.StaticDNS), SystemDNS: m.SystemDNS, SplitInclude: join(texts(m.SplitInclude)), Comment: m.Comment,
		}
		if m.Responder {
			row.AddressPool = m.AddressPool
			if m.Address.IsValid() {
				row.Address = m.Address.String()
			}
			if m.AddressPrefixLength > 0 {
				row.AddressPrefixLength = strconv.Itoa(m.AddressPrefixLength)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// Pools are the rows of `pool print`.
func (v *View) Pools() []control.Pool {
	var rows []control.Pool
	for i, p := range v.Config.Pools {
		row := control.Pool{Number: i, Disabled: p.Disabled, Name: p.Name, Ranges: join(texts(p.Ranges)), NextPool: p.NextPool, Comment: p.Comment}
		row.Used, row.Kept = v.Leases(p.Name)
		rows = append(rows, row)
	}
	return rows
}

// PolicyGroups are the rows of `policy-group print`.
func (v *View) PolicyGroups() []control.PolicyGroup {
	var rows []control.PolicyGroup
	for i, g := range v.Config.Groups {
		rows = append(rows, control.PolicyGroup{Number: i, Disabled: g.Disabled, Default: g.Default, Name: g.Name, Comment: g.Comment})
	}
	return rows
}

func texts[T fmt.Stringer](list []T) []string {
	text := make([]string, len(list))
	for i, x := range list {
		text[i] = x.String()
	}
	return text
}
