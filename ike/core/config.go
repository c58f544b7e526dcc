package core

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"culvert/crypto/pki"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/spd/selector"
)

// Config is what the endpoint works from: names are resolved, defaults filled
// in, every algorithm a row of crypto/suite. It is never changed after it was
// handed over.
type Config struct {
	Peers    []*Peer
	Policies []*Policy // in the order of the table; only those that encrypt
	// Templates are in the order of the table.
	Templates []*Template
	// Given is what mode-configs give to clients, and Ours the networks behind us that
	// policies, templates and mode-configs name: nobody gets a policy for them by asking.
	Given, Ours []netip.Prefix
	// IKEPort and NATTPort are our own ports, 500 and 4500 by default.
	IKEPort, NATTPort uint16
	// Encapsulation says what carries ESP.
	Encapsulation Encapsulation
	Lines         int // of the data path; each may have CHILD SAs for itself (RFC 9611); 0: one
	MaxHalfOpen   int // IKE SAs in the making, as responder; 0: 1000
	// CookieThreshold is how many half-open SAs turn cookies on; 0: 64.
	CookieThreshold int
	// StrangerBytes is how many bytes those may make the endpoint keep who have not
	// proved who they are; 0: 52 MiB.
	StrangerBytes int
	// MaxDatagram is the longest IP datagram, in bytes, that a protected message is
	// sent in where the peer understands fragments; 0: 1280, at least 160.
	MaxDatagram int
	Trust       *Trust // nil: no authority is trusted
	// Users may log in with a password, by name.
	Users map[string]*User
	// Redirects sends newcomers of a peer, by name, to another gateway;
	// IdentityRedirects sends who turns out to be that one. They stand beside the
	// peers, so that a reload that changes them ends no SA.
	Redirects         map[string]Redirect
	IdentityRedirects map[*Identity]Gateway
	// Where tells people where something was written, as FILE:LINE: entry is a
	// *Peer, *Profile, *Identity, *Policy, *Template or *Proposal of this configuration, key
	// one of its properties, "" for the entry itself. It may be nil, and answers
	// "" where nobody knows. It has no part in what the endpoint decides.
	Where func(entry any, key string) string
}

// Place is Where, also where that is nil.
func (c *Config) Place(entry any, key string) string {
	if c.Where == nil {
		return ""
	}
	return c.Where(entry, key)
}

// Encapsulation says what carries ESP. AH is never carried by UDP.
type Encapsulation uint8

const (
	EncapUDP    Encapsulation = iota // always UDP: a peer is made to believe in a NAT
	EncapDetect                      // UDP where NAT detection finds a NAT, and in tunnels to those of our kind
	EncapRaw                         // never UDP
)

// Version of IKE a peer speaks.
type Version uint8

// The versions that this build has.
const (
	IKEv1 Version = 1
	IKEv2 Version = 2
)

// Mode is how phase 1 of an IKEv1 peer goes; it has no meaning in IKEv2.
type Mode uint8

// The modes of phase 1.
const (
	ModeMain       Mode = iota // RFC 2409 §5, "identity protection"
	ModeAggressive             // RFC 2409 §5
	ModeBase                   // draft-ietf-ipsec-ike-base-mode
)

// Peer is the manual's peer with its profile and identities.
type Peer struct {
	Name    string
	Address netip.Prefix // whom it matches; a single address can be initiated to
	DNSName string       // if set, the address is what the DNS says, and Address is not valid
	Local   netip.Addr   // local-address; zero: the system's choice
	Port    uint16       // where the remote listens
	// NATTPort is where it listens for NAT traversal; 0: 4500. Where it is Port, the
	// peer is spoken to there from the first message on, with the non-ESP marker.
	NATTPort uint16
	Version  Version
	Mode     Mode // of IKEv1
	Passive  bool
	// OnDemand: connect when traffic asks, and not before.
	OnDemand bool
	// Childless: whether IKE_AUTH goes without CHILD SA.
	Childless Childless
	// InitialContact: send INITIAL_CONTACT when there is no other SA with the peer.
	InitialContact bool
	Profile        Profile
	Identities     []*Identity // in the order of the table, at least one
}

// Childless is whether IKE_AUTH makes no CHILD SA, so that each has a key exchange of
// its own (RFC 6023).
type Childless uint8

const (
	ChildlessNo      Childless = iota // not as initiator; as responder what the peer does
	ChildlessPrefer                   // as initiator where the peer can
	ChildlessRequire                  // in both roles, or no CHILD SA
)

// Initiates reports whether the endpoint may start an exchange with the peer.
func (p *Peer) Initiates() bool { return !p.Passive && (p.DNSName != "" || p.Address.IsSingleIP()) }

// NATT is the peer's port for NAT traversal.
func (p *Peer) NATT() uint16 {
	if p.NATTPort == 0 {
		return nattPort
	}
	return p.NATTPort
}

// nattPort is where NAT traversal is by the standard (RFC 3948 §2).
const nattPort = 4500

// StartsAt is from which of our ports the peer is called.
func (c *Config) StartsAt(p *Peer) uint16 {
	if p.Port == p.NATT() {
		return c.NATTPort
	}
	return c.IKEPort
}

// KeptUp reports whether the endpoint connects to the peer unasked.
func (p *Peer) KeptUp() bool { return p.Initiates() && !p.OnDemand }

// Profile is phase 1: what to offer for the IKE SA, in order of preference.
type Profile struct {
	Name     string
	Encrs    []*suite.Encr
	PRFs     []*suite.PRF
	Integs   []*suite.Integ // for ciphers that are not AEADs
	Groups   []*suite.Group
	Lifetime time.Duration
	// Reauth is how long the peers' proofs count; 0: as long as the SA.
	Reauth time.Duration
	// DPD is how long a peer may be silent before it is asked; 0: never asked.
	DPD time.Duration
	// Fragmentation: long messages travel in fragments of their own (RFC 7383; in IKEv1 Cisco's).
	Fragmentation bool
	// MOBIKE: the SA moves with the addresses of both ends (RFC 4555).
	MOBIKE bool
	// Resumption: an IKE SA that was lost is resumed with a ticket (RFC 5723).
	Resumption bool
	// KeyExchanges are the groups with what is run after each (RFC 9370), in order
	// of preference; nil: Groups, and nothing after them.
	KeyExchanges []suite.KeyExchange

	// Of IKEv1 alone: NoNATT switches NAT traversal off (RFC 3947), and DPDFailures is how many questions
	// in a row a peer may leave without an answer before it is taken for dead.
	NoNATT      bool
	DPDFailures int
	// Lifebytes is said in phase 1 and has no other meaning; Check is what is done with lifetimes of phase 2 that a peer wants.
	Lifebytes uint64
	Check     ProposalCheck
}

// ProposalCheck is what an IKEv1 responder does with the lifetime that an initiator wants for a CHILD SA.
type ProposalCheck uint8

// The values of proposal-check.
const (
	CheckObey   ProposalCheck = iota // it counts
	CheckStrict                      // it counts, but no longer than ours
	CheckClaim                       // the shorter one counts, and the initiator is told
	CheckExact                       // it has to be ours
)

// AuthMethod is how one side proves itself.
type AuthMethod uint8

// The ways to authenticate.
const (
	AuthPSK       AuthMethod = 1
	AuthSignature AuthMethod = 2
	// AuthByUser is of an end of IKEv1 that proves nothing in phase 1, and is believed once XAuth says which user it is.
	AuthByUser AuthMethod = 3
	// AuthRawKey is of IKEv1: an RSA key without certificate, which the other end has the public key of.
	AuthRawKey AuthMethod = 4
)

// Identity is the manual's identity.
type Identity struct {
	Auth       AuthMethod // how we prove ourselves
	RemoteAuth AuthMethod // how the peer does; 0: as we do
	MyID       ID         // Type 0: auto (the local address, or the first name of our certificate)
	RemoteID   ID         // Type 0: auto (any); Type DN without Data: any DN
	// Pattern: RemoteID stands for many IDs: "*.example.net" for each host below that name, "*@example.net" for each user
	// there, a pattern of pki.ParsePattern for each name that it matches.
	Pattern bool
	Ignore  bool // remote-id=ignore
	// IgnoreContact: INITIAL_CONTACT of the peer ends nothing, since several devices
	// are one peer.
	IgnoreContact bool
	Secret        secret.Bytes
	Own           *Credential       // to sign with
	RemoteCert    *x509.Certificate // remote-certificate: the only one that the peer may have
	MatchCert     bool              // match-by=certificate: chosen by RemoteCert, whatever ID the peer has
	OwnKey        *RawKey           // to sign with, by AuthRawKey
	RemoteKey     *RawKey           // what the peer signs with, by AuthRawKey
	PPK           *PPK              // nil: none
	XAuth         *XAuth            // nil: phase 1 is all, and always in IKEv2
	Mode          *ModeConfig       // nil: none
	Generate      Generate
	Group         string // policy-template-group
}

// RemoteText is remote-id as the configuration writes it.
func (i *Identity) RemoteText() string {
	text := i.RemoteID.String()
	switch {
	case i.Ignore:
		return "ignore"
	case i.Pattern && i.RemoteID.Type == IDDN:
		return clipped("dn:"+printable(pki.PatternText([]byte(i.RemoteID.Data))), maxID)
	case i.Pattern:
		kind, _, _ := strings.Cut(text, ":")
		return clipped(kind+":"+printable(i.RemoteID.Data), maxID)
	}
	return text
}

// PPK is a postquantum preshared key (RFC 8784).
type PPK struct {
	ID       string // PPK_ID of type PPK_ID_FIXED: the bytes
	Secret   secret.Bytes
	Required bool // no SA without it
}

// HasPPK reports whether an identity of the peer has a PPK.
func (p *Peer) HasPPK() bool {
	for _, i := range p.Identities {
		if i.PPK != nil {
			return true
		}
	}
	return false
}

// IDType is RFC 7296 §3.5.
type IDType uint8

// The ID types by their IANA numbers; IDNone is "any".
const (
	IDNone  IDType = 0
	IDIPv4  IDType = 1
	IDFQDN  IDType = 2
	IDUser  IDType = 3
	IDIPv6  IDType = 5
	IDDN    IDType = 9
	IDKeyID IDType = 11
)

// ID is an identity as it stands in an ID payload. Comparable.
type ID struct {
	Type IDType
	Data string // the bytes
}

// Policy is one that encrypts, as the endpoint sees it. Proposals are the
// alternatives of its proposal, in order.
type Policy struct {
	Ref      PolicyRef
	Index    int // place in the table, for people
	Peer     *Peer
	Identity *Identity // one of the peer's: nobody else of the peer gets the policy; nil: whoever is the peer
	Pair     selector.Pair
	Tunnel   bool
	Unique   bool
	Protocol Protocol
	AH       bool // AH goes around its ESP, which only IKEv1 can negotiate
	Proposal Proposal
	Made     *Made // nil: of the table
}

// Proposal is the manual's proposal: what to offer for a CHILD SA.
type Proposal struct {
	Name         string
	Encrs        []*suite.Encr
	Integs       []*suite.Integ
	PFS          []suite.KeyExchange // alternatives in order of preference, NONE as one without a Group; empty: no key exchange of its own
	AnyPFS       bool                // PFS is all that would do, and not a list that somebody wrote
	ESN          []bool              // acceptable values in order of preference
	Lifetime     time.Duration
	Lifebytes    uint64
	ReplayWindow int
	TFC, Dummies int // see Install
}

// Groups are the groups of the key exchanges, each once, in order.
func (p *Proposal) Groups() (groups []*suite.Group) {
	for _, x := range p.PFS {
		if x.Group != nil && !slices.Contains(groups, x.Group) {
			groups = append(groups, x.Group)
		}
	}
	return groups
}

// String writes the ID as the configuration does: "fqdn:gw.example.net". A peer may send 64 KiB as its ID; what is
// longer than any that is written anywhere is cut.
func (id ID) String() string { return clipped(id.text(), maxID) }

const maxID = 400

func (id ID) text() string {
	switch id.Type {
	case IDNone:
		return "auto"
	case IDIPv4, IDIPv6:
		if a, ok := netip.AddrFromSlice([]byte(id.Data)); ok {
			return "address:" + a.String()
		}
	case IDFQDN:
		return "fqdn:" + writtenName(id.Data)
	case IDUser:
		return "user-fqdn:" + writtenName(id.Data)
	case IDKeyID:
		return "key-id:" + written(id.Data)
	case IDDN:
		if id.Data == "" {
			return "dn"
		}
		return "dn:" + printable(pki.DNText([]byte(id.Data)))
	}
	return fmt.Sprintf("type-%d:%x", id.Type, id.Data)
}

// writtenName is written for a name whose * would stand for anything in remote-id.
func writtenName(s string) string {
	if strings.Contains(s, "*") {
		return "#" + hex.EncodeToString([]byte(s))
	}
	return written(s)
}

// written is the value of an ID as it can be written in the configuration: what
// is no text as # and hexadecimal digits.
func written(s string) string {
	if strings.HasPrefix(s, "#") || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "#" + hex.EncodeToString([]byte(s))
	}
	return printable(s)
}

// printable keeps a peer's bytes from reaching a terminal as they are.
func printable(s string) string {
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}
