package config

import (
	"fmt"
	"log/slog"
	"net/netip"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// Config is one configuration, complete and without contradictions. It is not
// changed after Load.
type Config struct {
	Gateway    Gateway
	Settings   Settings
	Profiles   []*Profile
	Proposals  []*Proposal
	Peers      []*Peer
	Identities []*Identity
	// Policies are in the order of the table. The first is the manual's own
	// template; those with Disabled, Invalid or Template do not handle packets.
	Policies []*Policy
	Groups   []*Group
	Pools    []*Pool
	Users    []*User
	Keys     []*Key // of [[key]]
	// ModeConfigs begin with the manual's own request-only.
	ModeConfigs []*ModeConfig
	// Certificates are the certificate store: our own, the authorities', the peers'.
	Certificates []*Certificate
	Files        []string // all files that were read, the first is the one given to Load

	secretFiles []string // files with secrets, those of other kinds among them
}

// SecretFiles are the files that secrets were read from, the configuration's own among
// them.
func (c *Config) SecretFiles() []string { return c.secretFiles }

// Entry is what all entries of all tables have.
type Entry struct {
	Name     string // empty in tables without names (policy) and where none was written (identity)
	Comment  string
	Disabled bool
	Default  bool   // the manual's own entry, written over or not (flag *)
	Dynamic  bool   // not from a file (flag D)
	File     string // empty: nobody wrote the entry
	Line     int    // of the table's header

	keys map[string]spot // of every key that was written
	bad  map[string]bool // keys whose value could not be taken
}

// spot is a place in a file.
type spot struct {
	file string
	line int
}

func (s spot) String() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

// Written reports whether the key stands in the file; otherwise its value is the default.
func (e *Entry) Written(key string) bool { _, ok := e.keys[key]; return ok }

// at is the place of a key, or of the entry where the key is not written.
func (e *Entry) at(key string) spot {
	if s, ok := e.keys[key]; ok {
		return s
	}
	return spot{e.File, e.Line}
}

// Gateway is [gateway]: what belongs to this host and not to any peer.
type Gateway struct {
	Entry         `json:"-"`
	Tun           string
	MTU           int          // bytes; 0: auto
	Listen        []netip.Addr // empty: all addresses
	Port          uint16       // IKE
	NATTPort      uint16       // IKE and ESP in UDP
	Encapsulation Encapsulation
	Guard         bool   // stop plaintext that never meets the device
	GuardAlways   bool   // also after the gateway has ended
	LANBypass     bool   // what goes everywhere does not go to private networks on this host's links
	Table         uint32 // routing table of our routes
	Mark          uint32 // firewall mark of our own packets
	Control       string // path of the control socket, or name of the pipe
	StateDir      string
	DF            DF   // of outer headers
	ClampMSS      bool // TCP connections through tunnels use segments that fit
	DSCP          int  // of outer headers in tunnel mode, 0 to 63; CopyDSCP: that of the inner packet
	Workers       int  // lines of the data path in each direction, each on a core of its own
	// StrangerMemory is how many bytes those may make the gateway keep who have not
	// proved who they are.
	StrangerMemory int
	LogFormat      LogFormat
	LogLevel       slog.Level
}

// CopyDSCP is dscp = "copy", as RFC 4301 §5.1.2 has it.
const CopyDSCP = -1

// Settings is [settings].
type Settings struct {
	Entry          `json:"-"`
	Accounting     bool
	InterimUpdate  Duration // 0: none
	XAuthUseRADIUS bool
}

// Profile is [[profile]]: phase 1. The lists of names are as written, or the
// manual's default; the lists of rows are what of them this build can run, in
// the same order, never empty.
type Profile struct {
	Entry
	DHGroup       []string
	EncAlgorithm  []string
	HashAlgorithm []string
	PRFAlgorithm  []string // "auto": those of the hash-algorithms

	Groups []*suite.Group
	// KeyExchanges are the members of dh-group: a group, and what is run after it.
	KeyExchanges []suite.KeyExchange

	Encrs  []*suite.Encr
	Integs []*suite.Integ // empty where every cipher is an AEAD
	PRFs   []*suite.PRF

	Lifetime    Duration
	DPDInterval Duration // 0: disable-dpd

	// IKEv2 ignores these.
	DPDMaximumFailures int
	Lifebytes          uint64
	NATTraversal       bool
	Fragmentation      bool     // ours: RFC 7383, in IKEv1 Cisco's
	MOBIKE             bool     // ours: RFC 4555
	Reauth             Duration // ours: how long a proof of identity counts, RFC 4478; 0: as long as the IKE SA
	Resumption         bool     // ours: RFC 5723; the keys of tickets are in the state directory
	ProposalCheck      string
}

// Proposal is [[proposal]]: phase 2. Names and rows as in Profile.
type Proposal struct {
	Entry
	AuthAlgorithms []string // "null": the integrity of the AEADs, which is their own
	EncAlgorithms  []string
	PFSGroup       []string // members as of dh-group, and "none": no exchange of its own

	Encrs  []*suite.Encr
	Integs []*suite.Integ      // for the ciphers that are not AEADs; empty where all are
	PFS    []suite.KeyExchange // in order of preference, "none" without a group; empty: "none" alone
	AnyPFS bool                // pfs-group is not written: PFS is all that would do

	Lifetime     Duration
	Lifebytes    uint64 // 0: no limit
	ESN          ESN
	ReplayWindow int // packets
	// TFC is how many bytes a tunnel's packets look to have at least, RFC 4303 §2.7;
	// 0: as many as they have. TFCToMTU: as many as the device's MTU.
	TFC int
	// TFCDummies is how many dummy packets leave in a second, RFC 4303 §2.6, while an SA
	// that carried packets is silent.
	TFCDummies int
}

// TFCToMTU is tfc = "mtu".
const TFCToMTU = 65535

// Peer is [[peer]].
type Peer struct {
	Entry
	Address            netip.Prefix // masked; not valid if DNSName is set
	DNSName            string       // the address is what the DNS says
	ExchangeMode       string
	Childless          string     // ours: whether the first CHILD SA comes by CREATE_CHILD_SA, RFC 6023: no, prefer or require
	LocalAddress       netip.Addr // zero: the system's choice
	Passive            bool
	OnDemand           bool // ours: connect only when traffic asks
	Port               uint16
	NATTPort           uint16 // ours
	ProfileName        string
	Redirect           Host // ours: newcomers are sent to this gateway
	RedirectAbove      int  // ours: once so many IKE SAs are up with the peer
	SendInitialContact bool

	Profile    *Profile
	Identities []*Identity // the peer's, in the order of the table, without the disabled ones
}

// Initiates reports whether an exchange with the peer can be started from here.
func (p *Peer) Initiates() bool { return !p.Disabled && !p.Passive && p.OneHost() }

// OneHost reports whether the peer is one host, which can be connected to.
func (p *Peer) OneHost() bool { return p.DNSName != "" || p.Address.IsSingleIP() }

// AddressText is the address as it is written.
func (p *Peer) AddressText() string {
	if p.DNSName != "" {
		return p.DNSName
	}
	return p.Address.String()
}

// Identity is [[identity]].
type Identity struct {
	Entry
	AuthMethod          string // how we prove ourselves
	RemoteAuthMethod    string // how the peer does; as we do unless it was written
	PeerName            string
	Redirect            Host // ours: whoever this is, is sent to this gateway
	MyID                ID
	RemoteID            ID
	Secret              secret.Bytes
	GeneratePolicy      string
	MatchBy             string
	IgnoreContact       bool // ignore-initial-contact
	ModeConfig          string
	PolicyTemplateGroup string // "none": no group
	Username            string // of XAuth, with which this host logs in
	Password            secret.Bytes
	PPKID               string // ours: postquantum preshared key, RFC 8784; empty: none
	PPKSecret           secret.Bytes
	PPKRequired         bool

	CertificateName       string // empty: none
	RemoteCertificateName string // empty: none

	KeyName, RemoteKeyName string // empty: none
	Key                    *Key   `json:"-"` // ours, of auth-method "rsa-key"; nil: none
	RemoteKey              *Key   `json:"-"` // the peer's; nil: none

	Certificate       *Certificate `json:"-"` // ours; nil: none
	RemoteCertificate *Certificate `json:"-"` // the peer's; nil: none

	Peer *Peer       `json:"-"`
	Mode *ModeConfig `json:"-"` // nil: none
}

// Generates reports whether policies are made for the identity at run time.
func (i *Identity) Generates() bool { return i.GeneratePolicy != GenerateNo }

// Values of generate-policy.
const (
	GenerateNo       = "no"
	GenerateOverride = "port-override"
	GenerateStrict   = "port-strict"
)

// Policy is [[policy]].
type Policy struct {
	Entry
	Index          int // place in the table, from 0
	Action         Action
	SrcAddress     netip.Prefix // masked, as DstAddress
	DstAddress     netip.Prefix
	SrcPort        Port
	DstPort        Port
	Protocol       Protocol
	Group          string
	IPsecProtocols []string
	Level          Level
	PeerName       string // empty: none
	IdentityName   string // ours: which identity of the peer it is for; empty: any
	ProposalName   string
	Template       bool
	Tunnel         bool
	// AnyMode: a template that does not say tunnel. What is made from it has the mode
	// that the peer asks for.
	AnyMode bool
	// SASrcAddress and SADstAddress are the outer addresses where there is no peer:
	// the SAs of such a policy are added by hand.
	SASrcAddress, SADstAddress netip.Addr
	Invalid                    bool // an earlier policy has the same selectors (flag I)

	Peer     *Peer     // nil: none
	Identity *Identity `json:"-"` // nil: any of the peer's
	Proposal *Proposal // nil only where the policy does not encrypt and its proposal has gone
}

// Works reports whether the policy handles packets.
func (p *Policy) Works() bool { return !p.Disabled && !p.Invalid && !p.Template }

// Manual reports whether the policy encrypts by SAs that are added by hand.
func (p *Policy) Manual() bool {
	return p.Action == Encrypt && !p.Template && p.PeerName == "" && p.SASrcAddress.IsValid()
}

// Dead reports whether the policy encrypts for a peer that is disabled: it keeps
// what it matches from going in clear, and no SA ever comes.
func (p *Policy) Dead() bool {
	return p.Action == Encrypt && !p.Template && p.Peer != nil && p.Peer.Disabled
}

// Group is [[policy-group]].
type Group struct{ Entry }

// Action is what a policy does with a packet.
type Action string

// The actions of a policy.
const (
	Encrypt Action = "encrypt"
	Discard Action = "discard"
	None    Action = "none"
)

// Level is what a policy does where there is no SA.
type Level string

// The levels of a policy.
const (
	Require Level = "require"
	Unique  Level = "unique"
	Use     Level = "use"
)

// DF says what outer headers have as their "don't fragment" bit (RFC 4301 §8.1).
type DF string

// The values of df in [gateway].
const (
	DFCopy  DF = "copy" // that of the inner packet
	DFSet   DF = "set"
	DFClear DF = "clear"
)

// Encapsulation says what carries ESP.
type Encapsulation string

// The values of encapsulation in [gateway].
const (
	Detect Encapsulation = "detect" // UDP where NAT detection says so, and in tunnels between Culverts
	UDP    Encapsulation = "udp"
	Raw    Encapsulation = "raw"
)

// LogFormat is how log lines look.
type LogFormat string

// The values of log-format in [gateway].
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// ESN says which sequence number sizes a proposal accepts (RFC 7296 §3.3.2).
type ESN string

// The values of esn in a proposal.
const (
	ESNNo   ESN = "no"
	ESNYes  ESN = "yes"
	ESNBoth ESN = "both"
)

// Accepts lists the acceptable values of the ESN transform in order of preference.
func (e ESN) Accepts() []bool {
	switch e {
	case ESNNo:
		return []bool{false}
	case ESNYes:
		return []bool{true}
	}
	return []bool{true, false}
}
