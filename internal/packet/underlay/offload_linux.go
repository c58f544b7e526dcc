package underlay

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// Offloads says for each socket that carries ESP or AH whether what is sent goes to the system joined,
// and whether what arrives comes from it joined.
func (c *conn) Offloads() (list []wire.Offload) {
	for _, s := range c.sockets {
		if s.natt {
			list = append(list, s.sending(), s.receiving())
			if n := len(c.queues()); n > 1 {
				list = append(list, wire.Offload{Place: netip.AddrPortFrom(s.local, s.port).String(), Name: "receive-queues", InUse: true,
					Detail: fmt.Sprintf("%d sockets share the port, and the system chooses one by the SPI", n)})
			}
		}
	}
	for _, proto := range c.raw {
		for _, family := range proto {
			for _, s := range family {
				list = append(list, wire.Offload{Place: s.local.String(), Name: "send-" + protocolName(s.proto) + "-joined",
					Detail: "the system has no segmentation for it: several packets leave with one call (sendmmsg), each for itself"})
			}
		}
	}
	return list
}

func (s *socket) sending() wire.Offload {
	o := wire.Offload{Place: netip.AddrPortFrom(s.local, s.port).String(), Name: "send-udp-joined", InUse: s.cuts && !s.refused.Load(),
		Detail: "ESP packets of one flow leave as one, and the system or the card cuts them (UDP_SEGMENT)"}
	switch {
	case !s.cuts:
		o.Detail = "the system has no UDP_SEGMENT, which Linux 4.18 has: several packets leave with one call (sendmmsg), each for itself"
	case s.refused.Load():
		o.Detail = "a card on the way out could not cut them (EIO): several packets leave with one call (sendmmsg), each for itself"
	}
	return o
}

func (s *socket) receiving() wire.Offload {
	o := wire.Offload{Place: netip.AddrPortFrom(s.local, s.port).String(), Name: "receive-udp-joined", InUse: s.joins,
		Detail: "datagrams of one flow come as one (UDP_GRO)"}
	if !s.joins {
		o.Detail = "the system has no UDP_GRO, which Linux 5.0 has: several datagrams come with one call (recvmmsg), each for itself"
	}
	return o
}

func protocolName(proto int) string {
	if proto == unix.IPPROTO_AH {
		return "ah"
	}
	return "esp"
}
