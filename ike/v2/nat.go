package v2

import (
	"bytes"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// NAT detection (RFC 7296 §2.23): each side sends hashes of the addresses as it
// sees them, and compares what it gets with what it sees. Where ESP is to go by
// UDP in any case (core.EncapUDP), a source hash is sent that cannot match: the
// peer then takes us to be behind a NAT and encapsulates, as it would have to if
// that were so (strongSwan's "encap = yes" does the same).

// natState is what NAT detection found.
type natState struct {
	supported bool // the peer sent its hashes
	local     bool // we are behind a NAT: the peer saw us elsewhere
	remote    bool // the peer is, or says so
}

// keepaliveEvery keeps a NAT's mapping alive (RFC 3948 §4: 20 s by default).
const keepaliveEvery = 20 * time.Second

type natDetection struct{ noop }

func (*natDetection) request(x *exchange) error {
	x.addNATHashes()
	return nil
}

func (*natDetection) accept(x *exchange) error { return x.readNATHashes() }

func (*natDetection) reply(x *exchange) error {
	x.addNATHashes()
	return nil
}

func (*natDetection) complete(x *exchange) error {
	if err := x.readNATHashes(); err != nil {
		return err
	}
	x.sa.float()
	return nil
}

func (x *exchange) addNATHashes() {
	sa := x.sa
	to := sa.remote
	if !x.mine {
		to = x.from.remote
	}
	dst := core.NATHash(sa.spii, sa.spir, to)
	src := core.NATHash(sa.spii, sa.spir, sa.local)
	if !x.mine {
		src = core.NATHash(sa.spii, sa.spir, x.from.local)
	}
	if x.noSource == nil && sa.owner.Config().Encapsulation == core.EncapUDP {
		x.noSource = sa.env.Random(len(dst)) // kept: a request repeated with a cookie is else unchanged (RFC 7296 §2.6)
	}
	source := x.noSource
	if source == nil {
		source = src[:]
	}
	x.out = append(x.out,
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: source},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: dst[:]})
}

func (x *exchange) readNATHashes() error {
	sa := x.sa
	spir := sa.spir
	if !sa.initiator {
		spir = 0 // the request was hashed before we had an SPI
	}
	sa.nat = natFound(x.in, sa.spii, spir, sa.path())
	if !sa.nat.supported {
		if sa.owner.Config().Encapsulation != core.EncapUDP {
			sa.nat.local, sa.nat.remote = false, false // nothing is known: as if there were none
			return nil
		}
		return end(message.NotifyNoProposalChosen, "the peer does not support NAT traversal, and ESP travels in UDP here: switch NAT traversal on at the peer")
	}
	return nil
}

// natFound compares the peer's hashes with the path that they came on (RFC 7296 §2.23).
func natFound(in []message.Payload, spii, spir uint64, p path) natState {
	src, dst := core.NATHash(spii, spir, p.remote), core.NATHash(spii, spir, p.local)
	s := natState{remote: true, local: true}
	for _, x := range in {
		n, ok := x.(*message.Notify)
		if !ok {
			continue
		}
		switch n.Kind {
		case message.NotifyNATDetectionSourceIP: // several: one of them matches if there is no NAT
			s.supported = true
			if bytes.Equal(n.Data, src[:]) {
				s.remote = false
			}
		case message.NotifyNATDetectionDestinationIP:
			s.supported = true
			if bytes.Equal(n.Data, dst[:]) {
				s.local = false
			}
		}
	}
	return s
}

// float moves the initiator to the NAT-T ports before IKE_AUTH (RFC 7296 §2.23):
// that of the peer is 4500 unless the configuration says otherwise.
func (sa *SA) float() {
	if sa.natt || !sa.nat.supported {
		return
	}
	sa.natt = true
	sa.local = withPort(sa.local, sa.owner.Config().NATTPort)
	sa.remote = withPort(sa.remote, sa.peer.NATT())
}

// inUDP says whether a CHILD SA of a policy is carried by UDP.
func (sa *SA) inUDP(p *core.Policy) bool {
	if p.Protocol == core.ProtoAH {
		return false
	}
	switch sa.owner.Config().Encapsulation {
	case core.EncapRaw:
		return false
	case core.EncapDetect:
		return sa.nat.local || sa.nat.remote
	}
	return true
}

// keepalives go out while we are behind a NAT, every 20 s.
func (sa *SA) keepalives() {
	sa.env.Timers.Stop(sa.timers.keepalive)
	if !sa.nat.local || !sa.natt || sa.state >= Replaced {
		return
	}
	sa.timers.keepalive = sa.env.After(keepaliveEvery, func() {
		sa.env.Emit(core.KeepaliveTo{Local: sa.local, Remote: sa.remote})
		sa.keepalives()
	})
}
