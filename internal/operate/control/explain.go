package control

import (
	"context"
	"net/http"
)

// PacketQuery is a packet to explain. It is not sent.
type PacketQuery struct {
	Src      string `json:"src"`
	Dst      string `json:"dst"`
	Protocol string `json:"protocol"` // a name or a number
	SrcPort  int    `json:"src-port"` // of ICMP the type
	DstPort  int    `json:"dst-port"` // of ICMP the code
	Fragment bool   `json:"fragment"` // not the first one, so it shows no ports
	Inbound  bool   `json:"inbound"`  // it arrives through an SA: Src is at the peer
	SPI      string `json:"spi"`      // inbound: of which SA; empty: the newest that covers it
}

// PacketExplanation is what the gateway and the host would do with the packet now, and why.
type PacketExplanation struct {
	Packet string `json:"packet"` // for people
	// Verdict is "protect", "deliver", "hold", "drop", "pass-unprotected", "local" (for this host
	// itself) or "unknown" (Why says what could not be read).
	Verdict string `json:"verdict"`
	// Assumes is what the verdict takes for granted, because this system cannot be asked; empty: nothing.
	Assumes string `json:"assumes"`
	// Counter is the row of `statistics print` that counts it, if it reaches
	// the data path; empty if it gets through.
	Counter string `json:"counter"`

	Policy  int    `json:"policy"`         // number; -1: none matches
	Where   string `json:"where"`          // FILE:LINE of the policy
	Match   string `json:"match"`          // its selectors
	Action  string `json:"action"`         // empty without a policy
	Level   string `json:"level"`          // of a policy that encrypts
	Peer    string `json:"peer"`           // of the policy, or of the SA
	SPI     string `json:"spi"`            // of the SA in the direction of the packet; empty: there is none
	SAState string `json:"state"`          // as `installed-sa print` has it
	SACover string `json:"covers"`         // the SA's selectors
	Line    string `json:"line,omitempty"` // as `installed-sa print` has it
	SrcAddr string `json:"sa-src"`         // outer addresses in the direction of the packet
	DstAddr string `json:"sa-dst"`         //
	Acquire bool   `json:"acquire"`        // the IKE daemon would be asked for an SA
	// Device is the device to which the kernel routes the packet, the gateway's own for
	// traffic to be protected; empty if the kernel cannot be asked or drops it.
	Device string `json:"device"`
	// Differences lists what of this host is not as the gateway has set it up.
	Differences []string `json:"differences"`

	Why []string `json:"why"` // step by step, the decision last
}

// PeerExplanation is the state of a peer and its last attempts.
type PeerExplanation struct {
	Peer    string `json:"peer"`
	Where   string `json:"where"` // FILE:LINE
	Address string `json:"address"`
	// State is "established", "expired" (phase 1 of IKEv1 is over, and its CHILD SAs go on), "connecting" or "down". Note says what a peer that
	// is down waits for.
	State    string     `json:"state"`
	Note     string     `json:"note"`
	SAs      []PeerSA   `json:"ike-sas"`
	Attempts []Attempt  `json:"attempts"` // the last ones, the newest first
	Policies []string   `json:"policies"`
	Offers   []Offering `json:"offers"` // what we accept
	// Host is how the kernel routes IKE and ESP to the peer, and what of this host is
	// not as the gateway has set it up; empty if the kernel cannot be asked.
	Host []string `json:"host"`
}

// PeerSA is an IKE SA with the peer.
type PeerSA struct {
	State         string  `json:"state"`
	Side          string  `json:"side"`
	LocalAddress  string  `json:"local-address"`
	RemoteAddress string  `json:"remote-address"`
	Since         Seconds `json:"since"` // ago
	Children      int     `json:"ph2-total"`
	MyID          string  `json:"my-id"`
	ID            string  `json:"id"` // of the peer
	// PathMTU is how long packets to the peer may be, in bytes with the outer header; 0: not known. Measured is what was
	// found when the path was last measured, MeasuredAgo ago; 0: it was not.
	PathMTU     int     `json:"path-mtu,omitempty"`
	Measured    int     `json:"path-mtu-measured,omitempty"`
	MeasuredAgo Seconds `json:"path-mtu-measured-ago,omitempty"`
	Negotiated
}

// Offering is what we accept for one kind of SA.
type Offering struct {
	What  string   `json:"what"`
	Lines []string `json:"lines"`
}

// Attempt is the result of an attempt. Equal ones in a row are one.
type Attempt struct {
	Time          string   `json:"time"` // of the last, RFC 3339
	Ago           Seconds  `json:"ago"`
	Times         int      `json:"times"`
	Since         string   `json:"since"` // the first of them
	Side          string   `json:"side"`
	LocalAddress  string   `json:"local-address"`
	RemoteAddress string   `json:"remote-address"`
	Exchange      string   `json:"exchange"` // the last one that it reached
	Result        string   `json:"result"`   // name of the event
	Reason        string   `json:"reason"`
	What          string   `json:"what"` // what did not match
	Part          string   `json:"part"` // the first part of it that has nothing in common
	Ours          []string `json:"ours"`
	Theirs        []string `json:"theirs"`
	Hint          string   `json:"hint"`
	Where         string   `json:"hint-where"` // FILE:LINE
}

// ExplainPacket asks what would happen to a packet.
func (c *Client) ExplainPacket(ctx context.Context, q PacketQuery) (x PacketExplanation, err error) {
	return x, c.do(ctx, http.MethodPost, "/v1/explain/packet", args{Packet: &q}, &x)
}

// ExplainPeer asks why there is no tunnel with a peer.
func (c *Client) ExplainPeer(ctx context.Context, name string) (x PeerExplanation, err error) {
	return x, c.do(ctx, http.MethodPost, "/v1/explain/peer", args{Peer: name}, &x)
}
