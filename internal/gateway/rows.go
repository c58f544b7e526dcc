package gateway

import (
	"strconv"
	"strings"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/internal/control"
	"culvert/sad"
)

// The rows of the print menus, from the configuration in force and from what
// the planes hold.

// phase2 is what a policy's CHILD SAs amount to.
type phase2 struct {
	mature, other, dead int
	endpoint            *sad.Endpoint // of the newest
}

// count leaves out what lingers beside an SA that has replaced it.
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

func policyRows(cfg *config.Config, c *compiled, children []*sad.Child, now time.Time) []control.Policy {
	of := map[core.PolicyRef]phase2{}
	for _, child := range children {
		p := of[core.PolicyRef(child.Policy)]
		switch child.State(now) {
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
	rows := make([]control.Policy, 0, len(cfg.Policies))
	for i, p := range cfg.Policies {
		ph2 := of[c.from[p]] // no policy has the ref 0
		row := control.Policy{
			Number: i, Template: p.Template, Disabled: p.Disabled, Dynamic: p.Dynamic, Invalid: p.Invalid,
			Active: ph2.count() > 0, Default: p.Default,
			SrcAddress: p.SrcAddress.String(), SrcPort: p.SrcPort.String(),
			DstAddress: p.DstAddress.String(), DstPort: p.DstPort.String(), Protocol: p.Protocol.String(),
			Action: string(p.Action), Level: string(p.Level), IPsecProtocols: strings.Join(p.IPsecProtocols, ","),
			Tunnel: p.Tunnel, Proposal: p.ProposalName, Peer: p.PeerName,
			Ph2Count: ph2.count(), Ph2State: ph2.state(), Comment: p.Comment,
		}
		if p.Template {
			row.Group = p.Group
		} else {
			row.SASrcAddress, row.SADstAddress = outer(p, ph2.endpoint)
		}
		rows = append(rows, row)
	}
	return rows
}

// outer is sa-src-address and sa-dst-address: of an SA, else as far as the
// configuration knows them.
func outer(p *config.Policy, e *sad.Endpoint) (src, dst string) {
	if e != nil {
		return e.Local.Addr().String(), e.Remote.Addr().String()
	}
	src, dst = "::", "::" // the manual's word for not known
	if p.Peer != nil && p.Peer.LocalAddress.IsValid() {
		src = p.Peer.LocalAddress.String()
	}
	if p.Peer != nil && p.Peer.Address.IsSingleIP() {
		dst = p.Peer.Address.Addr().String()
	}
	return src, dst
}

func peerRows(cfg *config.Config) []control.Peer {
	var rows []control.Peer
	for i, p := range cfg.Peers {
		row := control.Peer{
			Number: i, Disabled: p.Disabled, Dynamic: p.Dynamic, Responder: p.Passive || !p.Address.IsSingleIP(),
			Name: p.Name, Address: p.Address.String(), Port: int(p.Port), Profile: p.ProfileName,
			ExchangeMode: p.ExchangeMode, Passive: p.Passive, SendInitialContact: p.SendInitialContact, Comment: p.Comment,
		}
		if p.LocalAddress.IsValid() {
			row.LocalAddress = p.LocalAddress.String()
		}
		rows = append(rows, row)
	}
	return rows
}

func identityRows(cfg *config.Config, secrets bool) []control.Identity {
	var rows []control.Identity
	for n, i := range cfg.Identities {
		row := control.Identity{
			Number: n, Disabled: i.Disabled, Dynamic: i.Dynamic, Peer: i.PeerName, AuthMethod: i.AuthMethod,
			Certificate: i.CertificateName, RemoteCertificate: i.RemoteCertificateName,
			MyID: i.MyID.String(), RemoteID: i.RemoteID.String(), MatchBy: i.MatchBy, GeneratePolicy: i.GeneratePolicy,
			PolicyTemplateGroup: i.PolicyTemplateGroup, ModeConfig: i.ModeConfig, PPKID: i.PPKID, Comment: i.Comment,
		}
		if secrets {
			row.Secret = reveal(i.Secret)
			if i.PPKID != "" {
				row.PPKSecret = reveal(i.PPKSecret)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// reveal is a secret as it could be written: as text, or "0x" and hexadecimal.
func reveal(s secret.Bytes) string {
	text := string(s)
	printable := !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
	if printable && !strings.HasPrefix(text, "0x") {
		return text
	}
	return "0x" + s.Reveal()
}

func profileRows(cfg *config.Config) []control.Profile {
	var rows []control.Profile
	for i, p := range cfg.Profiles {
		dpd := p.DPDInterval.String()
		if p.DPDInterval == 0 {
			dpd = "disable-dpd"
		}
		rows = append(rows, control.Profile{
			Number: i, Default: p.Default, Name: p.Name, HashAlgorithm: join(p.HashAlgorithm), PRFAlgorithm: join(p.PRFAlgorithm),
			EncAlgorithm: join(p.EncAlgorithm), DHGroup: join(p.DHGroup), Lifetime: p.Lifetime.String(), Lifebytes: p.Lifebytes,
			ProposalCheck: p.ProposalCheck, NATTraversal: p.NATTraversal, DPDInterval: dpd,
			DPDMaximumFailures: p.DPDMaximumFailures, Comment: p.Comment,
		})
	}
	return rows
}

func proposalRows(cfg *config.Config) []control.Proposal {
	var rows []control.Proposal
	for i, p := range cfg.Proposals {
		rows = append(rows, control.Proposal{
			Number: i, Disabled: p.Disabled, Default: p.Default, Name: p.Name, AuthAlgorithms: join(p.AuthAlgorithms),
			EncAlgorithms: join(p.EncAlgorithms), Lifetime: p.Lifetime.String(), Lifebytes: p.Lifebytes,
			PFSGroup: p.PFSGroup, ESN: string(p.ESN), ReplayWindow: p.ReplayWindow, Comment: p.Comment,
		})
	}
	return rows
}

func join(names []string) string { return strings.Join(names, ",") }

// activePeerRows counts IKE messages and the inner packets of the CHILD SAs.
func activePeerRows(sas []core.SAInfo, t *sad.Table, now time.Time) []control.ActivePeer {
	var rows []control.ActivePeer
	for i, sa := range sas {
		row := control.ActivePeer{
			Number: i, Responder: !sa.Initiator, NATTPeer: sa.NATT, ID: idText(sa.RemoteID), Peer: sa.Peer,
			LocalAddress: sa.Local.Addr().String(), RemoteAddress: sa.Remote.Addr().String(), State: sa.State,
			Side: "responder", Uptime: since(now, sa.Established), LastSeen: since(now, sa.LastSeen), Ph2Total: len(sa.Children),
			RxBytes: sa.RxBytes, RxPackets: sa.RxPackets, TxBytes: sa.TxBytes, TxPackets: sa.TxPackets,
		}
		if sa.Initiator {
			row.Side = "initiator"
		}
		for _, id := range sa.Children {
			c := t.Child(uint64(id))
			if c == nil {
				continue
			}
			halves := c.Rows(now, false)
			row.RxBytes += halves[0].Bytes
			row.RxPackets += halves[0].Packets
			row.TxBytes += halves[1].Bytes
			row.TxPackets += halves[1].Packets
		}
		rows = append(rows, row)
	}
	return rows
}

// idText is an ID without its type; empty where the peer has not said it yet.
func idText(id core.ID) string {
	if id.Type == core.IDNone {
		return ""
	}
	_, text, _ := strings.Cut(id.String(), ":")
	return text
}

func since(now, then time.Time) string {
	if then.IsZero() {
		return control.Duration(0)
	}
	return control.Duration(now.Sub(then))
}

func installedRows(c *compiled, children []*sad.Child, keys bool, now time.Time) []control.InstalledSA {
	var rows []control.InstalledSA
	for _, child := range children {
		halves := child.Rows(now, keys)
		for i := range halves {
			r := installedRow(&halves[i])
			r.Number = len(rows)
			if p := c.rows[core.PolicyRef(child.Policy)]; p != nil {
				r.Policy = strconv.Itoa(p.Index)
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func installedRow(h *sad.Row) control.InstalledSA {
	r := control.InstalledSA{
		ESP: h.Protocol == sad.ProtocolESP, SPI: control.SPI(h.SPI), State: h.State,
		SrcAddress: h.Src.String(), DstAddress: h.Dst.String(),
		EncAlgorithm: h.Encr.SAName, EncKeySize: 8 * h.Encr.KeyLen,
		AddLifetime: control.Lifetime(h.Soft, h.Hard), Addtime: control.Time(h.Added), ExpiresIn: control.Duration(h.ExpiresIn),
		CurrentBytes: h.Bytes, CurrentPackets: h.Packets, Replay: h.Replay, Peer: h.Peer,
		EncKey: h.EncKey.Reveal(), AuthKey: h.IntegKey.Reveal(),
	}
	if !h.UDP {
		r.SrcAddress, r.DstAddress = h.Src.Addr().String(), h.Dst.Addr().String()
	}
	if h.Integ != nil {
		r.AuthAlgorithm = h.Integ.Name
	}
	h.EncKey.Wipe()
	h.IntegKey.Wipe()
	return r
}

// statistics are the manual's counters, then the data path's own, then those of
// this room.
func (g *gateway) statistics() []control.Statistic {
	var rows []control.Statistic
	for _, c := range g.plane.path.Counters().Snapshot() {
		rows = append(rows, control.Statistic{Name: c.Name, Value: c.Value})
	}
	rows = append(rows,
		control.Statistic{Name: "ike-queue-full", Value: g.plane.inbox.dropped.Load()},
		control.Statistic{Name: "ike-unsent", Value: g.plane.unsent})
	for k, n := range g.events.counts {
		if name := core.EventKind(k).String(); n > 0 || name != "unknown" && name != "none" {
			rows = append(rows, control.Statistic{Name: "event-" + name, Value: n})
		}
	}
	return rows
}
