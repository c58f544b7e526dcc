package core

import (
	"net/netip"
	"time"
)

// SAInfo is what people may see of an IKE SA.
type SAInfo struct {
	ID            SAID
	Peer          string
	State         string // "connecting", "established", "expired", "rekeyed", "deleting"
	Initiator     bool
	Resumed       bool // from an earlier IKE SA, with a ticket
	Local, Remote netip.AddrPort
	NATT          bool // by the NAT-T ports
	NAT           bool // there is one between the two ends, or the peer says so
	SPIi, SPIr    uint64
	LocalID       ID
	RemoteID      ID
	User          string // who logged in with a password; empty: nobody had to
	Suite                // zero: not chosen yet
	Created       time.Time
	Established   time.Time
	RekeyAt       time.Time // zero: none is due
	LastSeen      time.Time
	Children      []ChildID
	Leased        []netip.Addr // mode-config: given to the peer, or to us by it
	DNS           []netip.Addr // given to us by the peer
	Redirectable  bool         // the peer can be sent to another gateway (RFC 5685)
	Leaving       bool         // it was
	ESPBlocked    bool         // the peer answers IKE, and nothing of it comes by ESP
	TxPackets     uint64       // IKE messages
	RxPackets     uint64
	TxBytes       uint64
	RxBytes       uint64
}

// Hold is a policy that nothing is tried for, since attempts to bring it up failed.
type Hold struct {
	Policy   PolicyRef
	Peer     string
	Failures int       // in a row
	Until    time.Time // when the next attempt may be made
}
