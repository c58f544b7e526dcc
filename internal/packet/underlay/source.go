package underlay

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Dialer makes connections that pass by the gateway's own rules and guard, as its
// packets do (Linux; mark 0 sets none).
func Dialer(mark uint32) *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return setMark(c, mark) }}
}

// SourceFor is the local address that the system would send from towards
// remote. A socket with our mark is connected and asked, which sends nothing:
// with the mark (Linux; 0 sets none) the look-up passes by the gateway's own
// rules, as its packets do.
func SourceFor(remote netip.Addr, mark uint32) (netip.Addr, error) {
	d := Dialer(mark)
	// Any port will do: nothing is sent.
	conn, err := d.Dial("udp", netip.AddrPortFrom(remote, 4500).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no local address leads to %v: check the host's routes, or set local-address of the peer: %w", remote, err)
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("no local address leads to %v: the system names %v", remote, conn.LocalAddr())
	}
	return local.AddrPort().Addr().Unmap(), nil
}
