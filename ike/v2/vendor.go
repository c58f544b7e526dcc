package v2

import (
	"bytes"
	"strings"

	"culvert/ike/core"
	"culvert/ike/message"
)

// ownVendor is our vendor ID (RFC 7296 §3.12). It says that the sender takes tunnel mode ESP in
// UDP where there is no NAT, too, and wants it so: the system cuts and joins datagrams of UDP,
// not packets of ESP. Both ends have to say it. A later meaning gets a vendor ID of its own.
var ownVendor = []byte("Culvert UDP\x01")

// linesVendor says that the sender knows CHILD SAs for single lines (lines.go). A gateway sends it if its data path has several
// lines and it does not send ownVendor, which says the same.
var linesVendor = []byte("Culvert lines\x01")

// libreswanVendor is what the vendor ID of libreswan begins with.
const libreswanVendor = "OE-Libreswan-"

// vendor announces ownVendor with encapsulation = "detect". With "udp" the peer is made to
// believe in a NAT instead, whatever it is, and with "raw" it must not use UDP: then linesVendor is announced.
type vendor struct{ noop }

func (*vendor) request(x *exchange) error {
	switch cfg := x.sa.base.Host.Config(); {
	case cfg.Encapsulation == core.EncapDetect:
		x.out = append(x.out, &message.VendorID{Data: ownVendor})
	case cfg.Lines > 1:
		x.out = append(x.out, &message.VendorID{Data: linesVendor})
	}
	return nil
}

func (t *vendor) accept(x *exchange) error { return t.complete(x) }

func (t *vendor) reply(x *exchange) error { return t.request(x) }

func (*vendor) complete(x *exchange) error {
	x.sa.base.WantsUDP, x.sa.base.Kin = false, false
	for _, p := range x.in {
		if v, ok := p.(*message.VendorID); ok {
			x.sa.base.WantsUDP = x.sa.base.WantsUDP || bytes.Equal(v.Data, ownVendor)
			x.sa.base.Kin = x.sa.base.Kin || x.sa.base.WantsUDP || bytes.Equal(v.Data, linesVendor)
			x.sa.brief = x.sa.brief || strings.HasPrefix(string(v.Data), libreswanVendor)
		}
	}
	return nil
}
