package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// TalkPort is the port that talks go from and to, as those of L2TP do.
const TalkPort = 1701

// Talk has the node say text from port 1701 of an address of its own to port 1701 of a node that listens (Listen),
// again and again until it is answered, and returns from where the listener heard it.
func (n *Node) Talk(ctx context.Context, local, remote netip.Addr, text string) (seen netip.AddrPort, err error) {
	out, err := run("ip", "netns", "exec", n.NS, "env", helperEnv+"="+talkArgs(ctx, local, remote, text), testBinary())
	return heardFrom(n.Name, out, err)
}

// Talk is Node.Talk from the guest.
func (g *Guest) Talk(ctx context.Context, local, remote netip.Addr, text string) (seen netip.AddrPort, err error) {
	out, err := g.do(guestRequest{Args: []string{testBinary()}, Env: []string{helperEnv + "=" + talkArgs(ctx, local, remote, text)}})
	return heardFrom(g.Name, out, err)
}

func talkArgs(ctx context.Context, local, remote netip.Addr, text string) string {
	limit := 2 * time.Minute
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	return fmt.Sprintf("talk %s %s %s %.3f", local, remote, text, limit.Seconds())
}

func heardFrom(who, out string, err error) (seen netip.AddrPort, _ error) {
	if err != nil {
		return seen, fmt.Errorf("%s talks: %w: %s", who, err, strings.TrimSpace(out))
	}
	return netip.ParseAddrPort(strings.TrimSpace(out))
}

// Listen has the node answer talks on all its addresses until the test ends.
func (n *Node) Listen(ctx context.Context) error {
	p := n.Start("listen-"+n.Name, []string{helperEnv + "=listen"}, testBinary())
	return p.ready(ctx, func() error {
		out, err := n.Try("ss", "-Hlun", fmt.Sprintf("sport = :%d", TalkPort))
		if err == nil && strings.TrimSpace(out) == "" {
			err = errors.New("nobody listens")
		}
		return err
	})
}

// listen answers each datagram with its text and from where it came.
func listen() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: TalkPort})
	if err != nil {
		return err
	}
	b := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		if _, err := conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s", b[:n], from), from); err != nil {
			fmt.Printf("answer to %v: %v\n", from, err)
		}
	}
}

// talk prints from where the listener heard it. An answer to somebody else's text is a fault.
func talk(local, remote, text, seconds string) error {
	l, err1 := netip.ParseAddr(local)
	r, err2 := netip.ParseAddr(remote)
	limit, err3 := strconv.ParseFloat(seconds, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l, TalkPort)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(r, TalkPort)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	b := make([]byte, 1500)
	for end := time.Now().Add(time.Duration(limit * float64(time.Second))); time.Now().Before(end); {
		if _, err := conn.Write([]byte(text)); err != nil {
			time.Sleep(100 * time.Millisecond) // no way there yet
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return err
		}
		n, err := conn.Read(b)
		if err != nil {
			continue
		}
		said, seen, _ := strings.Cut(string(b[:n]), " ")
		if said != text {
			return fmt.Errorf("what was for %q came here, to %q", said, text)
		}
		fmt.Println(seen)
		return nil
	}
	return errors.New("there is no answer")
}
