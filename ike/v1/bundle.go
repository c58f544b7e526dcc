package v1

import (
	"encoding/binary"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// AH with ESP is one CHILD SA of two protocols (RFC 2409 §5.5), each with SPIs and keys of its own. AH goes around ESP: the
// proposal says the same mode for both, and in tunnel mode there is one outer header.
//
//	transport  [IP][AH][ESP][upper layer]
//	tunnel     [outer IP][AH][ESP][inner IP][upper layer]

// spis are our inbound SPIs for a CHILD SA; ah is of the AH around it. 0: none.
type spis struct{ own, ah uint32 }

// take takes them from the stock: all that are needed or none.
func (s *spis) take(env *core.Env, ah bool) (ok bool) {
	if s.own, ok = env.TakeSPI(); !ok || !ah {
		return ok
	}
	if s.ah, ok = env.TakeSPI(); !ok {
		s.give(env)
	}
	return ok
}

// give puts them back.
func (s *spis) give(env *core.Env) {
	for _, spi := range []uint32{s.own, s.ah} {
		if spi != 0 {
			env.GiveSPI(spi)
		}
	}
	*s = spis{}
}

func (s *spis) has(spi uint32) bool { return spi != 0 && (spi == s.own || spi == s.ah) }

func spiBytes(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }

// bundles are what two proposals of one number offer, if they are of AH and ESP: each transform of the one with each of
// the other that can go with it.
func bundles(together []isakmp.Proposal) (list []offered) {
	around, inner := together[0], together[1]
	first := around.Protocol == isakmp.ProtoAH
	if !first {
		around, inner = inner, around
	}
	if around.Protocol != isakmp.ProtoAH || inner.Protocol != isakmp.ProtoESP {
		return nil
	}
	ahs := transformsOf(around)
	for _, o := range transformsOf(inner) {
		for i := range ahs {
			if !fit(&ahs[i], &o) || len(list) == maxOffered {
				continue
			}
			o.ah, o.ahFirst = &ahs[i], first
			o.neutral.AH = ahs[i].neutral.Transforms
			list = append(list, o)
		}
	}
	return list
}

// fit reports whether AH can go around an ESP: by the same key exchange, and in the same mode, or, as some say it, in transport mode
// around a tunnel.
func fit(ah, inner *offered) bool {
	transport, udp, known := encap(ah.phase2.Encapsulation)
	return known && !udp && ah.phase2.Group == inner.phase2.Group && (transport || !isTransport(inner))
}

func isTransport(o *offered) bool {
	transport, _, _ := encap(o.phase2.Encapsulation)
	return transport
}

// checkSPIs refuses SPIs of the peer that nobody may use.
func (o *offered) checkSPIs() error {
	err := ikesa.CheckSPI(binary.BigEndian.Uint32(o.proposal.SPI))
	if err == nil && o.ah != nil {
		err = o.ah.checkSPIs()
	}
	return err
}

// sealsWith notes the SPIs that the peer receives with.
func (q *quick) sealsWith(o *offered) {
	q.agreed.SPIOut = binary.BigEndian.Uint32(o.proposal.SPI)
	if o.ah != nil {
		q.agreed.AHOut = binary.BigEndian.Uint32(o.ah.proposal.SPI)
	}
}

// life is how long it is to live: both protocols as long as the one that says the least.
func (o *offered) life() life {
	l := lifeOf(o.phase2.Life)
	if o.ah != nil {
		l = l.shorter(lifeOf(o.ah.phase2.Life))
	}
	return l
}
