package control

import (
	"context"
	"errors"
	"fmt"
)

// memory is a Backend that is a value: its tables, and what was done to it.
type memory struct {
	policies   []Policy
	peers      []Peer
	identities []Identity
	profiles   []Profile
	proposals  []Proposal
	active     []ActivePeer
	installed  []InstalledSA
	statistics []Statistic
	offloads   []Offload
	report     ReloadReport
	fault      error
	done       []string
}

var errFault = errors.New("site.toml:3: address: write a prefix, such as 192.0.2.1/32\nsite.toml:9: peer: there is no peer site3")

func (m *memory) Policies(context.Context) ([]Policy, error)  { return m.policies, m.fault }
func (m *memory) Peers(context.Context) ([]Peer, error)       { return m.peers, m.fault }
func (m *memory) Profiles(context.Context) ([]Profile, error) { return m.profiles, m.fault }
func (m *memory) ModeConfigs(context.Context) ([]ModeConfig, error) {
	return []ModeConfig{{Default: true, Name: "request-only"}}, m.fault
}
func (m *memory) Pools(context.Context) ([]Pool, error) {
	return []Pool{{Name: "p", Ranges: "192.0.2.2-192.0.2.9", NextPool: "none", Used: 1, Kept: 2}}, m.fault
}
func (m *memory) PolicyGroups(context.Context) ([]PolicyGroup, error) {
	return []PolicyGroup{{Default: true, Name: "default"}}, m.fault
}
func (m *memory) Proposals(context.Context) ([]Proposal, error)     { return m.proposals, m.fault }
func (m *memory) ActivePeers(context.Context) ([]ActivePeer, error) { return m.active, m.fault }
func (m *memory) Offloads(context.Context) ([]Offload, error)       { return m.offloads, m.fault }
func (m *memory) Statistics(context.Context) ([]Statistic, error)   { return m.statistics, m.fault }

// Identities and InstalledSAs give their secrets away whether asked or not:
// the server must not rely on its backend.
func (m *memory) Identities(_ context.Context, _ bool) ([]Identity, error) {
	return append([]Identity(nil), m.identities...), m.fault
}

func (m *memory) InstalledSAs(_ context.Context, _ bool) ([]InstalledSA, error) {
	return append([]InstalledSA(nil), m.installed...), m.fault
}

func (m *memory) ExplainPacket(_ context.Context, q PacketQuery) (PacketExplanation, error) {
	return PacketExplanation{Packet: q.Src, Policy: q.DstPort, Acquire: q.Inbound, Why: []string{q.Protocol}}, m.fault
}

func (m *memory) ExplainPeer(_ context.Context, name string) (PeerExplanation, error) {
	return PeerExplanation{Peer: name, Attempts: []Attempt{{Ours: []string{"a", "b"}, Times: 2}}}, m.fault
}

func (m *memory) Flush(context.Context) (int, error) {
	m.done = append(m.done, "flush")
	return len(m.installed) / 2, m.fault
}

func (m *memory) KillConnections(context.Context) (int, error) {
	m.done = append(m.done, "kill")
	return len(m.active), m.fault
}

func (m *memory) Redirect(_ context.Context, q RedirectQuery) (RedirectReport, error) {
	m.done = append(m.done, fmt.Sprint("redirect ", q))
	return RedirectReport{Sent: len(m.active), Stay: 7}, m.fault
}

func (m *memory) Rekey(_ context.Context, children bool) (int, error) {
	if children {
		m.done = append(m.done, "rekey children")
		return len(m.installed) / 2, m.fault
	}
	m.done = append(m.done, "rekey peers")
	return len(m.active), m.fault
}

func (m *memory) AddSA(_ context.Context, sa ManualSA) ([]string, error) {
	if sa.ESP == nil {
		return nil, errFault
	}
	m.done = append(m.done, fmt.Sprint("add ", sa.Policy, sa.ESP.SPIIn))
	return []string{"mind the key"}, m.fault
}

func (m *memory) DeleteSA(_ context.Context, spi uint32) error {
	m.done = append(m.done, fmt.Sprint("delete ", spi))
	return m.fault
}

func (m *memory) Reload(context.Context) (ReloadReport, error) {
	m.done = append(m.done, "reload")
	return m.report, m.fault
}

func sample() *memory {
	return &memory{
		policies: []Policy{
			{Template: true, Default: true, Group: "default", SrcAddress: "::/0", DstAddress: "::/0", Protocol: "all", Proposal: "default"},
			{Number: 1, Active: true, SrcAddress: "10.1.202.0/24", SrcPort: "any", DstAddress: "10.1.101.0/24", DstPort: "any",
				Protocol: "all", Action: "encrypt", Level: "require", IPsecProtocols: "esp", Tunnel: Yes,
				SASrcAddress: "192.168.90.1", SADstAddress: "192.168.80.1", Proposal: "default", Peer: "site2", Ph2Count: 1, Ph2State: "established"},
		},
		peers:      []Peer{{Name: "site2", Address: "192.168.80.1/32", Port: 500, Profile: "default", ExchangeMode: "ike2", SendInitialContact: true}},
		identities: []Identity{{Peer: "site2", AuthMethod: "pre-shared-key", Secret: "thisisnotasecurepsk", Password: "hunter2", PPKSecret: "0x00ff"}},
		profiles:   []Profile{{Default: true, Name: "default", HashAlgorithm: "sha1", EncAlgorithm: "aes-128", DHGroup: "modp2048", Lifetime: 86400}},
		proposals:  []Proposal{{Default: true, Name: "default", AuthAlgorithms: "sha1", EncAlgorithms: "aes-256-cbc", Lifetime: 1800, ReplayWindow: 128}},
		active:     []ActivePeer{{Responder: true, ID: "192.168.80.1", Peer: "site2", State: "established", Side: "responder", RxBytes: 1 << 60}},
		installed: []InstalledSA{
			{ESP: true, SPI: SPI(0xabc1234), AuthAlgorithm: "sha1", EncAlgorithm: "aes-cbc", EncKeySize: 256, AuthKey: "aabb", EncKey: "ccdd"},
			{Number: 1, ESP: true, SPI: SPI(7), AuthAlgorithm: "sha1", EncAlgorithm: "aes-cbc", EncKeySize: 256, AuthKey: "1122", EncKey: "3344"},
		},
		offloads:   []Offload{{0, "culvert0", "read-tcp-joined", true, "as one"}, {1, "192.0.2.1:4500", "send-udp-joined", false, "each for itself"}},
		statistics: []Statistic{{"in-errors", 0}, {"in-no-states", 18446744073709551615}},
		report:     ReloadReport{Changes: []string{"peer site2: changed"}, Warnings: []string{"site.toml:2: lifebytes: not used by ike2"}},
	}
}
