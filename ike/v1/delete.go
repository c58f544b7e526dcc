package v1

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Deletes (RFC 2408 §3.15) are said in an informational exchange, which nobody answers: what is deleted ends
// at once. One that is lost leaves the peer with what we do not have any more. It is said again when packets of the peer
// show that; otherwise DPD or a lifetime ends it.

// DeleteChild tells the peer that a CHILD SA ends, and ends it.
func (sa *SA) DeleteChild(c *Child, why string) {
	sa.inform(deletesOf(c)...)
	c.End(why)
}

// deletesOf name the SAs of a CHILD SA by the SPIs that we receive with.
func deletesOf(c *Child) []isakmp.Payload {
	list := []isakmp.Payload{deleteOf(c.Policy.Protocol, c.SPIIn)}
	if c.AHIn != 0 {
		list = append(list, deleteOf(core.ProtoAH, c.AHIn))
	}
	return list
}

func deleteOf(protocol core.Protocol, spi uint32) *isakmp.Delete {
	return &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: uint8(protocol), SPIs: [][]byte{spiBytes(spi)}}
}

// maxComplaints bounds how many of them are said in a second for one IKE SA: anybody can send a packet with any SPI.
const maxComplaints = 4

// complaints are those of the second that began at since.
type complaints struct {
	since time.Time
	n     int
}

// TellUnknownSPI tells the peer that it sends with an SPI that no SA here has: it is deleted, and the peer did not hear of it, or
// it was forgotten.
func (sa *SA) TellUnknownSPI(spi uint32) {
	now, c := sa.base.Env.Now(), &sa.complaints
	if now.Sub(c.since) >= time.Second {
		*c = complaints{since: now}
	}
	if sa.base.State != Established || c.n == maxComplaints {
		return
	}
	c.n++
	for _, protocol := range sa.protocols() {
		sa.inform(deleteOf(protocol, spi))
	}
}

// protocols are those that the policies of the peer have.
func (sa *SA) protocols() (list []core.Protocol) {
	add := func(protocol core.Protocol) {
		if !slices.Contains(list, protocol) {
			list = append(list, protocol)
		}
	}
	for _, p := range sa.base.Host.Config().Policies {
		if p.Peer != sa.base.Peer {
			continue
		}
		if add(p.Protocol); p.AH {
			add(core.ProtoAH)
		}
	}
	if len(list) == 0 { // they come from templates
		list = append(list, core.ProtoESP)
	}
	return list
}

// Close tells the peer that the IKE SA ends, and with it its CHILD SAs. One that has none is not missed, and hears what the peer deletes
// for a moment.
func (sa *SA) Close(why string, wait bool) {
	for _, c := range sa.base.Children {
		sa.inform(deletesOf(c)...)
	}
	sa.inform(sa.deleteOfPhase1())
	switch {
	case wait && len(sa.base.Children) == 0:
		ikesa.Fade(sa.base, "%s", why)
	case wait:
		sa.base.End(false, "%s", why)
	}
}

func (sa *SA) deleteOfPhase1() *isakmp.Delete {
	return &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{cookies(sa.base.SPIi, sa.base.SPIr)}}
}

// deleted hears what the peer deletes.
func (sa *SA) deleted(d *isakmp.Delete) {
	if d.Protocol == isakmp.ProtoISAKMP && sa.left {
		return
	}
	if d.Protocol == isakmp.ProtoISAKMP {
		for _, spi := range d.SPIs {
			phase1Deleted(sa, spi)
		}
		return
	}
	for _, spi := range d.SPIs {
		if len(spi) == 4 {
			if c := sa.childBySPI(binary.BigEndian.Uint32(spi), d.Protocol); c != nil {
				c.End("the peer deleted it")
			}
		}
	}
}

// childBySPI is the CHILD SA that the peer names by the SPI that it receives with, or (Cisco) by ours. It may be another
// IKE SA's of the same peer: any of them speaks for all. The SPI of the AH around ESP names both.
func (sa *SA) childBySPI(spi uint32, protocol uint8) (found *Child) {
	for _, s := range sa.kin() {
		for _, c := range s.Children {
			in, out := c.SPIIn, c.SPIOut
			switch {
			case protocol == isakmp.ProtoAH && c.AHIn != 0:
				in, out = c.AHIn, c.AHOut
			case uint8(c.Policy.Protocol) != protocol:
				continue
			}
			switch spi {
			case out:
				return c
			case in:
				found = c
			}
		}
	}
	return found
}

// kin are the IKE SAs of the same peer, this one first.
func (sa *SA) kin() []*ikesa.SA {
	list := []*ikesa.SA{sa.base}
	for _, s := range sa.base.Others.Namesakes(sa.base) {
		if ikesa.Present(s) && sa.base.SamePerson(s) {
			list = append(list, s)
		}
	}
	return list
}

// phase1Deleted ends the IKE SA whose cookies the peer names, if it is its own. Its CHILD SAs live on.
func phase1Deleted(sa *SA, spi []byte) {
	for _, s := range sa.base.Others.Namesakes(sa.base) {
		if n, ok := s.Protocol.(*SA); ok && n.setup != nil {
			n.setup.inherit() // the peer goes on with that one, without XAuth
		}
	}
	list := sa.kin()
	i := slices.IndexFunc(list, func(s *ikesa.SA) bool { return named(s, spi) })
	switch {
	case i < 0:
	case ikesa.Present(list[i]):
		ikesa.Expire(list[i], "the peer deleted it")
	default: // another one has its CHILD SAs
		ikesa.Fade(list[i], "the peer deleted it")
	}
}

// named reports whether a DELETE names an IKE SA: by both cookies, or, as some peers have it, by the initiator's alone.
func named(s *ikesa.SA, spi []byte) bool {
	both := cookies(s.SPIi, s.SPIr)
	return bytes.Equal(spi, both) || bytes.Equal(spi, both[:8])
}
