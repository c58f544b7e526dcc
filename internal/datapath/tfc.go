package datapath

import (
	"culvert/internal/wire"
	"culvert/sad"
)

// Traffic flow confidentiality (RFC 4303 §2.7): behind a tunnel's packet come
// zeros, so that it looks as long as others. Its own header says where it ends. With
// AH everybody can read that, and in transport mode nobody could be sure.

// padding is how many bytes a packet of n bytes gets: as many as the SA wants, but
// none that would not fit through the path.
func padding(out *sad.Outbound, form form, n int, now int64) int {
	c := out.Child()
	if form != formTunnel || c.TFC <= n {
		return 0
	}
	return max(min(c.TFC, room(out, now))-n, 0)
}

// room is the longest inner packet of a tunnel whose ESP packet fits through the path.
func room(out *sad.Outbound, now int64) int {
	c := out.Child()
	ends := c.Endpoint()
	size := c.Path().MTU(now) - wire.AppendedIPLen(ends.Remote.Addr())
	if ends.UDP {
		size -= wire.UDPHeaderLen
	}
	if over := c.Over(); over != nil {
		size -= over.Outbound().Transform().Front()
	}
	return out.Transform().MaxPayload(size)
}
