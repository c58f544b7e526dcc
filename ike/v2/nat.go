package v2

import (
	"crypto/sha1"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// natDetection sends and reads NAT_DETECTION_SOURCE_IP and _DESTINATION_IP (RFC 7296
// §2.23). package sa says what comes of it.
type natDetection struct {
	noop
	natHashes
}

// natHashes are those that an exchange says.
type natHashes struct {
	noSource []byte // the hash that matches no source
}

func (t *natDetection) request(x *exchange) error {
	t.say(x)
	return nil
}

func (t *natDetection) accept(x *exchange) error { return readNATHashes(x) }

func (t *natDetection) reply(x *exchange) error {
	t.say(x)
	return nil
}

func (t *natDetection) complete(x *exchange) error {
	if err := readNATHashes(x); err != nil {
		return err
	}
	x.sa.base.Float()
	return nil
}

func (t *natHashes) say(x *exchange) {
	sa := x.sa
	to := sa.base.Remote
	if !x.mine {
		to = x.from.Remote
	}
	dst := core.NATHash(sha1.New, sa.base.SPIi, sa.base.SPIr, to)
	src := core.NATHash(sha1.New, sa.base.SPIi, sa.base.SPIr, sa.base.Local)
	if !x.mine {
		src = core.NATHash(sha1.New, sa.base.SPIi, sa.base.SPIr, x.from.Local)
	}
	if t.noSource == nil && sa.base.Host.Config().Encapsulation == core.EncapUDP {
		t.noSource = sa.base.Env.Random(len(dst)) // kept: a request repeated with a cookie is else unchanged (RFC 7296 §2.6)
	}
	source := t.noSource
	if source == nil {
		source = src
	}
	x.out = append(x.out,
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: source},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: dst})
}

func readNATHashes(x *exchange) error {
	sa := x.sa
	spir := sa.base.SPIr
	if !sa.base.Initiator {
		spir = 0 // the request was hashed before we had an SPI
	}
	sa.base.NAT = natFound(x.in, sa.base.SPIi, spir, sa.base.Path)
	if !sa.base.NAT.Supported {
		if sa.base.Host.Config().Encapsulation != core.EncapUDP {
			sa.base.NAT.Local, sa.base.NAT.Remote = false, false // nothing is known: as if there were none
			return nil
		}
		return end(message.NotifyNoProposalChosen, "the peer does not support NAT traversal, and ESP travels in UDP here: switch NAT traversal on at the peer")
	}
	return nil
}

// natFound compares the peer's hashes with the path that they came on.
func natFound(in []message.Payload, spii, spir uint64, p path) ikesa.NAT {
	var got ikesa.Hashes
	for _, x := range in {
		n, ok := x.(*message.Notify)
		if !ok {
			continue
		}
		switch n.Kind {
		case message.NotifyNATDetectionSourceIP:
			got.Source = append(got.Source, n.Data)
		case message.NotifyNATDetectionDestinationIP:
			got.Destination = append(got.Destination, n.Data)
		}
	}
	return ikesa.FindNAT(got, sha1.New, spii, spir, p)
}
