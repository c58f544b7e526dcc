package core

import (
	"net/netip"

	"culvert/crypto/dh"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// DrawPrivate draws a private value of a group.
func DrawPrivate(env *Env, g *suite.Group) (secret.Bytes, error) {
	random := env.Private(dh.RandomLen(g))
	defer clear(random)
	return dh.NewPrivate(g, random)
}

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

// Split takes what Do answered apart.
func (w KEBoth) Split(both secret.Bytes) (public []byte, shared secret.Bytes) {
	n := w.Group.PublicLen
	return append([]byte(nil), both[:n]...), both[n:]
}

func (w KEBoth) Do() (secret.Bytes, error) {
	pub, shared, err := dh.Both(w.Group, w.Private, w.Peer)
	if err != nil {
		return nil, err
	}
	defer shared.Wipe()
	return append(secret.Bytes(pub), shared...), nil
}

// Resolve asks the DNS for the addresses of a host, the one to try first in front
// (RFC 8305 §4). The answer is made by PackAddrs. Do is not called.
type Resolve struct{ Name string }

// PackAddrs are addresses as the answer to a Resolve, of 16 bytes each.
func PackAddrs(list []netip.Addr) (b secret.Bytes) {
	for _, a := range list {
		a16 := a.As16()
		b = append(b, a16[:]...)
	}
	return b
}

// UnpackAddrs reads what PackAddrs made; nil: it is something else. Recordings of earlier
// versions have one address of 4 bytes.
func UnpackAddrs(b secret.Bytes) (list []netip.Addr) {
	if len(b) == 4 {
		return []netip.Addr{netip.AddrFrom4([4]byte(b))}
	}
	if len(b)%16 != 0 {
		return nil
	}
	for ; len(b) > 0; b = b[16:] {
		list = append(list, netip.AddrFrom16([16]byte(b)).Unmap())
	}
	return list
}

func (Resolve) Do() (secret.Bytes, error) { return nil, ErrSystem }

// SourceFor asks the system which local address it would use towards Remote.
// The answer is PackSource's. Do is not called: who runs the endpoint
// knows the system.
type SourceFor struct {
	Remote netip.Addr
	Own    netip.Addr // the address that is in use now; not valid: none is
}

// PackSource is an answer to SourceFor: the address as bytes, and one byte behind it if packets from Own stray: they
// would leave by a link that does not have that address.
func PackSource(local netip.Addr, strays bool) secret.Bytes {
	b := local.AsSlice()
	if strays {
		b = append(b, 1)
	}
	return b
}

// UnpackSource reads an answer to SourceFor. The address is not valid where nothing leads to the remote.
func UnpackSource(b secret.Bytes) (local netip.Addr, strays bool) {
	if strays = len(b)%4 == 1; strays {
		b = b[:len(b)-1]
	}
	local, _ = netip.AddrFromSlice(b)
	return local.Unmap(), strays
}

func (SourceFor) Do() (secret.Bytes, error) { return nil, ErrSystem }
