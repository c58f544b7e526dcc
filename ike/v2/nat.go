package v2

import (
	"crypto/sha1"

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
	forged []byte // the source hash where it is to match no address
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
	p := x.sa.base.Path
	if !x.mine {
		p = x.from
	}
	h := ikesa.OurHashes(x.sa.base, sha1.New, p, &t.forged)
	x.out = append(x.out,
		&message.Notify{Kind: message.NotifyNATDetectionSourceIP, Data: h.Source[0]},
		&message.Notify{Kind: message.NotifyNATDetectionDestinationIP, Data: h.Destination[0]})
}

func readNATHashes(x *exchange) error {
	sa := x.sa.base
	spir := sa.SPIr
	if !sa.Initiator {
		spir = 0 // the request was hashed before we had an SPI
	}
	if err := ikesa.TakeNAT(sa, natFound(x.in, sa.SPIi, spir, sa.Path)); err != nil {
		return end(message.NotifyNoProposalChosen, "%v", err)
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
