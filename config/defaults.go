package config

import (
	"log/slog"
	"net/netip"
	"runtime"
	"time"
)

// This file has every default. They are the manual's, also where this build
// cannot run them, which is a fault wherever they would be used.

// DefaultStrangerMemory is the default of Gateway.StrangerMemory.
const DefaultStrangerMemory = 64 << 20

func defaultGateway() Gateway {
	return Gateway{
		Tun:           "culvert0",
		Port:          500,
		NATTPort:      4500,
		Encapsulation: Detect,
		Guard:         true,
		LANBypass:     true,
		Table:         50500,
		Mark:          0xC0150,
		Control:       defaultControl(runtime.GOOS),
		StateDir:      "/var/lib/culvert",
		DF:            DFCopy,
		ClampMSS:      true,
		DSCP:          CopyDSCP,
		Workers:       1,

		StrangerMemory: DefaultStrangerMemory,
		LogFormat:      LogText,
		LogLevel:       slog.LevelInfo,
	}
}

func defaultControl(system string) string {
	switch system {
	case "windows":
		return `\\.\pipe\ProtectedPrefix\Administrators\culvert`
	case "darwin":
		return "/var/run/culvert/control.sock"
	}
	return "/run/culvert/control.sock"
}

func defaultSettings() Settings {
	return Settings{Accounting: true}
}

func defaultProfile() *Profile {
	return &Profile{
		DHGroup:            []string{"modp1024", "modp2048"},
		EncAlgorithm:       []string{"aes-128"},
		HashAlgorithm:      []string{"sha1"},
		PRFAlgorithm:       []string{"auto"},
		Lifetime:           Duration(24 * time.Hour),
		DPDInterval:        Duration(2 * time.Minute),
		DPDMaximumFailures: 5,
		NATTraversal:       true,
		Fragmentation:      true,
		MOBIKE:             true,
		ProposalCheck:      "obey",
	}
}

func defaultProposal() *Proposal {
	return &Proposal{
		AuthAlgorithms: []string{"sha1"},
		EncAlgorithms:  []string{"aes-256-cbc", "aes-192-cbc", "aes-128-cbc"},
		PFSGroup:       []string{"modp1024"},
		Lifetime:       Duration(30 * time.Minute),
		ESN:            ESNBoth,
		ReplayWindow:   128,
	}
}

func defaultPeer() *Peer {
	return &Peer{
		Address:            netip.MustParsePrefix("0.0.0.0/0"),
		Childless:          "no",
		ExchangeMode:       "main",
		Port:               500,
		NATTPort:           4500,
		ProfileName:        "default",
		SendInitialContact: true,
	}
}

func defaultIdentity() *Identity {
	return &Identity{
		AuthMethod:          AuthPSK,
		RemoteAuthMethod:    AuthPSK,
		MyID:                ID{Kind: IDAuto},
		RemoteID:            ID{Kind: IDAuto},
		GeneratePolicy:      "no",
		MatchBy:             "remote-id",
		ModeConfig:          none,
		PolicyTemplateGroup: "default",
	}
}

func defaultPolicy() *Policy {
	return &Policy{
		Action:         Encrypt,
		SrcAddress:     netip.MustParsePrefix("0.0.0.0/32"),
		DstAddress:     netip.MustParsePrefix("0.0.0.0/32"),
		Group:          "default",
		IPsecProtocols: []string{"esp"},
		Level:          Require,
		ProposalName:   "default",
	}
}

func defaultGroup() *Group { return &Group{} }

func defaultModeConfig() *ModeConfig { return &ModeConfig{AddressPool: none, SystemDNS: true} }

// ownEntries are the entries that exist without being written.
func ownEntries(c *Config) {
	own := Entry{Name: "default", Default: true}
	profile, proposal, group, template := defaultProfile(), defaultProposal(), defaultGroup(), defaultPolicy()
	profile.Entry, proposal.Entry, group.Entry = own, own, own
	template.Entry = Entry{Default: true}
	template.Template = true
	template.SrcAddress = netip.MustParsePrefix("::/0")
	template.DstAddress = netip.MustParsePrefix("::/0")
	c.Profiles = append(c.Profiles, profile)
	c.Proposals = append(c.Proposals, proposal)
	c.Groups = append(c.Groups, group)
	c.Policies = append(c.Policies, template)
	request := defaultModeConfig()
	request.Entry = Entry{Name: "request-only", Default: true}
	c.ModeConfigs = append(c.ModeConfigs, request)
}
