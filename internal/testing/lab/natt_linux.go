package lab

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// natt holds the sockets by which a kernel takes ESP in UDP (RFC 3948), where no
// IKE daemon does, until it is killed.
func natt() error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP)
		})
		return errors.Join(err, set)
	}}
	var conns [2]net.PacketConn
	for i, network := range []string{"udp4", "udp6"} {
		var err error
		if conns[i], err = config.ListenPacket(context.Background(), network, ":4500"); err != nil {
			return err
		}
	}
	// What comes to these is IKE, which nobody here speaks.
	ended := make(chan error)
	for _, c := range conns {
		go func() {
			b := make([]byte, 1)
			for {
				if _, _, err := c.ReadFrom(b); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	return <-ended
}

// OpenNATT has the guest's kernel take ESP in UDP on port 4500, without an IKE daemon.
func (g *Guest) OpenNATT(ctx context.Context) error {
	const log = "/run/natt.log"
	if err := g.Daemon(log, []string{helperEnv + "=natt"}, testBinary()); err != nil {
		return err
	}
	return Until(ctx, func() error {
		out, err := g.Try("ss", "-Hlun", "sport = :4500")
		if err == nil && len(strings.Split(strings.TrimSpace(out), "\n")) != 2 {
			text, _ := g.Try("cat", log)
			err = errors.New("port 4500 is not open in both families: " + out + text)
		}
		return err
	})
}
