package core

import (
	"net/netip"

	"culvert/crypto/dh"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// KEPublic computes the public value of a private one. The result is no secret.
type KEPublic struct {
	Group   *suite.Group
	Private secret.Bytes
}

func (w KEPublic) Do() (secret.Bytes, error) {
	b, err := dh.Public(w.Group, w.Private)
	return b, err
}

// KEShared computes the shared secret.
type KEShared struct {
	Group   *suite.Group
	Private secret.Bytes
	Peer    []byte
}

func (w KEShared) Do() (secret.Bytes, error) { return dh.Shared(w.Group, w.Private, w.Peer) }

// KEBoth computes public value and shared secret, the one before the other: what a
// responder needs at once.
type KEBoth struct{ KEShared }

func (w KEBoth) Do() (secret.Bytes, error) {
	pub, shared, err := dh.Both(w.Group, w.Private, w.Peer)
	if err != nil {
		return nil, err
	}
	defer shared.Wipe()
	return append(secret.Bytes(pub), shared...), nil
}

// Resolve asks the DNS for the address of a host, IPv4 before IPv6. The answer is
// the address as bytes. Do is not called.
type Resolve struct{ Name string }

func (Resolve) Do() (secret.Bytes, error) { return nil, ErrSystem }

// SourceFor asks the system which local address it would use towards Remote.
// The answer is the address as bytes. Do is not called: who runs the endpoint
// knows the system.
type SourceFor struct{ Remote netip.Addr }

func (SourceFor) Do() (secret.Bytes, error) { return nil, ErrSystem }
