package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Lookup: see Prober. It is an RTM_GETROUTE, as of `ip route get`.
func (h *host) Lookup(q Query) (Decision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return Decision{}, os.ErrClosed
	}
	return h.kernel.lookup(q)
}

func (k *kernel) lookup(q Query) (w Decision, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.asks}
	family := unix.AF_INET
	if q.Dst.Is6() {
		family = unix.AF_INET6
	}
	bits := uint8(q.Dst.BitLen())
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Dst_len: bits, Flags: unix.RTM_F_LOOKUP_TABLE}}
	attrs := []*nl.RtAttr{nl.NewRtAttr(unix.RTA_DST, q.Dst.AsSlice())}
	add := func(kind int, value []byte) { attrs = append(attrs, nl.NewRtAttr(kind, value)) }
	if q.Src.IsValid() {
		msg.Src_len = bits
		add(unix.RTA_SRC, q.Src.AsSlice())
	}
	if q.In != "" {
		link, err := k.h.LinkByName(q.In)
		if err != nil {
			return w, fmt.Errorf("device %s: %w", q.In, err)
		}
		add(unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(link.Attrs().Index)))
	}
	if q.Mark != 0 {
		add(unix.RTA_MARK, binary.NativeEndian.AppendUint32(nil, q.Mark))
	}
	if q.Proto == unix.IPPROTO_TCP || q.Proto == unix.IPPROTO_UDP { // the kernel refuses to be asked about most others
		add(unix.RTA_IP_PROTO, []byte{q.Proto})
		if q.SrcPort != 0 {
			add(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, q.SrcPort))
		}
		if q.DstPort != 0 {
			add(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.DstPort))
		}
	}
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		if w.Nowhere = nowhere(err); w.Nowhere != "" {
			return w, nil
		}
		return w, fmt.Errorf("cannot ask the system for the way from %v to %v: %w", q.Src, q.Dst, err)
	}
	if len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return w, errors.New("the system does not say which way it leads the packet")
	}
	return k.decodeDecision(answers[0])
}

// nowhere is what an error of RTM_GETROUTE says of the packet; "": it is another error.
func nowhere(err error) string {
	switch {
	case errors.Is(err, unix.EHOSTUNREACH):
		return "unreachable"
	case errors.Is(err, unix.ENETUNREACH):
		return "there is no route"
	case errors.Is(err, unix.EACCES):
		return "a route or rule prohibits it"
	case errors.Is(err, unix.EXDEV):
		return "reverse-path filtering (rp_filter) refuses its source there"
	}
	return ""
}

func (k *kernel) decodeDecision(b []byte) (w Decision, err error) {
	msg := nl.DeserializeRtMsg(b)
	attrs, err := nl.ParseRouteAttr(b[msg.Len():])
	if err != nil {
		return w, err
	}
	w.Table = int(msg.Table)
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_OIF:
			if len(a.Value) >= 4 {
				dev, err := k.h.LinkByIndex(int(binary.NativeEndian.Uint32(a.Value)))
				if err != nil {
					return w, err
				}
				w.Device = dev.Attrs().Name
			}
		case unix.RTA_TABLE:
			if len(a.Value) >= 4 {
				w.Table = int(binary.NativeEndian.Uint32(a.Value))
			}
		case unix.RTA_GATEWAY:
			w.Gateway = addrOf(a.Value)
		case unix.RTA_PREFSRC:
			w.Src = addrOf(a.Value)
		}
	}
	switch msg.Type {
	case unix.RTN_LOCAL:
		w.Local = true
	case unix.RTN_BROADCAST:
		w.Broadcast = true
	case unix.RTN_UNREACHABLE:
		w.Nowhere = "unreachable"
	case unix.RTN_PROHIBIT:
		w.Nowhere = "a route or rule prohibits it"
	case unix.RTN_BLACKHOLE:
		w.Nowhere = "a route or rule discards it"
	}
	return w, nil
}

func addrOf(b net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}
