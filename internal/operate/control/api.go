package control

import (
	"context"
	"encoding/json"
	"time"
)

// Policy is a line of `policy print`.
type Policy struct {
	Number   int  `json:"number"` // place in the table: the order of precedence
	Template bool `json:"template" flag:"T"`
	Disabled bool `json:"disabled" flag:"X"`
	Dynamic  bool `json:"dynamic" flag:"D"`
	Invalid  bool `json:"invalid" flag:"I"`
	Active   bool `json:"active" flag:"A"`
	Default  bool `json:"default" flag:"*"`

	Group          string `json:"group"` // of a template; empty otherwise
	SrcAddress     string `json:"src-address"`
	SrcPort        string `json:"src-port"` // a number or "any"
	DstAddress     string `json:"dst-address"`
	DstPort        string `json:"dst-port"`
	Protocol       string `json:"protocol"` // a name, a number or "all"
	Action         string `json:"action"`
	Level          string `json:"level"`
	IPsecProtocols string `json:"ipsec-protocols"`
	Tunnel         Choice `json:"tunnel"` // open: a template that leaves it to the peer
	SASrcAddress   string `json:"sa-src-address"`
	SADstAddress   string `json:"sa-dst-address"`
	Proposal       string `json:"proposal"`
	Peer           string `json:"peer"`
	Ph2Count       int    `json:"ph2-count"` // CHILD SAs of the policy
	Ph2State       string `json:"ph2-state"` // "no-phase2", "established" or "expired"
	Comment        string `json:"comment"`
}

// Choice is a boolean that may be left open: true, false or null in JSON.
type Choice uint8

// The values of a Choice.
const (
	Open Choice = iota
	No
	Yes
)

// Chosen is a choice that was made.
func Chosen(yes bool) Choice {
	if yes {
		return Yes
	}
	return No
}

// String is "yes", "no" or "any".
func (c Choice) String() string {
	switch c {
	case No:
		return "no"
	case Yes:
		return "yes"
	}
	return "any"
}

func (c Choice) MarshalJSON() ([]byte, error) {
	switch c {
	case No:
		return []byte("false"), nil
	case Yes:
		return []byte("true"), nil
	}
	return []byte("null"), nil
}

func (c *Choice) UnmarshalJSON(b []byte) error {
	var yes *bool
	if err := json.Unmarshal(b, &yes); err != nil {
		return err
	}
	*c = Open
	if yes != nil {
		*c = Chosen(*yes)
	}
	return nil
}

// Peer is a line of `peer print`.
type Peer struct {
	Number    int  `json:"number"`
	Disabled  bool `json:"disabled" flag:"X"`
	Dynamic   bool `json:"dynamic" flag:"D"`
	Responder bool `json:"responder" flag:"R"` // never initiates

	Name               string `json:"name"`
	Address            string `json:"address"` // prefix or DNS name, as configured
	LocalAddress       string `json:"local-address"`
	Port               int    `json:"port"`
	NATTPort           int    `json:"natt-port"`
	Profile            string `json:"profile"`
	ExchangeMode       string `json:"exchange-mode"`
	Childless          string `json:"childless"` // "no", "prefer" or "require"
	Passive            bool   `json:"passive"`
	OnDemand           bool   `json:"on-demand"`
	SendInitialContact bool   `json:"send-initial-contact"`
	Redirect           string `json:"redirect"`       // the gateway that newcomers are sent to; empty: none
	RedirectAbove      int    `json:"redirect-above"` // IKE SAs that are served before
	Comment            string `json:"comment"`
}

// Identity is a line of `identity print`. Secret, Password and PPKSecret are
// empty, and absent from JSON, unless they were asked for.
type Identity struct {
	Number   int  `json:"number"`
	Disabled bool `json:"disabled" flag:"X"`
	Dynamic  bool `json:"dynamic" flag:"D"`

	Peer                string `json:"peer"`
	AuthMethod          string `json:"auth-method"`
	EAPMethods          string `json:"eap-methods"` // separated by commas
	MyID                string `json:"my-id"`
	RemoteID            string `json:"remote-id"`
	MatchBy             string `json:"match-by"`
	Certificate         string `json:"certificate"`
	RemoteCertificate   string `json:"remote-certificate"`
	Key                 string `json:"key"`
	RemoteKey           string `json:"remote-key"`
	Username            string `json:"username"`
	Password            string `json:"password,omitempty"`
	Secret              string `json:"secret,omitempty"`
	PPKID               string `json:"ppk-id"`
	PPKSecret           string `json:"ppk-secret,omitempty"`
	GeneratePolicy      string `json:"generate-policy"`
	PolicyTemplateGroup string `json:"policy-template-group"`
	ModeConfig          string `json:"mode-config"`
	Redirect            string `json:"redirect"` // the gateway that it is sent to; empty: none
	NotrackChain        string `json:"notrack-chain"`
	Comment             string `json:"comment"`
}

// Profile is a line of `profile print`: what phase 1 offers. Lists are
// separated by commas, in order of preference.
type Profile struct {
	Number  int  `json:"number"`
	Default bool `json:"default" flag:"*"`

	Name               string      `json:"name"`
	HashAlgorithm      string      `json:"hash-algorithm"`
	PRFAlgorithm       string      `json:"prf-algorithm"`
	EncAlgorithm       string      `json:"enc-algorithm"`
	DHGroup            string      `json:"dh-group"`
	Lifetime           Seconds     `json:"lifetime"`
	Lifebytes          uint64      `json:"lifebytes"`
	ProposalCheck      string      `json:"proposal-check"`
	NATTraversal       bool        `json:"nat-traversal"`
	DPDInterval        DPDInterval `json:"dpd-interval"`
	DPDMaximumFailures int         `json:"dpd-maximum-failures"`
	Comment            string      `json:"comment"`
}

// Proposal is a line of `proposal print`: what phase 2 offers.
type Proposal struct {
	Number   int  `json:"number"`
	Disabled bool `json:"disabled" flag:"X"`
	Default  bool `json:"default" flag:"*"`

	Name           string  `json:"name"`
	AuthAlgorithms string  `json:"auth-algorithms"`
	EncAlgorithms  string  `json:"enc-algorithms"`
	Lifetime       Seconds `json:"lifetime"`
	Lifebytes      uint64  `json:"lifebytes"`
	PFSGroup       string  `json:"pfs-group"`
	ESN            string  `json:"esn"`           // "no", "yes" or "both"
	ReplayWindow   int     `json:"replay-window"` // packets
	TFC            int     `json:"tfc"`           // bytes that packets are padded to; 65535: the MTU
	TFCDummies     int     `json:"tfc-dummies"`   // a second
	Comment        string  `json:"comment"`
}

// ModeConfig is a line of `mode-config print`. Lists are separated by commas.
type ModeConfig struct {
	Number   int  `json:"number"`
	Disabled bool `json:"disabled" flag:"X"`
	Default  bool `json:"default" flag:"*"`

	Name                string `json:"name"`
	Responder           bool   `json:"responder"`
	Address             string `json:"address"`
	AddressPool         string `json:"address-pool"`
	AddressPrefixLength string `json:"address-prefix-length"` // empty: the whole address
	SplitInclude        string `json:"split-include"`
	SystemDNS           bool   `json:"system-dns"`
	StaticDNS           string `json:"static-dns"`
	Comment             string `json:"comment"`
}

// Pool is a line of `pool print`.
type Pool struct {
	Number   int  `json:"number"`
	Disabled bool `json:"disabled" flag:"X"`

	Name     string `json:"name"`
	Ranges   string `json:"ranges"` // separated by commas
	NextPool string `json:"next-pool"`
	Used     int    `json:"used"` // addresses in use
	Kept     int    `json:"kept"` // addresses kept for who had them
	Comment  string `json:"comment"`
}

// PolicyGroup is a line of `policy-group print`.
type PolicyGroup struct {
	Number   int  `json:"number"`
	Disabled bool `json:"disabled" flag:"X"`
	Default  bool `json:"default" flag:"*"`

	Name    string `json:"name"`
	Comment string `json:"comment"`
}

// ActivePeer is a line of `active-peers print`: one IKE SA.
type ActivePeer struct {
	Number    int  `json:"number"`
	Responder bool `json:"responder" flag:"R"` // the remote side initiated
	NATTPeer  bool `json:"natt-peer" flag:"N"` // there is a NAT between the two ends, or the peer says so
	Resumed   bool `json:"resumed" flag:"S"`   // from an earlier IKE SA, with a session ticket

	ID             string  `json:"id"`   // what the remote identified itself as
	User           string  `json:"user"` // who logged in with a password (XAuth); empty: nobody had to
	Peer           string  `json:"peer"` // the peer entry it matched
	LocalAddress   string  `json:"local-address"`
	RemoteAddress  string  `json:"remote-address"`
	DynamicAddress string  `json:"dynamic-address"` // assigned by mode-config
	DNS            string  `json:"dns"`             // servers that came with it, to us
	State          string  `json:"state"`
	Side           string  `json:"side"` // "initiator" or "responder"
	Uptime         Seconds `json:"uptime"`
	LastSeen       Seconds `json:"last-seen"`
	Ph2Total       int     `json:"ph2-total"`
	RxBytes        uint64  `json:"rx-bytes"`
	RxPackets      uint64  `json:"rx-packets"`
	TxBytes        uint64  `json:"tx-bytes"`
	TxPackets      uint64  `json:"tx-packets"`

	MyID string `json:"my-id" detail:"only"` // what we identified ourselves as
	Negotiated
}

// Negotiated is what was negotiated for an IKE SA, by the names of the properties of a profile. Fields are empty
// until it is chosen.
type Negotiated struct {
	EncAlgorithm  string `json:"enc-algorithm" detail:"only"`
	HashAlgorithm string `json:"hash-algorithm" detail:"only"` // empty if enc-algorithm has built-in integrity
	PRFAlgorithm  string `json:"prf-algorithm" detail:"only"`
	DHGroup       string `json:"dh-group" detail:"only"` // with additional key exchanges: "x25519+ml-kem-768"
	RekeyIn       Until  `json:"rekey-in" detail:"only"` // our next rekey
}

// InstalledSA is a line of `installed-sa print`: one direction of a CHILD SA.
// AuthKey and EncKey are empty, and absent from JSON, unless they were asked for.
type InstalledSA struct {
	Number int  `json:"number"`
	HWAEAD bool `json:"hw-aead" flag:"H"`
	AH     bool `json:"AH" flag:"A"`
	ESP    bool `json:"ESP" flag:"E"`

	SPI            string   `json:"spi"`         // see SPI
	SrcAddress     string   `json:"src-address"` // with a port when in UDP
	DstAddress     string   `json:"dst-address"`
	State          string   `json:"state"` // "larval", "mature", "dying" or "dead"
	AuthAlgorithm  string   `json:"auth-algorithm"`
	EncAlgorithm   string   `json:"enc-algorithm"`
	EncKeySize     int      `json:"enc-key-size"`       // bits
	AuthKey        string   `json:"auth-key,omitempty"` // hexadecimal
	EncKey         string   `json:"enc-key,omitempty"`  // hexadecimal
	AddLifetime    Lifetime `json:"add-lifetime"`
	Addtime        string   `json:"addtime"` // see Time
	ExpiresIn      Seconds  `json:"expires-in"`
	CurrentBytes   uint64   `json:"current-bytes"`
	CurrentPackets uint64   `json:"current-packets"`
	Replay         int      `json:"replay"` // replay window in packets
	Peer           string   `json:"peer"`
	Policy         string   `json:"policy"`         // number of the policy it was made for
	Line           string   `json:"line,omitempty"` // the worker that has it for itself; "none": only the peer uses it; empty: all do
}

// ManualSA is an SA, or AH around ESP, to be added by hand to a policy without
// peer: both directions of it. In is from the peer to here.
type ManualSA struct {
	Policy       int           `json:"policy"` // number in `policy print`
	ESP          *ManualKeys   `json:"esp,omitempty"`
	AH           *ManualKeys   `json:"ah,omitempty"`
	UDP          bool          `json:"udp"` // ESP in UDP
	ESN          bool          `json:"esn"`
	ReplayWindow int           `json:"replay-window"` // packets, 32 to 4096; 0: none
	Lifetime     time.Duration `json:"lifetime"`      // 0: none
	Lifebytes    uint64        `json:"lifebytes"`     // 0: none
}

// ManualKeys is one protocol of a ManualSA. Keys are hexadecimal, an AEAD's with
// its salt behind the key.
type ManualKeys struct {
	SPIIn         uint32 `json:"spi-in"`
	SPIOut        uint32 `json:"spi-out"`
	EncAlgorithm  string `json:"enc-algorithm,omitempty"`
	EncKeyIn      string `json:"enc-key-in,omitempty"`
	EncKeyOut     string `json:"enc-key-out,omitempty"`
	AuthAlgorithm string `json:"auth-algorithm,omitempty"`
	AuthKeyIn     string `json:"auth-key-in,omitempty"`
	AuthKeyOut    string `json:"auth-key-out,omitempty"`
}

// Statistic is one counter of `statistics print`.
type Statistic struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Offload is a line of `offload print`: something that the system may do for many packets at once.
type Offload struct {
	Number int    `json:"number"`
	Place  string `json:"place"` // the device, or the address of a socket
	Name   string `json:"name"`
	InUse  bool   `json:"in-use"`
	Detail string `json:"detail"` // what it does, or why it is not in use
}

// ReloadReport tells what a reload did. Each line is meant for a person.
type ReloadReport struct {
	Changes  []string `json:"changes"`  // "peer site2: changed; its SAs are established again"
	Warnings []string `json:"warnings"` // of the configuration that is now in force
}

// RedirectQuery says who is to go, and where to.
type RedirectQuery struct {
	To     string        `json:"to"`             // address or DNS name
	Peer   string        `json:"peer,omitempty"` // name of a peer; empty: all
	Within time.Duration `json:"within"`         // then who is still here is disconnected; 0: nobody is
}

// RedirectReport counts IKE SAs.
type RedirectReport struct {
	Sent int `json:"sent"`
	Stay int `json:"stay"` // of clients that do not understand it, and of peers that this gateway connects to
}

// Backend is the gateway as the local API sees it. Methods may be called from
// several goroutines at once and return rows that the caller owns, in the order
// in which they are printed. An error is shown to the user as it is.
type Backend interface {
	Policies(ctx context.Context) ([]Policy, error)
	Peers(ctx context.Context) ([]Peer, error)
	// Identities fills in secrets only if showSecrets is set.
	Identities(ctx context.Context, showSecrets bool) ([]Identity, error)
	Profiles(ctx context.Context) ([]Profile, error)
	Proposals(ctx context.Context) ([]Proposal, error)
	ModeConfigs(ctx context.Context) ([]ModeConfig, error)
	Pools(ctx context.Context) ([]Pool, error)
	PolicyGroups(ctx context.Context) ([]PolicyGroup, error)
	ActivePeers(ctx context.Context) ([]ActivePeer, error)
	// InstalledSAs fills in keys only if showSecrets is set.
	InstalledSAs(ctx context.Context, showSecrets bool) ([]InstalledSA, error)
	// Statistics returns every counter of StatisticNames in that order; more may follow.
	Statistics(ctx context.Context) ([]Statistic, error)
	Offloads(ctx context.Context) ([]Offload, error)

	// Flush removes every CHILD SA and tells the peers; it returns how many
	// there were, counting a pair as one.
	Flush(ctx context.Context) (int, error)
	// KillConnections ends every IKE SA and tells the peers; it returns how many there were.
	KillConnections(ctx context.Context) (int, error)
	// Redirect sends clients to another gateway (RFC 5685). An error names what is
	// wrong with the query; nobody was sent then.
	Redirect(ctx context.Context, q RedirectQuery) (RedirectReport, error)
	// Rekey replaces every CHILD SA (children) or every IKE SA and returns how many
	// exchanges were started; it does not wait for the answers.
	Rekey(ctx context.Context, children bool) (int, error)
	// ExplainPacket changes and counts nothing.
	ExplainPacket(ctx context.Context, q PacketQuery) (PacketExplanation, error)
	ExplainPeer(ctx context.Context, name string) (PeerExplanation, error)
	// Reload reads the configuration again. On an error the old one stays in force.
	Reload(ctx context.Context) (ReloadReport, error)
	// AddSA adds an SA by hand; what it returns are warnings. DeleteSA removes the
	// one that has an inbound SPI, AH and ESP of a bundle together.
	AddSA(ctx context.Context, sa ManualSA) ([]string, error)
	DeleteSA(ctx context.Context, spi uint32) error
}

// StatisticNames are the counters of the manual's statistics menu in its order.
func StatisticNames() []string {
	return []string{
		"in-errors", "in-buffer-errors", "in-header-errors", "in-no-states",
		"in-state-protocol-errors", "in-state-mode-errors", "in-state-sequence-errors",
		"in-state-expired", "in-state-mismatches", "in-state-invalid",
		"in-template-mismatches", "in-no-policies", "in-policy-blocked", "in-policy-errors",
		"out-errors", "out-bundle-errors", "out-bundle-check-errors", "out-no-states",
		"out-state-protocol-errors", "out-state-mode-errors", "out-state-sequence-errors",
		"out-state-expired", "out-policy-blocked", "out-policy-dead", "out-policy-errors",
	}
}
