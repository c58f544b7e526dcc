package lab

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// helperEnv makes the test binary a transfer helper; Main looks at it.
const helperEnv = "CULVERT_LAB_HELPER"

const transferPort = 7000

// Main is the TestMain of packages that use the lab: it is also what the test
// binary does when it is run again as a helper inside a namespace, removes what
// killed test runs left, and removes the culvert binary at the end.
func Main(m *testing.M) int {
	if args := strings.Fields(os.Getenv(helperEnv)); len(args) > 0 {
		if err := helper(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if os.Getuid() == 0 {
		sweep()
	}
	defer removeBinary()
	defer removeShim()
	return m.Run()
}

// helper runs `serve`, `fetch LOCAL REMOTE SIZE SECONDS [options]`, `listen`, `talk LOCAL REMOTE TEXT SECONDS`,
// `web FOLDER`, `flood …`, `natt`, or as the first process of a guest `guest`.
func helper(args []string) error {
	switch {
	case args[0] == "guest" && len(args) == 1 && os.Getpid() == 1:
		return guest()
	case args[0] == "serve" && len(args) == 1:
		return serve()
	case args[0] == "listen" && len(args) == 1:
		return listen()
	case args[0] == "talk" && len(args) == 5:
		return talk(args[1], args[2], args[3], args[4])
	case args[0] == "natt" && len(args) == 1:
		return natt()
	case args[0] == "flood" && len(args) == 5:
		return flood(args[1:])
	case args[0] == "web" && len(args) == 2:
		return web(args[1])
	case args[0] == "fetch" && (len(args) == 5 || len(args) == 6 && args[5] == withOptions):
		local, err1 := netip.ParseAddr(args[1])
		remote, err2 := netip.ParseAddr(args[2])
		size, err3 := strconv.ParseUint(args[3], 10, 63)
		limit, err4 := strconv.ParseFloat(args[4], 64)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		return fetch(local, remote, int64(size), time.Duration(limit*float64(time.Second)), len(args) == 6)
	default:
		return fmt.Errorf("unknown helper %q", args)
	}
}

// Transfer sends size random bytes from an address of the node by TCP to an
// address of another node, and as many other ones back; both ends check them by
// SHA-256. While no connection comes about it tries again until the context ends.
func (n *Node) Transfer(ctx context.Context, local netip.Addr, to Machine, remote netip.Addr, size int64) error {
	return n.transfer(ctx, local, to, remote, fetchArgs(ctx, local, remote, size))
}

// TransferWithOptions is Transfer with options in the IP headers of all packets that
// are sent from here; of IPv4 most come back from the other end.
func (n *Node) TransferWithOptions(ctx context.Context, local netip.Addr, to Machine, remote netip.Addr, size int64) error {
	return n.transfer(ctx, local, to, remote, fetchArgs(ctx, local, remote, size)+" "+withOptions)
}

func (n *Node) transfer(ctx context.Context, local netip.Addr, to Machine, remote netip.Addr, args string) error {
	if err := to.serveTransfers(ctx); err != nil {
		return err
	}
	out, err := run("ip", "netns", "exec", n.NS, "env", helperEnv+"="+args, testBinary())
	if err != nil {
		return fmt.Errorf("transfer from %s (%s) to %s: %w: %s", n.Name, local, remote, err, strings.TrimSpace(out))
	}
	return nil
}

// fetchArgs has the helper fetch for as long as the context allows, two minutes at most.
func fetchArgs(ctx context.Context, local, remote netip.Addr, size int64) string {
	limit := 2 * time.Minute
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	return fmt.Sprintf("fetch %s %s %d %.3f", local, remote, size, limit.Seconds())
}

// Machine is what a transfer can go to: a Node or a Guest.
type Machine interface {
	serveTransfers(ctx context.Context) error
}

// serveTransfers starts the node's transfer server if it does not run.
func (n *Node) serveTransfers(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return nil
	}
	n.server = n.Start("transfer-"+n.Name, []string{helperEnv + "=serve"}, testBinary())
	return n.server.ready(ctx, func() error {
		out, err := n.Try("ss", "-Hltn", fmt.Sprintf("sport = :%d", transferPort))
		if err == nil && strings.TrimSpace(out) == "" {
			err = errors.New("the transfer server does not listen")
		}
		return err
	})
}

func testBinary() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// serve answers transfers on all addresses until it is killed.
func serve() error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", transferPort))
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := answer(conn); err != nil {
				fmt.Printf("transfer with %s: %v\n", conn.RemoteAddr(), err)
			}
		}()
	}
}

// A transfer is a length (8 bytes, big-endian), that many random bytes and their
// SHA-256, first from the client and then, with the same length, from the server.

func answer(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	size, err := receive(conn)
	if err != nil {
		return err
	}
	return send(conn, size)
}

func fetch(local, remote netip.Addr, size int64, limit time.Duration, options bool) error {
	end := time.Now().Add(limit)
	conn, err := dial(local, remote, end, options)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	if err := send(conn, size); err != nil {
		return err
	}
	got, err := receive(conn)
	if err == nil && got != size {
		err = fmt.Errorf("%d bytes came back instead of %d", got, size)
	}
	return err
}

// dial tries again each second: a SYN that met no SA is lost, and the kernel's
// own retransmissions grow slow.
func dial(local, remote netip.Addr, end time.Time, options bool) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Timeout: time.Second}
	if options {
		d.Control = setOptions
	}
	for {
		conn, err := d.Dial("tcp", netip.AddrPortFrom(remote, transferPort).String())
		if err == nil || time.Now().After(end) {
			return conn, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func send(w io.Writer, size int64) error {
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return err
	}
	if _, err := w.Write(binary.BigEndian.AppendUint64(nil, uint64(size))); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(w, io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), size), sum)); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

func receive(r io.Reader) (int64, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	size := int64(binary.BigEndian.Uint64(head[:]))
	sum := sha256.New()
	if n, err := io.CopyN(sum, r, size); err != nil {
		return n, fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	var want [sha256.Size]byte
	if _, err := io.ReadFull(r, want[:]); err != nil {
		return size, err
	}
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		return size, errors.New("the bytes that arrived have another SHA-256 than those that were sent")
	}
	return size, nil
}
