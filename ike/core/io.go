package core

import (
	"net/netip"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/spd/selector"
)

// SAID names an IKE SA, ChildID a CHILD SA, for the life of the endpoint. Zero is none.
type (
	SAID    uint64
	ChildID uint64
	AskID   uint64
)

// PolicyRef names a policy to the data plane and in events; it outlives a
// reload that leaves the policy as it is.
type PolicyRef uint32

// Input is one thing that happens to the endpoint.
type Input interface{ input() }

// Datagram is an IKE message from the network, without non-ESP marker. Data is
// borrowed until Handle returns.
type Datagram struct {
	Local, Remote netip.AddrPort
	NATT          bool // arrived on the NAT-T port
	Data          []byte
}

// Acquire says that traffic met a policy that has no SA.
type Acquire struct {
	Policy PolicyRef
	Flow   selector.Pair // the packet itself as selectors (single addresses)
}

// Expire says that the data plane ended or wants to end a CHILD SA: bytes used
// up or sequence numbers near their end. Time is the endpoint's own business.
type Expire struct {
	Child ChildID
	Hard  bool
}

// Used says that the peer's first packet on a CHILD SA was opened, so that the
// peer is known to have it (RFC 7296 §2.8).
type Used struct{ Child ChildID }

// Alive says that authenticated traffic came from the peer, so that no liveness
// check is due (RFC 7296 §2.4).
type Alive struct{ Child ChildID }

// Moved says that the newest authenticated packet of a CHILD SA did not come from
// where the SA's packets go to: a NAT may have given the peer another address or
// port (RFC 7296 §2.23).
type Moved struct {
	Child         ChildID
	Local, Remote netip.AddrPort
}

// PathClaim is an unproven claim that IP packets of more than MTU bytes do not
// arrive where the packets of a CHILD SA go. The peer is asked (PathMTU).
type PathClaim struct {
	Child ChildID
	MTU   int
}

// PathUntried says that long packets leave by a CHILD SA, and that nobody knows whether its path
// takes IP packets of MTU bytes, as its first link does. The peer is asked (PathMTU with Measured).
type PathUntried struct {
	Child ChildID
	MTU   int
}

// Unanswered says that packets that ask for an answer leave by a CHILD SA, and that nothing has
// come by it since.
type Unanswered struct{ Child ChildID }

// Silent says that packets leave by a CHILD SA (Install.Watched) and that none has come by it for a while.
type Silent struct{ Child ChildID }

// Busy says that packets of a line of the data path leave by a CHILD SA that the line shares with others (Install.Line).
// As long as that is so, it comes again each second.
type Busy struct {
	Child ChildID
	Line  int
}

// UnknownSPI says that ESP or AH arrived from Remote for an SPI that no SA here has. Child is a
// CHILD SA between the same two ends; 0: there is none.
type UnknownSPI struct {
	Local, Remote netip.AddrPort
	NATT          bool // it came in UDP
	SPI           uint32
	Child         ChildID
}

// Woke says that the wall clock and the monotonic clock have moved apart by so much: this host has
// slept, or its clock was set. Nobody knows what the peers have given up meanwhile.
type Woke struct{ Apart time.Duration }

// LocalAddrs are the addresses that this host now has and may use towards peers
// (RFC 4555); the whole list, each time that it changes.
type LocalAddrs struct{ Addrs []netip.Addr }

// LocalNets are the addresses and networks that are this host's: its own addresses,
// each as a prefix of one, the networks that it is in, and those that its routes lead
// to, but for default routes. No peer gets a policy for them that nobody
// wrote. The whole list, each time that it changes.
type LocalNets struct{ Nets []netip.Prefix }

// RoutesChanged says that routes or links of this host are others than before: another
// address may lead to a peer, or none.
type RoutesChanged struct{}

// Answer is the result of an Ask.
type Answer struct {
	ID   AskID
	Data secret.Bytes
	Err  error
}

// SPIs hands the endpoint inbound SPIs to give to peers. They are the
// endpoint's until it installs or frees them.
type SPIs struct{ SPIs []uint32 }

// Reconfigure replaces the configuration. SAs whose peer, identity, profile,
// policy and proposal are equal to before stay as they are; others are deleted.
type Reconfigure struct{ Config *Config }

// Command is an operator's wish.
type Command struct {
	Do CommandKind
	SA SAID // KillSA; zero elsewhere
	// RedirectPeers: where to, whom ("": all), and how long they may take to go
	// before they are disconnected (0: for ever).
	To     Gateway
	Peer   string
	Within time.Duration
}

// CommandKind is what an operator asks for.
type CommandKind uint8

const (
	KillSA        CommandKind = iota // delete one IKE SA at the peer and here
	KillAll                          // active-peers kill-connections
	FlushSAs                         // installed-sa flush: delete all CHILD SAs
	Shutdown                         // delete everything, start nothing again
	RekeyIKE                         // rekey IKE SAs now (SA or all)
	RekeyChildren                    // rekey the CHILD SAs now (of SA or all)
	RedirectPeers                    // send the clients that can be sent to another gateway
)

// TicketKeys hands in the keys of session tickets that an earlier life of the
// endpoint put out in KeepTicketKeys, newest first. They are the endpoint's.
// Without it, tickets of that life do not count.
type TicketKeys struct{ Keys []TicketKey }

// TicketKey seals session tickets (RFC 5723).
type TicketKey struct {
	ID     [8]byte
	Secret secret.Bytes // TicketKeyLen bytes
	Since  int64        // Unix seconds: tickets are sealed with it from then on
}

// TicketKeyLen is that of AES-256.
const TicketKeyLen = 32

// Tick carries no news: Deadline has come.
type Tick struct{}

func (Datagram) input()      {}
func (Acquire) input()       {}
func (Expire) input()        {}
func (Used) input()          {}
func (Alive) input()         {}
func (Moved) input()         {}
func (PathClaim) input()     {}
func (PathUntried) input()   {}
func (Unanswered) input()    {}
func (Silent) input()        {}
func (Busy) input()          {}
func (UnknownSPI) input()    {}
func (Woke) input()          {}
func (LocalAddrs) input()    {}
func (LocalNets) input()     {}
func (RoutesChanged) input() {}
func (Answer) input()        {}
func (SPIs) input()          {}
func (Reconfigure) input()   {}
func (Command) input()       {}
func (TicketKeys) input()    {}
func (Tick) input()          {}

// Output is one thing that the endpoint wants done, in order.
type Output interface{ output() }

// Send is an IKE message to the network; the sender adds the non-ESP marker
// where NATT is set. Data is owned by the receiver of the Send.
type Send struct {
	Local, Remote netip.AddrPort
	NATT          bool
	// Whole: the datagram tries whether packets of its length arrive, and is not to
	// be cut on its way.
	Whole bool
	Data  []byte
}

// Protocol of a CHILD SA (RFC 7296 §3.3.1).
type Protocol uint8

// The protocols by their IANA numbers.
const (
	ProtoIKE Protocol = 1
	ProtoAH  Protocol = 2
	ProtoESP Protocol = 3
)

// HalfSA is one direction of a CHILD SA. The keys are the receiver's to wipe.
type HalfSA struct {
	SPI      uint32
	EncKey   secret.Bytes // salt at its end, as derived
	IntegKey secret.Bytes // nil with an AEAD
}

// Install asks for a CHILD SA in the data plane. It comes before the message
// that lets the peer use it.
type Install struct {
	Child  ChildID
	SA     SAID
	Policy PolicyRef
	Peer   string // name of the peer, for people
	// Client names the peer as it proved itself where its policy may serve several at
	// the same addresses (level unique): it is the same for all that one client has, also
	// after rekeys and moves, and mostly when it connects anew. 0: they are not told apart.
	Client uint64
	// Line is whose packets leave by it, where the data path has several lines (Config.Lines): 1 and more name a
	// line that has it for itself. 0: it is for all lines. NoLine: it is for none (RFC 9611).
	Line     int
	Protocol Protocol
	Tunnel   bool
	Encr     *suite.Encr
	Integ    *suite.Integ // nil with an AEAD
	ESN      bool
	In, Out  HalfSA
	// AH goes around it, if AH.Integ is not nil. Both are one CHILD SA here: what names it means both.
	AH Around
	// Standby: the peer may not have the SA yet. It opens at once, but seals
	// only after an Activate.
	Standby       bool
	Pairs         []selector.Pair // what it covers, at least one
	Local, Remote netip.AddrPort  // outer addresses; ports are those of the UDP encapsulation
	UDP           bool            // encapsulate in UDP
	ReplayWindow  int             // packets
	Watched       bool            // it is to be said when nothing comes by it (Silent)
	// TFC is how many bytes inner packets are to be padded to (RFC 4303 §2.7), as far
	// as the path lets them; 0: none, and always where the peer does not accept that.
	// Dummies is how many dummy packets of that length leave in a second (§2.6) while
	// the SA is silent; 0: none.
	TFC, Dummies int
	// Soft and Hard are lifetimes for people and for the data plane's own hard
	// stop; SoftBytes and HardBytes are the data plane's to watch; 0: no limit.
	Soft, Hard           time.Duration
	SoftBytes, HardBytes uint64
}

// Around is an AH SA that goes around an ESP SA (IKEv1).
type Around struct {
	Integ   *suite.Integ
	In, Out HalfSA
}

// NoLine is the line of a CHILD SA that the peer has for a line of its own, while each line here has another: it opens.
const NoLine = -1

// Activate lets the outbound half of an installed CHILD SA seal.
type Activate struct{ Child ChildID }

// Retire stops a CHILD SA from sealing; it still opens, until Remove.
type Retire struct{ Child ChildID }

// Remove takes a CHILD SA out of the data plane, keys and all.
type Remove struct{ Child ChildID }

// Move changes the outer addresses of a CHILD SA (NAT rebinding, MOBIKE).
type Move struct {
	Child         ChildID
	Local, Remote netip.AddrPort
	UDP           bool
}

// PathMTU says that IP packets of more than MTU bytes do not arrive on the way from
// Local to Remote, and that shorter ones do: a PathClaim has turned out to be right. Measured: the peer
// was asked because of a PathUntried, and packets of MTU bytes have arrived, which may be as many as that said.
type PathMTU struct {
	SA            SAID
	Peer          string
	Local, Remote netip.AddrPort
	MTU           int
	Measured      bool
}

// NeedSPIs asks for more SPIs (an SPIs input).
type NeedSPIs struct{ N int }

// FreeSPI gives an SPI back that no SA came to use.
type FreeSPI struct{ SPI uint32 }

// KeepaliveTo wants a NAT keepalive (one byte 0xFF) sent (RFC 3948 §2.3).
type KeepaliveTo struct{ Local, Remote netip.AddrPort }

// KeepTicketKeys are the keys of session tickets, newest first, after one has
// come or gone: what is to be handed in as TicketKeys in the next life. They are
// secret and the receiver's to wipe.
type KeepTicketKeys struct{ Keys []TicketKey }

// Ask is work that the endpoint will not wait for: slow or external. Work is a
// pure function of its own fields; it runs anywhere, and its result comes back
// as an Answer with the same ID. An answer for an SA that is gone is dropped.
type Ask struct {
	ID   AskID
	SA   SAID
	Work Work
}

// Withdraw says that nobody needs the answer to an Ask any more. It is a hint:
// an Ask that nobody has begun to work on is answered with ErrWithdrawn, so that
// what it keeps is given back at once; one that is being worked on is answered
// as ever.
type Withdraw struct{ ID AskID }

// Work is the body of an Ask.
type Work interface {
	// Do computes. The result is secret unless the work says otherwise.
	Do() (secret.Bytes, error)
}

func (Send) output()           {}
func (Install) output()        {}
func (Activate) output()       {}
func (Retire) output()         {}
func (Remove) output()         {}
func (Move) output()           {}
func (PathMTU) output()        {}
func (NeedSPIs) output()       {}
func (FreeSPI) output()        {}
func (KeepaliveTo) output()    {}
func (KeepTicketKeys) output() {}
func (Ask) output()            {}
func (Withdraw) output()       {}
func (Event) output()          {}
